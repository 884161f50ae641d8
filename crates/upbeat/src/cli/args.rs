//! Everything that can be typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{OsStringValueParser, PossibleValuesParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, Parser, Subcommand, ValueEnum};
use upbeat_model::rollout::EntityId;
use upbeat_model::{EventWord, ServiceName};

use crate::logging::LogFormat;

pub use super::access_args::*;
pub use super::config_args::*;
pub use super::device_args::*;
pub use super::exec_args::*;
use super::length::patience;
pub use super::look_args::*;
use super::plan_args::PlanArgs;
pub use super::rollout_args::*;
pub use super::unit_args::*;
pub use super::up_args::*;
pub use super::webhook_args::*;

/// Starts your services in the right order and keeps them running.
#[derive(Debug, Parser)]
#[command(name = "upbeat", disable_version_flag = true, arg_required_else_help = true, max_term_width = 100)]
#[command(subcommand_required = true, infer_subcommands = false)]
pub struct Cli {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// A variable that is empty says nothing: so scripts unset what they did not set. An option does.
    pub(super) fn without_empty_variables(mut self, matches: &ArgMatches) -> Self {
        let is_variable = |id| matches.value_source(id) == Some(ValueSource::EnvVariable);
        let Global { host, ca, .. } = &mut self.global;
        host.take_if(|host| host.is_empty() && is_variable("host"));
        ca.take_if(|ca| ca.as_os_str().is_empty() && is_variable("ca"));
        self
    }
}

/// What every command takes.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// The project file, `-` for standard input; several go over each other [default:
    /// `upbeat.yaml` or `compose.yaml`, here or in a directory above]
    #[arg(long, global = true, value_name = "PATH")]
    pub file: Vec<PathBuf>,
    /// As `--file`; stands before the command, since `logs -f` and `events -f` follow
    #[arg(short = 'f', value_name = "PATH", conflicts_with = "file")]
    pub short_file: Vec<PathBuf>,
    /// A file of variables for `${…}` in the project file; may be given several times [default:
    /// `.env` beside it]
    #[arg(long, global = true, value_name = "PATH")]
    pub env_file: Vec<PathBuf>,
    /// Also run services of this profile; `*` for all
    #[arg(long, global = true, value_name = "NAME")]
    pub profile: Vec<String>,
    /// The name of the app [default: `name` in the file, or that of its directory]
    #[arg(short, long, global = true, value_name = "NAME")]
    pub project_name: Option<String>,
    /// What relative paths in the file are relative to [default: its directory]
    #[arg(long, global = true, value_name = "PATH")]
    pub project_directory: Option<PathBuf>,
    /// When to use colours; `NO_COLOR` is honoured too
    #[arg(long, global = true, value_name = "WHEN", value_enum, default_value_t)]
    pub color: When,
    /// How to print the answer: `table`, `wide` or `json`
    #[arg(short, long, global = true, value_name = "FORMAT", default_value = "table", value_parser = format)]
    pub output: Format,
    /// Print only what was asked for: no progress, no notes
    #[arg(short, long, global = true)]
    pub quiet: bool,
    /// Ask the daemon there, `https://host:port`, and not the one of this machine; `UPBEAT_TOKEN` says
    /// who asks
    #[arg(long, global = true, value_name = "URL", env = "UPBEAT_HOST", hide_env = true)]
    pub host: Option<String>,
    /// The certificate (PEM) to trust there, instead of those this machine trusts
    #[arg(long, global = true, value_name = "PATH", env = "UPBEAT_CA", hide_env = true, value_parser = path())]
    pub ca: Option<PathBuf>,
}

/// When to use colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum When {
    /// On a terminal
    #[default]
    Auto,
    /// Also when piped
    Always,
    /// Not at all
    Never,
}

/// How answers are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Table,
    /// For people, with ids and counters.
    Wide,
    /// For programs: the types of the API as they are.
    Json,
}

