//! Events of the group `events.k8s.io`: those of the core group by other names, with stricter rules.

use super::small;
use crate::field::{FieldError, Path};
use crate::resource::{Column, Context, GroupResource, GroupVersionKind, Pure, Stored, Strategy};
use crate::validation::{At, Errors};
use serde_json::Value;
use std::sync::Arc;

/// Names of fields: here, and in the core group.
const NAMES: &[(&str, &str)] = &[
    ("regarding", "involvedObject"),
    ("note", "message"),
    ("reportingController", "reportingComponent"),
    ("deprecatedSource", "source"),
    ("deprecatedFirstTimestamp", "firstTimestamp"),
    ("deprecatedLastTimestamp", "lastTimestamp"),
    ("deprecatedCount", "count"),
];

fn renamed(
    mut event: Value,
    api_version: &str,
    names: impl Iterator<Item = (&'static str, &'static str)>,
) -> Value {
    if let Some(top) = event.as_object_mut() {
        top.insert("apiVersion".into(), api_version.into());
        for (from, to) in names {
            if let Some(value) = top.remove(from) {
                top.insert(to.into(), value);
            }
        }
    }
    event
}

fn to_core(event: Value) -> Value {
    renamed(event, "v1", NAMES.iter().copied())
}

fn from_core(event: Value) -> Value {
    renamed(event, "events.k8s.io/v1", NAMES.iter().map(|(here, core)| (*core, *here)))
}

/// They lie among those of the core group.
pub(super) fn stored() -> Stored {
    let pure = Pure { to_served: from_core, to_stored: to_core };
    Stored::new(GroupResource::new("", "events"), GroupVersionKind::new("", "v1", "Event"), Arc::new(pure))
}

/// `events.k8s.io/v1` Events. Errors name fields as the core group does, as upstream's do.
#[derive(Debug, Default)]
pub struct Event;

/// A series, if there is one, has begun.
fn series(errors: &mut Errors, root: &At<'_, '_>) {
    let series = root.get("series");
    if !series.present() {
        return;
    }
    if series.get("count").int().unwrap_or(0) < 2 {
        errors.push(FieldError::invalid("series.count", "".into(), "should be at least 2"));
    }
    if !series.get("lastObservedTime").present() {
        errors.push(FieldError::required("series.lastObservedTime", ""));
    }
}

