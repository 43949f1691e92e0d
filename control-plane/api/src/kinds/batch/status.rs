//! What a Job's status may say, so that whoever manages a Job keeps to what its readers rely on.
//!
//! A rule is only applied where the fields it speaks of change: a status that has been wrong before does not
//! stand in the way of a change that has nothing to do with it.

use super::indexes::Indexes;
use super::spec::INDEXED;
use crate::field::FieldError;
use crate::validation::{At, Errors, same};
use std::collections::BTreeSet;

/// Whether a condition of a status is so.
pub(super) fn condition(status: &At<'_, '_>, kind: &str, value: &str) -> bool {
    let list = status.get("conditions");
    list.items().any(|c| c.get("type").text() == kind && c.get("status").text() == value)
}

fn is(status: &At<'_, '_>, kind: &str) -> bool {
    condition(status, kind, "True")
}

fn finished(status: &At<'_, '_>) -> bool {
    is(status, "Complete") || is(status, "Failed")
}

fn instant(at: &At<'_, '_>) -> Option<jiff::Timestamp> {
    at.text().parse().ok()
}

pub(super) fn validate_update(errors: &mut Errors, job: &At<'_, '_>, old: &At<'_, '_>) {
    let (new, old, spec) = (job.get("status"), old.get("status"), job.get("spec"));
    let changed = |field: &str| !same(new.get(field).value(), old.get(field).value());
    let turned = |kind: &str| is(&new, kind) != is(&old, kind);
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(&new.get(field));
    }
    uncounted_uids(errors, &new);
    conditions(errors, &spec, &new, &old);
    let finish_changed = finished(&new) != finished(&old);
    if turned("Complete") || changed("completionTime") {
        completion_time(errors, &new);
    }
    if finished(&new) {
        finished_job(errors, &spec, &new, &changed, finish_changed);
    }
    index_lists(errors, &spec, &new, changed("completedIndexes"), changed("failedIndexes"));
    let ready = new.get("ready");
    if (changed("ready") || changed("active"))
        && ready.int().unwrap_or(0) > new.get("active").int().unwrap_or(0)
    {
        errors.invalid(&ready, "cannot set more ready pods than active");
    }
    counters(errors, &spec, &new, &old);
    let (start, before) = (new.get("startTime"), old.get("startTime"));
    let resuming = condition(&old, "Suspended", "True") && condition(&new, "Suspended", "False");
    if before.present() && changed("startTime") && !resuming && !spec.get("suspend").is_true() {
        errors.invalid(&start, "field is immutable for unsuspended job once set");
    }
    let (end, before) = (new.get("completionTime"), old.get("completionTime"));
    if end.present() && before.present() && changed("completionTime") {
        errors.invalid(&end, "field is immutable");
    }
}

fn uncounted_uids(errors: &mut Errors, status: &At<'_, '_>) {
    let (uncounted, mut seen) = (status.get("uncountedTerminatedPods"), BTreeSet::new());
    for field in ["succeeded", "failed"] {
        for uid in uncounted.get(field).items() {
            if uid.text().is_empty() {
                errors.invalid(&uid, "must not be empty");
            } else if !seen.insert(uid.text()) {
                errors.duplicate(&uid);
            }
        }
    }
}

/// Which conditions exclude each other, which need another, and which stay for good.
fn conditions(errors: &mut Errors, spec: &At<'_, '_>, new: &At<'_, '_>, old: &At<'_, '_>) {
    let at = new.get("conditions");
    let turned = |kind: &str| is(new, kind) != is(old, kind);
    let mut wrong = |applies: bool, why: &str| {
        if applies {
            errors.invalid(&at, why);
        }
    };
    let (complete, failed) = (is(new, "Complete"), is(new, "Failed"));
    let (met, target) = (is(new, "SuccessCriteriaMet"), is(new, "FailureTarget"));
    let ended = turned("Complete") || turned("Failed");
    wrong(ended && complete && failed, "cannot set Complete=True and Failed=true conditions");
    wrong(
        (turned("Complete") || turned("FailureTarget")) && complete && target,
        "cannot set Complete=True and FailureTarget=true conditions",
    );
    wrong(
        turned("Failed") && failed && !target,
        "cannot set Failed=True condition without the FailureTarget=true condition",
    );
    wrong(
        (turned("Complete") || turned("SuccessCriteriaMet")) && complete && !met,
        "cannot set Complete=True condition without the SuccessCriteriaMet=true condition",
    );
    wrong(met && failed, "cannot set SuccessCriteriaMet=True and Failed=true conditions");
    wrong(met && target, "cannot set SuccessCriteriaMet=True and FailureTarget=true conditions");
    wrong(
        spec.get("successPolicy").present() && complete && !met,
        "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True",
    );
    for kind in ["Failed", "Complete", "FailureTarget"] {
        let gone = is(old, kind) && !is(new, kind);
        wrong(gone, &format!("cannot disable the terminal {kind}=True condition"));
    }
    let (was_met, was_complete) = (is(old, "SuccessCriteriaMet"), is(old, "Complete"));
    wrong(was_met && !met, "cannot disable the SuccessCriteriaMet=True condition");
    wrong(
        was_complete && !was_met && met,
        "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions",
    );
}

