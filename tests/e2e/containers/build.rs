//! Images that are built of a directory: once, again when somebody says so, and never at the cost of what runs.

use std::fs;

use serde_json::Value;

use super::{Harbour, journey};
use crate::Journey;
use crate::home::{Ran, eventually, ignored_signals};

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("what a file builds is built once, and again by --build, for its service alone", builds),
        journey("a step that fails is shown with its last lines, and nothing that runs is touched", fails),
        journey(
            "what .dockerignore leaves out is not in the image, nor are instructions from elsewhere",
            leaves_out,
        ),
        journey("a build that is interrupted is called off", interrupted),
        journey("the example of builds in docs/containers.md, typed", documented),
    ]
}

/// `web` is built of `./app`, without a network: not every engine has a bridge. `db` is not.
const SERVICES: &str = "  web:
    build: { context: app, network: none, args: { V: one } }
    command: STAYS
  db: { image: IMAGE, command: STAYS }
";

fn said(ran: &Ran) -> String {
    format!("{}{}", ran.stdout, ran.stderr)
}

/// With a directory `app` of these files; `IMAGE` is the harbour's.
fn with(files: &[(&str, &str)]) -> Harbour {
    let harbour = Harbour::new();
    harbour.file(SERVICES);
    write(&harbour, files);
    harbour
}

fn write(harbour: &Harbour, files: &[(&str, &str)]) {
    fs::create_dir_all(harbour.home.project().join("app")).unwrap();
    for (name, text) in files {
        harbour.home.write(&format!("app/{name}"), &text.replace("IMAGE", harbour.image.name()));
    }
}

fn up(harbour: &Harbour, more: &[&str]) -> Ran {
    harbour.home.run(&[&["up", "-d", "--wait"], more].concat())
}

/// What a file of a container holds.
fn file_of(harbour: &Harbour, slot: &str, path: &str) -> Option<String> {
    let root = harbour.inspect(slot).unwrap()["GraphDriver"]["Data"]["MergedDir"].clone();
    match root.as_str() {
        Some(root) => fs::read_to_string(format!("{root}{path}")).ok(),
        None => panic!("the engine does not say where the files of {slot} are"),
    }
}

fn builds() {
    let harbour = with(&[
        ("Dockerfile", "FROM IMAGE\nARG V\nCOPY said /said\nRUN echo $V >> /said\n"),
        ("said", "hello\n"),
    ]);
    let first = up(&harbour, &[]).ok();
    for step in ["web: step 1 of 4: FROM", "web: step 4 of 4: RUN echo $V >> /said"] {
        assert!(said(&first).contains(step), "{}", said(&first));
    }
    assert_eq!(file_of(&harbour, "web-1", "/said").as_deref(), Some("hello\none\n"));
    let (web, db) = (harbour.run_of("web-1"), harbour.run_of("db-1"));
    // It is there: nothing is built, and nothing begun anew.
    write(&harbour, &[("said", "other\n")]);
    let second = up(&harbour, &[]).ok();
    assert!(!said(&second).contains("step"), "{}", said(&second));
    assert_eq!((harbour.run_of("web-1"), harbour.run_of("db-1")), (web.clone(), db.clone()));
    // Built anew it is another image, and its service alone another container.
    up(&harbour, &["--build"]).ok();
    assert_ne!(harbour.run_of("web-1"), web);
    assert_eq!(harbour.run_of("db-1"), db);
    assert_eq!(file_of(&harbour, "web-1", "/said").as_deref(), Some("other\none\n"));
    // And of the same files it is the same.
    let web = harbour.run_of("web-1");
    up(&harbour, &["--build"]).ok();
    assert_eq!((harbour.run_of("web-1"), harbour.run_of("db-1")), (web.clone(), db));
    // `build` alone touches nothing that runs; the next `up` does.
    write(&harbour, &[("said", "third\n")]);
    let built = harbour.home.run(&["build", "-o", "json"]).ok();
    let built: Value = serde_json::from_str(&built.stdout).unwrap();
    assert_eq!((&built[0]["service"], built.as_array().unwrap().len()), (&"web".into(), 1));
    assert_eq!(harbour.run_of("web-1"), web);
    up(&harbour, &[]).ok();
    assert_eq!(harbour.inspect("web-1").unwrap()["Image"], built[0]["id"]);
    let audit = harbour.home.run(&["audit", "ls"]).ok().stdout;
    assert!(audit.contains(&format!("build {}-web for web", harbour.app)), "{audit}");
    let refused = harbour.home.run(&["build", "db"]).code(2);
    assert!(said(&refused).contains("`services.db` has no `build`"), "{}", said(&refused));
}

