//! Who owns whom, and what follows from an owner's end. No I/O: whoever holds the graph acts.

use skep_api::Meta;
use skep_api::meta::OwnerReference;
use std::collections::{BTreeSet, HashMap, HashSet};

pub(super) type Uid = Box<str>;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";

/// An object as the graph knows it.
#[derive(Clone, Debug)]
pub(super) struct Node {
    /// Index of its resource in the configuration.
    pub(super) resource: usize,
    pub(super) meta: Meta,
}

impl Node {
    fn waits_for(&self, finalizer: &str) -> bool {
        self.meta.deleting() && self.meta.finalizers.iter().any(|f| **f == *finalizer)
    }

    fn owner(&self, uid: &str) -> Option<&OwnerReference> {
        self.meta.owner_references.iter().find(|o| *o.uid == *uid)
    }
}

/// What is to be done about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing.
    Keep,
    /// These owners are not in the graph: look whether they exist.
    Look(Vec<OwnerReference>),
    /// No owner is left: delete it, and its dependents after it or before it.
    Delete { foreground: bool },
    /// Some owners are gone, others are not: forget these.
    Disown(Vec<Uid>),
    /// Its dependents go first: delete these, and wait.
    Clear(Vec<Uid>),
    /// It waits for a dependent that, over others, waits for it: it must not block its owners any longer.
    Unblock,
    /// All dependents that block are gone: take this finalizer off.
    Release(&'static str),
    /// Its dependents stay: take this owner off each, then take the finalizer off.
    Free(Vec<Uid>),
}

/// All objects with their owners.
#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<Uid, Node>,
    dependents: HashMap<Uid, BTreeSet<Uid>>,
    /// Owners that are known not to exist. A uid is never used again, so this stays true.
    absent: HashSet<Uid>,
}

impl Graph {
    pub(super) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    fn dependents_of(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents.get(uid).into_iter().flatten().filter_map(|d| self.nodes.get(d))
    }

    /// Takes note of an object; answers which objects need a verdict now.
    pub(super) fn upsert(&mut self, resource: usize, meta: &Meta) -> Vec<Uid> {
        let uid = meta.uid.clone();
        let mut affected = vec![uid.clone()];
        if let Some(old) = self.nodes.get(&uid) {
            let gone: Vec<Uid> = old.meta.owner_references.iter().map(|o| o.uid.clone()).collect();
            for owner in gone.iter().filter(|o| meta.owner_references.iter().all(|n| n.uid != **o)) {
                if let Some(set) = self.dependents.get_mut(owner) {
                    set.remove(&uid);
                }
                affected.push(owner.clone()); // it may have waited for this one
            }
            let blocked = |meta: &Meta, owner: &str| {
                meta.owner_references.iter().any(|o| *o.uid == *owner && o.block_owner_deletion == Some(true))
            };
            affected.extend(gone.into_iter().filter(|o| blocked(&old.meta, o) && !blocked(meta, o)));
        }
        for owner in &meta.owner_references {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        self.absent.remove(&uid);
        self.nodes.insert(uid, Node { resource, meta: meta.clone() });
        affected
    }

    /// Forgets the objects of a resource that is no longer followed. Not known any more is not the same as gone: nothing
    /// follows for those that they own.
    pub(super) fn forget(&mut self, resource: usize) {
        let known: Vec<Uid> = self
            .nodes
            .iter()
            .filter(|(_, node)| node.resource == resource)
            .map(|(uid, _)| uid.clone())
            .collect();
        for uid in known {
            let Some(node) = self.nodes.remove(&uid) else { continue };
            for owner in &node.meta.owner_references {
                if let Some(set) = self.dependents.get_mut(&owner.uid) {
                    set.remove(&uid);
                }
            }
        }
        self.dependents.retain(|_, set| !set.is_empty());
    }

    /// Takes note that an object is gone; answers which objects need a verdict now.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Uid> {
        let mut affected = Vec::new();
        if let Some(node) = self.nodes.remove(uid) {
            for owner in &node.meta.owner_references {
                if let Some(set) = self.dependents.get_mut(&owner.uid) {
                    set.remove(uid);
                    if set.is_empty() && !self.nodes.contains_key(&owner.uid) {
                        self.dependents.remove(&owner.uid);
                        self.absent.remove(&owner.uid);
                    }
                }
                affected.push(owner.uid.clone());
            }
        }
        let orphans: Vec<Uid> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if orphans.is_empty() {
            self.dependents.remove(uid);
        } else {
            self.absent.insert(uid.into());
        }
        affected.extend(orphans);
        affected
    }

