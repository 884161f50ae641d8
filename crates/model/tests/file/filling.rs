//! What `${…}` comes to, case by case: the page "Interpolation" of the Compose Specification; and
//! what a line of a file of variables says.

use upbeat_model::file::resolve;

use super::machine::Machine;

/// What becomes of a text with variables in it: the text, or why it is refused. Variables that stand
/// for nothing, since they are not set, are told behind it.
fn filled(text: &str, session: &[(&str, &str)]) -> String {
    let quoted = serde_json::to_string(text).expect("a text");
    let file = format!("services: {{ web: {{ image: web, labels: {{ l: {quoted} }} }} }}\n");
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", &file)]).session(session);
    let resolved = match resolve(&machine.sources(&["upbeat.yaml"]), &machine.context()) {
        Ok(resolved) => resolved,
        Err(errors) => return format!("refused: {errors}"),
    };
    // In a document, so that it can be read again, `$$` stands for `$`.
    let text = &resolved.document["services"]["web"]["labels"]["l"];
    let text = text.as_str().expect("a text").replace("$$", "$");
    match resolved.notes.iter().any(|note| note.message.contains("which is not set")) {
        true => format!("{text} (and told)"),
        false => text,
    }
}

/// A text, and what becomes of it where `V` is set to `value`, is empty, and is not set.
type Row = (&'static str, &'static str, &'static str, &'static str);

const REFUSED: &str = "(refused)";

const FORMS: &[Row] = &[
    ("$V", "value", "", " (and told)"),
    ("${V}", "value", "", " (and told)"),
    ("a${V}b", "avalueb", "ab", "ab (and told)"),
    ("a$V-b", "avalue-b", "a-b", "a-b (and told)"),
    ("$V$V", "valuevalue", "", " (and told)"),
    // Default: with a colon, empty is as not set.
    ("${V:-d}", "value", "d", "d"),
    ("${V-d}", "value", "", "d"),
    ("${V:-}", "value", "", ""),
    ("${V-}", "value", "", ""),
    ("${V:-a b: c}", "value", "a b: c", "a b: c"),
    ("${V:-:-}", "value", ":-", ":-"),
    ("${V:--}", "value", "-", "-"),
    ("${V:-$$}", "value", "$", "$"),
    ("${V:-$${V}}", "value}", "${V}", "${V}"),
    ("${V:-\"d\"}", "value", "\"d\"", "\"d\""),
    // Mandatory.
    ("${V:?why}", "value", REFUSED, REFUSED),
    ("${V?why}", "value", "", REFUSED),
    ("${V:?}", "value", REFUSED, REFUSED),
    ("${V?}", "value", "", REFUSED),
    // Replacement.
    ("${V:+r}", "r", "", ""),
    ("${V+r}", "r", "r", ""),
    ("${V:+}", "", "", ""),
    // A literal dollar.
    ("$$V", "$V", "$V", "$V"),
    ("$${V}", "${V}", "${V}", "${V}"),
    ("$$$V", "$value", "$", "$ (and told)"),
    ("$$$$V", "$$V", "$$V", "$$V"),
    ("5$$", "5$", "5$", "5$"),
    // What looks like a form and is none.
    ("}", "}", "}", "}"),
    ("${V}}", "value}", "}", "} (and told)"),
    ("{V}", "{V}", "{V}", "{V}"),
    // Other extended features of shells are not there.
    ("${V/a/b}", REFUSED, REFUSED, REFUSED),
    ("${V%a}", REFUSED, REFUSED, REFUSED),
    ("${#V}", REFUSED, REFUSED, REFUSED),
    ("${!V}", REFUSED, REFUSED, REFUSED),
    ("${V:=d}", REFUSED, REFUSED, REFUSED),
    ("${V:0:1}", REFUSED, REFUSED, REFUSED),
    ("${V:}", REFUSED, REFUSED, REFUSED),
    ("${}", REFUSED, REFUSED, REFUSED),
    ("${ V }", REFUSED, REFUSED, REFUSED),
    ("${V", REFUSED, REFUSED, REFUSED),
    ("${V:-d", REFUSED, REFUSED, REFUSED),
    ("$", REFUSED, REFUSED, REFUSED),
    ("$ V", REFUSED, REFUSED, REFUSED),
    ("$1", REFUSED, REFUSED, REFUSED),
    ("$(V)", REFUSED, REFUSED, REFUSED),
    ("$-V", REFUSED, REFUSED, REFUSED),
];

/// Whether `V` is there, and with what.
const STATES: [Option<&str>; 3] = [Some("value"), Some(""), None];

