"""Proxy registry for bench.py. To add a proxy: write a function (name, port-base) -> dict and put it in PROXIES.
Required keys:
  ports    : {'http':int, 'tls':int|None, 'h2c':int|None}
  cfg      : f(backends:list['ip:port']) -> None   writes the config (called before start and before reload)
  cmd      : list[str]  command to start in the foreground (bench.py pins it to CPU 0)
Optional:
  env      : dict
  reload   : f(pid:int) -> None   make the running proxy (root pid) take the config just written
  l4       : True  -> only workload a
"""

import glob, os, re, signal, subprocess, json, tempfile

B = (
    os.environ.get("RIG_WORK") or tempfile.gettempdir() + "/ringway-rig"
)  # everything built or written lies here (./setup makes it)
C = B + "/configs"
R = B + "/run"
PEERS = B + "/peers"  # PEERS: a chroot with newer peers, if `./setup --newest` made one
for d in (C, R):
    os.makedirs(d, exist_ok=True)
CERT, KEY, PEM = C + "/cert.pem", C + "/key.pem", C + "/combined.pem"
SID = ["chroot", PEERS] if os.path.isdir(PEERS + "/usr/sbin") else []


def _nginx_version():
    try:
        return tuple(
            int(x)
            for x in re.search(
                r"nginx/([\d.]+)",
                subprocess.run(SID + ["/usr/sbin/nginx", "-v"], capture_output=True, text=True).stderr,
            )
            .group(1)
            .split(".")
        )
    except Exception:
        return (0,)


H2_DIRECTIVE = _nginx_version() >= (1, 25, 1)  # older nginx takes http2 on the listen line
ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
RINGWAY = os.environ.get("RINGWAY") or ROOT + "/target/release/ringway"


def w(p, s):
    t = p + ".tmp"
    open(t, "w").write(s)
    os.rename(t, p)


def path(name, bk):
    return (C if len(bk) == 4 else R) + "/" + name  # the 4-backend config is the one kept


def nginx(base=20010):
    f = R + "/nginx.conf"

    def cfg(bk):
        s = (
            f"""user root;
worker_processes 1;
daemon off;
pid {R}/nginx.pid;
error_log {R}/nginx.err error;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
http {{
  access_log off;
  keepalive_requests 100000000;
  keepalive_timeout 300s;
  client_body_temp_path {R}/nginx_body; proxy_temp_path {R}/nginx_proxy; fastcgi_temp_path {R}/nginx_f; uwsgi_temp_path {R}/nginx_u; scgi_temp_path {R}/nginx_s;
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  proxy_max_temp_file_size 0;
  client_max_body_size 0;
  client_body_buffer_size 64k;
  ssl_certificate {CERT}; ssl_certificate_key {KEY}; ssl_protocols TLSv1.2 TLSv1.3;
  upstream be {{
    hash $request_uri consistent;
"""
            + "".join(f"    server {b};\n" for b in bk)
            + f"""    keepalive {max(256,2*len(bk))};
    keepalive_requests 100000000;
  }}
  server {{ listen 127.0.0.1:{base} backlog=4096; location / {{ proxy_pass http://be; }} }}
  server {{ listen 127.0.0.1:{base+1} ssl{'' if H2_DIRECTIVE else ' http2'} backlog=4096; {'http2 on; ' if H2_DIRECTIVE else ''}location / {{ proxy_pass http://be; }} }}
  server {{ listen 127.0.0.1:{base+2}{'' if H2_DIRECTIVE else ' http2'} backlog=4096; {'http2 on; ' if H2_DIRECTIVE else ''}location / {{ proxy_pass http://be; }} }}
}}
"""
        )
        w(f, s)
        if len(bk) == 4:
            w(C + "/nginx.conf", s)

    return dict(
        ports=dict(http=base, tls=base + 1, h2c=base + 2),
        cfg=cfg,
        cmd=SID + ["/usr/sbin/nginx", "-c", f, "-e", R + "/nginx.err"],
        reload=lambda pid: os.kill(pid, signal.SIGHUP),
    )


