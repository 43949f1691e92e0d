//! Nobody hands out rights that they do not hold: roles take no rule that the writer lacks (but for the verb `escalate`), and
//! bindings name no role with such a rule (but for the verb `bind`).

use super::{forbidden, text};
use crate::authz::rbac::{Rule, Wish};
use crate::authz::{Rbac, defaults::GROUP, escalate};
use crate::hooks::{Operation, WriteRequest};
use serde_json::Value;
use skep_api::{GroupResource, Object, Status};

const FULL: &str = "must have cluster-admin privileges to use the aggregationRule";

/// Refuses a role or a binding that gives more than its writer holds.
pub(super) fn admit(
    request: &WriteRequest<'_>,
    new: &Value,
    old: Option<&Object>,
    rbac: &Rbac,
) -> Result<(), Status> {
    let plural = &*request.resource.plural;
    let is_role = matches!(plural, "roles" | "clusterroles");
    let is_binding = matches!(plural, "rolebindings" | "clusterrolebindings");
    if request.resource.gvk.group != GROUP
        || !(is_role || is_binding)
        || request.operation == Operation::Delete
        || request.user.in_group("system:masters")
    {
        return Ok(());
    }
    let old = old.map(|old| old.value());
    if old.as_ref().is_some_and(|old| same_but_for_collection(new, old)) {
        return Ok(());
    }
    if is_binding { binding(request, new, rbac) } else { role(request, new, old.as_ref(), rbac) }
}

/// Whether two versions differ at most in what the garbage collector writes.
fn same_but_for_collection(new: &Value, old: &Value) -> bool {
    let bare = |tree: &Value| {
        let mut tree = tree.clone();
        if let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut) {
            for key in ["ownerReferences", "finalizers", "managedFields", "resourceVersion", "generation"] {
                metadata.remove(key);
            }
        }
        tree
    };
    bare(new) == bare(old)
}

fn may(request: &WriteRequest<'_>, rbac: &Rbac, verb: &str, resource: &str, name: &str) -> bool {
    let wish = Wish::Resource {
        verb,
        group: GROUP,
        resource,
        subresource: "",
        namespace: request.namespace,
        name,
        fields: "",
    };
    rbac.decide(request.user, &wish).is_ok()
}

/// Refuses rules of which the writer lacks some.
fn held(request: &WriteRequest<'_>, rbac: &Rbac, wanted: &[Rule]) -> Result<(), Status> {
    let (own, unresolved) = rbac.rules_for(request.user, request.namespace);
    let missing = escalate::missing(&own, wanted);
    if missing.is_empty() {
        return Ok(());
    }
    let user = request.user;
    let groups: Vec<String> = user.groups.iter().map(|group| format!("{group:?}")).collect();
    let mut why = format!(
        "user {:?} (groups=[{}]) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        groups.join(" "),
        missing.join("\n")
    );
    match unresolved.as_slice() {
        [] => {}
        [one] => why.push_str(&format!("; resolution errors: {one}")),
        many => why.push_str(&format!("; resolution errors: [{}]", many.join(", "))),
    }
    Err(forbidden(request, why))
}

fn role(request: &WriteRequest<'_>, new: &Value, old: Option<&Value>, rbac: &Rbac) -> Result<(), Status> {
    let name = if request.operation == Operation::Create { "" } else { request.name };
    if may(request, rbac, "escalate", &request.resource.plural, name) {
        return Ok(());
    }
    held(request, rbac, &rules(new))?;
    let aggregates = |role: &Value| {
        let selectors = role.pointer("/aggregationRule/clusterRoleSelectors").and_then(Value::as_array);
        selectors.is_some_and(|all| !all.is_empty())
    };
    if aggregates(new) || old.is_some_and(aggregates) {
        held(request, rbac, &Rule::everything()).map_err(|_| forbidden(request, FULL))?;
    }
    Ok(())
}

/// The rules of a role; one that cannot be read is left to validation.
fn rules(role: &Value) -> Vec<Rule> {
    let list = role.get("rules").and_then(Value::as_array).into_iter().flatten();
    list.filter_map(|rule| serde_json::from_value(rule.clone()).ok()).collect()
}

fn binding(request: &WriteRequest<'_>, new: &Value, rbac: &Rbac) -> Result<(), Status> {
    let (kind, name) = (text(new, "/roleRef/kind"), text(new, "/roleRef/name"));
    let (resource, namespace) = match kind {
        "ClusterRole" => ("clusterroles", ""),
        "Role" => ("roles", request.namespace),
        // Validation says what is wrong with it.
        _ => return Ok(()),
    };
    if may(request, rbac, "bind", resource, name) {
        return Ok(());
    }
    let rules = rbac
        .role(namespace, name)
        .ok_or_else(|| Status::not_found(&GroupResource::new(GROUP, resource), name))?;
    held(request, rbac, &rules)
}
