//! The one table of keys. What a file may say is here and nowhere else: errors, REFERENCE.md and full.toml come from it.

/// What a key takes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Kind {
    /// `"250ms"`; at least this many milliseconds.
    Duration(u64),
    /// `"64KiB"`; between these numbers of bytes.
    Size(u64, u64),
    /// `"5%"`; at most this many percent.
    Share(u64),
    /// A whole number in a range.
    Integer(u64, u64),
    /// `true` or `false`.
    Bool,
    /// `true`, `false` or any text.
    BoolOrText,
    /// Any text.
    Text,
    /// One of these.
    Choice(&'static [&'static str]),
    /// A list of texts.
    Texts,
    /// A table of texts.
    Map,
    /// A table with keys of its own.
    Table,
    /// A list of tables, each with keys of its own.
    Tables,
}

/// One key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// The table it stands in: `upstream.*.ring`; empty for the top of the file.
    pub section: &'static str,
    /// Its name.
    pub name: &'static str,
    /// What it takes.
    pub kind: Kind,
    /// Its default as TOML; empty when there is none.
    pub default: &'static str,
    /// Whether it must be there.
    pub required: bool,
    /// What it does, in sentences.
    pub doc: &'static str,
    /// What full.toml shows when there is no default.
    pub example: &'static str,
}

const fn key(section: &'static str, name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key { section, name, kind, default, required: false, doc, example: "" }
}

impl Key {
    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn example(self, example: &'static str) -> Self {
        Self { example, ..self }
    }
}

use Kind::{Bool, BoolOrText, Choice, Duration, Integer, Map, Share, Size, Table, Tables, Text, Texts};

