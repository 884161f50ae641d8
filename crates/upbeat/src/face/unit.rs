//! `rollout unit`: where several entities are that go as one.

use upbeat_model::rollout::{MemberState, MemberWord, UnitState, UnitWord, Unreadable, Version};

use super::rollout::unreadable;
use super::table::{Cell, Table};
use super::time::age;
use super::{Face, Tone, visible};

fn course(state: &UnitState) -> (&'static str, Tone) {
    match state.course {
        UnitWord::Forward | UnitWord::Back if state.paused_by.is_some() => ("paused", Tone::Caution),
        UnitWord::Forward => ("rolling out", Tone::Caution),
        UnitWord::Good => ("good", Tone::Good),
        UnitWord::Back => ("rolling back", Tone::Bad),
        UnitWord::RolledBack => ("rolled back", Tone::Bad),
        UnitWord::Halted => ("halted", Tone::Bad),
    }
}

/// One line a unit; those that cannot be read follow.
pub fn list(states: &[UnitState], lost: &[Unreadable], face: &Face) -> String {
    if states.is_empty() && lost.is_empty() {
        return "No unit is there; `upbeat rollout unit start NAMESPACE/UNIT ENTITY=VERSION` makes one.\n"
            .into();
    }
    let mut table = Table::new(["UNIT", "STATE", "GOOD", "SINCE"]);
    for state in states {
        let (word, tone) = course(state);
        let good = state.members.iter().filter(|member| member.state == MemberWord::Good).count();
        table.row([
            Cell::from(visible(&state.name())),
            Cell::toned(tone, word),
            Cell::from(format!("{good}/{}", state.members.len())),
            Cell::from(age(state.ended.unwrap_or(state.began), face.now)),
        ]);
    }
    lost.iter().for_each(|lost| table.row(unreadable(lost, 4)));
    table.render(face)
}

/// Where a unit is, and one line a member in their order.
pub fn show(state: &UnitState, face: &Face) -> String {
    let (word, tone) = course(state);
    let since = age(state.ended.unwrap_or(state.began), face.now);
    let name = face.paint.tone(Tone::Strong, visible(&state.name()));
    let mut text = format!("{name}  {}, for {since}\n\n", face.paint.tone(tone, word));
    let shown: Vec<[String; 2]> =
        state.members.iter().map(|member| [visible(&member.member.entity), versions(member)]).collect();
    let width = |n: usize| shown.iter().map(|cells| cells[n].chars().count()).max().unwrap_or(0);
    let widths = [width(0), width(1)];
    for (member, [name, versions]) in state.members.iter().zip(&shown) {
        let (mark, tone, word) = place(member);
        let (mark, word) = (face.paint.tone(tone, mark), face.paint.tone(tone, word));
        let [names, others] = widths;
        text.push_str(&format!("  {mark} {name:<names$}  {versions:<others$}  {word}\n"));
    }
    text.push('\n');
    for (name, value) in facts(state) {
        let name = face.paint.tone(Tone::Quiet, format!("{name:<9}"));
        text.push_str(&format!("  {name} {}\n", visible(&value)));
    }
    text
}

fn facts(state: &UnitState) -> Vec<(&'static str, String)> {
    let mut facts = vec![("asked by", state.by.clone())];
    facts.extend(state.paused_by.clone().map(|by| ("paused by", by)));
    facts.extend(state.promoted_by.clone().map(|by| ("promoted", format!("by {by}"))));
    facts.extend(state.why.as_ref().map(|why| ("because", why.to_string())));
    facts
}

/// `v1 → v2`
fn versions(member: &MemberState) -> String {
    let before =
        member.before.as_ref().map_or("–".to_owned(), |version: &Version| visible(version.as_str()));
    format!("{before} → {}", visible(member.member.version.as_str()))
}

