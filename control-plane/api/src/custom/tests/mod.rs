//! Tables of cases, most of them facts from the tests of upstream.

mod apply;
mod evaluated;
mod random;
mod strategy;
mod structure;
mod trees;
mod values;

use super::*;
use serde_json::{Value, json};

/// A schema that is read from a tree.
fn schema(tree: Value) -> Structural {
    Structural::parse(&tree).unwrap()
}

/// Errors as lines, sorted.
fn shown(errors: &[crate::FieldError]) -> Vec<String> {
    let mut lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    lines.sort();
    lines
}

/// A definition of one version with this schema.
fn definition(tree: Value, version: Value) -> Definition {
    let mut this =
        json!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": tree}});
    for (key, value) in version.as_object().unwrap() {
        this[key] = value.clone();
    }
    let names =
        json!({"plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList"});
    Definition::read(&json!({
        "spec": {"group": "example.com", "scope": "Namespaced", "names": names, "versions": [this]},
        "status": {"acceptedNames": names},
    }))
    .unwrap()
}

/// A version made ready, without rules.
fn custom(tree: Value, version: Value) -> Custom {
    Custom::new(&definition(tree, version), "v1", &rules::NoRules).unwrap()
}

#[test]
fn versions_come_in_the_order_of_upstream() {
    let mut versions =
        ["v10", "v2", "v1", "v11beta2", "v10beta3", "v3beta1", "v12alpha1", "v11alpha2", "foo1", "foo10"];
    let expected = versions;
    versions.reverse();
    versions.sort_by_key(|version| std::cmp::Reverse(precedence(version)));
    assert_eq!(versions, expected);
}

#[test]
fn deprecated_versions_warn() {
    let read = |versions: Value| {
        Definition::read(&json!({"spec": {"group": "g.io", "names": {"kind": "K"}, "versions": versions}}))
            .unwrap()
    };
    let both = read(json!([
        {"name": "v1beta1", "served": true, "deprecated": true}, {"name": "v1", "served": true},
        {"name": "v2alpha1", "served": true},
    ]));
    assert_eq!(both.deprecation("v1beta1").unwrap(), "g.io/v1beta1 K is deprecated; use g.io/v1 K");
    assert_eq!(both.deprecation("v1"), None);
    let alone = read(json!([{"name": "v1", "served": true, "deprecated": true}]));
    assert_eq!(alone.deprecation("v1").unwrap(), "g.io/v1 K is deprecated");
    let own = read(json!([{"name": "v1", "deprecated": true, "deprecationWarning": "x"}]));
    assert_eq!(own.deprecation("v1").unwrap(), "x");
}

#[test]
fn paths_lead_through_schemas() {
    let schema = schema(json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"n": {"type": "integer"}, "a.b": {"type": "string"}}},
        "map": {"type": "object", "additionalProperties": {"type": "string"}},
    }}));
    for (path, expected) in [
        (".spec.n", Ok("spec.n")),
        (".spec['n']", Ok("spec.n")),
        (".spec['a.b']", Ok("spec.a.b")),
        (".map.x", Ok("map[x]")),
        (".map['a\\'b']", Ok("map[a'b]")),
        (".spec.none", Err(PathError::Unknown)),
        (".spec.n.x", Err(PathError::Unknown)),
        ("spec", Err(PathError::Step("spec".into()))),
        (".", Err(PathError::End)),
        (".spec[n]", Err(PathError::Unquoted("n".into()))),
        (".spec['n'", Err(PathError::End)),
    ] {
        let found = field_path(path, &schema).map(|found| found.path.to_string());
        assert_eq!(found.as_deref(), expected.as_ref().map(|path| *path), "{path}");
    }
    assert_eq!(dotted_path(".spec['n']", &schema).unwrap_err(), PathError::Brackets);
}