/// All keys, in the order in which the reference shows them.
pub const KEYS: &[Key] = &[
    key("", "include", Texts, "[]", "Files to read as if they were part of this one, relative to it; `*` stands for any name. Included files include no others.").example("[\"conf.d/*.toml\"]"),
    key("", "server", Table, "", "The process."),
    key("", "admin", Table, "", "The operators' door."),
    key("", "log", Table, "", "Both logs."),
    key("", "listener", Tables, "", "A front door; at least one."),
    key("", "route", Tables, "", "What matches, and where it goes; at least one."),
    key("", "upstream", Map, "", "Named groups of endpoints: `[upstream.NAME]`."),
    key("", "store", Map, "", "Stores outside: `[store.NAME]`."),
    key("", "fleet", Table, "", "The other proxies of the fleet: they tell each other who owns what."),
    key("server", "workers", Integer(1, 1024), "", "Worker threads; absent: one for each core. Changing it needs a restart.").example("2"),
    key("server", "shutdown_timeout", Duration(0), "\"30s\"", "After SIGTERM or SIGQUIT: longest time for what runs to finish. A second signal ends at once."),
    key("server", "shutdown_delay", Duration(0), "\"0s\"", "After SIGTERM or SIGQUIT: how long `/readyz` says 503 while connections are still accepted, so that load balancers look away first."),
    key("server", "drain_timeout", Duration(0), "\"5m\"", "What still hangs on a removed endpoint is closed after this."),
    key("server", "reload", Choice(&["watch", "signal"]), "\"watch\"", "What makes the file be read again: a change of it, or only SIGHUP and the admin interface."),
    key("server", "guard_config", Bool, "false", "Whether a configuration that does more to an upstream than its `transition.guard` allows is held until `ringway approve` or `ringway reload --force`; otherwise it is published with a warning. What counts are this key and the guards of the configuration in force."),
    key("server", "upgrade_socket", Text, "", "A path at which the running program hands its listening sockets to the next one: `ringway run --upgrade` asks there. Only the same user and root may. Absent: only SIGUSR2 replaces the program, which needs no path. Changing it needs a restart.").example("\"/run/ringway/upgrade.sock\""),
    key("server", "upgrade_timeout", Duration(1), "\"30s\"", "After SIGUSR2 or `ringway run --upgrade`: longest time for the new program to get ready; after it the new one is ended, and the old one goes on as if nothing had been asked."),
    key("admin", "address", Text, "\"127.0.0.1:9900\"", "Where metrics and the API listen. Beyond loopback a token is needed: all but `/healthz`, `/readyz` and `/metrics` ask for it. Changing it needs a restart."),
    key("admin", "token_file", Text, "", "A file with the token that callers show: `Authorization: Bearer TOKEN`. Read again at each reload. Required when the address is not loopback.").example("\"/etc/ringway/admin.token\""),
    key("admin", "debug_token_file", Text, "", "A file with a token, another than that of `token_file`: a request to a listener that shows it (`Ringway-Explain: TOKEN`) is told in `Ringway-Explain` of its response where it went and why. Read again at each reload. Absent: nobody is told.").example("\"/etc/ringway/debug.token\""),
    key("admin", "hosts", Texts, "[]", "Names by which callers may call it; `localhost` and, beyond loopback, numbers always may. Others are refused: a page of somebody else's could be behind them.").example("[\"ringway.internal\"]"),
    key("admin", "tls", Table, "", "TLS on the admin interface, with the keys of `listener.tls`: HTTP/1.1 alone is spoken. Commands then take `--admin https://...` and `--ca`.").example("{ certificates = [{ cert = \"/etc/ringway/admin.pem\", key = \"/etc/ringway/admin.key\" }] }"),
    key("admin.tls", "certificates", Tables, "", "As `listener.tls.certificates`; the name of the interface has to be in `admin.hosts`, too.").required().example("[{ cert = \"/etc/ringway/admin.pem\", key = \"/etc/ringway/admin.key\" }]"),
    key("admin.tls", "client_ca", Text, "", "As `listener.tls.client_ca`; health probes and scrapes then need a certificate, too.").example("\"/etc/ringway/operators.pem\""),
    key("admin.tls", "client_auth", Choice(&["required", "optional"]), "\"required\"", "With `client_ca`: whether a client without a certificate is refused. A certificate does not stand in for the token."),
    key("admin.tls", "min_version", Choice(&["1.2", "1.3"]), "\"1.2\"", "The oldest version of TLS that is spoken."),
    key("admin.tls.certificates", "cert", Text, "", "The certificate chain, PEM, leaf first.").required(),
    key("admin.tls.certificates", "key", Text, "", "The private key, PEM.").required(),
    key("admin.tls.certificates", "ocsp", Text, "", "What the authority says of the certificate (an OCSP response, DER), sent along to clients that ask (stapling). Whoever renews it writes the file anew, by a rename; it is watched like the others.").example("\"/etc/ringway/site.ocsp\""),
    key("log", "level", Choice(&["error", "warn", "info", "debug", "trace"]), "\"info\"", "How much the program says of itself, on standard error."),
    key("log", "access", Choice(&["json", "text", "off"]), "\"json\"", "How finished requests are written down. Changing it needs a restart."),
    key("log", "access_path", Text, "\"-\"", "The access log's file, opened anew on SIGUSR1; `-` is standard output. Changing it needs a restart."),
    key("log", "sample", Share(100), "\"100%\"", "Share of finished requests that the access log gets, by chance; those that failed (an `error`, or a status of 500 and above) are always there. Changing it needs a restart."),
    key("listener", "name", Text, "", "Its name in routes, logs and metrics; absent: its address.").example("\"public\""),
    key("listener", "address", Text, "", "Where it accepts: `host:port` or `[v6]:port`, with numbers, or `unix:/path`. `[::]:8080` takes IPv6 alone; IPv4 beside it is a listener at `0.0.0.0:8080`. The file of a dead socket is replaced, one that somebody listens at or that is no socket is not; it is removed at the end. Clients of a unix socket count as 127.0.0.1: in `client_ip`, logs and `trusted_proxies`.").required().example("\"0.0.0.0:8080\""),
    key("listener", "mode", Text, "", "Permissions of a unix socket's file, in octal; absent: `0666`, so that the folder decides who may connect. A change takes effect when the listener is opened anew.").example("\"0660\""),
    key("listener", "protocols", Texts, "[\"http1\", \"h2\"]", "What it speaks: `http1`, `h2`. HTTP/2 is chosen by ALPN on TLS, by prior knowledge in clear."),
    key("listener", "tls", Table, "", "TLS. Absent: in clear.").example("{ certificates = [{ cert = \"/etc/ringway/site.pem\", key = \"/etc/ringway/site.key\" }] }"),
    key("listener", "max_connections", Integer(1, 10_000_000), "20_000", "Connections at one time, over all workers; more are closed at once and counted."),
    key("listener", "max_connections_per_ip", Integer(1, 10_000_000), "", "Connections of one client address at one time, over all workers; more are closed at once and counted. With `proxy_protocol` the address is the one in the header. Absent: no limit of its own.").example("100"),
    key("listener", "proxy_protocol", Table, "", "Every connection begins with a PROXY header, version 1 or 2, before TLS; the address in it is the client's, as if it had connected itself. Connections without one, and from other peers, are refused and counted. Absent: nobody sends one.").example("{ trusted = [\"10.0.0.0/8\"] }"),
    key("listener", "header_timeout", Duration(1), "\"10s\"", "Longest time from accept, or from the first byte of a later request, to a whole head; the TLS handshake included."),
    key("listener", "body_timeout", Duration(1), "\"30s\"", "Longest silence of the client while a body moves, either way."),
    key("listener", "min_body_rate", Size(1, 1 << 40), "", "Bytes a second at which a request's body has to come, over its whole time and after five seconds of grace; slower ones get 408. Time in which the endpoint takes nothing is not counted. Absent: only `body_timeout` holds.").example("\"1KiB\""),
    key("listener", "idle_timeout", Duration(1), "\"75s\"", "Longest time between two requests of a connection."),
    key("listener", "max_header_bytes", Size(1 << 10, 1 << 20), "\"32KiB\"", "Largest head of a request; larger ones get 431, or 414 when the first line alone is larger."),
    key("listener", "max_headers", Integer(1, 1000), "100", "Most fields of a request's head; more get 431."),
    key("listener", "max_body", Size(0, 1 << 50), "", "Largest body of a request; larger ones get 413. Absent: no limit.").example("\"10MiB\""),
    key("listener", "trusted_proxies", Texts, "[]", "Networks of peers whose `X-Forwarded-For`, or `Forwarded` when there is none, is believed: the client is the right-most address that is in none of them. `X-Forwarded-For` is appended to; from all others it is replaced, and `Forwarded` and every other `X-Forwarded-*` removed.").example("[\"10.0.0.0/8\"]"),
    key("listener.proxy_protocol", "trusted", Texts, "", "Networks of the balancers that send the header. Everybody else is refused.").required().example("[\"10.0.0.0/8\"]"),
    key("listener.tls", "certificates", Tables, "", "Pairs of `cert` and `key`; the client's server name picks, a name itself before a wildcard, and the first is the fallback.").required().example("[{ cert = \"/etc/ringway/site.pem\", key = \"/etc/ringway/site.key\" }]"),
    key("listener.tls", "client_ca", Text, "", "Certificates of the authorities whose clients may connect, PEM. Absent: clients are not asked who they are.").example("\"/etc/ringway/clients.pem\""),
    key("listener.tls", "client_auth", Choice(&["required", "optional"]), "\"required\"", "With `client_ca`: whether a client without a certificate is refused. Endpoints get a client's certificate as `Client-Cert` (RFC 9440) and `Client-Cert-Subject`; what clients send under these names is removed."),
    key("listener.tls", "min_version", Choice(&["1.2", "1.3"]), "\"1.2\"", "The oldest version of TLS that is spoken."),
    key("listener.tls.certificates", "cert", Text, "", "The certificate chain, PEM, leaf first.").required(),
    key("listener.tls.certificates", "key", Text, "", "The private key, PEM.").required(),
    key("listener.tls.certificates", "ocsp", Text, "", "What the authority says of the certificate (an OCSP response, DER), sent along to clients that ask (stapling). Whoever renews it writes the file anew, by a rename; it is watched like the others.").example("\"/etc/ringway/site.ocsp\""),
    key("route", "name", Text, "", "Its name in logs and metrics; absent: the hosts and path it matches, followed by `@` and its listeners where another route has that name.").example("\"images\""),
    key("route", "listeners", Texts, "[]", "Listeners, by name, whose requests it takes; empty: all.").example("[\"public\"]"),
    key("route", "hosts", Texts, "[]", "Hosts it takes: `example.com`, `*.example.com`; empty: all.").example("[\"example.com\"]"),
    key("route", "path", Text, "", "The one path it takes. At most one of `path`, `path_prefix`, `path_regex`.").example("\"/healthz\""),
    key("route", "path_prefix", Text, "", "`/api` takes `/api` and `/api/...`, never `/apikey`. Paths are compared as they come, letter case included; one that another reader could take for another route's (dot segments, percent-encoding once or several times, `\\`, `//`, `..;`, `%00`, overlong UTF-8) gets 400.").example("\"/api\""),
    key("route", "path_regex", Text, "", "A regular expression that finds a match in the path; not anchored by itself.").example("\"^/img/[0-9]+$\""),
    key("route", "methods", Texts, "[]", "Methods it takes; empty: all. When only the method does not match, the answer is 405.").example("[\"GET\", \"HEAD\"]"),
    key("route", "headers", Map, "{}", "Fields a request must have, with their value; `\"*\"` is any value.").example("{ x-beta = \"1\" }"),
    key("route", "allow", Texts, "[]", "Clients it is for: networks or addresses. Empty: everybody who is not denied. Judged by the client's address as `trusted_proxies` gives it; the most specific network of `allow` and `deny` decides, `deny` when both name the same one. Others get 403.").example("[\"10.0.0.0/8\"]"),
    key("route", "deny", Texts, "[]", "Clients it is not for: networks or addresses, as in `allow`.").example("[\"10.1.2.3\"]"),
    key("route", "upstream", Text, "", "Where it leads. A route has one of `upstream`, `redirect`, `respond`.").example("\"cache\""),
    key("route", "redirect", Table, "", "Sends the client elsewhere. Instead of `upstream`.").example("{ to = \"https://{host}{path_and_query}\" }"),
    key("route", "respond", Table, "", "Answers without asking an endpoint. Instead of `upstream`.").example("{ status = 200, body = \"ok\" }"),
    key("route", "key", Texts, "", "What a request is keyed by: alternatives, the first whose parts are all present wins; parts are joined by ` + `. Parts: `header:N`, `cookie:N`, `query:N`, `path`, `path:REGEX` (first group), `path_and_query`, `host`, `method`, `client_ip`, `client_ip/24/56`. Required when the upstream has several endpoints.").example("[\"header:x-cache-key\", \"path_and_query\"]"),
    key("route", "on_missing_key", Choice(&["random", "reject", "client_ip"]), "\"random\"", "Without a key: the less busy of two endpoints at random, 400, or the client's address as the key."),
    key("route", "strip_prefix", BoolOrText, "false", "Cut off the path before an endpoint is asked: `true` is the route's `path_prefix`, a text is that prefix. Whole segments only, and what is left begins with a slash: `/api/v1?x` becomes `/v1?x`. The key is taken from the path as it came."),
    key("route", "rewrite", Table, "", "Replaces a part of the path, after `strip_prefix`, before an endpoint is asked. The query stays, and the key is taken from the path as it came.").example("{ regex = \"^/old/([^/]+)\", to = \"/new/{1}\" }"),
    key("route", "request_headers", Table, "", "Fields of the request that are set, added and removed before an endpoint is asked, after everything Ringway changes itself.").example("{ set = { x-client = \"{client_ip}\" }, remove = [\"cookie\"] }"),
    key("route", "response_headers", Table, "", "Fields of answers that are set, added and removed: an endpoint's, redirects and fixed answers; not of Ringway's own errors.").example("{ set = { strict-transport-security = \"max-age=31536000\" }, remove = [\"server\"] }"),
    key("route", "via", Bool, "true", "Whether `Via` is added to requests."),
    key("route", "timeout", Duration(1), "\"60s\"", "Longest time to the response head, all attempts together; 504 after it. While a request's body moves, it starts anew with each piece."),
    key("route", "upgrade", Texts, "[\"websocket\"]", "Protocols that an HTTP/1.1 GET may switch its connection to, or an extended CONNECT its HTTP/2 stream; `[]`: none. Another one is left out of the request, which goes on as an ordinary one. Never `h2c` or another version of HTTP."),
    key("route", "tunnel_timeout", Duration(1), "\"1h\"", "Longest silence in both directions of an upgraded connection; then it is closed."),
    key("route", "fill_for", Text, "", "The upstream of the caches that fetch from this route's `upstream` through Ringway. For `fill_window` after a key went over to another cache, its previous owner is asked first for what it has stored (`Cache-Control: only-if-cached`, and `Ringway-Fill: 1`), the route's upstream after: at the latest when the caches' `response_timeout` is over, or a second without one. The keys are those of the routes to that upstream; `key` stands in when those differ, or change the path.").example("\"cache\""),
    key("route", "rate_limit", Table, "", "How often one key may ask, over all workers of this proxy; more gets 429 `rate_limited` with `Retry-After`. At most 65,536 keys are kept in mind at one time; where a place is needed, the key that is nearest to its full burst is forgotten. A reload that does not change the limit forgets nothing.").example("{ requests = 100, per = \"1s\", burst = 200 }"),
    key("route", "serialize", Table, "", "Requests of one key go to the upstream one after the other, each with a fencing token (see docs/LOCKS.md). Absent: nobody waits for anybody."),
    key("route", "retry", Table, "", "What is tried again, each time at a distinct candidate."),
    key("route", "coalesce", Table, "", "Requests that ask for the same at one time are answered by one exchange. Without it each is asked for itself."),
    key("route.redirect", "status", Integer(301, 308), "308", "301, 302, 303, 307 or 308; 307 and 308 keep the method and body."),
    key("route.redirect", "to", Text, "", "Where to: it begins with `http://`, `https://`, `{scheme}://`, `/`, `{path}` or `{path_and_query}`. `{scheme}`, `{host}` (lower case, without port), `{authority}` (as received, with port), `{path}`, `{query}`, `{path_and_query}`, `{method}`, `{client_ip}`, `{request_id}` stand for the request's; `{{` and `}}` are braces. What may not stand in a URL is percent-encoded, and a target without a scheme never begins with two slashes, so that no path leads to another site. `{host}` is what the client says: name `hosts` on the route when that matters.").required().example("\"https://{host}{path_and_query}\""),
    key("route.respond", "status", Integer(200, 599), "200", "The status."),
    key("route.respond", "body", Text, "", "The body; absent: none. 204 and 304 have none."),
    key("route.respond", "headers", Map, "{}", "Fields of the answer. Without a `content-type` a body is `text/plain; charset=utf-8`.").example("{ content-type = \"application/json\" }"),
    key("route.request_headers", "set", Map, "{}", "Takes the place of all fields of that name. Values may have the placeholders of `redirect.to`. Names that frame or identify a message or belong to one connection (Host, Content-Length, Transfer-Encoding, Connection and the like) are Ringway's.").example("{ x-client = \"{client_ip}\", x-forwarded-proto = \"https\" }"),
    key("route.request_headers", "add", Map, "{}", "Comes after what is there; as in `set`.").example("{ x-via = \"{host}\" }"),
    key("route.request_headers", "remove", Texts, "[]", "Goes; before anything is set or added.").example("[\"cookie\"]"),
    key("route.response_headers", "set", Map, "{}", "As in `request_headers`; placeholders stand for the request's.").example("{ x-request-id = \"{request_id}\" }"),
    key("route.response_headers", "add", Map, "{}", "As in `request_headers`.").example("{ vary = \"accept\" }"),
    key("route.response_headers", "remove", Texts, "[]", "As in `request_headers`.").example("[\"server\"]"),
    key("route.rewrite", "regex", Text, "", "What is replaced: the first match in the path, not anchored by itself. Without a match the path stays as it is. A path whose percent-encoding or dot segments would change what is replaced gets 400.").required(),
    key("route.rewrite", "to", Text, "", "What takes its place: `{1}` or `{name}` stand for groups of the regex, `{0}` for the whole match; bytes pass as they came. `{{` and `}}` are braces.").required(),
    key("route.rate_limit", "requests", Integer(1, 1_000_000), "", "Requests in each `per`, evenly spread.").required().example("100"),
    key("route.rate_limit", "per", Duration(1), "\"1s\"", "The time for them; at most a day."),
    key("route.rate_limit", "burst", Integer(1, 1_000_000), "", "Requests that may come at once after a pause. Absent: as many as `requests`.").example("200"),
    key("route.rate_limit", "key", Texts, "[\"client_ip\"]", "Whose requests count together: as a route's `key`. Requests without any of it count by the client's address. `client_ip/32/64` counts a whole IPv6 network as one."),
    key("route.serialize", "store", Text, "", "Whose locks: `[store.NAME]`, of engine `etcd`, `redis`, `consul` or `zookeeper`, and all proxies that name it and its `root` (`prefix`) take turns with each other. Absent: within this proxy.").example("\"etcd\""),
    key("route.serialize", "methods", Texts, "[\"POST\", \"PUT\", \"PATCH\", \"DELETE\"]", "Methods whose requests take turns; all others pass at once."),
    key("route.serialize", "key", Texts, "", "Whose requests take turns with each other, over all routes to the upstream: alternatives and parts as in a route's `key`. Absent: by the route's key. Requests without a key take turns with each other, or by their client's address with `on_missing_key = \"client_ip\"`.").example("[\"path:^/accounts/([^/]+)\"]"),
    key("route.serialize", "wait", Duration(1), "\"10s\"", "Longest time a request waits for its turn; then it gets 503 `lock_timeout`. It is a part of the route's `timeout`."),
    key("route.serialize", "lease", Duration(1000), "", "With `store`: how long a lease lasts after it was last renewed, and so how long a proxy that dies keeps others waiting. It is renewed each third of it for as long as its request runs. Never longer than the store's `lease_ttl` (`etcd`), `max_lease` (`redis`), `session_ttl` (`consul`) or `session_timeout` (`zookeeper`). Absent: `30s`, or that if it is less.").example("\"30s\""),
    key("route.serialize", "on_lease_lost", Choice(&["abort", "finish"]), "", "With `store`, when the lease of a request is lost on the way: `abort` ends it (503 `lease_lost`, or a response that breaks off); `finish` lets it go on, but asks no further endpoint. Absent: `abort`.").example("\"finish\""),
    key("route.serialize", "on_store_loss", Choice(&["refuse", "local", "bypass"]), "", "With `store`, while it does not answer: `refuse` is 503 `store_lost`; `local` has requests take turns within this proxy, without tokens; `bypass` lets them pass at once, without tokens. Absent: `refuse`.").example("\"local\""),
    key("route.serialize", "max_queue", Integer(0, 1_000_000), "100", "How many requests may wait for one key in this proxy, first in, first out; more get 503 `lock_queue_full` at once."),
    key("route.coalesce", "store", Text, "", "One fetch over a fleet: a lease in `[store.NAME]` elects the proxy that asks; those that name the same store and `root` wait for it and ask after it, when a cache behind them has the answer. Absent: each proxy asks for its own.").example("\"etcd\""),
    key("route.coalesce", "lease", Duration(1000), "", "With `store`: how long a lease lasts after it was last renewed, and so how long a proxy that dies keeps others waiting. It is renewed for as long as its exchange runs. Never longer than the store's `lease_ttl`. Absent: `10s`.").example("\"10s\""),
    key("route.coalesce", "on_store_loss", Choice(&["local", "refuse"]), "", "With `store`, while it does not answer: `local` has each proxy ask for its own; `refuse` is 503 `store_lost` for requests that could share an answer. Absent: `local`.").example("\"refuse\""),
    key("route.coalesce", "wait", Duration(1), "\"5s\"", "Longest time to wait for another's answer to begin; after it a request is asked for itself. With `store` a proxy waits at most as long for other proxies, before that."),
    key("route.coalesce", "max_body", Size(1, 1 << 30), "\"1MiB\"", "The largest body that is shared. Larger ones go to each who asks by an exchange of its own; one whose length was not announced, and that turns out larger, goes on to those who get it already."),
    key("route.coalesce", "share_headers", Texts, "[]", "Fields that would keep a request for itself (`authorization`, `cookie`, `range`, `if-none-match` and the like, `client-cert`) but here do not: requests with the same values of them share an answer. Any other field may be named, too: requests with different values of it then never share one.").example("[\"cookie\"]"),
    key("route.retry", "attempts", Integer(0, 16), "2", "Further attempts; 0 turns repeating off."),
    key("route.retry", "on", Texts, "[\"connect\", \"reset\", \"502\", \"504\"]", "What is tried again: `connect`, `reset`, `502`, `503`, `504`, `timeout`. A request is sent again only when it is idempotent or nothing of it was sent, and its body (at most 16 KiB) was kept. A failed connect moves on without counting as an attempt."),
    key("route.retry", "budget", Share(1000), "\"20%\"", "Retries as a share of the upstream's requests of the last ten seconds, never fewer than ten."),
    key("route.retry", "backoff", Duration(0), "\"0s\"", "Pause before the first retry; it doubles with each further one, varies between half of it and all of it, and is ten seconds at most. After a failed connect there is none."),
    key("upstream.*", "profile", Choice(&["service", "cache"]), "\"service\"", "What its endpoints are. It picks defaults only: for `cache`, `load.bound` is `\"125%\"`, `load.hot_keys` is on and `transition.ramp` is `\"30s\"`."),
    key("upstream.*", "endpoints", Tables, "", "Its servers. An upstream has `endpoints` or `discovery`.").example("[{ id = \"c1\", address = \"10.0.0.1:8080\" }, { id = \"c2\", address = \"10.0.0.2:8080\", weight = 2 }]"),
    key("upstream.*", "discovery", Table, "", "Where its servers are learned, instead of `endpoints`. Until a first list is there, requests get 503 `no_endpoint` and `/readyz` is 503. A list that cannot be taken up changes nothing, and is told and counted."),
    key("upstream.*", "tls", Table, "", "TLS to the endpoints; `{}` trusts the system's authorities. Absent: in clear.").example("{ ca = \"/etc/ringway/ca.pem\" }"),
    key("upstream.*", "protocol", Choice(&["auto", "http1", "h2"]), "\"auto\"", "What is spoken with its endpoints: `auto` is what is agreed on by ALPN on TLS, and HTTP/1.1 in clear; `h2` is HTTP/2, in clear by prior knowledge (gRPC needs it there)."),
    key("upstream.*", "connect_timeout", Duration(1), "\"1s\"", "Longest time to connect, a TLS handshake included."),
    key("upstream.*", "response_timeout", Duration(1), "", "Longest time from a request sent to its response head, for each attempt. Absent: the route's timeout.").example("\"10s\""),
    key("upstream.*", "body_timeout", Duration(1), "\"5m\"", "Longest silence within a response."),
    key("upstream.*", "idle_timeout", Duration(0), "\"60s\"", "Age at which an idle connection is closed."),
    key("upstream.*", "max_idle", Integer(0, 100_000), "64", "Idle connections kept for each endpoint and worker."),
    key("upstream.*", "max_connections", Integer(1, 10_000_000), "", "Connections open to one endpoint, over all workers, idle ones and tunnels included; health checks are not counted. A request that needs one more waits as `max_pending` says, or is answered 503 `overloaded`; a connection that idles at another worker is closed for it within 0.1 s. Absent: no limit. Connections that were open before a reload lowered it stay until they end.").example("500"),
    key("upstream.*", "max_requests", Integer(1, 10_000_000), "", "Requests on their way at one endpoint, over all workers, tunnels included; more are answered 503 `overloaded` with Retry-After, and not sent to another endpoint: for that there is the ring. Absent: no limit. Never exceeded; two workers that reach for the last place at the same moment may both miss it.").example("1_000"),
    key("upstream.*", "max_pending", Integer(0, 1_000_000), "0", "Requests that may wait for a place at one endpoint when `max_requests` are there, and as many for a connection when `max_connections` are open; over all workers, first in first out, each at most `connect_timeout`; 0: 503 at once."),
    key("upstream.*", "resolve", Duration(100), "\"10s\"", "How often names of endpoints are looked up; a failure keeps what was found last. At the start and at a reload new names are waited for, two seconds at most; an endpoint whose name was never resolved is down. What still hangs on an address that went is closed after `server.drain_timeout`."),
    key("upstream.*", "panic_below", Share(100), "\"20%\"", "When a smaller share of endpoints is available, verdicts are ignored."),
    key("upstream.*", "ring", Table, "", "How keys are placed. All proxies of a fleet need the same."),
    key("upstream.*", "transition", Table, "", "How keys go over to new owners when endpoints come, go or change their weight."),
    key("upstream.*", "load", Table, "", "What happens when a few endpoints have most of the requests."),
    key("upstream.*", "outlier", Table, "", "Endpoints that fail in real traffic are left out for a time."),
    key("upstream.*", "health_check", Table, "", "Active checks: each endpoint is asked at once and then each `interval`, and left out while it does not answer as wanted. Absent: nobody is asked."),
    key("upstream.*.endpoints", "id", Text, "", "The stable text that is hashed, 1 to 128 characters of `A-Za-z0-9._:/[]-`. Keys stay when the address changes.").required(),
    key("upstream.*.endpoints", "address", Text, "", "Where it listens: `host:port`, `[v6]:port` or `unix:/path`. A name is looked up by the system's resolver; all addresses it stands for are one endpoint, tried in turn within `connect_timeout`, the one first that worked last. Other addresses than before start with fresh connections and health, like another address in the file; the same in another order change nothing.").required(),
    key("upstream.*.endpoints", "weight", Integer(0, 1000), "1", "Its part of the key space relative to others; 0 keeps it out."),
    key("upstream.*.tls", "server_name", Text, "", "The name that is sent (SNI) and that the endpoints' certificates must have. Absent: each endpoint's own host; for an address in numbers its certificate must name that address.").example("\"cache.internal\""),
    key("upstream.*.tls", "ca", Text, "", "Certificates of the authorities to trust, PEM. Absent: those the system trusts.").example("\"/etc/ringway/ca.pem\""),
    key("upstream.*.tls", "cert", Text, "", "The certificate chain we show to endpoints that ask for one, PEM, leaf first. Needs `key`.").example("\"/etc/ringway/client.pem\""),
    key("upstream.*.tls", "key", Text, "", "The private key of `cert`, PEM.").example("\"/etc/ringway/client.key\""),
    key("upstream.*.tls", "verify", Bool, "true", "Whether endpoints must prove who they are; `false` is for tests only."),
    key("upstream.*.ring", "algorithm", Choice(&["ringway", "ketama"]), "\"ringway\"", "The placement. `ketama` gives each key the owner that nginx's `hash KEY consistent` gives it when ids are the servers as nginx's file has them (`10.0.0.1:8080`; without a port if it has none); it takes no `vnodes`, `probes`, `seed` or `secret_file`."),
    key("upstream.*.ring", "vnodes", Integer(1, 10_000), "160", "Points for each unit of weight; never scaled by the number of endpoints."),
    key("upstream.*.ring", "probes", Integer(1, 8), "2", "Places a key is looked up from; more are more even and cost more."),
    key("upstream.*.ring", "seed", Integer(0, i64::MAX as u64), "0", "Seed of the hash."),
    key("upstream.*.ring", "secret_file", Text, "", "A file with 32 hexadecimal digits: the hash is keyed by them, so that nobody outside can choose keys of one endpoint. Not together with `seed`.").example("\"/etc/ringway/ring.secret\""),
    key("upstream.*.ring", "failover", Integer(0, 1_000_000), "", "How many candidates after the owner may serve; absent: all.").example("2"),
    key("upstream.*.load", "bound", Text, "", "An endpoint with `in_flight + 1 > 2 * max(8, bound * m + 2 * sqrt(m))`, m the mean in flight by weight over available endpoints, is asked only after the other candidates; by hot keys already at half of that. `\"off\"` turns this off. Default: off, and `\"125%\"` with `profile = \"cache\"`.").example("\"125%\""),
    key("upstream.*.load", "hot_keys", Table, "", "Keys so frequent that one endpoint would drown in them are shared by several until they cool; each costs a cached answer at each of them. Off unless the table is there, and on with `profile = \"cache\"`. Not for sessions: what one endpoint knows of them, the others do not.").example("{ share = \"25%\", replicas = 8 }"),
    key("upstream.*.load.hot_keys", "share", Share(10_000), "\"25%\"", "A key with more of the upstream's requests than this share of an even endpoint's part is hot: with 20 endpoints and `\"25%\"` one with more than 1.25 % of them, and at least ten requests a second. It stays hot until it has fallen below half of that. Looked at each second, over all workers of this proxy; at most 64 keys are hot at one time. `\"0%\"`: no key is hot."),
    key("upstream.*.load.hot_keys", "replicas", Integer(2, 64), "8", "Endpoints that share a hot key: its first candidates, the owner included. Each request goes to the one of two of them at random that has fewer in flight."),
    key("upstream.*.transition", "ramp", Duration(0), "", "How long keys take to go over, one after the other, when an endpoint joins, changes its weight, is drained or taken back, or comes back after nobody accepted its health checks' connections; so caches fill without a burst at their origin. `\"0s\"`: at once, as it is when an endpoint is removed or fails. Default: `\"0s\"`, and `\"30s\"` with `profile = \"cache\"`.").example("\"30s\""),
    key("upstream.*.transition", "fill_window", Duration(0), "\"60s\"", "How long after a key went over its previous owner is asked first, for routes with `fill_for`; `\"0s\"`: never. At most 32 changes are remembered."),
    key("upstream.*.transition", "guard", Table, "", "What one change of learned members (`discovery`) may do; what does more is held, the last good members stay, until `ringway approve` or `ringway reload --force`. A change of the configuration is published with a warning, unless `server.guard_config`.").example("{ max_removed = \"50%\", max_moved = \"30%\" }"),
    key("upstream.*.transition.guard", "max_removed", Share(100), "\"50%\"", "Largest share of the endpoints that own keys which may go at once; `\"100%\"`: all of them. (Before it comes `discovery.max_drop`: too many that vanish must first stay away for `settle`.)"),
    key("upstream.*.transition.guard", "max_moved", Share(100), "", "Largest share of the key space that may get a new owner, exactly reckoned. Absent: any.").example("\"30%\""),
    key("upstream.*.outlier", "consecutive_failures", Integer(1, 1_000_000), "5", "Failures in a row, over all workers, that eject: failed connects, resets, timeouts, broken responses, and 502, 503, 504."),
    key("upstream.*.outlier", "failure_share", Share(100), "", "Share of an endpoint's exchanges within `window` whose failure ejects it, once there are 20 of them; the same failures as above. Absent: shares eject nobody.").example("\"50%\""),
    key("upstream.*.outlier", "window", Duration(100), "\"10s\"", "What `failure_share` looks back on."),
    key("upstream.*.outlier", "eject_for", Duration(1), "\"10s\"", "Length of the first ejection; it doubles each time, decays with good conduct, and is five minutes at most."),
    key("upstream.*.outlier", "max_ejected", Share(100), "\"30%\"", "Largest share of endpoints out at one time, rounded down, at least one when there are two or more; `\"0%\"` turns ejection off."),
    key("upstream.*.discovery", "provider", Choice(&["file", "dns", "store"]), "\"file\"", "Who knows the members: a file that is watched; the addresses of a name, looked up anew each time their TTL has passed; or a store that tells of changes."),
    key("upstream.*.discovery", "path", Text, "", "The file of `provider = \"file\"`, `.toml` or `.json`: `endpoints`, a list of `id`, `address` (numbers and a port) and `weight` (1). It is taken whole or not at all, a quarter of a second after the last write at the latest.").example("\"/etc/ringway/members.toml\""),
    key("upstream.*.discovery", "name", Text, "", "The name of `provider = \"dns\"`, from the root: no search domains are tried; with `records = \"srv\"` the service. With `provider = \"store\"` what members are registered under; absent: the upstream's name.").example("\"app.example.com\""),
    key("upstream.*.discovery", "port", Integer(1, 65_535), "", "The port of all members, with `records = \"a\"`.").example("8080"),
    key("upstream.*.discovery", "records", Choice(&["a", "srv"]), "", "Which records name the members; absent: `a`. `a`: every address of the name (A and AAAA), its id `address:port`. `srv`: every server of the service (SRV) of the first priority, its id `target:port`, so that a new address under an old target moves no key (`target:port/address` for targets of several addresses). Equal weights of SRV are 1, others keep their proportion.").example("\"srv\""),
    key("upstream.*.discovery", "resolvers", Texts, "", "Name servers to ask, one after the other: addresses, with or without a port (53). Absent: those in `/etc/resolv.conf`.").example("[\"10.0.0.53\"]"),
    key("upstream.*.discovery", "store", Text, "", "The store of `provider = \"store\"`: `[store.NAME]`. What members look like there: docs/DISCOVERY.md.").example("\"etcd\""),
    key("upstream.*.discovery", "layout", Choice(&["ringway", "service", "curator"]), "", "What members look like in the store: as `ringway register` writes them (`ringway`); instances of a service (`service`, with `consul` always); in `zookeeper` as Curator and Spring Cloud write them below the store's `root` (`curator`). Absent: `service` with `consul`, else `ringway`.").example("\"curator\""),
    key("upstream.*.discovery", "on_store_loss", Choice(&["serve-last", "refuse"]), "", "With `provider = \"store\"`, while the store does not answer: the last members serve for ever, or requests get 503 `store_lost`. Absent: `serve-last`.").example("\"refuse\""),
    key("upstream.*.discovery", "max_stale", Duration(0), "", "With `on_store_loss = \"refuse\"`: how long the last members serve all the same. Absent: not at all.").example("\"30s\""),
    key("upstream.*.discovery", "snapshot", Text, "", "A file that the program keeps the last list in, as JSON, for a start without an answer. Absent: the upstream is empty then.").example("\"/var/lib/ringway/found.members.json\""),
    key("upstream.*.discovery", "settle", Duration(0), "\"10s\"", "How long members beyond `max_drop` must be missing before they go."),
    key("upstream.*.discovery", "max_drop", Share(100), "\"50%\"", "Largest share of the members, rounded down, that may go at once. When more are missing, they stay for `settle`: what comes and what changes is taken up at once all the same."),
    key("upstream.*.discovery", "min_members", Integer(0, 10_000_000), "1", "Fewest members of a list; a smaller one is refused."),
    key("upstream.*.discovery", "max_members", Integer(1, 10_000_000), "10_000", "Most members of a list; a larger one is refused."),
    key("upstream.*.discovery", "allow", Texts, "[]", "Networks of loopback and link-local members; others there are refused, so that a list cannot lead requests to what only this machine should reach.").example("[\"127.0.0.0/8\"]"),
    key("store.*", "engine", Choice(&["zookeeper", "redis", "consul", "etcd"]), "", "What it is.").required().example("\"etcd\""),
    key("store.*", "endpoints", Texts, "", "The servers of `etcd`, tried in turn: `http://host:port`, or `https://host:port` with `tls`.").example("[\"http://10.0.0.1:2379\", \"http://10.0.0.2:2379\"]"),
    key("store.*", "servers", Texts, "", "The servers of `zookeeper` (3.5 and later), tried in turn: `host:port`.").example("[\"10.0.0.1:2181\", \"10.0.0.2:2181\", \"10.0.0.3:2181\"]"),
    key("store.*", "session_timeout", Duration(1000), "", "How long what `ringway register` puts into `zookeeper`, and locks, stay after the last sign of life; there are three in this time. Servers take at least two and at most twenty of their ticks. Absent: `6s`.").example("\"6s\""),
    key("store.*", "auth", Table, "", "Who we are for `zookeeper`: nodes we make are ours alone then. Absent: nobody, and nodes are everybody's.").example("{ scheme = \"digest\", credentials_file = \"/etc/ringway/zk.cred\" }"),
    key("store.*.auth", "scheme", Choice(&["digest"]), "\"digest\"", "How we say who we are: a name and a password."),
    key("store.*.auth", "credentials_file", Text, "", "A file with `name:password`, read at each connection.").required().example("\"/etc/ringway/zk.cred\""),
    key("store.*", "url", Text, "", "The server of `redis` (6.0 and later) and the number of its database: `redis://host:port/0`, or `rediss://host:port/0` for TLS.").example("\"redis://10.0.0.9:6379/0\""),
    key("store.*", "address", Text, "", "The agent of `consul`: `http://host:port`, or `https://host:port` with `tls`.").example("\"http://127.0.0.1:8500\""),
    key("store.*", "token_file", Text, "", "A file with the token for `consul`, read at each connection. Absent: the agent's own, or none.").example("\"/etc/ringway/consul.token\""),
    key("store.*", "consistency", Choice(&["default", "stale", "consistent"]), "", "Who may answer for `consul`: the leader, any server (`stale`), or the leader once others confirm that it is (`consistent`). Absent: `default`.").example("\"stale\""),
    key("store.*", "session_ttl", Duration(1000), "", "How long what `ringway register` puts into `consul`, and locks there, stay after the last sign of life; there are three in this time. Consul notices the end of locks after up to twice that, and takes no less than `10s` for them unless its own `session_ttl_min` is less. Absent: `10s`.").example("\"10s\""),
    key("store.*", "lock_delay", Duration(0), "", "How long nobody gets a lock in `consul` after it has noticed that its holder is lost. At most `60s`. Absent: `2s`.").example("\"2s\""),
    key("store.*", "username", Text, "", "Who we are there. Needs `password_file`.").example("\"ringway\""),
    key("store.*", "password_file", Text, "", "A file with the password, read at each connection. With `redis` it may stand without `username`.").example("\"/etc/ringway/store.pw\""),
    key("store.*", "root", Text, "\"/ringway\"", "Before all keys of `etcd` and all nodes of `zookeeper`."),
    key("store.*", "prefix", Text, "", "Before all keys of `redis`. Absent: `ringway`.").example("\"ringway\""),
    key("store.*", "lease_ttl", Duration(1000), "", "How long what `ringway register` puts into `etcd` and `redis`, and locks in `etcd`, stay after the last sign of life; there are three in this time. Servers of etcd may raise it. Absent: `5s`.").example("\"5s\""),
    key("store.*", "max_lease", Duration(1000), "", "The longest lease of locks in `redis`, the same on the whole fleet. After a restart or a fail-over, which may have lost locks, none is given for so long. Absent: `30s`.").example("\"30s\""),
    key("store.*", "durability", Choice(&["none", "everysec", "always"]), "", "What `redis` keeps over a restart: as its `appendfsync` says. Only with `always`, and no replica that may take over, it forgets no lock, and gives locks at once after a restart. Absent: `none`.").example("\"always\""),
    key("store.*", "tls", Table, "", "TLS to its servers; `{}` trusts the system's authorities. Absent: in clear.").example("{ ca = \"/etc/ringway/ca.pem\" }"),
    key("store.*.tls", "server_name", Text, "", "The name that its certificate must have. Absent: each server's own host.").example("\"etcd.example.com\""),
    key("store.*.tls", "ca", Text, "", "Certificates of the authorities to trust, PEM. Absent: those the system trusts.").example("\"/etc/ringway/ca.pem\""),
    key("store.*.tls", "cert", Text, "", "The certificate chain we show when we are asked, PEM, leaf first. Needs `key`.").example("\"/etc/ringway/client.pem\""),
    key("store.*.tls", "key", Text, "", "The private key of `cert`, PEM.").example("\"/etc/ringway/client.key\""),
    key("store.*.tls", "verify", Bool, "true", "Whether it must prove who it is; `false` is for tests only."),
    key("fleet", "store", Text, "", "Where the proxies meet: `[store.NAME]`, of engine `etcd`, `redis`, `consul` or `zookeeper`. All below one `root` (`prefix`) of a store are one fleet.").required().example("\"etcd\""),
    key("fleet", "name", Text, "", "This proxy's name for people, in status, the dashboard and logs of others; it need not be its own. Absent: the host's name.").example("\"edge-1\""),
    key("fleet", "peers_ttl", Duration(1000), "\"10s\"", "How long a proxy that gives no sign of life counts as a peer. Stores may raise it."),
    key("upstream.*.health_check", "kind", Choice(&["http", "tcp", "grpc"]), "\"http\"", "What is asked: a request over HTTP/1.1; whether a connection is accepted; `grpc.health.v1.Health/Check` over HTTP/2."),
    key("upstream.*.health_check", "path", Text, "\"/healthz\"", "The path of an `http` check."),
    key("upstream.*.health_check", "method", Text, "\"GET\"", "The method of an `http` check."),
    key("upstream.*.health_check", "service", Text, "", "The service a `grpc` check asks about, at most 127 bytes; absent: the server as a whole.").example("\"cart.v1.Cart\""),
    key("upstream.*.health_check", "host", Text, "", "`Host` (or `:authority`) of `http` and `grpc` checks; absent: the address that is asked.").example("\"cache.internal\""),
    key("upstream.*.health_check", "headers", Map, "{}", "Further fields of `http` and `grpc` checks.").example("{ x-probe = \"ringway\" }"),
    key("upstream.*.health_check", "expect_status", Text, "\"200-399\"", "Statuses of healthy responses to `http` checks: numbers and ranges, with commas between them."),
    key("upstream.*.health_check", "expect_body", Text, "", "A text that the first 64 KiB of the response to an `http` check must hold.").example("\"ok\""),
    key("upstream.*.health_check", "interval", Duration(10), "\"2s\"", "Time between two checks of one endpoint, a tenth more or less each time; the second check comes within one interval, so that checks are spread. At most 256 are under way at one time, over all upstreams."),
    key("upstream.*.health_check", "timeout", Duration(1), "\"1s\"", "Longest time for one check, the connect included."),
    key("upstream.*.health_check", "fall", Integer(1, 1000), "3", "Failures in a row that mark an endpoint down. Not yet checked is up; a failure of the very first check marks down at once."),
    key("upstream.*.health_check", "rise", Integer(1, 1000), "2", "Successes in a row that bring it back. An endpoint that goes down again and again needs twice as many each time, at most eight times as many; 30 successes in a row forgive one time."),
    key("upstream.*.health_check", "elect", Text, "", "One proxy of a fleet checks for all: `[store.NAME]`, in which the others find its verdicts. All that name the same store and `root` and have an upstream of this name are one fleet. Absent: each proxy checks for itself.").example("\"etcd\""),
    key("upstream.*.health_check", "on_store_loss", Choice(&["check-locally", "freeze"]), "", "With `elect`, while the store does not answer, or nobody has told verdicts for three intervals: `check-locally` has each proxy check for itself; `freeze` keeps the last verdicts. Absent: `check-locally`.").example("\"freeze\""),
    key("upstream.*.health_check", "port", Integer(1, 65_535), "", "The port to ask at; absent: the endpoint's own.").example("8081"),
];

/// The keys of one table.
pub fn of_section(section: &str) -> impl Iterator<Item = &'static Key> {
    KEYS.iter().filter(move |key| key.section == section)
}

/// One key of one table.
///
/// # Panics
/// When there is none: code and table have parted.
pub fn find(section: &str, name: &str) -> &'static Key {
    of_section(section).find(|key| key.name == name).unwrap_or_else(|| panic!("no key {section}.{name} in the table"))
}