impl Strategy for Event {
    fn prepare_create(&self, _object: &mut Value, _context: &Context<'_>) {}

    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = small::Event.validate(&to_core(object.clone()));
        for error in &mut errors {
            if error.path.as_str() == "reportingComponent" {
                error.path = Path::new("reportingController");
            }
        }
        errors
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let event = to_core(object.clone());
        let (root, mut errors) = (At::root(&event), Errors::new());
        series(&mut errors, &root);
        if !root.get("eventTime").present() {
            errors.required(&root.get("eventTime"), "");
        }
        let kind = root.get("type");
        if !matches!(kind.text(), "Normal" | "Warning") {
            let why = format!("has invalid value: {}", kind.text());
            errors.push(FieldError::invalid("type", "".into(), why));
        }
        let source = root.get("source");
        let told = [source.get("component"), source.get("host")].iter().any(|at| !at.text().is_empty());
        for (name, set) in [
            ("firstTimestamp", root.get("firstTimestamp").present()),
            ("lastTimestamp", root.get("lastTimestamp").present()),
            ("count", root.get("count").int().unwrap_or(0) != 0),
            ("source", told),
        ] {
            if set {
                errors.push(FieldError::invalid(name, "".into(), "needs to be unset"));
            }
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let (new, old) = (to_core(new.clone()), to_core(old.clone()));
        let (new, old, mut errors) = (At::root(&new), At::root(&old), Errors::new());
        if !crate::validation::same(new.get("series").value(), old.get("series").value()) {
            series(&mut errors, &new);
        }
        for name in [
            "involvedObject",
            "reason",
            "message",
            "source",
            "firstTimestamp",
            "lastTimestamp",
            "count",
            "type",
            "eventTime",
            "action",
            "related",
            "reportingInstance",
        ] {
            errors.immutable(&new.get(name), &old.get(name));
        }
        let mut errors = errors.done();
        let by = "reportingComponent";
        if !crate::validation::same(new.get(by).value(), old.get(by).value()) {
            let value = new.get(by).json();
            errors.push(FieldError::invalid("reportingController", value, crate::validation::IMMUTABLE));
        }
        errors
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        small::Event.columns()
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        small::Event.cells(&to_core(object.clone()), now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{now, shown};
    use serde_json::json;

    fn event() -> Value {
        json!({
            "apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": "e", "namespace": "d"},
            "eventTime": "2026-05-01T11:59:00.000000Z", "reportingController": "skep.dev/agent",
            "reportingInstance": "n1", "action": "Killing", "reason": "Killing", "type": "Normal", "note": "It goes.",
            "regarding": {"kind": "Pod", "name": "web", "namespace": "d"},
        })
    }

    #[test]
    fn an_event_has_the_same_facts_in_both_groups() {
        let mut event = event();
        event["deprecatedSource"] = json!({"component": "c"});
        event["deprecatedFirstTimestamp"] = "2026-05-01T11:59:00Z".into();
        event["deprecatedLastTimestamp"] = "2026-05-01T11:59:30Z".into();
        event["deprecatedCount"] = 3.into();
        event["series"] = json!({"count": 2, "lastObservedTime": "2026-05-01T11:59:00.000000Z"});
        let core = to_core(event.clone());
        assert_eq!(
            core,
            json!({
                "apiVersion": "v1", "kind": "Event", "metadata": {"name": "e", "namespace": "d"},
                "eventTime": "2026-05-01T11:59:00.000000Z", "reportingComponent": "skep.dev/agent",
                "reportingInstance": "n1", "action": "Killing", "reason": "Killing", "type": "Normal",
                "message": "It goes.", "involvedObject": {"kind": "Pod", "name": "web", "namespace": "d"},
                "source": {"component": "c"}, "firstTimestamp": "2026-05-01T11:59:00Z",
                "lastTimestamp": "2026-05-01T11:59:30Z", "count": 3,
                "series": {"count": 2, "lastObservedTime": "2026-05-01T11:59:00.000000Z"},
            })
        );
        assert_eq!(from_core(core), event);
    }

    #[test]
    fn new_events_are_held_to_more() {
        assert_eq!(Event.validate(&event()), []);
        assert_eq!(Event.validate_create(&event()), []);
        for (field, value, wrong) in [
            ("eventTime", Value::Null, "eventTime: Required value"),
            ("type", json!("Other"), "type: Invalid value: \"\": has invalid value: Other"),
            ("deprecatedCount", json!(1), "count: Invalid value: \"\": needs to be unset"),
            ("deprecatedSource", json!({"host": "n"}), "source: Invalid value: \"\": needs to be unset"),
            (
                "series",
                json!({"count": 1}),
                "series.count: Invalid value: \"\": should be at least 2; series.lastObservedTime: Required value",
            ),
        ] {
            let mut event = event();
            event[field] = value;
            assert_eq!(shown(&Event.validate_create(&event)), wrong);
        }
        let mut nobody = event();
        nobody["reportingController"] = "".into();
        assert!(shown(&Event.validate(&nobody)).starts_with("reportingController: Required value"));
    }

    #[test]
    fn only_the_series_of_an_event_goes_on() {
        let mut new = event();
        new["series"] = json!({"count": 2, "lastObservedTime": "2026-05-01T11:59:00.000000Z"});
        assert_eq!(Event.validate_update(&new, &event()), []);
        new["note"] = "Other.".into();
        new["reportingController"] = "other".into();
        assert_eq!(
            shown(&Event.validate_update(&new, &event())),
            "message: Invalid value: \"Other.\": field is immutable; \
             reportingController: Invalid value: \"other\": field is immutable"
        );
        assert_eq!(Event.cells(&event(), now())[3], "pod/web");
    }
}
