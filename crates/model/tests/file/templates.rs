//! Templates: services that differ in a few values, and copies that differ in their number.

use insta::assert_snapshot;
use upbeat_model::file::{Context, Source, parse, resolve, validate};
use upbeat_model::project::PerCopy;

use super::machine::Machine;
use super::{check_error, errors_in, read};

const WORKERS: &str = "
templates:
  worker:
    description: Takes jobs from one queue
    parameters:
      queue:
      jobs: { type: integer, default: 4 }
      slow: { type: boolean, default: false }
      hosts: { type: list, default: [a, b] }
      level: { enum: [info, debug], default: info }
    service:
      command: [./work, --queue, '{{ queue }}', \"--jobs={{ jobs }}\", '{{ hosts | join(\",\") }}']
      environment:
        LEVEL: '{{ level }}{% if slow %}-slow{% endif %}'
        WHO: '{{ service }}/{{ instance }}'
      restart: on-failure
      scale: '{{ jobs }}'
services:
  mail:
    template: { use: worker, with: { queue: mail, jobs: 2, slow: true, hosts: [x] } }
    environment: { EXTRA: '{{ not a template }}' }
  worker@video:
  worker@news:
    template: { use: worker, with: { level: debug } }
    restart: always
";

#[test]
fn services_are_made_of_templates() {
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", WORKERS)]);
    assert_snapshot!(machine.tell(&["upbeat.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "mail": {
          "command": [
            "./work",
            "--queue",
            "mail",
            "--jobs=2",
            "x"
          ],
          "environment": {
            "EXTRA": "{{ not a template }}",
            "LEVEL": "info-slow",
            "WHO": "mail/"
          },
          "restart": "on-failure",
          "scale": 2,
          "working_dir": "/srv/shop"
        },
        "worker@news": {
          "command": [
            "./work",
            "--queue",
            "news",
            "--jobs=4",
            "a,b"
          ],
          "environment": {
            "LEVEL": "debug",
            "WHO": "worker@news/news"
          },
          "restart": "always",
          "scale": 4,
          "working_dir": "/srv/shop"
        },
        "worker@video": {
          "command": [
            "./work",
            "--queue",
            "video",
            "--jobs=4",
            "a,b"
          ],
          "environment": {
            "LEVEL": "info",
            "WHO": "worker@video/video"
          },
          "restart": "on-failure",
          "scale": 4,
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
}

#[test]
fn copies_differ_by_their_number() {
    let text = "
templates:
  web:
    parameters: { base: { type: integer } }
    service:
      command: ./web --port {{ base + index }}
      environment: ['PORT={{ base + index }}', STAGE=live]
      working_dir: data/{{ index }}
      healthcheck: { http: 'http://127.0.0.1:{{ base + index }}/', interval: 1s }
      post_start: [{ command: [./warm, '{{ index }}'], environment: { N: '{{ service }}-{{ index }}' } }]
      stop_command: kill {{ index }}
      labels: { copy: '{{ index }}' }
services:
  web@a: { template: { use: web, with: { base: 8000 } }, scale: 3 }
";
    let project = read(text).expect("it is good").project;
    validate(&project).expect("it makes sense");
    let (name, service) = project.services.first_key_value().expect("there is one");
    for index in [1, 3, 700] {
        let copy = service.for_copy(name.as_str(), index).expect("it can be made");
        let port = 8000 + index;
        assert_eq!(copy.command, ["./web", "--port", &port.to_string()]);
        assert_eq!(copy.environment["PORT"], port.to_string());
        assert_eq!(copy.environment["STAGE"], "live");
        assert_eq!(copy.working_dir, format!("/srv/shop/data/{index}"));
        let probe = copy.readiness().expect("it has one").ask.to_string();
        assert_eq!(probe, format!("http http://127.0.0.1:{port}/"));
        assert_eq!(copy.post_start[0].environment["N"], format!("web@a-{index}"));
        assert_eq!(copy.stop_command.as_ref().expect("it has one")[1], index.to_string());
        assert_eq!(copy.labels["copy"], index.to_string());
        assert!(copy.per_copy.is_none());
    }
    let wrong = service.for_copy(name.as_str(), 70_000).expect_err("there is no such port");
    assert_snapshot!(wrong.join("; "), @"`healthcheck.http.url` must have a port from 1 to 65535, not `78000`");
    let digests: std::collections::BTreeSet<String> =
        (1..=3).map(|index| service.for_copy("web@a", index).expect("it can be made").digest()).collect();
    assert_eq!(digests.len(), 3);
}

#[test]
fn probes_hooks_and_the_reload_differ_by_the_number_of_the_copy() {
    let text = include_str!("fixtures/probes/templates.yaml");
    let pem = "-----BEGIN CERTIFICATE-----\nMAMCAQE=\n-----END CERTIFICATE-----\n";
    let text = format!(
        "{text}  after: {{ command: x, depends_on: {{ a: {{ condition: port_open, port: 80 }} }} }}\n"
    );
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", &text), ("/srv/shop/ca.pem", pem)]);
    let project = machine.parse(&["upbeat.yaml"]).expect("it is good").project;
    validate(&project).expect("it makes sense");
    let (name, service) = project.services.first_key_value().expect("there is one");
    let copy = service.for_copy(name.as_str(), 2).expect("it can be made");
    let asked: String = copy
        .probes
        .iter()
        .map(|(name, probe)| format!("{name}: {} every {}\n", probe.ask, probe.interval))
        .collect();
    assert_snapshot!(asked, @"
    liveness: http https://127.0.0.1:8002/ every 10s
    marker: file /srv/shop/run/2.ready every 10s
    port-80: tcp 127.0.0.1:80 every 10s
    readiness: http http://127.0.0.1:8002/ every 2s
    rpc: grpc 127.0.0.1:9002 every 10s
    small: memory at most 209715200 bytes every 10s
    socket: unix /srv/shop/run/2.sock every 10s
    ");
    let ca: Vec<_> = copy.probes.values().filter_map(|probe| probe.ask.tls()?.ca.clone()).collect();
    assert_eq!(ca, [pem], "certificates are those of all copies");
    let rest = (
        &copy.pre_start,
        &copy.post_stop,
        &copy.reload,
        copy.probes.values().find_map(|probe| probe.on_failure.clone()),
    );
    assert_snapshot!(serde_json::to_string(&rest).expect("JSON"), @r#"[[{"command":["./before","2"],"working_dir":"/srv/shop/data/2"}],[{"command":["./after","2"]}],{"exec":["./reload","2"]},{"action":{"exec":["./heal","2"]},"max_attempts":5,"window":600000}]"#);
    let PerCopy(recipe) = service.per_copy.clone().expect("its copies differ");
    assert!(!recipe.to_string().contains("ca_file"), "{recipe}");
    let mut sent = service.clone();
    let mut recipe = recipe;
    recipe["probes"]["liveness"]["http"]["tls"]["ca_file"] = "/etc/shadow".into();
    sent.per_copy = Some(PerCopy(recipe));
    assert_eq!(sent.for_copy("a", 1), Err(vec!["`ca_file` is one for all copies".to_owned()]));
}

#[test]
fn what_all_copies_have_is_compiled_once_and_what_each_has_is_bounded() {
    let text = |pattern: &str| {
        format!(
            "templates:\n  w: {{ service: {{ command: './w {{{{ index }}}}', probes: {{ a: {{ log: '{pattern}' }} }} }} }}\nservices:\n  a: {{ template: w, scale: 200 }}\n"
        )
    };
    assert!(read(&text(r"\pL{50}")).is_ok());
    assert_snapshot!(read(&text(r"\pL{50}{{ index }}")).expect_err("it is refused"), @"upbeat.yaml:4:3: Copy 88 of `a` cannot be made: `probes.a.log` is one large pattern too many in this project");
}

#[test]
fn below_our_key_too_only_some_differ_from_copy_to_copy() {
    check_error!("
templates:
  w:
    service:
      command: ./w
      x-upbeat: { probes: { a: { tcp: 'a:{{ index }}' } }, exit_on_end: '{{ index }}', success_exit_codes: ['{{ index }}'] }
  u: { service: { command: ./u, probes: { b: { unix: '~/{{ index }}' } } } }
services:
  a: { template: w }
  b: { template: u }
", @"
    upbeat.yaml:6:73: `services.a.x-upbeat.exit_on_end` uses `index`, and is one for all copies; used at upbeat.yaml:9:18
      ^ `'{{ index }}'`
    upbeat.yaml:6:109: `services.a.x-upbeat.success_exit_codes[1]` uses `index`, and is one for all copies; used at upbeat.yaml:9:18
      ^ `'{{ index }}'`
    upbeat.yaml:7:54: `services.b.probes.b.unix` starts with `~`, and differs from copy to copy (write the directory out); used at upbeat.yaml:10:18
      ^ `'~/{{ index }}'`
    ");
}

#[test]
fn what_templates_come_to_is_read_again_as_the_same() {
    let text = "
templates:
  w:
    parameters: { q: }
    service:
      command: [./w, '{{ q }}', '{{ index }}', '{{ \"{{\" }}', '$${HOME}']
      healthcheck: { test: 'curl localhost:{{ 8000 + index }}' }
      environment: { A: '{{ q }}{{ index }}' }
services:
  one: { template: { use: w, with: { q: \"it's \\\"{{ 1 }}\\\"\" } }, scale: 2 }
  two: { command: '{{ plain }}', depends_on: [one] }
";
    let nothing = |_: &str| None;
    let context = Context::new("/srv/shop", "shop", &nothing);
    let source = |text| [Source { name: "upbeat.yaml", text }];
    let first = parse(&source(text), &context).unwrap_or_else(|errors| panic!("{errors}")).project;
    let document = resolve(&source(text), &context).expect("it is good").document;
    let again = document.to_string();
    // Wherever it is read.
    let elsewhere = Context::new("/", "other", &nothing);
    let second =
        parse(&source(&again), &elsewhere).unwrap_or_else(|errors| panic!("{errors}\n{again}")).project;
    assert_eq!(first, second);
    assert_eq!(resolve(&source(&again), &elsewhere).expect("it is good").document, document);
    let copy = second.services["one"].for_copy("one", 2).expect("it can be made");
    assert_eq!(copy.command, ["./w", "it's \"{{ 1 }}\"", "2", "{{", "${HOME}"]);
}

#[test]
fn services_whose_names_are_alike_are_read_again_as_the_same() {
    let text = "
templates:
  t: { service: { command: [./x, '{{ index }}'], restart: always, environment: { E: '1' } } }
services:
  x: { template: t }
  x@y: { command: ./y }
  x-: { command: ./z }
  a-b: { template: t }
  a@b: { template: t }
  a-b@c: { template: t }
";
    let first = read(text).unwrap_or_else(|errors| panic!("{errors}")).project;
    let nothing = |_: &str| None;
    let context = Context::new("/srv/shop", "shop", &nothing);
    let document = resolve(&[Source { name: "upbeat.yaml", text }], &context).expect("it is good").document;
    let again = read(&document.to_string()).unwrap_or_else(|errors| panic!("{errors}")).project;
    assert_eq!(first, again);
}

#[test]
fn a_parameter_with_which_something_is_wrong_is_declared_all_the_same() {
    check_error!("
templates:
  w:
    parameters: { n: { type: number, default: many } }
    service: { command: [./w, '{{ n }}'] }
services:
  a: { template: w }
", @"
upbeat.yaml:4:47: The `default` of the parameter `n` must be a number, not `many`
  ^ `many`
");
}

#[test]
fn what_is_kept_for_copies_says_nothing_that_is_one_for_all() {
    let mut project = read("services: { a: { command: x } }").expect("it is good").project;
    for (key, value) in
        [("image", "i"), ("extends", "b"), ("scale", "3"), ("a\u{1b}", "x"), ("x-upbeat", "x")]
    {
        let recipe = serde_json::json!({ "command": ["a"], key: value });
        project.services.get_mut("a").expect("it is there").per_copy = Some(PerCopy(recipe));
        let wrong = validate(&project).expect_err("it is refused").join("; ");
        assert!(wrong.contains("is one for all copies"), "{wrong}");
        project.services["a"].for_copy("a", 1).expect_err("it is refused");
    }
}

#[test]
fn copies_that_would_take_minutes_to_make_are_refused() {
    let mut text = String::from("templates:\n  w:\n    service:\n      command: x\n      environment:\n");
    for n in 0..10_000 {
        text.push_str(&format!("        A{n}: '{{{{ index + {n} }}}}'\n"));
    }
    text.push_str("services:\n  a: { template: w, scale: 1000 }\n");
    assert_snapshot!(read(&text).expect_err("it is refused"), @"upbeat.yaml:10007:3: `a` is too much: the copies that differ say more than 128 MB in all (let fewer texts use `index`)");
    let mut project = read(&text.replace("1000 }", "1 }")).expect("it is good").project;
    project.services.get_mut("a").expect("it is there").scale = 1000;
    assert_snapshot!(validate(&project).expect_err("it is refused").join("; "), @"the copies that differ say more than 128 MB in all");
}

#[test]
fn a_thousand_services_are_made_of_one_template() {
    let mut text = String::from(
        "templates:\n  w:\n    parameters: { q: }\n    service:\n      command: [./w, '{{ q }}-{{ index }}']\n      environment: { Q: '{{ q | upper }}' }\nservices:\n",
    );
    for n in 0..1000 {
        text.push_str(&format!("  w@q{n}:\n"));
    }
    let project = read(&text).expect("it is good").project;
    assert_eq!(project.services.len(), 1000);
    assert_eq!(project.services["w@q999"].environment["Q"], "Q999");
    assert_eq!(project.services["w@q999"].command, ["./w", "q999-1"]);
}

#[test]
fn what_is_wrong_in_a_template_is_said_once_where_it_stands() {
    check_error!("
templates:
  w:
    parameters:
      queue: { type: text }
      index:
      n: { type: integer, default: many }
      l: { enum: [a, b], default: c }
      9x:
    service:
      command: [./w, '{{ queu }}', '{{ queue', '{{ queue | nothing }}']
      comand: x
      template: other
  v: { parameters: {} }
  u@x: { service: { command: x } }
services:
  a: { template: { use: w, with: { queue: x } } }
  b: { command: ok }
", @"
upbeat.yaml:5:22: `templates.w.parameters.queue.type` is not a type: `text` (write one of `string`, `integer`, `number`, `boolean`, `list`)
  ^ `text`
upbeat.yaml:6:7: `templates.w.parameters` has a name that means something else: `index` (call it something else)
  ^ `index`
upbeat.yaml:7:36: The `default` of the parameter `n` must be a whole number, not `many`
  ^ `many`
upbeat.yaml:8:35: The `default` of the parameter `l` may not be `c` (write one of `a`, `b`)
  ^ `c`
upbeat.yaml:9:7: `templates.w.parameters` has a bad name: `9x` (only letters, digits and `_` are allowed, and no digit at the start)
  ^ `9x`
upbeat.yaml:11:26: `templates.w.service.command[2]` uses `queu`, which stands for nothing here (did you mean `queue`?)
  ^ `queu`
upbeat.yaml:11:40: `templates.w.service.command[3]` is no template: unexpected end of input, expected end of variable block
  ^ `queue`
upbeat.yaml:12:7: Unknown key `templates.w.service.comand` (did you mean `command`?)
  ^ `comand` not a key of a service
upbeat.yaml:13:17: A template cannot use another one (let it extend a service)
  ^ `other`
upbeat.yaml:14:6: The template `v` has no `service` (under it stands what a service says)
  ^ `{ parameters: {} }`
upbeat.yaml:15:3: `templates` has a name with an `@`: `u@x` (what makes one of a template stands behind the `@` of a service's name)
  ^ `u@x`
");
}

#[test]
fn what_is_wrong_in_the_use_of_a_template_is_said_there() {
    check_error!("
templates:
  worker:
    parameters: { queue: , jobs: { type: integer, default: 1 }, level: { enum: [info, debug], default: info } }
    service: { command: [./w, '{{ queue }}'], scale: '{{ jobs }}', stop_signal: '{{ queue }}' }
services:
  a: { template: worke }
  b: { template: worker }
  c: { template: { use: worker, with: { queue: INT, jobs: many } } }
  d: { template: { use: worker, with: { queue: INT, que: x, level: loud } } }
  e: { template: { use: worker, with: { queue: nothing } } }
  f: { template: { use: worker, with: { queue: INT, jobs: 5000 } } }
  g: { template: { with: { queue: INT } } }
  nobody@x:
  worker@: { }
  h:
", @"
    upbeat.yaml:5:54: `services.f.scale` must be from 0 to 1000, not 5000; used at upbeat.yaml:12:25
      ^ `'{{ jobs }}'`
    upbeat.yaml:5:81: `services.e.stop_signal` is not a signal: `nothing` (write its name or its number, such as `SIGINT` or `2`); used at upbeat.yaml:11:25
      ^ `'{{ queue }}'`
    upbeat.yaml:5:81: `services.worker@.stop_signal` is not a signal: `` (write its name or its number, such as `SIGINT` or `2`); used at upbeat.yaml:15:3
      ^ `'{{ queue }}'`
    upbeat.yaml:7:18: `services.a` uses the template `worke`, which is not declared (did you mean `worker`?)
      ^ `worke`
    upbeat.yaml:8:18: `services.b` gives the template `worker` no `queue` (write `template: { use: worker, with: { queue: … } }`)
      ^ `worker`
    upbeat.yaml:9:59: `services.c.template.with.jobs` must be a whole number, not `many`
      ^ `many`
    upbeat.yaml:10:53: The template `worker` has no parameter `que` (did you mean `queue`?)
      ^ `que`
    upbeat.yaml:10:68: `services.d.template.with.level` may not be `loud` (write one of `info`, `debug`)
      ^ `loud`
    upbeat.yaml:13:18: `services.g.template` names none (say which one it uses)
      ^ `{ with: { queue: INT } }`
    upbeat.yaml:14:3: `services.nobody@x` uses the template `nobody`, which is not declared (declare it under `templates`)
      ^ `nobody@x`
    upbeat.yaml:15:3: `worker@` is not a valid service name: it is empty
      ^ `worker@`
    upbeat.yaml:16:3: `services.h` has no value (give it a mapping, or take it out)
      ^ `h`
    ");
}

#[test]
fn what_is_one_for_all_copies_cannot_differ() {
    check_error!("
templates:
  w:
    service:
      command: ./w
      scale: '{{ index }}'
      stop_grace_period: '{{ index }}s'
      healthcheck: { test: x, retries: '{{ index }}' }
      environment: ['A{{ index }}=x']
services:
  a: { template: w }
", @"
upbeat.yaml:6:14: `services.a.scale` uses `index`, and is one for all copies; used at upbeat.yaml:11:18
  ^ `'{{ index }}'`
upbeat.yaml:7:26: `services.a.stop_grace_period` uses `index`, and is one for all copies; used at upbeat.yaml:11:18
  ^ `'{{ index }}s'`
upbeat.yaml:9:21: `services.a.environment[1]` uses `index`, and is one for all copies; used at upbeat.yaml:11:18
  ^ `'A{{ index }}=x'`
");
}

#[test]
fn a_value_that_is_not_there_is_an_error_and_never_an_empty_text() {
    check_error!("
templates:
  w:
    parameters: { hosts: { type: list, default: [a] } }
    service: { command: [./w, '{{ hosts[3] }}', '{{ hosts.first }}', '{{ 1 / 0 }}'] }
services:
  a: { template: w }
", @"
    upbeat.yaml:5:35: `services.a.command[2]` uses a value that is not there; used at upbeat.yaml:7:18
      ^ `hosts[3]`
    upbeat.yaml:5:53: `services.a.command[3]` uses a value that is not there; used at upbeat.yaml:7:18
      ^ `hosts.first`
    upbeat.yaml:5:74: `services.a.command[4]` cannot be made: unable to calculate 1 / 0; used at upbeat.yaml:7:18
      ^ `1 / 0`
    ");
}

#[test]
fn a_copy_that_makes_no_sense_is_found_before_it_is_wished_for() {
    check_error!("
templates:
  w: { service: { command: ./w, healthcheck: { tcp: '127.0.0.1:{{ 65533 + index }}' } } }
services:
  a: { template: w, scale: 3 }
", @"
upbeat.yaml:5:3: Copy 3 of `a` cannot be made: `healthcheck.tcp` must have a port from 1 to 65535, not `65536`
  ^ `a`
");
}

#[test]
fn templates_of_a_file_of_compose_stand_under_our_key() {
    let machine = Machine::with(&[
        (
            "/srv/shop/compose.yaml",
            "
x-upbeat:
  templates:
    w: { parameters: { q: }, service: { command: [./w, '{{ q }}'], stop_command: x } }
services:
  a: { x-upbeat: { template: { use: w, with: { q: one } } } }
  w@two: {}
",
        ),
        ("/srv/shop/more.yaml", "services: { a: { environment: { A: b } }, w@three: }"),
    ]);
    assert_snapshot!(machine.tell(&["compose.yaml", "more.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "a": {
          "command": [
            "./w",
            "one"
          ],
          "environment": {
            "A": "b"
          },
          "stop_command": "x",
          "working_dir": "/srv/shop"
        },
        "w@three": {
          "command": [
            "./w",
            "three"
          ],
          "stop_command": "x",
          "working_dir": "/srv/shop"
        },
        "w@two": {
          "command": [
            "./w",
            "two"
          ],
          "stop_command": "x",
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
}

#[test]
fn a_template_may_extend_and_be_extended() {
    let text = "
templates:
  w: { parameters: { q: }, service: { extends: base, command: [./w, '{{ q }}'] } }
services:
  base: { command: x, labels: { team: shop } }
  a: { template: { use: w, with: { q: one } } }
  b: { extends: a, labels: { b: b } }
";
    let project = read(text).unwrap_or_else(|errors| panic!("{errors}")).project;
    assert_eq!(project.services["b"].command, ["./w", "one"]);
    assert_eq!(project.services["b"].labels.len(), 2);
}

#[test]
fn a_service_that_is_nothing_is_nothing() {
    assert_snapshot!(errors_in("services:\n  web:\n"), @"
upbeat.yaml:2:3: `services.web` has no value (give it a mapping, or take it out)
  ^ `web`
");
}
