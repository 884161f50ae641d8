//! The reference of the command line as a page, made from the same table as the help.

use std::fmt::Write as _;

use clap::{Arg, ArgAction, Command, CommandFactory};

use super::args::Cli;
use crate::exit::ExitCode;

/// `docs/cli.md`.
pub fn markdown() -> String {
    let mut root = Cli::command();
    root.build();
    let mut page = String::from(
        "# Command line\n\n\
         Made from the program itself; a test keeps it up to date. `upbeat help COMMAND` says the same.\n\n\
         ## Global options\n\nThey may stand before or after the command, but for `-f`.\n\n",
    );
    options(&mut page, root.get_arguments());
    page.push_str("\n## Commands\n\n");
    let commands: Vec<&Command> =
        root.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help").collect();
    for command in &commands {
        let name = command.get_name();
        let _ = writeln!(page, "* [`{name}`](#upbeat-{name}): {}", text(command.get_about()));
    }
    for command in commands {
        describe(&mut page, command, "");
    }
    exit_codes(&mut page);
    page
}

fn describe(page: &mut String, command: &Command, above: &str) {
    let name = format!("{above}{}", command.get_name());
    let about = command.get_long_about().or(command.get_about());
    let depth = if above.is_empty() { "###" } else { "####" };
    let _ = write!(page, "\n{depth} upbeat {name}\n\n{}\n\n", text(about));
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage: ").replace("upbeat [OPTIONS] ", "upbeat ");
    let _ = write!(page, "```\n{usage}\n```\n");
    let own: Vec<&Arg> = command.get_arguments().filter(|arg| !arg.is_global_set()).collect();
    if own.iter().any(|arg| is_shown(arg)) {
        page.push('\n');
        options(page, own);
    }
    for below in command.get_subcommands().filter(|c| !c.is_hide_set() && c.get_name() != "help") {
        describe(page, below, &format!("{name} "));
    }
}

fn options<'a>(page: &mut String, args: impl IntoIterator<Item = &'a Arg>) {
    for arg in args.into_iter().filter(|arg| is_shown(arg)) {
        let _ = write!(page, "* {}: {}", typed(arg), text(arg.get_help()));
        let values: Vec<String> = (arg.get_possible_values().iter())
            .filter(|value| takes_value(arg) && !value.is_hide_set())
            .map(|value| match value.get_help() {
                Some(help) => format!("`{}` ({})", value.get_name(), lower(&help.to_string())),
                None => format!("`{}`", value.get_name()),
            })
            .collect();
        if !values.is_empty() {
            let _ = write!(page, ": {}", values.join(", "));
        }
        let defaults: Vec<_> = arg.get_default_values().iter().map(|v| v.to_string_lossy()).collect();
        if takes_value(arg) && !defaults.is_empty() {
            let _ = write!(page, " [default: `{}`]", defaults.join(" "));
        }
        page.push('\n');
    }
}

fn is_shown(arg: &Arg) -> bool {
    !arg.is_hide_set() && arg.get_id() != "help"
}

fn takes_value(arg: &Arg) -> bool {
    matches!(arg.get_action(), ArgAction::Set | ArgAction::Append)
}

/// `-n`, `--tail <N>`.
fn typed(arg: &Arg) -> String {
    let value = match arg.get_value_names() {
        Some([name, ..]) if takes_value(arg) => format!("<{name}>"),
        _ => String::new(),
    };
    let space = if value.is_empty() { "" } else { " " };
    match (arg.get_short(), arg.get_long()) {
        (Some(short), Some(long)) => format!("`-{short}`, `--{long}{space}{value}`"),
        (Some(short), None) => format!("`-{short}{space}{value}`"),
        (None, Some(long)) => format!("`--{long}{space}{value}`"),
        (None, None) => format!("`{value}`"),
    }
}

fn text(styled: Option<&clap::builder::StyledStr>) -> String {
    styled.map(ToString::to_string).unwrap_or_default()
}

/// As it stands within a sentence; `RFC 5424` and `JSON` do as they are.
fn lower(text: &str) -> String {
    let mut chars = text.chars();
    let is_name = |word: &str| word.chars().skip(1).any(char::is_uppercase);
    if text.split(' ').next().is_some_and(is_name) {
        return text.to_owned();
    }
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

const AS_A_SERVICE: &str = "
`up` in the foreground ends as the service did whose end is that of the app (`exit_on_end`): with its
status, or with 128 and the number of the signal.
";

fn exit_codes(page: &mut String) {
    page.push_str("\n## Exit codes\n\n| code | means |\n|---|---|\n");
    for (code, words) in ExitCode::ALL {
        let _ = writeln!(page, "| {} | {words} |", code.number());
    }
    page.push_str(AS_A_SERVICE);
    page.push_str("\n## Environment\n\n");
    for (name, words) in [
        ("NO_COLOR", "set to anything: no colours, unless `--color always`"),
        (
            "UPBEAT_STATE_DIR",
            "where the daemon keeps its state [default: `$XDG_STATE_HOME/upbeat`, for root `/var/lib/upbeat`]",
        ),
        (
            "UPBEAT_RUNTIME_DIR",
            "where its socket is [default: `$XDG_RUNTIME_DIR/upbeat`, for root `/run/upbeat`]",
        ),
        ("UPBEAT_HOST", "as `--host`"),
        ("UPBEAT_CA", "as `--ca`"),
        ("UPBEAT_TOKEN", "says who asks a daemon elsewhere; no option does, since others can read those"),
        ("UPBEAT_LOG", "`serve`: which of the daemon's own messages are written [default: `info`]"),
    ] {
        let _ = writeln!(page, "* `{name}`: {words}");
    }
    page.push_str("\nThe variables of the daemon's settings are in [settings.md](settings.md).\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/cli.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == markdown(),
            "docs/cli.md is out of date: run `UPDATE_DOCS=1 cargo test -p upbeat docs`"
        );
    }
}