fn place(member: &MemberState) -> (&'static str, Tone, String) {
    let counts = &member.counts;
    let (mark, tone, word) = match member.state {
        MemberWord::Waits if member.member.needs.is_empty() => ("·", Tone::Quiet, "waits"),
        MemberWord::Waits => {
            let needs: Vec<String> = member.member.needs.iter().map(|name| visible(name)).collect();
            return ("·", Tone::Quiet, format!("waits for {}", needs.join(", ")));
        }
        MemberWord::Forward => {
            return ("▸", Tone::Caution, format!("rolling out, {}/{} well", counts.well, counts.total));
        }
        MemberWord::Good => ("✓", Tone::Good, "good"),
        MemberWord::Bad => ("✗", Tone::Bad, "bad"),
        MemberWord::GoesBack => {
            return ("◂", Tone::Bad, format!("goes back, {}/{} well", counts.well, counts.total));
        }
        MemberWord::Back => ("◂", Tone::Quiet, "back"),
        MemberWord::Halted => ("‖", Tone::Bad, "halted: it never had a good version"),
        MemberWord::Changed => ("‖", Tone::Bad, "left alone: it was given another version"),
    };
    (mark, tone, word.to_owned())
}

#[cfg(test)]
mod tests {
    use upbeat_model::Wall;
    use upbeat_model::rollout::{Counts, UnitMember, UnitWhy};

    use super::*;
    use crate::face::examples;

    fn member(entity: &str, needs: &[&str], state: MemberWord, well: usize) -> MemberState {
        MemberState {
            member: UnitMember {
                entity: entity.into(),
                version: Version::new("v2").unwrap(),
                needs: needs.iter().map(|name| (*name).to_owned()).collect(),
            },
            before: Version::new("v1").ok(),
            state,
            counts: Counts { total: 3, well, ..Counts::default() },
        }
    }

    fn unit(face: &Face, states: [MemberWord; 3]) -> UnitState {
        let [a, b, c] = states;
        UnitState {
            namespace: "prod".into(),
            unit: "release".into(),
            number: 1,
            course: UnitWord::Forward,
            by: "uid 1000".into(),
            began: Wall(face.now.0 - 42_000),
            ended: None,
            why: None,
            paused_by: None,
            promoted_by: None,
            members: vec![
                member("base", &[], a, 3),
                member("b", &["base"], b, 1),
                member("c", &["base", "b"], c, 0),
            ],
            history: Vec::new(),
        }
    }

    #[test]
    fn each_member_has_a_line_in_their_order() {
        let face = examples::face();
        let mut state = unit(&face, [MemberWord::Good, MemberWord::Forward, MemberWord::Waits]);
        insta::assert_snapshot!(show(&state, &face), @r"
        prod/release  rolling out, for 42s

          ✓ base  v1 → v2  good
          ▸ b     v1 → v2  rolling out, 1/3 well
          · c     v1 → v2  waits for base, b

          asked by  uid 1000
        ");
        let lost = Unreadable { namespace: "prod".into(), name: "old\u{1b}".into(), why: "full".into() };
        insta::assert_snapshot!(list(std::slice::from_ref(&state), &[lost], &face), @r"
        UNIT            STATE           GOOD  SINCE
        prod/release    rolling out     1/3   42s
        prod/old\u{1b}  cannot be read  ?     ?
        ");
        state = unit(&face, [MemberWord::GoesBack, MemberWord::Back, MemberWord::Bad]);
        state.course = UnitWord::Back;
        state.why = Some(UnitWhy::Aborted { by: "uid 1\u{1b}".into(), reason: "why not".into() });
        state.members[0].before = None;
        insta::assert_snapshot!(show(&state, &face), @r"
        prod/release  rolling back, for 42s

          ◂ base  – → v2   goes back, 3/3 well
          ◂ b     v1 → v2  back
          ✗ c     v1 → v2  bad

          asked by  uid 1000
          because   aborted by uid 1\u{1b}: why not
        ");
    }
}