fn completion_time(errors: &mut Errors, status: &At<'_, '_>) {
    let (end, complete) = (status.get("completionTime"), is(status, "Complete"));
    if end.present() && !complete {
        errors.invalid(&end, "cannot set completionTime when there is no Complete=True condition");
    }
    if !end.present() && complete {
        errors.required(&end, "completionTime is required for Complete jobs");
    }
    let start = instant(&status.get("startTime"));
    if instant(&end).zip(start).is_some_and(|(end, start)| end < start) {
        errors.invalid(&end, "must be equal to or after `startTime`");
    }
}

fn finished_job(
    errors: &mut Errors,
    spec: &At<'_, '_>,
    status: &At<'_, '_>,
    changed: &dyn Fn(&str) -> bool,
    just_now: bool,
) {
    for field in ["active", "terminating"] {
        let at = status.get(field);
        if (just_now || changed(field)) && at.int().unwrap_or(0) > 0 {
            errors.invalid(&at, format!("{field}>0 is invalid for finished job"));
        }
    }
    let start = status.get("startTime");
    let never_ran = spec.get("suspend").is_true() && spec.get("completions").int() == Some(0);
    if (just_now || changed("startTime")) && !start.present() && !never_ran {
        errors.required(&start, "startTime is required for finished job");
    }
    let uncounted = status.get("uncountedTerminatedPods");
    let open = !uncounted.get("succeeded").is_empty() || !uncounted.get("failed").is_empty();
    if (just_now || changed("uncountedTerminatedPods")) && open {
        errors.invalid(&uncounted, "must be empty for finished job");
    }
}

fn index_lists(errors: &mut Errors, spec: &At<'_, '_>, status: &At<'_, '_>, completed: bool, failed: bool) {
    let (done, bad) = (status.get("completedIndexes"), status.get("failedIndexes"));
    let per_index = spec.get("backoffLimitPerIndex").present();
    if let Some(completions) = spec.get("completions").int() {
        for (at, name, looked_at) in
            [(&done, "completedIndexes", completed), (&bad, "failedIndexes", failed && per_index)]
        {
            if let Err(why) = Indexes::check(at.text(), completions)
                && looked_at
            {
                errors.invalid(at, format!("error parsing {name}: {why}"));
            }
        }
        let both = Indexes::parse(done.text(), completions).common(&Indexes::parse(bad.text(), completions));
        if let Some(index) = both.first().filter(|_| completed || failed) {
            errors.invalid(&bad, format!("failedIndexes and completedIndexes overlap at index: {index}"));
        }
    }
    if completed && !done.text().is_empty() && spec.get("completionMode").text() != INDEXED {
        errors.invalid(&done, "cannot set non-empty completedIndexes when non-indexed completion mode");
    }
    if failed && bad.present() && !per_index {
        errors.invalid(&bad, "cannot set non-null failedIndexes when backoffLimitPerIndex is null");
    }
}

/// Pods that have been counted stay counted. Succeeded ones may get fewer where an Indexed Job is made smaller.
fn counters(errors: &mut Errors, spec: &At<'_, '_>, new: &At<'_, '_>, old: &At<'_, '_>) {
    let elastic = spec.get("completionMode").text() == INDEXED
        && same(spec.get("completions").value(), spec.get("parallelism").value());
    for (field, fixed) in [("failed", true), ("succeeded", !elastic)] {
        let now = new.get(field).int().unwrap_or(0);
        if fixed && now < old.get(field).int().unwrap_or(0) {
            let why = format!("cannot decrease the {field} counter");
            errors.push(FieldError::invalid(new.get(field).path(), now.into(), why));
        }
    }
}
