//! Nodes.

use super::columns::{age, name};
use super::pod::EFFECTS;
use crate::field::FieldError;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column, wide};
use crate::validation::{At, Errors, resources, text};
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Nodes.
#[derive(Debug, Default)]
pub struct Node;

/// `podCIDR` and the first of `podCIDRs` are one: where both are given and differ, the former counts.
fn one_range(object: &mut Value) {
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
    let one =
        spec.get("podCIDR").and_then(Value::as_str).filter(|range| !range.is_empty()).map(str::to_owned);
    let first = spec.get("podCIDRs").and_then(|all| all.get(0)).and_then(Value::as_str).map(str::to_owned);
    match (one, first) {
        (Some(one), first) if first.as_ref() != Some(&one) => {
            spec.insert("podCIDRs".into(), json!([one]));
        }
        (None, Some(first)) => {
            spec.insert("podCIDR".into(), first.into());
        }
        _ => {}
    }
}

/// Where a kubelet's settings come from cannot be said any more; what was said stays.
fn drop_source(new: &mut Value, old: Option<&Value>) {
    let stood = old.and_then(|old| old.pointer("/spec/configSource")).is_some_and(|source| !source.is_null());
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut).filter(|_| !stood) {
        spec.remove("configSource");
    }
}

impl Strategy for Node {
    fn default(&self, object: &mut Value) {
        one_range(object);
        let status = object.get_mut("status").and_then(Value::as_object_mut);
        if let Some(status) = status.filter(|s| s.get("allocatable").is_none_or(Value::is_null))
            && let Some(capacity) = status.get("capacity").cloned()
        {
            status.insert("allocatable".into(), capacity);
        }
    }

