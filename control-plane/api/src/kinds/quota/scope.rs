//! Which objects a quota is about.

use crate::kinds::pod::qos_class;
use crate::resource::GroupResource;
use crate::validation::At;
use serde_json::Value;
use std::collections::BTreeSet;

/// One thing a quota's objects have in common.
struct Requirement<'v> {
    scope: &'v str,
    operator: &'v str,
    values: BTreeSet<&'v str>,
}

fn requirements<'v>(quota: &At<'v, '_>) -> Vec<Requirement<'v>> {
    let spec = quota.get("spec");
    let selector = spec.get("scopeSelector");
    let expressions = selector.get("matchExpressions");
    let plain = spec.get("scopes");
    let mut all: Vec<Requirement<'v>> = plain
        .texts()
        .map(|scope| Requirement { scope, operator: "Exists", values: BTreeSet::new() })
        .collect();
    all.extend(expressions.items().map(|expression| Requirement {
        scope: expression.get("scopeName").text(),
        operator: expression.get("operator").text(),
        values: expression.get("values").texts().collect(),
    }));
    all
}

/// Whether an object has all that a quota's scopes ask for. Scopes are of pods, and one of claims: other kinds have none.
pub fn scopes_match(quota: &Value, resource: &GroupResource, object: &Value) -> bool {
    let (quota, object) = (At::root(quota), At::root(object));
    let kind = if resource.group.is_empty() { resource.resource.as_ref() } else { "" };
    requirements(&quota).iter().all(|requirement| match kind {
        "pods" => pod_matches(requirement, &object),
        "persistentvolumeclaims" => claim_matches(requirement, &object),
        _ => false,
    })
}

/// Whether one of the names does what the operator says; `names` may be none at all.
fn name_matches(requirement: &Requirement<'_>, names: &[&str]) -> bool {
    let is_in = |name: &&str| requirement.values.contains(name);
    match requirement.operator {
        "Exists" => !names.is_empty(),
        "DoesNotExist" => names.is_empty(),
        "In" => names.iter().any(is_in),
        "NotIn" => names.is_empty() || names.iter().any(|name| !is_in(name)),
        _ => false,
    }
}

fn some(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

fn pod_matches(requirement: &Requirement<'_>, pod: &At<'_, '_>) -> bool {
    let spec = pod.get("spec");
    let terminating = spec.get("activeDeadlineSeconds").int().is_some_and(|seconds| seconds >= 0);
    let best_effort = || qos_class(&pod.json()) == "BestEffort";
    match requirement.scope {
        "Terminating" => terminating,
        "NotTerminating" => !terminating,
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let names: Vec<&str> = some(spec.get("priorityClassName").text()).into_iter().collect();
            name_matches(requirement, &names)
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(&spec),
        _ => false,
    }
}

fn crosses_namespaces(spec: &At<'_, '_>) -> bool {
    let affinity = spec.get("affinity");
    let crosses =
        |term: At<'_, '_>| !term.get("namespaces").is_empty() || term.get("namespaceSelector").present();
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let kind = affinity.get(kind);
        let required = kind.get("requiredDuringSchedulingIgnoredDuringExecution");
        let preferred = kind.get("preferredDuringSchedulingIgnoredDuringExecution");
        required.items().any(crosses) || preferred.items().any(|term| crosses(term.get("podAffinityTerm")))
    })
}

fn claim_matches(requirement: &Requirement<'_>, claim: &At<'_, '_>) -> bool {
    if requirement.scope != "VolumeAttributesClass" {
        return false;
    }
    let (spec, status) = (claim.get("spec"), claim.get("status"));
    let names = [
        spec.get("volumeAttributesClassName").text(),
        status.get("currentVolumeAttributesClassName").text(),
        status.get("modifyVolumeStatus").get("targetVolumeAttributesClassName").text(),
    ];
    let names: BTreeSet<&str> = names.into_iter().filter_map(some).collect();
    name_matches(requirement, &names.into_iter().collect::<Vec<_>>())
}
