//! Where rules are evaluated and what becomes of them, with a compiler that knows five rules.

use super::*;
use crate::custom::rules::*;

/// Knows `self == oldSelf`, `self < N`, `same` (true where the optional old value is the same), `cost N` (true at that
/// cost) and `fail TEXT` (ends with an error).
#[derive(Debug)]
struct Five;

#[derive(Clone)]
struct Text(String);

impl Compiler for Five {
    fn compile(&self, _node: &Structural, rules: &[Rule], _root: bool) -> Result<Vec<Compiled>, String> {
        let one = |rule: &Rule| Compiled {
            rule: match rule.rule.as_str() {
                "" => None,
                "bad" => Some(Err(CompileError { detail: "compilation failed: x".into() })),
                text => Some(Ok(Box::new(Text(text.to_owned())))),
            },
            uses_old_self: rule.rule.contains("oldSelf") || rule.rule == "same",
            max_cost: 10,
            max_cardinality: 5,
            message: (!rule.message_expression.is_empty())
                .then(|| Ok(Box::new(Text(rule.message_expression.clone())) as Box<dyn Message>)),
            message_max_cost: 1,
        };
        Ok(rules.iter().map(one).collect())
    }
}

impl Condition for Text {
    fn evaluate(&self, input: &Input<'_>) -> Evaluated<bool> {
        let done = |cost, value| Evaluated { cost, outcome: Ok(value) };
        let words: Vec<&str> = self.0.splitn(2, ' ').collect();
        match (words.as_slice(), input.old) {
            (["self", "== oldSelf"], Old::Value(old)) => done(1, input.this == old),
            (["same"], Old::Optional(old)) => done(1, old.is_none_or(|old| old == input.this)),
            (["self", limit], _) => {
                let limit: i64 = limit.trim_start_matches("< ").parse().unwrap();
                done(1, input.this.as_i64().unwrap() < limit)
            }
            (["cost", cost], _) => done(cost.parse().unwrap(), true),
            (["fail", why], _) => Evaluated {
                cost: 1,
                outcome: Err(match *why {
                    "limit" => EvalError::Limit("operation cancelled: actual cost limit exceeded".into()),
                    "overload" => EvalError::Overload("no such overload".into()),
                    why => EvalError::Other(why.to_owned()),
                }),
            },
            (words, old) => panic!("{words:?} with {old:?}"),
        }
    }
}

impl Message for Text {
    fn evaluate(&self, input: &Input<'_>) -> Evaluated<String> {
        Evaluated { cost: 1, outcome: Ok(self.0.replace("self", &input.this.to_string())) }
    }
}

fn verdict(tree: Value, new: Value, old: Option<Value>) -> Verdict {
    let schema = schema(tree);
    let rules = Rules::compile(&Five, &schema, true).unwrap();
    rules.evaluate(&schema, &new, old.as_ref())
}

fn errors(field: Value, new: Value, old: Option<Value>) -> Vec<String> {
    let tree = json!({"type": "object", "properties": {"f": field}});
    let value = |v: Value| json!({"f": v});
    shown(&verdict(tree, value(new), old.map(value)).errors)
}

fn int(rules: Value) -> Value {
    json!({"type": "integer", "x-kubernetes-validations": rules})
}

#[test]
fn what_does_not_hold_is_said_as_the_rule_wants_it() {
    let none: Vec<&str> = Vec::new();
    let root = json!({"type": "object", "x-kubernetes-validations": [{"rule": "fail x"}]});
    assert_eq!(
        shown(&verdict(root, json!({}), None).errors),
        ["<nil>: Invalid value: \"object\": x evaluating rule: fail x"]
    );
    for (rule, expected) in [
        (json!({"rule": "self < 9"}), none.clone()),
        (json!({"rule": ""}), none),
        (json!({"rule": "self < 3"}), vec!["f: Invalid value: 7: failed rule: self < 3"]),
        (json!({"rule": "self < 3", "message": " too much "}), vec!["f: Invalid value: 7: too much"]),
        (
            json!({"rule": "self < 3", "messageExpression": "self is it"}),
            vec!["f: Invalid value: 7: 7 is it"],
        ),
        (
            json!({"rule": "self < 3", "messageExpression": " ", "message": "m"}),
            vec!["f: Invalid value: 7: m"],
        ),
        (
            json!({"rule": "self < 3", "reason": "FieldValueForbidden", "message": "m"}),
            vec!["f: Forbidden: m"],
        ),
        (
            json!({"rule": "self < 3", "reason": "FieldValueRequired", "message": "m"}),
            vec!["f: Required value: m"],
        ),
        (
            json!({"rule": "self < 3", "reason": "FieldValueDuplicate", "message": "m"}),
            vec!["f: Duplicate value: 7"],
        ),
        (
            json!({"rule": "bad"}),
            vec!["f: Invalid value: \"integer\": rule compile error: compilation failed: x"],
        ),
        (
            json!({"rule": "fail overload", "message": "m"}),
            vec![
                "f: Invalid value: \"integer\": 'no such overload': call arguments did not match a supported operator, function or macro signature for rule: m",
            ],
        ),
        (
            json!({"rule": "cost 10000001"}),
            vec![
                "f: Invalid value: \"integer\": validation failed due to running out of cost budget, no further validation rules will be run",
            ],
        ),
    ] {
        assert_eq!(errors(int(json!([rule])), json!(7), None), expected, "{rule}");
    }
}