fn format(text: &str) -> Result<Format, String> {
    match text {
        "table" => Ok(Format::Table),
        "wide" => Ok(Format::Wide),
        "json" => Ok(Format::Json),
        "yaml" => Err("YAML is not offered as an output; `json` is, and it is YAML as well".into()),
        _ => Err("expected `table`, `wide` or `json`".into()),
    }
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the project, or bring what runs in line with its file
    ///
    /// Without `-d` it follows the logs. Ctrl-C then stops the app in reverse order, a second one
    /// kills it at once, a third leaves it to the daemon. When this command itself is killed, or its
    /// terminal closed, nothing stops.
    Up(UpArgs),
    /// Build the images of services that have a `build`, by the container engine
    Build(BuildArgs),
    /// Stop everything of the app, dependents first, and forget it
    Down(DownArgs),
    /// List slots: each copy of each service, its state, and why
    Ps(PsArgs),
    /// Show the output of services
    Logs(LogsArgs),
    /// Start services and what they need
    Start(ServicesArgs),
    /// Stop services, and first those that need them
    Stop(StopArgs),
    /// Stop services and start them again
    Restart(ServicesArgs),
    /// Have services read their configuration anew, by what their `reload` says
    Reload(ServicesArgs),
    /// Set how many copies of a service run
    Scale(ScaleArgs),
    /// Run a command beside a service: in its container, or in the surroundings of its process
    ///
    /// It gets what is typed or piped in, and ends with the status of the command. On a terminal the
    /// command has one, too. When this command is killed, what it has begun is killed.
    Exec(ExecArgs),
    /// Speak with a service itself: what its container prints is shown, and what is typed or piped in goes to its
    /// standard input
    ///
    /// Input needs `stdin_open`; where the service has a `tty` and this is typed at a terminal, it has
    /// that one. Ctrl-P Ctrl-Q leaves. However this command ends, the service goes on; when the service
    /// ends, this ends with its status.
    Attach(AttachArgs),
    /// Show what `up` would do, in which order and why, without doing it
    Plan(PlanArgs),
    /// Explain the state of a service, down to its cause
    Why(WhyArgs),
    /// Draw who needs whom
    Graph(GraphArgs),
    /// Show what the project's files come to: one file, every variable filled in
    Config(ConfigArgs),
    /// Show what happened
    Events(EventsArgs),
    /// Show what each slot uses: processor, memory, open files, processes
    Stats(StatsArgs),
    /// Show what the time of the last start went into
    Analyze(AnalyzeArgs),
    /// Wait until services are in a state
    Wait(WaitArgs),
    /// List the apps of this daemon
    Apps,
    /// Show all that shall run on this machine as one JSON document, or apply one
    Device(DeviceArgs),
    /// Move targets of anything to a version in batches, and back if it is bad
    Rollout(RolloutArgs),
    /// Run the daemon, or with `--stop` end it; `up` starts it by itself
    Serve(ServeArgs),
    /// Show who is told of events by requests, and whether that gets there
    Webhook(WebhookArgs),
    /// Say who may speak to the daemon over TCP
    Token(TokenArgs),
    /// Show who changed what, and whether that record is whole
    Audit(AuditArgs),
    /// Print a script that completes commands in a shell
    Completion(CompletionArgs),
    /// Show the version of this program and of the daemon
    Version,
}

/// `start`, `restart`, `reload`.
#[derive(Debug, Args)]
pub struct ServicesArgs {
    /// Which; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// `ps`.
#[derive(Debug, Args)]
pub struct PsArgs {
    /// Also slots that are stopped or completed; JSON always has them
    #[arg(short, long)]
    pub all: bool,
}

/// `logs`.
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// Which; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Go on with new lines as they come
    #[arg(short, long)]
    pub follow: bool,
    /// Only the last N lines of each slot
    #[arg(short = 'n', long, value_name = "N")]
    pub tail: Option<u64>,
    /// When each line was read, in UTC
    #[arg(short, long)]
    pub timestamps: bool,
    /// Without the name of the slot before each line
    #[arg(long)]
    pub no_prefix: bool,
}

