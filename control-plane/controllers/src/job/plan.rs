//! What a Job needs, decided from the Job, the pods of its namespace and the instant.
//!
//! The end of a pod is counted once: its uid goes into the status first, then its finalizer goes, then the uid
//! becomes a number. Whatever is interrupted in between is found and finished by the next run.

use super::failure::{self, Verdict, carried, enough, fails_index, judge};
use super::model::{FINALIZER, INDEX, INDEX_FAILURES, INDEX_IGNORED, Job, counted, ended_at, index, tracked};
use crate::replicaset::pod_from;
use crate::views::{self, Pod, managed_by};
use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::LabelSelector;
use skep_api::kinds::batch::Indexes;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

/// No more pods than this are created or deleted at once, and no more ends wait to be counted.
const BURST: usize = 500;
/// Why a Job fails.
const FAILURES: [&str; 5] = [
    "PodFailurePolicy",
    "BackoffLimitExceeded",
    "DeadlineExceeded",
    "MaxFailedIndexesExceeded",
    "FailedIndexes",
];
/// Longest prefix of a generated name.
const PREFIX_MAX: usize = 58;

/// One Job and its pods.
pub(super) struct Input<'a> {
    pub(super) job: &'a Job,
    /// The status as it stands, whole.
    pub(super) status: &'a Value,
    pub(super) selector: &'a LabelSelector,
    pub(super) pods: &'a [Pod],
    pub(super) now: Timestamp,
}

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Pods without a manager that match: take them over.
    pub(super) adopt: Vec<String>,
    /// Managed pods that do not match any more: let them go.
    pub(super) release: Vec<String>,
    /// Pods that are deleted without being counted: their finalizers go first.
    pub(super) strip: Vec<String>,
    /// Pods to delete.
    pub(super) delete: Vec<String>,
    /// Pods to create.
    pub(super) create: Vec<Value>,
    /// The status to write before finalizers go.
    pub(super) first: Option<Value>,
    /// Pods whose end is counted: their finalizers go.
    pub(super) untrack: Vec<String>,
    /// The status once all that is done.
    pub(super) then: Value,
    /// What to tell: whether it is bad, the reason, the message.
    pub(super) events: Vec<(bool, &'static str, String)>,
    /// When something changes by time alone.
    pub(super) again: Option<Duration>,
}

impl Plan {
    fn come_back(&mut self, after: Duration) {
        self.again = Some(self.again.map_or(after, |known| known.min(after)));
    }
}

/// How a Job ends: condition that says so beforehand, reason, message.
#[derive(Clone, Debug)]
struct End {
    success: bool,
    /// Whether the status says so already.
    told: bool,
    reason: String,
    message: String,
}

impl End {
    fn failure(reason: &str, message: impl Into<String>) -> Self {
        End { success: false, told: false, reason: reason.into(), message: message.into() }
    }

    fn success(reason: &str, message: impl Into<String>) -> Self {
        End { success: true, ..End::failure(reason, message) }
    }
}

/// What is known of the pods.
struct Facts<'a> {
    job: &'a Job,
    now: Timestamp,
    pods: Vec<&'a Pod>,
    active: Vec<&'a Pod>,
    terminating: i64,
    ready: i64,
    succeeded: i64,
    failed: i64,
    done: Indexes,
    lost: Indexes,
    /// The failed pod of an index that waits until its replacement is there, since that carries its count on.
    waiting: BTreeMap<i64, &'a Pod>,
}

