//! Roles and bindings as the API has them, read into the index.

use super::defaults::GROUP;
use super::follow::Index;
use super::rbac::{Binding, Policy, Rule, Subject};
use serde::Deserialize;
use skep_api::Object;

/// Which of the four resources an object is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// `clusterroles` and `roles`.
    Role,
    /// `clusterrolebindings` and `rolebindings`.
    Binding,
}

impl Index for Policy {
    type Kind = Kind;

    const RESOURCES: &'static [(&'static str, &'static str, Kind)] = &[
        (GROUP, "clusterroles", Kind::Role),
        (GROUP, "roles", Kind::Role),
        (GROUP, "clusterrolebindings", Kind::Binding),
        (GROUP, "rolebindings", Kind::Binding),
    ];

    fn put(&mut self, kind: Kind, object: &Object) {
        put(self, kind, object);
    }

    fn remove(&mut self, kind: Kind, object: &Object) {
        remove(self, kind, object);
    }
}

#[derive(Deserialize)]
struct RoleBody {
    #[serde(default)]
    rules: Option<Vec<Rule>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BindingBody {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<SubjectBody>>,
}

#[derive(Deserialize)]
struct RoleRef {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: Box<str>,
}

#[derive(Deserialize)]
struct SubjectBody {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    name: Box<str>,
    #[serde(default)]
    namespace: Option<String>,
}

/// Puts an object into the index. One that cannot be read grants nothing: what stood under its name is taken away.
fn put(policy: &mut Policy, kind: Kind, object: &Object) {
    let (namespace, name) = (&*object.meta().namespace, &*object.meta().name);
    match kind {
        Kind::Role => match serde_json::from_slice::<RoleBody>(object.body()) {
            Ok(role) => policy.put_role(namespace, name, role.rules.unwrap_or_default()),
            Err(_) => policy.remove_role(namespace, name),
        },
        Kind::Binding => match serde_json::from_slice::<BindingBody>(object.body()) {
            Ok(body) => policy.put_binding(Binding {
                namespace: namespace.into(),
                name: name.into(),
                cluster_role: body.role_ref.kind != "Role",
                role: body.role_ref.name,
                subjects: body
                    .subjects
                    .unwrap_or_default()
                    .into_iter()
                    .filter_map(|s| subject(s, namespace))
                    .collect(),
            }),
            Err(_) => policy.remove_binding(namespace, name),
        },
    }
}

/// Takes an object out of the index.
fn remove(policy: &mut Policy, kind: Kind, object: &Object) {
    let (namespace, name) = (&*object.meta().namespace, &*object.meta().name);
    match kind {
        Kind::Role => policy.remove_role(namespace, name),
        Kind::Binding => policy.remove_binding(namespace, name),
    }
}

fn subject(body: SubjectBody, binding_namespace: &str) -> Option<Subject> {
    match body.kind.as_str() {
        "User" => Some(Subject::User(body.name)),
        "Group" => Some(Subject::Group(body.name)),
        "ServiceAccount" => {
            let namespace =
                body.namespace.filter(|n| !n.is_empty()).unwrap_or_else(|| binding_namespace.to_owned());
            (!namespace.is_empty()).then(|| Subject::Account(namespace.into(), body.name))
        }
        _ => None,
    }
}
