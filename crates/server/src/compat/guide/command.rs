//! Commands as text: split into words as a shell would, without one.

/// What only a shell does, outside of quotes, and what it would do with it.
const OPERATORS: [(char, &str); 11] = [
    (';', "run another command"),
    ('|', "connect commands"),
    ('&', "run another command"),
    ('<', "redirect"),
    ('>', "redirect"),
    ('(', "run commands apart"),
    (')', "run commands apart"),
    ('\n', "run another command"),
    ('*', "look for files"),
    ('?', "look for files"),
    ('[', "look for files"),
];

/// Program and arguments; at least one word.
///
/// Errors: a quote that is not closed, no word, or something only a shell would understand; each with
/// the remedy.
pub fn split(line: &str) -> Result<Vec<String>, String> {
    if let Some((what, does)) = of_a_shell(line) {
        let what = what.escape_debug();
        return Err(format!(
            "`{what}` would need a shell, to {does}, and none reads it: put it into single quotes if it \
             is meant as it stands; else write a script and give its path"
        ));
    }
    let words = shell_words::split(line)
        .map_err(|_| "there is a quote that is not closed: close it, or write `\\'`".to_owned())?;
    match words.first() {
        None => Err("it names no program".to_owned()),
        Some(program) if program.is_empty() => Err("it names no program: its first word is empty".to_owned()),
        Some(program) if is_assignment(program) => Err(format!(
            "`{}` would need a shell, to set a variable, and none reads it: begin with `env`",
            program.escape_debug()
        )),
        Some(_) => Ok(words),
    }
}

/// `NAME=…`: a shell takes it for a variable of what follows.
fn is_assignment(word: &str) -> bool {
    let Some((name, _)) = word.split_once('=') else { return false };
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The first thing in a line that only a shell would understand, and what it would do.
fn of_a_shell(line: &str) -> Option<(char, &'static str)> {
    let mut chars = line.trim_end().chars().peekable();
    let mut quote = None;
    let mut begins_word = true;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => quote = None,
            (Some('\''), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (_, '\\') => drop(chars.next()),
            (_, '$' | '`') => return Some((c, "fill in a value")),
            (Some(_), _) => {}
            (None, '~') if begins_word => return Some((c, "find a home directory")),
            (None, '#') if begins_word => return Some((c, "leave out a comment")),
            (None, '{') if chars.clone().take_while(|c| !c.is_whitespace()).any(|c| c == ',') => {
                return Some((c, "make several words of one"));
            }
            (None, c) => {
                if let Some(found) = OPERATORS.iter().find(|(operator, _)| *operator == c) {
                    return Some(*found);
                }
            }
        }
        begins_word = quote.is_none() && c.is_whitespace();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_split_at_spaces_and_quotes() {
        for (line, words) in [
            ("systemctl start coredns", vec!["systemctl", "start", "coredns"]),
            ("  a\t b ", vec!["a", "b"]),
            ("a 'b; c' \"d | e\" f\\ g", vec!["a", "b; c", "d | e", "f g"]),
            ("a '$HOME' \\$HOME '*' \\*", vec!["a", "$HOME", "$HOME", "*", "*"]),
            ("a b=c d#e f~g {} {h} 'i'\\''j'", vec!["a", "b=c", "d#e", "f~g", "{}", "{h}", "i'j"]),
            ("curl 'http://x/?a=b&c=d'", vec!["curl", "http://x/?a=b&c=d"]),
            ("./a/b=c --x", vec!["./a/b=c", "--x"]),
            ("a ''", vec!["a", ""]),
        ] {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn what_needs_a_shell_is_refused_with_the_remedy() {
        for (line, what) in [
            ("systemctl start x; rm -rf /", "`;`"),
            ("a && b", "`&`"),
            ("a &", "`&`"),
            ("a | b", "`|`"),
            ("a $(b)", "`$`"),
            ("a ${b}", "`$`"),
            ("a \"$b\"", "`$`"),
            ("a `b`", "```"),
            ("a \"`b`\"", "```"),
            ("a > b", "`>`"),
            ("a 2>&1", "`>`"),
            ("a < b", "`<`"),
            ("(a)", "`(`"),
            ("a\nb", "`\\n`"),
            ("a *.conf", "`*`"),
            ("a b?", "`?`"),
            ("a [bc]", "`[`"),
            ("a ~/b", "`~`"),
            ("a {b,c}", "`{`"),
            ("a #b", "`#`"),
        ] {
            let why = split(line).unwrap_err();
            assert!(why.starts_with(&format!("{what} would need a shell")), "{line}: {why}");
            assert!(why.contains("single quotes") && why.contains("write a script"), "{line}: {why}");
        }
        assert!(split("A=b c").unwrap_err().contains("begin with `env`"));
    }

    #[test]
    fn a_line_without_a_program_is_refused() {
        for (line, why) in [
            ("", "names no program"),
            ("  ", "names no program"),
            ("'' a", "first word"),
            ("a 'b", "not closed"),
            ("a \"b", "not closed"),
        ] {
            assert!(split(line).unwrap_err().contains(why), "{line:?}: {:?}", split(line));
        }
    }

    /// Nothing that is taken is seen otherwise by a shell: `printf` has the last word.
    #[test]
    fn what_is_taken_a_shell_would_split_into_the_same_words() {
        let pieces = ["a", " ", "'", "\"", "\\", "$", ";", "*", "#", "~", "=", "{", ",", "}", "é", "`"];
        let mut taken = 0;
        for n in 0..pieces.len().pow(4) {
            let indices = [n % 16, n / 16 % 16, n / 256 % 16, n / 4096];
            let line: String = indices.map(|i| pieces[i]).concat();
            let Ok(words) = split(&format!("printf %s\\\\n {line}")) else { continue };
            taken += 1;
            // A shell of its own for each would take minutes.
            if taken % 97 != 0 || words.len() < 3 {
                continue;
            }
            let said = std::process::Command::new("sh")
                .args(["-c", &format!("printf '%s\\n' {line}")])
                .output()
                .unwrap();
            let expected: String = words[2..].iter().map(|word| format!("{word}\n")).collect();
            assert_eq!(String::from_utf8_lossy(&said.stdout), expected, "{line:?}");
        }
        assert!(taken > 1_000, "{taken}");
    }
}