/// Decides.
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let mut plan = Plan::default();
    let job = input.job;
    let pods = claim(input, &mut plan);
    plan.then = input.status.clone();
    if !plan.adopt.is_empty() {
        // They count once they are tracked, which comes back as a change of theirs.
        return plan;
    }
    let mut facts = facts(job, pods, input.now);
    let mut status = match input.status {
        Value::Object(_) => input.status.clone(),
        _ => json!({}),
    };
    let mut start = job.status.start_time;
    if start.is_none() && !job.spec.suspend {
        start = Some(input.now);
        status["startTime"] = views::time(input.now);
    }
    let mut end = end(&facts, start, &mut plan);
    if end.is_some() {
        plan.delete = names(&facts.active);
        facts.terminating += count(&facts.active);
        facts.ready = 0;
        facts.active.clear();
    } else {
        let mut active = count(&facts.active);
        if !job.metadata.deleting() {
            active = manage(&mut facts, &mut plan);
        }
        let complete = match job.spec.completions {
            Some(wanted) => facts.succeeded >= wanted,
            None => facts.succeeded > 0,
        };
        if complete && active == 0 {
            end = Some(End::success("CompletionsReached", "Reached expected number of succeeded pods"));
        } else if !job.metadata.deleting() {
            suspension(job, &mut status, input.now, &mut plan);
        }
    }
    let active = count(&facts.active) + count(&plan.create);
    put(&mut status, "active", active.into());
    status["ready"] = facts.ready.into();
    status["terminating"] = facts.terminating.into();
    if job.indexed() {
        put(&mut status, "succeeded", facts.done.total().into());
        put(&mut status, "completedIndexes", facts.done.to_string().into());
        if job.spec.backoff_limit_per_index.is_some() {
            status["failedIndexes"] = facts.lost.to_string().into();
        }
    }
    track(input, &facts, end.as_ref(), status, &mut plan);
    plan
}

fn count<T>(list: &[T]) -> i64 {
    i64::try_from(list.len()).unwrap_or(i64::MAX)
}

fn names(pods: &[&Pod]) -> Vec<String> {
    pods.iter().map(|p| p.meta().name.to_string()).collect()
}

/// Sets a field that is left out where it is zero or empty, as it is stored.
fn put(status: &mut Value, field: &str, value: Value) {
    if value == 0 || value == "" {
        if let Some(map) = status.as_object_mut() {
            map.remove(field);
        }
    } else {
        status[field] = value;
    }
}

/// The pods of the Job, after taking over and letting go.
fn claim<'a>(input: &Input<'a>, plan: &mut Plan) -> Vec<&'a Pod> {
    let meta = &input.job.metadata;
    let mut mine = Vec::new();
    for pod in input.pods {
        let matches = input.selector.matches(&pod.meta().labels);
        if managed_by(pod.meta(), &meta.uid) {
            if matches || meta.deleting() {
                mine.push(pod);
            } else {
                plan.release.push(pod.meta().name.to_string());
            }
        } else if matches && pod.meta().controller().is_none() && pod.is_active() && !meta.deleting() {
            plan.adopt.push(pod.meta().name.to_string());
        }
    }
    mine.sort_by_key(|pod| index(pod));
    mine
}

fn facts<'a>(job: &'a Job, pods: Vec<&'a Pod>, now: Timestamp) -> Facts<'a> {
    let limit = job.spec.completions.unwrap_or(0);
    let uncounted = &job.status.uncounted_terminated_pods;
    let open = |pod: &Pod, list: &[String]| {
        tracked(pod) && fits(job, pod) && !list.iter().any(|uid| **uid == *pod.meta().uid)
    };
    let active: Vec<&Pod> = pods.iter().copied().filter(|p| p.is_active()).collect();
    let number = |meets: &dyn Fn(&Pod) -> bool| count(&pods.iter().filter(|p| meets(p)).collect::<Vec<_>>());
    let succeeded = number(&|p| p.status.phase == "Succeeded" && open(p, &uncounted.succeeded));
    let failed = number(&|p| job.lost(p) && open(p, &uncounted.failed) && judge(job, p) != Verdict::Ignore);
    let mut facts = Facts {
        job,
        now,
        terminating: number(&|p| p.meta().deleting() && !p.is_finished()),
        ready: count(&active.iter().filter(|p| p.is_ready()).collect::<Vec<_>>()),
        succeeded: job.status.succeeded + succeeded + count(&uncounted.succeeded),
        failed: job.status.failed + failed + count(&uncounted.failed),
        done: Indexes::parse(&job.status.completed_indexes, limit),
        lost: Indexes::parse(job.status.failed_indexes.as_deref().unwrap_or_default(), limit),
        waiting: BTreeMap::new(),
        pods,
        active,
    };
    if job.indexed() {
        indexes(&mut facts);
    }
    facts
}

