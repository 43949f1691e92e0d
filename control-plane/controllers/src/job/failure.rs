//! What a failed pod means for its Job, how long its replacement waits, and when successes are enough.

use super::model::{ExitCodes, Job, SuccessPolicy, counted, ended_at};
use super::model::{INDEX_FAILURES, INDEX_IGNORED};
use crate::views::{ContainerStatus, Pod};
use jiff::Timestamp;
use skep_api::kinds::batch::Indexes;
use std::time::Duration;

/// The wait before a failed pod is replaced doubles from the first to the second.
const BACKOFF: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(600));

/// What the failure policy says of a failed pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The failure counts against the backoff limit.
    Count,
    /// It does not.
    Ignore,
    /// The index has failed for good.
    FailIndex,
    /// The Job has failed, and why.
    FailJob(String),
}

/// Judges a failed pod by the first rule that matches.
pub(super) fn judge(job: &Job, pod: &Pod) -> Verdict {
    let rules = job.spec.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    for (at, rule) in rules.enumerate() {
        let place = format!("{}/{}", pod.meta().namespace, pod.meta().name);
        let why = if let Some(codes) = &rule.on_exit_codes {
            let status = &pod.status;
            let ends = status.container_statuses.iter().chain(&status.init_container_statuses);
            ends.filter_map(|c| exit_matches(codes, c).map(|code| (c, code)))
                .next()
                .map(|(c, code)| format!("Container {} for pod {place} failed with exit code {code}", c.name))
        } else {
            let known = |kind: &str, status: &str| {
                rule.on_pod_conditions.iter().any(|p| p.kind == kind && p.status == status)
            };
            let found = pod.status.conditions.iter().find(|c| known(&c.kind, &c.status));
            found.map(|c| format!("Pod {place} has condition {}", c.kind))
        };
        match (why, rule.action.as_str()) {
            (None, _) => {}
            (Some(_), "Ignore") => return Verdict::Ignore,
            (Some(_), "FailIndex") => return Verdict::FailIndex,
            (Some(why), "FailJob") => {
                return Verdict::FailJob(format!("{why} matching FailJob rule at index {at}"));
            }
            (Some(_), _) => return Verdict::Count,
        }
    }
    Verdict::Count
}

fn exit_matches(codes: &ExitCodes, container: &ContainerStatus) -> Option<i64> {
    let code = container.state.terminated.as_ref()?.exit_code;
    let named = codes.container_name.as_ref().is_none_or(|name| *name == container.name);
    let listed = codes.values.contains(&code);
    let meant = if codes.operator == "In" { listed } else { !listed };
    (named && code != 0 && meant).then_some(code)
}

/// Whether this failed pod makes its index fail for good.
pub(super) fn fails_index(job: &Job, pod: &Pod) -> bool {
    let Some(limit) = job.spec.backoff_limit_per_index else { return false };
    match judge(job, pod) {
        Verdict::FailIndex => true,
        Verdict::Ignore => false,
        Verdict::Count | Verdict::FailJob(_) => counted(pod, INDEX_FAILURES) >= limit,
    }
}

/// The counts of failures that the replacement of a failed pod carries.
pub(super) fn carried(job: &Job, before: Option<&Pod>) -> (i64, i64) {
    let Some(pod) = before else { return (0, 0) };
    let ignored = i64::from(judge(job, pod) == Verdict::Ignore);
    (counted(pod, INDEX_FAILURES) + 1 - ignored, counted(pod, INDEX_IGNORED) + ignored)
}

/// How long to wait yet after so many failures in a row, the last one at `last`.
fn remaining(failures: usize, last: Option<Timestamp>, now: Timestamp) -> Duration {
    let (Some(last), Some(doublings)) = (last, failures.checked_sub(1)) else { return Duration::ZERO };
    let factor = 2u32.saturating_pow(u32::try_from(doublings).unwrap_or(u32::MAX));
    let wait = BACKOFF.0.saturating_mul(factor).min(BACKOFF.1);
    let since = now.duration_since(last);
    if since.is_negative() { wait } else { wait.saturating_sub(since.unsigned_abs()) }
}

/// How long to wait before a Job creates pods again: by the failures since the last success.
///
/// Counted from the pods that are there, so that a restart forgets nothing.
pub(super) fn job_backoff(job: &Job, pods: &[&Pod], now: Timestamp) -> Duration {
    let succeeded = pods.iter().filter(|p| p.status.phase == "Succeeded").filter_map(|p| ended_at(p)).max();
    let failed = pods.iter().filter(|p| job.lost(p)).filter_map(|p| ended_at(p));
    let since: Vec<Timestamp> = failed.filter(|at| succeeded.is_none_or(|s| *at > s)).collect();
    remaining(since.len(), since.iter().max().copied(), now)
}

/// How long to wait before an index is tried again after this pod of it failed.
pub(super) fn index_backoff(pod: &Pod, now: Timestamp) -> Duration {
    let failures = counted(pod, INDEX_FAILURES) + counted(pod, INDEX_IGNORED) + 1;
    remaining(usize::try_from(failures).unwrap_or(1), ended_at(pod), now)
}

/// The first rule of the success policy that the indexes meet, for people.
pub(super) fn enough(policy: &SuccessPolicy, completions: i64, succeeded: &Indexes) -> Option<String> {
    let met = policy.rules.iter().position(|rule| match (&rule.succeeded_indexes, rule.succeeded_count) {
        (Some(list), count) => {
            let wanted = Indexes::parse(list, completions);
            let have = wanted.common(succeeded).total();
            wanted.total() > 0 && (have == wanted.total() || count.is_some_and(|count| have >= count))
        }
        (None, Some(count)) => succeeded.total() > 0 && succeeded.total() >= count,
        (None, None) => false,
    });
    met.map(|at| format!("Matched rules at index {at}"))
}
