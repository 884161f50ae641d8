//! How a build goes, and what came of it.

use upbeat_model::project::container::ImageRef;
use upbeat_model::{BuildWord, ServiceName};

use super::visible;
use crate::cli::Built;

/// Of an id so many digits are enough to tell images apart.
const DIGITS: usize = 12;

/// Before anything is sent.
pub(crate) fn begins(service: &ServiceName, image: &ImageRef) -> String {
    format!("{service}: building {image}")
}

/// What the engine says of it.
pub(crate) fn word(service: &ServiceName, word: &BuildWord) -> String {
    match word {
        BuildWord::Step { number, of, text } => {
            format!("{service}: step {number} of {of}: {}", visible(text))
        }
        BuildWord::Output { text } => format!("{service} | {}", visible(text)),
        BuildWord::Built { id } => format!("{service}: built {}", visible(short(id))),
    }
}

/// It has its name.
pub(crate) fn is_built(service: &ServiceName, image: &ImageRef) -> String {
    format!("{service}: built {image}")
}

/// One line an image.
pub(crate) fn built(all: &[Built]) -> String {
    let width = all.iter().map(|one| one.service.as_str().len()).max().unwrap_or(0);
    let line = |one: &Built| {
        format!("{:width$}  built {} ({})\n", one.service.as_str(), one.image, visible(short(&one.id)))
    };
    all.iter().map(line).collect()
}

fn short(id: &str) -> &str {
    let digits = id.strip_prefix("sha256:").unwrap_or(id);
    digits.get(..DIGITS).unwrap_or(digits)
}
