//! Checks commands, and the questions of health checks that are commands.

use super::canon::{Canon, Canonical, quoted};
use super::read::{At, broken, each_item, wrong_type};
use super::report::Problem;
use super::rules::{self, Broken};
use super::tree::{Node, Style, Value};

/// As YAML and JSON have it: `5`, `-0.5`, `1e3`.
fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit() || "+-.".contains(first))
        && text.parse::<f64>().is_ok()
}

impl<'a> Canon<'_, 'a> {
    /// The same, or no word at all: then there is none, whatever an image says. Without a value, what
    /// the image says stays.
    pub(super) fn command(&mut self, node: &'a Node<'a>, at: &At<'_>) -> Canonical<'a> {
        let is_none = match node.value {
            Value::List(items) => items.is_empty(),
            Value::Scalar(scalar) => node.is_null() || scalar.text.is_empty(),
            _ => false,
        };
        if is_none { Some(node) } else { self.argv(node, at) }
    }

    /// A program and its arguments: a list, or text that will be split into words as a shell would,
    /// without one; unless another key says that one reads it.
    pub(super) fn argv(&mut self, node: &'a Node<'a>, at: &At<'_>) -> Canonical<'a> {
        match node.value {
            Value::List(items) => {
                let words = self.words(items, at)?;
                self.checked_argv(node, words, at)?;
            }
            Value::Scalar(scalar) if !node.is_null() => {
                // `command: 5` is a slip for something else: nobody has a program of that name, and who has says so.
                if scalar.style != Style::Quoted && is_number(scalar.text) {
                    let text = scalar.text;
                    self.report.error(node.span, || {
                        Problem::new(format!(
                            "`{at}` must be a list of words, or text, not the number {text}"
                        ))
                        .hint(format!("write `\"{text}\"` where a program is called so"))
                    });
                    return None;
                }
                let line = self.text(node, at, "text")?;
                if self.open.is_template(line) {
                    return Some(node);
                }
                if self.shell {
                    self.checked_argv(node, [line], at)?;
                    return Some(node);
                }
                let Ok(words) = shell_words::split(line) else {
                    self.report.error(node.span, || {
                        Problem::new(format!("`{at}` has a quote that is not closed"))
                            .hint("close it, or write the command as a list".to_owned())
                    });
                    return None;
                };
                self.note_operators(node, &words, at);
                self.note_comment(node, line, words.len(), at);
                self.checked_argv(node, words, at)?;
            }
            _ => {
                wrong_type(node, at, "a list of words, or text", self.report);
                return None;
            }
        }
        Some(node)
    }

    fn checked_argv(
        &mut self,
        node: &Node<'a>,
        words: impl IntoIterator<Item = impl Into<String>>,
        at: &At<'_>,
    ) -> Option<()> {
        let texts: Vec<String> = words.into_iter().map(Into::into).collect();
        match rules::argv(&texts) {
            Ok(()) => Some(()),
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }

    /// The texts of a list; `None` when one of its items is none.
    fn words(&mut self, items: &[&'a Node<'a>], at: &At<'_>) -> Option<Vec<&'a str>> {
        let mut words = Vec::with_capacity(items.len());
        each_item(items, at, |item, at| words.extend(self.text(item, at, "text")));
        (words.len() == items.len()).then_some(words)
    }

    /// `a && b` without a shell is one program with three arguments: right, and seldom meant.
    fn note_operators(&mut self, node: &Node<'a>, words: &[String], at: &At<'_>) {
        const OPERATORS: &[&str] = &["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];
        if let Some(word) = words.iter().find(|w| OPERATORS.contains(&w.as_str())) {
            self.report.note(node.span, || {
                Problem::new(format!(
                    "`{at}` has the word `{word}`, which is passed on as it is: no shell reads it"
                ))
                .hint("for a shell write [\"/bin/sh\", \"-c\", \"…\"]".to_owned())
            });
        }
    }

    /// As a shell does, the splitter leaves out what follows a `#` that starts a word. With another
    /// character in its place there would be more words, or a quote that is not closed.
    fn note_comment(&mut self, node: &Node<'a>, line: &str, words: usize, at: &At<'_>) {
        let other = |line: &str| shell_words::split(&line.replace('#', "x")).map_or(0, |words| words.len());
        if line.contains('#') && other(line) != words {
            self.report.note(node.span, || {
                Problem::new(format!("`{at}` has a comment: what follows its `#` is left out"))
                    .hint("put a word that starts with `#` into quotes of its own".to_owned())
            });
        }
    }

    /// Compose's form of a health check: text is a shell's line; a list says by its first word what
    /// the rest is.
    pub(super) fn test(&mut self, node: &'a Node<'a>, at: &At<'_>) -> Canonical<'a> {
        let Value::List(items) = node.value else {
            let line = self.text(node, at, "a list, or text")?;
            self.shell(node, line, at)?;
            let words = [quoted("CMD-SHELL"), node.value].map(|word| self.arena.at(node.span, word));
            return Some(self.arena.with(node, self.arena.list(&words)));
        };
        let words = self.words(items, at)?;
        let rule = match words[..] {
            ["NONE"] => return Some(node),
            ["CMD", ..] => {
                self.checked_argv(node, words.into_iter().skip(1), at)?;
                return Some(node);
            }
            ["CMD-SHELL", line] => {
                self.shell(node, line, at)?;
                return Some(node);
            }
            ["CMD-SHELL", ..] => {
                Broken::new("must have one text after `CMD-SHELL`").hint("for separate words write `CMD`")
            }
            ["NONE", ..] => Broken::new("has words after `NONE`, which means no check"),
            _ => Broken::new("must start with `CMD`, `CMD-SHELL` or `NONE`")
                .hint("`CMD` for a program and its arguments, `CMD-SHELL` for a shell's line"),
        };
        broken(node, at, rule, self.report);
        None
    }

    /// A line for a shell must say something, and not too much.
    fn shell(&mut self, node: &Node<'a>, line: &str, at: &At<'_>) -> Option<()> {
        let rule = match line.trim().is_empty() {
            true => Err(Broken::new("is empty").hint("give it a shell's line")),
            false => rules::argv(&[line.to_owned()]),
        };
        match rule {
            Ok(()) => Some(()),
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }
}
