//! From files, variables and flags to values, each with the place it came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};
use upbeat_model::{Diagnostic, WebhookName};

use super::table::{Kind, SETTINGS, Setting, TABLES, WEBHOOK, WEBHOOKS, variables_of};
use super::{Settings, Shown, Source, Value, WebhookSaid, check};
use crate::failure::FileErrors;

/// A wrong name is still meant when at most a third of its letters are wrong.
fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let best = known.min_by_key(|other| strsim::damerau_levenshtein(name, other))?;
    (strsim::damerau_levenshtein(name, best) <= (name.chars().count() / 3).max(1)).then_some(best)
}

/// Where values come from, the weakest first.
#[derive(Debug, Default)]
pub struct Sources {
    /// Files that are there: name and text.
    pub files: Vec<(String, String)>,
    /// All variables whose names begin with `UPBEAT_`.
    pub variables: Vec<(String, String)>,
    /// Flags that were typed: which, and what was said.
    pub flags: Vec<(&'static str, String)>,
}

/// What is known so far.
struct Reading {
    found: BTreeMap<String, (Value, Source)>,
    /// Where each was named first, by its name.
    webhooks: BTreeMap<WebhookName, Source>,
    errors: FileErrors,
}

/// Reads all of it. Errors: everything that is wrong, each with its place.
pub fn read(sources: Sources) -> Result<Settings, FileErrors> {
    let mut reading =
        Reading { found: BTreeMap::new(), webhooks: BTreeMap::new(), errors: FileErrors::default() };
    for (file, text) in sources.files {
        reading.file(&file, &text);
        reading.errors.sources.insert(file, text);
    }
    for (name, text) in sources.variables {
        reading.variable(&name, &text);
    }
    for (flag, text) in sources.flags {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.flag == Some(flag)) {
            reading.said(setting, &text, Source::Flag(flag));
        }
    }
    let mut shown = |setting: &Setting, name: String| {
        let (value, source) = reading.found.remove(&name).unwrap_or_else(|| {
            (Value::read(setting.kind, setting.default).unwrap_or(Value::Nothing), Source::Default)
        });
        Shown { name, value, source }
    };
    let (of_webhook, plain): (Vec<&Setting>, Vec<&Setting>) =
        SETTINGS.iter().partition(|setting| setting.is_of_webhook());
    let plain = plain.into_iter().map(|setting| shown(setting, setting.name())).collect();
    let webhooks = reading.webhooks.into_iter().map(|(name, source)| {
        let table = format!("{WEBHOOKS}.{name}");
        let own = of_webhook.iter().map(|setting| shown(setting, format!("{table}.{}", setting.key)));
        WebhookSaid { name, source, shown: own.collect() }
    });
    let settings = Settings::of(plain, webhooks.collect());
    if reading.errors.diagnostics.is_empty() {
        reading.errors.diagnostics = check::all(&settings);
    }
    match reading.errors.diagnostics.is_empty() {
        true => Ok(settings),
        false => Err(reading.errors),
    }
}

/// Line and column of a byte, in characters from 1.
fn place(text: &str, at: usize) -> (u32, u32) {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    (u32::try_from(line).unwrap_or(u32::MAX), u32::try_from(column).unwrap_or(u32::MAX))
}

/// A file while it is read.
struct File<'a> {
    name: &'a str,
    text: &'a str,
}

impl File<'_> {
    fn wrong(&self, span: Range<usize>, message: String, hint: Option<String>) -> Diagnostic {
        let (line, column) = place(self.text, span.start);
        let file = self.name.to_owned();
        Diagnostic { file, span, line, column, message, label: None, hint, trace: Vec::new() }
    }

    fn source(&self, span: &Range<usize>) -> Source {
        let (line, column) = place(self.text, span.start);
        Source::File { file: self.name.to_owned(), line, column }
    }
}

impl Reading {
    fn file(&mut self, name: &str, text: &str) {
        let file = File { name, text };
        let before = self.errors.diagnostics.len();
        match DeTable::parse(text) {
            Ok(table) => self.table(&file, "", table.get_ref()),
            Err(error) => {
                let message = error.message().trim().replace('\n', ", ");
                self.wrong(file.wrong(error.span().unwrap_or(0..0), message, None));
            }
        }
        // The table has them by name; who repairs them goes from top to bottom.
        self.errors.diagnostics[before..].sort_by_key(|wrong| wrong.span.start);
    }

    fn wrong(&mut self, wrong: Diagnostic) {
        self.errors.diagnostics.push(wrong);
    }

    fn table(&mut self, file: &File<'_>, path: &str, table: &DeTable<'_>) {
        for (key, value) in table {
            let name =
                if path.is_empty() { key.get_ref().to_string() } else { format!("{path}.{}", key.get_ref()) };
            if path == WEBHOOKS {
                self.webhook(file, key, value);
                continue;
            }
            let setting = SETTINGS.iter().find(|setting| setting.name() == name);
            let is_table = |known: &str| known == name || known.starts_with(&format!("{name}."));
            match (setting, value.get_ref()) {
                (Some(setting), value_given) => {
                    self.value(file, setting, name, value_given, value.span());
                }
                (None, DeValue::Table(inner)) if TABLES.iter().any(|(known, _)| is_table(known)) => {
                    self.table(file, &name, inner);
                }
                (None, _) if TABLES.iter().any(|(known, _)| is_table(known)) => {
                    let message = format!("`{name}` is a table, and this is none");
                    self.wrong(file.wrong(
                        value.span(),
                        message,
                        Some(format!("write `[{name}]` above its keys")),
                    ));
                }
                (None, _) => self.wrong(unknown(file, path, key)),
            }
        }
    }

