//! Who owns the claims of a set's pods (KEP-1847): nobody where they are retained, the set while the pod is wanted,
//! the pod once it is not.

use super::model::{API_VERSION, KIND, Set};
use crate::views::controller_reference;
use serde_json::Value;
use skep_api::meta::OwnerReference;

/// What is known of a claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Claim {
    pub(super) owners: Vec<OwnerReference>,
    pub(super) deleting: bool,
}

/// The owners that a claim lacks or has too many of: those that name the set or the pod go, and this one comes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reowned {
    pub(super) claim: String,
    /// Name of the pod.
    pub(super) pod: String,
    pub(super) owner: Option<Value>,
    /// Another controller manages the claim, which is then left to it.
    pub(super) conflict: bool,
}

/// One pod of a set, as an owner of claims.
#[derive(Clone, Copy)]
pub(super) struct Holder<'a> {
    pub(super) set: &'a Set,
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    pub(super) ordinal: i64,
}

/// Whether an owner reference names an object of that kind.
pub(super) fn names(owner: &OwnerReference, api_version: &str, kind: &str, name: &str) -> bool {
    &*owner.api_version == api_version && &*owner.kind == kind && &*owner.name == name
}

impl Holder<'_> {
    fn is_set(&self, owner: &OwnerReference) -> bool {
        names(owner, API_VERSION, KIND, self.set.name())
    }

    fn is_pod(&self, owner: &OwnerReference) -> bool {
        names(owner, "v1", "Pod", self.name)
    }

    fn set_uid(&self) -> &str {
        &self.set.metadata.meta.uid
    }

    /// Whether the claim belongs to an earlier pod of that name and is about to go with it, so that no new pod may
    /// use it.
    pub(super) fn stale(&self, claim: &Claim) -> bool {
        let (_, on_scale) = self.set.retention();
        let former = claim.owners.iter().find(|o| self.is_pod(o));
        on_scale && former.is_some_and(|owner| *owner.uid != *self.uid)
    }

    /// Whether something else manages the claim.
    fn unexpected(&self, claim: &Claim) -> bool {
        if self.set.retention() == (false, false) {
            return false;
        }
        claim.owners.iter().any(|owner| {
            if self.is_set(owner) {
                *owner.uid != *self.set_uid()
            } else if self.is_pod(owner) {
                *owner.uid != *self.uid
            } else {
                owner.controller == Some(true)
            }
        })
    }

    /// Who should own the claim: whether the set, whether the pod.
    fn wanted(&self) -> (bool, bool) {
        let (on_deletion, on_scale) = self.set.retention();
        let condemned = !self.set.in_range(self.ordinal);
        (on_deletion && !(on_scale && condemned), on_scale && condemned)
    }

    /// The owner of a new claim.
    pub(super) fn owner(&self) -> Option<Value> {
        match self.wanted() {
            (true, _) => Some(self.set.owner()),
            (_, true) => Some(controller_reference("v1", "Pod", self.name, self.uid)),
            _ => None,
        }
    }

    /// What is to be done about the owners of a claim, if anything (`isClaimOwnerUpToDate`).
    pub(super) fn reown(&self, name: &str, claim: &Claim) -> Option<Reowned> {
        let stale = |is: &dyn Fn(&OwnerReference) -> bool, uid: &str| {
            claim.owners.iter().find(|o| is(o)).is_some_and(|o| *o.uid != *uid)
        };
        if stale(&|o| self.is_set(o), self.set_uid()) || stale(&|o| self.is_pod(o), self.uid) {
            return None;
        }
        let has = |uid: &str| claim.owners.iter().any(|o| *o.uid == *uid);
        let present = (has(self.set_uid()), has(self.uid));
        let out =
            |owner, conflict| Some(Reowned { claim: name.into(), pod: self.name.into(), owner, conflict });
        if self.unexpected(claim) {
            return if present == (false, false) { None } else { out(None, true) };
        }
        let ours = |o: &OwnerReference| *o.uid == *self.set_uid() || *o.uid == *self.uid;
        let manages = claim.owners.iter().filter(|o| ours(o)).all(|o| o.controller == Some(true));
        if manages && present == self.wanted() { None } else { out(self.owner(), false) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(when_deleted: &str, when_scaled: &str) -> Set {
        serde_json::from_value(json!({"metadata": {"name": "web", "uid": "s"}, "spec": {"replicas": 2,
            "persistentVolumeClaimRetentionPolicy": {"whenDeleted": when_deleted, "whenScaled": when_scaled}}}))
        .unwrap()
    }

    fn owner(kind: &str, name: &str, uid: &str) -> OwnerReference {
        let version = if kind == "Pod" { "v1" } else { API_VERSION };
        serde_json::from_value(controller_reference(version, kind, name, uid)).unwrap()
    }

    fn owners(list: &[OwnerReference]) -> Claim {
        Claim { owners: list.to_vec(), deleting: false }
    }

    #[test]
    fn claims_follow_the_policy() {
        let (by_set, by_pod) = (owner(KIND, "web", "s"), |name: &str| owner("Pod", name, "p"));
        for (deleted, scaled, ordinal, want_set, want_pod) in [
            ("Retain", "Retain", 0, false, false),
            ("Delete", "Retain", 0, true, false),
            ("Delete", "Retain", 5, true, false),
            ("Retain", "Delete", 0, false, false),
            ("Retain", "Delete", 5, false, true),
            ("Delete", "Delete", 0, true, false),
            ("Delete", "Delete", 5, false, true),
        ] {
            let set = set(deleted, scaled);
            let name = set.pod_name(ordinal);
            let holder = Holder { set: &set, name: &name, uid: "p", ordinal };
            let mut right = Vec::new();
            right.extend(want_set.then(|| by_set.clone()));
            right.extend(want_pod.then(|| by_pod(&name)));
            assert_eq!(holder.reown("c", &owners(&right)), None, "{deleted} {scaled} {ordinal}");
            let both = [by_set.clone(), by_pod(&name)];
            let change = holder.reown("c", &owners(&both)).unwrap();
            assert_eq!(change.owner.is_some(), want_set || want_pod);
            let bare = holder.reown("c", &owners(&[]));
            assert_eq!(bare.is_some(), want_set || want_pod, "{deleted} {scaled} {ordinal}");
        }
    }

    #[test]
    fn what_others_manage_is_left_alone() {
        let set = set("Delete", "Delete");
        let holder = Holder { set: &set, name: "web-0", uid: "p", ordinal: 0 };
        let other = owner("Backup", "b", "x");
        assert_eq!(holder.reown("c", &owners(std::slice::from_ref(&other))), None);
        let change = holder.reown("c", &owners(&[other, owner(KIND, "web", "s")])).unwrap();
        assert!(change.conflict && change.owner.is_none());
        // A set of the same name that is long gone.
        assert_eq!(holder.reown("c", &owners(&[owner(KIND, "web", "old")])), None);
        assert!(holder.stale(&owners(&[owner("Pod", "web-0", "former")])));
        assert!(!holder.stale(&owners(&[owner("Pod", "web-0", "p")])));
    }
}
