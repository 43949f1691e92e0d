//! What a Deployment needs, decided from it, its ReplicaSets and the instant.

use super::model::{Annotations, DESIRED, Deployment, MAX, REVISION, ReplicaSet, bare};
use super::revision::{annotations, max_revision, new_set};
use super::rollout::{Scale, is_scaling, new_size, rescale, roll};
use super::status::{Event, status};
use jiff::Timestamp;
use serde_json::Value;
use std::time::Duration;

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The new ReplicaSet, where there is none for the template.
    pub(super) create: Option<Value>,
    /// Annotations and minReadySeconds of the new set, where they differ.
    pub(super) annotate: Option<(String, Annotations, i64)>,
    /// Sizes, each with the annotations that go with it.
    pub(super) scale: Vec<Scale>,
    /// `desired-replicas` and `max-replicas` that sized sets carry.
    pub(super) sizes: (i64, i64),
    /// Sets that are older than the history that is kept.
    pub(super) delete: Vec<String>,
    /// The Deployment's revision annotation.
    pub(super) revision: Option<String>,
    /// Its status.
    pub(super) status: Value,
    /// When the progress deadline passes.
    pub(super) again: Option<Duration>,
}

/// The sets of a Deployment: the one for its template, and the others.
pub(super) fn split<'a>(
    deployment: &Deployment,
    sets: &'a [ReplicaSet],
) -> (Option<&'a ReplicaSet>, Vec<&'a ReplicaSet>) {
    let template = bare(&deployment.spec.template);
    let mut sorted: Vec<&ReplicaSet> = sets.iter().collect();
    sorted.sort_by_key(|s| (s.metadata.creation_timestamp, s.name().to_owned()));
    match sorted.iter().position(|s| s.bare_template() == template) {
        Some(at) => {
            let new = sorted.remove(at);
            (Some(new), sorted)
        }
        None => (None, sorted),
    }
}

/// Decides. `pods_left` says whether pods of old sets still run, for which a Recreate waits.
pub(super) fn plan(deployment: &Deployment, sets: &[ReplicaSet], pods_left: bool, now: Timestamp) -> Plan {
    let (new, old) = split(deployment, sets);
    let all: Vec<&ReplicaSet> = new.into_iter().chain(old.iter().copied()).collect();
    let sizes = (deployment.replicas(), deployment.replicas() + deployment.fences().0);
    let mut out = Plan { sizes, ..Plan::default() };
    let mut event = Event::None;
    let created;
    if !deployment.metadata.meta.deleting() {
        match new {
            Some(new) => {
                let revision = max_revision(old.iter().copied()) + 1;
                let wanted = annotations(deployment, new.metadata.annotations.as_ref(), revision, true);
                let present = || new.metadata.annotations.clone().unwrap_or_default();
                if wanted.is_some() || new.spec.min_ready_seconds != deployment.spec.min_ready_seconds {
                    let wanted = wanted.unwrap_or_else(present);
                    out.annotate = Some((new.name().to_owned(), wanted, deployment.spec.min_ready_seconds));
                }
                let shown =
                    out.annotate.as_ref().map_or_else(present, |(_, a, _)| a.clone()).remove(REVISION);
                out.revision = shown.filter(|r| deployment.metadata.annotation(REVISION) != Some(r));
            }
            None if may_create(deployment, &old, pods_left) => {
                let total = old.iter().map(|s| s.replicas()).sum();
                let collisions = deployment.status["collisionCount"].as_i64().unwrap_or(0);
                let revision = max_revision(old.iter().copied()) + 1;
                let set = new_set(deployment, revision, new_size(deployment, total, 0), collisions);
                created = set["metadata"]["name"].as_str().unwrap_or_default().to_owned();
                event = Event::Created(&created);
                out.revision = Some(revision.to_string());
                out.create = Some(set);
            }
            None => {}
        }
        out.scale = steps(deployment, new, &old, &all);
        out.delete = history(deployment, new, &old);
    }
    (out.status, out.again) = status(deployment, new, &all, event, now);
    out
}

/// A paused Deployment makes no new set; a Recreate waits until the old pods are gone.
fn may_create(deployment: &Deployment, old: &[&ReplicaSet], pods_left: bool) -> bool {
    let old_done = !pods_left && old.iter().all(|s| s.replicas() == 0);
    !deployment.spec.paused && !is_scaling(deployment, old) && (deployment.rolling() || old_done)
}

fn steps(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    old: &[&ReplicaSet],
    all: &[&ReplicaSet],
) -> Vec<Scale> {
    if deployment.spec.paused || is_scaling(deployment, all) {
        return rescale(deployment, new, old);
    }
    if !deployment.rolling() {
        let down: Vec<Scale> = old
            .iter()
            .filter(|s| s.replicas() > 0)
            .map(|s| Scale { name: s.name().to_owned(), from: s.replicas(), to: 0 })
            .collect();
        let up = new.filter(|n| down.is_empty() && n.replicas() != deployment.replicas());
        let up =
            up.map(|n| Scale { name: n.name().to_owned(), from: n.replicas(), to: deployment.replicas() });
        return down.into_iter().chain(up).collect();
    }
    new.map(|new| roll(deployment, new, old)).unwrap_or_default()
}

/// Old sets beyond `revisionHistoryLimit`, once the rollout is complete.
fn history(deployment: &Deployment, new: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> Vec<String> {
    let Some(limit) = deployment.spec.revision_history_limit.and_then(|l| usize::try_from(l).ok()) else {
        return Vec::new();
    };
    let complete = new.is_some_and(|n| {
        let want = deployment.replicas();
        n.status.available_replicas == want
            && n.status.replicas == want
            && old.iter().all(|s| s.status.replicas == 0)
    });
    let mut idle: Vec<&ReplicaSet> = old
        .iter()
        .copied()
        .filter(|s| {
            s.replicas() == 0
                && s.status.replicas == 0
                && s.status.observed_generation >= s.metadata.meta.generation
                && !s.metadata.meta.deleting()
        })
        .collect();
    if !complete || idle.len() <= limit {
        return Vec::new();
    }
    idle.sort_by_key(|s| s.revision());
    idle[..idle.len() - limit].iter().map(|s| s.name().to_owned()).collect()
}

/// The annotations that go with a size.
pub(super) fn size_annotations((desired, max): (i64, i64)) -> Value {
    serde_json::json!({DESIRED: desired.to_string(), MAX: max.to_string()})
}

#[cfg(test)]
mod tests;
