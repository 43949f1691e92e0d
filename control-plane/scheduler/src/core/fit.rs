//! Whether a pod fits on a node: all filters together, and what they said where it fits nowhere.

use super::model::{Node, Pod};
use super::plugins::filter::{self, Refusal};
use super::plugins::{interpod, spread};
use super::state::{Cluster, NodeInfo};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The filters for one pod, with what they count over the cluster.
#[derive(Clone)]
pub struct Fits<'a> {
    pod: &'a Pod,
    spread: spread::Hard<'a>,
    interpod: interpod::Required<'a>,
    /// Pods that use a claim that this pod needs for itself.
    rivals: i64,
}

/// Upstream's words for such a pod.
const RIVAL: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

fn rivals(pod: &Pod, other: &Pod) -> bool {
    other.meta.namespace == pod.meta.namespace
        && other.meta.uid != pod.meta.uid
        && other.claims.iter().any(|claim| pod.exclusive.contains(claim))
}

impl<'a> Fits<'a> {
    /// Counts.
    pub fn new(pod: &'a Pod, cluster: &Cluster) -> Self {
        let rivals = if pod.exclusive.is_empty() {
            0
        } else {
            cluster.pods().filter(|(_, other)| rivals(pod, other)).count()
        };
        Fits {
            pod,
            spread: spread::Hard::new(pod, cluster),
            interpod: interpod::Required::new(pod, cluster),
            rivals: i64::try_from(rivals).unwrap_or(i64::MAX),
        }
    }

    /// Counts a pod that comes to a node (`by` 1) or leaves it (-1).
    pub fn moved(&mut self, node: &Node, other: &Pod, by: i64) {
        self.spread.moved(node, other, by);
        self.interpod.moved(node, other, by);
        if rivals(self.pod, other) {
            self.rivals += by;
        }
    }

    /// Why a node will not do; none where it will. Pods of the same or higher priority for which room was made there
    /// take that room; the pod must fit with them and, since they may go elsewhere, without them too.
    pub fn refusal(&self, node: &Node, info: &NodeInfo, cluster: &Cluster) -> Option<Refusal> {
        let first = |pod: &&Arc<Pod>| pod.priority >= self.pod.priority && pod.meta.uid != self.pod.meta.uid;
        let mut waiting = cluster.nominated(&node.name).filter(first).peekable();
        if waiting.peek().is_some() {
            let (mut with, mut info) = (self.clone(), info.clone());
            for other in waiting {
                info.add(other.clone());
                with.moved(node, other, 1);
            }
            if let Some(refusal) = with.alone(node, &info) {
                return Some(refusal);
            }
        }
        self.alone(node, info)
    }

    fn alone(&self, node: &Node, info: &NodeInfo) -> Option<Refusal> {
        filter::refusal(self.pod, node, info)
            .or_else(|| (self.rivals > 0).then(|| Refusal::passing(RIVAL)))
            .or_else(|| self.spread.refusal(node))
            .or_else(|| self.interpod.refusal(node))
    }
}

/// Why a pod fits nowhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Nodes there are.
    pub total: usize,
    /// What keeps the pod off every node alike.
    pub blocked: Option<String>,
    /// What each node says.
    pub refused: BTreeMap<String, Refusal>,
}

impl Failure {
    /// As the event and the condition say it: `0/3 nodes are available: 1 Insufficient cpu, 2 node(s) were unschedulable.`
    pub fn message(&self) -> String {
        if self.total == 0 {
            return "no nodes available to schedule pods".into();
        }
        let all = self.refused.values().flat_map(|refusal| refusal.reasons.iter().map(|r| (r.as_str(), 1)));
        match &self.blocked {
            Some(why) => format!("0/{} nodes are available: {why}.", self.total),
            None => said(self.total, all),
        }
    }
}

/// Upstream's sentence about so many nodes, from reasons with the numbers of nodes that give them.
pub(super) fn said<'a>(total: usize, reasons: impl Iterator<Item = (&'a str, usize)>) -> String {
    let mut numbers: BTreeMap<&str, usize> = BTreeMap::new();
    for (reason, number) in reasons.filter(|(_, number)| *number > 0) {
        *numbers.entry(reason).or_insert(0) += number;
    }
    let mut parts: Vec<String> =
        numbers.iter().map(|(reason, number)| format!("{number} {reason}")).collect();
    parts.sort();
    format!("0/{total} nodes are available: {}.", parts.join(", "))
}
