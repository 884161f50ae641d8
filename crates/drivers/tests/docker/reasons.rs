//! What cannot be started or made says why, in words for whoever wrote the file.

use std::net::TcpListener;

use upbeat_drivers::docker::{PrepareError, Progress, StartError};
use upbeat_model::Attempt;
use upbeat_model::project::Service;
use upbeat_model::project::container::{BlockIo, BlockRate, Mount, MountKind, Port, Protocol};
use upbeat_needs::{Need, Test};

use crate::rig::{Rig, of, run, wish};

pub(crate) const CASES: &[Test] = &[
    Test::needing(&[Need::DOCKER], "a_port_that_is_taken_is_named_with_who_may_have_it", ports),
    Test::needing(&[Need::DOCKER], "a_program_that_cannot_be_run_is_named_with_the_reason", programs),
    Test::needing(&[Need::DOCKER], "a_mount_that_cannot_be_made_names_both_places", mounts),
    Test::needing(&[Need::DOCKER], "a_limit_that_cannot_be_had_here_is_named_by_its_key", limits),
];

/// Why it does not start.
async fn why(rig: &Rig, service: &str, spec: &Service) -> String {
    let slot = rig.slot(service);
    let prepared = match rig.prepare(&slot, spec).await {
        Err(PrepareError::Refused(why)) => return why,
        prepared => prepared.unwrap(),
    };
    let started = rig.engine.start(&slot, Attempt(1), &prepared.container).await;
    let Err(StartError::NotStarted(why)) = started else { panic!("{started:?}") };
    why
}

fn publishing(rig: &Rig, port: u16) -> Service {
    let mut spec = rig.lasting();
    let network = rig.network("front");
    rig.in_networks(&mut spec, &[&network]);
    let (published, host_ip) = (Some(port.to_string()), Some("127.0.0.1".to_owned()));
    of(&mut spec).ports = vec![Port { target: 80, published, host_ip, protocol: Protocol::Tcp }];
    spec
}

fn ports() {
    run(async |rig| {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        let by_program = why(rig, "a", &publishing(rig, port)).await;
        assert!(by_program.contains(&format!("127.0.0.1:{port}")), "{by_program}");
        assert!(by_program.contains("another program of this machine"), "{by_program}");
        drop(taken);
        let (b, spec) = (rig.slot("b"), publishing(rig, port));
        rig.up(&b, 1, &spec).await;
        let by_container = why(rig, "c", &spec).await;
        let wanted = format!("port 127.0.0.1:{port} is published by another container");
        assert!(by_container.starts_with(&wanted), "{by_container}");
    });
}

fn programs() {
    run(async |rig| {
        let row = async |service: &str, command: &[&str], wanted: &str| {
            let mut spec = rig.lasting();
            of(&mut spec).command = Some(command.iter().map(|word| (*word).to_owned()).collect());
            let why = why(rig, service, &spec).await;
            assert_eq!(why, wanted);
        };
        row("a", &["nothing"], "cannot run `nothing`: no such program in the PATH of the image").await;
        let missing = "cannot run `/bin/nothing`: no such file in the image, or what it needs to run (its interpreter) is not there";
        row("b", &["/bin/nothing"], missing).await;
        row(
            "c",
            &["/etc/passwd"],
            "cannot run `/etc/passwd`: it may not be executed; is it a program (`chmod +x`)?",
        )
        .await;
        let mut spec = rig.lasting();
        spec.user = Some("no-such-user".to_owned());
        assert_eq!(why(rig, "d", &spec).await, "there is no user `no-such-user` in the image");
    });
}

fn bind(spec: &mut Service, source: &str, target: &str, create_host_path: bool) {
    let kind = MountKind::Bind {
        source: source.to_owned(),
        create_host_path,
        propagation: None,
        recursive: None,
        selinux: None,
    };
    of(spec).mounts = vec![Mount { target: target.to_owned(), read_only: false, kind }];
}

fn mounts() {
    run(async |rig| {
        let dir = tempfile::tempdir().unwrap();
        let source = dir.path().to_str().unwrap();
        let mut spec = rig.lasting();
        bind(&mut spec, source, "/etc/passwd", true);
        let odd = why(rig, "a", &spec).await;
        assert!(odd.contains(source) && odd.contains("/etc/passwd") && odd.contains("is a file"), "{odd}");
        let missing = format!("{source}/nothing");
        bind(&mut spec, &missing, "/data", false);
        let gone = why(rig, "b", &spec).await;
        assert!(gone.contains(&missing) && gone.contains("create_host_path"), "{gone}");
    });
}

/// The machine can keep a limit, or it is said by its name that it cannot.
fn limits() {
    run(async |rig| {
        let path = "/dev/upbeat-none".to_owned();
        let mut spec = rig.lasting();
        of(&mut spec).limits.block_io =
            Some(BlockIo { device_read_bps: vec![BlockRate { path, rate: 1024 }], ..BlockIo::default() });
        let none = why(rig, "a", &spec).await;
        assert!(none.starts_with("`blkio_config`: ") && none.contains("/dev/upbeat-none"), "{none}");

        let mut spec = rig.lasting();
        of(&mut spec).limits.cpu_rt_runtime = Some(95_000);
        is_kept_or_named(rig, "b", &spec, "cpu_rt_runtime").await;
        let mut spec = rig.lasting();
        of(&mut spec).storage_opt = [("size".to_owned(), "1G".to_owned())].into();
        is_kept_or_named(rig, "c", &spec, "storage_opt").await;

        let mut spec = rig.lasting();
        of(&mut spec).limits.block_io = Some(BlockIo { weight: Some(300), ..BlockIo::default() });
        let said = std::cell::RefCell::new(Vec::new());
        let prepared = rig.engine.prepare(wish(&rig.slot("d"), &spec), |more| said.borrow_mut().push(more));
        let made = rig.docker.inspect(&prepared.await.unwrap().container).unwrap();
        let is_kept = made["HostConfig"]["BlkioWeight"] == 300;
        let is_said = |one: &Progress| matches!(one, Progress::Note(note) if note.starts_with("`blkio_config.weight` "));
        assert_eq!(said.borrow().iter().any(is_said), !is_kept, "{said:?}");
    });
}

async fn is_kept_or_named(rig: &Rig, service: &str, spec: &Service, key: &str) {
    let slot = rig.slot(service);
    let why = match rig.prepare(&slot, spec).await {
        Err(PrepareError::Refused(why)) => why,
        prepared => match rig.engine.start(&slot, Attempt(1), &prepared.unwrap().container).await {
            Ok(_) => return,
            Err(StartError::NotStarted(why)) => why,
            Err(error) => panic!("{error:?}"),
        },
    };
    assert!(why.starts_with(&format!("`{key}`: ")), "{why}");
}
