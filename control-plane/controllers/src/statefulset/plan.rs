//! What a StatefulSet needs, decided from the set, its revisions, pods and claims, and the instant.

use super::claims::{Claim, Holder, Reowned};
use super::model::{NAME_LABEL, Set, SetStatus, parse_name, revision_of};
use crate::views::{Availability, Pod};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashMap;
use std::time::Duration;

/// A revision of the template.
pub(super) struct Version {
    pub(super) name: String,
    pub(super) template: Value,
}

/// One set and what belongs to it.
pub(super) struct Input<'a> {
    pub(super) set: &'a Set,
    /// What pods had when the last update was complete.
    pub(super) current: &'a Version,
    /// What pods should have.
    pub(super) update: &'a Version,
    pub(super) collisions: i64,
    /// The pods of the set, those that are not its own left out.
    pub(super) pods: &'a [Pod],
    pub(super) claims: &'a HashMap<String, Claim>,
    pub(super) now: Timestamp,
}

/// One thing to do.
#[derive(Debug, PartialEq)]
pub(super) enum Todo {
    /// Create a claim of a pod.
    Claim { pod: String, body: Value },
    /// Change the owners of a claim.
    Reown(Reowned),
    /// Create a pod.
    Create { pod: String, body: Value },
    /// Put the labels on a pod that say who it is.
    Identify { pod: String, labels: Value },
    /// Delete a pod.
    Delete { pod: String },
    /// A pod cannot be made yet, and why.
    Blocked { pod: String, why: String },
}

/// What is to be done: phases one after the other, the tasks of one at the same time, each in its own order. A failure
/// ends it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    pub(super) phases: Vec<Vec<Vec<Todo>>>,
    pub(super) status: SetStatus,
    /// When a pod becomes available without anything else changing.
    pub(super) again: Option<Duration>,
}

/// A place in the set.
#[derive(Clone, Copy)]
struct Place<'a> {
    ordinal: i64,
    pod: Option<&'a Pod>,
}

/// Whether the ordered way goes on to the next pod.
#[derive(PartialEq, Eq)]
enum Next {
    Go,
    Wait,
}

fn running_and_ready(pod: &Pod) -> bool {
    pod.status.phase == "Running" && pod.is_ready()
}

/// Decides (`updateStatefulSet`).
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let set = input.set;
    let mut plan = Plan { status: status(input), again: again(input), ..Plan::default() };
    if !set.metadata.meta.deleting() {
        let places = places(input);
        let mut condemned: Vec<Place<'_>> = input.pods.iter().filter_map(|p| condemned(set, p)).collect();
        condemned.sort_by_key(|p| std::cmp::Reverse(p.ordinal));
        let go = live(input, &places, &mut plan)
            && reown(input, &condemned, &mut plan)
            && scale_down(input, &places, &condemned, &mut plan);
        if go && !set.on_delete() {
            roll(input, &places, &mut plan);
        }
    }
    complete(set, &mut plan.status);
    plan
}

/// All places of the set, with the pods that are there.
fn places<'a>(input: &Input<'a>) -> Vec<Place<'a>> {
    let ordinal = |pod: &Pod| parse_name(&pod.meta().name).map(|(_, n)| n);
    let known: HashMap<i64, &Pod> = input.pods.iter().filter_map(|p| Some((ordinal(p)?, p))).collect();
    let start = input.set.start();
    (start..start + input.set.replicas())
        .map(|ordinal| Place { ordinal, pod: known.get(&ordinal).copied() })
        .collect()
}

fn condemned<'a>(set: &Set, pod: &'a Pod) -> Option<Place<'a>> {
    let (_, ordinal) = parse_name(&pod.meta().name)?;
    (!set.in_range(ordinal)).then_some(Place { ordinal, pod: Some(pod) })
}

impl Input<'_> {
    fn available(&self, pod: &Pod) -> bool {
        let least = Duration::from_secs(self.set.spec.min_ready_seconds);
        pod.available(least, self.now) == Availability::Now
    }

    fn unavailable(&self, place: Place<'_>) -> bool {
        place.pod.is_none_or(|pod| !self.available(pod) || pod.meta().deleting())
    }

    fn holder<'h>(&'h self, ordinal: i64, name: &'h str, uid: &'h str) -> Holder<'h> {
        Holder { set: self.set, name, uid, ordinal }
    }
}

