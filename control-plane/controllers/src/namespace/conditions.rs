//! What the status of a namespace says of its deletion, as pure functions.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// What was found on one round through the resources of a namespace.
#[derive(Debug, Default)]
pub(super) struct Round {
    /// Objects that are still there, by `RESOURCE.GROUP` (the core group is empty).
    pub(super) left: BTreeMap<String, usize>,
    /// Objects that each finalizer keeps.
    pub(super) finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, and why.
    pub(super) errors: Vec<String>,
}

/// A condition: its type, and its reason and message where all is well.
const CONDITIONS: &[(&str, &str, &str)] = &[
    ("NamespaceDeletionDiscoveryFailure", "ResourcesDiscovered", "All resources successfully discovered"),
    (
        "NamespaceDeletionGroupVersionParsingFailure",
        "ParsedGroupVersions",
        "All legacy kube types successfully parsed",
    ),
    (
        "NamespaceDeletionContentFailure",
        "ContentDeleted",
        "All content successfully deleted, may be waiting on finalization",
    ),
    ("NamespaceContentRemaining", "ContentRemoved", "All content successfully removed"),
    ("NamespaceFinalizersRemaining", "ContentHasNoFinalizers", "All content-preserving finalizers finished"),
];

impl Round {
    /// Reason and message of a condition that does not hold, if so.
    fn trouble(&self, kind: &str) -> Option<(&'static str, String)> {
        let counted = |counts: &BTreeMap<String, usize>, word: &str| {
            let parts: Vec<String> = counts
                .iter()
                .map(|(name, count)| format!("{name} {word} {count} resource instances"))
                .collect();
            parts.join(", ")
        };
        match kind {
            "NamespaceDeletionContentFailure" if !self.errors.is_empty() => {
                let mut errors = self.errors.clone();
                errors.sort();
                let message = format!(
                    "Failed to delete all resource types, {} remaining: {}",
                    errors.len(),
                    errors.join(", ")
                );
                Some(("ContentDeletionFailed", message))
            }
            "NamespaceContentRemaining" if !self.left.is_empty() => Some((
                "SomeResourcesRemain",
                format!("Some resources are remaining: {}", counted(&self.left, "has")),
            )),
            "NamespaceFinalizersRemaining" if !self.finalizers.is_empty() => Some((
                "SomeFinalizersRemain",
                format!(
                    "Some content in the namespace has finalizers remaining: {}",
                    counted(&self.finalizers, "in")
                ),
            )),
            _ => None,
        }
    }

    /// The conditions of a status after this round; none where they say so already.
    pub(super) fn conditions(&self, old: &[Value], now: &str) -> Option<Vec<Value>> {
        let mut new = old.to_vec();
        for (kind, reason, message) in CONDITIONS {
            let (status, reason, message) = match self.trouble(kind) {
                Some((reason, message)) => ("True", reason, message),
                None => ("False", *reason, (*message).to_owned()),
            };
            let mut condition = json!({
                "type": kind, "status": status, "reason": reason, "message": message, "lastTransitionTime": now,
            });
            match new.iter_mut().find(|known| known["type"] == *kind) {
                Some(known) => {
                    if known["status"] == status {
                        condition["lastTransitionTime"] = known["lastTransitionTime"].clone();
                    }
                    *known = condition;
                }
                None => new.push(condition),
            }
        }
        (new != old).then_some(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of<'a>(conditions: &'a [Value], kind: &str) -> &'a Value {
        conditions.iter().find(|condition| condition["type"] == kind).unwrap()
    }

    #[test]
    fn all_is_well_in_five_conditions_said_once() {
        let first = Round::default().conditions(&[], "t1").unwrap();
        assert_eq!(first.len(), 5);
        assert!(first.iter().all(|condition| condition["status"] == "False"));
        assert_eq!(Round::default().conditions(&first, "t2"), None);
    }

    #[test]
    fn what_remains_is_counted_and_a_change_of_words_is_no_transition() {
        let round = |pods| Round {
            left: BTreeMap::from([("pods.".into(), pods), ("jobs.batch".into(), 1)]),
            finalizers: BTreeMap::from([("example.com/f".into(), 2)]),
            errors: vec!["b".into(), "a".into()],
        };
        let first = round(2).conditions(&[], "t1").unwrap();
        assert_eq!(
            of(&first, "NamespaceContentRemaining")["message"],
            "Some resources are remaining: jobs.batch has 1 resource instances, pods. has 2 resource instances"
        );
        assert_eq!(
            of(&first, "NamespaceFinalizersRemaining")["message"],
            "Some content in the namespace has finalizers remaining: example.com/f in 2 resource instances"
        );
        assert_eq!(
            of(&first, "NamespaceDeletionContentFailure")["message"],
            "Failed to delete all resource types, 2 remaining: a, b"
        );
        let second = round(1).conditions(&first, "t2").unwrap();
        assert_eq!(of(&second, "NamespaceContentRemaining")["lastTransitionTime"], "t1");
        let done = Round::default().conditions(&second, "t3").unwrap();
        assert_eq!(of(&done, "NamespaceContentRemaining")["lastTransitionTime"], "t3");
    }
}
