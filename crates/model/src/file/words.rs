//! What somebody may have meant.

use super::report::shown;

/// Longer texts are compared with nothing: no key is that long, and comparing costs its square.
const COMPARED_MAX: usize = 64;

/// A shorter word is near to every other as short: whoever wrote `b` did not mean `a`. With letters that
/// have changed places it is one all the same.
const COMPARED_MIN: usize = 3;

/// With so many words one is compared, and with no more: as many as there can be services. Comparing
/// takes a microsecond, and there may be fifty errors to word.
const WORDS_MAX: usize = crate::file::SLOTS_MAX as usize;

/// How alike two words must be, from 0 to 1, when they begin alike but end differently.
const SIMILAR: f64 = 0.85;

/// `` `a`, `b`, `c` ``.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
}

fn has_the_same_letters(one: &str, other: &str) -> bool {
    let sorted = |word: &str| {
        let mut letters: Vec<char> = word.chars().collect();
        letters.sort_unstable();
        letters
    };
    one.len() == other.len() && sorted(one) == sorted(other)
}

/// The nearest of the known words, if one is near: `` did you mean `command`? ``.
pub(super) fn did_you_mean<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<String> {
    nearest(word, known).map(|best| format!("did you mean `{}`?", shown(best)))
}

/// The nearest of the known words, if it is near: a third of its letters may differ, or one is the
/// beginning or the end of the other.
pub(super) fn nearest<'k>(word: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    if word.len() > COMPARED_MAX {
        return None;
    }
    let lower = word.to_lowercase();
    let part_of =
        |long: &str, short: &str| short.len() >= 3 && (long.starts_with(short) || long.ends_with(short));
    known
        .into_iter()
        .take(WORDS_MAX)
        .filter(|candidate| *candidate != word)
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &other);
            let near = distance <= (lower.len().max(other.len()) / 3).max(1)
                || strsim::jaro_winkler(&lower, &other) >= SIMILAR;
            let near = near && (lower.len() >= COMPARED_MIN || has_the_same_letters(&lower, &other));
            (near || part_of(&lower, &other) || part_of(&other, &lower)).then_some((distance, candidate))
        })
        .min()
        .map(|(_, best)| best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_words_are_near_to_nothing_but_themselves() {
        for (word, known, meant) in [
            ("b", "a", None),
            ("dc", "db", None),
            ("bd", "db", Some("db")),
            ("B", "b", Some("b")),
            ("wbe", "web", Some("web")),
            ("wab", "web", Some("web")),
        ] {
            assert_eq!(nearest(word, [known]), meant, "{word}");
        }
    }
}
