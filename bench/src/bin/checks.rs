//! What health checks cost, and how soon they are acted upon: a probe passes → the dependent's first
//! instruction; a thousand services with a check each, against a thousand without.
//!
//! `checks`. The server that is asked is this program, in a thread.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upbeat_bench::{Failure, Home, cpu_ticks, percentile, pss_kb};

const CHAIN: usize = 100;
const ROUNDS: usize = 5;
const SERVICES: usize = 1000;
/// Each check of the thousand is asked so often.
const INTERVAL_S: u64 = 10;
const IDLE: Duration = Duration::from_secs(30);

const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

fn main() -> Result<(), Failure> {
    let server = Server::begin()?;
    chain(&server)?;
    thousand(&server)
}

/// Answers every request with yes, and notes when it first did so by path.
struct Server {
    address: SocketAddr,
    first: Arc<Mutex<HashMap<String, f64>>>,
    asked: Arc<AtomicU64>,
}

impl Server {
    fn begin() -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))?;
        let server = Self { address: listener.local_addr()?, first: Arc::default(), asked: Arc::default() };
        let (first, asked) = (server.first.clone(), server.asked.clone());
        std::thread::spawn(move || {
            runtime.block_on(async {
                while let Ok((mut stream, _)) = listener.accept().await {
                    let (first, asked) = (first.clone(), asked.clone());
                    tokio::spawn(async move {
                        let mut request = [0; 1024];
                        while let Ok(count) = stream.read(&mut request).await
                            && count > 0
                            && stream.write_all(ANSWER).await.is_ok()
                        {
                            let answered = now();
                            asked.fetch_add(1, Ordering::Relaxed);
                            let text = String::from_utf8_lossy(&request[..count]);
                            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
                            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
                            first.entry(path).or_insert(answered);
                        }
                    });
                }
            });
        });
        Ok(server)
    }

    fn first(&self, path: &str) -> Option<f64> {
        self.first.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }
}

/// The wall clock, in milliseconds, as `date` has it.
fn now() -> f64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    since.as_nanos() as f64 / 1e6
}

/// Each link notes when it runs.
const LINK: &str = "date +%s%N > $1.begun\nexec sleep 600\n";

fn begun(home: &Home, name: &str) -> Result<f64, Failure> {
    let text = std::fs::read_to_string(home.path().join(format!("{name}.begun")))?;
    Ok(text.trim().parse::<u64>()? as f64 / 1e6)
}

/// From the answer that passes a probe to what the dependent's shell writes first; the floor is the same
/// shell started by a bare loop.
fn chain(server: &Server) -> Result<(), Failure> {
    let (mut edges, mut floor) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let path = |index: usize| format!("/{round}/{index}");
        let mut file = String::from("services:\n");
        for index in 0..CHAIN {
            file.push_str(&format!(
                "  s{index:03}:\n    command: [/bin/sh, link.sh, s{index:03}]\n    healthcheck: {{ http: 'http://{}{}' }}\n",
                server.address,
                path(index)
            ));
            if let Some(before) = index.checked_sub(1) {
                file.push_str(&format!(
                    "    depends_on: {{ s{before:03}: {{ condition: service_healthy }} }}\n"
                ));
            }
        }
        let home = Home::with(&file)?;
        home.write("link.sh", LINK)?;
        home.run(&["plan"])?;
        home.run(&["up", "-d", "--wait"])?;
        for index in 1..CHAIN {
            let passed = server.first(&path(index - 1)).ok_or("a link was not asked")?;
            edges.push(begun(&home, &format!("s{index:03}"))? - passed);
        }
        home.write("floor.sh", "date +%s%N > $1.begun\n")?;
        for _ in 0..CHAIN {
            let from = now();
            let mut command = Command::new("/bin/sh");
            let command = command.args(["floor.sh", "floor"]).current_dir(home.path());
            command.stdin(Stdio::null()).stdout(Stdio::null()).status()?;
            floor.push(begun(&home, "floor")? - from);
        }
    }
    println!("an http probe passes → the dependent's first instruction, {} edges", edges.len());
    println!("a bare spawn      {:8.2} ms p50, {:.2} ms p99", percentile(&floor, 50), percentile(&floor, 99));
    println!("upbeat            {:8.2} ms p50, {:.2} ms p99", percentile(&edges, 50), percentile(&edges, 99));
    Ok(())
}

/// A thousand services without a check, then with: what the daemon takes.
fn thousand(server: &Server) -> Result<(), Failure> {
    for checked in [false, true] {
        let mut file = String::from("services:\n");
        for index in 0..SERVICES {
            file.push_str(&format!("  s{index:04}:\n    command: [/bin/sleep, '3600']\n"));
            if checked {
                file.push_str(&format!(
                    "    healthcheck: {{ http: 'http://{}/{index}', interval: {INTERVAL_S}s }}\n",
                    server.address
                ));
            }
        }
        let home = Home::with(&file)?;
        home.run(&["up", "-d", "--wait"])?;
        let daemon = home.daemon()?;
        // The rhythm of those that were first passed together spreads over an interval.
        std::thread::sleep(Duration::from_secs(2 * INTERVAL_S));
        let (ticks, asked) = (cpu_ticks(daemon)?, server.asked.load(Ordering::Relaxed));
        std::thread::sleep(IDLE);
        let ticks = cpu_ticks(daemon)? - ticks;
        let asked = server.asked.load(Ordering::Relaxed) - asked;
        println!(
            "{SERVICES} services {} checks: {:6} KB PSS, {:.2} % of a CPU, {:.1} probes a second of {:.1}",
            if checked { "with   " } else { "without" },
            pss_kb(daemon).unwrap_or(0),
            ticks as f64 / IDLE.as_secs_f64(),
            asked as f64 / IDLE.as_secs_f64(),
            if checked { SERVICES as f64 / INTERVAL_S as f64 } else { 0.0 },
        );
    }
    Ok(())
}