/// `stop`.
#[derive(Debug, Args)]
pub struct StopArgs {
    /// Which; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// Without the time services are given to stop by themselves
    #[arg(long)]
    pub kill: bool,
}

/// `scale`.
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// Which, and how many: `web=3`
    #[arg(value_name = "SERVICE=N", required = true, value_parser = copies)]
    pub copies: Vec<(String, u32)>,
}

/// `why`.
#[derive(Debug, Args)]
pub struct WhyArgs {
    /// Which
    #[arg(value_name = "SERVICE")]
    pub service: String,
}

/// `graph`.
#[derive(Debug, Args)]
pub struct GraphArgs {
    /// For whom
    #[arg(long, value_enum, default_value_t)]
    pub format: GraphFormat,
}

/// For whom the graph is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum GraphFormat {
    /// A tree for the terminal
    #[default]
    Text,
    /// For Graphviz
    Dot,
    /// For Mermaid
    Mermaid,
    /// Nodes in start order, and edges
    Json,
}

/// `events`.
#[derive(Debug, Args)]
pub struct EventsArgs {
    /// Of these services; all, and those of none in particular, where none is named
    #[arg(value_name = "SERVICE", value_parser = service)]
    pub services: Vec<ServiceName>,
    /// Go on with new events as they come
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,
    /// Not before: `10m` or `7d` ago, or a moment such as `2026-03-01 14:00`, `14:00` or `2026-03-01T14:00:00Z`
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub since: Option<String>,
    /// Not after
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    pub until: Option<String>,
    /// Only of this kind; may be given several times
    #[arg(long, value_name = "KIND", value_parser = event_kind())]
    pub kind: Vec<EventWord>,
    /// Only events after this one
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub since_sequence: u64,
    /// Of all apps
    #[arg(short, long)]
    pub all: bool,
    /// Of this rollout, and of no app
    #[arg(
        long,
        value_name = "NAMESPACE/ENTITY",
        value_parser = super::rollout_args::entity,
        conflicts_with_all = ["all", "services"]
    )]
    pub rollout: Option<EntityId>,
    /// As `-o json`: one event on each line
    #[arg(long)]
    pub json: bool,
}

/// `wait`.
#[derive(Debug, Args)]
pub struct WaitArgs {
    /// Which; all where none is named
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
    /// The state
    #[arg(long = "for", value_name = "STATE", value_enum, default_value_t)]
    pub state: WaitFor,
    /// Give up after this long: `90s`, `2m`, or a number of seconds
    #[arg(long, value_name = "TIME", value_parser = patience)]
    pub timeout: Option<Duration>,
}

/// What `wait` waits for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Its health check passes; where there is none, it runs
    #[default]
    Healthy,
    /// It runs, whatever its health check says
    Running,
    /// It has ended with status 0
    Completed,
    /// It does not run
    Stopped,
}

impl std::fmt::Display for WaitFor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Healthy => "healthy",
            Self::Running => "running",
            Self::Completed => "completed",
            Self::Stopped => "stopped",
        })
    }
}

/// `serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Write a systemd unit instead, for this user or, as root, for the system
    #[arg(long, conflicts_with = "announce")]
    pub install: bool,
    /// How the daemon's own messages are written [default: text]; which of them, says `UPBEAT_LOG`
    #[arg(long, value_name = "FORMAT", value_enum, conflicts_with = "install")]
    pub log_format: Option<LogFormat>,
    /// Where they go: `stderr`, the path of a socket, `udp://HOST:PORT` or `tcp://HOST:PORT`
    /// [default: where such messages usually go]
    #[arg(long, value_name = "PLACE", conflicts_with = "install")]
    pub log_target: Option<String>,
    /// Show each setting, its value and where that came from, and start nothing
    #[arg(long, conflicts_with_all = ["announce", "install"])]
    pub print_settings: bool,
    /// End the daemon that runs, and start none; services go on
    #[arg(long, conflicts_with_all = ["announce", "install", "print_settings", "log_format", "log_target",
        "listen", "tls_cert", "tls_key"])]
    pub stop: bool,
    /// Serve the API over TCP, too: `127.0.0.1:7000`; beyond loopback with a certificate only
    #[arg(long, value_name = "ADDRESS", conflicts_with = "install")]
    pub listen: Option<String>,
    /// The certificate for that, PEM
    #[arg(long, value_name = "PATH", conflicts_with = "install")]
    pub tls_cert: Option<String>,
    /// And its private key, PEM
    #[arg(long, value_name = "PATH", conflicts_with = "install")]
    pub tls_key: Option<String>,
    /// Say `ready` on standard output when it answers
    #[arg(long, hide = true)]
    pub announce: bool,
}

