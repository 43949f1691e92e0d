//! What expressions cost, before and when they run: figures of the API, one row an expression.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use serde_json::{Value as Json, json};
use skep_api::custom::Structural;
use skep_cel::{Decl, Env, Program, Type, Value};

/// A schema of `self` with fields `a`, `b` and so on, and a value of it.
fn of(fields: &[(Json, Json)]) -> (Json, Json) {
    let (mut schema, mut value) = (json!({"type": "object", "properties": {}}), json!({}));
    for (index, (of, is)) in fields.iter().enumerate() {
        let name = char::from(b'a' + index as u8).to_string();
        schema["properties"][&name] = of.clone();
        value[&name] = is.clone();
    }
    (schema, value)
}

/// Checks rows of an expression that is true, its actual cost, and its estimate if that is given.
fn check(fields: &[(Json, Json)], rows: &[(&str, u64, Option<u64>)]) {
    let (schema, value) = of(fields);
    let schema = Structural::parse(&schema).expect("a schema");
    let decl = Decl::of(&schema, true, "self").expect("a declaration");
    let env = Env::new().with("self", decl.clone());
    for (text, actual, estimated) in rows {
        let program =
            Program::compile(text, &env, Some(&Type::Bool)).unwrap_or_else(|why| panic!("{text}: {why}"));
        let run = program.run(&[("self", Value::of_json(&value, &decl).expect("a value"))], 1_000_000);
        assert!(matches!(run.value, Ok(Value::Bool(true))), "{text}: {:?}", run.value);
        assert_eq!(run.cost, *actual, "{text}");
        if let Some(estimated) = estimated {
            assert_eq!(program.estimate().max, *estimated, "{text}, estimated");
        }
    }
}

fn text() -> Json {
    json!({"type": "string"})
}

fn integer() -> Json {
    json!({"type": "integer"})
}

#[test]
fn scalars() {
    check(
        &[(integer(), json!(5)), (json!({"type": "number"}), json!(10.0)), (text(), json!("Rook takes 👑"))],
        &[
            ("self.a == self.a", 5, Some(4)),
            ("type(self.a) == int", 4, Some(4)),
            ("double(self.a) < self.b", 6, Some(6)),
            ("double(5) < 10.0", 1, Some(2)),
            ("5 < int(10.0)", 1, Some(2)),
            ("self.c.startsWith('Rook')", 4, Some(3)),
            ("self.c.matches('^[^0-9]*$')", 8, None),
            ("size(self.c) == 12", 4, None),
            ("self.c.charAt(3) == 'k'", 4, None),
            ("self.c.indexOf('o') == 1", 4, None),
            ("self.c.replace(' ', 'x') == 'Rookxtakesx👑'", 7, None),
            ("self.c.split(' ') == ['Rook', 'takes', '👑']", 6, None),
            ("self.c.substring(4, 10).trim() == 'takes'", 6, None),
            ("self.c.upperAscii() == 'ROOK TAKES 👑'", 6, None),
            ("'%e'.format([3.14]) == '3.140000×10⁰⁰'", 3, None),
            ("'%o %o %o'.format([7, 8, 9]) == '7 10 11'", 2, None),
        ],
    );
}

#[test]
fn containers() {
    let entry = json!({"type": "object", "properties": {"k": text(), "v": text(), "w": text()}});
    let list = json!({"type": "array", "items": entry, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]});
    let items = json!([{"k": "a1", "v": "b1"}, {"k": "a2", "v": "b2"}, {"k": "a3", "v": "b3", "w": "z"}]);
    check(
        &[(list, items)],
        &[
            ("has(self.a[0].v)", 3, None),
            ("self.a.all(m, m.k.startsWith('a'))", 21, None),
            ("self.a.all(m, !has(m.w) || m.w == 'z')", 21, None),
            ("!self.a.exists(m, m.v == 'x')", 25, None),
            ("self.a.exists_one(m, m.k == 'a3')", 15, None),
            ("size(self.a.filter(m, m.k == 'a1')) == 1", 27, None),
            ("self.a.map(m, m.v).exists(v, v == 'b1')", 55, None),
            // Elements without the field are errors, which a later one that is true makes good.
            ("self.a.exists(m, m.w == 'z')", 24, None),
            ("self.a.transformList(i, m, m.v).size() == 3", 47, None),
        ],
    );
}

#[test]
fn lists_and_libraries() {
    check(
        &[],
        &[
            ("lists.range(4) == [0,1,2,3]", 16, None),
            ("[5,1,2,3].reverse() == [3,2,1,5]", 16, None),
            ("[1,2,3,4].slice(1, 3) == [2, 3]", 14, None),
            ("[4, 3, 2, 1].sort() == [1, 2, 3, 4]", 44, None),
            ("[\"d\", \"a\", \"b\", \"c\"].sort() == [\"a\", \"b\", \"c\", \"d\"]", 45, None),
            ("[-3, 1, -5, -2, 4].sortBy(e, -(e * e)) == [-5, 4, -3, -2, 1]", 145, None),
            ("[-2, 5, -2, 1, 1, 5, -2, 1].distinct() == [-2, 5, 1]", 140, None),
            ("quantity(\"200M\") == quantity(\"0.2G\") && quantity(\"0.2G\") == quantity(\"200M\")", 6, None),
            ("quantity(\"50k\").add(quantity(\"20\")) == quantity(\"50.02k\")", 5, None),
        ],
    );
}

#[test]
fn bounds_of_schemas_bound_estimates() {
    // 3 MiB bound what nothing else does: lists by their smallest element and a comma.
    let list = |items: Json| json!({"type": "array", "items": items});
    for (schema, text, wanted) in [
        (list(integer()), "self.all(x, true)", 4_718_591),
        (json!({"type": "array", "maxItems": 10, "items": integer()}), "self.all(x, true)", 32),
        (list(text()), "self.all(s, s == 'string constant')", 6_291_452),
        (
            json!({"type": "array", "maxItems": 725, "items": integer()}),
            "self.all(x, self.all(y, y == x))",
            2_631_752,
        ),
    ] {
        let schema = Structural::parse(&schema).expect("a schema");
        let decl = Decl::of(&schema, false, "self").expect("a declaration");
        let program =
            Program::compile(text, &Env::new().with("self", decl), Some(&Type::Bool)).expect("a rule");
        assert_eq!(program.estimate().max, wanted, "{text}");
    }
}
