//! Makes texts of templates.
//!
//! Laws: a name that stands for nothing is an error, never an empty text; what a template makes is
//! bounded before it is made, and so is the time that takes, whatever it says; it sees nothing but the
//! values it is given.
//!
//! The language is that of Jinja, without what could make much of little: no loops, no macros, no
//! filter whose result is a product, and only numbers are multiplied.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::syntax::SyntaxConfig;
use minijinja::value::Rest;
use minijinja::{Environment, Error, ErrorKind, UndefinedBehavior, Value, filters, tests as conditions};
use serde_json::Value as Json;

use super::EXPANDED_MAX;
use super::report::shown;
use super::scan::{self, Scan};

/// The number of a copy, from 1: known when it is started.
pub(super) const INDEX: &str = "index";

/// What every template knows besides its parameters: the service it makes, and what stands behind
/// the `@` of its name.
pub(super) const GIVEN: [&str; 3] = [INDEX, "instance", "service"];

/// So many steps one text may take: some hundred times what a long one needs.
const FUEL: u64 = 50_000;

/// One text is no longer, in bytes: some times what a program can be given as one argument.
const MADE_MAX: usize = 1 << 20;

/// Names and what they stand for.
pub(super) type Values = BTreeMap<String, Json>;

/// What is wrong with a template.
#[derive(Clone, Debug)]
pub(super) struct Fault {
    /// `has no value called x`.
    pub(super) what: String,
    /// Where in its text.
    pub(super) range: Option<Range<usize>>,
}

/// What is known of a text.
struct Known {
    names: HashSet<String>,
    scan: Scan,
}

/// Reads each text once and makes others of it.
pub(super) struct Renderer<'a> {
    environment: Environment<'a>,
    known: HashMap<&'a str, Result<Known, Fault>>,
    /// Bytes that may still be made.
    left: usize,
    /// Bytes that filters may still make for the text that is made now.
    growth: Arc<AtomicUsize>,
}

impl Default for Renderer<'_> {
    fn default() -> Self {
        let mut environment = Environment::empty();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        let syntax = SyntaxConfig::builder().keep_trailing_newline(true).build();
        environment
            .set_syntax(syntax.unwrap_or_else(|_| unreachable!("the delimiters are the default ones")));
        environment.set_fuel(Some(FUEL));
        let growth = Arc::default();
        add_filters(&mut environment, &growth);
        Self { environment, known: HashMap::new(), left: EXPANDED_MAX, growth }
    }
}

/// Those of Jinja whose results are no longer than what they are given, and two that are bounded here.
fn add_filters(environment: &mut Environment<'_>, growth: &Arc<AtomicUsize>) {
    environment.add_filter("abs", filters::abs);
    environment.add_filter("bool", filters::bool);
    environment.add_filter("capitalize", filters::capitalize);
    environment.add_filter("default", filters::default);
    environment.add_filter("first", filters::first);
    environment.add_filter("float", filters::float);
    environment.add_filter("int", filters::int);
    let left = Arc::clone(growth);
    environment
        .add_filter("join", move |items: Vec<String>, between: Rest<String>| join(&items, &between, &left));
    environment.add_filter("last", filters::last);
    environment.add_filter("length", filters::length);
    environment.add_filter("lower", filters::lower);
    let left = Arc::clone(growth);
    environment.add_filter("replace", move |text: String, from: String, to: String| {
        replace(&text, &from, &to, &left)
    });
    environment.add_filter("round", filters::round);
    environment.add_filter("string", filters::string);
    environment.add_filter("title", filters::title);
    environment.add_filter("trim", filters::trim);
    environment.add_filter("upper", filters::upper);
    environment.add_test("defined", conditions::is_defined);
    environment.add_test("divisibleby", is_divisible);
    environment.add_test("even", conditions::is_even);
    environment.add_test("odd", conditions::is_odd);
}

fn too_long() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("it would be longer than {} MB", MADE_MAX >> 20))
}

/// Takes what a filter makes from what all of them may make for one text.
fn take(length: usize, left: &AtomicUsize) -> Result<(), Error> {
    let before = left.load(Ordering::Relaxed);
    left.store(before.checked_sub(length).ok_or_else(too_long)?, Ordering::Relaxed);
    Ok(())
}

fn join(items: &[String], between: &[String], left: &AtomicUsize) -> Result<String, Error> {
    let between = between.first().map_or("", String::as_str);
    take(items.iter().map(String::len).sum::<usize>() + between.len().saturating_mul(items.len()), left)?;
    Ok(items.join(between))
}

fn replace(text: &str, from: &str, to: &str, left: &AtomicUsize) -> Result<String, Error> {
    let places = text.matches(from).count();
    take(text.len().saturating_add(places.saturating_mul(to.len())), left)?;
    Ok(text.replace(from, to))
}

