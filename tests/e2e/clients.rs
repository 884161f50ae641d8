//! Several people change one app at the same time. Each learns how their own wish ended.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::Journey;
use crate::home::{Home, Ran, eventually};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        Journey {
            name: "twelve clients change one app at once, and each learns how its wish ended",
            needs: &[],
            run: at_once,
        },
        Journey { name: "who is overtaken is told by which operation", needs: &[], run: overtaken },
    ]
}

const CLIENTS: usize = 12;

/// Of each client in each round.
const WISHES: usize = 5;

/// What the clients ask for; each begins at another place.
const ASKED: [&[&str]; 9] = [
    &["scale", "web=3"],
    &["stop"],
    &["up", "-d"],
    &["restart"],
    &["scale", "web=1"],
    &["down"],
    &["up", "-d"],
    &["start"],
    &["scale", "web=2"],
];

/// Each copy takes its slot's lock by making a directory; a second copy would find it there. The
/// grace period is longer than any journey: a copy that was killed would leave its lock behind. So no
/// child may outlive the copy for long: one that was being forked when all were told to stop can miss
/// it, and has the whole grace period.
const FILE: &str = "services:\n  web:\n    command: [sh, one.sh]\n    scale: 2\n    restart: always\n    stop_grace_period: 1h\n    healthcheck: { log: up }\n";
const ONE: &str = r#"
slot=${UPBEAT_INSTANCE%#*}
slot=web-${slot##*/}
trap 'trap "" TERM; rmdir "held/$slot"; exit 0' TERM
mkdir "held/$slot" || { echo "$UPBEAT_INSTANCE" >> twice; exit 1; }
echo up
while :; do sleep 0.05; done
"#;

/// One wish of one client: what was asked, and what the client was told.
struct Told {
    asked: String,
    in_json: bool,
    ran: Ran,
}

/// A change as the journal has it.
#[derive(Debug)]
struct Operation {
    what: String,
    who: String,
    /// How it ended, once it has.
    outcome: Option<String>,
}

fn at_once() {
    let home = Home::with(FILE);
    home.write("one.sh", ONE);
    std::fs::create_dir(home.project().join("held")).unwrap();
    home.run(&["up", "-d", "--wait"]).ok();
    let up: &[&str] = &["up", "-d", "--wait"];
    let lasts: [(&[&[&str]], &str, u32); 4] = [
        (&[up], "healthy", 2),
        (&[up, &["scale", "web=3"]], "healthy", 3),
        (&[up, &["stop"]], "stopped", 2),
        (&[&["down"]], "", 0),
    ];
    let mut codes = BTreeMap::new();
    for (round, (last, phase, copies)) in lasts.into_iter().enumerate() {
        let told = all_at_once(&home, round);
        for command in last {
            home.run(command).ok();
        }
        let names: Vec<String> = (1..=copies).map(|copy| format!("web-{copy}")).collect();
        let phases: Vec<(String, String)> = home.slots().into_iter().map(phase_of).collect();
        let expected: Vec<(String, String)> = names.iter().map(|n| (n.clone(), phase.to_owned())).collect();
        assert_eq!(phases, expected, "after {last:?}");
        assert_eq!(held(&home), if phase == "healthy" { names } else { vec![] }, "after {last:?}");
        assert_eq!(home.read("twice"), "", "two copies at once");
        eventually("every operation has ended", || operations(&home).values().all(|o| o.outcome.is_some()));
        let operations = operations(&home);
        for told in &told {
            check(told, &operations);
            *codes.entry(told.ran.code).or_insert(0) += 1;
        }
    }
    // Or it was no contest.
    assert!(codes.contains_key(&0) && codes.contains_key(&4), "{codes:?}");
}

fn phase_of((name, slot): (String, Value)) -> (String, String) {
    (name, slot["phase"].as_str().unwrap().to_owned())
}

/// The locks that are held.
fn held(home: &Home) -> Vec<String> {
    let locks = std::fs::read_dir(home.project().join("held")).unwrap();
    let mut held: Vec<String> = locks.map(|lock| lock.unwrap().file_name().into_string().unwrap()).collect();
    held.sort();
    held
}

fn all_at_once(home: &Home, round: usize) -> Vec<Told> {
    std::thread::scope(|scope| {
        let client = |client: usize| {
            let wish = move |n: usize| {
                let asked = ASKED[(client + round + n * 2) % ASKED.len()];
                let in_json = client % 2 == 1;
                let arguments = if in_json { [asked, &["-o", "json"]].concat() } else { asked.to_vec() };
                let asked = asked.iter().filter(|word| **word != "-d").copied().collect::<Vec<_>>().join(" ");
                Told { asked, in_json, ran: patiently(home, &arguments) }
            };
            scope.spawn(move || (0..WISHES).map(wish).collect::<Vec<_>>())
        };
        let clients: Vec<_> = (0..CLIENTS).map(client).collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// Runs it to its end, which it must come to.
fn patiently(home: &Home, arguments: &[&str]) -> Ran {
    let mut running = home.spawn(arguments);
    eventually(&format!("{arguments:?} has returned"), || running.child.try_wait().unwrap().is_some());
    running.end()
}

/// Every change of the app so far.
fn operations(home: &Home) -> BTreeMap<u64, Operation> {
    let mut operations = BTreeMap::new();
    for line in home.run(&["events", "-o", "json"]).ok().stdout.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| event[key].as_str().unwrap().to_owned();
        let id = event["operation"].as_u64();
        match event["event"].as_str() {
            Some("operation_started") => {
                let begun = Operation { what: text("what"), who: text("who"), outcome: None };
                assert!(operations.insert(id.unwrap(), begun).is_none(), "begun twice: {line}");
            }
            Some("operation_ended") => {
                let operation: &mut Operation = operations.get_mut(&id.unwrap()).unwrap();
                assert!(operation.outcome.replace(text("outcome")).is_none(), "ended twice: {line}");
            }
            _ => {}
        }
    }
    operations
}

/// What a client was told is what became of its wish.
fn check(told: &Told, operations: &BTreeMap<u64, Operation>) {
    let Told { asked, in_json, ran } = told;
    match ran.code {
        // Another client's `down` had come to its end: nothing was begun.
        3 => assert!(ran.stderr.contains("no app `project`") && ran.stdout.is_empty(), "{asked}: {ran:?}"),
        0 if ran.stderr.contains("nothing of `project` is there") => assert_eq!(asked, "down"),
        0 | 4 if *in_json && ran.stdout != "null\n" => check_json(asked, ran, operations),
        0 => assert!(!ran.stdout.contains("superseded"), "{asked}: {ran:?}"),
        4 => {
            let by = overtakers(&ran.stdout);
            assert!(!by.is_empty(), "{asked}: {ran:?}");
            for by in by {
                assert!(operations.contains_key(&by), "{asked} by {by} of {operations:?}");
            }
        }
        _ => panic!("{asked}: {ran:?}"),
    }
}

/// The numbers that a person reads.
fn overtakers(text: &str) -> Vec<u64> {
    let after = |line: &str| Some(line.split_once("superseded by operation ")?.1.parse().unwrap());
    text.lines().filter_map(after).collect()
}

/// The same for programs, which are told the number of their own operation too.
fn check_json(asked: &str, ran: &Ran, operations: &BTreeMap<u64, Operation>) {
    let shown: Value = serde_json::from_str(&ran.stdout).unwrap();
    let id = shown["id"].as_u64().unwrap();
    let operation = &operations[&id];
    assert_eq!((operation.what.as_str(), shown["what"].as_str()), (asked, Some(asked)));
    assert_eq!(operation.who, format!("uid {}", rustix::process::geteuid().as_raw()));
    let wishes = shown["slots"].as_object().unwrap().values();
    let by: Vec<u64> = wishes.filter_map(|wish| wish["by"].as_u64()).collect();
    assert_eq!(ran.code, if by.is_empty() { 0 } else { 4 }, "{asked}: {ran:?}");
    for by in &by {
        assert!(*by > id && operations.contains_key(by), "{id} by {by} of {operations:?}");
    }
    let ended = by.first().map_or("reached".to_owned(), |by| format!("superseded by operation {by}"));
    match shown["ended"] == true {
        true => assert_eq!(operation.outcome.as_ref(), Some(&ended), "{asked}: {ran:?}"),
        // It returns when the processes are there, which may be before the end.
        false => assert_eq!(asked, "up"),
    }
}

const NEVER_HEALTHY: &str =
    "services:\n  web: { command: [sleep, \"600\"], healthcheck: { log: never }, stop_grace_period: 1h }\n";

/// Told to stop, it goes on until the journey lets it go.
const SLOW_TO_STOP: &str = "services:\n  web:\n    command: [sh, slow.sh]\n    scale: 2\n    stop_grace_period: 1h\n    healthcheck: { log: up }\n";
const SLOW: &str =
    "trap 'while [ ! -e go ]; do sleep 0.02; done; exit 0' TERM\necho up\nwhile :; do sleep 0.05; done\n";

fn overtaken() {
    for (file, first, second, slots) in [
        (NEVER_HEALTHY, &["restart", "web"][..], "down", &["web-1"][..]),
        (NEVER_HEALTHY, &["scale", "web=3"], "stop", &["web-2", "web-3"]),
        (SLOW_TO_STOP, &["restart"], "stop", &["web-1", "web-2"]),
        (SLOW_TO_STOP, &["scale", "web=1"], "down", &["web-2"]),
    ] {
        let home = Home::with(file);
        home.write("slow.sh", SLOW);
        let up: &[&str] = if file == SLOW_TO_STOP { &["up", "-d", "--wait"] } else { &["up", "-d"] };
        home.run(up).ok();
        let asked = first.join(" ");
        let begun = home.spawn(first);
        eventually("the first is asked", || operations(&home).values().any(|o| o.what == asked));
        let overtaking = home.spawn(&[second, "-o", "json"]);
        let told = begun.end().code(4);
        home.write("go", "");
        let shown: Value = serde_json::from_str(&overtaking.end().ok().stdout).unwrap();
        let by = shown["id"].as_u64().unwrap();
        let lines: String =
            slots.iter().map(|slot| format!("{slot}  superseded by operation {by}\n")).collect();
        assert_eq!(told.stdout, lines, "{asked} and {second}");
        assert_eq!(told.stderr, "error: Somebody else asked for something else in the meantime\n");
        let operations = operations(&home);
        assert_eq!(operations[&by].what, second);
        let overtaken = operations.values().find(|o| o.what == asked).unwrap();
        assert_eq!(overtaken.outcome, Some(format!("superseded by operation {by}")));
        let phases: Vec<String> = home.slots().into_iter().map(|slot| phase_of(slot).1).collect();
        assert!(phases.iter().all(|phase| phase == "stopped"), "{phases:?}");
        assert_eq!(phases.is_empty(), second == "down");
    }
}
