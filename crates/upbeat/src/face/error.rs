//! The end of a command that failed: what, because of what, and what to do. The only place errors
//! are drawn.

use super::{Paint, Tone, diagnostics, logs::last_lines, sentence, visible};
use crate::failure::Failure;

/// `error: …`, `caused by: …`, `hint: …`; errors in files come first, each at its place.
pub fn text(failure: &Failure, paint: Paint) -> String {
    let mut text = match &failure.files {
        Some(files) => diagnostics::text(&files.diagnostics, &files.sources, paint),
        None => String::new(),
    };
    if let Some(message) = &failure.message {
        text.push_str(&format!("{} {}\n", paint.tone(Tone::Bad, "error:"), sentence(&visible(message))));
    }
    for cause in &failure.causes {
        text.push_str(&format!("  caused by: {}\n", visible(cause)));
    }
    if !failure.last_lines.is_empty() {
        text.push_str("  its last lines:\n");
        text.push_str(&last_lines(&failure.last_lines, paint));
    }
    for hint in &failure.hints {
        text.push_str(&format!("{} {}\n", paint.tone(Tone::Good, "hint:"), visible(hint)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCode;
    use upbeat_api::{Problem, ProblemKind};

    #[test]
    fn a_failure_says_what_because_of_what_and_what_to_do() {
        let failure = Failure::new(ExitCode::Failed, "cannot read `upbeat.yaml`")
            .because(&std::io::Error::other("device\u{7}gone"))
            .hint("look at the disk");
        insta::assert_snapshot!(text(&failure, Paint::Plain), @r"
        error: Cannot read `upbeat.yaml`
          caused by: device\u{7}gone
        hint: look at the disk
        ");
        assert!(text(&failure, Paint::Coloured).starts_with("\u{1b}[31merror:\u{1b}[0m "));
    }

    #[test]
    fn a_problem_of_the_daemon_reads_like_one_of_ours() {
        let problem = Problem {
            kind: ProblemKind::NotFound,
            message: "no app `shop`".into(),
            hint: Some("`upbeat apps` lists what is there".into()),
            diagnostics: vec![],
        };
        let failure = Failure::from(problem);
        assert_eq!(failure.exit, ExitCode::NotFound);
        insta::assert_snapshot!(text(&failure, Paint::Plain), @"
        error: No app `shop`
        hint: `upbeat apps` lists what is there
        ");
    }
}