/// By no zero, which the one of Jinja falls over; nor over the least number, of which there is none
/// without its sign.
fn is_divisible(value: &Value, by: &Value) -> Result<bool, Error> {
    match i128::try_from(by.clone()) {
        Ok(0) => Err(Error::new(ErrorKind::InvalidOperation, "nothing is divisible by 0")),
        Ok(-1) => Ok(conditions::is_divisibleby(value, &Value::from(1))),
        _ => Ok(conditions::is_divisibleby(value, by)),
    }
}

impl<'a> Renderer<'a> {
    /// The names a text asks for. Errors: it is no template.
    pub(super) fn names(&mut self, text: &'a str) -> Result<&HashSet<String>, Fault> {
        self.known(text).map(|known| &known.names)
    }

    fn known(&mut self, text: &'a str) -> Result<&Known, Fault> {
        let environment = &mut self.environment;
        let known = self.known.entry(text).or_insert_with(|| {
            let scan = scan::scan(text)?;
            // What does not change is made when it is read.
            bounded(&scan, &Values::new())?;
            // A text is its own name, so that each is read once.
            environment.add_template(text, text).map_err(|error| fault(&error))?;
            let template = environment.get_template(text).map_err(|error| fault(&error))?;
            if scan.is_broken {
                return Err(Fault { what: "is no template".to_owned(), range: None });
            }
            Ok(Known { names: template.undeclared_variables(false), scan })
        });
        known.as_ref().map_err(Fault::clone)
    }

    /// The text with these values in it.
    pub(super) fn render(&mut self, text: &'a str, values: &Context) -> Result<String, Fault> {
        let growth = Arc::clone(&self.growth);
        let known = self.known(text)?;
        known.scan.judge(&values.values)?;
        bounded(&known.scan, &values.values)?;
        growth.store(MADE_MAX / known.scan.weight(), Ordering::Relaxed);
        let template = self.environment.get_template(text).map_err(|error| fault(&error))?;
        let made = template.render(values.made.clone()).map_err(|error| fault(&error))?;
        if made.len() > MADE_MAX {
            return Err(too_much());
        }
        self.left = self.left.checked_sub(made.len()).ok_or_else(|| Fault {
            what: format!("makes more than {} MB of text, with all others", EXPANDED_MAX >> 20),
            range: None,
        })?;
        Ok(made)
    }
}

fn bounded(scan: &Scan, values: &Values) -> Result<(), Fault> {
    if scan.length(values) > MADE_MAX { Err(too_much()) } else { Ok(()) }
}

fn too_much() -> Fault {
    Fault { what: format!("makes a text of more than {} MB", MADE_MAX >> 20), range: None }
}

/// Whether a text is a template at all.
pub(super) fn is_template(text: &str) -> bool {
    ["{{", "{%", "{#"].iter().any(|sign| text.contains(sign))
}

/// The template that makes just this text.
pub(super) fn literal(text: &str) -> String {
    match is_template(text) {
        true => format!("{{{{ {} }}}}", Json::from(text)),
        false => text.to_owned(),
    }
}

/// The same template with these values in it, so that it asks for no other names any more.
pub(super) fn closed(text: &str, names: &HashSet<String>, values: &Values) -> String {
    let bound = values.iter().filter(|(name, _)| names.contains(*name));
    let bound: String = bound.map(|(name, value)| format!("{{% set {name} = {value} %}}")).collect();
    bound + text
}

/// What a template is made with.
pub(super) struct Context {
    values: Values,
    made: Value,
}

/// Values, and the number of a copy.
pub(super) fn context(values: &Values, index: u32) -> Context {
    let mut values = values.clone();
    values.insert(INDEX.to_owned(), Json::from(index));
    let made = Value::from_pairs(values.iter().map(|(name, value)| (name.clone(), value_of(value))));
    Context { values, made }
}

/// A text, a number, true or false, or a list of these.
fn value_of(json: &Json) -> Value {
    match json {
        Json::Null | Json::Object(_) => Value::from(()),
        Json::Bool(flag) => Value::from(*flag),
        Json::Number(number) => match number.as_i64() {
            Some(whole) => Value::from(whole),
            None => Value::from(number.as_f64()),
        },
        Json::String(text) => Value::from(text.as_str()),
        Json::Array(items) => items.iter().map(value_of).collect(),
    }
}