    /// Takes note that an owner does not exist (any more).
    pub(super) fn is_absent(&mut self, uid: &str) {
        self.absent.insert(uid.into());
    }

    /// What is to be done about an object now.
    pub(super) fn verdict(&self, uid: &str) -> Verdict {
        let Some(node) = self.nodes.get(uid) else { return Verdict::Keep };
        if node.waits_for(ORPHAN) {
            let dependents: Vec<Uid> = self.dependents_of(uid).map(|d| d.meta.uid.clone()).collect();
            return if dependents.is_empty() { Verdict::Release(ORPHAN) } else { Verdict::Free(dependents) };
        }
        if node.waits_for(FOREGROUND) {
            return self.foreground(uid);
        }
        if node.meta.deleting() || node.meta.owner_references.is_empty() {
            return Verdict::Keep;
        }
        let (mut solid, mut waiting, mut gone, mut unknown) = (0, 0, Vec::new(), Vec::new());
        for owner in &node.meta.owner_references {
            match self.nodes.get(&owner.uid) {
                Some(o) if o.waits_for(FOREGROUND) && owner.block_owner_deletion == Some(true) => {
                    waiting += 1
                }
                // An owner of another namespace is none: nothing but an error points there.
                Some(o) if o.meta.namespace.is_empty() || o.meta.namespace == node.meta.namespace => {
                    solid += 1
                }
                Some(_) => gone.push(owner.uid.clone()),
                None if self.absent.contains(&owner.uid) => gone.push(owner.uid.clone()),
                None => unknown.push(owner.clone()),
            }
        }
        if !unknown.is_empty() {
            return Verdict::Look(unknown);
        }
        match (solid, waiting, gone.is_empty()) {
            (0, _, _) => {
                Verdict::Delete { foreground: waiting > 0 && self.dependents_of(uid).next().is_some() }
            }
            (_, 0, true) => Verdict::Keep,
            _ => {
                let waiting = node.meta.owner_references.iter().filter(|o| {
                    self.nodes.get(&o.uid).is_some_and(|n| n.waits_for(FOREGROUND))
                        && o.block_owner_deletion == Some(true)
                });
                gone.extend(waiting.map(|o| o.uid.clone()));
                Verdict::Disown(gone)
            }
        }
    }

    fn blocking(&self, uid: &str) -> impl Iterator<Item = &Node> {
        self.dependents_of(uid)
            .filter(move |d| d.owner(uid).is_some_and(|o| o.block_owner_deletion == Some(true)))
    }

    /// Whether an object waits, over dependents that block and wait themselves, for itself.
    fn in_circle(&self, uid: &str) -> bool {
        let mut seen: HashSet<&str> = HashSet::new();
        let mut open: Vec<&Node> = self.blocking(uid).collect();
        while let Some(node) = open.pop() {
            if *node.meta.uid == *uid {
                return true;
            }
            if node.waits_for(FOREGROUND) && seen.insert(&node.meta.uid) {
                open.extend(self.blocking(&node.meta.uid));
            }
        }
        false
    }

