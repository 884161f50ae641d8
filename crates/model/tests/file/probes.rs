//! Health checks that cannot be asked.

use super::{check_error, service};

#[test]
fn a_health_check_asks_one_thing() {
    check_error!(service("command: x
healthcheck: {}"), @"
    upbeat.yaml:4:18: `services.web.healthcheck` asks nothing (give it one of `http`, `tcp`, `udp`, `grpc`, `unix`, `exec`, `file`, `log`, `notify`, `watchdog`, `prints_within`, `memory`, `descriptors`, `cpu`, `test`)
      ^ `{}`
    ");
    check_error!(service("command: x
healthcheck:"), @"
    upbeat.yaml:4:5: `services.web.healthcheck` has no value (give it a mapping, or take it out)
      ^ `healthcheck`
    ");
    check_error!(service("command: x
healthcheck: { interval: 5s }"), @"
    upbeat.yaml:4:18: `services.web.healthcheck` asks nothing (give it one of `http`, `tcp`, `udp`, `grpc`, `unix`, `exec`, `file`, `log`, `notify`, `watchdog`, `prints_within`, `memory`, `descriptors`, `cpu`, `test`)
      ^ `{ interval: 5s }`
    ");
    check_error!(service("command: x
healthcheck: { tcp: a:1, http: http://a, log: b }"), @"
    upbeat.yaml:4:30: `services.web.healthcheck` asks twice: `tcp` and `http` (keep one of the two)
      ^ `http` the second one
    upbeat.yaml:4:46: `services.web.healthcheck` asks twice: `tcp` and `log` (keep one of the two)
      ^ `log` the second one
    ");
    check_error!(service("command: x
healthcheck: http://a"), @"
    upbeat.yaml:4:18: `services.web.healthcheck` must be a mapping, not text
      ^ `http://a`
    ");
}

#[test]
fn an_http_probe_has_a_plain_url() {
    check_error!(service("command: x
healthcheck: { http: localhost:8080/health }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` must be a URL that starts with `http://` or `https://` (such as `http://127.0.0.1:8080/health`)
      ^ `localhost:8080/health`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` has no host (name one, such as `127.0.0.1`)
      ^ `'http://'`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://a:0/' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` must have a port from 1 to 65535, not `0`
      ^ `'http://a:0/'`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://a:b' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` must have a port from 1 to 65535, not `b`
      ^ `'http://a:b'`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://u@a' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` has a user name, which is not supported yet
      ^ `'http://u@a'`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://a/b c' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` has a character that no URL has (write it as `%xx`)
      ^ `'http://a/b c'`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://a/#b' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` has a `#` part, which is never sent (take it out)
      ^ `'http://a/#b'`
    ");
    check_error!(service("command: x
healthcheck: { http: 'http://[::z]/' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` has no IPv6 address between its brackets
      ^ `'http://[::z]/'`
    ");
    check_error!(service("command: x
healthcheck: { http: 8080 }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.http` must be a URL that starts with `http://` or `https://` (such as `http://127.0.0.1:8080/health`)
      ^ `8080`
    ");
}

#[test]
fn a_tcp_probe_has_a_host_and_a_port() {
    check_error!(service("command: x
healthcheck: { tcp: localhost }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` has no port (write `host:port`, such as `127.0.0.1:5432`)
      ^ `localhost`
    ");
    check_error!(service("command: x
healthcheck: { tcp: 5432 }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` has no host (did you mean `127.0.0.1:5432`?)
      ^ `5432`
    ");
    check_error!(service("command: x
healthcheck: { tcp: ':5432' }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` has no host (name one, such as `127.0.0.1`)
      ^ `':5432'`
    ");
    check_error!(service("command: x
healthcheck: { tcp: 'a:65536' }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` must have a port from 1 to 65535, not `65536`
      ^ `'a:65536'`
    ");
    check_error!(service("command: x
healthcheck: { tcp: '::1:80' }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` has several `:` (put an IPv6 address into brackets: `[::1]`)
      ^ `'::1:80'`
    ");
    check_error!(service("command: x
healthcheck: { tcp: 'tcp://a:80' }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` must be an address, not a URL (write `host:port`, such as `127.0.0.1:5432`)
      ^ `'tcp://a:80'`
    ");
    check_error!(service("command: x
healthcheck: { tcp: 'a b:80' }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.tcp` has a host that is neither a name nor an address: `a b`
      ^ `'a b:80'`
    ");
}

#[test]
fn a_log_probe_is_a_regular_expression() {
    check_error!(service("command: x
healthcheck: { log: 'ready (on [0-9]+' }"), @"
    upbeat.yaml:4:32: `services.web.healthcheck.log` is not a regular expression: unclosed group
      ^ `(`
    ");
    check_error!(service("command: x
healthcheck: { log: 'a(?=b)' }"), @"
    upbeat.yaml:4:27: `services.web.healthcheck.log` is not a regular expression: look-around, including look-ahead and look-behind, is not supported
      ^ `(?=`
    ");
    check_error!(service(r"command: x
healthcheck: { log: '(\pL{1000}){1000}' }"), @r"
    upbeat.yaml:4:25: `services.web.healthcheck.log` is too large a pattern (look for less, or repeat less)
      ^ `'(\pL{1000}){1000}'`
    ");
    check_error!(service("command: x
healthcheck: { log: '' }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.log` is empty (name a part of what is to be found)
      ^ `''`
    ");
    check_error!(service(r"command: x
healthcheck: { log: '\q' }"), @r"
    upbeat.yaml:4:26: `services.web.healthcheck.log` is not a regular expression: unrecognized escape sequence
      ^ `\q`
    ");
    check_error!(service("command: x
healthcheck: { log: 'ready$' }"), @"
    upbeat.yaml:4:31: `services.web.healthcheck.log` has a single `$` (write `$$` for a literal `$`)
      ^ `$`
    ");
    check_error!(service("command: x
healthcheck: { log: [a] }"), @"
    upbeat.yaml:4:25: `services.web.healthcheck.log` must be a regular expression, not a list
      ^ `[a]`
    ");
}

#[test]
fn the_test_of_compose_says_how_it_is_run() {
    check_error!(service("command: x
healthcheck: { test: [curl, -f, localhost] }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` must start with `CMD`, `CMD-SHELL` or `NONE` (`CMD` for a program and its arguments, `CMD-SHELL` for a shell's line)
      ^ `[curl, -f, localhost]`
    ");
    check_error!(service("command: x
healthcheck: { test: [CMD] }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` is empty (give a program and its arguments)
      ^ `[CMD]`
    ");
    check_error!(service("command: x
healthcheck: { test: [CMD-SHELL, a, b] }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` must have one text after `CMD-SHELL` (for separate words write `CMD`)
      ^ `[CMD-SHELL, a, b]`
    ");
    check_error!(service("command: x
healthcheck: { test: [NONE, a] }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` has words after `NONE`, which means no check
      ^ `[NONE, a]`
    ");
    check_error!(service("command: x
healthcheck: { test: [] }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` must start with `CMD`, `CMD-SHELL` or `NONE` (`CMD` for a program and its arguments, `CMD-SHELL` for a shell's line)
      ^ `[]`
    ");
    check_error!(service("command: x
healthcheck: { test: '' }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` is empty (give it a shell's line)
      ^ `''`
    ");
    check_error!(service("command: x
healthcheck: { test: { CMD: a } }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.test` must be a list, or text, not a mapping
      ^ `{ CMD: a }`
    ");
    check_error!(service("command: x
healthcheck: { exec: [] }"), @"
    upbeat.yaml:4:26: `services.web.healthcheck.exec` is empty (give a program and its arguments)
      ^ `[]`
    ");
}

#[test]
fn a_rhythm_is_longer_than_nothing() {
    check_error!(service("command: x
healthcheck: { tcp: a:1, interval: 0s, timeout: 0ms, start_interval: 0h, start_period: 0s, retries: 0 }"), @"
    upbeat.yaml:4:40: `services.web.healthcheck.interval` must be longer than zero
      ^ `0s`
    upbeat.yaml:4:53: `services.web.healthcheck.timeout` must be longer than zero
      ^ `0ms`
    upbeat.yaml:4:74: `services.web.healthcheck.start_interval` must be longer than zero
      ^ `0h`
    upbeat.yaml:4:105: `services.web.healthcheck.retries` must be at least 1 (without the key it is 3)
      ^ `0`
    ");
    check_error!(service("command: x
healthcheck: { tcp: a:1, interval: 5, timeout: [], retries: 99999999999, disable: yes }"), @"
    upbeat.yaml:4:40: `services.web.healthcheck.interval` has no unit: `5` (did you mean `5s`?)
      ^ `5`
    upbeat.yaml:4:52: `services.web.healthcheck.timeout` must be a length of time such as `30s`, not a list
      ^ `[]`
    upbeat.yaml:4:65: `services.web.healthcheck.retries` is too large
      ^ `99999999999`
    upbeat.yaml:4:87: `services.web.healthcheck.disable` must be `true` or `false` (write `true`)
      ^ `yes`
    ");
}
