//! Conditions in a status (`metav1.Condition`).

use super::{At, Errors, text};
use crate::field::FieldError;
use std::collections::BTreeSet;

const REASON_MAX: usize = 1024;
const MESSAGE_MAX: usize = 32 << 10;

/// A list of conditions: each type once, and each complete.
pub fn conditions(errors: &mut Errors, list: &At<'_, '_>) {
    let mut seen = BTreeSet::new();
    for condition in list.items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        errors.text(&kind, text::qualified_name(kind.text()));
        let status = condition.get("status");
        if !matches!(status.text(), "False" | "True" | "Unknown") {
            errors.not_supported(&status, &["False", "True", "Unknown"]);
        }
        let observed = condition.get("observedGeneration");
        if observed.int().is_some_and(|generation| generation < 0) {
            errors.invalid(&observed, "must be greater than or equal to zero");
        }
        let since = condition.get("lastTransitionTime");
        if since.text().is_empty() {
            errors.required(&since, "");
        }
        let reason = condition.get("reason");
        if reason.text().is_empty() {
            errors.required(&reason, "");
        } else if !is_reason(reason.text()) {
            errors.invalid(
                &reason,
                "a condition reason must start with alphabetic character, optionally followed by a string of \
                 alphanumeric characters or '_,:', and must end with an alphanumeric character or '_' (e.g. \
                 'my_name',  or 'MY_NAME',  or 'MyName',  or 'ReasonA,ReasonB',  or 'ReasonA:ReasonB', regex used for \
                 validation is '[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?')",
            );
        }
        for (at, max) in [(&reason, REASON_MAX), (&condition.get("message"), MESSAGE_MAX)] {
            if at.text().len() > max {
                errors.push(FieldError::too_long(at.path(), max));
            }
        }
    }
}

fn is_reason(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.ends_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b',' | b':'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn each_condition_is_complete() {
        let fine = json!({"type": "Ready", "status": "True", "reason": "A,b", "lastTransitionTime": "2026-05-01T12:00:00Z"});
        let count = |list: serde_json::Value| {
            let mut errors = Errors::new();
            conditions(&mut errors, &At::root(&list));
            errors.len()
        };
        assert_eq!(count(json!([fine])), 0);
        assert_eq!(count(json!([fine, fine])), 1);
        assert_eq!(
            count(json!([{"type": "Ready", "status": "Maybe", "reason": "1", "observedGeneration": -1}])),
            4
        );
    }
}
