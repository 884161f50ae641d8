//! One source file as the laws see it: comments and strings blanked, then cut into words.

/// A word or a sign of the code, and its line from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) line: usize,
    pub(crate) text: String,
}

/// A source file.
#[derive(Debug)]
pub(crate) struct Source {
    /// `agent` for `crates/agent/…`.
    pub(crate) room: String,
    /// From the root of the workspace, with `/`.
    pub(crate) path: String,
    /// The lines as they stand there.
    pub(crate) raw: Vec<String>,
    /// What is left without comments and the insides of strings.
    pub(crate) tokens: Vec<Token>,
    /// Line by line: it is compiled for tests only.
    pub(crate) is_test: Vec<bool>,
    test_modules: Vec<String>,
}

/// A path as written or imported: `std::fs::read`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct PathUse {
    pub(crate) line: usize,
    pub(crate) segments: Vec<String>,
}

/// A function with a body.
#[derive(Debug)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) first: usize,
    pub(crate) last: usize,
    /// How long it is. Lines inside of a text do not count: a file or a page that a test expects is
    /// data.
    pub(crate) lines: usize,
}

impl PathUse {
    pub(crate) fn text(&self) -> String {
        self.segments.join("::")
    }

    pub(crate) fn starts_with(&self, prefix: &[&str]) -> bool {
        self.segments.len() >= prefix.len() && self.segments.iter().zip(prefix).all(|(a, b)| a == b)
    }
}

impl Source {
    pub(crate) fn new(room: &str, path: &str, text: &str) -> Self {
        let raw: Vec<String> = text.lines().map(str::to_owned).collect();
        let tokens = tokens(&blank(text));
        let mut source = Self {
            room: room.into(),
            path: path.into(),
            is_test: vec![false; raw.len()],
            raw,
            tokens,
            test_modules: vec![],
        };
        source.find_tests();
        source
    }

    /// Paths, without `.rs`, of the modules declared in other files for tests only.
    pub(crate) fn test_modules(&self) -> Vec<String> {
        let (folder, file) = self.path.rsplit_once('/').unwrap_or(("", &self.path));
        let base = match file {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            other => format!("{folder}/{}", other.trim_end_matches(".rs")),
        };
        self.test_modules.iter().map(|name| format!("{base}/{name}")).collect()
    }

    pub(crate) fn is_test_at(&self, line: usize) -> bool {
        self.is_test.get(line - 1).copied().unwrap_or(false)
    }

    fn find_tests(&mut self) {
        let in_tests_folder = self.path.split('/').nth(2).is_some_and(|folder| folder != "src");
        if in_tests_folder || self.path.ends_with("/tests.rs") || self.path.contains("/src/tests/") {
            self.is_test.fill(true);
        }
        for start in 0..self.tokens.len() {
            if !self.matches(start, &["#", "[", "cfg", "(", "test", ")", "]"])
                && !self.matches(start, &["#", "[", "cfg", "(", "all", "(", "test", ","])
            {
                if self.matches(start, &["#", "!", "[", "cfg", "(", "test", ")", "]"]) {
                    self.is_test.fill(true);
                }
                continue;
            }
            let Some(open) = self.body(start) else { continue };
            let end = if self.text(open) == "{" { self.closing(open) } else { open };
            if self.text(open) == ";" && self.text(open - 2) == "mod" {
                self.test_modules.push(self.text(open - 1).to_owned());
            }
            let last = self.tokens.get(end).map_or(self.raw.len(), |token| token.line);
            self.is_test[self.tokens[start].line - 1..last].fill(true);
        }
    }

    /// The text of a token; nothing past the end.
    pub(crate) fn text(&self, at: usize) -> &str {
        self.tokens.get(at).map_or("", |token| &token.text)
    }

