//! Kinds with few rules: ServiceAccount, Event, Lease, PriorityClass, and the Binding of old clients.

use super::columns::{age, name};
use crate::field::{FieldError, Path};
use crate::names::dns1123_subdomain;
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column, wide};
use crate::validation::{At, Errors, text};
use serde_json::Value;

/// ServiceAccounts.
#[derive(Debug, Default)]
pub struct ServiceAccount;

/// Of a reference to a Secret only the name is kept.
fn names_of_secrets_only(object: &mut Value) {
    let list = object.get_mut("secrets").and_then(Value::as_array_mut);
    for secret in list.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|key, _| key == "name");
    }
}

impl Strategy for ServiceAccount {
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        names_of_secrets_only(object);
    }

    fn prepare_update(&self, new: &mut Value, _old: &Value) {
        names_of_secrets_only(new);
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }
}

/// `Binding`, posted to a namespace by old clients; what it does is `pods/binding`.
#[derive(Debug, Default)]
pub struct Binding;

impl Strategy for Binding {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        super::pod::validate_binding(object)
    }
}

/// Events of the core group.
#[derive(Debug, Default)]
pub struct Event;

/// Most bytes of a reason, an action and a reporting instance, and of a message, in events that say when.
const WORD_MAX: usize = 128;
const MESSAGE_MAX: usize = 1024;

impl Strategy for Event {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let namespace = root.get("metadata").get("namespace").text();
        let about = root.get("involvedObject");
        let theirs = about.get("namespace");
        let mismatch = |wanted: bool| {
            let why = "does not match event.namespace";
            (!wanted).then(|| FieldError::invalid(theirs.path(), theirs.text().into(), why))
        };
        let anywhere = theirs.text().is_empty();
        if root.get("eventTime").present() {
            errors.extend(mismatch(!anywhere || matches!(namespace, "default" | "kube-system")));
            let by = root.get("reportingComponent");
            if by.text().is_empty() {
                errors.required(&by, "");
            }
            errors.text(&by, text::qualified_name(by.text()));
            for (field, most, needed) in [
                ("reportingInstance", WORD_MAX, true),
                ("action", WORD_MAX, true),
                ("reason", WORD_MAX, true),
                ("message", MESSAGE_MAX, false),
            ] {
                let at = root.get(field);
                if needed && at.text().is_empty() {
                    errors.required(&at, "");
                }
                if at.text().len() > most {
                    let why = format!("can have at most {most} characters");
                    errors.push(FieldError::invalid(at.path(), "".into(), why));
                }
            }
        } else if anywhere {
            errors.extend(mismatch(matches!(namespace, "" | "default")));
        } else {
            errors.extend(mismatch(namespace == theirs.text()));
        }
        for message in dns1123_subdomain(namespace, false) {
            errors.push(FieldError::invalid(Path::new("namespace"), namespace.into(), message));
        }
        errors.done()
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            Column { format: "".into(), ..column("Last Seen", "string", "When it was last seen.") },
            column("Type", "string", "Normal or Warning."),
            column("Reason", "string", "Why, in a word."),
            column("Object", "string", "What it is about."),
            wide("Subobject", "string", "Which part of the object."),
            wide("Source", "string", "Who tells."),
            column("Message", "string", "What happened."),
            wide("First Seen", "string", "When it was first seen."),
            wide("Count", "string", "How often it was seen."),
            wide("Name", "string", "Name must be unique within a namespace."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let word = |field: &'static str| root.get(field).text().to_owned();
        let since = |text: &str| table::since(Some(text).filter(|t| !t.is_empty()), now);
        let (first, event_time) = (word("firstTimestamp"), word("eventTime"));
        let first = since(if first.is_empty() { &event_time } else { &first });
        let mut last = match word("lastTimestamp") {
            text if text.is_empty() => first.clone(),
            text => since(&text),
        };
        let mut count = root.get("count").int().unwrap_or(0);
        let series = root.get("series");
        if series.present() {
            last = since(series.get("lastObservedTime").text());
            count = series.get("count").int().unwrap_or(0);
        } else if count == 0 {
            count = 1;
        }
        let about = root.get("involvedObject");
        let kind = about.get("kind").text().to_lowercase();
        let target = match about.get("name").text() {
            "" => kind,
            name => format!("{kind}/{name}"),
        };
        let from = root.get("source");
        let or = |text: &str, other: String| if text.is_empty() { other } else { text.to_owned() };
        let component = or(from.get("component").text(), word("reportingComponent"));
        let instance = or(from.get("host").text(), word("reportingInstance"));
        let source = if instance.is_empty() { component } else { format!("{component}, {instance}") };
        vec![
            last.into(),
            word("type").into(),
            word("reason").into(),
            target.into(),
            about.get("fieldPath").text().into(),
            source.into(),
            word("message").trim().into(),
            first.into(),
            count.into(),
            table::name(object),
        ]
    }
}

