//! Commands: arguments, help, exit codes. Each command's work is in its own file.
pub mod admin;
pub mod check;
pub mod demo;
pub mod door;
pub mod drain;
pub mod explain;
mod help;
mod log_file;
pub mod picture;
pub mod plan;
pub mod register;
pub mod replay;
pub mod ring;
pub mod run;
mod say;
pub mod schema;

use crate::base::units::ByteSize;
use crate::base::units::Ratio;
use crate::base::units::parse_duration;
use crate::base::units::parse_share;
use crate::base::units::parse_size;
use clap::Args;
use clap::Parser;
use clap::Subcommand;
use clap_complete::Shell;
use door::DoorArgs;
use say::complain;
use std::net::IpAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

/// Everything went well.
pub const OK: u8 = 0;
/// It failed while running.
pub const FAILED: u8 = 1;
/// The usage or the configuration is wrong.
pub const WRONG: u8 = 2;

/// A layer-7 load-balancing reverse proxy for cache and service fleets: each key always at the same endpoint.
#[derive(Debug, Parser)]
#[command(name = "ringway", version, args_conflicts_with_subcommands = true, arg_required_else_help = true)]
#[command(after_long_help = help::RINGWAY)]
struct Cli {
    /// The configuration to run (or, with -t, to check)
    #[arg(short = 'c', long = "config", value_name = "FILE", global = false)]
    config: Option<PathBuf>,
    /// Check the configuration and end, as `check` does
    #[arg(short = 't', requires = "config")]
    test: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the proxy
    #[command(after_long_help = help::RUN)]
    Run {
        /// The configuration
        #[arg(short = 'c', long = "config", value_name = "FILE")]
        config: PathBuf,
        /// Take over from the proxy that runs, by its `server.upgrade_socket`, without a connection lost
        #[arg(long)]
        upgrade: bool,
    },
    /// Run a proxy with three toy origins on loopback, nothing to configure
    #[command(after_long_help = help::DEMO)]
    Demo {
        /// Where the proxy listens; 0 takes any free port
        #[arg(long, default_value_t = 8080)]
        port: u16,
        /// Where its admin interface listens; 0 takes any free port
        #[arg(long, default_value_t = 9900)]
        admin_port: u16,
    },
    /// Tell everything that is wrong with a configuration, or what it amounts to
    #[command(after_long_help = help::CHECK)]
    Check {
        /// The configuration
        #[arg(short = 'c', long = "config", value_name = "FILE")]
        config: PathBuf,
    },
    /// Tell which endpoint a request goes to, and why
    #[command(after_long_help = help::EXPLAIN)]
    Explain(ExplainArgs),
    /// Tell what moves when one configuration follows another
    #[command(after_long_help = help::PLAN)]
    Plan(PlanArgs),
    /// Play an access log through configurations: balance, hits of caches, hot keys
    #[command(after_long_help = help::REPLAY)]
    Replay(ReplayArgs),
    /// Tell how evenly each upstream's keys are shared out, and draw it
    #[command(after_long_help = help::RING)]
    Ring(RingArgs),
    /// Show a running proxy's upstreams and endpoints
    #[command(after_long_help = help::STATUS)]
    Status {
        #[command(flatten)]
        args: AdminArgs,
        /// Print nothing; the exit code says whether it is ready
        #[arg(long)]
        ready: bool,
    },
    /// Have a running proxy read its configuration again
    #[command(after_long_help = help::RELOAD)]
    Reload {
        #[command(flatten)]
        args: AdminArgs,
        /// Whatever guards say, and let through everything else that is held
        #[arg(long)]
        force: bool,
    },
    /// Let through what guards hold: members that would be too many to go or move, a configuration with `guard_config`
    #[command(after_long_help = help::APPROVE)]
    Approve {
        #[command(flatten)]
        args: AdminArgs,
        /// Only members of this upstream
        #[arg(value_name = "UPSTREAM")]
        upstream: Option<String>,
    },
    /// Send an endpoint away: it finishes what it has and gets no new requests, until `undrain` or the proxy's end
    #[command(after_long_help = help::DRAIN)]
    Drain {
        #[command(flatten)]
        which: EndpointArgs,
        /// Wait until no request is on its way at the endpoint
        #[arg(long)]
        wait: bool,
        /// With --wait: give up after this; the endpoint goes on draining
        #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = parse_duration)]
        timeout: Duration,
    },
    /// Take a drained endpoint back
    #[command(after_long_help = help::UNDRAIN)]
    Undrain(EndpointArgs),
    /// Hold a membership in a store for any server, until SIGTERM
    #[command(after_long_help = help::REGISTER)]
    Register(RegisterArgs),
    /// Print the JSON Schema of the configuration
    #[command(after_long_help = help::SCHEMA)]
    Schema,
    /// Print a script that completes commands and options in a shell
    #[command(after_long_help = help::COMPLETIONS)]
    Completions {
        /// The shell
        shell: Shell,
    },
}

