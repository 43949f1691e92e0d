//! What a DaemonSet needs, decided from the set, its pods, the nodes and the instant.

use super::model::{DaemonSet, Fit, Node, SetStatus, target};
use super::rolling::{self, rolling_update};
use crate::views::{Availability, Pod};
use jiff::Timestamp;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// No more pods than this are created or deleted at once.
pub(super) const BURST: usize = 250;

/// One set, its pods and the nodes.
pub(super) struct Input<'a> {
    pub(super) set: &'a DaemonSet,
    pub(super) nodes: &'a [Node],
    /// The pods of the set, those that are not its own left out.
    pub(super) pods: &'a [Pod],
    /// The hash of the present template.
    pub(super) hash: &'a str,
    pub(super) collisions: i64,
    pub(super) now: Timestamp,
    /// How long a node whose pod failed has to wait still.
    pub(super) backoff: &'a dyn Fn(&str) -> Option<Duration>,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Nodes that need a pod.
    pub(super) create: Vec<String>,
    /// Pods to delete.
    pub(super) delete: Vec<String>,
    /// Nodes whose pod failed and is deleted for that.
    pub(super) failed: Vec<String>,
    /// What to tell: whether it is bad, the reason, the message.
    pub(super) events: Vec<(bool, &'static str, String)>,
    pub(super) status: SetStatus,
    /// When something changes by time alone.
    pub(super) again: Option<Duration>,
}

impl Plan {
    fn come_back(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |known| known.min(after)));
    }
}

/// The pods of a node, the one that counts first.
pub(super) type ByNode<'a> = BTreeMap<&'a str, Vec<&'a Pod>>;

impl Input<'_> {
    pub(super) fn available(&self, pod: &Pod) -> bool {
        let least = Duration::from_secs(self.set.spec.min_ready_seconds);
        pod.available(least, self.now) == Availability::Now
    }
}

/// Decides.
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let placement = input.set.placement();
    let fits: BTreeMap<&str, Fit> =
        input.nodes.iter().map(|node| (&*node.metadata.name, placement.fit(node))).collect();
    let by_node = by_node(input.pods);
    plan.status = status(input, &fits, &by_node);
    for (node, fit) in &fits {
        match (fit, by_node.get(node)) {
            (Fit::Run, None) => plan.create.push((*node).to_owned()),
            (Fit::Run | Fit::Keep, pods) => {
                let pods = pods.map(Vec::as_slice).unwrap_or_default();
                one_a_node(input, node, *fit, pods, &mut plan);
            }
            (Fit::Leave, Some(pods)) => plan.delete.extend(staying(pods).map(name)),
            (Fit::Leave, None) => {}
        }
    }
    // Pods for nodes that are gone would wait for ever.
    let lost = by_node.iter().filter(|(node, _)| !fits.contains_key(*node)).flat_map(|(_, pods)| pods);
    plan.delete.extend(lost.filter(|p| p.spec.node_name.is_empty()).map(|p| name(p)));
    if plan.create.is_empty() && plan.delete.is_empty() && input.set.rolling() {
        let wanted = plan.status.desired_number_scheduled;
        let rolling::Steps { create, delete } = rolling_update(input, &fits, by_node, wanted);
        (plan.create, plan.delete) = (create, delete);
    }
    plan.create.truncate(BURST);
    plan.delete.truncate(BURST);
    let least = Duration::from_secs(input.set.spec.min_ready_seconds);
    for pod in input.pods {
        if let Availability::In(left) = pod.available(least, input.now) {
            plan.come_back(left);
        }
    }
    plan
}

pub(super) fn name(pod: &Pod) -> String {
    pod.meta().name.to_string()
}

