//! Reads the project: the client alone looks at files and at the person's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use upbeat_model::file::{self, Context, Parsed, Resolved, Source};
use upbeat_model::{AppName, Diagnostic, Project};

use super::args::Global;
use super::disk::Disk;
use super::locate::locate;
use super::session::{Session, current_dir};
use crate::exit::ExitCode;
use crate::face::{count, visible};
use crate::failure::{Failure, FileErrors};

/// What every process is given of the person's session: enough to find programs, files and the
/// person's language, and nothing that could be a secret.
const BASE_ENVIRONMENT: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

/// Whether variables are filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Interpolate {
    Yes,
    No,
}

/// Whether what should be known about the files is said. Who only asks for the name of the app was told by the
/// command that used what they hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notes {
    Told,
    Kept,
}

/// The project of this command line. Says on standard error what else should be known.
pub(super) fn project(session: &Session, told: Notes) -> Result<Project, Failure> {
    let files = Files::of(session, told)?;
    let Parsed { mut project, notes } = files.read(Interpolate::Yes, file::parse)?;
    if told == Notes::Told {
        note(session, &notes);
    }
    let (base, unreadable) = base_environment(|name| std::env::var_os(name));
    for name in unreadable {
        session.warn(&format!("`{name}` is not UTF-8 and is not passed on to services"));
    }
    project.base_environment = base;
    Ok(project)
}

/// What the files of this command line come to.
pub(super) fn document(
    session: &Session,
    interpolate: Interpolate,
    told: Notes,
) -> Result<serde_json::Value, Failure> {
    let files = Files::of(session, told)?;
    let Resolved { mut document, notes } = files.read(interpolate, file::resolve)?;
    if told == Notes::Told {
        note(session, &notes);
    }
    if let Some(name) = &files.name {
        document["name"] = name.as_str().into();
    }
    Ok(document)
}

fn note(session: &Session, notes: &[Diagnostic]) {
    for note in notes {
        session.warn(&visible(&note.to_string()));
    }
}

/// The name of the app: `-p`, or that of the project. What its configs and secrets hold is not asked
/// for: whoever has lost them can still see what runs, and stop it.
pub(super) fn app_name(session: &Session) -> Result<AppName, Failure> {
    match asked_name(&session.global)? {
        Some(name) => Ok(name),
        None => match document(session, Interpolate::Yes, Notes::Kept) {
            Ok(document) => name_from(document["name"].as_str().unwrap_or_default()),
            // Whatever is wrong with the file, what runs can be named.
            Err(failure) if failure.hints.is_empty() => {
                Err(failure.hint("`-p NAME` names an app without its file"))
            }
            Err(failure) => Err(failure),
        },
    }
}

fn name_from(text: &str) -> Result<AppName, Failure> {
    AppName::new(text).map_err(|error| Failure::new(ExitCode::Usage, error.to_string()))
}

/// A variable of the session that says something.
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The name somebody gave the app besides its file.
fn asked_name(global: &Global) -> Result<Option<AppName>, Failure> {
    let asked = global.project_name.clone().or_else(|| variable("COMPOSE_PROJECT_NAME"));
    asked.as_deref().map(name_from).transpose()
}

/// The files of a project, and in which light they are read.
struct Files {
    /// As people would name them, and their texts.
    texts: Vec<(String, String)>,
    /// Absolute.
    dir: String,
    default_name: String,
    name: Option<AppName>,
    env_files: Vec<String>,
    profiles: Vec<String>,
    /// Where the person is.
    cwd: PathBuf,
}

impl Files {
    fn of(session: &Session, told: Notes) -> Result<Self, Failure> {
        let cwd = current_dir()?;
        let paths = paths(session, &cwd, told)?;
        Self::at(&session.global, &cwd, &paths)
    }

    fn at(global: &Global, cwd: &Path, paths: &[PathBuf]) -> Result<Self, Failure> {
        let stdin = Path::new("-");
        let mut texts = Vec::with_capacity(paths.len());
        for path in paths {
            texts.push(match path == stdin {
                true => ("standard input".to_owned(), from(std::io::stdin().lock(), "standard input")?),
                false => {
                    let name = shown(path, cwd);
                    let text = read(path, &name)?;
                    (name, text)
                }
            });
        }
        let first = paths.first().filter(|path| *path != stdin).and_then(|path| path.parent());
        let dir = match (&global.project_directory, first) {
            (Some(dir), _) => cwd.join(dir),
            (None, Some(dir)) => dir.to_owned(),
            (None, None) => cwd.to_owned(),
        };
        // `-f ../x/upbeat.yaml` makes a path that ends in `..`; its real name is what people call it.
        let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
        let default_name = real.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let env_files = match global.env_file.is_empty() {
            true => variable("COMPOSE_ENV_FILES").map(|list| list.split(',').map(PathBuf::from).collect()),
            false => Some(global.env_file.clone()),
        };
        let env_files: Vec<PathBuf> = env_files.unwrap_or_default();
        let profiles = match global.profile.is_empty() {
            true => variable("COMPOSE_PROFILES").map(|list| list.split(',').map(str::to_owned).collect()),
            false => Some(global.profile.clone()),
        };
        Ok(Self {
            texts,
            dir: utf8(&dir)?,
            default_name,
            name: asked_name(global)?,
            env_files: env_files.iter().map(|path| utf8(&cwd.join(path))).collect::<Result<_, _>>()?,
            profiles: profiles.unwrap_or_default(),
            cwd: cwd.to_owned(),
        })
    }

