//! Errors in files: the line itself, a caret under the place, and what to do.

use std::collections::BTreeMap;
use std::ops::Range;

use annotate_snippets::{AnnotationKind, Group, Level, Origin, Renderer, Snippet};
use upbeat_model::Diagnostic;

use super::{Paint, count, sentence, visible};

/// More errors than this in one go are counted, not shown: a person repairs a few at a time.
const SHOWN_MAX: usize = 20;

/// A longer line is not quoted: a file without line ends would fill the screen.
const LINE_MAX_BYTES: usize = 400;

/// Width the texts are laid out for where there is no terminal, so that nothing is cut.
const WIDE: usize = 4_096;

/// Every error of a file, in the order of places. `sources`: the texts by file name; without one
/// the place is named but not quoted.
pub fn text(diagnostics: &[Diagnostic], sources: &BTreeMap<String, String>, paint: Paint) -> String {
    let mut text = String::new();
    for diagnostic in diagnostics.iter().take(SHOWN_MAX) {
        let source = sources.get(&diagnostic.file);
        text.push_str(&one(diagnostic, source.map(String::as_str), paint));
        text.push_str("\n\n");
    }
    if let more @ 1.. = diagnostics.len().saturating_sub(SHOWN_MAX) {
        text.push_str(&format!("… and {}\n\n", count(more, "more error")));
    }
    text
}

fn one(diagnostic: &Diagnostic, source: Option<&str>, paint: Paint) -> String {
    let message = sentence(&visible(&diagnostic.message));
    let file = visible(&diagnostic.file);
    let title = Level::ERROR.primary_title(message);
    let quoted = source.and_then(|source| quote(source, diagnostic));
    let mut group: Group<'_> = match &quoted {
        Some((lines, span)) => {
            let caret =
                AnnotationKind::Primary.span(span.clone()).label(diagnostic.label.as_deref().map(visible));
            let snippet = Snippet::source(*lines).line_start(diagnostic.line as usize).path(file);
            title.element(snippet.annotation(caret))
        }
        None if file.is_empty() => Group::with_title(title),
        None => title.element(
            Origin::path(file).line(diagnostic.line as usize).char_column(diagnostic.column as usize),
        ),
    };
    if let Some(hint) = &diagnostic.hint {
        group = group.element(Level::HELP.with_name("hint").message(visible(hint)));
    }
    for step in &diagnostic.trace {
        let place = format!("{}:{}:{}", visible(&step.file), step.line, step.column);
        group = group.element(Level::NOTE.message(format!("{} at {place}", visible(&step.what))));
    }
    let renderer = match paint {
        Paint::Plain => Renderer::plain(),
        Paint::Coloured => Renderer::styled(),
    };
    renderer.term_width(WIDE).render(&[group])
}

/// The line the error starts in, and where in it. `None` where there is nothing to quote.
fn quote<'a>(source: &'a str, diagnostic: &Diagnostic) -> Option<(&'a str, Range<usize>)> {
    let at = diagnostic.span.start.min(source.len());
    let before = source.get(..at)?;
    let start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let end = source[start..].find('\n').map_or(source.len(), |newline| start + newline);
    if end - start > LINE_MAX_BYTES {
        return None;
    }
    // A caret stands under one line, also when the value spans several.
    let stop = diagnostic.span.end.clamp(at, end.max(at));
    let line = source.get(start..end)?;
    line.get(at - start..stop - start)?;
    Some((line, at - start..stop - start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOURCE: &str = "services:\n  web:\n    comand: [\"./web\"]\n    depends_on: [größe]\n";

    fn diagnostic(needle: &str, message: &str) -> Diagnostic {
        let start = SOURCE.find(needle).unwrap();
        let before = &SOURCE[..start];
        Diagnostic {
            file: "upbeat.yaml".into(),
            span: start..start + needle.len(),
            line: 1 + u32::try_from(before.matches('\n').count()).unwrap(),
            column: 1 + u32::try_from(before.rsplit('\n').next().unwrap().chars().count()).unwrap(),
            message: message.into(),
            label: None,
            hint: None,
            trace: Vec::new(),
        }
    }

    fn check(diagnostics: &[Diagnostic], source: &str) -> String {
        text(diagnostics, &BTreeMap::from([("upbeat.yaml".into(), source.into())]), Paint::Plain)
    }

    #[test]
    fn each_error_shows_its_place_and_its_remedy() {
        let unknown = Diagnostic {
            label: Some("not a key of a service".into()),
            hint: Some("did you mean `command`?".into()),
            ..diagnostic("comand", "unknown key `comand`")
        };
        let shown = check(&[unknown, diagnostic("größe", "unknown service `größe`")], SOURCE);
        insta::assert_snapshot!(shown, @r#"
        error: Unknown key `comand`
         --> upbeat.yaml:3:5
          |
        3 |     comand: ["./web"]
          |     ^^^^^^ not a key of a service
          |
          = hint: did you mean `command`?

        error: Unknown service `größe`
         --> upbeat.yaml:4:18
          |
        4 |     depends_on: [größe]
          |                  ^^^^^
        "#);
    }

    #[test]
    fn colours_come_only_when_wanted() {
        let sources = BTreeMap::from([("upbeat.yaml".into(), SOURCE.into())]);
        let one = [diagnostic("comand", "unknown key `comand`")];
        assert!(text(&one, &sources, Paint::Coloured).contains('\u{1b}'));
        assert!(!text(&one, &sources, Paint::Plain).contains('\u{1b}'));
    }

    #[test]
    fn a_place_that_cannot_be_quoted_is_still_named() {
        let far = Diagnostic { span: 5_000..5_001, line: 1, column: 5_001, ..diagnostic("web", "bad value") };
        insta::assert_snapshot!(check(&[far], &"x".repeat(10_000)), @"
        error: Bad value
        --> upbeat.yaml:1:5001
        ");
        let past = Diagnostic { span: 9_999..10_000, ..diagnostic("web", "unexpected end") };
        assert!(check(&[past], "short").contains("Unexpected end"));
        let torn = Diagnostic { span: 1..2, line: 1, column: 1, ..diagnostic("web", "bad value") };
        assert!(check(&[torn], "ö").contains("Bad value"));
    }

    #[test]
    fn an_error_that_stands_in_no_file_names_none() {
        let nowhere = Diagnostic {
            file: String::new(),
            hint: Some("look again".into()),
            ..diagnostic("web", "the file of variables `x.env` cannot be read")
        };
        insta::assert_snapshot!(check(&[nowhere], SOURCE), @"
        error: The file of variables `x.env` cannot be read
         |
         = hint: look again
        ");
    }

    #[test]
    fn a_hostile_line_commands_nothing() {
        let source = "a: \u{1b}[2Jx\n";
        let odd = Diagnostic { span: 3..8, line: 1, column: 4, ..diagnostic("web", "bad\u{1b}[2Jvalue") };
        assert!(!check(&[odd], source).contains('\u{1b}'));
    }

    #[test]
    fn many_errors_are_counted() {
        let many = vec![diagnostic("web", "bad value"); SHOWN_MAX + 3];
        let shown = check(&many, SOURCE);
        assert_eq!(shown.matches("Bad value").count(), SHOWN_MAX);
        assert!(shown.ends_with("… and 3 more errors\n\n"), "{shown}");
    }
}
