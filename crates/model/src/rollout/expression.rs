//! What a measured value must be like, in the Common Expression Language: `result[0] < 0.05`,
//! `result.status == "ok" && result.queue.size() < 10`.
//!
//! What it is asked about comes from somewhere else and may be meant to do harm, and an evaluation cannot be
//! called off. So an expression is bounded when it is declared, and how large a value it may be asked about
//! follows from that: one that could take long is not asked at all. Of what goes through a list there is one
//! (`all`, `exists`), and nothing grows in it.

use std::collections::HashMap;

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::PrattParser;
use cel::{Context, Value};

/// The longest expression, in bytes.
pub const EXPRESSION_MAX: usize = 1024;

/// Expressions in an expression go so deep at most.
const DEPTH_MAX: u16 = 32;

/// A chain (`a && b && c`) is as deep as it is long when it is evaluated, and has so many parts at most.
const CHAIN_MAX: usize = 64;

/// And there are so many in all.
const NODES_MAX: usize = 300;

/// Steps of one evaluation, as they are estimated beforehand from above: each is some ten nanoseconds.
const STEPS_MAX: u64 = 20_000_000;

/// What is known of CEL here. Of the standard functions those that make something else of a text at each step
/// (`matches`), and dates, are not.
const FUNCTIONS: [&str; 27] = [
    "_&&_",
    "_||_",
    "!_",
    "-_",
    "_==_",
    "_!=_",
    "_<_",
    "_<=_",
    "_>_",
    "_>=_",
    "_+_",
    "_-_",
    "_*_",
    "_/_",
    "_%_",
    "_?_:_",
    "_[_]",
    "@in",
    "@not_strictly_false",
    "size",
    "contains",
    "startsWith",
    "endsWith",
    "double",
    "int",
    "uint",
    "string",
];

/// No expression, or none that can be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct ExpressionError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

/// A question about a value that is called `result` in it.
#[derive(Debug)]
pub struct Expression {
    parsed: IdedExpr,
    size: Size,
}

/// What an evaluation costs at most.
#[derive(Clone, Copy, Debug, Default)]
struct Size {
    /// Expressions in it.
    nodes: u64,
    /// Of these, what goes through a list.
    loops: u64,
    /// Of these, what may make something longer.
    sums: u64,
}

impl Expression {
    /// Compiles it.
    ///
    /// Errors: the first thing that is wrong with it, and where.
    pub fn new(text: &str) -> Result<Self, ExpressionError> {
        let refuse = |problem: String| Err(ExpressionError { line: 1, column: 1, problem });
        if text.trim().is_empty() {
            return refuse("there is no expression: `result < 0.05`".into());
        }
        if text.len() > EXPRESSION_MAX {
            return refuse(format!("it has {} bytes, and may have {EXPRESSION_MAX}", text.len()));
        }
        let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX).max_expression_node_count(NODES_MAX);
        let parsed = parser.parse(text).map_err(|errors| {
            let first = errors.errors.into_iter().next();
            let (at, problem) =
                first.map_or(((1, 1), "it is no expression".into()), |error| (error.pos, error.msg));
            let [line, column] = [at.0, at.1].map(|n| usize::try_from(n).unwrap_or(1).max(1));
            ExpressionError { line, column, problem: problem.lines().next().unwrap_or_default().to_owned() }
        })?;
        let mut walk = Walk { text, bound: Vec::new(), size: Size::default() };
        walk.expression(&parsed, 0)?;
        let size = walk.size;
        if size.loops > 1 {
            return refuse(
                "it goes through a list more than once: one `all` or `exists` may be in it".into(),
            );
        }
        if size.loops > 0 && size.sums > 0 {
            return refuse(
                "beside `all` or `exists` there may be no `+`, nor `map`, `filter` or `exists_one`, which add to a list".into(),
            );
        }
        Ok(Self { parsed, size })
    }

    /// Whether it is so of this value.
    ///
    /// Errors, in words: nobody can say: the value is not like that, or too large.
    pub fn is_so(&self, result: &serde_json::Value) -> Result<bool, String> {
        let Size { nodes, loops, sums } = self.size;
        let weight = weight(result).max(1);
        // Each node looks at everything once, of as many sums as there are; and for each element again.
        let once = nodes.saturating_mul(weight).saturating_mul(sums + 1);
        let steps = if loops > 0 { once.saturating_mul(weight) } else { once };
        if steps > STEPS_MAX {
            return Err(format!("the value is too large for it: it has {weight} parts"));
        }
        let mut context = Context::default();
        context.add_variable_from_value("result", as_cel(result));
        match context.resolve(&self.parsed) {
            Ok(Value::Bool(is_so)) => Ok(is_so),
            Ok(_) => Err("it is neither true nor false".into()),
            Err(error) => Err(error.to_string()),
        }
    }
}

