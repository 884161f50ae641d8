//! `graph`: who needs whom, with the state of each, as text or for other programs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;
use unicode_width::UnicodeWidthStr;
use upbeat_model::{
    Phase, Project, ServiceName, SlotStatus,
    dag::{Dag, DagError},
    project::Condition,
};

use super::{Face, Paint, Tone, table::cut};

/// Beyond this column states are not aligned any more; the one long line is longer than the rest.
const ALIGN_MAX: usize = 60;

/// Services, edges and, where known, states.
#[derive(Debug)]
pub struct Graph<'a> {
    project: &'a Project,
    dag: Dag<ServiceName>,
    phases: BTreeMap<&'a ServiceName, Vec<Phase>>,
}

/// `graph --format json`.
#[derive(Debug, Serialize)]
struct GraphJson<'a> {
    nodes: Vec<NodeJson<'a>>,
    edges: Vec<EdgeJson<'a>>,
}

#[derive(Debug, Serialize)]
struct NodeJson<'a> {
    service: &'a ServiceName,
    level: usize,
    phases: &'a [Phase],
}

#[derive(Debug, Serialize)]
struct EdgeJson<'a> {
    from: &'a ServiceName,
    to: &'a ServiceName,
    condition: Condition,
    required: bool,
}

impl<'a> Graph<'a> {
    /// `slots` is empty where nothing runs. Errors: a project that no file could have declared
    /// (a cycle, an unknown dependency).
    pub fn new(project: &'a Project, slots: &'a [SlotStatus]) -> Result<Self, DagError<ServiceName>> {
        let dag = Dag::new(project.services.iter().map(|(name, service)| {
            let declared = |d: &&ServiceName| project.services.contains_key(*d);
            let needs: Vec<ServiceName> = service.depends_on.keys().filter(declared).cloned().collect();
            (name.clone(), needs)
        }))?;
        let mut phases: BTreeMap<&ServiceName, Vec<Phase>> = BTreeMap::new();
        for status in slots {
            phases.entry(&status.slot.service).or_default().push(status.phase);
        }
        Ok(Self { project, dag, phases })
    }

    fn phases(&self, service: &ServiceName) -> &[Phase] {
        self.phases.get(service).map_or(&[], Vec::as_slice)
    }

    /// `(from, to, dependency)`, from what is needed to what needs it.
    fn edges(&self) -> impl Iterator<Item = EdgeJson<'_>> {
        self.project.services.iter().flat_map(move |(to, service)| {
            let present = service.depends_on.iter().filter(|(from, _)| self.dag.contains(from));
            present.map(move |(from, edge)| EdgeJson {
                from,
                to,
                condition: edge.condition.clone(),
                required: edge.required,
            })
        })
    }

    /// For a terminal: a tree with states at its right.
    pub fn text(&self, face: &Face) -> String {
        let lines = self.dag.text_lines();
        let width = |l: &upbeat_model::dag::TextLine<ServiceName>| {
            l.branch.width() + l.key.as_str().width() + l.also.width()
        };
        let column = lines.iter().map(width).filter(|w| *w <= ALIGN_MAX).max().unwrap_or(0) + 2;
        let mut text = String::new();
        for line in &lines {
            let also = match face.width {
                Some(room) => {
                    cut(&line.also, room.saturating_sub(line.branch.width() + line.key.as_str().width()))
                }
                None => line.also.clone(),
            };
            text.push_str(&face.paint.tone(Tone::Quiet, &line.branch));
            text.push_str(&face.paint.tone(Tone::Strong, &line.key));
            text.push_str(&face.paint.tone(Tone::Quiet, also));
            let states = states(self.phases(&line.key), face.paint);
            if !states.is_empty() {
                text.extend(std::iter::repeat_n(' ', column.saturating_sub(width(line)).max(2)));
                text.push_str(&states);
            }
            text.push('\n');
        }
        text
    }

    /// For Graphviz.
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph upbeat {\n  rankdir=LR;\n  node [shape=box, style=rounded];\n");
        for service in self.project.services.keys() {
            let phases = summary(self.phases(service));
            let label = if phases.is_empty() { service.to_string() } else { format!("{service}\\n{phases}") };
            // Names hold no character that is special between quotes.
            let _ = writeln!(text, "  \"{service}\" [label=\"{label}\"];");
        }
        for edge in self.edges() {
            let style = if edge.required { "" } else { ", style=dashed" };
            let _ = writeln!(
                text,
                "  \"{}\" -> \"{}\" [label=\"{}\"{style}];",
                edge.from,
                edge.to,
                edge.condition.word()
            );
        }
        text.push_str("}\n");
        text
    }

    /// For Mermaid.
    pub fn mermaid(&self) -> String {
        let mut text = String::from("flowchart LR\n");
        // A service may be named as a keyword of Mermaid (`end`); numbers never are.
        let ids: BTreeMap<&ServiceName, String> =
            self.project.services.keys().enumerate().map(|(n, s)| (s, format!("s{n}"))).collect();
        for (service, id) in &ids {
            let phases = summary(self.phases(service));
            let label =
                if phases.is_empty() { service.to_string() } else { format!("{service}<br/>{phases}") };
            let _ = writeln!(text, "  {id}[\"{label}\"]");
        }
        for edge in self.edges() {
            let arrow = if edge.required { "-->" } else { "-.->" };
            let _ =
                writeln!(text, "  {} {arrow}|{}| {}", ids[edge.from], edge.condition.word(), ids[edge.to]);
        }
        text
    }

    /// For programs: services in start order, and edges.
    pub fn json(&self) -> serde_json::Result<serde_json::Value> {
        let order = self.dag.order();
        let nodes = order.iter().map(|service| NodeJson {
            service,
            level: self.dag.level(service).unwrap_or_default(),
            phases: self.phases(service),
        });
        serde_json::to_value(GraphJson { nodes: nodes.collect(), edges: self.edges().collect() })
    }
}

