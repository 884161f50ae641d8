//! 10,000 http probes a second against a local server in another process: is the rate kept, how late
//! are they, and what does one cost against a bare client that writes and reads the same bytes.
//!
//! `probes [RATE] [SECONDS]`. The server and the bare client are in this program too.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use upbeat_bench::{Failure, Flock, ms, percentile};
use upbeat_drivers::probe::{Asked, Prober};
use upbeat_drivers::process::{Places, ProcessDriver, ShimProgram};
use upbeat_model::project::{Http, Question, Service};
use upbeat_model::{Attempt, Millis, ProbeName, SlotId};

/// Services that are probed, each with a connection of its own.
const SERVICES: u32 = 1000;

/// What is sent by both, and answered.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 2\r\n\r\nok";

/// The bare client asks so often.
const BARE: u32 = 100_000;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "serve") {
        return serve();
    }
    let number = |index: usize, otherwise| match arguments.get(index) {
        Some(text) => text.parse::<u64>(),
        None => Ok(otherwise),
    };
    let (rate, seconds) = (number(0, 10_000)?, number(1, 10)?);
    let mut server = Command::new(std::env::current_exe()?);
    let mut server = server.arg("serve").stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let stdout = server.stdout.take().ok_or("the server has no output")?;
    let _flock = Flock(vec![server]);
    let mut address = String::new();
    BufReader::new(stdout).read_line(&mut address)?;
    let address = address.trim();

    let bare = bare(address)?;
    println!(
        "bare client       {:8.2} µs of CPU each, {BARE} one after the other",
        us(bare) / f64::from(BARE)
    );
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let back = runtime.block_on(back_to_back(address))?;
    println!(
        "probe             {:8.2} µs of CPU each, {BARE} one after the other: {:.2} × the bare client",
        us(back) / f64::from(BARE),
        back.as_secs_f64() / bare.as_secs_f64()
    );
    let Timed { asked, late, took, cpu, failed } = runtime.block_on(at_a_rate(address, rate, seconds))?;
    let count = asked as f64;
    println!("at {rate} a second for {seconds} s, {SERVICES} services");
    println!("asked             {asked} of {}, {failed} without the right answer", rate * seconds);
    println!("late              {:8.2} ms p50, {:.2} ms p99", percentile(&late, 50), percentile(&late, 99));
    println!("answered after    {:8.2} ms p50, {:.2} ms p99", percentile(&took, 50), percentile(&took, 99));
    println!(
        "probe             {:8.2} µs of CPU each with its timer: {:.2} × the bare client, {:.0} % of a CPU",
        us(cpu) / count,
        us(cpu) / count / (us(bare) / f64::from(BARE)),
        cpu.as_secs_f64() / seconds as f64 * 100.0
    );
    Ok(())
}

fn us(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// What this process has used of the CPU.
fn cpu() -> Duration {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}

/// Answers every request on every connection, and knows as little of HTTP as can be.
fn serve() -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        loop {
            let (mut stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::spawn(async move {
                let mut request = [0; 1024];
                while stream.read(&mut request).await.is_ok_and(|count| count > 0) {
                    if stream.write_all(ANSWER).await.is_err() {
                        break;
                    }
                }
            });
        }
    })
}

/// The floor: the same bytes over one connection, written and read.
fn bare(address: &str) -> Result<Duration, Failure> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = format!(
        "GET /health HTTP/1.1\r\nHost: {address}\r\nUser-Agent: upbeat\r\nAccept: */*\r\nAccept-Encoding: identity\r\n\r\n"
    );
    let mut answer = [0; 1024];
    let begun = cpu();
    for _ in 0..BARE {
        stream.write_all(request.as_bytes())?;
        if stream.read(&mut answer)? != ANSWER.len() {
            return Err("the server answered something else".into());
        }
    }
    Ok(cpu() - begun)
}

/// One service's probe.
struct Probe {
    prober: Prober,
    slot: SlotId,
    name: ProbeName,
    question: Question,
    spec: Service,
    environment: BTreeMap<String, String>,
}

impl Probe {
    fn new(prober: Prober, address: &str, index: u32) -> Result<Self, Failure> {
        Ok(Self {
            prober,
            slot: format!("bench/web/{index}").parse()?,
            name: ProbeName::new(ProbeName::READINESS)?,
            question: Question::Http(Http::get(format!("http://{address}/health"))),
            spec: serde_json::from_str(r#"{"command":["x"],"working_dir":"/"}"#)?,
            environment: BTreeMap::new(),
        })
    }

    async fn ask(&self) -> bool {
        let Self { prober, slot, name, question, spec, environment } = self;
        let (attempt, timeout) = (Attempt(1), Millis::seconds(5));
        let asked =
            Asked { slot, attempt, probe: name, question, spec, base_environment: environment, timeout };
        prober.ask(&asked).await.healthy
    }
}

/// Of a driver that starts nothing.
fn prober() -> Result<Prober, Failure> {
    let program = ShimProgram { path: "/nonexistent".into(), args: Vec::new() };
    let [slots, private, process] = ["/nonexistent"; 3].map(Into::into);
    let (driver, _events) = ProcessDriver::new(program, Places { slots, private, process })?;
    Ok(Prober::new(driver))
}

async fn back_to_back(address: &str) -> Result<Duration, Failure> {
    let probe = Probe::new(prober()?, address, 1)?;
    let begun = cpu();
    for _ in 0..BARE {
        if !probe.ask().await {
            return Err("a probe failed".into());
        }
    }
    Ok(cpu() - begun)
}

/// What came of probes with a rhythm.
struct Timed {
    asked: u64,
    /// Each one's begin behind its time, in milliseconds.
    late: Vec<f64>,
    /// Each one's answer behind its begin.
    took: Vec<f64>,
    cpu: Duration,
    failed: u64,
}

async fn at_a_rate(address: &str, rate: u64, seconds: u64) -> Result<Timed, Failure> {
    let (prober, failed) = (prober()?, Arc::new(AtomicU64::new(0)));
    let interval = Duration::from_secs(1) * SERVICES / u32::try_from(rate.max(1))?;
    let begun = cpu();
    let begin = tokio::time::Instant::now() + Duration::from_millis(100);
    let end = begin + Duration::from_secs(seconds);
    let mut services = Vec::new();
    for index in 1..=SERVICES {
        let (probe, failed) = (Probe::new(prober.clone(), address, index)?, failed.clone());
        services.push(tokio::spawn(async move {
            // Spread over the interval, as a scheduler does.
            let mut due = begin + interval * (index - 1) / SERVICES;
            let mut times = Vec::new();
            while due < end {
                tokio::time::sleep_until(due).await;
                let late = due.elapsed();
                let asked = Instant::now();
                if !probe.ask().await {
                    failed.fetch_add(1, Ordering::Relaxed);
                }
                times.push((ms(late), ms(asked.elapsed())));
                due += interval;
            }
            times
        }));
    }
    let mut times = Vec::new();
    for service in services {
        times.extend(service.await?);
    }
    let cpu = cpu() - begun;
    let (late, took): (Vec<f64>, Vec<f64>) = times.into_iter().unzip();
    Ok(Timed { asked: late.len() as u64, late, took, cpu, failed: failed.load(Ordering::Relaxed) })
}
