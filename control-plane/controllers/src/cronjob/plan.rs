//! What a CronJob needs, decided from it, its Jobs and the instant.

use super::missed::{missed, until_next};
use super::model::{CronJob, CronStatus, Job, Unusable};
use jiff::Timestamp;
use serde_json::Value;
use std::collections::HashSet;
use std::time::Duration;

/// One CronJob and its Jobs.
pub(super) struct Input<'a> {
    pub(super) cron: &'a CronJob,
    /// Jobs that it manages.
    pub(super) jobs: &'a [Job],
    /// Uids of active Jobs that are gone.
    pub(super) gone: &'a HashSet<String>,
    pub(super) now: Timestamp,
}

/// What to tell: whether it is bad, the reason, the message.
pub(super) type Told = (bool, &'static str, String);

/// What is to be done, in this order.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Plan {
    /// Finished Jobs that are more than are kept: name and uid.
    pub(super) expire: Vec<(String, String)>,
    /// Jobs that run and make way for the next: name and uid.
    pub(super) replace: Vec<(String, String)>,
    /// The Job to start.
    pub(super) start: Option<Start>,
    /// The status, a Job that is started aside.
    pub(super) status: CronStatus,
    pub(super) events: Vec<Told>,
    /// When to look again.
    pub(super) again: Option<Duration>,
}

/// A Job to start.
#[derive(Debug, PartialEq)]
pub(super) struct Start {
    pub(super) at: Timestamp,
    pub(super) body: Value,
}

/// Decides (`syncCronJob`).
pub(super) fn plan(input: &Input<'_>) -> Plan {
    let spec = &input.cron.spec;
    let mut plan = Plan { status: input.cron.status.clone(), ..Plan::default() };
    for (end, limit) in
        [("Complete", spec.successful_jobs_history_limit), ("Failed", spec.failed_jobs_history_limit)]
    {
        if let Some(limit) = limit {
            expire(input, end, limit, &mut plan);
        }
    }
    take_note(input, &mut plan);
    if input.cron.metadata.meta.deleting() {
        return plan;
    }
    match start(input, &mut plan) {
        Ok(()) => {}
        Err(Unusable::Zone(name)) => {
            let message = format!("invalid timeZone: {name:?}: unknown time zone {name}");
            plan.events.push((true, "UnknownTimeZone", message));
        }
        Err(Unusable::Schedule(why)) => {
            let message = format!("unparseable schedule: {:?} : {why}", spec.schedule);
            plan.events.push((true, "UnparseableSchedule", message));
        }
    }
    plan
}

/// The oldest finished Jobs above the limit.
fn expire(input: &Input<'_>, end: &str, limit: usize, plan: &mut Plan) {
    let mut ended: Vec<&Job> = input.jobs.iter().filter(|job| job.end() == Some(end)).collect();
    ended.sort_by_key(|job| (job.status.start_time.unwrap_or(Timestamp::MAX), job.name().to_owned()));
    let many = ended.len().saturating_sub(limit);
    let old = ended.into_iter().take(many).filter(|job| !job.metadata.meta.deleting());
    plan.expire.extend(old.map(|job| (job.name().to_owned(), job.uid().to_owned())));
}

/// Takes note of Jobs that ended, are gone, or that nobody knew of.
fn take_note(input: &Input<'_>, plan: &mut Plan) {
    for job in input.jobs {
        let known = plan.status.has(job.uid());
        match job.end() {
            None if known => {}
            None => {
                let message =
                    format!("Saw a job that the controller did not create or forgot: {}", job.name());
                plan.events.push((true, "UnexpectedJob", message));
            }
            Some(end) => {
                if known {
                    plan.status.forget(job.uid());
                    let message = format!("Saw completed job: {}, condition: {end}", job.name());
                    plan.events.push((false, "SawCompletedJob", message));
                }
                if end == "Complete" {
                    let last = &mut plan.status.last_successful_time;
                    *last = (*last).max(job.status.completion_time);
                }
            }
        }
    }
    let gone: Vec<Value> = plan.status.active.iter().filter(|job| is_gone(input, job)).cloned().collect();
    for job in gone {
        let message = format!("Active job went missing: {}", text(&job, "name"));
        plan.events.push((false, "MissingJob", message));
        plan.status.forget(text(&job, "uid"));
    }
}

fn is_gone(input: &Input<'_>, job: &Value) -> bool {
    input.gone.contains(text(job, "uid"))
}

fn text<'a>(tree: &'a Value, field: &str) -> &'a str {
    tree.get(field).and_then(Value::as_str).unwrap_or_default()
}

/// Starts the Job that is due, if one is and may be.
fn start(input: &Input<'_>, plan: &mut Plan) -> Result<(), Unusable> {
    let (cron, spec, now) = (input.cron, &input.cron.spec, input.now);
    if let (Some(name), Err(Unusable::Zone(_))) = (&spec.time_zone, cron.schedule()) {
        return Err(Unusable::Zone(name.clone()));
    }
    if spec.suspend {
        return Ok(());
    }
    let schedule = cron.schedule()?;
    let found = match missed(&schedule, cron.last(), spec.starting_deadline_seconds, now) {
        Ok(found) => found,
        Err(why) => {
            let message = format!("invalid schedule: {} : {why}", spec.schedule);
            plan.events.push((true, "InvalidSchedule", message));
            return Ok(());
        }
    };
    plan.again = until_next(&schedule, cron.last(), now);
    let Some(due) = found.latest else { return Ok(()) };
    if found.too_many() {
        let message =
            "too many missed start times. Set or decrease .spec.startingDeadlineSeconds or check clock skew";
        plan.events.push((true, "TooManyMissedTimes", message.into()));
    }
    let late = |seconds: i64| due.as_second().saturating_add(seconds) < now.as_second();
    if spec.starting_deadline_seconds.is_some_and(late) {
        let shown = due.strftime("%a, %d %b %Y %H:%M:%S +0000");
        let message = format!("Missed scheduled time to start a job: {shown}");
        plan.events.push((true, "MissSchedule", message));
        return Ok(());
    }
    let name = cron.job_name(due);
    let known = plan.status.active.iter().any(|job| text(job, "name") == name);
    if known || plan.status.last_schedule_time == Some(due) {
        return Ok(());
    }
    if spec.concurrency_policy == "Forbid" && !plan.status.active.is_empty() {
        let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
        plan.events.push((false, "JobAlreadyActive", message.into()));
        return Ok(());
    }
    if spec.concurrency_policy == "Replace" {
        let running = plan.status.active.iter();
        plan.replace =
            running.map(|job| (text(job, "name").to_owned(), text(job, "uid").to_owned())).collect();
    }
    // Once it has started the next time counts from now on.
    let after = CronJob {
        status: CronStatus { last_schedule_time: Some(due), ..CronStatus::default() },
        ..cron.clone()
    };
    plan.again = until_next(&schedule, after.last(), now);
    plan.start = Some(Start { at: due, body: cron.job(due)? });
    Ok(())
}

#[cfg(test)]
mod tests;
