//! The page about rollouts, typed.

use std::path::Path;

use crate::access::Served;
use crate::home::{Home, Ran};
use crate::readme::{ROOT, blocks};
use crate::{Journey, Need};

pub(super) fn journeys() -> Vec<Journey> {
    vec![
        Journey::new("the page about rollouts, typed", typed),
        Journey::needing(&[Need::CURL], "the page's controllers, with curl, and the open address", asked),
        Journey::new("the page about rollouts says what is bounded, and how much", bounds),
    ]
}

const PAGE: &str = "docs/rollouts.md";

/// What of the page asks over HTTP, or not.
fn page(is_over_http: bool) -> String {
    let typed = blocks(PAGE, "sh").into_iter().filter(|block| block.contains("curl") == is_over_http);
    typed.collect()
}

#[track_caller]
fn type_in(home: &Home, typed: &str) -> Ran {
    let dir = Path::new(env!("CARGO_BIN_EXE_upbeat")).parent().unwrap().display().to_string();
    let script = format!("set -euo pipefail; PATH=\"{dir}:$PATH\"\n{typed}");
    let ran = home.shell(&script).output().unwrap();
    let ran = Ran {
        stdout: String::from_utf8_lossy(&ran.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&ran.stderr).into_owned(),
        code: ran.status.code().unwrap_or(-1),
    };
    ran.ok()
}

fn typed() {
    let home = Home::new();
    let [strategy, measured] = &blocks(PAGE, "json")[..] else { panic!("two strategies are on the page") };
    home.write("strategy.json", strategy);
    home.write("measured.json", measured);
    let Ran { stdout, stderr, .. } = type_in(&home, &page(false));
    // What is said beside each line is so, in this order.
    let mut rest = stdout.as_str();
    for words in [
        "a       v2\nb       v1\nc       v1\n",
        "v1 → v2  rolling out",
        "  ▒▒▒▒▒▒▒▒▒▒▒▒▒░░░░░░░░░░░░░░░░░░░░░░░░░░░\n  1 on the way   2 to come   of 3 targets\n",
        "limits    batch 1, 100% have to be well for 3s within 2m, 0 may fail\n",
        "`v2` is held to be bad: 1 of 3 targets failed, and 0 may: a",
        "2       v2       v1    bad",
        "a       v4\nb       v1\nc       v1\n",
        "a       v4\nb       v1\nc       v1\n",
        "paused by",
        "`v3` is held to be bad: analysis `errors` failed: 1 failed, and 0 may; last: {\"rate\":0.2}",
        "shop/release  rolling out",
        "  ▸ db   v1 → v2  rolling out, 0/1 well\n  · api  v1 → v2  waits for db\n",
    ] {
        let at = rest.find(words).unwrap_or_else(|| panic!("{words} is not there, or not there:\n{stdout}"));
        rest = &rest[at + words.len()..];
    }
    for words in [
        "`demo/web` goes one step forward",
        "`demo/web` has a version that is good now",
        "`demo/web` goes back to the version before",
        "its version is good",
        "`demo/web` is forgotten; its targets run on",
        "`shop/release` is paused",
        "`shop/release` goes back with the next reports",
    ] {
        assert!(stderr.contains(words), "{words} in\n{stderr}");
    }
    assert_eq!(home.run(&["rollout", "ls", "-q"]).ok().stdout, "");
}

/// The address is one that is free.
fn asked() {
    let mut home = Home::new();
    let [settings] = &blocks(PAGE, "toml")[..] else { panic!("one file of settings is on the page") };
    let config = home.outside("config");
    std::fs::create_dir_all(config.join("upbeat")).unwrap();
    std::fs::write(config.join("upbeat/config.toml"), settings.replace(":8080", ":0")).unwrap();
    home.set("XDG_CONFIG_HOME", config.display().to_string());
    let served = Served::start(&home, &[]);
    let address = served.address_behind("rollouts are served without tokens to this machine");
    let typed = page(true);
    assert_eq!(typed.matches("127.0.0.1:8080").count(), 1, "{typed}");
    let said = type_in(&home, &typed.replace("127.0.0.1:8080", &address)).stdout;
    assert!(said.contains("v1\nv1\nv1\n"), "{said}");
    assert!(said.contains(r#""approval":{"exec":["cat"]}"#), "{said}");
    assert!(said.ends_with(r#"["demo"]"#), "{said}");
}

fn bounds() {
    use upbeat_control::rollouts as kept;
    use upbeat_model::rollout as model;
    use upbeat_server::bounds;
    let page = std::fs::read_to_string(format!("{ROOT}/{PAGE}")).unwrap();
    for row in [
        format!("| entities | {} |", kept::ENTITIES_MAX),
        format!("| targets of an entity | {} |", kept::TARGETS_MAX),
        format!(
            "| targets in one report | {}, in {} MiB |",
            upbeat_api::rollouts::Reports::MAX,
            bounds::REPORTS_BYTES_MAX >> 20
        ),
        format!("| labels of a target | {}, in {} KiB |", bounds::LABELS_MAX, model::LABELS_BYTES_MAX >> 10),
        format!("| labels of all stages | {} KiB |", model::STAGES_LABELS_MAX >> 10),
        format!("| a strategy | {} KiB |", kept::STRATEGY_BYTES_MAX >> 10),
        format!("| all targets of a daemon, in memory | {} MiB |", kept::HELD_BYTES_MAX >> 20),
        format!("for who comes without a token | a part in {} |", kept::LISTENER_SHARE),
        format!("in the making at once, at each door | {} MiB |", bounds::BODIES_BYTES_MAX >> 20),
        format!("in the making at once, at each door | {} MiB |", bounds::ANSWERS_BYTES_MAX >> 20),
        format!("who only looks, at each door | {} MiB |", bounds::LOOKS_BYTES_MAX >> 20),
        format!("take of an answer | {} MiB, ", upbeat_api::rollouts::TARGETS_BYTES_MAX >> 20),
        format!("| how long what is large waits for room | {} s |", bounds::ROOM_WAIT.as_secs()),
        format!("may stand still, once it has that | {} s |", bounds::STALL_TIMEOUT.as_secs()),
        format!("| how fast it goes at least, on the whole | {} KiB a second |", bounds::LEAST_RATE >> 10),
        format!(
            "| what is read of a body that was refused | {} MiB, for {} s |",
            bounds::LINGER_BYTES_MAX >> 20,
            bounds::LINGER_TIMEOUT.as_secs()
        ),
        format!("| a name, of a group too | {} bytes |", model::NAME_MAX),
        format!("| a version | {} bytes |", model::VERSION_MAX),
        format!("| a message | {} bytes; ", model::MESSAGE_MAX),
        format!("| stages; windows; freezes | {} each |", model::STAGES_MAX),
        format!("| analyses | {}, in {} KiB |", model::ANALYSES_MAX, model::ANALYSES_BYTES_MAX >> 10),
        format!("| rollouts in the history | {} |", model::HISTORY_MAX),
        format!("| connections where rollouts are open | {} |", bounds::ROLLOUTS_CONNECTIONS_MAX),
    ] {
        assert!(page.contains(&row), "{row}");
    }
}