    fn read<T>(
        &self,
        interpolate: Interpolate,
        read: impl FnOnce(&[Source<'_>], &Context<'_>) -> Result<T, file::Errors>,
    ) -> Result<T, Failure> {
        let sources: Vec<Source<'_>> = self.texts.iter().map(|(name, text)| Source { name, text }).collect();
        let disk = Disk { variable: &|name| self.session(name), cwd: &self.cwd };
        let context = Context {
            name: self.name.as_ref(),
            env_files: &self.env_files,
            profiles: &self.profiles,
            interpolate: interpolate == Interpolate::Yes,
            ..Context::new(&self.dir, &self.default_name, &disk)
        };
        read(&sources, &context).map_err(|errors| self.failure(errors))
    }

    /// A variable of the session, and the one Compose makes up.
    fn session(&self, name: &str) -> Option<String> {
        let made_up = || match name {
            "COMPOSE_PROJECT_NAME" => self.name.as_ref().map(ToString::to_string),
            _ => None,
        };
        std::env::var(name).ok().or_else(made_up)
    }

    fn failure(&self, errors: file::Errors) -> Failure {
        let n = count(errors.diagnostics.len() + errors.more, "error");
        let first = errors.diagnostics.first().map_or("", |diagnostic| &diagnostic.file);
        let is_all = errors.diagnostics.iter().all(|diagnostic| diagnostic.file == first);
        let name = match is_all && !first.is_empty() {
            true => format!("`{first}`"),
            false => "the project".to_owned(),
        };
        in_files(&name, errors.sources, errors.diagnostics, &n)
    }
}

fn utf8(path: &Path) -> Result<String, Failure> {
    path.to_str().map(str::to_owned).ok_or_else(|| {
        let message = format!("the path of the project is not UTF-8: `{}`", path.display());
        Failure::new(ExitCode::Usage, message).hint("rename the directory")
    })
}

/// Which files there are: those that were named, or the first that is found with what goes over it.
fn paths(session: &Session, cwd: &Path, told: Notes) -> Result<Vec<PathBuf>, Failure> {
    let global = &session.global;
    let named: Vec<&PathBuf> = global.file.iter().chain(&global.short_file).collect();
    if !named.is_empty() {
        let stdin = Path::new("-");
        if named.iter().filter(|path| **path == stdin).count() > 1 {
            return Err(Failure::new(ExitCode::Usage, "standard input can be read once"));
        }
        let absolute = |path: &PathBuf| if path == stdin { path.clone() } else { cwd.join(path) };
        return Ok(named.into_iter().map(absolute).collect());
    }
    if let Some(list) = variable("COMPOSE_FILE") {
        let separator = variable("COMPOSE_PATH_SEPARATOR").unwrap_or_else(|| ":".to_owned());
        return Ok(list.split(&separator).map(|path| cwd.join(path)).collect());
    }
    let start = match &global.project_directory {
        Some(dir) => cwd.join(dir),
        None => cwd.to_owned(),
    };
    let found = locate(&start)?;
    if let [other, ..] = found.passed_over[..]
        && told == Notes::Told
    {
        session.warn(&format!("`{other}` is passed over: `{}` comes first", shown(&found.path, cwd)));
    }
    Ok(std::iter::once(found.path).chain(found.overrides).collect())
}

/// As the person would name it.
fn shown(path: &Path, cwd: &Path) -> String {
    path.strip_prefix(cwd).unwrap_or(path).display().to_string()
}

fn in_files(name: &str, sources: BTreeMap<String, String>, diagnostics: Vec<Diagnostic>, n: &str) -> Failure {
    let failure = Failure::new(ExitCode::Usage, format!("{name} has {n}; nothing was changed"));
    Failure { files: Some(Box::new(FileErrors { diagnostics, sources })), ..failure }
}

/// The text of the file. Errors: it cannot be read, is too large, or is not UTF-8 (with the place).
fn read(path: &Path, name: &str) -> Result<String, Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::new(ExitCode::Usage, format!("cannot read `{name}`")).because(error)
    };
    from(std::fs::File::open(path).map_err(|e| cannot(&e))?, name)
}

fn from(input: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    input
        .take(file::TEXT_MAX as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(ExitCode::Usage, format!("cannot read `{name}`")).because(&error))?;
    if bytes.len() > file::TEXT_MAX {
        let message = format!("`{name}` is larger than {} MiB", file::TEXT_MAX >> 20);
        return Err(Failure::new(ExitCode::Usage, message)
            .hint("a project file is a page or a few; is this the right file?"));
    }
    String::from_utf8(bytes).map_err(|error| not_utf8(name, &error))
}

