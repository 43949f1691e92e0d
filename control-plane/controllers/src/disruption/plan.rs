//! What the status of a PodDisruptionBudget should be, decided from it, its pods, their controllers and the instant.

use crate::views::{Pod, scaled};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use skep_api::kinds::policy::budget;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// A pod whose eviction was charged and that is not deleted after this time will not be.
pub(super) const DELETION: SignedDuration = SignedDuration::from_secs(120);

/// A PodDisruptionBudget.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Budget {
    pub(super) metadata: skep_api::Meta,
    pub(super) spec: Spec,
    /// The status, whole.
    pub(super) status: Value,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Spec {
    pub(super) selector: Value,
    pub(super) min_available: Option<Value>,
    pub(super) max_unavailable: Option<Value>,
}

impl Spec {
    /// Whether the number of pods that should be is that of their controllers, not that of the pods.
    pub(super) fn asks_for_scale(&self) -> bool {
        self.max_unavailable.is_some() || self.min_available.as_ref().is_some_and(Value::is_string)
    }
}

/// How many pods the controllers of the budget's pods want: by the uid of who decides.
pub(super) type Scales = HashMap<String, i64>;

/// One budget and its pods.
pub(super) struct Input<'a> {
    pub(super) budget: &'a Budget,
    pub(super) pods: &'a [Pod],
    pub(super) scales: &'a Scales,
    pub(super) now: Timestamp,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// The status as it should be.
    pub(super) status: Value,
    /// Pods that were to be deleted and were not.
    pub(super) kept: Vec<String>,
    /// When an eviction that was charged is given up.
    pub(super) again: Option<Duration>,
}

/// Decides (`trySync`).
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let (expected, wanted) = expected(input);
    let disrupted = disrupted(input, &mut plan);
    let healthy = input
        .pods
        .iter()
        .filter(|pod| !pod.meta().deleting() && !disrupted.contains_key(&*pod.meta().name) && pod.is_ready());
    let healthy = count(healthy.count());
    // Without any pods nothing is allowed, so that the first ones are safe before they have been counted.
    let allowed = if expected > 0 { (healthy - wanted).max(0) } else { 0 };
    let mut status = json!({
        "currentHealthy": healthy, "desiredHealthy": wanted, "expectedPods": expected,
        "disruptionsAllowed": allowed, "observedGeneration": input.budget.metadata.generation,
    });
    if !disrupted.is_empty() {
        status["disruptedPods"] = json!(disrupted);
    }
    if let Some(conditions) = input.budget.status.get("conditions") {
        status["conditions"] = conditions.clone();
    }
    plan.status = budget::with_condition(status, input.now);
    plan
}

fn count(many: usize) -> i64 {
    i64::try_from(many).unwrap_or(i64::MAX)
}

/// How many pods should be, and how many of them should be healthy.
fn expected(input: &Input<'_>) -> (i64, i64) {
    let spec = &input.budget.spec;
    let scale: i64 = input.scales.values().sum();
    match (&spec.max_unavailable, &spec.min_available) {
        (Some(most), _) => (scale, (scale - scaled(Some(most), scale, true)).max(0)),
        (_, Some(least)) if least.is_string() => (scale, scaled(Some(least), scale, true)),
        (_, Some(least)) => (count(input.pods.len()), least.as_i64().unwrap_or(0)),
        _ => (0, 0),
    }
}

/// Pods whose eviction was charged and that are still to be deleted.
fn disrupted(input: &Input<'_>, plan: &mut Plan) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for pod in input.pods.iter().filter(|pod| !pod.meta().deleting()) {
        let name = &*pod.meta().name;
        let Some(since) = input.budget.status["disruptedPods"][name].as_str() else { continue };
        let until = since.parse::<Timestamp>().ok().and_then(|at| at.checked_add(DELETION).ok());
        match until.filter(|until| *until >= input.now) {
            Some(until) => {
                let left = Duration::try_from(until.duration_since(input.now)).unwrap_or_default();
                plan.again = Some(plan.again.map_or(left, |known| known.min(left)));
                out.insert(name.to_owned(), since.to_owned());
            }
            None => plan.kept.push(name.to_owned()),
        }
    }
    out
}

/// How long until the mark of an eviction that never came is out of date; none where the pod has no such mark.
pub(super) fn stale_mark(pod: &Pod, now: Timestamp) -> Option<Duration> {
    if pod.meta().deleting() || pod.is_finished() {
        return None;
    }
    let mark = pod.status.conditions.iter().find(|c| c.kind == budget::MARK && c.status == "True")?;
    if mark.reason == "TerminationByKubelet" {
        return None;
    }
    let end = mark.last_transition_time?.checked_add(DELETION).ok()?;
    Some(Duration::try_from(end.duration_since(now)).unwrap_or_default())
}

#[cfg(test)]
mod tests;
