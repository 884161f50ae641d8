//! A daemon that is killed leaves nothing behind of the commands it asks.

use serde_json::{Value, json};

use crate::Journey;
use crate::home::{Home, eventually, is_alive, kill, lines};

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::new("a command that is asked dies with its daemon", with_the_daemon),
        Journey::new("what is left of a command whose shim died too, the next daemon kills", with_its_shim),
    ]
}

/// Below it is another, in a session of its own. Neither ends by itself.
const COMMAND: &str =
    "setsid sh -c 'echo $$ >> \"$1\"; exec sleep 600' sh \"$1\" & echo $$ >> \"$2\"; sleep 600";

/// An entity of which a command is asked.
struct Site {
    home: Home,
    /// The command, and the one below it.
    pids: [i32; 2],
}

fn begun() -> Site {
    let home = Home::new();
    let [below, own] = ["below", "own"].map(|name| home.outside(name));
    let [below_text, own_text] = [&below, &own].map(|path| path.to_str().unwrap());
    let exec = ["sh", "-c", COMMAND, "sh", below_text, own_text];
    let measure = json!({"source": {"exec": exec}, "success": "result < 1"});
    home.write("strategy.json", &json!({"analyses": [{"name": "load", "measure": measure}]}).to_string());
    let rollout = |words: &[&str]| home.run(&[&["rollout"], words].concat()).ok();
    rollout(&["start", "prod/web", "v1", "--success", "0", "--batch", "100%"]);
    rollout(&["report", "prod/web", "a=v1"]);
    rollout(&["start", "prod/web", "v2", "--success", "100", "--strategy", "strategy.json"]);
    eventually("it is told to run v2", || {
        let ran = rollout(&["report", "prod/web", "a=v1", "-o", "json"]);
        let told: Value = serde_json::from_str(&ran.stdout).unwrap();
        told["targets"][0]["assigned"]["version"] == "v2"
    });
    rollout(&["report", "prod/web", "a=v2"]);
    // The first of each: should it be asked again, others follow.
    let first = |path| lines(path).first().and_then(|line| line.parse::<i32>().ok());
    eventually("it is asked", || first(&below).is_some() && first(&own).is_some());
    let pids = [first(&own).unwrap(), first(&below).unwrap()];
    Site { home, pids }
}

fn with_the_daemon() {
    let Site { home, pids } = begun();
    home.kill_daemon();
    eventually("nothing of it is there", || pids.iter().all(|pid| !is_alive(*pid)));
    assert_eq!(home.daemon(), None, "nobody else has killed it");
}

fn with_its_shim() {
    let Site { home, pids: [own, below] } = begun();
    let shim = parent(own);
    // So that it does not see its daemon die.
    kill(shim, 19);
    home.kill_daemon();
    kill(shim, 9);
    eventually("the command dies with its shim", || !is_alive(own));
    assert!(is_alive(below), "it has left its session");
    // A change wakes one.
    home.run(&["rollout", "report", "prod/web", "a=v2"]).ok();
    eventually("the next daemon finds it", || !is_alive(below));
}

fn parent(pid: i32) -> i32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap().parse().unwrap()
}