/// Whether the pod has an index of the Job, where it needs one.
fn fits(job: &Job, pod: &Pod) -> bool {
    !job.indexed() || index(pod).is_some_and(|i| i < job.spec.completions.unwrap_or(0))
}

fn indexes(facts: &mut Facts<'_>) {
    let job = facts.job;
    let of = |meets: &dyn Fn(&Pod) -> bool| {
        let pods = facts.pods.iter().filter(|p| tracked(p) && fits(job, p) && meets(p));
        pods.filter_map(|p| Some((index(p)?, *p))).collect::<Vec<_>>()
    };
    let (succeeded, lost) = (of(&|p| p.status.phase == "Succeeded"), of(&|p| job.lost(p)));
    for (index, _) in succeeded {
        facts.done.insert(index);
    }
    facts.succeeded = facts.done.total();
    if job.spec.backoff_limit_per_index.is_none() {
        return;
    }
    for (index, pod) in &lost {
        if !facts.done.has(*index) && fails_index(job, pod) {
            facts.lost.insert(*index);
        }
    }
    let running: HashSet<i64> = facts.active.iter().filter_map(|p| index(p)).collect();
    for (index, pod) in lost {
        if facts.done.has(index) || facts.lost.has(index) || running.contains(&index) {
            continue;
        }
        let rank = |p: &Pod| (counted(p, INDEX_FAILURES) + counted(p, INDEX_IGNORED), ended_at(p));
        let later = facts.waiting.get(&index).is_none_or(|known| rank(known) <= rank(pod));
        if later {
            facts.waiting.insert(index, pod);
        }
    }
}

/// Whether the Job ends, for another reason than that all is done.
fn end(facts: &Facts<'_>, start: Option<Timestamp>, plan: &mut Plan) -> Option<End> {
    let (job, spec) = (facts.job, &facts.job.spec);
    for (kind, success) in [("SuccessCriteriaMet", true), ("FailureTarget", false)] {
        if let Some(known) = job.is(kind) {
            let (reason, message) = (known.reason.clone(), known.message.clone());
            return Some(End { success, told: true, reason, message });
        }
    }
    let lost = facts.pods.iter().filter(|p| job.lost(p));
    let message = lost.filter_map(|p| match judge(job, p) {
        Verdict::FailJob(message) => Some(message),
        _ => None,
    });
    if let Some(message) = message.take(1).next() {
        return Some(End::failure("PodFailurePolicy", message));
    }
    let limit = spec.backoff_limit.unwrap_or(6);
    if facts.failed > limit || restarted_too_often(facts, limit) {
        let message = "Job has reached the specified backoff limit";
        return Some(End::failure("BackoffLimitExceeded", message));
    }
    if let (Some(seconds), Some(start), false) = (spec.active_deadline_seconds, start, spec.suspend) {
        let left = seconds.saturating_sub(facts.now.as_second() - start.as_second());
        match u64::try_from(left) {
            Ok(left) if left > 0 => plan.come_back(Duration::from_secs(left)),
            _ => {
                let message = "Job was active longer than specified deadline";
                return Some(End::failure("DeadlineExceeded", message));
            }
        }
    }
    let completions = spec.completions.unwrap_or(0);
    if spec.max_failed_indexes.is_some_and(|most| facts.lost.total() > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return Some(End::failure("MaxFailedIndexesExceeded", message));
    }
    if facts.lost.total() > 0 && facts.lost.total() + facts.done.total() >= completions {
        return Some(End::failure("FailedIndexes", "Job has failed indexes"));
    }
    let policy = spec.success_policy.as_ref().filter(|_| job.indexed())?;
    Some(End::success("SuccessPolicy", enough(policy, completions, &facts.done)?))
}