fn fault(error: &minijinja::Error) -> Fault {
    let detail = || error.detail().map(shown);
    let what = match (error.kind(), detail()) {
        (ErrorKind::OutOfFuel, _) => "takes too many steps".to_owned(),
        (ErrorKind::UnknownFilter | ErrorKind::UnknownTest | ErrorKind::UnknownFunction, Some(detail)) => {
            format!("has something that is not known here: {detail}")
        }
        (ErrorKind::UndefinedError, _) => "uses a value that is not there".to_owned(),
        (ErrorKind::SyntaxError, Some(detail)) => format!("is no template: {detail}"),
        (_, Some(detail)) => format!("cannot be made: {detail}"),
        (kind, None) => format!("cannot be made: {kind}"),
    };
    Fault { what, range: error.range() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str) -> Result<String, String> {
        let long = "x".repeat(600_000);
        let values = [("queue", Json::from("mail")), ("n", Json::from(4)), ("long", Json::from(long))];
        let values = values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        Renderer::default().render(text, &context(&values, 3)).map_err(|fault| fault.what)
    }

    #[test]
    fn texts_are_made_of_values() {
        for (text, made) in [
            ("plain", "plain"),
            ("--queue={{ queue }} --port={{ 8000 + index * 10 }}", "--queue=mail --port=8030"),
            ("{% if n > 3 and index is odd %}many{% else %}few{% endif %}\n", "many\n"),
            ("{{ queue | upper }}{# nothing #}", "MAIL"),
            ("<&{{ '<&' }}", "<&<&"),
            ("{{ [queue, 'x'] | join('-') }}", "mail-x"),
            ("{{ queue | replace('a', '{%') }}", "m{%il"),
            ("{% raw %}{{ x }}{% for %}{% endraw %}", "{{ x }}{% for %}"),
            ("{{ queue[0] }}{{ n // 3 }}{{ n % 3 }}{{ -n }}", "m11-4"),
            ("{{ 'yes' if n == 4 else 'no' }}", "yes"),
            ("{% if(n == 4) %}{{ queue[1:-1] }}{{ {1: {2: '}}'}}[1][2] }}{% endif %}", "ai}}"),
            ("{{ n * 2 if true and n is divisibleby -2 else 0 }}", "8"),
            ("a {{- ' b ' -}} c {#- {{ -#} d {%- raw -%} {% {%- endraw +%} e", "a b cd{% e"),
        ] {
            assert_eq!(render(text).as_deref(), Ok(made), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_template_is_said_and_makes_little() {
        for (text, what) in [
            ("{{ queue.x }}", "uses a value that is not there"),
            ("{{ 'a' * 100000000 }}", "multiplies, which only numbers are for"),
            ("{{ (queue ~ queue) * 100000000 }}", "multiplies, which only numbers are for"),
            ("{{ queue * n }}", "multiplies, which only numbers are for"),
            ("{{ [1] * 100000000 }}", "multiplies, which only numbers are for"),
            ("{{ n | string * 100000000 }}", "multiplies, which only numbers are for"),
            ("{{ long ~ long }}", "makes a text of more than 1 MB"),
            ("{{ long | replace('x', 'xxxxxxxx') }}", "cannot be made: it would be longer than 1 MB"),
            ("{% for i in range(9999) %}x{% endfor %}", "has `for`, which is not supported"),
            ("{% set x = queue ~ queue %}", "gives `x` a value that is no plain one"),
            ("{% include 'x' %}", "has `include`, which is not supported"),
            ("{{ range(9999) }}", "has something that is not known here: range"),
            ("{{ queue | indent(1000000000) }}", "has something that is not known here"),
            ("{{ queue + 1 }}", "cannot be made: "),
            ("{{ queue", "is no template: "),
            ("{% if n", "is no template: "),
            ("{{ index / 0 }}", "cannot be made: "),
            ("{{ 9 ** 9 ** 9 ** 9 }}", "cannot be made: "),
            ("{{ (1,) * 100000000 }}", "multiplies, which only numbers are for"),
            ("{{ {1: {2: 3}} and 'a' * 100000000 }}", "multiplies, which only numbers are for"),
            ("{#} {{ \" #}{{ 'a' * 100000000 }}", "multiplies, which only numbers are for"),
            (
                "{% raw %}{%--endraw%}{#{% endraw %}{{ 'a' * 100000000 }}{% raw %}#}{% endraw %}",
                "multiplies, which only numbers are for",
            ),
            ("{% raw %}{%\u{c}endraw%}{{ 'a' * 100000000 }}", "multiplies, which only numbers are for"),
            ("{% set x = 'a' %}{{ x }}", "gives `x` a value that is no plain one"),
            ("{% set x, y = [\"a\", 1] %}{{ x }}", "gives `x, y` a value that is no plain one"),
            ("{% set x = \"a\" %}{{ x * 9000000 }}{% set x = 1 %}", "multiplies, which only numbers are for"),
            (
                "{% if n == 5 %}{% set long = 1 %}{% endif %}{{ long ~ long }}",
                "makes a text of more than 1 MB",
            ),
            ("{{ n is divisibleby 0 }}", "cannot be made: nothing is divisible by 0"),
            ("{{ ''[::-1] }}", "takes a part in steps, which is not supported"),
            ("{{ queue[::n] }}", "takes a part in steps, which is not supported"),
            ("{{ queue", "is no template: "),
            ("{% raw %}{%}", "is no template: "),
        ] {
            let fault = render(text).unwrap_err();
            assert!(fault.contains(what), "{text}: {fault}");
        }
    }

    #[test]
    fn what_would_make_much_of_little_in_many_steps_is_refused() {
        let grown =
            "{{ 'xxxxxxxxxx' | replace('x', 'xxxxxxxxxx') | replace('x', 'xxxxxxxxxx') }}".repeat(2000);
        let nested = |n| format!("{{{{ {}queue{} }}}}", "[".repeat(n), " ~ '\"']".repeat(n));
        let deep = |before: &str, after: &str| {
            format!("{{{{ {}n{} }}}}", before.repeat(100_000), after.repeat(100_000))
        };
        let conditions = format!("{{% if n %}}{}{{% endif %}}", "{% elif n %}".repeat(100_000));
        for (text, what) in [
            (grown, "it would be longer than 1 MB"),
            (nested(12), "makes a text of more than 1 MB"),
            (nested(90), "has too much in one expression"),
            (deep("not ", ""), "has too much in one expression"),
            (deep("-", ""), "has too much in one expression"),
            (deep("n if n else ", ""), "has too much in one expression"),
            (deep("", " + n"), "has too much in one expression"),
            (deep("", "|upper"), "has too much in one expression"),
            (deep("", ".x"), "has too much in one expression"),
            (deep("(", ")"), "has too much in one expression"),
            (deep("[", "]"), "has too much in one expression"),
            (conditions, "has too many conditions that hang on each other"),
        ] {
            let fault = render(&text).unwrap_err();
            assert!(fault.contains(what), "{}: {fault}", &text[..50]);
        }
    }

    /// Whoever reads a text recurses, and has the stack of a thread.
    #[test]
    fn an_expression_may_be_as_deep_as_it_may() {
        let parts = [
            "not ",
            "-",
            "n if n else ",
            "n + ",
            "n.x.",
            "(",
            "[",
            "{1:",
            "n(",
            "n|upper is odd and ",
            "n[",
            "[n,(1,[{2:n(",
        ];
        for (part, end) in
            parts.into_iter().flat_map(|part| [(part, ""), (part, ")"), (part, "]"), (part, "}")])
        {
            for count in (1..250).filter(|count| count % 7 == 0 || *count > 240) {
                let (before, after) = (part.repeat(count), end.repeat(count));
                drop(render(&format!("{{{{ {before}n{after} }}}}")));
                drop(render(&format!("{{{{ n{} }}}}", format!(" {part}n{end}").repeat(count))));
            }
        }
        for count in [1, 24, 49, 50, 51] {
            let nested = format!(
                "{}{}{}",
                "{% if n %}{{ -n }}".repeat(count),
                "(n)",
                "{% else %}x{% endif %}".repeat(count)
            );
            drop(render(&nested));
            drop(render(&format!("{{% if n %}}{}{{% endif %}}", "{% elif n %}".repeat(count))));
        }
    }

    #[test]
    fn a_long_text_is_looked_at_once() {
        let start = std::time::Instant::now();
        for text in ["{{1}}\n".repeat(170_000), "{% raw %}".to_owned() + &"{%\n".repeat(300_000) + "%}"] {
            render(&text).unwrap_err();
        }
        assert!(start.elapsed().as_secs() < 30);
    }

    #[test]
    fn a_template_that_is_closed_makes_the_same_and_a_literal_makes_itself() {
        let nasty = "a\"b\\c\n{{ x }} {% y %} \u{7} é %} }} '";
        let values: Values =
            [("q".to_owned(), Json::from(nasty)), ("list".to_owned(), serde_json::json!(["a", "b"]))].into();
        let text = "{{ q }}-{{ list | join(',') }}-{{ index }}";
        let mut renderer = Renderer::default();
        let names = renderer.names(text).unwrap().clone();
        let closed = closed(text, &names, &values);
        let mut other = Renderer::default();
        assert_eq!(other.names(&closed).unwrap(), &HashSet::from([INDEX.to_owned()]));
        let made = other.render(&closed, &context(&Values::new(), 7)).unwrap();
        assert_eq!(made, format!("{nasty}-a,b-7"));
        let literal = literal(nasty);
        assert_eq!(Renderer::default().render(&literal, &context(&Values::new(), 1)).unwrap(), nasty);
    }
}
