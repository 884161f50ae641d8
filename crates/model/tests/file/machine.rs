//! Files and a session that are made up.

use std::collections::BTreeMap;

use upbeat_model::file::{Context, Parsed, Resolver, Source, Unread, parse, resolve};

/// A small machine: files by their absolute paths, and the variables of a session.
#[derive(Default)]
pub(super) struct Machine {
    files: BTreeMap<&'static str, &'static str>,
    session: BTreeMap<&'static str, &'static str>,
    profiles: Vec<String>,
    env_files: Vec<String>,
}

impl Resolver for Machine {
    fn read(&self, path: &str) -> Result<String, Unread> {
        match self.files.get(path) {
            Some(&"(a directory)") => Err(Unread::Unreadable("it is a directory".to_owned())),
            Some(text) => Ok((*text).to_owned()),
            None => Err(Unread::Missing),
        }
    }

    fn variable(&self, name: &str) -> Option<String> {
        self.session.get(name).map(|value| (*value).to_owned())
    }

    fn shown(&self, path: &str) -> String {
        path.trim_start_matches("/srv/shop/").to_owned()
    }

    fn names(&self) -> Vec<String> {
        self.session.keys().map(|name| (*name).to_owned()).collect()
    }
}

impl Machine {
    pub(super) fn with(files: &[(&'static str, &'static str)]) -> Self {
        Self { files: files.iter().copied().collect(), ..Self::default() }
    }

    pub(super) fn session(mut self, variables: &[(&'static str, &'static str)]) -> Self {
        self.session = variables.iter().copied().collect();
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

    fn sources<'s>(&'s self, names: &[&'s str]) -> Vec<Source<'s>> {
        let source = |name: &&'s str| Source { name, text: self.files[format!("/srv/shop/{name}").as_str()] };
        names.iter().map(source).collect()
    }

    fn context(&self) -> Context<'_> {
        let context = Context::new("/srv/shop", "shop", self);
        Context { env_files: &self.env_files, profiles: &self.profiles, ..context }
    }

    pub(super) fn parse(&self, names: &[&str]) -> Result<Parsed, String> {
        parse(&self.sources(names), &self.context()).map_err(|errors| errors.to_string())
    }

    /// What the files come to, as text; or every error. And what is noted.
    pub(super) fn tell(&self, names: &[&str]) -> String {
        match resolve(&self.sources(names), &self.context()) {
            Ok(resolved) => {
                let notes: String = resolved.notes.iter().map(|note| format!("note: {note}\n")).collect();
                let text = serde_json::to_string_pretty(&resolved.document).expect("JSON");
                // What is shown, read again, is shown again.
                let again = Source { name: "again.json", text: &text };
                let nowhere = |_: &str| None;
                let again = resolve(&[again], &Context::new("/elsewhere", "other", &nowhere));
                let again = again.unwrap_or_else(|errors| panic!("{errors}\n{text}"));
                assert_eq!(again.document, resolved.document);
                assert!(crate::schema::accepts(&resolved.document), "{text}");
                format!("{notes}{text}")
            }
            Err(errors) => errors.to_string(),
        }
    }
}
