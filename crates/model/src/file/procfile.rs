//! A `Procfile`: `name: command` lines, each a service whose command a shell reads.
//!
//! As those who made the format do, every process gets the variables of `.env` beside it.

use std::collections::HashSet;

use super::arena::Arena;
use super::place::{FileId, Span};
use super::report::{Problem, Report, shown};
use super::tree::{Entry, Key, Node, Scalar, Style, Value};

/// Whether a file of this name is one.
pub(super) fn is_one(name: &str) -> bool {
    let last = name.rsplit('/').next().unwrap_or_default();
    last == "Procfile" || last.starts_with("Procfile.")
}

/// The tree of the project file that says the same. `None`: what is wrong was said.
pub(super) fn load<'a>(file: FileId, report: &mut Report<'a>) -> Option<&'a Node<'a>> {
    let text = report.sources.file(file).map_or("", |file| file.text);
    let arena = report.arena();
    let mut services: Vec<Entry<'a>> = Vec::new();
    let mut seen = HashSet::new();
    let mut start = 0;
    for line in text.split_inclusive('\n') {
        let place = |part: &str| {
            let from = start + (part.as_ptr() as usize - line.as_ptr() as usize);
            Span::new(file, from, from + part.len())
        };
        let written = line.trim();
        let (name, command) = written.split_once(':').unwrap_or((written, ""));
        let (name, command) = (name.trim(), command.trim());
        if written.is_empty() || written.starts_with('#') {
            // Nothing.
        } else if name.is_empty() || command.is_empty() || name.contains(char::is_whitespace) {
            report.error(place(written), || {
                Problem::new("This line is no `name: command`").hint("write `#` before a comment".to_owned())
            });
        } else if !seen.insert(name) {
            report.error(place(name), || {
                Problem::new(format!("Duplicate name `{}`", shown(name)))
                    .label("the second one")
                    .hint("keep one of the two".to_owned())
            });
        } else {
            let (key, value) = (place(name), service(place(command), command, arena));
            services.push(Entry { key: Key { text: name, span: key }, value });
        }
        start += line.len();
    }
    let front = Span::new(file, 0, 0);
    if services.is_empty() {
        if report.is_clean() {
            report.error(front, || {
                Problem::new("The file names no process").hint("write `web: ./web --port 8080`".to_owned())
            });
        }
        return None;
    }
    let services = arena.at(front, arena.map(&services));
    Some(map(front, &[("services", services)], arena))
}

fn service<'a>(span: Span, command: &'a str, arena: Arena<'a>) -> &'a Node<'a> {
    let text = |text| arena.at(span, Value::Scalar(Scalar { text, style: Style::Plain }));
    let env_file = map(span, &[("path", text(".env")), ("required", text("false"))], arena);
    let env_files = arena.at(span, arena.list(&[env_file]));
    map(span, &[("command", text(command)), ("shell", text("true")), ("env_file", env_files)], arena)
}

fn map<'a>(span: Span, entries: &[(&'static str, &'a Node<'a>)], arena: Arena<'a>) -> &'a Node<'a> {
    let entries = entries.iter().map(|&(text, value)| Entry { key: Key { text, span }, value });
    arena.at(span, arena.map(&entries.collect::<Vec<_>>()))
}
