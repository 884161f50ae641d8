//! Tables without borders: columns aligned by what a terminal shows, not by bytes.
//!
//! Written here and not taken from a library because cells carry colours, which must not count as
//! width, and because the last column alone gives way on a narrow terminal.

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::{Face, Tone, visible};

/// Between two columns.
const GAP: usize = 2;

/// Below so many columns the last one is not cut any more: what would be left says nothing.
const LEAST_LAST_WIDTH: usize = 12;

/// One cell.
#[derive(Clone, Debug, Default)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// In a tone.
    pub fn toned(tone: Tone, text: impl std::fmt::Display) -> Self {
        Self { text: visible(&text.to_string()), tone: Some(tone) }
    }
}

impl<T: std::fmt::Display> From<T> for Cell {
    fn from(text: T) -> Self {
        Self { text: visible(&text.to_string()), tone: None }
    }
}

/// Rows under a header.
#[derive(Debug)]
pub struct Table {
    header: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    pub fn new(header: impl Into<Vec<&'static str>>) -> Self {
        Self { header: header.into(), rows: Vec::new() }
    }

    /// Adds a row; it has as many cells as the header.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        let cells = cells.into();
        debug_assert_eq!(cells.len(), self.header.len());
        self.rows.push(cells);
    }

    /// As lines, each ended. The last column is cut where the terminal ends, and nowhere else.
    pub fn render(&self, face: &Face) -> String {
        let widths = self.widths();
        let mut text = String::new();
        let header: Vec<Cell> = self.header.iter().map(|title| Cell::toned(Tone::Quiet, title)).collect();
        for row in std::iter::once(&header).chain(&self.rows) {
            line(&mut text, row, &widths, face);
        }
        text
    }

    fn widths(&self) -> Vec<usize> {
        let mut widths: Vec<usize> = self.header.iter().map(|title| title.width()).collect();
        for row in &self.rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.text.width());
            }
        }
        widths
    }
}

fn line(text: &mut String, row: &[Cell], widths: &[usize], face: &Face) {
    // What trails the last cell with something in it would be spaces only.
    let used = row.iter().rposition(|cell| !cell.text.is_empty()).map_or(0, |last| last + 1);
    let mut column = 0;
    for (n, cell) in row[..used].iter().enumerate() {
        let room = face.width.map(|w| w.saturating_sub(column).max(LEAST_LAST_WIDTH));
        let shown = match room {
            Some(room) if n + 1 == row.len() => cut(&cell.text, room),
            _ => cell.text.clone(),
        };
        let padding = if n + 1 == used { 0 } else { widths[n] + GAP - shown.width() };
        match cell.tone {
            Some(tone) if !shown.is_empty() => text.push_str(&face.paint.tone(tone, &shown)),
            _ => text.push_str(&shown),
        }
        text.extend(std::iter::repeat_n(' ', padding));
        column += widths[n] + GAP;
    }
    text.push('\n');
}

/// The longest beginning of `text` that fits, with `…` where something is missing.
pub fn cut(text: &str, room: usize) -> String {
    if text.width() <= room {
        return text.to_owned();
    }
    let mut kept = String::new();
    let mut width = 0;
    for c in text.chars() {
        width += c.width().unwrap_or(0);
        if width > room.saturating_sub(1) {
            break;
        }
        kept.push(c);
    }
    kept.push('…');
    kept
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::{Paint, examples::face};

    fn sample() -> Table {
        let mut table = Table::new(["NAME", "STATE", "WHY"]);
        table.row(["größe".into(), Cell::toned(Tone::Good, "healthy"), "".into()]);
        table.row(["漢字".into(), "up".into(), "a rather long explanation of it".into()]);
        table
    }

    #[test]
    fn columns_align_by_what_is_seen() {
        insta::assert_snapshot!(sample().render(&face()), @r"
        NAME   STATE    WHY
        größe  healthy
        漢字   up       a rather long explanation of it
        ");
    }

    #[test]
    fn colours_take_no_room() {
        let coloured = sample().render(&Face { paint: Paint::Coloured, ..face() });
        let stripped = coloured.replace("\u{1b}[2m", "").replace("\u{1b}[32m", "").replace("\u{1b}[0m", "");
        assert_ne!(coloured, stripped);
        assert_eq!(stripped, sample().render(&face()));
    }

    #[test]
    fn only_the_last_column_gives_way_and_only_on_a_terminal() {
        let narrow = sample().render(&Face { width: Some(30), ..face() });
        insta::assert_snapshot!(narrow, @r"
        NAME   STATE    WHY
        größe  healthy
        漢字   up       a rather long…
        ");
    }
}
