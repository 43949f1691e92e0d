//! Roles and their bindings.

use super::columns::{age, created_at, name};
use crate::field::FieldError;
use crate::names::{dns1123_subdomain, path_segment};
use crate::resource::{Column, Strategy};
use crate::table::{self, column, wide};
use crate::validation::{At, Errors, same, selector};
use serde_json::Value;

const GROUP: &str = "rbac.authorization.k8s.io";

/// Both kinds of roles: those within a namespace, and those of the cluster.
#[derive(Debug, Default)]
pub struct Roles<const NAMESPACED: bool>;

/// Roles, within a namespace.
pub type Role = Roles<true>;

/// ClusterRoles.
pub type ClusterRole = Roles<false>;

fn rules(errors: &mut Errors, root: &At<'_, '_>, namespaced: bool) {
    for rule in root.get("rules").items() {
        let (verbs, urls) = (rule.get("verbs"), rule.get("nonResourceURLs"));
        if verbs.is_empty() {
            errors.required(&verbs, "verbs must contain at least one value");
        }
        let (groups, resources) = (rule.get("apiGroups"), rule.get("resources"));
        if !urls.is_empty() {
            if namespaced {
                errors.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
            }
            if !groups.is_empty() || !resources.is_empty() || !rule.get("resourceNames").is_empty() {
                errors.invalid(&urls, "rules cannot apply to both regular resources and non-resource URLs");
            }
            continue;
        }
        if groups.is_empty() {
            errors.required(&groups, "resource rules must supply at least one api group");
        }
        if resources.is_empty() {
            errors.required(&resources, "resource rules must supply at least one resource");
        }
    }
}

/// Of which ClusterRoles the rules of a ClusterRole are put together.
fn aggregation(errors: &mut Errors, root: &At<'_, '_>) {
    let rule = root.get("aggregationRule");
    let selectors = rule.get("clusterRoleSelectors");
    if rule.present() && selectors.is_empty() {
        let why = "at least one clusterRoleSelector required if aggregationRule is non-nil";
        errors.required(&selectors, why);
    }
    for at in selectors.items() {
        let before = errors.len();
        selector::validate(errors, &at);
        if errors.len() > before {
            errors.push(FieldError::invalid(at.path(), Value::Null, "invalid label selector."));
        }
    }
}

impl<const NAMESPACED: bool> Strategy for Roles<NAMESPACED> {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        rules(&mut errors, &root, NAMESPACED);
        if !NAMESPACED {
            aggregation(&mut errors, &root);
        }
        errors.done()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment(name, prefix)
    }

    fn create_on_update(&self) -> bool {
        true
    }

    /// Name and the moment of creation: upstream shows no age of roles.
    fn columns(&self) -> Vec<Column> {
        vec![name(), created_at()]
    }

    fn cells(&self, object: &Value, _now: jiff::Timestamp) -> Vec<Value> {
        let at = object.pointer("/metadata/creationTimestamp").cloned();
        vec![table::name(object), at.unwrap_or_else(|| "".into())]
    }
}

/// Both kinds of bindings: those within a namespace, and those of the cluster.
#[derive(Debug, Default)]
pub struct Binding<const NAMESPACED: bool>;

/// RoleBindings, within a namespace.
pub type RoleBinding = Binding<true>;

/// ClusterRoleBindings.
pub type ClusterRoleBinding = Binding<false>;

/// A user or group is of the group of roles where nothing is said.
fn default_binding(object: &mut Value) {
    let empty = |v: Option<&Value>| v.and_then(Value::as_str).unwrap_or_default().is_empty();
    let subjects = object.get_mut("subjects").and_then(Value::as_array_mut);
    for subject in subjects.into_iter().flatten().filter_map(Value::as_object_mut) {
        let kind = subject.get("kind").and_then(Value::as_str).unwrap_or_default();
        if matches!(kind, "User" | "Group") && empty(subject.get("apiGroup")) {
            subject.insert("apiGroup".into(), GROUP.into());
        }
    }
}

fn binding(errors: &mut Errors, root: &At<'_, '_>, namespaced: bool) {
    let role = root.get("roleRef");
    let (group, kind, name) = (role.get("apiGroup"), role.get("kind"), role.get("name"));
    if group.text() != GROUP {
        errors.not_supported(&group, &[GROUP]);
    }
    let kinds = if namespaced { &["Role", "ClusterRole"][..] } else { &["ClusterRole"][..] };
    if !kinds.contains(&kind.text()) {
        errors.not_supported(&kind, kinds);
    }
    errors.required_text(&name, |name| path_segment(name, false));
    for subject in root.get("subjects").items() {
        let (name, kind) = (subject.get("name"), subject.get("kind"));
        let (group, namespace) = (subject.get("apiGroup"), subject.get("namespace"));
        if name.text().is_empty() {
            errors.required(&name, "");
        }
        match kind.text() {
            "ServiceAccount" => {
                errors.optional_text(&name, |name| dns1123_subdomain(name, false));
                if !group.text().is_empty() {
                    errors.not_supported(&group, &[""]);
                }
                if !namespaced && namespace.text().is_empty() {
                    errors.required(&namespace, "");
                }
            }
            "User" | "Group" if group.text() == GROUP => {}
            "User" | "Group" => errors.not_supported(&group, &[GROUP]),
            _ => errors.not_supported(&kind, &["ServiceAccount", "User", "Group"]),
        }
    }
}

fn same_role(new: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::new();
    if !same(new.get("roleRef"), old.get("roleRef")) {
        errors.invalid(&At::root(new).get("roleRef"), "cannot change roleRef");
    }
    errors.done()
}

