//! Rules of custom resources: from the schema of a definition to what is said of an object.

#![allow(missing_docs, clippy::expect_used, clippy::panic)]

use serde_json::{Value, json};
use skep_api::Strategy;
use skep_api::custom::{Rules, Structural, Verdict};
use skep_api::kinds::custom::CustomResourceDefinition;

fn verdict(schema: Value, new: Value, old: Option<Value>) -> Verdict {
    let schema = Structural::parse(&schema).expect("a schema");
    let rules = Rules::compile(&skep_cel::Rules, &schema, true).expect("rules");
    rules.evaluate(&schema, &new, old.as_ref())
}

fn errors(schema: Value, new: Value, old: Option<Value>) -> Vec<String> {
    verdict(schema, new, old).errors.iter().map(ToString::to_string).collect()
}

/// A schema with a field `f`.
fn field(f: Value) -> Value {
    json!({"type": "object", "properties": {"f": f}})
}

fn with_rule(mut schema: Value, rule: Value) -> Value {
    schema["x-kubernetes-validations"] = json!([rule]);
    schema
}

#[test]
fn what_a_rule_says() {
    let int = || json!({"type": "integer"});
    for (rule, wanted) in [
        (json!({"rule": "self > 3"}), "f: Invalid value: 2: failed rule: self > 3"),
        (json!({"rule": "self > 3", "message": "too few"}), "f: Invalid value: 2: too few"),
        (
            json!({"rule": "self > 3", "messageExpression": "'%d is too few'.format([self])", "message": "no"}),
            "f: Invalid value: 2: 2 is too few",
        ),
        // An expression for the message that fails leaves the message.
        (
            json!({"rule": "self > 3", "messageExpression": "[''][self]", "message": "few"}),
            "f: Invalid value: 2: few",
        ),
        (json!({"rule": "self > 3", "reason": "FieldValueForbidden"}), "f: Forbidden: failed rule: self > 3"),
        (
            json!({"rule": "1 / (self - 2) == 1"}),
            "f: Invalid value: \"integer\": division by zero evaluating rule: 1 / (self - 2) == 1",
        ),
    ] {
        assert_eq!(errors(field(with_rule(int(), rule.clone())), json!({"f": 2}), None), [wanted], "{rule}");
    }
    assert!(errors(field(with_rule(int(), json!({"rule": "self > 1"}))), json!({"f": 2}), None).is_empty());
}

#[test]
fn the_name_and_type_of_a_resource_are_known_everywhere() {
    let schema = with_rule(field(json!({"type": "string"})), json!({"rule": "self.metadata.name == self.f"}));
    let object = |f: &str| json!({"apiVersion": "a/v1", "kind": "K", "metadata": {"name": "me", "labels": {}}, "f": f});
    assert!(errors(schema.clone(), object("me"), None).is_empty());
    assert_eq!(errors(schema, object("you"), None).len(), 1);
    let embedded = json!({"type": "object", "x-kubernetes-embedded-resource": true,
        "x-kubernetes-preserve-unknown-fields": true, "x-kubernetes-validations": [{"rule": "self.kind == 'Pod'"}]});
    let pod = |kind: &str| json!({"f": {"apiVersion": "v1", "kind": kind, "metadata": {"name": "p"}}});
    assert!(errors(field(embedded.clone()), pod("Pod"), None).is_empty());
    assert_eq!(errors(field(embedded), pod("Node").clone(), None).len(), 1);
}