def haproxy(base=20020):
    f = R + "/haproxy.cfg"

    def cfg(bk):
        s = f"""global
  nbthread 1
  maxconn 11000
  no strict-limits
  stats socket {R}/haproxy.sock mode 600 level admin expose-fd listeners
defaults
  mode http
  timeout connect 5s
  timeout client 300s
  timeout server 60s
  timeout http-keep-alive 300s
  option http-keep-alive
  http-reuse always
frontend f
  bind 127.0.0.1:{base} backlog 4096
  bind 127.0.0.1:{base+1} ssl crt {PEM} alpn h2,http/1.1 backlog 4096
  bind 127.0.0.1:{base+2} proto h2 backlog 4096
  default_backend be
backend be
  balance uri
  hash-type consistent
""" + "".join(f"  server s{i} {b}\n" for i, b in enumerate(bk))
        w(f, s)
        if len(bk) == 4:
            w(C + "/haproxy.cfg", s)

    return dict(
        ports=dict(http=base, tls=base + 1, h2c=base + 2),
        cfg=cfg,
        cmd=SID + ["/usr/sbin/haproxy", "-W", "-q", "-f", f],
        reload=lambda pid: os.kill(pid, signal.SIGUSR2),
    )


def envoy(base=20030):
    f = C + "/envoy.yaml"
    eds = R + "/envoy_eds.json"

    def cfg(bk):
        w(
            eds,
            json.dumps(
                {
                    "version_info": str(os.times().elapsed),
                    "resources": [
                        {
                            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                            "cluster_name": "be",
                            "endpoints": [
                                {
                                    "lb_endpoints": [
                                        {
                                            "endpoint": {
                                                "address": {
                                                    "socket_address": {
                                                        "address": b.split(":")[0],
                                                        "port_value": int(b.split(":")[1]),
                                                    }
                                                }
                                            }
                                        }
                                        for b in bk
                                    ]
                                }
                            ],
                        }
                    ],
                }
            ),
        )
        if len(bk) == 4:
            w(C + "/envoy_eds.json", open(eds).read())

        def lis(n, port, codec, tls=False):
            t = (
                f"""      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            alpn_protocols: [h2, http/1.1]
            tls_params: {{ tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: TLSv1_3 }}
            tls_certificates: [ {{ certificate_chain: {{ filename: {CERT} }}, private_key: {{ filename: {KEY} }} }} ]
"""
                if tls
                else ""
            )
            return f"""  - name: {n}
    address: {{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}
    tcp_backlog_size: 4096
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          codec_type: {codec}
          stat_prefix: h
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: v
              domains: ["*"]
              routes:
              - match: {{ prefix: "/" }}
                route: {{ cluster: be, timeout: 0s, hash_policy: [ {{ header: {{ header_name: ":path" }} }} ] }}
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router, dynamic_stats: false }}
{t}"""

        s = (
            """node: { id: b, cluster: b }
static_resources:
  listeners:
"""
            + lis("h1", base, "HTTP1")
            + lis("tls", base + 1, "AUTO", True)
            + lis("h2c", base + 2, "HTTP2")
            + f"""  clusters:
  - name: be
    type: EDS
    lb_policy: RING_HASH
    connect_timeout: 5s
    eds_cluster_config: {{ eds_config: {{ resource_api_version: V3, path_config_source: {{ path: {eds} }} }} }}
    circuit_breakers: {{ thresholds: [ {{ max_connections: 1000000, max_pending_requests: 1000000, max_requests: 1000000, max_retries: 1000 }} ] }}
"""
        )
        w(f, s)

    return dict(
        ports=dict(http=base, tls=base + 1, h2c=base + 2),
        cfg=cfg,
        cmd=[
            (glob.glob(B + "/venv/lib/python3*/site-packages/envoy/_bin/envoy") or ["envoy"])[0],
            "-c",
            f,
            "--concurrency",
            "1",
            "-l",
            "error",
            "--disable-hot-restart",
        ],
        reload=lambda pid: None,
    )  # EDS file watch


def pingora(base=20040, steal="false"):
    f = C + "/pingora.yaml"
    bf = R + "/pingora_backends.txt"

    def cfg(bk):
        w(
            f,
            f"version: 1\nthreads: 1\nwork_stealing: {steal}\nupstream_keepalive_pool_size: {max(1024,2*len(bk))}\nerror_log: {R}/pingora.err\npid_file: {R}/pingora.pid\nupgrade_sock: {R}/pingora_upgrade.sock\n",
        )
        w(bf, "\n".join(bk) + "\n")

    return dict(
        ports=dict(http=base, tls=base + 1, h2c=base),
        cfg=cfg,
        cmd=[B + "/pingora/release/pingora_bench", "-c", f],
        env=dict(PB_BACKENDS=bf, PB_PORT=str(base), PB_TLS_PORT=str(base + 1), PB_CERT=CERT, PB_KEY=KEY),
        reload=lambda pid: None,
    )  # discovery polls the file every 200 ms


