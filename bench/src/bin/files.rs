//! How long a project file takes: 1,000 services, and a file of ten megabytes; against the YAML
//! parser alone, which everything else stands on. And how much memory at most.
#![expect(clippy::print_stdout, reason = "a bench prints its numbers")]

use std::fmt::Write;
use std::time::Instant;

use saphyr_parser::Parser;
use upbeat_bench::{Failure, median, ms};
use upbeat_model::file::{Context, Source, TEXT_MAX, parse, resolve};

const ROUNDS: usize = 7;

fn main() -> Result<(), Failure> {
    let thousand = services(1000);
    measure("1,000 services", &thousand)?;
    let before = peak()?;
    let mut count = 20_000;
    let mut large = services(count);
    while large.len() > TEXT_MAX {
        count -= 1000;
        large = services(count);
    }
    // More than a machine may run, so it is refused; read it is all the same.
    measure(&format!("{count} services, {} MB", large.len() >> 20), &large)?;
    let grown = peak()?.saturating_sub(before);
    println!("memory at most: {grown} KB, {:.1} × the file", grown as f64 * 1024.0 / large.len() as f64);
    // As many as a machine may run: besides its tree there is a project, and a document.
    measure("16,000 services", &services(16_000))?;
    Ok(())
}

/// As people write them: variables, a health check, an anchor, dependencies on others.
fn services(count: usize) -> String {
    let mut file =
        String::from("x-base: &base\n  restart: on-failure:3\n  labels: { team: shop }\nservices:\n");
    for index in 0..count {
        // Writing to a text does not fail.
        let _ = write!(
            file,
            "  s{index:05}:\n    <<: *base\n    command: [./bin/s{index}, --port, \"${{PORT:-8080}}\", --name, s{index}]\n    environment: {{ LOG: \"${{LOG-info}}\", INDEX: \"{index}\", HOME_OF: \"${{HOME}}/x\" }}\n    healthcheck: {{ tcp: \"127.0.0.1:{}\", interval: 5s }}\n",
            1000 + index % 60_000
        );
        if let Some(before) = index.checked_sub(1) {
            let _ = writeln!(file, "    depends_on: {{ s{before:05}: {{ condition: service_healthy }} }}");
        }
    }
    file
}

fn measure(what: &str, text: &str) -> Result<(), Failure> {
    let session = |name: &str| (name == "HOME").then(|| "/home/ann".to_owned());
    let context = Context::new("/srv/shop", "shop", &session);
    let source = Source { name: "upbeat.yaml", text };
    let (mut floor, mut read, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let begun = Instant::now();
        let mut parser = Parser::new_from_str(text);
        let mut events = 0_usize;
        while let Some(event) = parser.next_event() {
            event?;
            events += 1;
        }
        floor.push(ms(begun.elapsed()));
        assert!(events > 0, "the floor has read something");
        let begun = Instant::now();
        let parsed = parse(&[source], &context);
        read.push(ms(begun.elapsed()));
        drop(parsed);
        let begun = Instant::now();
        let resolved = resolve(&[source], &context);
        shown.push(ms(begun.elapsed()));
        drop(resolved);
    }
    let (floor, read, shown) = (median(floor), median(read), median(shown));
    println!(
        "{what}: YAML alone {floor:.1} ms; read {read:.1} ms, {:.1} ×; resolved {shown:.1} ms, {:.1} ×",
        read / floor,
        shown / floor
    );
    Ok(())
}

/// The most memory this process ever had, in KB.
fn peak() -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    Ok(line.and_then(|line| line.trim().trim_end_matches(" kB").parse().ok()).ok_or("no VmHWM")?)
}
