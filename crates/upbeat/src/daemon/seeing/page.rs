//! Prometheus' text format, version 0.0.4.
//!
//! Written here: the kept encoders write OpenMetrics, which `promtool check metrics` does not read, and
//! want to own the numbers, which here are made by the agent and go with their slots.

use std::fmt::Write;

use upbeat_agent::Counted;

use super::table::Family;

/// A page, family by family.
#[derive(Debug, Default)]
pub(super) struct Page {
    text: String,
}

impl Page {
    /// What follows is of this family.
    pub(super) fn family(&mut self, family: Family) {
        let Family { name, kind, help, .. } = family;
        // Writing to a text cannot fail; none of them holds what would have to be escaped.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One number. `labels` are written as they stand.
    pub(super) fn number(&mut self, family: Family, labels: &str, number: impl std::fmt::Display) {
        self.sample(family.name, "", labels, number);
    }

    /// A histogram.
    pub(super) fn histogram(&mut self, family: Family, labels: &str, counted: &Counted) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in &counted.up_to {
            let _ = writeln!(self.text, "{}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}", family.name);
        }
        let _ = writeln!(self.text, "{}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", family.name, counted.count);
        self.sample(family.name, "_sum", labels, counted.sum);
        self.sample(family.name, "_count", labels, counted.count);
    }

    fn sample(&mut self, name: &str, suffix: &str, labels: &str, number: impl std::fmt::Display) {
        let _ = match labels {
            "" => writeln!(self.text, "{name}{suffix} {number}"),
            labels => writeln!(self.text, "{name}{suffix}{{{labels}}} {number}"),
        };
    }

    pub(super) fn text(self) -> String {
        self.text
    }
}
