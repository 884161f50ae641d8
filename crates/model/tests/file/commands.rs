//! What a service runs: words, a line for a shell, a line of a Procfile.

use insta::assert_snapshot;

use super::machine::Machine;

#[test]
fn a_procfile_is_a_project() {
    let machine = Machine::with(&[
        ("/srv/shop/.env", "PORT=8080\n"),
        (
            "/srv/shop/Procfile",
            "# what runs\nweb: ./web --port $PORT && echo 'done\n\nworker:   ./worker # all of it\n",
        ),
    ]);
    assert_snapshot!(machine.tell(&["Procfile"]), @r#"
    {
      "name": "shop",
      "services": {
        "web": {
          "command": [
            "/bin/sh",
            "-c",
            "./web --port $$PORT && echo 'done"
          ],
          "environment": {
            "PORT": "8080"
          },
          "working_dir": "/srv/shop"
        },
        "worker": {
          "command": [
            "/bin/sh",
            "-c",
            "./worker # all of it"
          ],
          "environment": {
            "PORT": "8080"
          },
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
    let broken = Machine::with(&[("/srv/shop/Procfile", "web ./web\n: x\nweb:\na: b\na: c\nb/c: d\n")]);
    assert_snapshot!(broken.tell(&["Procfile"]), @"
    Procfile:1:1: This line is no `name: command` (write `#` before a comment)
    Procfile:2:1: This line is no `name: command` (write `#` before a comment)
    Procfile:3:1: This line is no `name: command` (write `#` before a comment)
    Procfile:5:1: Duplicate name `a` (keep one of the two)
    Procfile:6:1: `b/c` is not a valid service name: only letters, digits, `.`, `_` and `-` are allowed
    ");
    let empty = Machine::with(&[("/srv/shop/Procfile", "# nothing\n")]);
    assert_snapshot!(empty.tell(&["Procfile"]), @"Procfile:1:1: The file names no process (write `web: ./web --port 8080`)");
}

#[test]
fn a_command_is_words_or_a_line_for_a_shell() {
    let machine = Machine::with(&[
        (
            "/srv/shop/upbeat.yaml",
            "
services:
  a: { entrypoint: ./run -v, command: [--port, '1'] }
  b: { entrypoint: [./run] }
  c: { shell: true, command: 'a && b' }
  d: { shell: nu -c, command: 'ls | length', log: { max_size: 1m } }
  e: { shell: true, command: x }
",
        ),
        ("/srv/shop/over.yaml", "services: { e: { command: 'y; z' } }"),
    ]);
    assert_snapshot!(machine.tell(&["upbeat.yaml", "over.yaml"]), @r#"
    {
      "name": "shop",
      "services": {
        "a": {
          "command": [
            "./run",
            "-v",
            "--port",
            "1"
          ],
          "working_dir": "/srv/shop"
        },
        "b": {
          "command": [
            "./run"
          ],
          "working_dir": "/srv/shop"
        },
        "c": {
          "command": [
            "/bin/sh",
            "-c",
            "a && b"
          ],
          "working_dir": "/srv/shop"
        },
        "d": {
          "command": [
            "nu",
            "-c",
            "ls | length"
          ],
          "log": {
            "max_size": "1m"
          },
          "working_dir": "/srv/shop"
        },
        "e": {
          "command": [
            "/bin/sh",
            "-c",
            "y; z"
          ],
          "working_dir": "/srv/shop"
        }
      }
    }
    "#);
    let broken = Machine::with(&[(
        "/srv/shop/upbeat.yaml",
        "
services:
  a: { shell: true, command: [x] }
  b: { shell: true, entrypoint: x, command: y }
  c: { entrypoint: ~ }
  d: { command: x, log: { max_size: 1k, max_files: 0, max: 1 } }
",
    )]);
    assert_snapshot!(broken.tell(&["upbeat.yaml"]), @r#"
    upbeat.yaml:3:15: `services.a.shell` needs a `command` that is text, and no `entrypoint` (write the command as one line, or take `shell` out)
    upbeat.yaml:4:15: `services.b.shell` needs a `command` that is text, and no `entrypoint` (write the command as one line, or take `shell` out)
    upbeat.yaml:5:3: Service `c` has no `command` (say what it runs, such as `command: ["./bin/web", "--port", "8080"]`)
    upbeat.yaml:6:37: `services.d.log.max_size` must be from 64 KiB to 1 TiB
    upbeat.yaml:6:52: `services.d.log.max_files` must be from 1 to 1000, not 0
    upbeat.yaml:6:55: Unknown key `services.d.log.max` (did you mean `max_size`?)
    "#);
}

#[test]
fn a_container_has_no_keys_of_processes() {
    let machine = Machine::with(&[(
        "/srv/shop/upbeat.yaml",
        "services: { a: { image: x, shell: true, stop_command: y, log: { max_size: 1m } } }",
    )]);
    assert_snapshot!(machine.tell(&["upbeat.yaml"]), @"
    upbeat.yaml:1:28: `services.a.shell` is for processes, and this service is a container (write the shell into `command`)
    upbeat.yaml:1:41: `services.a.stop_command` is for processes, and this service is a container (use `pre_stop`)
    upbeat.yaml:1:58: `services.a.log` is for processes, and this service is a container (use `logging`)
    ");
}