#[test]
fn the_end_of_a_budget_ends_all() {
    let both = |first: &str| int(json!([{"rule": first}, {"rule": "self < 3"}]));
    assert_eq!(errors(both("fail limit"), json!(7), None).len(), 1);
    assert_eq!(errors(both("fail other"), json!(7), None).len(), 2);
    // What is left is zero, and that is not enough for a further rule of another node.
    let list =
        json!({"type": "array", "items": int(json!([{"rule": "cost 4000000"}, {"rule": "self < 9"}]))});
    let found = errors(list, json!([1, 2, 3, 100]), None);
    assert_eq!(
        found,
        [
            "f[2]: Invalid value: \"integer\": validation failed due to running out of cost budget, no further validation rules will be run"
        ]
    );
}

#[test]
fn objects_are_not_shown_and_fields_are_named() {
    let field = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [
        {"rule": "fail x", "fieldPath": ".a"},
    ]});
    // An expression without a value is about the node.
    assert_eq!(
        errors(field, json!({"a": 1}), None),
        ["f: Invalid value: \"object\": x evaluating rule: fail x"]
    );
    let field = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}, "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "stays"},
    ]});
    assert_eq!(errors(field, json!([1]), Some(json!([2]))), ["f: Invalid value: stays"]);
    let field = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [
        {"rule": "self == oldSelf", "message": "stays", "fieldPath": ".a"},
    ]});
    assert_eq!(errors(field, json!({"a": 1}), Some(json!({"a": 2}))), ["f.a: Invalid value: stays"]);
}

#[test]
fn transitions_need_an_old_value() {
    let same = json!([{"rule": "self == oldSelf", "message": "stays"}]);
    let none = Vec::<String>::new();
    assert_eq!(errors(int(same.clone()), json!(1), None), none);
    assert_eq!(errors(int(same.clone()), json!(1), Some(json!(1))), none);
    assert_eq!(errors(int(same.clone()), json!(1), Some(json!(2))), ["f: Invalid value: 1: stays"]);
    assert_eq!(errors(int(same.clone()), json!(1), Some(Value::Null)), none);
    let optional = json!([{"rule": "same", "optionalOldSelf": true, "message": "stays"}]);
    assert_eq!(errors(int(optional.clone()), json!(1), None), none);
    assert_eq!(errors(int(optional), json!(1), Some(json!(2))), ["f: Invalid value: 1: stays"]);
    let keyed = json!({
        "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"],
        "items": {"type": "object", "properties": {"k": {"type": "string"}, "v": int(same.clone())}},
    });
    let found = errors(
        keyed,
        json!([{"k": "new", "v": 1}, {"k": "b", "v": 1}, {"k": "a", "v": 1}]),
        Some(json!([{"k": "a", "v": 2}, {"k": "b", "v": 1}])),
    );
    assert_eq!(found, ["f[2].v: Invalid value: 1: stays"]);
    let map = json!({"type": "object", "additionalProperties": int(same)});
    assert_eq!(
        errors(map, json!({"a": 1, "b": 1}), Some(json!({"a": 2}))),
        ["f[a]: Invalid value: 1: stays"]
    );
}

#[test]
fn what_stays_as_it_was_is_warned_of() {
    let tree = json!({"type": "object", "properties": {
        "f": int(json!([{"rule": "self < 3"}])), "g": {"type": "integer"},
        "o": {"type": "object", "properties": {"x": {"type": "array", "items": int(json!([{"rule": "self < 3"}]))}}},
    }});
    let found = verdict(tree.clone(), json!({"f": 7, "g": 1}), Some(json!({"f": 7, "g": 2})));
    assert_eq!(
        (found.errors.len(), found.warnings),
        (0, vec!["f: Invalid value: 7: failed rule: self < 3".into()])
    );
    assert_eq!(verdict(tree.clone(), json!({"f": 8}), Some(json!({"f": 7}))).errors.len(), 1);
    // Elements of a list without keys stay where the whole list does.
    let list = |list: Value| json!({"o": {"x": list}});
    assert_eq!(verdict(tree.clone(), list(json!([7])), Some(list(json!([7])))).errors.len(), 0);
    assert_eq!(verdict(tree, list(json!([7, 1])), Some(list(json!([7])))).errors.len(), 1);
}

#[test]
fn rules_of_all_of_are_about_the_node_around() {
    let field = json!({"type": "integer", "x-kubernetes-validations": [{"rule": "self < 100"}], "allOf": [
        {"x-kubernetes-validations": [{"rule": "self < 3"}]},
    ]});
    assert_eq!(errors(field, json!(7), None), ["f: Invalid value: 7: failed rule: self < 3"]);
}

#[test]
fn rules_wait_until_the_rest_is_well() {
    let tree = json!({"type": "object", "properties": {
        "f": int(json!([{"rule": "self < 3"}])), "g": {"type": "string", "maxLength": 1, "pattern": "a"},
    }});
    let custom = Custom::new(&definition(tree, json!({})), "v1", &Five).unwrap();
    let errors = |f: Value, g: &str| {
        let object = json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "a"}, "f": f, "g": g});
        shown(&crate::Strategy::validate_create(custom.strategy.as_ref(), &object))
    };
    assert_eq!(errors(json!(7), "a"), ["f: Invalid value: 7: failed rule: self < 3"]);
    assert_eq!(errors(json!(7), "b").len(), 2);
    assert_eq!(
        errors(json!(7), "aa"),
        [
            "<nil>: Invalid value: null: some validation rules were not checked because the object was invalid; correct the existing errors to complete validation",
            "g: Too long: may not be more than 1 bytes",
        ]
    );
}
