//! The page about settings, made from their table.

use std::fmt::Write as _;

use super::SYSTEM_FILE;
use super::table::{SETTINGS, TABLES};

/// `docs/settings.md`.
pub fn markdown() -> String {
    let mut page = format!(
        "# Settings of the daemon\n\n\
         Made from the program itself; a test keeps it up to date.\n\n\
         `upbeat serve` takes each of its settings from the last of these places that says something:\n\n\
         1. the default,\n\
         2. `{SYSTEM_FILE}`,\n\
         3. `$XDG_CONFIG_HOME/upbeat/config.toml`, or `~/.config/upbeat/config.toml`,\n\
         4. a variable of the environment,\n\
         5. a flag.\n\n\
         `upbeat serve --print-settings` shows each with its value and where that came from, and starts \
         nothing. A key that is not listed here is refused with its place. An empty text means that the \
         setting is not set, whatever a weaker place says. They are read when the daemon starts; ending it \
         (`upbeat serve --stop`) and starting it again stops no service.\n"
    );
    for (table, words) in TABLES {
        let _ = write!(page, "\n## `[{table}]`\n\n{words}\n");
        for setting in SETTINGS.iter().filter(|setting| setting.table == *table) {
            let _ = write!(page, "\n### `{}`\n\n{}.\n\n", setting.key, setting.words);
            let default = if setting.default.is_empty() { "not set" } else { setting.default };
            let _ = writeln!(page, "* written as {}", setting.kind.expected());
            let _ = writeln!(
                page,
                "* default: {}",
                if default == "not set" { default.into() } else { format!("`{default}`") }
            );
            if let Some(variable) = setting.variable() {
                let _ = writeln!(page, "* variable: `{variable}`");
            }
            if let Some(flag) = setting.flag {
                let _ = writeln!(page, "* flag: `{flag}`");
            }
        }
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_of_settings_is_what_the_program_says() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
        if std::env::var_os("UPDATE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == markdown(),
            "docs/settings.md is out of date: run `UPDATE_DOCS=1 cargo test -p upbeat page`"
        );
    }
}
