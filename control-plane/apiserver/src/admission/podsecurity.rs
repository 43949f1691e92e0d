//! PodSecurity: what the labels of a namespace forbid its pods. What breaks the enforced level is refused, what breaks the
//! level to warn of is warned of; of kinds that make pods nothing is refused. There are no exemptions and no audit log.

use super::{forbidden, is, text};
use crate::hooks::{Operation, WriteRequest};
use serde_json::Value;
use skep_api::podsecurity::{self, Level, LevelVersion, Policy};
use skep_api::{Object, Status};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// How many pods of a namespace are looked at when its level changes.
const MOST_PODS: usize = 3000;

/// Kinds with a pod in them, and where: metadata and spec lie below.
const TEMPLATES: [(&str, &str, &str); 9] = [
    ("", "pods", ""),
    ("", "replicationcontrollers", "/spec/template"),
    ("", "podtemplates", "/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("batch", "jobs", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
];

/// Parts of pods whose writes change nothing that a policy speaks of.
const HARMLESS: [&str; 8] =
    ["exec", "attach", "binding", "eviction", "log", "portforward", "proxy", "status"];

/// Where the pod lies in what is written; none where no policy of a namespace concerns it.
pub(super) fn concerns(request: &WriteRequest<'_>) -> Option<&'static str> {
    let row = request.resource;
    let (_, plural, at) =
        TEMPLATES.iter().find(|(group, plural, _)| row.gvk.group == *group && row.plural == *plural)?;
    let skipped = if *plural == "pods" {
        HARMLESS.contains(&request.subresource)
    } else {
        !request.subresource.is_empty()
    };
    (request.operation != Operation::Delete && !skipped).then_some(*at)
}

/// Judges a pod, or what makes pods, by the labels of its namespace.
pub(super) fn check(
    request: &WriteRequest<'_>,
    at: &str,
    new: &Value,
    old: Option<&Object>,
    namespace: Option<&Object>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    let Some(namespace) = namespace else {
        return Err(Status::internal(format!("failed to lookup namespace {:?}", request.namespace)));
    };
    let (policy, _) = Policy::of_labels(&namespace.meta().labels);
    let pod = at.is_empty();
    if policy.is_free() || (!pod && policy.warn.level == Level::Privileged) {
        return Ok(());
    }
    let Some(tree) = new.pointer(at).filter(|tree| !tree.is_null()) else { return Ok(()) };
    let spec = tree.get("spec").unwrap_or(&Value::Null);
    if pod
        && let Some(old) = old
        && !podsecurity::matters(spec, old.value().get("spec").unwrap_or(&Value::Null))
    {
        return Ok(());
    }
    let broken = |level: LevelVersion| {
        let found = podsecurity::violations(level, tree.pointer("/metadata/annotations"), spec);
        (!found.is_empty()).then(|| format!("PodSecurity \"{level}\": {}", podsecurity::detailed(&found)))
    };
    if pod && let Some(why) = broken(policy.enforce) {
        return Err(forbidden(request, format!("violates {why}")));
    }
    warnings.extend(broken(policy.warn).map(|why| format!("would violate {why}")));
    Ok(())
}

/// Judges the labels of a namespace. `pods` lists those that are in it.
pub(super) fn check_namespace(
    request: &WriteRequest<'_>,
    new: &Value,
    old: Option<&Object>,
    pods: impl FnOnce() -> Vec<Arc<Object>>,
    warnings: &mut Vec<String>,
) -> Result<(), Status> {
    if request.operation == Operation::Delete || !is(request, "", "namespaces") {
        return Ok(());
    }
    let labels: BTreeMap<Box<str>, Box<str>> = new
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str().into(), value.as_str()?.into())))
        .collect();
    let (policy, errors) = Policy::of_labels(&labels);
    let before = old.map(|old| Policy::of_labels(&old.meta().labels));
    // What was wrong before may stay.
    if !errors.is_empty() && before.as_ref().is_none_or(|(_, old)| *old != errors) {
        return Err(Status::invalid(&request.resource.gvk, request.name, &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (enforce, was) = (policy.enforce, before.enforce);
    if enforce == was
        || enforce.level == Level::Privileged
        || (enforce.version == was.version && enforce.level <= was.level)
    {
        return Ok(());
    }
    warnings.extend(existing(request.name, enforce, pods()));
    Ok(())
}

/// What to warn of where a namespace with pods in it gets a stricter level.
fn existing(namespace: &str, enforce: LevelVersion, pods: Vec<Arc<Object>>) -> Vec<String> {
    // One pod of each controller first: the others are most likely like it.
    let mut seen = HashSet::new();
    let (first, rest): (Vec<_>, Vec<_>) = pods.into_iter().partition(|pod| match pod.meta().controller() {
        Some(owner) => seen.insert(owner.uid.clone()),
        None => true,
    });
    let (all, mut found) = (first.len() + rest.len(), BTreeMap::<String, (String, usize)>::new());
    for pod in first.iter().chain(&rest).take(MOST_PODS) {
        let tree = pod.value();
        let spec = tree.get("spec").unwrap_or(&Value::Null);
        let broken = podsecurity::violations(enforce, tree.pointer("/metadata/annotations"), spec);
        if broken.is_empty() {
            continue;
        }
        let name = text(&tree, "/metadata/name").to_owned();
        let (least, count) = found.entry(podsecurity::reasons(&broken)).or_insert((name.clone(), 0));
        *count += 1;
        if name < *least {
            *least = name;
        }
    }
    let mut out = Vec::new();
    if all > MOST_PODS {
        out.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {all} existing pods"
        ));
    }
    if !found.is_empty() {
        out.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    out.append(&mut lines);
    out
}