    fn webhook(&mut self, file: &File<'_>, key: &Spanned<Cow<'_, str>>, value: &Spanned<DeValue<'_>>) {
        let name = match WebhookName::new(key.get_ref()) {
            Ok(name) => name,
            Err(bad) => return self.wrong(file.wrong(key.span(), bad.to_string(), None)),
        };
        let table = format!("{WEBHOOKS}.{name}");
        let DeValue::Table(inner) = value.get_ref() else {
            let message = format!("`{table}` is a table, and this is none");
            let hint = format!("write `[{table}]` above its keys");
            return self.wrong(file.wrong(value.span(), message, Some(hint)));
        };
        self.webhooks.entry(name).or_insert_with(|| file.source(&key.span()));
        for (key, value) in inner {
            match SETTINGS.iter().find(|setting| setting.is_of_webhook() && setting.key == key.get_ref()) {
                Some(setting) => {
                    let name = format!("{table}.{}", setting.key);
                    self.value(file, setting, name, value.get_ref(), value.span());
                }
                None => self.wrong(unknown(file, &table, key)),
            }
        }
    }

    fn value(
        &mut self,
        file: &File<'_>,
        setting: &Setting,
        name: String,
        given: &DeValue<'_>,
        span: Range<usize>,
    ) {
        let value = match (setting.kind, given) {
            (Kind::Flag, DeValue::Boolean(flag)) => Some(Value::Flag(*flag)),
            (Kind::List, DeValue::Array(items)) => {
                let texts = items.iter().map(|item| match item.get_ref() {
                    DeValue::String(text) => Some(text.to_string()),
                    _ => None,
                });
                texts.collect::<Option<Vec<_>>>().map(Value::List)
            }
            (Kind::Address | Kind::Path | Kind::Text, DeValue::String(text)) => {
                Value::read(setting.kind, text)
            }
            _ => None,
        };
        match value {
            Some(value) => {
                let source = file.source(&span);
                self.found.insert(name, (value, source));
            }
            None => {
                let message = format!("`{name}` has to be {}", setting.kind.expected());
                self.wrong(file.wrong(span, message, None));
            }
        }
    }

    /// One of ours, or one that could only be meant for one of our tables.
    fn variable(&mut self, name: &str, text: &str) {
        if let Some(setting) = SETTINGS.iter().find(|setting| setting.variable().as_deref() == Some(name)) {
            return self.said(setting, text, Source::Variable(name.to_owned()));
        }
        if name.starts_with(&variables_of(WEBHOOKS)) {
            let message = format!("there is no setting of the variable `{name}`");
            let hint = "webhooks are set in files only: `[webhooks.NAME]`".to_owned();
            return self.wrong(check::nowhere(message, Some(hint)));
        }
        if !TABLES.iter().any(|(table, _)| name.starts_with(&variables_of(table))) {
            return;
        }
        let known: Vec<String> = SETTINGS.iter().filter_map(Setting::variable).collect();
        let meant = nearest(name, known.iter().map(String::as_str));
        let hint = meant.map(|meant| format!("did you mean `{meant}`?"));
        self.wrong(check::nowhere(format!("there is no setting of the variable `{name}`"), hint));
    }

    /// In a variable or a flag, where all values are texts.
    fn said(&mut self, setting: &Setting, text: &str, source: Source) {
        match Value::read(setting.kind, text) {
            Some(value) => drop(self.found.insert(setting.name(), (value, source))),
            None => {
                let expected =
                    setting.kind.expected().replace(" in quotes", "").replace("`\"", "`").replace("\"`", "`");
                self.wrong(check::nowhere(format!("`{source}` has to be {expected}"), None));
            }
        }
    }
}

fn unknown(file: &File<'_>, path: &str, key: &Spanned<Cow<'_, str>>) -> Diagnostic {
    let message = match path {
        "" => format!("there is no setting `{}`", key.get_ref()),
        path => format!("there is no setting `{}` in `{path}`", key.get_ref()),
    };
    let in_here = |name: &'static str| match path {
        "" => name.split('.').next(),
        path => name.strip_prefix(path)?.strip_prefix('.')?.split('.').next(),
    };
    let is_webhook = path.strip_prefix(WEBHOOKS).is_some_and(|rest| rest.starts_with('.'));
    let pattern = if is_webhook { WEBHOOK } else { path };
    let keys = SETTINGS.iter().filter(|setting| setting.table == pattern).map(|setting| setting.key);
    let known = TABLES.iter().filter_map(|(table, _)| in_here(table)).chain(keys);
    let hint = match nearest(key.get_ref(), known) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => "`upbeat serve --print-settings` lists them all".to_owned(),
    };
    file.wrong(key.span(), message, Some(hint))
}
