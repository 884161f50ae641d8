//! The rules for what surrounds a process, and for templates.

use super::report::shown;
use super::rules::{Broken, Rule, user};
use super::{render, scalar, templates, words};
use crate::ids::ServiceName;
use crate::project::{PrivateFile, Resources, Ulimit};

pub(super) fn ulimit_name(name: &str) -> Rule {
    if Ulimit::number(name).is_some() {
        return Ok(());
    }
    let known = Ulimit::KNOWN.map(|(name, _)| name);
    let hint =
        words::did_you_mean(name, known).unwrap_or_else(|| format!("write one of {}", words::quoted(&known)));
    Err(Broken::new(format!("has no such limit: `{}`", shown(name))).hint(hint))
}

pub(super) fn ulimit(limit: Ulimit) -> Rule {
    let height = |limit: i64| u64::try_from(limit).unwrap_or(u64::MAX);
    if limit.soft < -1 || limit.hard < -1 {
        return Err(Broken::new("must be at least -1").hint("-1 is no limit"));
    }
    if height(limit.soft) > height(limit.hard) {
        return Err(Broken::new("has a `soft` limit above its `hard` one").hint("raise `hard`"));
    }
    Ok(())
}

/// A part of a processor, in thousandths.
pub(super) fn cpus(text: &str) -> Result<u64, Broken> {
    let thousandths = scalar::number(text)? * 1000.0;
    if thousandths > 0.0 && thousandths < 1.0 {
        return Err(Broken::new("is less than a thousandth of a processor").hint("write at least `0.001`"));
    }
    // Exact up to 2^53, as `number` says.
    Ok(thousandths.round() as u64)
}

pub(super) fn cpus_text(text: &str) -> Rule {
    cpus(text).map(drop)
}

pub(super) fn resources(resources: &Resources) -> Rule {
    let Resources { cpus, memory, memory_reservation, pids } = *resources;
    match [cpus, memory, memory_reservation, pids].contains(&Some(0)) {
        true => Err(Broken::new("has a limit of 0").hint("leave it out where nothing is limited")),
        false => Ok(()),
    }
}

pub(super) fn oom_score(score: i32) -> Rule {
    match (-1000..=1000).contains(&score) {
        true => Ok(()),
        false => Err(Broken::new(format!("must be from -1000 to 1000, not {score}"))),
    }
}

/// A name or number of a group.
pub(super) fn group(text: &str) -> Rule {
    match text.contains(':') {
        true => Err(Broken::new(format!("is not a group: `{}`", shown(text)))),
        false => user(text),
    }
}

/// What a config or secret is called for a process, which finds it in a directory of its own.
pub(super) fn private_name(name: &str) -> Rule {
    const NAME_MAX: usize = 255;
    let hint = "a process finds it in `$CREDENTIALS_DIRECTORY`, by a plain name";
    if name.contains('/') {
        return Err(Broken::new(format!("has a target that is a path: `{}`", shown(name))).hint(hint));
    }
    if name.is_empty()
        || name == "."
        || name == ".."
        || name.len() > NAME_MAX
        || name.contains(char::is_control)
    {
        return Err(
            Broken::new(format!("has a target that is no name of a file: `{}`", shown(name))).hint(hint)
        );
    }
    Ok(())
}

pub(super) fn private_files(files: &[PrivateFile]) -> Rule {
    let size = |file: &PrivateFile| file.content.reveal().len();
    if let Some(file) = files.iter().find(|file| size(file) > PrivateFile::SIZE_MAX) {
        let (name, most) = (shown(&file.name), PrivateFile::SIZE_MAX >> 20);
        return Err(Broken::new(format!("has a config or secret of more than {most} MiB: `{name}`")));
    }
    if files.iter().map(size).sum::<usize>() > PrivateFile::SUM_MAX {
        let most = PrivateFile::SUM_MAX >> 20;
        return Err(Broken::new(format!("has configs and secrets of more than {most} MiB together")));
    }
    match files.iter().find(|file| file.mode & !0o777 != 0) {
        Some(file) => Err(Broken::new(format!("has a file with a bad mode: `{}`", shown(&file.name)))),
        None => Ok(()),
    }
}

pub(super) fn template_name(name: &str) -> Rule {
    match name.contains(templates::AT) {
        true => Err(Broken::new(format!("has a name with an `@`: `{}`", shown(name)))
            .hint("what makes one of a template stands behind the `@` of a service's name")),
        false => ServiceName::new(name)
            .map(drop)
            .map_err(|error| Broken::new(format!("has a bad name: `{}`", shown(name))).hint(error.why())),
    }
}

/// What can be written as a name in a template, and means nothing else there.
pub(super) fn parameter_name(name: &str) -> Rule {
    const TAKEN: [&str; 16] = [
        "and", "else", "false", "False", "if", "in", "is", "loop", "none", "None", "not", "or", "range",
        "self", "true", "True",
    ];
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    if !name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') || !name.chars().all(is_part) {
        return Err(Broken::new(format!("has a bad name: `{}`", shown(name)))
            .hint("only letters, digits and `_` are allowed, and no digit at the start"));
    }
    if render::GIVEN.contains(&name) || TAKEN.contains(&name) {
        return Err(Broken::new(format!("has a name that means something else: `{name}`"))
            .hint("call it something else"));
    }
    Ok(())
}
