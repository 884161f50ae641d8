//! A directory for one test, with stand-ins for programs of the system.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use upbeat::services::{Service, ServiceOrchestrator, ServiceStatus};

/// What hangs has failed.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn block_on(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("within two minutes") });
}

/// Dropping it stops what it has started.
pub(crate) struct Home {
    dir: tempfile::TempDir,
    pub(crate) services: ServiceOrchestrator,
}

impl Home {
    pub(crate) fn new() -> Self {
        Self::with(true)
    }

    pub(crate) fn with(auto_start_dependencies: bool) -> Self {
        let dir = tempfile::Builder::new().prefix("upbeat-services-").tempdir().unwrap();
        std::fs::create_dir(dir.path().join("bin")).unwrap();
        let services = Self::orchestrator(dir.path(), auto_start_dependencies);
        let home = Self { dir, services };
        // As the real one it starts something elsewhere and ends, or says why not.
        home.program(
            "systemctl",
            "echo \"systemctl $*\" >> \"$CALLS\"\n\
             case $2 in broken) echo \"Failed to $1 $2.service: Unit $2.service not found.\" >&2; exit 5;; esac",
        );
        home
    }

    /// Another one in the same place.
    pub(crate) fn another(&self) -> ServiceOrchestrator {
        Self::orchestrator(self.path(), true)
    }

    fn orchestrator(dir: &Path, auto_start_dependencies: bool) -> ServiceOrchestrator {
        let text = |path: PathBuf| path.into_os_string().into_string().unwrap();
        let path = format!("{}:{}", text(dir.join("bin")), std::env::var("PATH").unwrap());
        let nu = text(dir.join("bin/nu"));
        ServiceOrchestrator::new(nu, text(dir.join("provisioning")), auto_start_dependencies)
            .in_directory(dir.join("state"))
            .with_shim(env!("CARGO_BIN_EXE_upbeat-shim"))
            .with_variable("PATH", path)
            .with_variable("CALLS", text(dir.join("calls")))
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes a script that is found in `PATH`, and returns where it is.
    pub(crate) fn program(&self, name: &str, script: &str) -> String {
        let path = self.path().join("bin").join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.into_os_string().into_string().unwrap()
    }

    /// What stand-ins were called with, line by line.
    pub(crate) fn calls(&self) -> Vec<String> {
        let calls = std::fs::read_to_string(self.path().join("calls")).unwrap_or_default();
        calls.lines().map(str::to_owned).collect()
    }

    pub(crate) async fn register(&self, services: impl IntoIterator<Item = Service>) {
        for service in services {
            self.services.register_service(service).await;
        }
    }

    pub(crate) async fn status(&self, name: &str) -> ServiceStatus {
        self.services.get_service_status(name).await.unwrap()
    }

    /// Until a service is so.
    pub(crate) async fn until(&self, name: &str, status: ServiceStatus) {
        while self.status(name).await != status {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let services = self.services.clone();
        // A runtime of its own: the test's may be the one that is ending.
        let stop = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            drop(runtime.block_on(services.stop_all_services()));
        });
        drop(stop.join());
    }
}

/// A process of ours.
pub(crate) fn process(name: &str, needs: &[&str], command: &str) -> Service {
    Service {
        name: name.to_owned(),
        description: String::new(),
        dependencies: needs.iter().map(|need| (*need).to_owned()).collect(),
        start_command: command.to_owned(),
        stop_command: String::new(),
        health_check_endpoint: None,
    }
}

/// Something `systemctl` starts.
pub(crate) fn unit(name: &str, needs: &[&str], endpoint: &str) -> Service {
    Service {
        stop_command: format!("systemctl stop {name}"),
        health_check_endpoint: Some(endpoint.to_owned()),
        ..process(name, needs, &format!("systemctl start {name}"))
    }
}

pub(crate) fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// What an endpoint does with a request.
#[derive(Clone, Copy)]
pub(crate) enum Endpoint {
    Answers(u16),
    Silent,
}

/// An endpoint, and where it is. It ends with the test's runtime.
pub(crate) async fn endpoint(how: Endpoint) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/health", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut silent = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let Endpoint::Answers(status) = how else {
                silent.push(stream);
                continue;
            };
            tokio::spawn(async move {
                let mut asked = [0; 4096];
                let answer =
                    format!("HTTP/1.1 {status} So\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
                if stream.read(&mut asked).await.is_ok() {
                    drop(stream.write_all(answer.as_bytes()).await);
                }
            });
        }
    });
    url
}

/// Where nobody listens.
pub(crate) async fn nowhere() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}/", listener.local_addr().unwrap())
}
