//! Colours: a few tones, each with one meaning everywhere.

use anstyle::{AnsiColor, Style};
use upbeat_model::Phase;

/// What a colour says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// As wished.
    Good,
    /// Not as wished, but Upbeat is at it.
    Caution,
    /// Not as wished, and a person should look.
    Bad,
    /// Of less interest.
    Quiet,
    /// Of more interest.
    Strong,
    /// One of several things of one kind, told apart by colour alone.
    Series(usize),
}

/// The colours of [`Tone::Series`], in the order they are given out. Red is left out: it means
/// something.
const SERIES: [AnsiColor; 10] = [
    AnsiColor::Cyan,
    AnsiColor::Yellow,
    AnsiColor::Green,
    AnsiColor::Magenta,
    AnsiColor::Blue,
    AnsiColor::BrightCyan,
    AnsiColor::BrightYellow,
    AnsiColor::BrightGreen,
    AnsiColor::BrightMagenta,
    AnsiColor::BrightBlue,
];

impl Tone {
    /// The tone of a phase.
    pub fn of(phase: Phase) -> Self {
        match phase {
            Phase::Running | Phase::Healthy | Phase::Completed => Self::Good,
            Phase::Starting | Phase::Stopping | Phase::Unhealthy | Phase::BackingOff => Self::Caution,
            Phase::Failed | Phase::CrashLooping | Phase::DependencyFailed | Phase::NeedsAttention => {
                Self::Bad
            }
            Phase::Waiting | Phase::Stopped | Phase::Absent => Self::Quiet,
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Good => AnsiColor::Green.on_default(),
            Self::Caution => AnsiColor::Yellow.on_default(),
            Self::Bad => AnsiColor::Red.on_default(),
            Self::Quiet => Style::new().dimmed(),
            Self::Strong => Style::new().bold(),
            Self::Series(n) => SERIES[n % SERIES.len()].on_default(),
        }
    }
}

/// Whether texts are coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    /// Text and nothing else.
    Plain,
    /// With ANSI escape sequences.
    Coloured,
}

impl Paint {
    /// `text` in that tone.
    pub fn tone(self, tone: Tone, text: impl std::fmt::Display) -> String {
        let text = text.to_string();
        if self == Self::Plain || text.is_empty() {
            return text;
        }
        let style = tone.style();
        format!("{style}{text}{style:#}")
    }

    /// A phase's word in its tone.
    pub fn phase(self, phase: Phase) -> String {
        self.tone(Tone::of(phase), phase.word())
    }

    /// A phase as what a slot does, its word in its tone: `is healthy`, `failed`.
    pub fn verb(self, phase: Phase) -> String {
        let word = self.phase(phase);
        match phase {
            Phase::Completed | Phase::Failed | Phase::NeedsAttention => word,
            Phase::DependencyFailed => self.tone(Tone::of(phase), "cannot start"),
            _ => format!("is {word}"),
        }
    }
}