fn session<'s>(name: &'s str, state: Option<&'s str>) -> Vec<(&'s str, &'s str)> {
    state.map(|value| (name, value)).into_iter().collect()
}

#[test]
fn every_form_comes_to_what_it_should_whether_its_variable_is_set_empty_or_not_set() {
    for (form, set, empty, unset) in FORMS {
        for (state, expected) in STATES.into_iter().zip([set, empty, unset]) {
            let comes_to = filled(form, &session("V", state));
            match *expected {
                REFUSED => assert!(comes_to.starts_with("refused: "), "{form} with {state:?}: {comes_to}"),
                expected => assert_eq!(comes_to, expected, "{form} with {state:?}"),
            }
        }
    }
}

/// What a form with an operator means, as the specification words it.
fn meaning(operator: &str, state: Option<&str>, word: Result<String, ()>) -> Result<String, ()> {
    let is_there = match operator.starts_with(':') {
        true => state.is_some_and(|value| !value.is_empty()),
        false => state.is_some(),
    };
    match (operator.trim_start_matches(':'), is_there) {
        ("+", true) => word,
        ("+", false) => Ok(String::new()),
        (_, true) => Ok(state.unwrap_or_default().to_owned()),
        ("-", false) => word,
        (_, false) => Err(()),
    }
}

/// Each operator in each other one, three deep, with each state of each of the variables.
#[test]
fn forms_in_forms_mean_what_the_inner_ones_come_to() {
    const OPERATORS: [&str; 6] = [":-", "-", ":?", "?", ":+", "+"];
    for (outer, middle, inner) in triples(OPERATORS) {
        let text = format!("<${{V{outer}[${{W{middle}({{${{X{inner}x}})}}]}}>");
        for (v, w, x) in triples(STATES) {
            let word = meaning(inner, x, Ok("x".to_owned())).map(|text| format!("({{{text})"));
            let word = meaning(middle, w, word).map(|text| format!("[{text}]"));
            let expected = meaning(outer, v, word).map(|text| format!("<{text}>"));
            let session = [session("V", v), session("W", w), session("X", x)].concat();
            let comes_to = filled(&text, &session);
            match expected {
                Ok(expected) => assert_eq!(comes_to, expected, "{text} with {session:?}"),
                Err(()) => assert!(comes_to.starts_with("refused: "), "{text} with {session:?}: {comes_to}"),
            }
        }
    }
}

fn triples<T: Copy, const N: usize>(of: [T; N]) -> impl Iterator<Item = (T, T, T)> {
    of.into_iter().flat_map(move |a| of.into_iter().flat_map(move |b| of.into_iter().map(move |c| (a, b, c))))
}

#[test]
fn what_is_mandatory_is_refused_with_the_words_of_the_file() {
    let refused = |text: &str, state| filled(text, &session("V", state));
    let told = |rest: &str| {
        format!(
            "refused: upbeat.yaml:1:46: `services.web.labels.l` needs the variable `V`, which {rest} (set it in your session, or in `.env`)"
        )
    };
    assert_eq!(refused("${V:?set it}", None), told("is not set, or empty: set it"));
    assert_eq!(refused("${V:?set it}", Some("")), told("is not set, or empty: set it"));
    assert_eq!(refused("${V?set it}", None), told("is not set: set it"));
    assert_eq!(refused("${V?}", None), told("is not set"));
    assert_eq!(filled("${V?no $W}", &[("W", "w")]), told("is not set: no w"));
}

/// A value is filled in once: what is in a variable is nobody's form.
#[test]
fn the_value_of_a_variable_is_taken_as_it_is() {
    assert_eq!(filled("$V", &[("V", "$W ${W} $$ ${")]), "$W ${W} $$ ${");
    assert_eq!(filled("${U:-$V}", &[("V", "${W}")]), "${W}");
    assert_eq!(filled("$V", &[("V", "\" } ] : #")]), "\" } ] : #");
}

#[test]
fn values_are_filled_in_and_keys_are_not() {
    let file = "
services:
  web:
    image: web
    labels: { $V: $V, '${V}': b }
    environment: ['$V=$V']
    ports: ['$V:80']
    command: [$V, '-$V']
";
    let machine = Machine::with(&[("/srv/shop/upbeat.yaml", file)]).session(&[("V", "8080")]);
    let document: serde_json::Value = serde_json::from_str(&machine.tell(&["upbeat.yaml"])).unwrap();
    let web = &document["services"]["web"];
    assert_eq!(web["labels"], serde_json::json!({ "$V": "8080", "${V}": "b" }));
    assert_eq!(web["environment"], serde_json::json!({ "8080": "8080" }));
    assert_eq!(web["ports"][0]["published"], "8080");
    assert_eq!(web["command"], serde_json::json!(["8080", "-8080"]));
}

