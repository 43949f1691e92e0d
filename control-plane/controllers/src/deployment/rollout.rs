//! How many replicas each ReplicaSet of a Deployment should have now.

use super::model::{DESIRED, Deployment, MAX, ReplicaSet};

/// One set and the size it should get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Scale {
    pub(super) name: String,
    pub(super) from: i64,
    pub(super) to: i64,
}

fn total<'a>(sets: impl IntoIterator<Item = &'a ReplicaSet>) -> i64 {
    sets.into_iter().map(ReplicaSet::replicas).sum()
}

fn scale(set: &ReplicaSet, to: i64) -> Option<Scale> {
    let to = to.max(0);
    (set.replicas() != to).then(|| Scale { name: set.name().to_owned(), from: set.replicas(), to })
}

/// How many replicas the new set may have now (`NewRSNewReplicas`).
pub(super) fn new_size(deployment: &Deployment, all: i64, current: i64) -> i64 {
    let want = deployment.replicas();
    if !deployment.rolling() {
        return want;
    }
    let max_total = want + deployment.fences().0;
    if all >= max_total { current } else { current + (max_total - all).min(want - current) }
}

/// Whether `spec.replicas` has changed since the sets were last sized.
pub(super) fn is_scaling(deployment: &Deployment, sets: &[&ReplicaSet]) -> bool {
    sets.iter().filter(|s| s.replicas() > 0).any(|set| {
        let desired = set.metadata.annotation(DESIRED).and_then(|d| d.parse::<i64>().ok());
        desired.is_some_and(|desired| desired != deployment.replicas())
    })
}

/// Sizes after `spec.replicas` changed, or while paused: the rollout itself does not go on.
pub(super) fn rescale(deployment: &Deployment, new: Option<&ReplicaSet>, old: &[&ReplicaSet]) -> Vec<Scale> {
    let want = deployment.replicas();
    let mut active: Vec<&ReplicaSet> =
        new.into_iter().chain(old.iter().copied()).filter(|s| s.replicas() > 0).collect();
    if active.len() <= 1 {
        // The one that is active, else the newest.
        let one = active.first().copied().or(new).or_else(|| {
            old.iter().copied().max_by_key(|s| (s.metadata.creation_timestamp, s.name().to_owned()))
        });
        return one.and_then(|set| scale(set, want)).into_iter().collect();
    }
    let saturated = new.is_some_and(|n| {
        n.replicas() == want
            && n.metadata.annotation(DESIRED).and_then(|d| d.parse().ok()) == Some(want)
            && n.status.available_replicas == want
    });
    if saturated {
        return old.iter().filter_map(|set| scale(set, 0)).collect();
    }
    if !deployment.rolling() {
        return Vec::new();
    }
    let allowed = if want > 0 { want + deployment.fences().0 } else { 0 };
    let to_add = allowed - total(active.iter().copied());
    // Larger sets first; of the same size the newer one grows and the older one shrinks first.
    active.sort_by(|a, b| {
        let by_age = a.metadata.creation_timestamp.cmp(&b.metadata.creation_timestamp);
        b.replicas().cmp(&a.replicas()).then(if to_add > 0 { by_age.reverse() } else { by_age })
    });
    let mut added = 0;
    let mut sizes: Vec<i64> = Vec::with_capacity(active.len());
    for set in &active {
        let share = proportion(deployment, set, to_add, added);
        added += share;
        sizes.push(set.replicas() + share);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    active.iter().zip(sizes).filter_map(|(set, size)| scale(set, size)).collect()
}

/// A set's share of the replicas to add or remove (`GetReplicaSetProportion`).
fn proportion(deployment: &Deployment, set: &ReplicaSet, to_add: i64, added: i64) -> i64 {
    let size = set.replicas();
    if size == 0 || to_add == 0 || to_add == added {
        return 0;
    }
    let left = to_add - added;
    let share = if deployment.replicas() == 0 {
        -size
    } else {
        let before = set.metadata.annotation(MAX).and_then(|m| m.parse::<i64>().ok()).filter(|m| *m != 0);
        let before = before.or_else(|| deployment.status["replicas"].as_i64()).unwrap_or(0);
        if before == 0 {
            0
        } else {
            let now = deployment.replicas() + deployment.fences().0;
            (size as f64 * now as f64 / before as f64).round() as i64 - size
        }
    };
    if to_add > 0 { share.min(left) } else { share.max(left) }
}

/// The next step of a rolling update: the new set grows, or else the old ones shrink.
pub(super) fn roll(deployment: &Deployment, new: &ReplicaSet, old: &[&ReplicaSet]) -> Vec<Scale> {
    let want = deployment.replicas();
    let all = new.replicas() + total(old.iter().copied());
    let size = if new.replicas() > want { want } else { new_size(deployment, all, new.replicas()) };
    if let Some(step) = scale(new, size) {
        return vec![step];
    }
    let mut left: Vec<(&ReplicaSet, i64)> =
        old.iter().map(|s| (*s, s.replicas())).filter(|(_, n)| *n > 0).collect();
    if left.is_empty() {
        return Vec::new();
    }
    left.sort_by_key(|(s, _)| (s.metadata.creation_timestamp, s.name().to_owned()));
    let min_available = want - deployment.fences().1;
    let new_unavailable = new.replicas() - new.status.available_replicas;
    let mut spare = all - min_available - new_unavailable;
    if spare <= 0 {
        return Vec::new();
    }
    // Replicas that are not available go first: they serve nobody.
    for (set, size) in &mut left {
        let unhealthy = (*size - set.status.available_replicas).clamp(0, spare);
        *size -= unhealthy;
        spare -= unhealthy;
    }
    // Then as many available ones as the others make up for.
    let available: i64 =
        new.status.available_replicas + old.iter().map(|s| s.status.available_replicas).sum::<i64>();
    let mut surplus = (available - min_available).max(0);
    for (_, size) in &mut left {
        let down = (*size).clamp(0, surplus);
        *size -= down;
        surplus -= down;
    }
    left.into_iter().filter_map(|(set, size)| scale(set, size)).collect()
}
