//! From what was typed to services that exist, or to a suggestion.

use std::collections::BTreeSet;

use upbeat_model::ServiceName;

use crate::exit::ExitCode;
use crate::failure::Failure;

/// More names than this are counted, not listed.
const LISTED_MAX: usize = 8;

/// Each name as a service of `known`, without repetitions. Errors: the first that is none.
pub(super) fn services<'a>(
    typed: &[String],
    app: &str,
    known: impl IntoIterator<Item = &'a ServiceName>,
) -> Result<Vec<ServiceName>, Failure> {
    let known: Vec<&ServiceName> = known.into_iter().collect::<BTreeSet<_>>().into_iter().collect();
    let mut services = Vec::new();
    for name in typed {
        match known.iter().find(|service| service.as_str() == name) {
            Some(service) if services.contains(*service) => {}
            Some(service) => services.push((*service).clone()),
            None => return Err(unknown(name, app, &known)),
        }
    }
    Ok(services)
}

fn unknown(name: &str, app: &str, known: &[&ServiceName]) -> Failure {
    let is_index = |index: &str| !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
    if let Some((service, index)) = name.rsplit_once('-')
        && is_index(index)
        && known.iter().any(|k| k.as_str() == service)
    {
        return Failure::new(ExitCode::Usage, format!("`{name}` is one copy; commands take whole services"))
            .hint(format!("`{service}` means all its copies"));
    }
    let failure = Failure::new(ExitCode::NotFound, format!("there is no service `{name}` in `{app}`"));
    match nearest(name, known) {
        Some(service) => failure.hint(format!("did you mean `{service}`?")),
        None => failure.hint(listed(known)),
    }
}

/// Of shorter names one letter is half of it: whoever typed `b` did not mean `a`.
const COMPARED_MIN: usize = 3;

/// The known name that was most likely meant: at most a third of its letters are wrong.
fn nearest<'a>(name: &str, known: &[&'a ServiceName]) -> Option<&'a ServiceName> {
    if name.chars().count() < COMPARED_MIN {
        return None;
    }
    let distance = |service: &&ServiceName| strsim::damerau_levenshtein(name, service.as_str());
    let best = known.iter().copied().min_by_key(distance)?;
    (distance(&best) <= (name.chars().count() / 3).max(1)).then_some(best)
}

fn listed(known: &[&ServiceName]) -> String {
    let names: Vec<String> = known.iter().take(LISTED_MAX).map(|name| format!("`{name}`")).collect();
    match (names.len(), known.len().saturating_sub(LISTED_MAX)) {
        (0, _) => "it has no services".into(),
        (_, 0) => format!("it has {}", names.join(", ")),
        (_, more) => format!("it has {} and {more} more", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Paint, error, examples::service};

    fn check(typed: &[&str]) -> String {
        let typed: Vec<String> = typed.iter().map(|t| (*t).to_owned()).collect();
        let known = ["api-2", "db", "web", "worker"].map(service);
        match services(&typed, "shop", &known) {
            Ok(services) => services.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" "),
            Err(failure) => format!("{:?}\n{}", failure.exit, error::text(&failure, Paint::Plain)),
        }
    }

    #[test]
    fn known_services_are_taken_once_each() {
        assert_eq!(check(&["web", "db", "web"]), "web db");
        assert_eq!(check(&["api-2"]), "api-2");
        assert_eq!(check(&[]), "");
    }

    #[test]
    fn a_typing_mistake_gets_a_suggestion() {
        insta::assert_snapshot!(check(&["web", "wroker"]), @"
        NotFound
        error: There is no service `wroker` in `shop`
        hint: did you mean `worker`?
        ");
        // As near to `db` as can be, and yet nothing like it.
        for short in ["d", "dc"] {
            assert!(check(&[short]).ends_with("hint: it has `api-2`, `db`, `web`, `worker`\n"), "{short}");
        }
        insta::assert_snapshot!(check(&["kafka"]), @"
        NotFound
        error: There is no service `kafka` in `shop`
        hint: it has `api-2`, `db`, `web`, `worker`
        ");
    }

    #[test]
    fn one_copy_is_not_a_service() {
        insta::assert_snapshot!(check(&["web-2"]), @"
        Usage
        error: `web-2` is one copy; commands take whole services
        hint: `web` means all its copies
        ");
    }
}