fn not_utf8(name: &str, error: &std::string::FromUtf8Error) -> Failure {
    let at = error.utf8_error().valid_up_to();
    // The replacement for what is no text stands at the same place and is three bytes long.
    let text = String::from_utf8_lossy(error.as_bytes()).into_owned();
    let before = &text[..at];
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let clamp = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
    let diagnostic = Diagnostic {
        file: name.to_owned(),
        span: at..at + '\u{fffd}'.len_utf8(),
        line: clamp(before.matches('\n').count() + 1),
        column: clamp(before[line_start..].chars().count() + 1),
        message: "this is not UTF-8".into(),
        label: Some(format!("byte 0x{:02x}", error.as_bytes()[at])),
        hint: Some("save the file as UTF-8".into()),
        trace: Vec::new(),
    };
    let sources = BTreeMap::from([(name.to_owned(), text)]);
    in_files(&format!("`{name}`"), sources, vec![diagnostic], "1 error")
}

/// What is passed on, and what cannot be because it is not UTF-8.
pub(crate) fn base_environment(
    var: impl Fn(&str) -> Option<OsString>,
) -> (BTreeMap<String, String>, Vec<&'static str>) {
    let mut base = BTreeMap::new();
    let mut unreadable = Vec::new();
    for name in BASE_ENVIRONMENT {
        match var(name).map(OsString::into_string) {
            Some(Ok(value)) => drop(base.insert(name.to_owned(), value)),
            Some(Err(_)) => unreadable.push(name),
            None => {}
        }
    }
    (base, unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Paint, error};

    fn try_load(bytes: &[u8], global: &Global) -> Result<Project, String> {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("Shop");
        std::fs::create_dir(&dir).unwrap();
        let path = dir.join("upbeat.yaml");
        std::fs::write(&path, bytes).unwrap();
        let files = Files::at(global, &dir, &[path]);
        match files.and_then(|files| files.read(Interpolate::Yes, file::parse)) {
            Ok(parsed) => Ok(parsed.project),
            Err(failure) => {
                assert_eq!(failure.exit, ExitCode::Usage);
                Err(error::text(&failure, Paint::Plain))
            }
        }
    }

    #[test]
    fn a_project_takes_the_name_of_its_directory_unless_told_otherwise() {
        let text = b"services: { web: { command: [\"x\"] } }\n";
        assert_eq!(try_load(text, &Global::default()).unwrap().name.as_str(), "shop");
        let named = Global { project_name: Some("other".into()), ..Global::default() };
        assert_eq!(try_load(text, &named).unwrap().name.as_str(), "other");
        let text = b"name: mine\nservices: { web: { image: x } }\n";
        let project = try_load(text, &named).unwrap();
        assert_eq!(project.name.as_str(), "other");
        let container = project.services["web"].container.as_ref().unwrap();
        assert_eq!(container.networks()[0].network.name, "other_default", "its networks are its own");
    }

    #[test]
    fn every_error_of_a_file_is_shown_at_its_place() {
        let text =
            b"services:\n  web:\n    comand: [\"x\"]\n    depends_on: [dbb]\n  db: { command: [\"x\"] }\n";
        insta::assert_snapshot!(try_load(text, &Global::default()).unwrap_err(), @r#"
        error: Unknown key `services.web.comand`
         --> upbeat.yaml:3:5
          |
        3 |     comand: ["x"]
          |     ^^^^^^ not a key of a service
          |
          = hint: did you mean `command`?

        error: Service `web` depends on `dbb`, which is not declared
         --> upbeat.yaml:4:18
          |
        4 |     depends_on: [dbb]
          |                  ^^^
          |
          = hint: did you mean `db`?

        error: `upbeat.yaml` has 2 errors; nothing was changed
        "#);
    }

    #[test]
    fn a_file_that_is_no_text_is_refused_at_its_place() {
        insta::assert_snapshot!(try_load(b"services:\n  \xf6l: {}\n", &Global::default()).unwrap_err(), @"
        error: This is not UTF-8
         --> upbeat.yaml:2:3
          |
        2 |   �l: {}
          |   ^ byte 0xf6
          |
          = hint: save the file as UTF-8

        error: `upbeat.yaml` has 1 error; nothing was changed
        ");
    }

    #[test]
    fn a_file_without_end_is_read_no_further_than_the_bound() {
        let failure = read(Path::new("/dev/zero"), "zero").unwrap_err();
        assert!(failure.message.unwrap().contains("larger than"));
        let failure = read(Path::new("/"), "/").unwrap_err();
        assert_eq!(failure.message.unwrap(), "cannot read `/`");
    }

    #[test]
    fn only_harmless_variables_are_passed_on() {
        use std::os::unix::ffi::OsStringExt;
        let (base, unreadable) = base_environment(|name| match name {
            "PATH" => Some("/bin".into()),
            "HOME" => Some(OsString::from_vec(vec![b'/', 0xff])),
            "AWS_SECRET_ACCESS_KEY" => Some("secret".into()),
            _ => None,
        });
        assert_eq!(base, BTreeMap::from([("PATH".to_owned(), "/bin".to_owned())]));
        assert_eq!(unreadable, ["HOME"]);
    }
}
