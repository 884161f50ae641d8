//! A plan in words, and as a picture for other programs (`docs/plans.md`).

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use super::{After, Plan, Release, Step, Task};
use crate::ids::SlotId;

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start { slot, container: Some(_), release, temporary: false } => {
                write!(f, "start container for {}", Of(slot, release))
            }
            Self::Start { slot, container: Some(_), release, temporary: true } => {
                write!(f, "start container beside the old one for {}", Of(slot, release))
            }
            Self::Start { slot, .. } => write!(f, "start process of {}", Of(slot, &None)),
            Self::Replace { slot } => write!(f, "replace process of {}", Of(slot, &None)),
            Self::Stop { slot, container: Some(_), release } => {
                write!(f, "stop container for {}", Of(slot, release))
            }
            Self::Stop { slot, .. } => write!(f, "stop process of {}", Of(slot, &None)),
            Self::Remove { slot } => write!(f, "remove process of {}", Of(slot, &None)),
            Self::CreateApp { app } => write!(f, "create /apps/{app}"),
            Self::CreateRelease { app, release } => {
                write!(f, "initialize release '{}' for app '{app}'", release.name)
            }
            Self::Pull { image, tag: Some(tag) } => write!(f, "pull image '{image}' with tag '{tag}'"),
            Self::Pull { image, tag: None } => write!(f, "pull image '{image}'"),
            Self::Build { image, tag: Some(tag) } => write!(f, "build image '{image}' with tag '{tag}'"),
            Self::Build { image, tag: None } => write!(f, "build image '{image}'"),
            Self::Tag { image, tag } => write!(f, "tag image '{image}' as '{tag}'"),
            Self::CreateNetwork { network } => write!(f, "create network '{network}'"),
            Self::CreateVolume { volume } => write!(f, "create volume '{volume}'"),
            Self::Create { slot, release, .. } => write!(f, "create container for {}", Of(slot, release)),
            Self::Migrate { slot, release, .. } => {
                write!(f, "migrate unchanged {} to release '{}'", Of(slot, &None), release.name)
            }
            Self::Prepared { app } => write!(f, "have everything new of app '{app}'"),
            Self::RemoveContainer { slot, release, .. } => {
                write!(f, "remove container for {}", Of(slot, release))
            }
            Self::Await { slot, condition } => {
                write!(f, "wait until {} is {}", Of(slot, &None), condition.word())
            }
            Self::Ready { app } => write!(f, "have all services of app '{app}' started"),
            Self::RemoveNetwork { network } => write!(f, "remove network '{network}'"),
            Self::RemoveVolume { volume } => write!(f, "remove volume '{volume}' and what is in it"),
            Self::RemoveRelease { release, .. } => write!(f, "remove release '{}'", release.name),
            Self::RemoveApp { app } => write!(f, "remove app '{app}'"),
        }
    }
}

/// `service 'web' of app 'shop' and release '3'`; which copy, where it is not the first.
struct Of<'a>(&'a SlotId, &'a Option<Release>);

impl fmt::Display for Of<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(SlotId { app, service, index }, release) = self;
        write!(f, "service '{service}'")?;
        if *index > 1 {
            write!(f, " (copy {index})")?;
        }
        write!(f, " of app '{app}'")?;
        release.as_ref().map_or(Ok(()), |release| write!(f, " and release '{}'", release.name))
    }
}

impl fmt::Display for After {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.step)?;
        self.condition.as_ref().map_or(Ok(()), |condition| write!(f, " {}", condition.word()))
    }
}

/// Names and images hold no quotes, but a text from elsewhere may.
fn escaped(text: &impl fmt::Display) -> String {
    text.to_string().replace('\\', "\\\\").replace('"', "\\\"")
}

impl Plan {
    /// Step by step, then what is interrupted, then what should be known besides.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            let _ = writeln!(text, "{}", Line(step));
        }
        let _ = writeln!(text, "{}", self.interruptions());
        for note in &self.notes {
            let _ = writeln!(text, "Note: {note}.");
        }
        text
    }

    /// One sentence: which slots are interrupted, from which step to which.
    pub fn interruptions(&self) -> String {
        let mut from: BTreeMap<&SlotId, u32> = BTreeMap::new();
        let mut to: BTreeMap<&SlotId, u32> = BTreeMap::new();
        let mut several = false;
        let mut app = None;
        for step in &self.steps {
            let Some(slot) = step.slot() else { continue };
            several |= app.replace(&slot.app).is_some_and(|app| *app != slot.app);
            if step.interrupts {
                from.entry(slot).or_insert(step.number);
            }
            if matches!(step.task, Task::Start { .. } | Task::Replace { .. }) {
                to.insert(slot, step.number);
            }
        }
        let one = |(slot, from): (&&SlotId, &u32)| {
            let name = if several { slot.to_string() } else { slot.short() };
            match to.get(*slot) {
                Some(to) if to > from => format!("{name} from step {from} to step {to}"),
                Some(to) if to == from => format!("{name} by step {from}"),
                _ => format!("{name} from step {from}, for good"),
            }
        };
        let all: Vec<String> = from.iter().map(one).collect();
        match all.is_empty() {
            true => "Nothing that runs is interrupted.".to_owned(),
            false => format!("Interrupted: {}.", all.join("; ")),
        }
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph plan {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
        for step in &self.steps {
            let colour = if step.interrupts { ", color=red" } else { "" };
            let _ = writeln!(
                text,
                "  s{} [label=\"{}. {}\"{colour}];",
                step.number,
                step.number,
                escaped(&step.task)
            );
        }
        for (step, after) in self.edges() {
            let label = after.condition.as_ref().map(|condition| escaped(&condition.word()));
            let label = label.map(|label| format!(" [label=\"{label}\"]")).unwrap_or_default();
            let _ = writeln!(text, "  s{} -> s{}{label};", after.step, step.number);
        }
        text.push_str("}\n");
        text
    }

    /// For Mermaid.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        for step in &self.steps {
            let label = step.task.to_string().replace('"', "#quot;");
            let _ = writeln!(text, "  s{}[\"{}. {label}\"]", step.number, step.number);
        }
        for (step, after) in self.edges() {
            let label = after.condition.as_ref().map(|c| format!("|{}|", c.word().replace('|', "/")));
            let _ = writeln!(text, "  s{} -->{} s{}", after.step, label.unwrap_or_default(), step.number);
        }
        text
    }

    fn edges(&self) -> impl Iterator<Item = (&Step, &After)> {
        self.steps.iter().flat_map(|step| step.after.iter().map(move |after| (step, after)))
    }
}

/// `4. start … [after 3]`.
struct Line<'a>(&'a Step);

impl fmt::Display for Line<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(step) = self;
        write!(f, "{}. {}", step.number, step.task)?;
        for (n, after) in step.after.iter().enumerate() {
            write!(f, "{}{after}", if n == 0 { " [after " } else { ", " })?;
        }
        if step.after.is_empty() { Ok(()) } else { f.write_str("]") }
    }
}