    /// An object whose dependents go before it.
    fn foreground(&self, uid: &str) -> Verdict {
        if self.blocking(uid).next().is_none() {
            return Verdict::Release(FOREGROUND);
        }
        if self.in_circle(uid) {
            return Verdict::Unblock;
        }
        let left = self.dependents_of(uid).filter(|d| !d.meta.deleting());
        Verdict::Clear(left.map(|d| d.meta.uid.clone()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(uid: &str, owners: &[(&str, bool)], finalizer: Option<&str>) -> Meta {
        Meta {
            name: uid.into(),
            namespace: "d".into(),
            uid: uid.into(),
            deletion_timestamp: finalizer.map(|_| "2026-01-01T00:00:00Z".into()),
            finalizers: finalizer.into_iter().map(Into::into).collect(),
            owner_references: owners
                .iter()
                .map(|(uid, blocks)| OwnerReference {
                    uid: (*uid).into(),
                    name: (*uid).into(),
                    block_owner_deletion: Some(*blocks),
                    ..OwnerReference::default()
                })
                .collect(),
            ..Meta::default()
        }
    }

    fn graph(rows: &[Meta]) -> Graph {
        let mut graph = Graph::default();
        for row in rows {
            graph.upsert(0, row);
        }
        graph
    }

    #[test]
    fn dependents_follow_their_last_owner() {
        let mut g =
            graph(&[meta("a", &[], None), meta("b", &[("a", true)], None), meta("c", &[("b", true)], None)]);
        assert_eq!(g.verdict("b"), Verdict::Keep);
        assert_eq!(g.remove("a"), ["b".into()] as [Uid; 1]);
        assert_eq!(g.verdict("b"), Verdict::Delete { foreground: false });
        assert_eq!(g.verdict("c"), Verdict::Keep);
    }

    #[test]
    fn one_owner_left_is_enough() {
        let mut g = graph(&[
            meta("a", &[], None),
            meta("z", &[], None),
            meta("b", &[("a", true), ("z", true)], None),
        ]);
        g.remove("a");
        assert_eq!(g.verdict("b"), Verdict::Disown(vec!["a".into()]));
    }

    #[test]
    fn an_owner_nobody_has_seen_is_looked_for_first() {
        let mut g = graph(&[meta("b", &[("a", true)], None)]);
        assert!(matches!(g.verdict("b"), Verdict::Look(owners) if *owners[0].uid == *"a"));
        g.is_absent("a");
        assert_eq!(g.verdict("b"), Verdict::Delete { foreground: false });
    }

    #[test]
    fn foreground_waits_for_those_that_block() {
        let mut g = graph(&[
            meta("a", &[], Some(FOREGROUND)),
            meta("b", &[("a", true)], None),
            meta("c", &[("a", false)], None),
        ]);
        assert_eq!(g.verdict("a"), Verdict::Clear(vec!["b".into(), "c".into()]));
        assert_eq!(g.verdict("b"), Verdict::Delete { foreground: false });
        assert_eq!(g.remove("b"), ["a".into()] as [Uid; 1]);
        assert_eq!(g.verdict("a"), Verdict::Release(FOREGROUND));
    }

    #[test]
    fn a_chain_goes_from_its_end() {
        let g = graph(&[
            meta("a", &[], Some(FOREGROUND)),
            meta("b", &[("a", true)], None),
            meta("c", &[("b", true)], None),
        ]);
        assert_eq!(g.verdict("b"), Verdict::Delete { foreground: true });
    }

    #[test]
    fn a_circle_is_broken_by_who_closes_it() {
        let circle = [("a", "c"), ("b", "a"), ("c", "b")];
        let mut g = graph(&circle.map(|(uid, owner)| meta(uid, &[(owner, true)], None)));
        g.upsert(0, &meta("a", &[("c", true)], Some(FOREGROUND)));
        assert_eq!(g.verdict("b"), Verdict::Delete { foreground: true });
        g.upsert(0, &meta("b", &[("a", true)], Some(FOREGROUND)));
        assert_eq!(g.verdict("b"), Verdict::Clear(vec!["c".into()]));
        g.upsert(0, &meta("c", &[("b", true)], Some(FOREGROUND)));
        assert_eq!(g.verdict("c"), Verdict::Unblock);
        let affected = g.upsert(0, &meta("c", &[("b", false)], Some(FOREGROUND)));
        assert!(affected.contains(&"b".into()), "{affected:?}");
        assert_eq!(g.verdict("b"), Verdict::Release(FOREGROUND));
        assert_eq!(g.remove("b"), ["a".into(), "c".into()] as [Uid; 2]);
        assert_eq!(g.verdict("a"), Verdict::Release(FOREGROUND));
        g.remove("a");
        assert_eq!(g.verdict("c"), Verdict::Release(FOREGROUND));
    }

    #[test]
    fn orphans_lose_their_owner_before_it_goes() {
        let mut g = graph(&[meta("a", &[], Some(ORPHAN)), meta("b", &[("a", true)], None)]);
        assert_eq!(g.verdict("a"), Verdict::Free(vec!["b".into()]));
        assert!(g.upsert(0, &meta("b", &[], None)).contains(&"a".into()));
        assert_eq!(g.verdict("a"), Verdict::Release(ORPHAN));
        assert_eq!(g.verdict("b"), Verdict::Keep);
    }

    #[test]
    fn what_is_no_longer_followed_is_not_gone() {
        let mut graph = Graph::default();
        graph.upsert(0, &meta("a", &[], None));
        graph.upsert(1, &meta("b", &[("a", true)], None));
        assert_eq!(graph.verdict("b"), Verdict::Keep);
        graph.forget(0);
        assert!(matches!(graph.verdict("b"), Verdict::Look(_)));
        graph.forget(1);
        assert!(graph.nodes.is_empty() && graph.dependents.is_empty());
    }
}