/// Leases.
#[derive(Debug, Default)]
pub struct Lease;

/// Of coordinated leader election (KEP-4355), which is off: taken only where they stood before.
const COORDINATED: &[&str] = &["strategy", "preferredHolder"];

fn drop_coordinated(new: &mut Value, old: Option<&Value>) {
    let stood =
        |field: &str| old.and_then(|old| old.pointer("/spec")?.get(field)).is_some_and(|v| !v.is_null());
    if let Some(spec) = new.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|field, _| !COORDINATED.contains(&field.as_str()) || stood(field));
    }
}

impl Strategy for Lease {
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        drop_coordinated(object, None);
    }

    fn prepare_update(&self, new: &mut Value, old: &Value) {
        drop_coordinated(new, Some(old));
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        let seconds = spec.get("leaseDurationSeconds");
        if seconds.int().is_some_and(|s| s <= 0) {
            errors.invalid(&seconds, "must be greater than 0");
        }
        errors.not_negative(&spec.get("leaseTransitions"));
        let preferred = spec.get("preferredHolder");
        if !preferred.text().is_empty() && spec.get("strategy").text().is_empty() {
            errors.forbidden(&preferred, "may only be specified if `strategy` is defined");
        }
        errors.done()
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Holder", "string", "Who holds the lease."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let holder = object.pointer("/spec/holderIdentity").cloned().unwrap_or_else(|| "".into());
        vec![table::name(object), holder, table::age(object, now)]
    }
}

/// PriorityClasses.
#[derive(Debug, Default)]
pub struct PriorityClass;

/// The highest priority that people may give.
const PRIORITY_MAX: i64 = 1_000_000_000;
/// The classes of the system: name and priority.
pub const SYSTEM_PRIORITIES: &[(&str, i64)] =
    &[("system-node-critical", 2_000_001_000), ("system-cluster-critical", 2_000_000_000)];

impl Strategy for PriorityClass {
    fn has_generation(&self) -> bool {
        true
    }

