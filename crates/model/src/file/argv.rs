//! Checks commands, and the questions of health checks that are commands.

use std::borrow::Cow;
use std::rc::Rc;

use super::canon::{Canon, Canonical, quoted};
use super::read::{At, broken, each_item, wrong_type};
use super::report::Problem;
use super::rules::{self, Broken};
use super::tree::{Node, Value};

impl<'a> Canon<'_, 'a> {
    /// A program and its arguments: a list, or text that will be split into words as a shell would,
    /// without one; unless another key says that one reads it.
    pub(super) fn argv(&mut self, node: &Rc<Node<'a>>, at: &At<'_>) -> Canonical<'a> {
        let words = match &node.value {
            Value::List(items) => self.words(items, at)?,
            Value::Scalar(_) if !node.is_null() => {
                let line = self.text(node, at, "text")?;
                if self.shell {
                    self.checked_argv(node, std::slice::from_ref(node), at)?;
                    return Some(Rc::clone(node));
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
                let texts = words.into_iter().map(|word| Rc::new(Node::new(node.span, quoted(word))));
                self.checked_argv(node, &texts.collect::<Vec<_>>(), at)?;
                return Some(Rc::clone(node));
            }
            _ => {
                wrong_type(node, at, "a list of words, or text", self.report);
                return None;
            }
        };
        self.checked_argv(node, &words, at)?;
        Some(node.with(Value::List(words)))
    }

    fn checked_argv(&mut self, node: &Node<'a>, words: &[Rc<Node<'a>>], at: &At<'_>) -> Option<()> {
        let texts: Vec<String> = words.iter().filter_map(|word| word.as_text()).map(str::to_owned).collect();
        match rules::argv(&texts) {
            Ok(()) => Some(()),
            Err(rule) => {
                broken(node, at, rule, self.report);
                None
            }
        }
    }

    /// A list of texts; `None` when one of them is none.
    fn words(&mut self, items: &[Rc<Node<'a>>], at: &At<'_>) -> Option<Vec<Rc<Node<'a>>>> {
        let mut words = Vec::with_capacity(items.len());
        each_item(items, at, |item, at| {
            let text = self.text(item, at, "text");
            words.extend(text.map(|_| Rc::clone(item)));
        });
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
    pub(super) fn test(&mut self, node: &Rc<Node<'a>>, at: &At<'_>) -> Canonical<'a> {
        let Value::List(items) = &node.value else {
            let line = self.text(node, at, "a list, or text")?.clone();
            let words = [Cow::Borrowed("CMD-SHELL"), line];
            let words: Vec<_> = words.into_iter().map(|w| Rc::new(Node::new(node.span, quoted(w)))).collect();
            self.shell(node, &words[1], at)?;
            return Some(node.with(Value::List(words)));
        };
        let words = self.words(items, at)?;
        let rule = match words.first().and_then(|word| word.as_text()) {
            Some("NONE") if words.len() == 1 => return Some(node.with(Value::List(words))),
            Some("CMD") => {
                self.checked_argv(node, &words[1..], at)?;
                return Some(node.with(Value::List(words)));
            }
            Some("CMD-SHELL") if words.len() == 2 => {
                self.shell(node, &words[1], at)?;
                return Some(node.with(Value::List(words)));
            }
            Some("CMD-SHELL") => {
                Broken::new("must have one text after `CMD-SHELL`").hint("for separate words write `CMD`")
            }
            Some("NONE") => Broken::new("has words after `NONE`, which means no check"),
            _ => Broken::new("must start with `CMD`, `CMD-SHELL` or `NONE`")
                .hint("`CMD` for a program and its arguments, `CMD-SHELL` for a shell's line"),
        };
        broken(node, at, rule, self.report);
        None
    }

    /// A line for a shell must say something, and not too much.
    fn shell(&mut self, node: &Node<'a>, line: &Node<'a>, at: &At<'_>) -> Option<()> {
        let text = line.as_text().unwrap_or_default();
        let rule = match text.trim().is_empty() {
            true => Err(Broken::new("is empty").hint("give it a shell's line")),
            false => rules::argv(&[text.to_owned()]),
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
