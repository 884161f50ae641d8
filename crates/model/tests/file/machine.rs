//! Files and a session that are made up.

use std::collections::BTreeMap;

use upbeat_model::file::{Context, Parsed, Resolver, Source, Unread, parse};

use super::answer::answer;

/// A small machine: files by their absolute paths, and the variables of a session.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    pub(super) files: BTreeMap<String, String>,
    pub(super) session: BTreeMap<String, String>,
    pub(super) profiles: Vec<String>,
    pub(super) env_files: Vec<String>,
    /// `${…}` stays as it is.
    pub(super) raw: bool,
    /// What every other file says; nothing, where there is no other.
    pub(super) others: Option<String>,
}

impl Resolver for Machine {
    fn read(&self, path: &str) -> Result<String, Unread> {
        match self.files.get(path).map(String::as_str) {
            Some("(a directory)") => Err(Unread::Unreadable("it is a directory".to_owned())),
            Some(text) => Ok(text.to_owned()),
            None => self.others.clone().ok_or(Unread::Missing),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.session.get(name).cloned()
    }

    fn shown(&self, path: &str) -> String {
        path.trim_start_matches("/srv/shop/").to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.session.keys().cloned().collect()
    }
}

impl Machine {
    pub(super) fn with(files: &[(&str, &str)]) -> Self {
        Self { files: owned(files), ..Self::default() }
    }

    pub(super) fn session(mut self, variables: &[(&str, &str)]) -> Self {
        self.session = owned(variables);
        self
    }

    pub(super) fn profiles(mut self, profiles: &[&str]) -> Self {
        self.profiles = profiles.iter().map(|profile| (*profile).to_owned()).collect();
        self
    }

    pub(super) fn env_files(mut self, paths: &[&str]) -> Self {
        self.env_files = paths.iter().map(|path| (*path).to_owned()).collect();
        self
    }

    /// Those of its files that lie in `/srv/shop` and are called so.
    pub(super) fn sources<'s>(&'s self, names: &[&'s str]) -> Vec<Source<'s>> {
        let source =
            |name: &&'s str| Source { name, text: &self.files[format!("/srv/shop/{name}").as_str()] };
        names.iter().map(source).collect()
    }

    pub(super) fn context(&self) -> Context<'_> {
        let context = Context::new("/srv/shop", "shop", self);
        Context { env_files: &self.env_files, profiles: &self.profiles, interpolate: !self.raw, ..context }
    }

    pub(super) fn parse(&self, names: &[&str]) -> Result<Parsed, String> {
        parse(&self.sources(names), &self.context()).map_err(|errors| errors.to_string())
    }

    /// What the files come to, as text; or every error. And what is noted.
    pub(super) fn tell(&self, names: &[&str]) -> String {
        match answer(&self.sources(names), &self.context()) {
            Ok(resolved) => {
                let notes: String = resolved.notes.iter().map(|note| format!("note: {note}\n")).collect();
                let text = serde_json::to_string_pretty(&resolved.document).expect("JSON");
                format!("{notes}{text}")
            }
            Err(errors) => errors.to_string(),
        }
    }
}

fn owned(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}