    /// It bears one, and nothing counts it.
    fn generation_changes(&self, _new: &Value, _old: &Value) -> bool {
        false
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let metadata = root.get("metadata");
        let (name, value) = (metadata.get("name"), root.get("value"));
        if name.text().starts_with("system-") {
            let known = SYSTEM_PRIORITIES.iter().find(|(system, _)| *system == name.text());
            let why = match known {
                None => Some(format!("{} is not a known system priority class", name.text())),
                Some((_, priority)) if value.int().unwrap_or(0) != *priority => {
                    Some(format!("value of {} PriorityClass must be {priority}", name.text()))
                }
                Some(_) if root.get("globalDefault").is_true() => {
                    Some(format!("globalDefault of {} PriorityClass must be false", name.text()))
                }
                Some(_) => None,
            };
            if let Some(why) = why {
                let reserved =
                    "priority class names with 'system-' prefix are reserved for system use only. error: ";
                errors.forbidden(&name, format!("{reserved}{why}"));
            }
        } else if value.int().is_some_and(|v| v > PRIORITY_MAX) {
            let why = format!("maximum allowed value of a user defined priority is {PRIORITY_MAX}");
            errors.forbidden(&value, why);
        }
        let policy = root.get("preemptionPolicy");
        if policy.present() {
            errors.one_of(&policy, &["PreemptLowerPriority", "Never"]);
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        let value = new.get("value");
        if value.int().unwrap_or(0) != old.get("value").int().unwrap_or(0) {
            errors.forbidden(&value, "may not be changed in an update.");
        }
        errors.immutable(&new.get("preemptionPolicy"), &old.get("preemptionPolicy"));
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Value", "integer", "Pods of a higher value go first."),
            column("Global-Default", "boolean", "Whether pods without a class get this one."),
            age(),
            column("PreemptionPolicy", "string", "Whether pods of the class may push others out."),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        vec![
            table::name(object),
            root.get("value").int().unwrap_or(0).into(),
            root.get("globalDefault").is_true().into(),
            table::age(object, now),
            root.get("preemptionPolicy").text().into(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{now, shown};
    use serde_json::json;

    fn event() -> Value {
        json!({
            "metadata": {"name": "web.1", "namespace": "d"},
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": "d", "fieldPath": "spec.containers{c}"},
            "reason": "Started", "message": " Started it\n", "type": "Normal", "count": 3,
            "source": {"component": "kubelet", "host": "n1"},
            "firstTimestamp": "2026-05-01T11:00:00Z", "lastTimestamp": "2026-05-01T11:59:50Z",
        })
    }

    #[test]
    fn events() {
        assert_eq!(Event.validate(&event()), []);
        assert_eq!(
            Event.cells(&event(), now()),
            [
                json!("10s"),
                json!("Normal"),
                json!("Started"),
                json!("pod/web"),
                json!("spec.containers{c}"),
                json!("kubelet, n1"),
                json!("Started it"),
                json!("60m"),
                json!(3),
                json!("web.1")
            ]
        );
        assert_eq!(Event.columns().len(), 10);
        let mut new = json!({
            "metadata": {"name": "e", "namespace": "d"}, "eventTime": "2026-05-01T11:59:00.000000Z",
            "involvedObject": {"kind": "Pod", "name": "web", "namespace": "d"}, "reason": "Killing",
            "action": "Killing", "reportingComponent": "skep.dev/agent", "reportingInstance": "n1",
        });
        assert_eq!(Event.validate(&new), []);
        assert_eq!(Event.cells(&new, now())[..3], [json!("60s"), json!(""), json!("Killing")]);
        for (field, value, wrong) in [
            ("action", json!(""), "action: Required value"),
            ("reportingComponent", json!("a b"), "reportingComponent: Invalid value: \"a b\""),
            (
                "reportingInstance",
                json!("x".repeat(129)),
                "reportingInstance: Invalid value: \"\": can have at most 128",
            ),
            (
                "message",
                json!("x".repeat(1025)),
                "message: Invalid value: \"\": can have at most 1024 characters",
            ),
        ] {
            let before = new[field].take();
            new[field] = value;
            let text = shown(&Event.validate(&new));
            assert!(text.starts_with(wrong), "{text}");
            new[field] = before;
        }
        let mut elsewhere = event();
        elsewhere["involvedObject"]["namespace"] = "x".into();
        assert!(
            shown(&Event.validate(&elsewhere))
                .starts_with("involvedObject.namespace: Invalid value: \"x\": does not")
        );
        elsewhere["involvedObject"]["namespace"] = "".into();
        assert!(!Event.validate(&elsewhere).is_empty());
        elsewhere["metadata"]["namespace"] = "default".into();
        assert_eq!(Event.validate(&elsewhere), []);
    }

    #[test]
    fn leases_and_priorities() {
        for (spec, wrong) in [
            (json!({"leaseDurationSeconds": 40, "leaseTransitions": 0}), ""),
            (
                json!({"leaseDurationSeconds": 0}),
                "spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0",
            ),
            (
                json!({"leaseTransitions": -1}),
                "spec.leaseTransitions: Invalid value: -1: must be greater than or equal",
            ),
            (
                json!({"preferredHolder": "a"}),
                "spec.preferredHolder: Forbidden: may only be specified if `strategy`",
            ),
        ] {
            let text = shown(&Lease.validate(&json!({"spec": spec})));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{text}");
        }
        let class = |name: &str, value: i64| json!({"metadata": {"name": name}, "value": value});
        for (object, wrong) in [
            (class("high", 1000), ""),
            (class("system-node-critical", 2_000_001_000), ""),
            (
                class("high", 1_000_000_001),
                "value: Forbidden: maximum allowed value of a user defined priority",
            ),
            (class("system-mine", 1), "metadata.name: Forbidden: priority class names with 'system-' prefix"),
            (class("system-node-critical", 1), "metadata.name: Forbidden"),
        ] {
            let text = shown(&PriorityClass.validate_create(&object));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{text}");
        }
        let text = shown(&PriorityClass.validate_update(&class("high", 2), &class("high", 1)));
        assert_eq!(text, "value: Forbidden: may not be changed in an update.");
    }

    #[test]
    fn service_accounts_keep_names_alone() {
        let mut account = json!({"secrets": [{"name": "a", "namespace": "b", "uid": "c"}]});
        ServiceAccount.prepare_update(&mut account, &json!({}));
        assert_eq!(account["secrets"], json!([{"name": "a"}]));
    }
}
