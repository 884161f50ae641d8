//! `token` and `audit`, typed.

use upbeat_api::{Asked, AuditHead, AuditRecord, Refused, Role, TokenInfo};
use upbeat_model::{AuditEntry, BadRecord, OperationId, Wall};

use super::room::Room;
use super::script::Script;
use crate::face::examples::{NOW, ago};

fn token(name: &str, role: Role, expires_at: Option<Wall>) -> TokenInfo {
    let expired = expires_at.is_some_and(|at| at <= NOW);
    let (name, created_at) = (name.parse().unwrap(), ago(7_200));
    TokenInfo { name, role, created_at, created_by: "uid 0".into(), expires_at, expired }
}

fn records() -> Vec<AuditRecord> {
    let asked = Asked {
        who: "token ci".into(),
        from: Some("192.0.2.7:5000".into()),
        method: "POST".into(),
        route: "/api/v1/apps/{app}/actions".into(),
        app: Some("shop".parse().unwrap()),
        what: "stop web".into(),
    };
    let refused = Refused {
        who: "nobody known".into(),
        from: Some("192.0.2.9:6000".into()),
        method: "GET".into(),
        path: "/\u{1b}[2J".into(),
        status: 401,
        why: "there is no token".into(),
        not_written: 12,
    };
    let turned_away = Refused {
        who: "uid 7".into(),
        from: None,
        method: String::new(),
        path: String::new(),
        status: 403,
        why: "uid 7 may not speak to this daemon".into(),
        not_written: 0,
    };
    let entries = [
        AuditEntry::Asked(asked),
        AuditEntry::Answered { asked: 1, status: 200, operation: Some(OperationId(4)) },
        AuditEntry::Answered { asked: 1, status: 503, operation: None },
        AuditEntry::Refused(refused),
        AuditEntry::Refused(turned_away),
        AuditEntry::Gap { missed: 2, since: ago(60), what: vec!["uid 0: stop of shop".into()] },
        AuditEntry::Dropped { before: 3, last: "ab".repeat(32) },
        AuditEntry::Found { what: "the key was gone".into() },
    ];
    let record = |(n, entry): (usize, AuditEntry)| AuditRecord {
        sequence: n as u64 + 1,
        at: ago(60 - n as i64),
        previous: "0".repeat(64),
        entry,
        hash: "1".repeat(64),
    };
    entries.into_iter().enumerate().map(record).collect()
}

