//! What `--help` says beyond the list of arguments, as a manual page would: examples, exit codes, signals.

pub(super) const RINGWAY: &str = "\
EXAMPLES
  ringway demo                                     a proxy and three origins on loopback, to try it out
  ringway check -c ringway.toml                    everything that is wrong with a file, at once
  ringway run -c ringway.toml                      the proxy
  ringway explain -c ringway.toml http://a/b       who gets that request, and why
  ringway completions bash > /etc/bash_completion.d/ringway

EXIT CODES
  0  fine
  1  failed while running: a port in use, a proxy that does not answer
  2  wrong usage, or a configuration that must not be run

SIGNALS of a running proxy
  SIGHUP            reads the configuration again; a bad one changes nothing
  SIGUSR1           opens the access log anew, after it was rotated
  SIGUSR2           starts the program again from its path, which takes over; the old one finishes what it has
  SIGTERM, SIGQUIT  stops accepting, finishes what runs (at most `shutdown_timeout`), ends
  SIGINT            ends now, as does a second of the two above

FILES
  Every key with its default is in config/full.toml, explained in config/REFERENCE.md; `ringway schema` is for editors.";

pub(super) const RING: &str = "\
The numbers count keys, not requests: a key that takes a tenth of the traffic is one key.

EXAMPLES
  ringway ring -c ringway.toml                             share of each endpoint, imbalance, memory, build time
  ringway ring -c ringway.toml --upstream cache --json     the same of one upstream, for scripts
  ringway ring -c ringway.toml --svg ring.svg              and a picture";

pub(super) const PLAN: &str = "\
Tells, before anybody is asked to serve by it, which share of the key space a new file moves, from whom and to whom, and how much \
of that is more than the new shares need. Nothing is bound, sent or changed. The share is exact unless `vnodes`, `probes`, `seed` or \
`algorithm` change, which moves nearly everything.

EXAMPLES
  ringway plan /etc/ringway/ringway.toml new.toml
  ringway plan old.toml new.toml --max-moved 5%; case $? in 0|3) echo fine ;; *) exit 1 ;; esac
  ringway plan old.toml new.toml --json | jq .moved
  ringway plan old.toml new.toml --log access.log.gz      and of real traffic
  ringway plan --admin http://127.0.0.1:9900 new.toml     against what runs, and of its traffic of now

EXIT CODES
  0  nothing moves
  3  something moves, and not more than --max-moved
  4  more than --max-moved
  2  wrong usage, or one of the files must not be run
  1  the proxy cannot be asked, the log cannot be read, or not one of its requests could be told";

pub(super) const REPLAY: &str = "\
Reads the log once, in little memory, and tells for each configuration how busy each endpoint would have been, what caches would have \
answered, what the load bound would have sent on, and which keys are the hottest. Health is not known from a log: everybody is up. Keys made \
of fields are in Ringway's own JSON log alone, as hashes; they hold for another configuration with the same seed.

EXAMPLES
  ringway replay -c ringway.toml --log access.log
  ringway replay -c old.toml -c new.toml --log access.log.gz --cache-size 64GiB
  zcat access.log.*.gz | ringway replay -c ringway.toml --log - --json";

pub(super) const RUN: &str = "\
The file is watched: save it, and the change is taken up whole or not at all. What the program says of itself goes to standard \
error, the access log to standard output, unless [log] says otherwise.

EXAMPLES
  ringway run -c /etc/ringway/ringway.toml
  ringway run --upgrade -c /etc/ringway/ringway.toml
                                                   in place of the one that runs; needs `upgrade_socket` in [server]
  ADDRESS=10.0.0.7:80 ringway run -c ringway.toml  with address = \"${ADDRESS}\" in the file";

pub(super) const CHECK: &str = "\
Each problem is told as FILE:LINE:COLUMN, with what to write instead. Binds nothing, starts nothing.

EXAMPLES
  ringway check -c ringway.toml && systemctl reload ringway
  ringway -t -c ringway.toml                       the same, for hands used to nginx";

pub(super) const DEMO: &str = "\
Prints addresses and commands to try. Ctrl-C ends it.

EXAMPLES
  ringway demo
  ringway demo --port 0 --admin-port 0             on any free ports";

pub(super) const EXPLAIN: &str = "\
Names the route, the key and which alternative gave it, its hash, the owner, and all candidates in order with what each would be \
skipped for. With -c it is what the file says; with --admin it is what the running proxy would do now, health included.

EXAMPLES
  ringway explain -c ringway.toml https://shop.example.com/cart?id=7
  ringway explain -c ringway.toml /cart -H 'cookie: sid=abc' -X POST --client-ip 10.1.2.3
  ringway explain --admin http://127.0.0.1:9900 /cart --json
  ringway explain --admin http://127.0.0.1:9900 /cart --at 12:03     who owned it then, by the last 100 changes";

pub(super) const STATUS: &str = "\
EXAMPLES
  ringway status
  ringway status --ready                           prints nothing; exit code 1 unless /readyz is 200, for probes
  ringway status --json | jq '.upstreams[].endpoints[].state'";

pub(super) const RELOAD: &str = "\
Does what saving the file or SIGHUP does, and says what came of it: what moved, or what is wrong.

EXAMPLES
  ringway reload || echo 'the old configuration stays'
  ringway reload --force                           whatever guards say";

pub(super) const APPROVE: &str = "\
A change that takes more away than `transition.guard` allows is held, and the last good one stays, until somebody who knows better says so. \
`ringway status` shows what is held, and why. Members that are missing and wait for `discovery.settle` go at once, too.

EXAMPLES
  ringway approve                                  everything that is held
  ringway approve cache                            members of one upstream alone";

pub(super) const DRAIN: &str = "\
A drained endpoint owns its keys as before; its candidates serve them meanwhile, at once or, with `transition.ramp`, one key after the \
other: --wait waits for the last one. Weight 0 in the file is what lasts.

EXAMPLES
  ringway drain c1
  ringway drain cache/c1 --wait --timeout 2m && systemctl stop cache";

pub(super) const UNDRAIN: &str = "\
EXAMPLES
  ringway undrain cache/c1";

pub(super) const REGISTER: &str = "\
Runs beside a server and keeps it in the store while both run: registered anew when the store or the lease is lost, taken back on
SIGTERM and Ctrl-C, gone by itself within lease_ttl (Consul: session_ttl,
ZooKeeper: session_timeout) when this program is killed. It does not ask whether the
server is well: health checks of the proxies do.

EXAMPLES
  ringway register -c ringway.toml --store etcd --upstream cache --id c1 --address 10.0.0.1:8080";

pub(super) const SCHEMA: &str = "\
Editors that know JSON Schema for TOML (taplo, VS Code's Even Better TOML) complete keys and show their documentation.

EXAMPLES
  ringway schema > ringway.schema.json
  and as the first line of ringway.toml:  #:schema ./ringway.schema.json";

pub(super) const COMPLETIONS: &str = "\
EXAMPLES
  ringway completions bash > /etc/bash_completion.d/ringway
  ringway completions zsh > \"${fpath[1]}/_ringway\"
  ringway completions fish > ~/.config/fish/completions/ringway.fish";
