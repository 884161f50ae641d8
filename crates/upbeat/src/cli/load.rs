//! Reads the project: the client alone looks at files and at the person's environment.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Read;
use std::path::{Path, PathBuf};

use upbeat_model::file::{self, Context, Source};
use upbeat_model::{AppName, Diagnostic, Project};

use super::args::Global;
use super::locate::locate;
use super::session::{Session, current_dir};
use crate::exit::ExitCode;
use crate::face::{count, visible};
use crate::failure::{Failure, FileErrors};

/// What every process is given of the person's session: enough to find programs, files and the
/// person's language, and nothing that could be a secret.
const BASE_ENVIRONMENT: [&str; 10] =
    ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR", "XDG_RUNTIME_DIR"];

/// The project of this command line. Says on standard error what else should be known.
pub(super) fn project(session: &Session) -> Result<Project, Failure> {
    let cwd = current_dir()?;
    let path = path(session, &cwd)?;
    let (mut project, notes) = load(&session.global, &cwd, &path, &|name| std::env::var(name).ok())?;
    for note in notes {
        session.warn(&visible(&note.to_string()));
    }
    let (base, unreadable) = base_environment(|name| std::env::var_os(name));
    for name in unreadable {
        session.warn(&format!("`{name}` is not UTF-8 and is not passed on to services"));
    }
    project.base_environment = base;
    Ok(project)
}

/// The name of the app: `-p`, or that of the project.
pub(super) fn app_name(session: &Session) -> Result<AppName, Failure> {
    match &session.global.project_name {
        Some(name) => name_from(name),
        None => match project(session) {
            Ok(project) => Ok(project.name),
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

fn path(session: &Session, cwd: &Path) -> Result<PathBuf, Failure> {
    let global = &session.global;
    if let Some(path) = global.file.as_ref().or(global.short_file.as_ref()) {
        return Ok(cwd.join(path));
    }
    let start = match &global.project_directory {
        Some(dir) => cwd.join(dir),
        None => cwd.to_owned(),
    };
    let found = locate(&start)?;
    if let [other, ..] = found.passed_over[..] {
        session.warn(&format!("`{other}` is passed over: `{}` comes first", shown(&found.path, cwd)));
    }
    Ok(found.path)
}

/// As the person would name it.
fn shown(path: &Path, cwd: &Path) -> String {
    path.strip_prefix(cwd).unwrap_or(path).display().to_string()
}

fn load(
    global: &Global,
    cwd: &Path,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(Project, Vec<Diagnostic>), Failure> {
    let name = shown(path, cwd);
    let text = read(path, &name)?;
    let dir = match (&global.project_directory, path.parent()) {
        (Some(dir), _) => cwd.join(dir),
        (None, Some(dir)) => dir.to_owned(),
        (None, None) => cwd.to_owned(),
    };
    let Some(project_dir) = dir.to_str() else {
        let message = format!("the path of the project is not UTF-8: `{}`", dir.display());
        return Err(Failure::new(ExitCode::Usage, message).hint("rename the directory"));
    };
    // `-f ../x/upbeat.yaml` makes a path that ends in `..`; its real name is what people call it.
    let real = dir.canonicalize().unwrap_or_else(|_| dir.clone());
    let default_name = match &global.project_name {
        Some(name) => name_from(name)?.to_string(),
        None => real.file_name().unwrap_or_default().to_string_lossy().into_owned(),
    };
    let context = Context { project_dir, default_name: &default_name, environment };
    match file::parse(Source { name: &name, text: &text }, &context) {
        Ok(mut parsed) => {
            if let Some(name) = &global.project_name {
                parsed.project.name = name_from(name)?;
            }
            Ok((parsed.project, parsed.notes))
        }
        Err(errors) => {
            let n = count(errors.diagnostics.len() + errors.more, "error");
            Err(in_file(&name, text, errors.diagnostics, &n))
        }
    }
}

fn in_file(name: &str, text: String, diagnostics: Vec<Diagnostic>, n: &str) -> Failure {
    let failure = Failure::new(ExitCode::Usage, format!("`{name}` has {n}; nothing was changed"));
    let files = FileErrors { diagnostics, sources: BTreeMap::from([(name.to_owned(), text)]) };
    Failure { files: Some(Box::new(files)), ..failure }
}

/// The text of the file. Errors: it cannot be read, is too large, or is not UTF-8 (with the place).
fn read(path: &Path, name: &str) -> Result<String, Failure> {
    let cannot = |error: &std::io::Error| {
        Failure::new(ExitCode::Usage, format!("cannot read `{name}`")).because(error)
    };
    let file = std::fs::File::open(path).map_err(|e| cannot(&e))?;
    let mut bytes = Vec::new();
    file.take(file::TEXT_MAX as u64 + 1).read_to_end(&mut bytes).map_err(|e| cannot(&e))?;
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
    };
    in_file(name, text, vec![diagnostic], "1 error")
}

/// What is passed on, and what cannot be because it is not UTF-8.
fn base_environment(var: impl Fn(&str) -> Option<OsString>) -> (BTreeMap<String, String>, Vec<&'static str>) {
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
        match load(global, &dir, &path, &|_| None) {
            Ok((project, _)) => Ok(project),
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