def caddy(base=20050):
    f = R + "/Caddyfile"

    def cfg(bk):
        rp = "reverse_proxy " + " ".join(bk) + """ {
    lb_policy uri_hash
    transport http {
      keepalive_idle_conns_per_host 256
    }
  }"""
        s = f"""{{
  admin 127.0.0.1:{base+9}
  auto_https off
  persist_config off
  log {{
    output discard
  }}
  servers {{
    protocols h1 h2 h2c
  }}
}}
http://:{base} {{
  bind 127.0.0.1
  {rp}
}}
https://:{base+1} {{
  bind 127.0.0.1
  tls {CERT} {KEY}
  {rp}
}}
"""
        w(f, s)
        if len(bk) == 4:
            w(C + "/Caddyfile", s)

    env = dict(GOMAXPROCS="1", HOME=R, XDG_DATA_HOME=R, XDG_CONFIG_HOME=R)

    def reload(pid):
        subprocess.Popen(
            [
                "/usr/bin/curl",
                "-s",
                "-o",
                "/dev/null",
                "-X",
                "POST",
                "-H",
                "Content-Type: text/caddyfile",
                "--data-binary",
                "@" + f,
                f"http://127.0.0.1:{base+9}/load",
            ]
        )

    return dict(
        ports=dict(http=base, tls=base + 1, h2c=base),
        cfg=cfg,
        cmd=SID + ["/usr/bin/caddy", "run", "--adapter", "caddyfile", "--config", f],
        env=env,
        reload=reload,
    )


def ringway(base=20090, name="ringway", workers=1, log='access = "off"', route='key = ["path_and_query"]', upstream=""):
    """All of the product's features on; the other parameters switch one of them, for the table of what each costs."""
    f = f"{R}/{name}.toml"

    def cfg(bk):
        endpoints = "".join(f'  {{ id = "s{i}", address = "{b}" }},\n' for i, b in enumerate(bk))
        w(
            f,
            f"""[server]
workers = {workers}
[admin]
address = "127.0.0.1:{base+9}"
[log]
{log}
[[listener]]
address = "127.0.0.1:{base}"
protocols = ["http1"]
idle_timeout = "300s"
header_timeout = "60s"
max_connections = 12000
[[listener]]
address = "127.0.0.1:{base+1}"
protocols = ["http1", "h2"]
tls = {{ certificates = [ {{ cert = "{CERT}", key = "{KEY}" }} ] }}
[[listener]]
address = "127.0.0.1:{base+2}"
protocols = ["h2"]
[[route]]
upstream = "be"
{route}
[upstream.be]
max_idle = {max(256,2*len(bk))}
{upstream}
endpoints = [
{endpoints}]
""",
        )

    return dict(
        ports=dict(http=base, tls=base + 1, h2c=base + 2),
        cfg=cfg,
        cmd=[os.path.abspath(RINGWAY), "run", "-c", f],
        reload=lambda pid: None,  # watches the file
        cpus=None if workers == 1 else ",".join(str(n) for n in range(workers)),
    )


def haproxy_tcp(base=20070):
    f = C + "/haproxy_tcp.cfg"

    def cfg(bk):
        w(
            f,
            f"""global
  nbthread 1
  maxconn 11000
  no strict-limits
defaults
  mode tcp
  timeout connect 5s
  timeout client 300s
  timeout server 300s
listen l
  bind 127.0.0.1:{base} backlog 4096
  balance roundrobin
""" + "".join(f"  server s{i} {b}\n" for i, b in enumerate(bk)),
        )

    return dict(
        ports=dict(http=base, tls=None, h2c=None),
        cfg=cfg,
        cmd=SID + ["/usr/sbin/haproxy", "-q", "-f", f, "-db"],
        l4=True,
    )