#[tokio::test]
async fn tokens_are_listed_without_the_tokens() {
    let tokens = || {
        Script::of(Vec::new()).with(|facts| {
            facts.tokens = vec![
                token("ci", Role::Operator, Some(Wall(NOW.0 + 86_400_000))),
                token("eve", Role::Viewer, Some(ago(60))),
                token("root", Role::Admin, None),
            ];
        })
    };
    insta::assert_snapshot!(Room::new().with(tokens(), &["token", "ls"]).await, @"
    TOKEN  ROLE      EXPIRES              AGE  MADE BY
    ci     operator  2026-03-02 12:00:00  2h   uid 0
    eve    viewer    expired              2h   uid 0
    root   admin     never                2h   uid 0
    --- Ok
    ");
    insta::assert_snapshot!(Room::new().with(tokens(), &["-q", "token", "ls"]).await, @"
    ci
    eve
    root
    --- Ok
    ");
    insta::assert_snapshot!(Room::new().with(Script::of(Vec::new()), &["token", "ls"]).await, @"
    No token is there; `upbeat token create` makes one.
    --- Ok
    ");
}

#[tokio::test]
async fn a_token_is_printed_alone_so_that_a_script_can_take_it() {
    let room = Room::new();
    let create = ["token", "create", "ci", "--role", "viewer"];
    let uid = format!("uid {}", rustix::process::geteuid().as_raw());
    insta::assert_snapshot!(room.with(Script::of(Vec::new()), &create).await, @"
    upb_0123
    --- Ok
    upbeat: `ci` is viewer until it is revoked; it is shown only now:
    ");
    let for_long = [&create[..], &["--expires", "30d", "-o", "json"]].concat();
    let json = Room::new().with(Script::of(Vec::new()), &for_long).await;
    insta::assert_snapshot!(json.replace(&uid, "uid N"), @r#"
    {
      "token": "upb_0123",
      "info": {
        "name": "ci",
        "role": "viewer",
        "created_at": 1772366400000,
        "created_by": "uid N",
        "expires_at": 1774958400000,
        "expired": false
      }
    }
    --- Ok
    "#);
    insta::assert_snapshot!(Room::new().with(Script::of(Vec::new()), &["token", "revoke", "ci"]).await, @"
    --- Ok
    upbeat: `ci` lets nobody in any more
    ");
}

#[tokio::test]
async fn records_read_as_sentences_and_do_nothing_to_a_terminal() {
    let script = || Script::of(Vec::new()).with(|facts| facts.records = records());
    insta::assert_snapshot!(Room::new().with(script(), &["audit", "ls"]).await, @r"
    11:59:00 1 token ci from 192.0.2.7:5000: stop web of shop (POST /api/v1/apps/{app}/actions)
    11:59:01 2 outcome of 1: 200, operation 4
    11:59:02 3 outcome of 1: 503
    11:59:03 4 refused nobody known from 192.0.2.9:6000: GET /\u{1b}[2J: there is no token (401); 12 refusals before it came too fast to be written
    11:59:04 5 refused uid 7: uid 7 may not speak to this daemon (403)
    11:59:05 6 2 could not be written since 11:59:00: uid 0: stop of shop
    11:59:06 7 records before 3 are no longer kept
    11:59:07 8 not as it was left: the key was gone
    --- Ok
    ");
    let since = Room::new().with(script(), &["audit", "ls", "--since", "54s"]).await;
    assert_eq!(since.lines().next().map(|line| line.contains(" 7 records before 3")), Some(true), "{since}");
}

#[tokio::test]
async fn a_verdict_is_the_exit_status_too() {
    let good = || {
        Script::of(Vec::new()).with(|facts| {
            facts.records = records();
            facts.verdict.good = 8;
            facts.verdict.first = 1;
            facts.verdict.head = AuditHead { count: 8, hash: "1".repeat(64) };
            facts.verdict.anchor = Some(facts.verdict.head.clone());
            facts.verdict.unanswered = vec![5, 7];
            facts.verdict.notes = vec!["record 6: 2 could not be written at their time".into()];
        })
    };
    insta::assert_snapshot!(Room::new().with(good(), &["audit", "verify"]).await, @"
    whole: records 1 to 8
    head: 8:1111111111111111111111111111111111111111111111111111111111111111
    note: no outcome is recorded of 5, 7: under way, or the daemon was killed meanwhile
    note: record 6: 2 could not be written at their time
    --- Ok
    ");
    let noted = format!("3:{}", "1".repeat(64));
    let verify =
        async |anchor: &str| Room::new().with(good(), &["audit", "verify", "--anchor", anchor]).await;
    assert!(verify(&noted).await.contains("--- Ok"));
    insta::assert_snapshot!(verify(&format!("3:{}", "2".repeat(64))).await, @"
    not whole: record 3 at the log of the daemon: it is another than the one whose hash was given
    8 records good, up to record 8
    note: no outcome is recorded of 5, 7: under way, or the daemon was killed meanwhile
    note: record 6: 2 could not be written at their time
    --- Failed
    error: The audit log is not as it was written
    ");
    insta::assert_snapshot!(verify(&format!("9:{}", "1".repeat(64))).await, @"
    not whole: record 9 at the log of the daemon: it is missing; there are fewer records
    8 records good, up to record 8
    note: no outcome is recorded of 5, 7: under way, or the daemon was killed meanwhile
    note: record 6: 2 could not be written at their time
    --- Failed
    error: The audit log is not as it was written
    ");
    let bad = Script::of(Vec::new()).with(|facts| {
        facts.verdict.good = 1;
        let (place, why) = ("000.jsonl:2".into(), "its content is not what its hash says".into());
        facts.verdict.bad = Some(BadRecord { sequence: 2, place, why });
    });
    insta::assert_snapshot!(Room::new().with(bad, &["audit", "verify"]).await, @"
    not whole: record 2 at 000.jsonl:2: its content is not what its hash says
    1 record good, up to record 0
    note: without `--anchor`, records that are missing at the end cannot be seen
    --- Failed
    error: The audit log is not as it was written
    ");
    let hostile = Script::of(Vec::new()).with(|facts| {
        facts.verdict.good = 1;
        facts.verdict.head = AuditHead { count: 1, hash: "\u{1b}]0;mine\u{7}".into() };
        facts.verdict.notes = vec!["\u{1b}[2J".into()];
    });
    let told = Room::new().with(hostile, &["audit", "verify"]).await;
    assert!(told.contains(r"head: 1:\u{1b}]0;mine\u{7}") && !told.contains('\u{1b}'), "{told}");
    insta::assert_snapshot!(Room::new().run(&["audit", "verify"]).await, @"
    --- NotFound
    error: There is no audit log in `/room/state`
    hint: `upbeat up` or `upbeat serve` begins one
    ");
}

#[tokio::test]
async fn another_daemon_is_named_in_full() {
    for (args, why) in [
        (&["--host", "example.org", "ps"][..], "has to begin with"),
        (&["--host", "http://example.org:7000", "ps"], "in the clear"),
        (&["--ca", "/c.pem", "ps"], "only for a daemon elsewhere"),
        (&["--host", "https://localhost:1", "serve"], "of this machine"),
        (&["--host", "https://localhost:1", "--ca", "/nowhere.pem", "ps"], "/nowhere.pem"),
    ] {
        let told = Room::new().run(args).await;
        assert!(told.contains("--- Usage") && told.contains(why), "{args:?}: {told}");
    }
}