    /// A node registers with its status.
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        drop_source(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        super::keep(new, old, &["status"]);
        drop_source(new, Some(old));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        taints(&mut errors, &metadata, &spec.get("taints"));
        let cidrs = spec.get("podCIDRs");
        for cidr in cidrs.items() {
            errors.text(&cidr, text::cidr(cidr.text()));
        }
        let six = cidrs.texts().filter(|cidr| cidr.contains(':')).count();
        if cidrs.len() > 2 || (cidrs.len() == 2 && six != 1) {
            errors.invalid(&cidrs, "may specify no more than one CIDR for each IP family");
        }
        amounts(&mut errors, &root);
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        addresses(&mut errors, &new);
        let (new, old) = (new.get("spec"), old.get("spec"));
        for (field, shown) in [("podCIDRs", "podCIDR"), ("providerID", "providerID")] {
            let (is, was) = (new.get(field), old.get(field));
            if !was.is_empty() && is.json() != was.json() {
                let why = format!("node updates may not change {shown} except from \"\" to valid");
                errors.forbidden(&is, why);
            }
        }
        let id = new.get("externalID");
        if id.text() != old.get("externalID").text() {
            errors.forbidden(&id, "may not be updated");
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        amounts(&mut errors, &root);
        addresses(&mut errors, &root);
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Status", "string", "The status of the node"),
            column("Roles", "string", "The roles of the node"),
            age(),
            column("Version", "string", "Version that the node agent reports."),
            wide("Internal-IP", "string", "Address within the cluster."),
            wide("External-IP", "string", "Address from outside."),
            wide("OS-Image", "string", "Operating system of the node."),
            wide("Kernel-Version", "string", "Kernel of the node, and its architecture."),
            wide("Container-Runtime", "string", "Container runtime of the node, and its version."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let status = root.get("status");
        let info = status.get("nodeInfo");
        let or = |text: &str, other: &str| if text.is_empty() { other.to_owned() } else { text.to_owned() };
        let mut kernel = or(info.get("kernelVersion").text(), "<unknown>");
        let architecture = info.get("architecture").text();
        if !architecture.is_empty() {
            kernel = format!("{kernel} ({architecture})");
        }
        let address = |kind: &str| -> String {
            let list = status.get("addresses");
            let found = list.items().find(|a| a.get("type").text() == kind);
            found.map_or_else(|| "<none>".into(), |a| a.get("address").text().to_owned())
        };
        vec![
            table::name(object),
            state(&root).into(),
            or(&roles(&root), "<none>").into(),
            table::age(object, now),
            info.get("kubeletVersion").text().into(),
            address("InternalIP").into(),
            address("ExternalIP").into(),
            or(info.get("osImage").text(), "<unknown>").into(),
            kernel.into(),
            or(info.get("containerRuntimeVersion").text(), "<unknown>").into(),
        ]
    }
}

/// Upstream reports taints below `metadata`.
fn taints(errors: &mut Errors, metadata: &At<'_, '_>, list: &At<'_, '_>) {
    let at = metadata.get("taints");
    let at = at.with_value(list.value());
    let mut seen = BTreeSet::new();
    for taint in at.items() {
        let (key, value, effect) = (taint.get("key"), taint.get("value"), taint.get("effect"));
        errors.text(&key, text::qualified_name(key.text()));
        let wrong = text::label_value(value.text());
        if !wrong.is_empty() {
            errors.invalid(&value, wrong.join(";"));
        }
        errors.one_of(&effect, EFFECTS);
        if !seen.insert((key.text(), effect.text())) {
            errors.duplicate(&taint);
        }
    }
}

fn amounts(errors: &mut Errors, root: &At<'_, '_>) {
    let status = root.get("status");
    for field in ["capacity", "allocatable"] {
        let list = status.get(field);
        for (name, _) in list.entries() {
            resources::amount(errors, &list.get(name), name);
        }
    }
}

fn addresses(errors: &mut Errors, root: &At<'_, '_>) {
    let mut seen = BTreeSet::new();
    for address in root.get("status").get("addresses").items() {
        if !seen.insert((address.get("type").text(), address.get("address").text())) {
            errors.duplicate(&address);
        }
    }
}

fn state(root: &At<'_, '_>) -> String {
    let status = root.get("status");
    let list = status.get("conditions");
    let ready = list.items().filter(|c| c.get("type").text() == "Ready").last();
    let mut words = match ready {
        None => "Unknown".to_owned(),
        Some(condition) if condition.get("status").text() == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
    };
    if root.get("spec").get("unschedulable").is_true() {
        words.push_str(",SchedulingDisabled");
    }
    words
}

fn roles(root: &At<'_, '_>) -> String {
    let labels = root.get("metadata");
    let labels = labels.get("labels");
    let role = |(key, value): (&str, At<'_, '_>)| -> Option<String> {
        let role = match key.strip_prefix("node-role.kubernetes.io/") {
            Some(role) => role,
            None if key == "kubernetes.io/role" => value.text(),
            None => "",
        };
        (!role.is_empty()).then(|| role.to_owned())
    };
    labels.entries().filter_map(role).collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{now, shown};

    #[test]
    fn cells_read_as_upstreams() {
        let node = json!({
            "metadata": {
                "name": "n1", "creationTimestamp": "2026-05-01T11:00:00Z",
                "labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "edge", "x": "y"},
            },
            "spec": {"unschedulable": true},
            "status": {
                "conditions": [{"type": "Ready", "status": "True"}],
                "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}],
                "nodeInfo": {"kubeletVersion": "v1.36.0", "kernelVersion": "6.1", "architecture": "amd64",
                    "osImage": "Debian", "containerRuntimeVersion": "containerd://1.7"},
            },
        });
        assert_eq!(
            Node.cells(&node, now()),
            [
                "n1",
                "Ready,SchedulingDisabled",
                "edge,worker",
                "60m",
                "v1.36.0",
                "10.0.0.1",
                "<none>",
                "Debian",
                "6.1 (amd64)",
                "containerd://1.7"
            ]
        );
        let bare = json!({"metadata": {"name": "n1"}});
        assert_eq!(
            Node.cells(&bare, now()),
            [
                "n1",
                "Unknown",
                "<none>",
                "<unknown>",
                "",
                "<none>",
                "<none>",
                "<unknown>",
                "<unknown>",
                "<unknown>"
            ]
        );
        assert_eq!(Node.columns().len(), 10);
        let down = json!({"status": {"conditions": [{"type": "Ready", "status": "Unknown"}]}});
        assert_eq!(Node.cells(&down, now())[1], "NotReady");
    }

    #[test]
    fn what_is_wrong_with_a_node() {
        for (spec, wrong) in [
            (
                json!({"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoSchedule"}]}),
                "",
            ),
            (json!({"podCIDRs": ["10.244.0.0/24"]}), ""),
            (json!({"taints": [{"key": "a"}]}), "metadata.taints[0].effect: Required value"),
            (
                json!({"taints": [{"key": "a", "effect": "Never"}]}),
                "metadata.taints[0].effect: Unsupported value: \"Never\"",
            ),
            (json!({"taints": [{"effect": "NoExecute"}]}), "metadata.taints[0].key: Invalid value: \"\""),
            (
                json!({"taints": [{"key": "a", "effect": "NoExecute"}, {"key": "a", "effect": "NoExecute"}]}),
                "metadata.taints[1]: Duplicate value",
            ),
            (json!({"podCIDRs": ["10.244.0.0"]}), "spec.podCIDRs[0]: Invalid value"),
            (json!({"podCIDRs": ["10.0.0.0/24", "10.0.1.0/24"]}), "spec.podCIDRs: Invalid value"),
        ] {
            let text = shown(&Node.validate(&json!({"spec": spec})));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{spec}: {text}");
        }
        let bad = json!({"status": {"capacity": {"cpu": "-1"}}});
        assert!(shown(&Node.validate(&bad)).starts_with("status.capacity.cpu: Invalid value: \"-1\""));
    }

    #[test]
    fn what_may_not_change() {
        let node = |provider: &str, cidr: &str| json!({"spec": {"providerID": provider, "podCIDRs": [cidr]}});
        assert_eq!(Node.validate_update(&node("a", "10.0.0.0/24"), &json!({})), []);
        let text = shown(&Node.validate_update(&node("b", "10.0.1.0/24"), &node("a", "10.0.0.0/24")));
        assert!(text.contains("spec.podCIDRs: Forbidden: node updates may not change podCIDR"), "{text}");
        assert!(
            text.contains("spec.providerID: Forbidden: node updates may not change providerID"),
            "{text}"
        );
    }
}