/// The places that should have a pod. Answers whether the ordered way goes on.
fn live(input: &Input<'_>, places: &[Place<'_>], plan: &mut Plan) -> bool {
    let mut tasks = Vec::new();
    let mut go = true;
    for place in places {
        let mut task = Vec::new();
        let next = match place.pod {
            Some(pod) => keep(input, place.ordinal, pod, &mut task),
            None => create(input, place.ordinal, &mut task),
        };
        tasks.push(task);
        if next == Next::Wait && input.set.ordered() {
            go = false;
            break;
        }
    }
    push(plan, input.set, tasks);
    go
}

/// Adds a phase; where there is an order, each task waits for the one before.
fn push(plan: &mut Plan, set: &Set, tasks: Vec<Vec<Todo>>) {
    let tasks = tasks.into_iter().filter(|task| !task.is_empty());
    if set.ordered() {
        plan.phases.extend(tasks.map(|task| vec![task]));
    } else {
        let tasks: Vec<_> = tasks.collect();
        if !tasks.is_empty() {
            plan.phases.push(tasks);
        }
    }
}

fn create(input: &Input<'_>, ordinal: i64, task: &mut Vec<Todo>) -> Next {
    let set = input.set;
    let pod = set.pod_name(ordinal);
    let holder = input.holder(ordinal, &pod, "");
    let stale = set.claim_names(ordinal).any(|(n, _)| input.claims.get(&n).is_some_and(|c| holder.stale(c)));
    if stale {
        return Next::Wait;
    }
    if claims(input, ordinal, &pod, "", task) {
        let rolling = set.spec.update_strategy.kind == "RollingUpdate";
        let kept = match &set.spec.update_strategy.rolling_update {
            Some(update) => update.partition.unwrap_or(0),
            None if rolling => set.status.current_replicas,
            None => 0,
        };
        let version = if ordinal < set.start() + kept { input.current } else { input.update };
        let body = set.pod(ordinal, &version.template, &version.name);
        task.push(Todo::Create { pod, body });
    }
    Next::Wait
}

/// Claims that a pod lacks, and owners that its claims lack. Answers whether the pod can use them all.
fn claims(input: &Input<'_>, ordinal: i64, pod: &str, uid: &str, task: &mut Vec<Todo>) -> bool {
    let holder = input.holder(ordinal, pod, uid);
    let mut blocked = None;
    for (name, template) in input.set.claim_names(ordinal) {
        match input.claims.get(&name) {
            None => {
                let body = input.set.claim(&name, template, holder.owner().into_iter().collect());
                task.push(Todo::Claim { pod: pod.into(), body });
            }
            Some(claim) if claim.deleting => blocked = Some(format!("pvc {name} is being deleted")),
            Some(claim) => task.extend(holder.reown(&name, claim).map(Todo::Reown)),
        }
    }
    let free = blocked.is_none();
    task.extend(blocked.map(|why| Todo::Blocked { pod: pod.into(), why }));
    free
}

/// A pod that is there and wanted.
fn keep(input: &Input<'_>, ordinal: i64, pod: &Pod, task: &mut Vec<Todo>) -> Next {
    let meta = pod.meta();
    let name = meta.name.to_string();
    if pod.is_finished() {
        // What ended is made anew, however it ended.
        if !meta.deleting() {
            task.push(Todo::Delete { pod: name });
        }
        return Next::Wait;
    }
    if pod.status.phase == "Pending" && !claims(input, ordinal, &name, &meta.uid, task) {
        return Next::Wait;
    }
    if input.set.ordered() && (meta.deleting() || !running_and_ready(pod) || !input.available(pod)) {
        return Next::Wait;
    }
    if meta.labels.get(NAME_LABEL).is_none_or(|label| **label != *name) {
        let labels = input.set.identity(ordinal);
        task.push(Todo::Identify { pod: name.clone(), labels });
    }
    if pod.status.phase != "Pending" {
        task.extend(owners(input, ordinal, &name, &meta.uid));
    }
    Next::Go
}

fn owners(input: &Input<'_>, ordinal: i64, pod: &str, uid: &str) -> Vec<Todo> {
    let holder = input.holder(ordinal, pod, uid);
    let claims = input.set.claim_names(ordinal);
    claims.filter_map(|(n, _)| holder.reown(&n, input.claims.get(&n)?)).map(Todo::Reown).collect()
}