/// `completion`.
#[derive(Debug, Args)]
pub struct CompletionArgs {
    /// Which shell
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

fn service(text: &str) -> Result<ServiceName, String> {
    ServiceName::new(text).map_err(|error| error.to_string())
}

/// Those there are, told in the help and completed.
fn event_kind() -> impl TypedValueParser<Value = EventWord> {
    let words = EventWord::ALL.map(EventWord::as_str);
    PossibleValuesParser::new(words).try_map(|word| word.parse::<EventWord>())
}

/// Also an empty one, which a variable may hold.
fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// `web=3`.
fn copies(text: &str) -> Result<(String, u32), String> {
    let expected = || "expected a service and a number, such as `web=3`".to_owned();
    let (service, n) = text.split_once('=').ok_or_else(expected)?;
    ServiceName::new(service).map_err(|e| e.to_string())?;
    Ok((service.to_owned(), n.parse().map_err(|_| expected())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn read(args: &[&str]) -> Result<Cli, String> {
        Cli::try_parse_from([&["upbeat"], args].concat()).map_err(|e| e.to_string())
    }

    #[test]
    fn the_table_of_commands_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn the_file_is_named_before_the_command_where_f_follows() {
        let cli = read(&["-f", "a.yaml", "logs", "-f"]).unwrap();
        assert_eq!(cli.global.short_file, [PathBuf::from("a.yaml")]);
        assert!(matches!(cli.command, Command::Logs(LogsArgs { follow: true, .. })));
        assert_eq!(read(&["up", "--file", "b.yaml"]).unwrap().global.file, [PathBuf::from("b.yaml")]);
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_words() {
        insta::assert_snapshot!(read(&["-o", "yaml", "ps"]).unwrap_err(), @"
        error: invalid value 'yaml' for '--output <FORMAT>': YAML is not offered as an output; `json` is, and it is YAML as well

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read(&["scale", "web"]).unwrap_err(), @"
        error: invalid value 'web' for '<SERVICE=N>...': expected a service and a number, such as `web=3`

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read(&["scale", "web=-1"]).unwrap_err(), @"
        error: invalid value 'web=-1' for '<SERVICE=N>...': expected a service and a number, such as `web=3`

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read(&["pss"]).unwrap_err(), @"
        error: unrecognized subcommand 'pss'

          tip: some similar subcommands exist: 'apps', 'ps'

        Usage: upbeat [OPTIONS] <COMMAND>

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read(&["wait", "--for", "ready", "web"]).unwrap_err(), @"
        error: invalid value 'ready' for '--for <STATE>'
          [possible values: healthy, running, completed, stopped]

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read(&["token", "create", "ci", "--role", "viewer", "--expires", "30"]).unwrap_err(), @"
        error: invalid value '30' for '--expires <TIME>': `30` has no unit; did you mean `30s`, `30m`, `30h` or `30d`?

        For more information, try '--help'.
        ");
        insta::assert_snapshot!(read(&["up", "--wait-timeout", "soon"]).unwrap_err(), @"
        error: invalid value 'soon' for '--wait-timeout <TIME>': expected a length of time, such as `90s` or `2m`, or a number of seconds

        For more information, try '--help'.
        ");
    }
}