fn staying<'a>(pods: &'a [&'a Pod]) -> impl Iterator<Item = &'a Pod> {
    pods.iter().copied().filter(|pod| !pod.meta().deleting())
}

/// The pods by the node they are on or meant for: bound ones first, then by age.
fn by_node(pods: &[Pod]) -> ByNode<'_> {
    let mut out = ByNode::new();
    for pod in pods.iter().filter(|pod| !(pod.is_finished() && pod.meta().deleting())) {
        if let Some(node) = target(pod) {
            out.entry(node).or_default().push(pod);
        }
    }
    for pods in out.values_mut() {
        let rank = |p: &&Pod| (p.spec.node_name.is_empty(), p.metadata.creation_timestamp, name(p));
        pods.sort_by_cached_key(rank);
    }
    out
}

/// Sees to it that a node has one pod, or two while one replaces the other.
fn one_a_node(input: &Input<'_>, node: &str, fit: Fit, pods: &[&Pod], plan: &mut Plan) {
    let mut running = Vec::new();
    for pod in staying(pods) {
        let who = format!("{}/{} on node {node}", pod.meta().namespace, pod.meta().name);
        match pod.status.phase.as_str() {
            "Failed" => {
                if let Some(left) = (input.backoff)(node) {
                    plan.come_back(left);
                    continue;
                }
                plan.failed.push(node.to_owned());
                let message = format!("Found failed daemon pod {who}, will try to kill it");
                plan.events.push((true, "FailedDaemonPod", message));
                plan.delete.push(name(pod));
            }
            "Succeeded" => {
                let message = format!("Found succeeded daemon pod {who}, will try to delete it");
                plan.events.push((false, "SucceededDaemonPod", message));
                plan.delete.push(name(pod));
            }
            _ => running.push(pod),
        }
    }
    if input.set.max_surge(1) == 0 {
        plan.delete.extend(running.iter().skip(1).map(|p| name(p)));
        return;
    }
    if running.is_empty() {
        if fit == Fit::Run {
            plan.create.push(node.to_owned());
        }
        return;
    }
    // Two may be there: a new one that is not available yet and an old one that is ready.
    let (mut new, mut old) = (None, None);
    for pod in running {
        let updated = pod.meta().labels.get(super::model::HASH_LABEL).is_some_and(|l| **l == *input.hash);
        let first = if updated { &mut new } else { &mut old };
        match first {
            None => *first = Some(pod),
            Some(_) => plan.delete.push(name(pod)),
        }
    }
    if let (Some(new), Some(old)) = (new, old)
        && (!old.is_ready() || input.available(new))
    {
        plan.delete.push(name(old));
    }
}

fn status(input: &Input<'_>, fits: &BTreeMap<&str, Fit>, by_node: &ByNode<'_>) -> SetStatus {
    let mut status = SetStatus {
        observed_generation: input.set.metadata.meta.generation,
        collision_count: input.collisions,
        ..SetStatus::default()
    };
    for (node, fit) in fits {
        let first = by_node.get(node).and_then(|pods| pods.first());
        match (fit, first) {
            (Fit::Run, None) => status.desired_number_scheduled += 1,
            (Fit::Run, Some(pod)) => {
                status.desired_number_scheduled += 1;
                status.current_number_scheduled += 1;
                status.number_ready += i64::from(pod.is_ready());
                status.number_available += i64::from(input.available(pod));
                status.updated_number_scheduled += i64::from(input.set.updated(pod, input.hash));
            }
            (_, Some(_)) => status.number_misscheduled += 1,
            (_, None) => {}
        }
    }
    status.number_unavailable = status.desired_number_scheduled - status.number_available;
    status
}

/// The revisions, oldest first, that are more than the limit; those that pods have stay.
pub(super) fn surplus<'a>(
    revisions: impl ExactSizeIterator<Item = (&'a str, &'a str)>,
    limit: usize,
    live: &HashSet<&str>,
) -> Vec<String> {
    let many = revisions.len().saturating_sub(limit);
    let idle = revisions.filter(|(_, hash)| !live.contains(hash));
    idle.take(many).map(|(name, _)| name.to_owned()).collect()
}

#[cfg(test)]
mod tests;