/// The claims of pods that are to go get their owners first.
fn reown(input: &Input<'_>, condemned: &[Place<'_>], plan: &mut Plan) -> bool {
    let with_pods = condemned.iter().filter_map(|place| Some((place.ordinal, place.pod?)));
    let tasks = with_pods.map(|(n, pod)| owners(input, n, &pod.meta().name, &pod.meta().uid)).collect();
    push(plan, input.set, tasks);
    true
}

/// Pods outside the range go, the last first. Answers whether the ordered way goes on.
fn scale_down(input: &Input<'_>, places: &[Place<'_>], condemned: &[Place<'_>], plan: &mut Plan) -> bool {
    let weak = |place: &&Place<'_>| input.unavailable(**place);
    let first = places.iter().find(weak).or_else(|| condemned.iter().rev().find(weak));
    let first = first.map(|place| place.ordinal);
    let mut tasks = Vec::new();
    for place in condemned {
        let Some(pod) = place.pod else { continue };
        let leaving = pod.meta().deleting();
        if input.set.ordered() {
            let well = running_and_ready(pod) && input.available(pod);
            if !leaving && (well || first == Some(place.ordinal)) {
                push(plan, input.set, vec![vec![Todo::Delete { pod: pod.meta().name.to_string() }]]);
            }
            return false;
        }
        if !leaving {
            tasks.push(vec![Todo::Delete { pod: pod.meta().name.to_string() }]);
        }
    }
    push(plan, input.set, tasks);
    true
}

/// Replaces pods of another revision, the last first.
fn roll(input: &Input<'_>, places: &[Place<'_>], plan: &mut Plan) {
    let keep = usize::try_from(input.set.partition()).unwrap_or(0).min(places.len());
    let mut room = input.set.max_unavailable().map(|most| {
        let weak = places.iter().filter(|place| input.unavailable(**place)).count();
        most - i64::try_from(weak).unwrap_or(i64::MAX)
    });
    for place in places[keep..].iter().rev() {
        if room.is_some_and(|room| room <= 0) {
            return;
        }
        // One that is to be created in this round has the revision that it should have.
        let Some(pod) = place.pod else {
            if room.is_none() {
                return;
            }
            continue;
        };
        if revision_of(pod) != input.update.name && !pod.meta().deleting() {
            plan.phases.push(vec![vec![Todo::Delete { pod: pod.meta().name.to_string() }]]);
            plan.status.current_replicas = (plan.status.current_replicas - 1).max(0);
            match &mut room {
                Some(room) => *room -= 1,
                None => return,
            }
        } else if room.is_none() && input.unavailable(*place) {
            return;
        }
    }
}

fn status(input: &Input<'_>) -> SetStatus {
    let mut status = SetStatus {
        observed_generation: input.set.metadata.meta.generation,
        current_revision: input.current.name.clone(),
        update_revision: input.update.name.clone(),
        collision_count: input.collisions,
        ..SetStatus::default()
    };
    for pod in input.pods {
        status.replicas += 1;
        if running_and_ready(pod) {
            status.ready_replicas += 1;
            status.available_replicas += i64::from(input.available(pod));
        }
        if !pod.meta().deleting() {
            status.current_replicas += i64::from(revision_of(pod) == input.current.name);
            status.updated_replicas += i64::from(revision_of(pod) == input.update.name);
        }
    }
    status
}

/// Where all pods have the new revision it is the current one.
fn complete(set: &Set, status: &mut SetStatus) {
    let all = set.replicas();
    if set.spec.update_strategy.kind == "RollingUpdate"
        && (status.updated_replicas, status.ready_replicas, status.replicas) == (all, all, all)
    {
        status.current_replicas = status.updated_replicas;
        status.current_revision = status.update_revision.clone();
    }
}

fn again(input: &Input<'_>) -> Option<Duration> {
    let least = Duration::from_secs(input.set.spec.min_ready_seconds);
    let waits = input.pods.iter().filter_map(|pod| match pod.available(least, input.now) {
        Availability::In(left) => Some(left),
        _ => None,
    });
    waits.min()
}

#[cfg(test)]
mod tests;