/// Containers that are restarted in place count as failures too.
fn restarted_too_often(facts: &Facts<'_>, limit: i64) -> bool {
    if facts.job.spec.template.pointer("/spec/restartPolicy").is_none_or(|p| p != "OnFailure") {
        return false;
    }
    let running = facts.pods.iter().filter(|p| matches!(p.status.phase.as_str(), "Running" | "Pending"));
    let containers =
        running.flat_map(|p| p.status.init_container_statuses.iter().chain(&p.status.container_statuses));
    let restarts: i64 = containers.map(|c| c.restart_count).sum();
    restarts > 0 && restarts >= limit
}

/// Plans deletions or creations, never both; answers how many pods are active then.
fn manage(facts: &mut Facts<'_>, plan: &mut Plan) -> i64 {
    let (job, spec) = (facts.job, &facts.job.spec);
    let active = count(&facts.active);
    let parallelism = spec.parallelism.unwrap_or(1);
    let want = match spec.completions {
        _ if spec.suspend => 0,
        Some(completions) => (completions - facts.succeeded).min(parallelism).max(0),
        None if facts.succeeded > 0 => active,
        None => parallelism,
    };
    let surplus = surplus(facts, usize::try_from(active - want).unwrap_or(0));
    if !surplus.is_empty() {
        let gone: HashSet<&str> = surplus.iter().map(|p| &*p.meta().uid).collect();
        plan.delete = names(&surplus);
        plan.strip = names(&surplus.iter().copied().filter(|p| tracked(p)).collect::<Vec<_>>());
        facts.terminating += count(&surplus);
        facts.ready -= count(&surplus.iter().filter(|p| p.is_ready()).collect::<Vec<_>>());
        facts.active.retain(|p| !gone.contains(&*p.meta().uid));
        return count(&facts.active);
    }
    let leaving = if job.waits_for_the_end() { facts.terminating } else { 0 };
    let missing = usize::try_from(want - leaving - active).unwrap_or(0).min(BURST);
    if missing > 0 {
        plan.create = missing_pods(facts, missing, plan);
    }
    active + count(&plan.create)
}

/// The pods to delete where `at_least` are too many; those without an index of their own are, too.
fn surplus<'a>(facts: &Facts<'a>, at_least: usize) -> Vec<&'a Pod> {
    let rank = |pod: &Pod| {
        (
            (!pod.spec.node_name.is_empty(), pod.status.phase != "Pending", pod.is_ready()),
            Reverse(pod.ready_since()),
            Reverse(pod.metadata.creation_timestamp),
            pod.meta().uid.clone(),
        )
    };
    let mut pods = facts.active.clone();
    pods.sort_by_cached_key(|p| rank(p));
    let (mut gone, mut left) = (Vec::new(), Vec::new());
    let mut kept = HashSet::new();
    for pod in pods.into_iter().rev() {
        // The best pod of an index comes first here and stays.
        let stays = !facts.job.indexed() || (fits(facts.job, pod) && kept.insert(index(pod)));
        if stays { left.push(pod) } else { gone.push(pod) }
    }
    let more = at_least.saturating_sub(gone.len());
    gone.extend(left.into_iter().rev().take(more));
    gone.truncate(BURST);
    gone
}