/// What `explain` takes.
#[derive(Debug, Args)]
pub struct ExplainArgs {
    /// The request's URL, or its path
    url: String,
    /// Explain by this configuration, offline
    #[arg(short = 'c', long = "config", value_name = "FILE", conflicts_with = "admin")]
    config: Option<PathBuf>,
    /// Explain by the running proxy with this admin address
    #[arg(long, value_name = "URL", required_unless_present = "config")]
    admin: Option<String>,
    #[command(flatten)]
    door: DoorArgs,
    /// A field of the request, "name: value"; may be repeated
    #[arg(short = 'H', long = "header", value_name = "FIELD")]
    headers: Vec<String>,
    /// The request's method
    #[arg(short = 'X', long = "method", default_value = "GET")]
    method: String,
    /// The client's address
    #[arg(long, default_value = "127.0.0.1")]
    client_ip: IpAddr,
    /// With --admin: who owned the key at that moment, "2026-11-25T12:03:00Z", "12:03" (UTC) or "5m" (ago)
    #[arg(long, value_name = "TIME", conflicts_with = "config", allow_hyphen_values = true)]
    at: Option<String>,
    /// The listener the request comes in by; the first one if not given
    #[arg(long, value_name = "NAME")]
    listener: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `plan` takes.
#[derive(Debug, Args)]
#[command(override_usage = "ringway plan [OPTIONS] OLD NEW\n       ringway plan [OPTIONS] --admin URL NEW")]
pub struct PlanArgs {
    /// The configuration that is, and the one that will be; the latter alone with --admin
    #[arg(value_name = "FILE", required = true, num_args = 1..=2)]
    files: Vec<PathBuf>,
    /// Compare with what the proxy with this admin address has, and tell how much of its traffic of now moves
    #[arg(long, value_name = "URL")]
    admin: Option<String>,
    #[command(flatten)]
    door: DoorArgs,
    /// An access log: tells as well how much of its traffic moves; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "admin")]
    log: Option<PathBuf>,
    /// How much may move, of keys, of the log's requests and of those of now, "5%": more is exit code 4
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    max_moved: Option<Ratio>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `replay` takes.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The configuration; several are told side by side
    #[arg(short = 'c', long = "config", value_name = "FILE", required = true)]
    configs: Vec<PathBuf>,
    /// The access log: JSON of Ringway, common or combined, also compressed by gzip; `-` is standard input
    #[arg(long, value_name = "FILE")]
    log: PathBuf,
    /// Has each endpoint be a cache of this size, "1GiB"
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    cache_size: Option<ByteSize>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `ring` takes.
#[derive(Debug, Args)]
pub struct RingArgs {
    /// The configuration
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: PathBuf,
    /// Only this upstream
    #[arg(long, value_name = "NAME")]
    upstream: Option<String>,
    /// Write a picture, SVG for light and dark pages, to this file
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What `register` takes.
#[derive(Debug, Args)]
pub struct RegisterArgs {
    /// The configuration that has the store
    #[arg(short = 'c', long = "config", value_name = "FILE")]
    config: PathBuf,
    /// The store: [store.NAME]
    #[arg(long, value_name = "NAME")]
    store: String,
    /// What proxies look for: the upstream's name, or its discovery's `name`
    #[arg(long, value_name = "NAME")]
    upstream: String,
    /// The endpoint's id
    #[arg(long, value_name = "ID")]
    id: String,
    /// Where the server listens: numbers and a port
    #[arg(long, value_name = "ADDRESS")]
    address: String,
    /// Its part of the key space relative to others
    #[arg(long, default_value_t = 1)]
    weight: u32,
}

/// What commands to a running proxy take.
#[derive(Debug, Args)]
pub struct AdminArgs {
    /// The proxy's admin address
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9900")]
    admin: String,
    #[command(flatten)]
    door: DoorArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// Which endpoint of which proxy.
#[derive(Debug, Args)]
pub struct EndpointArgs {
    /// The endpoint's id; with its upstream before it when several upstreams have it
    #[arg(value_name = "[UPSTREAM/]ID")]
    endpoint: String,
    #[command(flatten)]
    proxy: AdminArgs,
}

/// Reads the arguments and does what they say.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match (cli.command, cli.config) {
        (Some(Command::Run { config, upgrade }), _) => run::run(&config, upgrade),
        (Some(Command::Check { config }), _) => Ok(check::run(&config)),
        (Some(Command::Demo { port, admin_port }), _) => demo::run(port, admin_port),
        (Some(Command::Explain(args)), _) => explain::run(&args),
        (Some(Command::Status { args, ready: true }), _) => admin::ready(&args),
        (Some(Command::Status { args, ready: false }), _) => admin::status(&args),
        (Some(Command::Plan(args)), _) => plan::run(&args),
        (Some(Command::Replay(args)), _) => replay::run(&args),
        (Some(Command::Ring(args)), _) => ring::run(&args),
        (Some(Command::Reload { args, force }), _) => admin::reload(&args, force),
        (Some(Command::Approve { args, upstream }), _) => admin::approve(&args, upstream.as_deref()),
        (Some(Command::Drain { which, wait, timeout }), _) => drain::drain(&which, wait.then_some(timeout)),
        (Some(Command::Undrain(which)), _) => drain::undrain(&which),
        (Some(Command::Register(args)), _) => register::run(&args),
        (Some(Command::Schema), _) => Ok(schema::schema()),
        (Some(Command::Completions { shell }), _) => Ok(schema::completions(shell)),
        (None, Some(config)) if cli.test => Ok(check::run(&config)),
        (None, Some(config)) => run::run(&config, false),
        (None, None) => Ok(WRONG),
    };
    match outcome {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            complain!("ringway: {error:#}");
            ExitCode::from(FAILED)
        }
    }
}

/// A runtime for whatever is not on the request path.
fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