    pub(crate) fn matches(&self, at: usize, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(i, word)| self.text(at + i) == *word)
    }

    /// The first `{` or `;` after `at` that is in no parentheses or brackets, or the `}` of what is
    /// around it.
    pub(crate) fn body(&self, at: usize) -> Option<usize> {
        let mut depth = 0_i32;
        for (i, token) in self.tokens.iter().enumerate().skip(at) {
            match token.text.as_str() {
                "(" | "[" => depth += 1,
                ")" | "]" => depth -= 1,
                "{" | "}" | ";" if depth == 0 => return Some(i),
                _ => {}
            }
        }
        None
    }

    /// The brace that closes the one at `open`.
    pub(crate) fn closing(&self, open: usize) -> usize {
        let mut depth = 0_i32;
        for (i, token) in self.tokens.iter().enumerate().skip(open) {
            match token.text.as_str() {
                "{" => depth += 1,
                "}" => depth -= 1,
                _ => continue,
            }
            if depth == 0 {
                return i;
            }
        }
        self.tokens.len()
    }

    /// Every path of two or more segments, and every import, taken apart: `use a::{b, c::d}` is
    /// `a::b` and `a::c::d`.
    pub(crate) fn paths(&self) -> Vec<PathUse> {
        let mut found = Vec::new();
        let mut at = 0;
        while at < self.tokens.len() {
            if self.text(at) == "use" && self.text(at + 1) != "<" {
                at = self.import(at + 1, &mut found);
            } else if is_word(self.text(at)) {
                let start = at;
                while self.text(at + 1) == "::" && is_word(self.text(at + 2)) {
                    at += 2;
                }
                if at > start {
                    let segments = (start..=at).step_by(2).map(|i| self.text(i).to_owned()).collect();
                    found.push(PathUse { line: self.tokens[start].line, segments });
                }
            }
            at += 1;
        }
        found
    }

    /// Takes one `use` apart; returns the place of its `;`.
    fn import(&self, start: usize, found: &mut Vec<PathUse>) -> usize {
        let mut outer: Vec<usize> = Vec::new();
        let mut path: Vec<String> = Vec::new();
        let mut base = 0;
        for (i, token) in self.tokens.iter().enumerate().skip(start) {
            match token.text.as_str() {
                "{" => {
                    outer.push(base);
                    base = path.len();
                }
                "," | "}" | ";" => {
                    if path.len() > base {
                        let is_module = path.len() > 1 && path.last().is_some_and(|last| last == "self");
                        let segments = path[..path.len() - usize::from(is_module)].to_vec();
                        found.push(PathUse { line: token.line, segments });
                    }
                    path.truncate(base);
                    if token.text == "}" {
                        base = outer.pop().unwrap_or_default();
                        path.truncate(base);
                    }
                    if token.text == ";" {
                        return i;
                    }
                }
                // What an import is called here does not matter; where it comes from does.
                "as" | "::" => {}
                word if self.text(i - 1) != "as" => path.push(word.to_owned()),
                _ => {}
            }
        }
        self.tokens.len()
    }

    /// Every function with a body.
    pub(crate) fn functions(&self) -> Vec<Function> {
        let mut has_code = vec![false; self.raw.len()];
        for token in &self.tokens {
            has_code[token.line - 1] = true;
        }
        let counts = |line: &usize| {
            let raw = self.raw[line - 1].trim();
            has_code[line - 1] || raw.is_empty() || raw.starts_with("//")
        };
        let starts = (0..self.tokens.len()).filter(|&i| self.text(i) == "fn" && is_word(self.text(i + 1)));
        starts
            .filter_map(|i| {
                let open = self.body(i).filter(|&open| self.text(open) == "{")?;
                let first = self.tokens[i].line;
                let last = self.tokens.get(self.closing(open)).map_or(self.raw.len(), |token| token.line);
                let lines = (first..=last).filter(counts).count();
                Some(Function { name: self.text(i + 1).to_owned(), first, last, lines })
            })
            .collect()
    }

    /// The comment lines that stand directly above a line.
    pub(crate) fn comment_above(&self, line: usize) -> Vec<&str> {
        self.above(line, |raw| raw.starts_with("//"))
    }

    /// The lines directly above a line, from below, as long as they are of a kind.
    pub(crate) fn above(&self, line: usize, is_of_kind: impl Fn(&str) -> bool) -> Vec<&str> {
        let above = self.raw[..line - 1].iter().rev().map(|raw| raw.trim());
        above.take_while(|raw| is_of_kind(raw)).collect()
    }
}

pub(crate) fn is_word(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(code: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    for (i, text) in code.lines().enumerate() {
        let line = i + 1;
        let mut rest = text.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if first.is_alphanumeric() || first == '_' {
                rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push(Token { line, text: rest[..length].to_owned() });
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Replaces comments, and what is inside strings and characters, by spaces. Lines stay lines.
pub(crate) fn blank(text: &str) -> String {
    let chars: Vec<char> = text.chars().collect();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < chars.len() {
        let (end, keeps_ends) = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => (line_end(&chars, at), false),
            '/' if chars.get(at + 1) == Some(&'*') => (block_comment_end(&chars, at), false),
            '"' => (string_end(&chars, at), true),
            '\'' => (character_end(&chars, at), true),
            'r' if !continues_word(&chars, at) || is_prefix_of_raw(&chars, at) => {
                (raw_string_end(&chars, at), true)
            }
            _ => (at + 1, true),
        };
        if end == at + 1 {
            out.push(chars[at]);
        } else {
            for (i, &c) in chars.iter().enumerate().take(end).skip(at) {
                let is_end = keeps_ends && (i == at || i + 1 == end);
                out.push(if c == '\n' || is_end { c } else { ' ' });
            }
        }
        at = end;
    }
    out
}

fn continues_word(chars: &[char], at: usize) -> bool {
    at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_')
}

/// The `r` of `br"…"` or `cr"…"`.
fn is_prefix_of_raw(chars: &[char], at: usize) -> bool {
    matches!(chars[at - 1], 'b' | 'c') && !continues_word(chars, at - 1)
}

fn line_end(chars: &[char], at: usize) -> usize {
    chars[at..].iter().position(|&c| c == '\n').map_or(chars.len(), |n| at + n)
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let mut depth = 0;
    let mut i = at;
    while i < chars.len() {
        match (chars[i], chars.get(i + 1)) {
            ('/', Some('*')) => depth += 1,
            ('*', Some('/')) => depth -= 1,
            _ => {
                i += 1;
                continue;
            }
        }
        i += 2;
        if depth == 0 {
            return i;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() {
        match chars[i] {
            '\\' => i += 2,
            '"' => return i + 1,
            _ => i += 1,
        }
    }
    chars.len()
}

/// A character literal, or only the `'` of a lifetime.
fn character_end(chars: &[char], at: usize) -> usize {
    match (chars.get(at + 1), chars.get(at + 2)) {
        (Some('\\'), _) => {
            let from = (at + 3).min(chars.len());
            chars[from..].iter().position(|&c| c == '\'').map_or(chars.len(), |n| from + n + 1)
        }
        (Some(_), Some('\'')) => at + 3,
        _ => at + 1,
    }
}

/// `r"…"`, `r#"…"#` and so on; or only the letter `r`.
fn raw_string_end(chars: &[char], at: usize) -> usize {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    let open = at + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return at + 1;
    }
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|&&c| c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(|&i| closes(i)).map_or(chars.len(), |i| i + 1 + hashes)
}
