//! Whatever is written, an expression is read, checked and run within bounds, or refused.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use std::sync::Arc;

use serde_json::json;
use skep_api::custom::Structural;
use skep_cel::{Decl, Env, Failure, Program, Type, Value};

fn declared(schema: serde_json::Value) -> Arc<Decl> {
    let schema = Structural::parse(&schema).expect("a schema");
    Decl::of(&schema, false, "self").expect("a declaration")
}

/// The stack that threads of a server have.
const STACK: usize = 2 << 20;

fn on_a_small_stack(run: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(STACK).spawn(run).expect("a thread");
    thread.join().expect("no overflow and no panic");
}

/// Compiles and runs; says whether that much could be made of it.
fn goes(text: &str) -> Result<(), String> {
    let env = Env::new().with("a", Decl::any());
    let program = Program::compile(text, &env, None).map_err(|why| why.to_string())?;
    let data = json!([1, 2]);
    program.run(&[("a", Value::dynamic(&data))], 1_000_000).value.map(|_| ()).map_err(|why| why.to_string())
}

#[test]
fn nesting_ends_before_the_stack_does() {
    on_a_small_stack(|| {
        let nested = |open: &str, inner: &str, close: &str, levels: usize| {
            format!("{}{inner}{}", open.repeat(levels), close.repeat(levels))
        };
        for (open, inner, close) in [
            ("(", "1", ")"),
            ("[", "1", "]"),
            ("{1:", "1", "}"),
            ("-(", "1", ")"),
            ("!(", "true", ")"),
            ("true ? 1 : ", "1", ""),
            ("1 + (", "1", ")"),
            ("size([", "1", "])"),
            ("a.map(x, ", "x", ")"),
            ("a.all(x, ", "true", ")"),
            ("[1].transformList(i, x, i == 0, ", "x", ")"),
            ("optional.of(", "1", ")"),
        ] {
            for levels in [60, 120, 100_000 / (open.len() + close.len() + 2)] {
                let _ = goes(&nested(open, inner, close, levels));
            }
            // What is within reason works.
            let fine = if open.starts_with("a.") { 6 } else { 40 };
            assert_eq!(goes(&nested(open, inner, close, fine)), Ok(()), "{open}");
            let deep = goes(&nested(open, inner, close, 300));
            assert!(
                deep.as_ref().is_err_and(|why| why.contains("expression recursion limit exceeded")),
                "{open} {deep:?}"
            );
        }
        for (first, more) in
            [("1", "+1"), ("a", ".b"), ("a", "[0]"), ("a", ".map(x, x)"), ("a", ".f()"), ("1", "==1")]
        {
            let _ = goes(&format!("{first}{}", more.repeat(200)));
            let long = goes(&format!("{first}{}", more.repeat(90_000 / more.len())));
            assert!(long.as_ref().is_err_and(|why| why.contains("recursion limit")), "{more} {long:?}");
        }
        // These are not deep however long they are.
        for (first, more) in [("true", "&&true"), ("false", "||false")] {
            assert_eq!(goes(&format!("{first}{}", more.repeat(10_000))), Ok(()));
        }
        assert_eq!(goes(&format!("[1{}]", ",1".repeat(40_000))), Ok(()));
        assert_eq!(goes(&format!("{}true", "!".repeat(50_000))), Ok(()));
    });
}

#[test]
fn macros_that_double_their_target_end() {
    let text = format!("optional.of(1){}", ".optMap(x, x)".repeat(60));
    let why = goes(&text).expect_err("2 to the 60th nodes");
    assert!(why.contains("node count exceeds limit"), "{why}");
    // Types that double have an end as well.
    let mut text = "[1]".to_owned();
    for _ in 0..40 {
        text = format!("[{text}].map(x, {{x: x}})");
    }
    assert!(goes(&text).is_err());
}

#[test]
fn what_is_too_long_is_refused() {
    let why = goes(&format!("'{}'", "x".repeat(100_001))).expect_err("too long");
    assert!(why.contains("expression code point size exceeds limit: size: 100003, limit 100000"), "{why}");
}

