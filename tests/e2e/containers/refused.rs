//! What cannot be: each has its message, its place and what to do, and nothing that runs is touched for it.

use super::{Harbour, journey};
use crate::Journey;
use crate::home::{Ran, eventually};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("an update that cannot be made ready touches nothing that runs", untouched),
        journey("without an engine it is said where it was looked for", no_engine),
        journey("a port that is taken, a program that is not there, a container that ends at once", starts),
    ]
}

fn untouched() {
    let harbour = Harbour::new();
    harbour.file("  a: { image: IMAGE, command: STAYS }\n  b: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    let before = [harbour.run_of("a-1"), harbour.run_of("b-1")];
    harbour.file(
        "  a: { image: IMAGE, command: STAYS, environment: { V: \"2\" } }
  b: { image: \"127.0.0.1:9/none:1\", command: STAYS }
",
    );
    let ran = harbour.home.run(&["up", "-d", "--wait"]).code(1);
    assert!(said(&ran).contains("127.0.0.1:9/none:1"), "{}", said(&ran));
    assert_eq!([harbour.run_of("a-1"), harbour.run_of("b-1")], before);
    let why = harbour.home.run(&["why", "a"]).ok().stdout;
    assert!(why.contains("runs on until b-1 can be started"), "{why}");
    // Taken back, nothing has happened.
    harbour.file("  a: { image: IMAGE, command: STAYS }\n  b: { image: IMAGE, command: STAYS }\n");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!([harbour.run_of("a-1"), harbour.run_of("b-1")], before);
    eventually("nothing is left of the attempt", || harbour.containers().len() == 2);
}

fn no_engine() {
    let mut harbour = Harbour::new();
    let nowhere = harbour.home.outside("no.sock");
    harbour.home.set("DOCKER_HOST", format!("unix://{}", nowhere.display()));
    harbour.file("  a: { image: IMAGE, command: STAYS }\n  b: { command: [sleep, \"600\"] }\n");
    let ran = harbour.home.run(&["up", "-d", "--wait"]).code(1);
    assert!(
        said(&ran).contains("no.sock") && said(&ran).contains("is it installed and started?"),
        "{}",
        said(&ran)
    );
    assert_eq!(harbour.home.phase("b-1"), "running");
    // What needs no engine to go, goes.
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.home.leftovers().iter().filter(|(_, name)| name == "sleep").count(), 0);
}

fn starts() {
    let harbour = Harbour::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    harbour.file(&format!("  web: {{ image: IMAGE, command: STAYS, ports: [\"127.0.0.1:{port}:80\"] }}\n"));
    let ran = harbour.home.run(&["up", "-d", "--wait"]).code(1);
    assert!(said(&ran).contains(&port.to_string()), "{}", said(&ran));
    harbour.file("  web: { image: IMAGE, command: [no-such-program] }\n");
    let ran = harbour.home.run(&["up", "-d", "--wait"]).code(1);
    assert!(said(&ran).contains("no-such-program"), "{}", said(&ran));
    harbour.file("  web: { image: IMAGE, command: [sh, -c, \"echo out of luck; exit 3\"] }\n");
    // It has run for a moment, and that may be all `--wait` needs to see.
    harbour.home.run(&["up", "-d"]);
    eventually("it says how it ended, and its last lines", || {
        let why = harbour.home.run(&["why", "web"]).stdout;
        why.contains("exit 3") && why.contains("out of luck")
    });
    harbour.home.run(&["down"]).ok();
    assert_eq!(harbour.containers(), Vec::<String>::new());
}

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}
