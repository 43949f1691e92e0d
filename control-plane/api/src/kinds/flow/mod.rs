//! FlowSchemas and PriorityLevelConfigurations (`flowcontrol.apiserver.k8s.io`), and those that a cluster always has.

mod fixed;
mod level;
mod schema;
#[cfg(test)]
mod tests;

pub use fixed::{AUTOUPDATE, mandatory, suggested};
pub use level::PriorityLevelConfiguration;
pub use schema::FlowSchema;

use crate::validation::{At, Errors};
use std::collections::BTreeSet;

/// Conditions have a type, and each type stands once.
fn conditions(errors: &mut Errors, status: &At<'_, '_>) {
    let mut seen = BTreeSet::new();
    for condition in status.get("conditions").items() {
        let kind = condition.get("type");
        if !seen.insert(kind.text()) {
            errors.duplicate(&kind);
        }
        if kind.text().is_empty() {
            errors.required(&kind, "");
        }
    }
}