#[test]
fn loops_end_at_the_limit() {
    let items: Vec<u32> = (0..2000).collect();
    let data = json!(items);
    let decl = declared(json!({"type": "array", "items": {"type": "integer"}}));
    let env = Env::new().with("self", decl.clone());
    for text in [
        "self.all(x, self.all(y, self.all(z, x + y + z >= 0)))",
        "self.map(x, self.map(y, self)).size() > 0",
        "lists.range(1000000000000).size() > 0",
        "self.map(x, lists.range(999999)).size() > 0",
        "self.distinct().distinct().size() > 0",
        "self.sort().size() > 0",
    ] {
        let program = Program::compile(text, &env, Some(&Type::Bool)).expect(text);
        let run = program.run(&[("self", Value::of_json(&data, &decl).expect("a list"))], 1_000_000);
        assert_eq!(run.value.expect_err(text), Failure::Limit, "{text}");
    }
}

#[test]
fn text_does_not_grow_without_end() {
    let decl = declared(json!({"type": "string"}));
    let env = Env::new().with("self", decl.clone());
    let data = json!("x".repeat(500_000));
    for text in [
        "self.replace('', self).size() > 0",
        "self.split('').map(x, self).join(self).size() > 0",
        "[1, 2, 3, 4, 5, 6, 7, 8, 9].map(x, self + self).join(self + self).size() > 0 && self.replace('x', self).size() > 0",
        "'%.100000f'.format([1.0]).size() > 0",
    ] {
        let program = Program::compile(text, &env, Some(&Type::Bool)).expect(text);
        let run = program.run(&[("self", Value::of_json(&data, &decl).expect("text"))], 1_000_000);
        assert!(run.value.is_err(), "{text}");
    }
}

/// Numbers that look random and are always the same (xorshift).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }
}

const PIECES: &[&str] = &[
    "self",
    ".",
    "a",
    "b",
    "?",
    ":",
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ",",
    "+",
    "-",
    "*",
    "/",
    "%",
    "!",
    "==",
    "!=",
    "<",
    ">=",
    "&&",
    "||",
    "in",
    "1",
    "2u",
    "1.5",
    "'x'",
    "b'y'",
    "true",
    "null",
    ".?",
    "[?",
    "size(self)",
    ".map(x, x)",
    ".all(x, x == x)",
    ".filter(i, true)",
    "has(self.a)",
    "duration('1h')",
    ".matches('a*')",
    ".replace('a', 'b')",
    ".sortBy(e, e)",
    ".optMap(o, o)",
    "optional.of(self)",
    ".orValue(1)",
    "quantity('1Ki')",
    "ip('::1')",
    "cidr('10.0.0.0/8')",
    "url('http://a/b?c=d')",
    "semver('1.2.3')",
    "format.dns1123Label()",
    ".validate('x')",
    "timestamp('2000-01-01T00:00:00Z')",
    ".getFullYear('UTC')",
    ".format([1, 'a'])",
    ".transformMap(k, v, v)",
    ".transformMapEntry(k, v, {k: v})",
    "@",
    "`a-b`",
    "\\",
    "é",
    "'",
    "\"",
    "//",
    "\n",
    "0x",
    "1e999",
    "r'\\'",
    "'\\u0041'",
    "type(self)",
    "dyn(self)",
    "string(self)",
    ".flatten(2)",
    ".slice(0, 1)",
    "sets.contains([1], [1])",
    "-9223372036854775808",
    "9223372036854775807",
    ".join('-')",
    ".substring(1)",
    ".indexOf('a', 1)",
    ".lastIndexOf('é', 0)",
    ".charAt(1)",
    "google.protobuf.Timestamp",
];

#[test]
fn nothing_that_is_written_panics() {
    on_a_small_stack(|| {
        let decl = declared(json!({"type": "object", "properties": {
            "a": {"type": "array", "items": {"type": "string"}}, "b": {"type": "integer"}}}));
        let env = Env::new()
            .with("self", decl.clone())
            .with_optional("oldSelf", decl.clone())
            .with("any", Decl::any());
        let data = json!({"a": ["x", "é", ""], "b": 3});
        let mut dice = Dice(0x5eed_cafe);
        let (mut compiled, mut ran) = (0, 0);
        for round in 0..30_000 {
            let length = 1 + dice.roll(if round % 10 == 0 { 40 } else { 7 });
            let text: String = (0..length).map(|_| PIECES[dice.roll(PIECES.len())]).collect();
            let Ok(program) = Program::compile(&text, &env, None) else { continue };
            compiled += 1;
            let value = |data| Value::of_json(data, &decl).expect("an object");
            let bindings = [
                ("self", value(&data)),
                ("oldSelf", Value::some(value(&data))),
                ("any", Value::dynamic(&data)),
            ];
            ran += usize::from(program.run(&bindings, 10_000).value.is_ok());
        }
        assert!(compiled > 300 && ran > 100, "{compiled} {ran}: too few of them mean anything");
    });
}