/// A whole number is signed where it can be, as those that an expression compares it with are.
fn as_cel(value: &serde_json::Value) -> Value {
    use serde_json::Value as Json;
    match value {
        Json::Null => Value::Null,
        Json::Bool(is_so) => Value::Bool(*is_so),
        Json::Number(number) => match (number.as_i64(), number.as_u64()) {
            (Some(number), _) => Value::Int(number),
            (None, Some(number)) => Value::UInt(number),
            (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(text.clone().into()),
        Json::Array(list) => Value::List(list.iter().map(as_cel).collect::<Vec<_>>().into()),
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), as_cel(value)));
            fields.collect::<HashMap<_, _>>().into()
        }
    }
}

/// How many things there are in it; of a text each eight bytes are one.
fn weight(value: &serde_json::Value) -> u64 {
    use serde_json::Value;
    let of_text = |text: &str| 1 + text.len() as u64 / 8;
    match value {
        Value::String(text) => of_text(text),
        Value::Array(list) => 1 + list.iter().map(weight).sum::<u64>(),
        Value::Object(fields) => {
            1 + fields.iter().map(|(name, value)| of_text(name) + weight(value)).sum::<u64>()
        }
        _ => 1,
    }
}

/// Looks at each expression in an expression.
struct Walk<'a> {
    text: &'a str,
    /// Names that stand for an element of a list here.
    bound: Vec<&'a str>,
    size: Size,
}