/// The pods to create, after waiting as long as failures ask for.
fn missing_pods(facts: &Facts<'_>, missing: usize, plan: &mut Plan) -> Vec<Value> {
    let job = facts.job;
    let per_index = job.spec.backoff_limit_per_index.is_some();
    let wait = if per_index { Duration::ZERO } else { failure::job_backoff(job, &facts.pods, facts.now) };
    if !wait.is_zero() {
        plan.come_back(wait);
        return Vec::new();
    }
    if !job.indexed() {
        return vec![pod(job, None); missing];
    }
    let mut taken = facts.done.clone();
    taken.extend(&facts.lost);
    let waits = job.waits_for_the_end();
    for pod in &facts.pods {
        if pod.is_active() || (waits && pod.meta().deleting() && !pod.is_finished()) {
            index(pod).into_iter().for_each(|i| taken.insert(i));
        }
    }
    let free = taken.missing(missing, job.spec.completions.unwrap_or(0));
    let waits =
        |i: &i64| facts.waiting.get(i).map_or(Duration::ZERO, |p| failure::index_backoff(p, facts.now));
    let (now, later): (Vec<i64>, Vec<i64>) = free.into_iter().partition(|i| waits(i).is_zero());
    if let Some(wait) = later.iter().map(waits).min() {
        plan.come_back(wait);
    }
    let before = |i: &i64| per_index.then(|| carried(job, facts.waiting.get(i).copied()));
    now.iter().map(|i| pod(job, Some((*i, before(i))))).collect()
}

/// A pod of the Job: of an index, with the failures the index has had, where they are kept.
fn pod(job: &Job, index: Option<(i64, Option<(i64, i64)>)>) -> Value {
    let meta = &job.metadata;
    let owner = views::controller_reference(super::API_VERSION, super::KIND, &meta.name, &meta.uid);
    let mut pod = pod_from(&job.spec.template, &meta.name, owner);
    let tracked = pod["metadata"]["finalizers"].as_array().cloned().unwrap_or_default();
    let others = tracked.into_iter().filter(|f| f != FINALIZER);
    pod["metadata"]["finalizers"] = others.chain([FINALIZER.into()]).collect();
    let Some((index, failures)) = index else { return pod };
    let suffix = format!("-{index}-");
    let prefix: String = meta.name.chars().take(PREFIX_MAX.saturating_sub(suffix.len())).collect();
    pod["metadata"]["generateName"] = format!("{prefix}{suffix}").into();
    pod["metadata"]["annotations"][INDEX] = index.to_string().into();
    pod["metadata"]["labels"][INDEX] = index.to_string().into();
    if let Some((failed, ignored)) = failures {
        pod["metadata"]["annotations"][INDEX_FAILURES] = failed.to_string().into();
        if ignored > 0 {
            pod["metadata"]["annotations"][INDEX_IGNORED] = ignored.to_string().into();
        }
    }
    pod["spec"]["hostname"] = format!("{}-{index}", meta.name).into();
    for list in ["initContainers", "containers"] {
        let containers = pod["spec"].get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mut env = container["env"].as_array().cloned().unwrap_or_default();
            if env.iter().all(|v| v["name"] != "JOB_COMPLETION_INDEX") {
                let path = format!("metadata.labels['{INDEX}']");
                let source = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
                env.push(json!({"name": "JOB_COMPLETION_INDEX", "valueFrom": source}));
                container["env"] = env.into();
            }
        }
    }
    pod
}

/// Says that the Job is suspended, or that it goes on; then its time starts anew.
fn suspension(job: &Job, status: &mut Value, now: Timestamp, plan: &mut Plan) {
    let was = job.is("Suspended").is_some();
    let word = if job.spec.suspend {
        ("Suspended", "True", "JobSuspended")
    } else {
        ("Resumed", "False", "JobResumed")
    };
    if was == job.spec.suspend {
        return;
    }
    let message = if job.spec.suspend { "Job suspended" } else { "Job resumed" };
    set_condition(status, "Suspended", word.1, word.2, message, now);
    plan.events.push((false, word.0, message.into()));
    if job.spec.suspend {
        if let Some(map) = status.as_object_mut() {
            map.remove("startTime");
        }
    } else {
        status["startTime"] = views::time(now);
    }
}

fn set_condition(status: &mut Value, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let mut list = status["conditions"].as_array().cloned().unwrap_or_default();
    list.retain(|c| c["type"] != kind);
    list.push(json!({
        "type": kind, "status": value, "reason": reason, "message": message,
        "lastProbeTime": views::time(now), "lastTransitionTime": views::time(now),
    }));
    status["conditions"] = list.into();
}

