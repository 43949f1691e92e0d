//! RuntimeClasses: which runtime a pod runs in, what that costs, and where it is.

use super::columns::{age, name};
use crate::field::FieldError;
use crate::names::dns1123_label;
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::resources::{Level, requirements};
use crate::validation::{At, Errors, labels};
use serde_json::{Value, json};

/// RuntimeClasses.
#[derive(Debug, Default)]
pub struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        errors.required_text(&root.get("handler"), |handler| dns1123_label(handler, false));
        let (overhead, scheduling) = (root.get("overhead"), root.get("scheduling"));
        if let Some(fixed) = overhead.get("podFixed").value() {
            let limits = json!({"limits": fixed});
            requirements(&mut errors, &overhead.with_value(Some(&limits)), Level::Container);
        }
        labels(&mut errors, &scheduling.get("nodeSelector"));
        let tolerations = scheduling.get("tolerations");
        super::pod::tolerations(&mut errors, &tolerations);
        let key = |at: &At<'_, '_>| {
            ["key", "operator", "value", "effect"].map(|field| at.get(field).text().to_owned())
        };
        let mut seen = std::collections::BTreeSet::new();
        for toleration in tolerations.items() {
            if !seen.insert(key(&toleration)) {
                errors.duplicate(&toleration);
            }
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        errors.immutable(&new.get("handler"), &old.get("handler"));
        errors.done()
    }

    fn create_on_update(&self) -> bool {
        true
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Handler", "string", "What the runtime is called on nodes."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let handler = At::root(object).get("handler").text().into();
        vec![table::name(object), handler, table::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{now, shown};

    #[test]
    fn runtime_classes() {
        let same = json!({"key": "a", "operator": "Exists"});
        for (class, wrong) in [
            (json!({"handler": "runsc", "overhead": {"podFixed": {"cpu": "250m"}}}), ""),
            (
                json!({"handler": "runsc", "scheduling": {"nodeSelector": {"a": "b"}, "tolerations": [same]}}),
                "",
            ),
            (json!({}), "handler: Required value"),
            (
                json!({"handler": "runsc", "overhead": {"podFixed": {"pods": "1"}}}),
                "overhead.limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ),
            (
                json!({"handler": "runsc", "scheduling": {"tolerations": [same, same]}}),
                "scheduling.tolerations[1]: Duplicate value: {\"key\":\"a\",\"operator\":\"Exists\"}",
            ),
        ] {
            assert_eq!(shown(&RuntimeClass.validate(&class)), wrong, "{class}");
        }
        let (old, new) = (json!({"handler": "a"}), json!({"handler": "b"}));
        assert_eq!(
            shown(&RuntimeClass.validate_update(&new, &old)),
            "handler: Invalid value: \"b\": field is immutable"
        );
        let class =
            json!({"metadata": {"name": "c", "creationTimestamp": "2026-05-01T11:59:00Z"}, "handler": "h"});
        assert_eq!(RuntimeClass.cells(&class, now()), ["c", "h", "60s"]);
    }
}
