//! Texts that are no YAML, or YAML that is no project file.

use super::{check_error, service};

#[test]
fn an_empty_file_says_what_to_write() {
    check_error!("", @"
    upbeat.yaml:1:1: The file is empty (write `services:`, under it a name, and under that a `command`)
      ^ ``
    ");
    check_error!("# nothing
", @"
    upbeat.yaml:1:1: The file is empty (write `services:`, under it a name, and under that a `command`)
      ^ ``
    ");
    check_error!("---
", @"
    upbeat.yaml:1:1: The file is empty (write `services:`, under it a name, and under that a `command`)
      ^ ``
    ");
    check_error!("services:
", @"
    upbeat.yaml:1:1: `services` has no value (give it a mapping of services, or take it out)
      ^ `services`
    ");
    check_error!("services: {}
", @"
    upbeat.yaml:1:11: There is no service under `services` (write `services:`, under it a name, and under that a `command`)
      ^ `{}`
    ");
    check_error!("name: shop
", @"
    upbeat.yaml:1:1: The file has no `services` (write `services:`, under it a name, and under that a `command`)
      ^ ``
    ");
}

#[test]
fn what_is_not_a_mapping_is_refused() {
    check_error!("web
", @"
    upbeat.yaml:1:1: A project file must be a mapping, not text
      ^ `web`
    ");
    check_error!("- web
", @"
    upbeat.yaml:1:1: A project file must be a mapping, not a list
      ^ `- web`
    ");
    check_error!("services: [web]
", @"
    upbeat.yaml:1:11: `services` must be a mapping of services, not a list
      ^ `[web]`
    ");
    check_error!("services: { web: }
", @"
    upbeat.yaml:1:13: `services.web` has no value (give it a mapping, or take it out)
      ^ `web`
    ");
    check_error!("services: { web: ./web }
", @"
    upbeat.yaml:1:18: `services.web` must be a mapping, not text
      ^ `./web`
    ");
    check_error!("services: { web: [a, b] }
", @"
    upbeat.yaml:1:18: `services.web` must be a mapping, not a list
      ^ `[a, b]`
    ");
}

#[test]
fn text_that_is_not_yaml_is_refused_at_its_place() {
    check_error!("services:\n\tweb:\n", @"
    upbeat.yaml:2:2: This is not YAML: tabs disallowed within this context (block indentation) (indent with spaces, not with tabs)
      ^ `w`
    ");
    check_error!("services: { web: { command: x }
", @"
    upbeat.yaml:2:1: This is not YAML: while parsing a flow mapping, did not find expected ',' or '}' (a `{` is not closed, or a `,` is missing)
      ^ ``
    ");
    check_error!("services:
  web:
    command: [a, b
  db:
", @"
    upbeat.yaml:4:5: This is not YAML: illegal placement of ':' indicator (a `[` or a `{` before this is not closed)
      ^ `:`
    ");
    check_error!(r#"services:
  web:
    command: "./web
"#, @r#"
    upbeat.yaml:3:14: This is not YAML: while scanning a quoted scalar, found unexpected end of stream (a quote is not closed)
      ^ `"`
    "#);
    check_error!("services:
  web:
    command: a: b
", @"
    upbeat.yaml:3:15: This is not YAML: mapping values are not allowed in this context (text with `: ` in it needs quotes, a key above needs its `:`)
      ^ `:`
    ");
    check_error!("services:
  web:
    command: x
   db:
", @"
    upbeat.yaml:4:4: This is not YAML: while parsing a block mapping, did not find expected key (keys of one mapping start in the same column)
      ^ `d`
    ");
    check_error!("services:
  web: *nobody
", @"
    upbeat.yaml:2:8: This is not YAML: while parsing node, found unknown anchor (an alias `*name` needs an anchor `&name` before it)
      ^ `*nobody`
    ");
    check_error!("services:
  web
    command: x
", @"
    upbeat.yaml:3:12: This is not YAML: mapping values are not allowed in this context (text with `: ` in it needs quotes, a key above needs its `:`)
      ^ `:`
    ");
    check_error!("services: @web
", @"
    upbeat.yaml:1:11: This is not YAML: unexpected character: `@' (put text that starts with this character into quotes)
      ^ `@`
    ");
    check_error!(r#"services: { web: { command: "\q" } }
"#, @r#"
    upbeat.yaml:1:29: This is not YAML: while parsing a quoted scalar, found unknown escape character (use single quotes where a backslash is meant)
      ^ `"`
    "#);
    check_error!("services: { web: { command: [a, ${X}] } }
", @"
    upbeat.yaml:1:34: This is not YAML: while parsing a flow sequence, expected ',' or ']' (put text with `${` in it into quotes)
      ^ `{`
    ");
    check_error!("a\0b", @r"
    upbeat.yaml:1:2: There is a control character (`\x00`) in the file (write it as an escape in double quotes, or take it out)
      ^ `?`
    ");
    check_error!("services: { ä: \u{1b} }\n", @r"
    upbeat.yaml:1:16: There is a control character (`\x1b`) in the file (write it as an escape in double quotes, or take it out)
      ^ `?`
    ");
}

#[test]
fn a_key_stands_once_and_is_text() {
    check_error!("services:
  web: { command: x }
  db: { command: y }
  web: { command: z }
", @"
    upbeat.yaml:4:3: Duplicate key `web` (keep one of the two)
      ^ `web` the second one
    ");
    check_error!(service("command: x
command: y"), @"
    upbeat.yaml:4:5: Duplicate key `command` (keep one of the two)
      ^ `command` the second one
    ");
    check_error!(service("command: x
? [a, b]
: c
? { a: b }
: c"), @"
    upbeat.yaml:4:7: A key must be text, not a list
      ^ `[a, b]`
    upbeat.yaml:6:7: A key must be text, not a mapping
      ^ `{ a: b }`
    ");
    check_error!("services:
  ? &a web
  : { command: x }
  *a : { command: y }
", @"
    upbeat.yaml:4:3: A key must be text, not an alias
      ^ `*a`
    ");
}

#[test]
fn tags_and_second_documents_are_refused_by_name() {
    check_error!(service("command: !!python/object:os.system x
scale: !!int 3
user: !mine x"), @"
    upbeat.yaml:3:14: The tag `!!python/object:os.system` is not supported (take it out; quotes make a value text)
      ^ `!!python/object:os.system x`
    upbeat.yaml:4:12: The tag `!!int` is not supported (take it out; quotes make a value text)
      ^ `!!int 3`
    upbeat.yaml:5:11: The tag `!mine` is not supported (take it out; quotes make a value text)
      ^ `!mine x`
    ");
    check_error!("services: { web: { command: x } }
---
services: {}
", @"
    upbeat.yaml:2:1: There is a second document in this file (keep one project in one file, without `---` between)
      ^ `---` it starts here
    ");
}

#[test]
fn a_merge_key_names_mappings() {
    check_error!("services:
  db: &base { command: x }
  web:
    <<: [*base, 1]
    <<: *base
  api: { <<: text, command: y }
", @"
    upbeat.yaml:4:17: `<<` must name a mapping, or a list of them, not text
      ^ `1`
    upbeat.yaml:5:5: There are two merge keys `<<` in one mapping (give one of them a list: `<<: [*first, *second]`)
      ^ `<<` the second one
    upbeat.yaml:6:14: `<<` must name a mapping, or a list of them, not text
      ^ `text`
    ");
}

#[test]
fn an_alias_inside_of_itself_has_no_end() {
    check_error!("services: &a { web: *a }
", @"
    upbeat.yaml:1:21: An alias stands inside the value it names
      ^ `*a` this would never end
    ");
}

#[test]
fn places_are_counted_in_characters() {
    check_error!("# äöü
services: { web: { command: [日本, '${X}', a],
  user: ${X} } }
", @"
    upbeat.yaml:3:10: This is not YAML: while parsing a flow mapping, did not find expected ',' or '}' (put text with `${` in it into quotes)
      ^ `{`
    ");
    check_error!("\u{feff}service: 1\n", @"
    upbeat.yaml:1:1: Unknown key `service` (did you mean `services`?)
      ^ `service` not a key of a project file
    ");
    check_error!("services:\r\n  web:\r\n    comand: x\r\n", @"
    upbeat.yaml:3:5: Unknown key `services.web.comand` (did you mean `command`?)
      ^ `comand` not a key of a service
    ");
}
