//! What can be typed to run a command beside a service, and to speak with the service itself.

use clap::Args;

/// `exec`.
#[derive(Clone, Debug, Args)]
pub struct ExecArgs {
    /// Beside which
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Program and arguments; what follows is theirs
    #[arg(value_name = "COMMAND", required = true, num_args = 1.., trailing_var_arg = true)]
    pub command: Vec<String>,
    /// Without a terminal, where there is one: bytes go through as they are
    #[arg(short = 'T', long = "no-tty", conflicts_with = "terminal")]
    pub no_terminal: bool,
    /// With a terminal, which is so where it is typed on one
    #[arg(short = 't', long = "tty", hide = true)]
    pub terminal: bool,
    /// With standard input, which is always so
    #[arg(short = 'i', long, hide = true)]
    pub interactive: bool,
    /// Refused: nothing outlives who asked for it
    #[arg(short = 'd', long, hide = true)]
    pub detach: bool,
    /// A variable besides those of the service; `NAME` alone is given the value it has here. May be
    /// given several times
    #[arg(short, long = "env", value_name = "NAME=VALUE", value_parser = variable)]
    pub env: Vec<(String, Option<String>)>,
    /// As whom: a name or a number, with `:group` if wanted [default: that of the service]
    #[arg(short, long, value_name = "USER")]
    pub user: Option<String>,
    /// In which directory [default: that of the service]
    #[arg(short, long, value_name = "PATH")]
    pub workdir: Option<String>,
    /// Beside which copy, from 1 [default: the first that runs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub index: Option<u32>,
}

/// `attach`.
#[derive(Clone, Debug, Args)]
pub struct AttachArgs {
    /// To which
    #[arg(value_name = "SERVICE")]
    pub service: String,
    /// Listen alone: nothing that is typed or piped in is sent
    #[arg(long)]
    pub no_stdin: bool,
    /// Only `false`: signals to this command are never passed on. Ctrl-C that is typed at a terminal the service
    /// has is the service's
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true", hide_default_value = true, action = clap::ArgAction::Set)]
    pub sig_proxy: bool,
    /// To which copy, from 1 [default: the first that runs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub index: Option<u32>,
}

/// `NAME=VALUE`, or `NAME`.
fn variable(text: &str) -> Result<(String, Option<String>), String> {
    let (name, value) = match text.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (text, None),
    };
    match name.is_empty() {
        true => Err("expected a name and a value, such as `DEBUG=1`".to_owned()),
        false => Ok((name.to_owned(), value)),
    }
}