#[test]
fn rules_on_changes() {
    let rule = json!({"rule": "self > oldSelf"});
    let schema = field(with_rule(json!({"type": "integer"}), rule));
    assert!(errors(schema.clone(), json!({"f": 1}), None).is_empty());
    assert!(errors(schema.clone(), json!({"f": 2}), Some(json!({"f": 1}))).is_empty());
    assert_eq!(
        errors(schema, json!({"f": 1}), Some(json!({"f": 2}))),
        ["f: Invalid value: 1: failed rule: self > oldSelf"]
    );
    // Elements of lists that are maps are found again by their keys.
    let item = json!({"type": "object", "properties": {"k": {"type": "string"}, "n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n", "message": "down"}]});
    let list = json!({"type": "array", "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]});
    let old = json!({"f": [{"k": "a", "n": 5}, {"k": "b", "n": 1}]});
    let new = json!({"f": [{"k": "b", "n": 2}, {"k": "new", "n": 0}, {"k": "a", "n": 4}]});
    assert_eq!(errors(field(list), new, Some(old)), ["f[2]: Invalid value: down"]);
    // With an optional, there is a say when the value comes.
    let rule =
        json!({"rule": "oldSelf.hasValue() || self == 1", "optionalOldSelf": true, "message": "begins at 1"});
    let schema = field(with_rule(json!({"type": "integer"}), rule));
    assert_eq!(errors(schema.clone(), json!({"f": 2}), None), ["f: Invalid value: 2: begins at 1"]);
    assert!(errors(schema, json!({"f": 2}), Some(json!({"f": 3}))).is_empty());
}

#[test]
fn what_was_wrong_before_is_let_through() {
    let schema = field(with_rule(json!({"type": "integer"}), json!({"rule": "self > 3"})));
    let verdict = verdict(schema, json!({"f": 1, "g": 2}), Some(json!({"f": 1})));
    assert!(verdict.errors.is_empty() && verdict.warnings.len() == 1, "{verdict:?}");
}

#[test]
fn rules_run_out_of_budget() {
    let text = |count: usize| json!({"f": vec![3; count]});
    let schema = |rules: usize| {
        let rule = json!({"rule": "self.all(x, self.all(y, x == y))"});
        let list = json!({"type": "array", "items": {"type": "integer"}});
        let mut schema = field(list);
        schema["properties"]["f"]["x-kubernetes-validations"] = json!(vec![rule; rules]);
        schema
    };
    let found = errors(schema(1), text(725), None);
    assert_eq!(found.len(), 1);
    assert!(found[0].contains("'operation cancelled: actual cost limit exceeded': no further validation rules will be run due to call cost exceeds limit for rule: self.all"), "{found:?}");
    // Each is within its limit, all together are not.
    let found = errors(schema(40), text(300), None);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].contains("validation failed due to running out of cost budget"), "{found:?}");
}

fn definition(schema: &Value) -> Vec<String> {
    let object = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "ks.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"plural": "ks", "singular": "k", "kind": "K", "listKind": "KList"}, "conversion": {"strategy": "None"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
        "status": {"storedVersions": ["v1"]}});
    let kind = CustomResourceDefinition::new(std::sync::Arc::new(skep_cel::Rules));
    let errors = kind.validate(&object).into_iter().chain(kind.validate_create(&object));
    errors.map(|error| error.to_string()).collect()
}

#[test]
fn definitions_with_rules_that_are_none_are_refused() {
    let at = "spec.validation.openAPIV3Schema.properties[f].x-kubernetes-validations[0]";
    for (schema, rule, wanted) in [
        (
            json!({"type": "object", "properties": {"x": {"type": "integer"}}}),
            json!({"rule": "self.z == 100"}),
            "rule: Invalid value: | compilation failed: ERROR: <input>:1:5: undefined field 'z'",
        ),
        (json!({"type": "object"}), json!({"rule": "self = 42"}), "rule: Invalid value: | Syntax error"),
        (
            json!({"type": "integer"}),
            json!({"rule": "self + 1"}),
            "rule: Invalid value: | cel expression must evaluate to a bool",
        ),
        (
            json!({"type": "integer"}),
            json!({"rule": "true", "messageExpression": "self"}),
            "messageExpression: Invalid value: | messageExpression must evaluate to a string",
        ),
        (
            json!({"type": "integer"}),
            json!({"rule": "true", "messageExpression": "self +"}),
            "messageExpression: Invalid value: | messageExpression compilation failed: ERROR",
        ),
        (
            json!({"type": "array", "items": {"type": "array", "items": {"type": "string"}}}),
            json!({"rule": "self.all(x, x.all(s, s == 'constant'))"}),
            "rule: Forbidden: | estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)",
        ),
    ] {
        let found = definition(&field(with_rule(schema, rule)));
        let (place, text) = wanted.split_once(" | ").unwrap_or((wanted, ""));
        let is = |error: &String| error.starts_with(&format!("{at}.{place}")) && error.contains(text);
        assert!(found.iter().any(is), "{wanted}: {found:?}");
    }
    let fine = with_rule(
        json!({"type": "array", "maxItems": 10, "items": {"type": "integer"}}),
        json!({"rule": "self.all(x, x > 0)"}),
    );
    assert_eq!(definition(&field(fine)), Vec::<String>::new());
}
