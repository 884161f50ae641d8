//! What probes come to: their questions, rhythms and remedies, and the certificates they believe.

use insta::assert_snapshot;
use upbeat_model::file::validate;
use upbeat_model::project::{Probe, Question, Service};

use super::machine::Machine;
use super::{read, service};

/// Bytes of a sequence in DER: as much of a certificate as is looked at.
const PEM: &str = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";

/// The service of a file with one; it holds on the wire too.
fn only(text: &str) -> Service {
    let parsed = read(text).unwrap_or_else(|errors| panic!("{errors}"));
    assert_eq!(validate(&parsed.project), Ok(()));
    parsed.project.services.into_values().next().expect("it was declared")
}

/// Every probe in a line.
fn probes(service: &Service) -> String {
    let line = |(name, probe): (_, &Probe)| {
        format!("{name}: {}\n", serde_json::to_string(probe).expect("a probe serialises"))
    };
    service.probes.iter().map(line).collect()
}

#[test]
fn every_question_is_read() {
    let text = include_str!("fixtures/probes/kinds.yaml").replace("ca_file: ./ca.pem, ", "");
    assert_snapshot!(probes(&only(&text)), @r#"
    alive: {"ask":{"watchdog":30000},"interval":10000,"timeout":1000,"failure_threshold":1,"success_threshold":1,"start_interval":5000,"on_failure":{"action":{"signal":6},"max_attempts":5,"window":600000}}
    calm: {"ask":{"cpu":95},"interval":10000,"timeout":1000,"failure_threshold":6,"success_threshold":1,"start_interval":5000}
    calmer: {"ask":{"cpu":50},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    datagram: {"ask":{"udp":{"address":"127.0.0.1:53","send":"x","expect":"y"}},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    files: {"ask":{"descriptors":1000},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    fresh: {"ask":{"file":{"path":"/srv/shop/ready","max_age":60000}},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    line: {"ask":{"log":"listening on"},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    liveness: {"ask":{"tcp":"127.0.0.1:8080"},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000,"on_failure":{"action":"restart","max_attempts":5,"window":600000}}
    marker: {"ask":{"file":{"path":"/srv/shop/ready"}},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    more_files: {"ask":{"descriptors":1000},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    page: {"ask":{"http":{"url":"http://127.0.0.1/","status":[[200,200]],"body":"ok"}},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    readiness: {"ask":{"http":{"url":"https://127.0.0.1:8443/ready","method":"HEAD","headers":{"X-A":"b","X-Empty":""},"status":[[200,204],[401,401]],"tls":{"server_name":"web.local"}}},"initial_delay":2000,"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":3,"start_interval":5000}
    rpc: {"ask":{"grpc":{"address":"127.0.0.1:9000","service":"a.B","tls":{"insecure":true}}},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    rpc_text: {"ask":{"grpc":{"address":"127.0.0.1:9000"}},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    sd: {"ask":"notify","interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000,"on_failure":{"action":"ignore","max_attempts":5,"window":600000}}
    small: {"ask":{"memory":536870912},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":2,"start_interval":5000,"on_failure":{"action":"stop","max_attempts":5,"window":600000}}
    socket: {"ask":{"unix":"/srv/shop/run/x.sock"},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}
    startup: {"ask":{"http":{"url":"http://127.0.0.1:8080/started"}},"interval":1000,"timeout":1000,"failure_threshold":30,"success_threshold":1,"start_interval":5000}
    talks: {"ask":{"prints":300000},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000,"on_failure":{"action":"restart","max_attempts":2,"window":600000}}
    warm: {"ask":{"exec":["./warm"]},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000,"on_failure":{"action":{"exec":["./heal"]},"max_attempts":3,"window":600000}}
    warmer: {"ask":{"exec":["./warm","--more"]},"interval":10000,"timeout":1000,"failure_threshold":3,"success_threshold":1,"start_interval":5000,"on_failure":{"action":{"exec":["./heal","it"]},"max_attempts":3,"window":600000}}
    "#);
}

#[test]
fn a_health_check_is_the_probe_called_readiness() {
    let check = |check: &str| probes(&only(&service(&format!("command: x\nhealthcheck: {check}"))));
    assert_snapshot!(check("{ watchdog: 30s, on_failure: stop }"), @r#"readiness: {"ask":{"watchdog":30000},"interval":30000,"timeout":30000,"failure_threshold":1,"success_threshold":1,"start_interval":5000,"on_failure":{"action":"stop","max_attempts":5,"window":600000}}"#);
    assert_snapshot!(check("{ watchdog: 30s, retries: 2 }"), @r#"readiness: {"ask":{"watchdog":30000},"interval":30000,"timeout":30000,"failure_threshold":2,"success_threshold":1,"start_interval":5000}"#);
    assert_snapshot!(check("{ http: 'https://a/', on_failure: { action: exec, command: ./heal it } }"), @r#"readiness: {"ask":{"http":{"url":"https://a/"}},"interval":30000,"timeout":30000,"failure_threshold":3,"success_threshold":1,"start_interval":5000,"on_failure":{"action":{"exec":["./heal","it"]},"max_attempts":5,"window":600000}}"#);
    assert_snapshot!(check("{ notify: false }"), @"");
    assert_snapshot!(check("{ unix: ~/x.sock }"), @r#"readiness: {"ask":{"unix":"/home/ann/x.sock"},"interval":30000,"timeout":30000,"failure_threshold":3,"success_threshold":1,"start_interval":5000}"#);
}

#[test]
fn a_probe_has_other_defaults_than_a_health_check() {
    let both = only(&service("command: x\nprobes: { readiness: { tcp: 'a:1' }, w: { watchdog: 1s } }"));
    assert_eq!(both.readiness(), Some(&Probe::asking(Question::Tcp("a:1".to_owned()))));
    let probe = Probe::asking(Question::Notify);
    assert_eq!((probe.interval, probe.timeout), (Probe::INTERVAL, Probe::TIMEOUT));
    assert_eq!((probe.failure_threshold, probe.success_threshold, probe.initial_delay.0), (3, 1, 0));
    let watchdog = both.probes.iter().find(|(name, _)| name.as_str() == "w").expect("it was declared").1;
    assert_eq!(watchdog.failure_threshold, 1);
}

/// A service that believes a file.
const BELIEVES: &str = "
services:
  web:
    command: x
    probes:
      a: { http: { url: 'https://a', tls: { ca_file: ca.pem } } }
      b: { grpc: { address: 'a:1', tls: { ca_file: ./ca.pem } } }
";

fn believing(text: &str) -> Result<Service, String> {
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", BELIEVES), ("/srv/shop/ca.pem", text)]);
    let parsed = machine.parse(&["upbeat.yaml"])?;
    assert_eq!(validate(&parsed.project), Ok(()));
    Ok(parsed.project.services.into_values().next().expect("it was declared"))
}

#[test]
fn certificates_are_read_with_the_file() {
    let service = believing(PEM).expect("it is good");
    let ca = |probe: &Probe| probe.ask.tls().and_then(|tls| tls.ca.clone());
    assert!(service.probes.values().all(|probe| ca(probe).as_deref() == Some(PEM)), "{service:?}");
    let two = format!("# Ours\n{PEM}# and theirs\n{PEM}");
    assert!(believing(&two).is_ok());
}

#[test]
fn what_is_no_certificate_is_not_believed() {
    let said = |text: &str| believing(text).expect_err("it is refused").lines().next().unwrap().to_owned();
    assert_snapshot!(said(""), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which has no certificate (certificates are wanted as PEM)");
    assert_snapshot!(said("(a directory)"), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which cannot be read: it is a directory");
    assert_snapshot!(said("-----BEGIN CERTIFICATE-----\nMAMCAQE="), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which has no certificate (certificates are wanted as PEM)");
    assert_snapshot!(said("-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----"), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which has a certificate that is damaged (get it anew)");
    assert_snapshot!(said("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which has a certificate that is damaged (get it anew)");
    assert_snapshot!(said(&format!("{PEM}-----BEGIN RSA PRIVATE KEY-----\nAAAA\n")), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which has a private key (name a file with certificates alone)");
    assert_snapshot!(said(&PEM.repeat(20_000)), @"upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which is larger than 1 MiB");
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", BELIEVES)]);
    assert_snapshot!(machine.parse(&["upbeat.yaml"]).expect_err("it is refused"), @"
    upbeat.yaml:6:54: Service `web` believes the file `ca.pem`, which is not there
    upbeat.yaml:7:52: Service `web` believes the file `ca.pem`, which is not there
    ");
}

#[test]
fn certificates_are_bounded_together() {
    let probe =
        |n: usize| format!("      p{n}: {{ http: {{ url: 'https://a', tls: {{ ca_file: ca.pem }} }} }}\n");
    let text: String = (0..8).map(probe).collect();
    let text = format!("services:\n  web:\n    command: x\n    probes:\n{text}");
    let large = PEM.repeat(12_000);
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", &text), ("/srv/shop/ca.pem", &large)]);
    assert_snapshot!(machine.parse(&["upbeat.yaml"]).expect_err("it is refused"), @"upbeat.yaml:2:3: Probes of `web` have certificates of more than 4 MiB together");
}

#[test]
fn texts_of_a_question_are_bounded() {
    let (host, long) = ("h".repeat(254), "u".repeat(8192));
    let text = service(&format!(
        "command: x
probes:
  a: {{ tcp: '{host}:1' }}
  b: {{ http: 'http://a/{long}' }}
  c: {{ http: {{ url: 'http://a', headers: {{ X-A: 'a{long}' }}, method: {} }} }}
  d: {{ grpc: {{ address: 'a:1', service: {} }} }}",
        "M".repeat(33),
        "s".repeat(256)
    ));
    let said = crate::errors_in(&text).replace(&host, "…").replace(&long, "…");
    assert_snapshot!(said, @"
    upbeat.yaml:5:17: `services.web.probes.a.tcp` has a host of more than 253 bytes
      ^ `'…:1'`
    upbeat.yaml:6:18: `services.web.probes.b.http` is longer than 8192 bytes
      ^ `'http://a/…'`
    upbeat.yaml:7:53: `services.web.probes.c.http.headers.X-A` is longer than 8192 bytes
      ^ `'a…'`
    upbeat.yaml:7:8260: `services.web.probes.c.http.method` is not a method: `MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM` (write one such as `GET`, `HEAD` or `POST`)
      ^ `MMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMMM`
    upbeat.yaml:8:45: `services.web.probes.d.grpc.service` is not a service of gRPC: `ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss…` (write its full name, such as `shop.Orders`)
      ^ `ssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssssss`
    ");
}