/// Plans how ends are counted and what the status says before and after.
fn track(input: &Input<'_>, facts: &Facts<'_>, end: Option<&End>, mut status: Value, plan: &mut Plan) {
    let job = input.job;
    let held: HashSet<&str> = facts.pods.iter().filter(|p| tracked(p)).map(|p| &*p.meta().uid).collect();
    let known = &job.status.uncounted_terminated_pods;
    let mut lists = [known.succeeded.clone(), known.failed.clone()];
    settle(&mut status, &mut lists, job, |uid| !held.contains(uid));
    let (mut fresh, mut capped) = (0, false);
    let mut freed = HashSet::new();
    for pod in facts.pods.iter().filter(|p| tracked(p)) {
        let (uid, succeeded, lost) = (&*pod.meta().uid, pod.status.phase == "Succeeded", job.lost(pod));
        let waits = index(pod).and_then(|i| facts.waiting.get(&i)).is_some_and(|p| &*p.meta().uid == uid);
        if !(job.metadata.deleting() || end.is_some() || succeeded || (lost && !waits)) {
            continue;
        }
        if fresh >= BURST {
            capped = true;
            break;
        }
        plan.untrack.push(pod.meta().name.to_string());
        freed.insert(uid);
        let has = |list: &[String]| list.iter().any(|known| known == uid);
        if succeeded && !has(&lists[1]) {
            if !job.indexed() && !has(&lists[0]) {
                lists[0].push(uid.to_owned());
            }
            fresh += 1;
        } else if (lost || end.is_some_and(|end| !end.success))
            && !has(&lists[1])
            && fits(job, pod)
            && judge(job, pod) != Verdict::Ignore
        {
            lists[1].push(uid.to_owned());
            fresh += 1;
        }
    }
    write_lists(&mut status, &lists);
    let mut said = false;
    if let Some(end) = end.filter(|end| !end.told) {
        let kind = if end.success { "SuccessCriteriaMet" } else { "FailureTarget" };
        set_condition(&mut status, kind, "True", &end.reason, &end.message, input.now);
        said = true;
    }
    if status != *input.status && (said || !plan.untrack.is_empty()) {
        plan.first = Some(status.clone());
    }
    settle(&mut status, &mut lists, job, |uid| freed.contains(uid));
    write_lists(&mut status, &lists);
    let over = !capped && facts.terminating == 0 && lists.iter().all(Vec::is_empty);
    if let Some(end) = end.filter(|_| over) {
        let kind = if end.success { "Complete" } else { "Failed" };
        set_condition(&mut status, kind, "True", &end.reason, &end.message, input.now);
        if end.success {
            status["completionTime"] = views::time(input.now);
            plan.events.push((false, "Completed", "Job completed".into()));
        } else {
            // A reason that this controller did not give is told by a general word.
            let reason = FAILURES.into_iter().find(|known| *known == end.reason).unwrap_or("JobFailed");
            plan.events.push((true, reason, end.message.clone()));
        }
    }
    plan.then = status;
}

/// Turns uids into numbers.
fn settle(status: &mut Value, lists: &mut [Vec<String>; 2], job: &Job, gone: impl Fn(&str) -> bool) {
    for (list, field) in lists.iter_mut().zip(["succeeded", "failed"]) {
        let before = count(list);
        list.retain(|uid| !gone(uid));
        let more = before - count(list);
        // Of an Indexed Job, the indexes say how many succeeded.
        if more > 0 && !(job.indexed() && field == "succeeded") {
            status[field] = (status[field].as_i64().unwrap_or(0) + more).into();
        }
    }
}

fn write_lists(status: &mut Value, lists: &[Vec<String>; 2]) {
    let mut out = json!({});
    for (list, field) in lists.iter().zip(["succeeded", "failed"]) {
        if !list.is_empty() {
            out[field] = json!(list);
        }
    }
    status["uncountedTerminatedPods"] = out;
}

#[cfg(test)]
mod tests;