/// `healthy`, `2 healthy, 1 starting`.
fn grouped(phases: &[Phase]) -> Vec<(usize, Phase)> {
    let mut groups: Vec<(usize, Phase)> = Vec::new();
    for phase in phases {
        match groups.iter_mut().find(|(_, p)| p == phase) {
            Some((n, _)) => *n += 1,
            None => groups.push((1, *phase)),
        }
    }
    groups
}

fn states(phases: &[Phase], paint: Paint) -> String {
    let several = phases.len() > 1;
    let one = |(n, phase): (usize, Phase)| {
        let shown = paint.phase(phase);
        if several { format!("{n} {shown}") } else { shown }
    };
    let all: Vec<String> = grouped(phases).into_iter().map(one).collect();
    all.join(", ")
}

fn summary(phases: &[Phase]) -> String {
    states(phases, Paint::Plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::face::examples::{face, project, status};

    fn running() -> Vec<SlotStatus> {
        vec![
            status("cache-1", Phase::Running),
            status("db-1", Phase::Healthy),
            status("web-1", Phase::Healthy),
            status("web-2", Phase::Starting),
            status("web-3", Phase::Healthy),
        ]
    }

    #[test]
    fn text_shows_who_needs_whom_and_how_each_is() {
        let (project, slots) = (project(), running());
        let graph = Graph::new(&project, &slots).unwrap();
        insta::assert_snapshot!(graph.text(&face()), @"
        db                         healthy
        └─ cache                   running
           └─ web (also after db)  2 healthy, 1 starting
        ");
        let coloured = graph.text(&Face { paint: Paint::Coloured, ..face() });
        assert!(coloured.contains("2 \u{1b}[32mhealthy\u{1b}[0m, 1 \u{1b}[33mstarting\u{1b}[0m"));
    }

    #[test]
    fn without_a_daemon_the_text_has_no_states() {
        let project = project();
        insta::assert_snapshot!(Graph::new(&project, &[]).unwrap().text(&face()), @"
        db
        └─ cache
           └─ web (also after db)
        ");
    }

    #[test]
    fn other_programs_get_their_own_formats() {
        let (project, slots) = (project(), running());
        let graph = Graph::new(&project, &slots).unwrap();
        insta::assert_snapshot!(graph.dot(), @r#"
        digraph upbeat {
          rankdir=LR;
          node [shape=box, style=rounded];
          "cache" [label="cache\nrunning"];
          "db" [label="db\nhealthy"];
          "web" [label="web\n2 healthy, 1 starting"];
          "db" -> "cache" [label="started"];
          "cache" -> "web" [label="started", style=dashed];
          "db" -> "web" [label="healthy"];
        }
        "#);
        insta::assert_snapshot!(graph.mermaid(), @r#"
        flowchart LR
          s0["cache<br/>running"]
          s1["db<br/>healthy"]
          s2["web<br/>2 healthy, 1 starting"]
          s1 -->|started| s0
          s0 -.->|started| s2
          s1 -->|healthy| s2
        "#);
        insta::assert_snapshot!(graph.json().unwrap().to_string(), @r#"{"edges":[{"condition":"service_started","from":"db","required":true,"to":"cache"},{"condition":"service_started","from":"cache","required":false,"to":"web"},{"condition":"service_healthy","from":"db","required":true,"to":"web"}],"nodes":[{"level":0,"phases":["healthy"],"service":"db"},{"level":1,"phases":["running"],"service":"cache"},{"level":2,"phases":["healthy","starting","healthy"],"service":"web"}]}"#);
    }
}