impl<'a> Walk<'a> {
    fn expression(&mut self, expression: &'a IdedExpr, depth: usize) -> Result<(), ExpressionError> {
        self.size.nodes += 1;
        if depth > CHAIN_MAX {
            return self.refuse("", format!("its parts are nested or chained more than {CHAIN_MAX} deep"));
        }
        match &expression.expr {
            Expr::Unspecified | Expr::Literal(_) => Ok(()),
            Expr::Ident(name) if name == "result" || name.starts_with('@') || self.is_bound(name) => Ok(()),
            Expr::Ident(name) => self.refuse(name, format!("`{name}` is not known: there is `result`")),
            Expr::Call(call) => {
                let name = call.func_name.as_str();
                if !FUNCTIONS.contains(&name) {
                    return self.refuse(name, format!("`{name}` is not known"));
                }
                self.size.sums += u64::from(name == "_+_");
                call.target.iter().try_for_each(|target| self.expression(target, depth + 1))?;
                call.args.iter().try_for_each(|argument| self.expression(argument, depth + 1))
            }
            Expr::Comprehension(through) => {
                self.size.loops += 1;
                self.expression(&through.iter_range, depth + 1)?;
                self.expression(&through.accu_init, depth + 1)?;
                let before = self.bound.len();
                self.bound.extend([through.iter_var.as_str(), through.accu_var.as_str()]);
                self.bound.extend(through.iter_var2.as_deref());
                self.expression(&through.loop_cond, depth + 1)?;
                self.expression(&through.loop_step, depth + 1)?;
                self.expression(&through.result, depth + 1)?;
                self.bound.truncate(before);
                Ok(())
            }
            Expr::List(list) => {
                list.elements.iter().try_for_each(|element| self.expression(element, depth + 1))
            }
            Expr::Select(select) => self.expression(&select.operand, depth + 1),
            Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
                EntryExpr::MapEntry(entry) => {
                    self.expression(&entry.key, depth + 1)?;
                    self.expression(&entry.value, depth + 1)
                }
                EntryExpr::StructField(field) => self.expression(&field.value, depth + 1),
            }),
            Expr::Struct(made) => self.refuse(&made.type_name, format!("`{}` is not known", made.type_name)),
        }
    }

    fn is_bound(&self, name: &str) -> bool {
        self.bound.contains(&name)
    }

    /// At the first place where that stands.
    fn refuse(&self, name: &str, problem: String) -> Result<(), ExpressionError> {
        let before = self.text.find(name).map_or("", |at| &self.text[..at]);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |last| last.chars().count()) + 1;
        Err(ExpressionError { line, column, problem })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn is_so(text: &str, result: &serde_json::Value) -> Result<bool, String> {
        Expression::new(text).map_err(|error| error.to_string())?.is_so(result)
    }

    #[test]
    fn a_value_is_or_is_not_as_it_should_be() {
        let result = json!({"rate": 0.04, "count": 7, "status": "ok", "list": [1, 2.5, 3], "none": null});
        for (text, expected) in [
            ("result.rate < 0.05", true),
            ("result.rate * 100.0 >= 5.0", false),
            ("result.count < 8 && result.count != 6", true),
            ("result.rate < 1", true),
            ("double(result.count) / 2.0 == 3.5", true),
            (r#"result.status == "ok" || result.count > 100"#, true),
            (r#"result["status"].startsWith("o")"#, true),
            ("result.list[1] > 2.0 && size(result.list) == 3", true),
            ("result.list.all(x, x < 3)", false),
            ("result.list.exists(x, x > 2.9)", true),
            ("!has(result.other) && has(result.rate)", true),
            ("result.none == null", true),
            ("3 in result.list ? true : false", true),
            ("result.count + 1 == 8", true),
        ] {
            assert_eq!(is_so(text, &result), Ok(expected), "{text}");
        }
        assert_eq!(is_so("result < 3.0", &json!(2.9)), Ok(true));
        for (text, words) in [
            ("result.other", "other"),
            ("result.count", "neither true nor false"),
            ("result.count < \"x\"", "no matching overload"),
            ("result.list[9] == 1", "9"),
            ("result.count / 0 == 1", "zero"),
        ] {
            let error = is_so(text, &result).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_no_expression_is_refused_with_its_place() {
        for (text, place, words) in [
            ("", "line 1, column 1", "no expression"),
            ("result <", "line 1, column 9", ""),
            ("result\n  < )", "line 2, column 5", ""),
            ("value < 1", "line 1, column 1", "`value` is not known: there is `result`"),
            ("result.all(x, y == 1)", "line 1, column 15", "`y` is not known"),
            ("result.matches('(a+)+')", "", "`matches` is not known"),
            ("timestamp(result) < 1", "", "`timestamp` is not known"),
            ("Thing{a: 1} == 1", "", "`Thing` is not known"),
            ("result.all(x, x.all(y, y))", "", "more than once"),
            ("result.all(x, x + x == x)", "", "no `+`"),
            ("result.map(x, [x, x]) == []", "", "no `+`"),
            ("result.exists_one(x, x)", "", "no `+`"),
        ] {
            let error = Expression::new(text).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(words), "{text}: {error}");
            assert!(!error.contains('\n'), "{error}");
        }
        for long in [
            "(".repeat(1_000),
            "!".repeat(1_000),
            "[".repeat(40),
            "-".repeat(500),
            "x".repeat(1_025),
            format!("1{}", " + 1".repeat(250)),
            format!("a{}", ".a".repeat(300)),
            format!("{}1", "1 ? 1 : ".repeat(100)),
        ] {
            assert!(Expression::new(&long).is_err());
        }
        let wrapped = format!("{}result{}", "(".repeat(500), ")".repeat(500));
        assert_eq!(is_so(&wrapped, &json!(true)), Ok(true), "brackets cost nothing");
    }

    #[test]
    fn what_could_take_long_is_not_asked() {
        let many = json!(vec![1; 5_000]);
        let all = Expression::new("result.all(x, x == 1 && result == result)").unwrap();
        assert_eq!(all.is_so(&json!([1, 1])), Ok(true));
        assert!(all.is_so(&many).unwrap_err().contains("too large"), "each is compared with each");
        let sums = Expression::new(&format!("({}result) == result", "result + ".repeat(60))).unwrap();
        assert!(sums.is_so(&json!("x".repeat(100_000))).unwrap_err().contains("too large"));
        assert_eq!(Expression::new("result.size() == 5000").unwrap().is_so(&many), Ok(true));
    }

    proptest::proptest! {
        /// Whatever it is made of: it is refused, or answers; and an answer comes in no time that matters.
        #[test]
        fn nothing_that_can_be_written_hangs_or_breaks(
            words in proptest::collection::vec(proptest::sample::select(vec![
                "result", "x", "1", "-1", "2.5", "\"a\"", "(", ")", "[", "]", "{", "}", ".", ",", ":", "?", "!",
                "-", "+", "*", "/", "%", "&&", "||", "==", "<", " in ", "true", "null", "all(x, ", "exists(x, ",
                "has(", "size(", "map(x, ", "result.all(x, ", ".a", "[0]", "\n", "'", "\\",
            ]), 1..40),
        ) {
            if let Ok(expression) = Expression::new(&words.concat()) {
                for value in [json!(1), json!([true, false]), json!({"a": "b"}), json!(vec!["x"; 100])] {
                    let _ = expression.is_so(&value);
                }
            }
        }
    }
}