def nginx_stream(base=20080):
    f = C + "/nginx_stream.conf"

    def cfg(bk):
        w(
            f,
            f"""user root;
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
worker_processes 1;
daemon off;
pid {R}/nginx_stream.pid;
error_log {R}/nginx_stream.err error;
worker_rlimit_nofile 20000;
events {{ worker_connections 19000; }}
stream {{
  upstream be {{
"""
            + "".join(f"    server {b};\n" for b in bk)
            + f"""  }}
  server {{ listen 127.0.0.1:{base} backlog=4096; proxy_pass be; }}
}}
""",
        )

    return dict(
        ports=dict(http=base, tls=None, h2c=None),
        cfg=cfg,
        cmd=SID + ["/usr/sbin/nginx", "-c", f, "-e", R + "/nginx_stream.err"],
        l4=True,
    )


def direct(base=19001):  # the backend itself on the proxy CPU: what is measured is the backend's own cost
    return dict(ports=dict(http=19201, tls=None, h2c=None), cfg=lambda bk: None, cmd=[B + "/backend", "19201"], l4=True)


PROXIES = dict(
    ringway=ringway(),
    nginx=nginx(),
    haproxy=haproxy(),
    envoy=envoy(),
    pingora=pingora(),
    caddy=caddy(),
    l4_haproxy=haproxy_tcp(),
    l4_nginx=nginx_stream(),
    direct=direct(),
)


# One feature switched, all else as `ringway`: what it costs. RINGWAY_OLD is another program, to see what a change brings.
KEYED = 'key = ["path_and_query"]'
PROXIES |= {
    "ringway2": ringway(20200, "ringway2", workers=2),
    "ringway_log": ringway(20210, "ringway_log", log=f'access = "json"\naccess_path = "{R}/access.json"'),
    "ringway_one_percent": ringway(
        20220, "ringway_one_percent", log=f'access = "json"\naccess_path = "{R}/access.json"\nsample = "1%"'
    ),
    "ringway_no_key": ringway(20230, "ringway_no_key", route='key = ["header:x-absent"]'),
    "ringway_no_retry": ringway(20240, "ringway_no_retry", route=KEYED + "\nretry = { attempts = 0 }"),
    "ringway_bound": ringway(20250, "ringway_bound", upstream='load = { bound = "125%" }'),
    "ringway_max_requests": ringway(20260, "ringway_max_requests", upstream="max_requests = 10000"),
    "ringway_no_via": ringway(20270, "ringway_no_via", route=KEYED + "\nvia = false"),
}
if os.environ.get("RINGWAY_OLD"):
    old = ringway(20280, "ringway_old")
    PROXIES["ringway_old"] = old | dict(cmd=[os.path.abspath(os.environ["RINGWAY_OLD"])] + old["cmd"][1:])


# Tuned variants, used for the large-body workloads only.
def _variant(base, f, subs, cfgname, name):
    d = dict(base)
    orig = d["cfg"]

    def cfg(bk):
        orig(bk)
        s = open(f).read()
        for a, b in subs:
            assert a in s, a
            s = s.replace(a, b)
        w(f, s)
        w(C + "/" + cfgname, s)
        orig4 = None

    d["cfg"] = cfg
    return d


PROXIES["haproxy_splice"] = _variant(
    haproxy(20100),
    R + "/haproxy.cfg",
    [("  option http-keep-alive\n", "  option http-keep-alive\n  option splice-auto\n")],
    "haproxy_splice.cfg",
    "haproxy_splice",
)
PROXIES["haproxy_buf64k"] = _variant(
    haproxy(20110),
    R + "/haproxy.cfg",
    [("  nbthread 1\n", "  nbthread 1\n  tune.bufsize 65536\n")],
    "haproxy_buf64k.cfg",
    "haproxy_buf64k",
)
PROXIES["nginx_buf64k"] = _variant(
    nginx(20120),
    R + "/nginx.conf",
    [
        (
            "  client_max_body_size 0;\n",
            "  client_max_body_size 0;\n  proxy_buffer_size 64k; proxy_buffers 8 64k; proxy_busy_buffers_size 128k;\n",
        )
    ],
    "nginx_buf64k.conf",
    "nginx_buf64k",
)

# HAProxy without the master process (needed for --fifo runs: the master/worker pair does not come up under SCHED_FIFO on one CPU)
PROXIES["haproxy_single"] = dict(haproxy(20020))
PROXIES["haproxy_single"]["cmd"] = SID + ["/usr/sbin/haproxy", "-q", "-db", "-f", R + "/haproxy.cfg"]
PROXIES["haproxy_single"].pop("reload")
