//! Which pods make room for one that the cluster cannot do without. Source: kubelet `preemption/preemption.go`.

use super::admit::{Amounts, Refusal, Rejection, is_critical, requests};
use super::resources::{Qos, qos};
use k8s_openapi::api::core::v1::Pod;
use std::collections::BTreeMap;

/// Reason of the end of a pod that made room.
pub const PREEMPTING: &str = "Preempting";
/// Its message.
pub const PREEMPTED: &str = "Preempted in order to admit critical pod";

/// A pod that may have to go: its place in the list it came from, and what it asks for.
#[derive(Debug, Clone)]
struct Candidate {
    at: usize,
    asks: Amounts,
}

impl Candidate {
    fn asks(&self, name: &str) -> i64 {
        if name == "pods" { 1 } else { self.asks.get(name).copied().unwrap_or(0) }
    }

    /// By what the field calls the smaller request: memory first, then cpu.
    fn size(&self) -> (i64, i64) {
        (self.asks("memory"), self.asks("cpu"))
    }
}

/// What is still needed, by resource.
type Need = BTreeMap<String, i64>;

fn less<'c>(need: &Need, pods: impl IntoIterator<Item = &'c Candidate>) -> Need {
    let mut left = need.clone();
    for p in pods {
        for (name, amount) in &mut left {
            *amount = amount.saturating_sub(p.asks(name));
        }
    }
    left.retain(|_, amount| *amount > 0);
    left
}

/// How far a pod is from filling the need; each resource weighs the same, whatever its unit.
fn distance(need: &Need, pod: &Candidate) -> f64 {
    need.iter()
        .map(|(name, amount)| {
            let rest = amount.saturating_sub(pod.asks(name)).max(0) as f64;
            (rest / *amount as f64).powi(2)
        })
        .sum()
}

/// Takes the pods that fill the need with the fewest and smallest; none when even all do not.
fn fewest(mut pods: Vec<Candidate>, mut need: Need) -> Option<Vec<Candidate>> {
    let mut out = Vec::new();
    while !need.is_empty() {
        let best = (0..pods.len()).min_by(|a, b| {
            let (a, b) = (pods.get(*a), pods.get(*b));
            let key = |c: Option<&Candidate>| c.map(|c| (distance(&need, c), c.size()));
            key(a).partial_cmp(&key(b)).unwrap_or(std::cmp::Ordering::Equal)
        })?;
        let taken = pods.swap_remove(best);
        need = less(&need, [&taken]);
        out.push(taken);
    }
    Some(out)
}

fn may_take_place_of(pod: &Pod, other: &Pod) -> bool {
    let priority = |p: &Pod| p.spec.as_ref().and_then(|s| s.priority);
    (is_critical(pod) && !is_critical(other))
        || matches!((priority(pod), priority(other)), (Some(a), Some(b)) if a > b)
}

/// What becomes of a pod against which something stands: the pods (by place in `others`) that must go for it, or that
/// it is refused. With nothing against it, nobody goes.
pub fn decide(pod: &Pod, refusals: &[Refusal], others: &[&Pod]) -> Result<Vec<usize>, Rejection> {
    let Some(first) = refusals.first() else { return Ok(Vec::new()) };
    if !is_critical(pod) {
        return Err(first.into());
    }
    let mut need = Need::new();
    for r in refusals {
        match r {
            // Room can be made, nothing else.
            Refusal::Unfit { .. } => return Err(r.into()),
            Refusal::Short { resource, requested, used, capacity } => {
                need.insert(resource.clone(), requested.saturating_sub(capacity.saturating_sub(*used)));
            }
        }
    }
    let of = |class: Qos| -> Vec<Candidate> {
        let all = others.iter().enumerate();
        all.filter(|(_, o)| may_take_place_of(pod, o) && o.spec.as_ref().is_some_and(|s| qos(s) == class))
            .map(|(at, o)| Candidate { at, asks: requests(o, false) })
            .collect()
    };
    let (best, burst, sure) = (of(Qos::BestEffort), of(Qos::Burstable), of(Qos::Guaranteed));
    let chosen = || {
        let sure_go = fewest(sure.clone(), less(&need, best.iter().chain(&burst)))?;
        let burst_go = fewest(burst.clone(), less(&need, best.iter().chain(&sure_go)))?;
        let best_go = fewest(best.clone(), less(&need, burst_go.iter().chain(&sure_go)))?;
        Some(best_go.into_iter().chain(burst_go).chain(sure_go).map(|c| c.at).collect())
    };
    chosen().ok_or_else(|| {
        let missing = less(&need, best.iter().chain(&burst).chain(&sure));
        let words: Vec<String> = missing.iter().map(|(r, q)| format!("(res: {r}, q: {q}), ")).collect();
        Rejection::new(
            "UnexpectedAdmissionError",
            format!(
                "Unexpected error while attempting to recover from admission failure: preemption: error finding a set of pods to preempt: no set of running pods found to reclaim resources: [{}]",
                words.concat()
            ),
        )
    })
}
