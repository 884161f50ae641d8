//! What every answer keeps to, whatever the files are: asked of each file these tests read.
//!
//! * An answer comes: there is a document or there are errors, never both and never neither.
//! * An error points into its file, between two characters, and says nothing a terminal obeys.
//! * A document read again, elsewhere and with nobody's variables, is the same document; the project
//!   it declares is the same project.
//! * What a file declares is what `validate` lets pass.

use std::collections::BTreeSet;

use upbeat_model::Diagnostic;
use upbeat_model::file::{Context, ERRORS_MAX, Errors, Resolved, Source, parse, resolve, validate};

/// What the files come to, after it was held against the laws above.
pub(super) fn answer(sources: &[Source<'_>], context: &Context<'_>) -> Result<Resolved, Errors> {
    let resolved = resolve(sources, context);
    let parsed = parse(sources, context);
    match &resolved {
        Err(errors) => {
            errors_are_sound(errors);
            let refused = parsed.expect_err("what cannot be shown cannot be run");
            errors_are_sound(&refused);
        }
        Ok(resolved) => {
            notes_are_sound(&resolved.notes);
            // Where all services have profiles, and nobody asked for one, there is no project to run.
            if resolved.document["services"].as_object().is_some_and(|services| services.is_empty()) {
                return Ok(resolved.clone());
            }
            reads_again(resolved, context, parsed.map(|parsed| parsed.project));
        }
    }
    resolved
}

fn reads_again(resolved: &Resolved, context: &Context<'_>, project: Result<upbeat_model::Project, Errors>) {
    let text = serde_json::to_string_pretty(&resolved.document).expect("JSON");
    let again = [Source { name: "again.json", text: &text }];
    let nowhere = |_: &str| None;
    let elsewhere =
        Context { interpolate: context.interpolate, ..Context::new("/elsewhere", "other", &nowhere) };
    let document = resolve(&again, &elsewhere).unwrap_or_else(|errors| panic!("{errors}\n{text}"));
    assert_eq!(document.document, resolved.document, "read again it is another document");
    // What a config or a secret holds is read where it is.
    let here = Context { profiles: &[], ..*context };
    match (project, parse(&again, &here)) {
        (Ok(project), Ok(again)) => {
            assert_eq!(again.project, project, "read again it is another project\n{text}");
            assert_eq!(validate(&project), Ok(()), "{text}");
        }
        (Err(errors), Err(again)) => {
            errors_are_sound(&errors);
            // Names stand in another order in the document.
            let said = |errors: &Errors| {
                errors.diagnostics.iter().map(|error| error.message.clone()).collect::<BTreeSet<_>>()
            };
            assert_eq!(said(&again), said(&errors), "read again it is refused for something else");
        }
        (Ok(_), Err(errors)) => panic!("read again it is refused: {errors}\n{text}"),
        (Err(errors), Ok(_)) => panic!("it was refused before: {errors}\n{text}"),
    }
}

pub(super) fn errors_are_sound(errors: &Errors) {
    assert!((1..=ERRORS_MAX).contains(&errors.diagnostics.len()), "{} errors", errors.diagnostics.len());
    for error in &errors.diagnostics {
        is_sound(error);
        let text = errors.sources.get(&error.file).map_or("", String::as_str);
        assert!(text.get(error.span.clone()).is_some(), "outside of its file: {error:?}");
        if let Some(line) = error.line.checked_sub(1) {
            let line = text.split('\n').nth(line as usize).expect("the line is there");
            assert!(error.column as usize <= line.chars().count() + 1, "{error:?}");
        }
    }
}

fn notes_are_sound(notes: &[Diagnostic]) {
    assert!(notes.len() <= ERRORS_MAX + 1, "{} notes", notes.len());
    notes.iter().for_each(is_sound);
}

fn is_sound(said: &Diagnostic) {
    let text = format!("{said} {}", said.label.as_deref().unwrap_or_default());
    assert!(!text.contains(moves), "{text:?} plays tricks on a terminal");
    assert!(!said.message.is_empty(), "{said:?}");
}

/// Characters that a terminal obeys, or that make text look like another one: of control, of
/// direction, without a width.
pub(super) fn moves(c: char) -> bool {
    let ranges = ['\u{200b}'..='\u{200f}', '\u{2028}'..='\u{202e}', '\u{2060}'..='\u{206f}'];
    c.is_control() || matches!(c, '\u{61c}' | '\u{feff}') || ranges.iter().any(|range| range.contains(&c))
}
