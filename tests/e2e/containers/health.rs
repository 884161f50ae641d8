//! The health check of an image: whoever waits for the container waits for it.

use super::{Harbour, journey};
use crate::Journey;
use crate::home::eventually;

pub(crate) fn journeys() -> Vec<Journey> {
    vec![
        journey("who waits for a container to be healthy waits for the health check of its image", waits),
        journey("a health check that neither file nor image has is missed by name", misses),
    ]
}

const DOCKERFILE: &str =
    "FROM IMAGE\nHEALTHCHECK --interval=100ms --retries=1 --timeout=20s CMD cat /ready\n";

const SERVICES: &str = "  web:
    build: { context: app, network: none }
    command: STAYS
  front:
    image: IMAGE
    command: STAYS
    depends_on: { web: { condition: service_healthy } }
";

fn harbour(services: &str) -> Harbour {
    let harbour = Harbour::new();
    harbour.file(services);
    std::fs::create_dir_all(harbour.home.project().join("app")).unwrap();
    harbour.home.write("app/Dockerfile", &DOCKERFILE.replace("IMAGE", harbour.image.name()));
    harbour
}

fn waits() {
    let harbour = harbour(SERVICES);
    harbour.home.run(&["up", "-d"]).code(6);
    eventually("the engine has asked", || {
        harbour.inspect("web-1").is_some_and(|web| web["State"]["Health"]["Status"] == "unhealthy")
    });
    eventually("it is said", || harbour.home.phase("web-1") == "unhealthy");
    let why = harbour.home.run(&["why", "web"]).ok().stdout;
    assert!(why.contains("its health check (that of its image)") && why.contains("can't open"), "{why}");
    assert!(!harbour.is_running("front-1"));
    harbour.home.run(&["exec", "-T", "web", "sh", "-c", "echo well > /ready"]).ok();
    eventually("it is well", || harbour.home.phase("web-1") == "healthy");
    harbour.home.run(&["up", "-d", "--wait"]).ok();
    assert_eq!((harbour.home.phase("web-1").as_str(), harbour.is_running("front-1")), ("healthy", true));
    // What it is, is nothing that it is begun anew for, and a new daemon sees it, too.
    let web = harbour.run_of("web-1");
    harbour.home.kill_daemon();
    harbour.home.run(&["exec", "-T", "web", "rm", "/ready"]).ok();
    eventually("it is seen anew", || harbour.home.phase("web-1") == "unhealthy");
    assert_eq!(harbour.run_of("web-1"), web);
    // The file's word is before that of the image.
    harbour.file(&SERVICES.replace("    build:", "    healthcheck: { disable: true }\n    build:"));
    let refused = harbour.home.run(&["up", "-d"]).code(2);
    assert!(refused.stderr.contains("switches off that of its image"), "{}", refused.stderr);
}

fn misses() {
    let harbour = harbour(&SERVICES.replace("build: { context: app, network: none }", "image: IMAGE"));
    let refused = harbour.home.run(&["up", "-d", "--wait", "web"]).code(1);
    let said = format!("{}{}", refused.stdout, refused.stderr);
    assert!(said.contains("neither the file nor its image has a health check"), "{said}");
    assert!(!harbour.is_running("web-1") && !harbour.is_running("front-1"));
}
