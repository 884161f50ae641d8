//! What is read from where, and everything that is refused.

use upbeat_model::EventWord;

use super::*;
use crate::face::{Paint, diagnostics};

fn file(text: &str) -> Sources {
    Sources { files: vec![("config.toml".into(), text.into())], ..Sources::default() }
}

fn refused(sources: Sources) -> String {
    let errors = read(sources).unwrap_err();
    diagnostics::text(&errors.diagnostics, &errors.sources, Paint::Plain)
}

fn shown(settings: &Settings) -> String {
    settings.all().iter().map(|s| format!("{} = {} from {}\n", s.name, s.value, s.source)).collect()
}

#[test]
fn without_a_word_everything_is_as_it_is_by_itself() {
    let settings = read(Sources::default()).unwrap();
    assert_eq!(settings.api, Api::default());
    let orchestrator = Orchestrator { manager_enabled: true, auto_start_dependencies: true };
    assert_eq!(settings.orchestrator, orchestrator);
    assert!(settings.all().iter().all(|shown| shown.source == Source::Default));
}

#[test]
fn the_last_place_that_says_something_counts_and_is_named() {
    let settings = read(Sources {
        files: vec![
            (
                "/etc/upbeat/config.toml".into(),
                "[api]\nlisten = '127.0.0.1:1'\ntls_cert = '/c'\ntls_key='/k'\nallowed_hosts = ['a']\n\
                 socket_group = 'staff'"
                    .into(),
            ),
            (
                "/home/a/config.toml".into(),
                "api.listen = \"127.0.0.1:2\"\norchestrator.services.manager_enabled = true".into(),
            ),
        ],
        variables: vec![
            ("UPBEAT_API_LISTEN".into(), "127.0.0.1:3".into()),
            ("UPBEAT_API_ALLOWED_HOSTS".into(), "b, c".into()),
            ("UPBEAT_API_SOCKET_GROUP".into(), "".into()),
            ("UPBEAT_STATE_DIR".into(), "/x".into()),
        ],
        flags: vec![("--listen", "[::1]:4".into())],
    })
    .unwrap();
    insta::assert_snapshot!(shown(&settings), @r#"
    api.listen = "[::1]:4" from --listen
    api.tls_cert = "/c" from /etc/upbeat/config.toml:3:12
    api.tls_key = "/k" from /etc/upbeat/config.toml:4:9
    api.allowed_hosts = ["b", "c"] from UPBEAT_API_ALLOWED_HOSTS
    api.socket_group =  from UPBEAT_API_SOCKET_GROUP
    docker.host =  from default
    docker.config =  from default
    log.format = "text" from default
    log.target =  from default
    orchestrator.services.manager_enabled = true from /home/a/config.toml:2:41
    orchestrator.services.auto_start_dependencies = true from default
    rollouts.listen =  from default
    rollouts.callbacks = [] from default
    "#);
    assert_eq!(settings.api.listen, Some("[::1]:4".parse().unwrap()));
    assert_eq!(settings.api.socket_group, None);
}

#[test]
fn what_is_unknown_or_of_another_kind_is_shown_where_it_stands() {
    insta::assert_snapshot!(refused(file("[api]\nlitsen = '127.0.0.1:1'\nallowed_hosts = 'a'\n\n[apy]\nx = 1\n[orchestrator]\nservices = 3\nmode = 1\n")), @r#"
    error: There is no setting `litsen` in `api`
     --> config.toml:2:1
      |
    2 | litsen = '127.0.0.1:1'
      | ^^^^^^
      |
      = hint: did you mean `listen`?

    error: `api.allowed_hosts` has to be a list of texts, such as `["one", "two"]`
     --> config.toml:3:17
      |
    3 | allowed_hosts = 'a'
      |                 ^^^

    error: There is no setting `apy`
     --> config.toml:5:2
      |
    5 | [apy]
      |  ^^^
      |
      = hint: did you mean `api`?

    error: `orchestrator.services` is a table, and this is none
     --> config.toml:8:12
      |
    8 | services = 3
      |            ^
      |
      = hint: write `[orchestrator.services]` above its keys

    error: There is no setting `mode` in `orchestrator`
     --> config.toml:9:1
      |
    9 | mode = 1
      | ^^^^
      |
      = hint: `upbeat serve --print-settings` lists them all
    "#);
    insta::assert_snapshot!(refused(file("[api]\nlisten = localhost\n")), @"
    error: String values must be quoted, expected literal string
     --> config.toml:2:10
      |
    2 | listen = localhost
      |          ^^^^^^^^^
    ");
    insta::assert_snapshot!(refused(file("[api]\nlisten = 'localhost:7000'\ntls_cert = 'relative'\nsocket_group = 7\n")), @r#"
    error: `api.listen` has to be an address and a port in quotes, such as `"127.0.0.1:7000"`
     --> config.toml:2:10
      |
    2 | listen = 'localhost:7000'
      |          ^^^^^^^^^^^^^^^^

    error: `api.tls_cert` has to be an absolute path in quotes
     --> config.toml:3:12
      |
    3 | tls_cert = 'relative'
      |            ^^^^^^^^^^

    error: `api.socket_group` has to be a text in quotes
     --> config.toml:4:16
      |
    4 | socket_group = 7
      |                ^
    "#);
    insta::assert_snapshot!(refused(file("[api]\n[api]\n")), @"
    error: Duplicate key
     --> config.toml:2:2
      |
    2 | [api]
      |  ^^^
    ");
}

#[test]
fn a_variable_of_one_of_our_tables_is_not_passed_over() {
    let variables = vec![
        ("UPBEAT_API_LISTN".to_owned(), "127.0.0.1:1".to_owned()),
        ("UPBEAT_API_LISTEN".to_owned(), "7000".to_owned()),
        ("UPBEAT_ORCHESTRATOR_SERVICES_MANAGER_ENABLED".to_owned(), "yes".to_owned()),
        ("UPBEAT_LOG".to_owned(), "debug".to_owned()),
    ];
    insta::assert_snapshot!(refused(Sources { variables, ..Sources::default() }), @"
    error: There is no setting of the variable `UPBEAT_API_LISTN`
     |
     = hint: did you mean `UPBEAT_API_LISTEN`?

    error: `UPBEAT_API_LISTEN` has to be an address and a port, such as `127.0.0.1:7000`

    error: `UPBEAT_ORCHESTRATOR_SERVICES_MANAGER_ENABLED` has to be `true` or `false`
    ");
}

#[test]
fn what_would_not_be_honoured_or_is_unsafe_is_refused() {
    let flags = vec![("--listen", "0.0.0.0:7000".to_owned())];
    insta::assert_snapshot!(refused(Sources { flags, ..Sources::default() }), @"
    error: `api.listen` (--listen) is `0.0.0.0:7000`, which others can reach, and there is no certificate: tokens would be sent in the clear
     |
     = hint: set `api.tls_cert` and `api.tls_key`, or listen on 127.0.0.1 and let a proxy speak TLS
    ");
    insta::assert_snapshot!(refused(file("[api]\ntls_cert = '/c'\n")), @"
    error: `api.tls_cert` is set (config.toml:2:12), and `api.tls_key` is not
     |
     = hint: a certificate and its key are of use only together
    ");
    let both = "[api]\nlisten = '0.0.0.0:1'\ntls_cert = '/c'\ntls_key = '/k'\n";
    assert!(read(file(both)).is_ok());
}

#[test]
fn a_host_that_is_none_is_refused_with_where_that_was_said() {
    let hosts = "[api]\nallowed_hosts = ['a.example', 'b.example:7000', 'https://c', '2001:db8::1']\n";
    insta::assert_snapshot!(refused(file(hosts)), @"
    error: `api.allowed_hosts` (config.toml:2:17) holds `b.example:7000`, which names no host
     |
     = hint: write names such as `upbeat.example`, or addresses, without a port: each port is meant

    error: `api.allowed_hosts` (config.toml:2:17) holds `https://c`, which names no host
     |
     = hint: write names such as `upbeat.example`, or addresses, without a port: each port is meant
    ");
    let variables = vec![("UPBEAT_API_ALLOWED_HOSTS".to_owned(), "a, b c".to_owned())];
    let told = refused(Sources { variables, ..Sources::default() });
    assert!(told.contains("(UPBEAT_API_ALLOWED_HOSTS) holds `b c`"), "{told}");
}

#[test]
fn the_settings_on_the_pages_are_read() {
    let pages = [
        include_str!("../../../../docs/access.md"),
        include_str!("../../../../docs/rollouts.md"),
        include_str!("../../../../docs/webhooks.md"),
    ];
    for page in pages {
        let toml: Vec<&str> =
            page.split("```toml\n").skip(1).filter_map(|block| block.split("```").next()).collect();
        assert!(!toml.is_empty());
        for text in toml {
            assert!(read(file(text)).is_ok(), "{}", refused(file(text)));
        }
    }
}

#[test]
fn every_setting_belongs_to_a_table_and_has_a_name_of_its_own() {
    let mut names: Vec<String> = table::SETTINGS.iter().map(table::Setting::name).collect();
    for setting in table::SETTINGS {
        assert!(table::TABLES.iter().any(|(known, _)| *known == setting.table), "{}", setting.name());
        assert!(Value::read(setting.kind, setting.default).is_some(), "{}", setting.name());
        assert!(!setting.words.ends_with('.'), "{}", setting.name());
    }
    names.sort();
    names.dedup();
    assert_eq!(names.len(), table::SETTINGS.len());
}

#[test]
fn the_users_file_follows_xdg() {
    let var = |set: &'static [(&str, &str)]| {
        move |name: &str| set.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
    };
    let at = |path: &str| Some(PathBuf::from(path));
    assert_eq!(user_file(var(&[("HOME", "/h")])), at("/h/.config/upbeat/config.toml"));
    assert_eq!(user_file(var(&[("HOME", "/h"), ("XDG_CONFIG_HOME", "/c")])), at("/c/upbeat/config.toml"));
    assert_eq!(user_file(var(&[("XDG_CONFIG_HOME", "relative")])), None);
}

#[test]
fn a_file_that_is_none_is_refused_and_one_that_is_missing_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("config.toml");
    assert_eq!(file_text(&path).unwrap(), None);
    std::fs::write(&path, [0xff, 0xfe]).unwrap();
    assert!(file_text(&path).is_err());
    std::fs::write(&path, "#".repeat(FILE_MAX as usize + 1)).unwrap();
    assert!(file_text(&path).is_err());
    assert!(file_text(dir.path()).is_err());
    // Nothing is waited for: a pipe that nobody writes to, a device that never ends.
    let pipe = dir.path().join("pipe");
    rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    for path in [pipe.as_path(), Path::new("/dev/zero"), Path::new("/dev/null")] {
        assert_eq!(
            file_text(path).unwrap_err().to_string(),
            "it is not a regular file",
            "{}",
            path.display()
        );
    }
}

#[test]
fn a_log_that_cannot_be_had_is_refused_with_where_that_was_said() {
    insta::assert_snapshot!(refused(file("[log]\nformat = 'morse'\n")), @r#"
    error: `log.format = "morse"` (config.toml:2:10) is no format of a log
     |
     = hint: it can be `text`, `json`, `journald`, `syslog`, `logstash`
    "#);
    insta::assert_snapshot!(refused(file("log.format = 'logstash'\n")), @"
    error: A log for logstash needs a place to go to (config.toml:1:14)
     |
     = hint: say where: `--log-target tcp://HOST:PORT`, or `udp://HOST:PORT`
    ");
    insta::assert_snapshot!(refused(file("[log]\nformat = 'json'\ntarget = 'tcp://logs:5'\n")), @"
    error: A log in the format `json` cannot go to `tcp://logs:5` (config.toml:3:10)
     |
     = hint: it can go to `stderr`; over a network, `logstash` is JSON as well
    ");
}

#[test]
fn whom_rollouts_are_open_to_and_whom_they_ask_is_checked() {
    let settings =
        read(file("[rollouts]\nlisten = '127.0.0.1:8080'\ncallbacks = ['10.0.0.0/8', '*.example:443']"))
            .unwrap();
    assert_eq!(settings.rollouts.listen, Some("127.0.0.1:8080".parse().unwrap()));
    let allowed = |settings: &Settings, host: &str, address: &str| {
        settings.callbacks().judge(host, address.parse().unwrap()).is_ok()
    };
    assert!(allowed(&settings, "10.1.2.3", "10.1.2.3:80"));
    assert!(allowed(&settings, "a.example", "192.0.2.1:443"));
    assert!(!allowed(&settings, "a.example", "192.0.2.1:80"));
    assert!(allowed(&settings, "localhost", "127.0.0.1:80"), "only this machine can say whom to ask");
    let open = read(file("[api]\nlisten = '0.0.0.0:7000'\ntls_cert = '/c'\ntls_key = '/k'")).unwrap();
    assert!(!allowed(&open, "localhost", "127.0.0.1:80"), "others can, too");
    insta::assert_snapshot!(refused(file("[rollouts]\nlisten = '0.0.0.0:8080'\ncallbacks = ['10.0.0.0/99']")), @"
    error: `rollouts.listen` (config.toml:2:10) is `0.0.0.0:8080`, which others can reach, and nobody is asked for a token there
     |
     = hint: listen on 127.0.0.1 or [::1]; from elsewhere, rollouts are asked with a token at `api.listen`

    error: `rollouts.callbacks` (config.toml:3:13) holds `10.0.0.0/99`, which has more bits behind `/` than an address
     |
     = hint: write names, `*.example.com`, addresses or networks such as `10.0.0.0/8`
    ");
}

const HOOK: &str = "[webhooks.ci]\nurl = 'http://127.0.0.1:1/hush'\nsecret_file = '/s'\n";

#[test]
fn webhooks_have_names_and_what_is_not_said_is_as_it_is_by_itself() {
    let more = format!(
        "{HOOK}[webhooks.\"a.b\"]\nurl = 'https://hooks.example/hush'\nsecret_file = '/t'\n\
         events = ['service', 'operation_ended']\napps = ['shop']\n"
    );
    // The user's file changes one thing of one.
    let user = "webhooks.ci.namespaces = ['prod']\n".to_owned();
    let files = vec![("config.toml".to_owned(), more), ("user.toml".to_owned(), user)];
    let settings = read(Sources { files, ..Sources::default() }).unwrap();
    let all = settings.webhooks();
    let [dotted, ci] = &all[..] else { panic!("two are set") };
    assert_eq!((ci.name.as_str(), ci.url.as_str()), ("ci", "http://127.0.0.1:1/hush"));
    assert_eq!(
        (ci.secret_file.as_path(), &ci.wanted.kinds[..]),
        (Path::new("/s"), &[EventWord::Rollout][..])
    );
    assert_eq!(ci.wanted.namespaces, ["prod"]);
    assert_eq!((dotted.name.as_str(), dotted.wanted.kinds.len(), dotted.wanted.apps.len()), ("a.b", 7, 1));
    let shown: String = shown(&settings)
        .lines()
        .filter(|line| line.starts_with("webhooks"))
        .fold(String::new(), |text, line| text + line + "\n");
    insta::assert_snapshot!(shown, @r#"
    webhooks.a.b.url = "https://hooks.example/…" from config.toml:5:7
    webhooks.a.b.secret_file = "/t" from config.toml:6:15
    webhooks.a.b.events = ["service", "operation_ended"] from config.toml:7:10
    webhooks.a.b.apps = ["shop"] from config.toml:8:8
    webhooks.a.b.namespaces = [] from default
    webhooks.ci.url = "http://127.0.0.1:1/…" from config.toml:2:7
    webhooks.ci.secret_file = "/s" from config.toml:3:15
    webhooks.ci.events = ["rollout"] from default
    webhooks.ci.apps = [] from default
    webhooks.ci.namespaces = ["prod"] from user.toml:1:26
    "#);
}

#[test]
fn a_webhook_that_could_not_be_told_is_refused_with_where_that_was_said_and_without_its_address() {
    insta::assert_snapshot!(refused(file(
        "[webhooks.\"a/b\"]\nurl = 'x'\n[webhooks.ci]\nulr = 'x'\nevents = 'rollout'\nsecret_file = 'here'\n[webhooks]\nmax = 3\n"
    )), @r#"
    error: `a/b` is not a valid name of a webhook: only letters, digits, `.`, `_` and `-` are allowed
     --> config.toml:1:11
      |
    1 | [webhooks."a/b"]
      |           ^^^^^

    error: There is no setting `ulr` in `webhooks.ci`
     --> config.toml:4:1
      |
    4 | ulr = 'x'
      | ^^^
      |
      = hint: did you mean `url`?

    error: `webhooks.ci.events` has to be a list of texts, such as `["one", "two"]`
     --> config.toml:5:10
      |
    5 | events = 'rollout'
      |          ^^^^^^^^^

    error: `webhooks.ci.secret_file` has to be an absolute path in quotes
     --> config.toml:6:15
      |
    6 | secret_file = 'here'
      |               ^^^^^^

    error: `webhooks.max` is a table, and this is none
     --> config.toml:8:7
      |
    8 | max = 3
      |       ^
      |
      = hint: write `[webhooks.max]` above its keys
    "#);
    insta::assert_snapshot!(refused(file("[webhooks.ci]\n[webhooks.cd]\nurl = ''\nsecret_file = '/s'\n")), @r#"
    error: `webhooks.cd.url` is not set, and the webhook is (config.toml:2:11)
     |
     = hint: a webhook needs an address and a secret: `url = "https://…"`, `secret_file = "/…"`

    error: `webhooks.ci.url` is not set, and the webhook is (config.toml:1:11)
     |
     = hint: a webhook needs an address and a secret: `url = "https://…"`, `secret_file = "/…"`

    error: `webhooks.ci.secret_file` is not set, and the webhook is (config.toml:1:11)
     |
     = hint: a webhook needs an address and a secret: `url = "https://…"`, `secret_file = "/…"`
    "#);
    let with = |line: &str| refused(file(&format!("{HOOK}{line}\n")));
    insta::assert_snapshot!(with("events = ['rollout', 'rolout']"), @"error: `webhooks.ci.events` (config.toml:4:10) holds what it cannot: `rolout` is no kind of events; they are `service`, `build`, `operation`, `phase`, `reacted`, `remedied`, `reloaded`, `drifted`, `adopted`, `built`, `build_failed`, `operation_started`, `operation_ended`, `rollout`");
    insta::assert_snapshot!(with("events = []"), @"
    error: `webhooks.ci.events` (config.toml:4:10) is empty: nothing would ever be told
     |
     = hint: leave the webhook out, or say of what
    ");
    insta::assert_snapshot!(with("apps = ['shop']"), @"
    error: `webhooks.ci.apps` (config.toml:4:8) names apps, and of apps nothing is told: rollouts are of no app
     |
     = hint: add `service` or `operation` to `events`, or leave it out
    ");
    insta::assert_snapshot!(with("events = ['service']\nnamespaces = ['prod']\napps = ['a b']"), @"
    error: `webhooks.ci.apps` (config.toml:6:8) holds `a b`, which names no app: only letters, digits, `.`, `_` and `-` are allowed

    error: `webhooks.ci.namespaces` (config.toml:5:14) names namespaces, and of rollouts nothing is told
     |
     = hint: add `rollout` to `events`, or leave it out
    ");
    let at = |url: &str| refused(file(&format!("[webhooks.ci]\nsecret_file = '/s'\nurl = '{url}'\n")));
    let told = [
        at("ftp://hooks.example/hush"),
        at("https://ann:hush@hooks.example/"),
        at("http://169.254.169.254/latest/hush"),
        at("http://192.0.2.1/hush"),
    ]
    .concat();
    assert!(!told.contains("hush"), "{told}");
    insta::assert_snapshot!(told, @"
    error: `webhooks.ci.url` (config.toml:3:7) must begin with `http://` or `https://`

    error: `webhooks.ci.url` (config.toml:3:7) must have no login before `@`

    error: `webhooks.ci.url` (config.toml:3:7) cannot be reached: `169.254.169.254` may not be asked: it is a link-local address, which no block of the allow-list means
     |
     = hint: the allow-list is `rollouts.callbacks`: name the host there, if it is right

    error: `webhooks.ci.url` (config.toml:3:7) cannot be reached: `192.0.2.1` may not be asked: no entry of the allow-list is for it and port 80
     |
     = hint: the allow-list is `rollouts.callbacks`: name the host there, if it is right
    ");
    let variables = vec![("UPBEAT_WEBHOOKS_CI_URL".to_owned(), "http://a".to_owned())];
    insta::assert_snapshot!(refused(Sources { variables, ..Sources::default() }), @"
    error: There is no setting of the variable `UPBEAT_WEBHOOKS_CI_URL`
     |
     = hint: webhooks are set in files only: `[webhooks.NAME]`
    ");
}

#[test]
fn there_are_at_most_so_many_webhooks() {
    let many =
        |count: usize| -> String { (0..count).map(|n| HOOK.replace("ci", &format!("h{n:02}"))).collect() };
    let most = upbeat_control::webhooks::WEBHOOKS_MAX;
    assert_eq!(read(file(&many(most))).unwrap().webhooks().len(), most);
    insta::assert_snapshot!(refused(file(&many(most + 2))), @"
    error: `webhooks` has 18 tables, and 16 at most are told (config.toml:49:11)
     |
     = hint: let one receiver pass on to others what it is told
    ");
    assert!(table::TABLES.iter().any(|(_, words)| words.contains(&format!("At most {most}"))));
}