fn fails() {
    let harbour = with(&[("Dockerfile", "FROM IMAGE\n")]);
    up(&harbour, &[]).ok();
    let (web, db) = (harbour.run_of("web-1"), harbour.run_of("db-1"));
    write(&harbour, &[("Dockerfile", "FROM IMAGE\nRUN for n in $(seq 20); do echo line $n; done; exit 7\n")]);
    // Also what else has changed waits for a time when all of it can be had.
    harbour.file(&SERVICES.replace("db: {", "db: { environment: { V: \"2\" },"));
    let ran = up(&harbour, &["--build"]).code(1);
    let text = &ran.stderr;
    let place = "`services.web.build`: step 2 of 2, `RUN for n in";
    assert!(text.contains(place) && text.contains("code: 7"), "{text}");
    let last: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix("| line ")).collect();
    let wanted: Vec<String> = (11..=20).map(|n| n.to_string()).collect();
    assert_eq!(last, wanted, "{text}");
    assert_eq!((harbour.run_of("web-1"), harbour.run_of("db-1")), (web.clone(), db.clone()));
    for (file, words) in [
        ("FROM IMAGE\nRUN --mount=type=cache,target=/x true\n", "`--mount` needs BuildKit"),
        ("FROM IMAGE\nRUN <<EOF\nwhatever\nEOF\n", "heredoc (`<<`), which needs BuildKit"),
        ("FROM 127.0.0.1:9/none\n", "127.0.0.1:9"),
    ] {
        write(&harbour, &[("Dockerfile", file)]);
        let ran = harbour.home.run(&["build"]).code(1);
        assert!(ran.stderr.contains(words) && ran.stderr.contains("`services.web.build`"), "{}", ran.stderr);
    }
    fs::remove_file(harbour.home.project().join("app/Dockerfile")).unwrap();
    let ran = up(&harbour, &["--build"]).code(1);
    assert!(ran.stderr.contains("app/Dockerfile` is not there"), "{}", ran.stderr);
    assert_eq!((harbour.run_of("web-1"), harbour.run_of("db-1")), (web, db));
    let told = |kind: &str| harbour.home.run(&["events", "--kind", kind, "--json", "web"]).ok().stdout;
    let built: Vec<Value> = told("built").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(built.len(), 1, "{built:?}");
    assert_eq!(
        (&built[0]["service"], &built[0]["image"], built[0]["seconds"].is_u64()),
        (&Value::from("web"), &Value::from(format!("{}-web", harbour.app)), true)
    );
    let failed = told("build_failed");
    assert!(failed.contains("step 2 of 2, `RUN`, failed") && failed.contains("`FROM`, failed"), "{failed}");
    assert!(!failed.contains("$(seq"), "what a step is given is told to who builds alone: {failed}");
}

fn leaves_out() {
    let harbour = with(&[
        ("../Far", "FROM IMAGE\nCOPY . /all\nRUN cd /all && find . | sort > /list\n"),
        (".dockerignore", "# not these\n**/*.log\nsecret\n!keep.log\n"),
        ("a", "1"),
        ("x.log", "2"),
        ("keep.log", "3"),
        ("secret/key", "4"),
        ("d/y.log", "5"),
        ("d/z", "6"),
    ]);
    std::os::unix::fs::symlink("a", harbour.home.project().join("app/link")).unwrap();
    harbour.file(&SERVICES.replace("context: app,", "context: app, dockerfile: ../Far,"));
    up(&harbour, &[]).ok();
    let list = file_of(&harbour, "web-1", "/list").unwrap();
    let list: Vec<&str> = list.lines().collect();
    assert_eq!(list, [".", "./.dockerignore", "./a", "./d", "./d/z", "./keep.log", "./link"]);
    let root = harbour.inspect("web-1").unwrap()["GraphDriver"]["Data"]["MergedDir"].clone();
    let link = format!("{}/all/link", root.as_str().unwrap());
    assert_eq!(fs::read_link(link).unwrap(), std::path::Path::new("a"));
}

fn interrupted() {
    let harbour = with(&[]);
    let mark = format!("test={}", harbour.app);
    write(&harbour, &[("Dockerfile", &format!("FROM IMAGE\nLABEL {mark}\nRUN echo asleep; sleep 3600\n"))]);
    let running = harbour.home.spawn(&["build"]);
    eventually("it is at its last step", || harbour.docker.labelled(&mark).len() == 1);
    assert!(!ignored_signals(running.child.id()).contains(&2), "it is told nothing by SIGINT");
    running.signal(2);
    drop(running.end());
    eventually("nothing of it is left", || harbour.docker.labelled(&mark).is_empty());
    let is_recorded = || harbour.home.run(&["audit", "ls"]).ok().stdout.contains("499");
    eventually("that it was called off is on record", is_recorded);
    let words = "failed: whoever asked for it is gone, and it was called off";
    let is_told = || harbour.home.run(&["events"]).ok().stdout.contains(words);
    eventually("that it was called off is told", is_told);
    harbour.docker.purge(&mark);
}

/// As it stands on the page, but for the image it rests on, and for what a bridge is needed for.
fn documented() {
    let harbour = Harbour::new();
    let block = |language, about: &str| {
        let found = crate::readme::blocks("docs/containers.md", language);
        found.into_iter().find(|block| block.contains(about)).unwrap()
    };
    let file = block("yaml", "build: ./web").replace("name: pages", &format!("name: {}", harbour.app));
    let file = file.replace("build: ./web", "build: { context: ./web, network: none }");
    harbour.home.write("upbeat.yaml", &file.replace("ports: [\"8080:80\"]", "network_mode: none"));
    fs::create_dir_all(harbour.home.project().join("web/site")).unwrap();
    let dockerfile = block("dockerfile", "FROM busybox")
        .replace("FROM busybox", &format!("FROM {}", harbour.image.name()));
    harbour.home.write("web/Dockerfile", &dockerfile);
    harbour.home.write("web/site/index.html", "<h1>hello</h1>");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!(file_of(&harbour, "web-1", "/site/index.html").as_deref(), Some("<h1>hello</h1>"));
}
