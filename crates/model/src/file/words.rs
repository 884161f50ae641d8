//! What somebody may have meant.

use super::report::shown;

/// Longer texts are compared with nothing: no key is that long, and comparing costs its square.
const COMPARED_MAX: usize = 64;

/// With so many words one is compared, and with no more: as many as there can be services. Comparing
/// takes a microsecond, and there may be fifty errors to word.
const WORDS_MAX: usize = crate::file::SLOTS_MAX as usize;

/// How alike two words must be, from 0 to 1, when they begin alike but end differently.
const SIMILAR: f64 = 0.85;

/// `` `a`, `b`, `c` ``.
pub(super) fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("`{w}`")).collect::<Vec<_>>().join(", ")
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
        .filter_map(|candidate| {
            let other = candidate.to_lowercase();
            let distance = strsim::damerau_levenshtein(&lower, &other);
            let near = distance <= (lower.len().max(other.len()) / 3).max(1)
                || strsim::jaro_winkler(&lower, &other) >= SIMILAR;
            let near = near && lower.len() > 1;
            (near || part_of(&lower, &other) || part_of(&other, &lower)).then_some((distance, candidate))
        })
        .min()
        .map(|(_, best)| best)
}