/// What a file of one line, or a few, says `V` is; `A` is set in the session.
const LINES: &[(&str, &str)] = &[
    ("V=VAL", "VAL"),
    ("V=\"VAL\"", "VAL"),
    ("V='VAL'", "VAL"),
    ("V = VAL ", "VAL"),
    ("V: VAL", "VAL"),
    ("export V=VAL", "VAL"),
    ("  V=VAL", "VAL"),
    ("V=", ""),
    ("V=''", ""),
    ("V=a=b", "a=b"),
    ("# V=a\n\n   # b\nV=VAL", "VAL"),
    ("V=a\nV=b", "b"),
    ("V=VAL\r\nW=b\r\n", "VAL"),
    // Comments.
    ("V=VAL # comment", "VAL"),
    ("V=VAL\t# comment", "VAL"),
    ("V=VAL# not a comment", "VAL# not a comment"),
    ("V=#fff", "#fff"),
    ("V= # comment", ""),
    ("V=\"VAL # not a comment\"", "VAL # not a comment"),
    ("V=\"VAL\" # comment", "VAL"),
    ("V='VAL' # comment", "VAL"),
    // Variables.
    ("V=$A", "session"),
    ("V=${A}", "session"),
    ("V=\"$A\"", "session"),
    ("V='$A'", "$A"),
    ("V='${A}'", "${A}"),
    ("V=${U:-default}", "default"),
    ("V=\"${U:-default}\"", "default"),
    ("B=b\nV=$B", "b"),
    ("A=file\nV=$A", "session"),
    ("V=\\$A", "\\session"),
    ("V=\"\\$A\"", "$A"),
    ("V=5$", "5$"),
    // Escapes.
    ("V='Let\\'s go!'", "Let's go!"),
    ("V=\"{\\\"hello\\\": \\\"json\\\"}\"", "{\"hello\": \"json\"}"),
    ("V=\"some\\tvalue\"", "some\tvalue"),
    ("V='some\\tvalue'", "some\\tvalue"),
    ("V=some\\tvalue", "some\\tvalue"),
    ("V=\"a\\nb\\rc\\\\d\"", "a\nb\rc\\d"),
    ("V=\"\\x\"", "\\x"),
    // Over lines.
    ("V='one\ntwo'", "one\ntwo"),
    ("V=\"one\ntwo\"", "one\ntwo"),
    ("V=\"one\n# two\nthree=3\"\nW=w", "one\n# two\nthree=3"),
    ("V=it's", "it's"),
];

#[test]
fn a_line_of_a_file_of_variables_says_what_the_specification_says() {
    for (line, expected) in LINES {
        let machine = Machine::with(&[
            ("/srv/shop/upbeat.yaml", "services: { web: { image: web, env_file: v.env } }"),
            ("/srv/shop/v.env", line),
        ]);
        let told = machine.session(&[("A", "session")]).tell(&["upbeat.yaml"]);
        let document: serde_json::Value =
            serde_json::from_str(&told).unwrap_or_else(|_| panic!("{line:?}: {told}"));
        let value =
            document["services"]["web"]["environment"]["V"].as_str().map(|text| text.replace("$$", "$"));
        assert_eq!(value.as_deref(), Some(*expected), "{line:?}");
    }
}

/// The same lines in `.env`: they are for `${…}`, and for who asks for a variable by its name alone.
#[test]
fn what_stands_in_the_projects_own_file_of_variables_is_for_filling_in() {
    for (line, expected) in LINES {
        let machine = Machine::with(&[
            (
                "/srv/shop/upbeat.yaml",
                "services: { web: { image: web, labels: ['l=$V'], environment: [V] } }",
            ),
            ("/srv/shop/.env", line),
        ]);
        let told = machine.session(&[("A", "session")]).tell(&["upbeat.yaml"]);
        let document: serde_json::Value =
            serde_json::from_str(&told).unwrap_or_else(|_| panic!("{line:?}: {told}"));
        let web = &document["services"]["web"];
        let text = |value: &serde_json::Value| value.as_str().map(|text| text.replace("$$", "$"));
        assert_eq!(text(&web["labels"]["l"]).as_deref(), Some(*expected), "{line:?}");
        assert_eq!(text(&web["environment"]["V"]).as_deref(), Some(*expected), "{line:?}");
    }
}