fn binding_columns(where_: &str) -> Vec<Column> {
    let subjects = |what: &'static str| Column {
        description: format!("{what} in the {where_}").into(),
        ..wide(what, "string", "")
    };
    vec![
        name(),
        column("Role", "string", "The role that is given."),
        age(),
        subjects("Users"),
        subjects("Groups"),
        subjects("ServiceAccounts"),
    ]
}

fn binding_cells(object: &Value, now: jiff::Timestamp) -> Vec<Value> {
    let root = At::root(object);
    let role = root.get("roleRef");
    let list = root.get("subjects");
    let named = |kind: &str| -> Value {
        let name = |subject: At<'_, '_>| {
            let (name, namespace) = (subject.get("name").text(), subject.get("namespace").text());
            if kind == "ServiceAccount" { format!("{namespace}/{name}") } else { name.to_owned() }
        };
        list.items().filter(|s| s.get("kind").text() == kind).map(name).collect::<Vec<_>>().join(", ").into()
    };
    vec![
        table::name(object),
        format!("{}/{}", role.get("kind").text(), role.get("name").text()).into(),
        table::age(object, now),
        named("User"),
        named("Group"),
        named("ServiceAccount"),
    ]
}

impl<const NAMESPACED: bool> Strategy for Binding<NAMESPACED> {
    fn default(&self, object: &mut Value) {
        default_binding(object);
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        binding(&mut errors, &At::root(object), NAMESPACED);
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        same_role(new, old)
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment(name, prefix)
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        binding_columns(if NAMESPACED { "roleBinding" } else { "clusterRoleBinding" })
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        binding_cells(object, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{complete, now, shown};
    use serde_json::json;

    #[test]
    fn roles() {
        let good = json!({"rules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]});
        assert_eq!(Role {}.validate(&good), []);
        assert_eq!(ClusterRole {}.validate(&good), []);
        for (rule, wrong) in [
            (
                json!({"apiGroups": [""], "resources": ["pods"]}),
                "rules[0].verbs: Required value: verbs must contain",
            ),
            (json!({"verbs": ["get"], "resources": ["pods"]}), "rules[0].apiGroups: Required value"),
            (json!({"verbs": ["get"], "apiGroups": [""]}), "rules[0].resources: Required value"),
            (
                json!({"verbs": ["get"], "nonResourceURLs": ["/x"]}),
                "rules[0].nonResourceURLs: Invalid value: [\"/x\"]: namespaced",
            ),
        ] {
            let text = shown(&Role {}.validate(&json!({"rules": [rule]})));
            assert!(text.starts_with(wrong), "{text}");
        }
        let urls = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz"]}]});
        assert_eq!(ClusterRole {}.validate(&urls), []);
        let none = json!({"aggregationRule": {}});
        assert!(
            shown(&ClusterRole {}.validate(&none))
                .starts_with("aggregationRule.clusterRoleSelectors: Required value")
        );
        assert!(Role {}.validate_name("system:node", false).is_empty());
        assert!(!Role {}.validate_name("a/b", false).is_empty());
    }

    #[test]
    fn bindings() {
        let good = complete(json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
            "metadata": {"name": "b", "creationTimestamp": "2026-05-01T11:59:00Z"},
            "roleRef": {"kind": "ClusterRole", "name": "admin"},
            "subjects": [
                {"kind": "User", "name": "ann"}, {"kind": "User", "name": "bob"}, {"kind": "Group", "name": "ops"},
                {"kind": "ServiceAccount", "name": "robot", "namespace": "web"},
            ],
        }));

        assert_eq!(RoleBinding {}.validate(&good), []);
        assert_eq!(ClusterRoleBinding {}.validate(&good), []);
        assert_eq!(
            RoleBinding {}.cells(&good, now()),
            ["b", "ClusterRole/admin", "60s", "ann, bob", "ops", "web/robot"]
        );
        for (pointer, value, wrong) in [
            (
                "/roleRef/apiGroup",
                json!("x"),
                "roleRef.apiGroup: Unsupported value: \"x\": supported values: \"rbac",
            ),
            (
                "/roleRef/kind",
                json!("Role"),
                "roleRef.kind: Unsupported value: \"Role\": supported values: \"ClusterRole\"",
            ),
            ("/roleRef/name", json!(""), "roleRef.name: Required value"),
            ("/roleRef/name", json!("a/b"), "roleRef.name: Invalid value: \"a/b\": may not contain '/'"),
            ("/subjects/0/name", json!(""), "subjects[0].name: Required value"),
            ("/subjects/0/kind", json!("Robot"), "subjects[0].kind: Unsupported value: \"Robot\""),
            ("/subjects/0/apiGroup", json!("x"), "subjects[0].apiGroup: Unsupported value: \"x\""),
            ("/subjects/3/namespace", json!(""), "subjects[3].namespace: Required value"),
            ("/subjects/3/name", json!("A"), "subjects[3].name: Invalid value: \"A\""),
        ] {
            let mut bad = good.clone();
            *bad.pointer_mut(pointer).unwrap() = value;
            let text = shown(&ClusterRoleBinding {}.validate(&bad));
            assert!(text.starts_with(wrong), "{pointer}: {text}");
        }
        let mut other = good.clone();
        other["roleRef"]["name"] = "view".into();
        assert!(shown(&RoleBinding {}.validate_update(&other, &good)).ends_with("cannot change roleRef"));
        assert_eq!(RoleBinding {}.validate_update(&good, &good), []);
    }
}
