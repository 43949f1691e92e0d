//! The specification of a Job, by itself and as a CronJob's template has it.

use super::failure;
use crate::field::FieldError;
use crate::kinds::workload;
use crate::names::dns1123_subdomain;
use crate::validation::{At, Errors};
use serde_json::{Map, Value};

/// Most pods of an Indexed Job at a time, and most indexes of it that may fail.
const INDEXED_MAX: i64 = 100_000;
/// The same above so many completions, with a backoff limit an index.
const MANY_COMPLETIONS: i64 = 100_000;
const MANY_MAX: i64 = 10_000;
const MANAGER_MAX: usize = 63;

pub(super) const INDEXED: &str = "Indexed";
const MODES: &[&str] = &["NonIndexed", INDEXED];
const REPLACE_FAILED: &str = "Failed";

/// Defaults that depend on other fields.
pub(super) fn default(spec: &mut Map<String, Value>) {
    let absent = |spec: &Map<String, Value>, key: &str| spec.get(key).is_none_or(Value::is_null);
    if absent(spec, "parallelism") {
        if absent(spec, "completions") {
            spec.insert("completions".into(), 1.into());
        }
        spec.insert("parallelism".into(), 1.into());
    }
    let per_index = !absent(spec, "backoffLimitPerIndex");
    let replacement = if absent(spec, "podFailurePolicy") { "TerminatingOrFailed" } else { REPLACE_FAILED };
    for (key, value) in [
        ("backoffLimit", Value::from(if per_index { i32::MAX } else { 6 })),
        ("completionMode", "NonIndexed".into()),
        ("suspend", false.into()),
        ("podReplacementPolicy", replacement.into()),
        ("manualSelector", false.into()),
    ] {
        if absent(spec, key) {
            spec.insert(key.into(), value);
        }
    }
}

/// Errors of everything but the selector.
pub(super) fn validate(errors: &mut Errors, spec: &At<'_, '_>) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        errors.not_negative(&spec.get(field));
    }
    let (per_index, max_failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    if max_failed.present() && !per_index.present() {
        errors.required(&per_index, "when maxFailedIndexes is specified");
    }
    let manager = spec.get("managedBy");
    if manager.present() {
        managed_by(errors, &manager);
    }
    let mode = spec.get("completionMode");
    errors.optional_one_of(&mode, MODES);
    let is_indexed = mode.text() == INDEXED;
    if is_indexed {
        indexed(errors, spec);
    } else {
        for field in [&per_index, &max_failed] {
            if field.present() {
                errors.invalid(field, "requires indexed completion mode");
            }
        }
    }
    let policy = spec.get("podFailurePolicy");
    if policy.present() {
        failure::pod_failure_policy(errors, spec);
    }
    let success = spec.get("successPolicy");
    if success.present() {
        if is_indexed {
            failure::success_policy(errors, spec);
        } else {
            errors.invalid(&success, "requires indexed completion mode");
        }
    }
    let replacement = spec.get("podReplacementPolicy");
    if replacement.present() {
        let known: &[&str] =
            if policy.present() { &[REPLACE_FAILED] } else { &[REPLACE_FAILED, "TerminatingOrFailed"] };
        errors.one_of(&replacement, known);
    }
    let template = spec.get("template");
    workload::template(errors, &template);
    let pod = template.get("spec");
    let restart = pod.get("restartPolicy");
    match restart.text() {
        "" | "Always" => errors.required(&restart, "valid values: \"OnFailure\", \"Never\""),
        "OnFailure" if policy.present() => {
            errors.invalid(&restart, "only \"Never\" is supported when podFailurePolicy is specified");
        }
        "OnFailure" | "Never" => {}
        _ => errors.not_supported(&restart, &["OnFailure", "Never"]),
    }
}

fn indexed(errors: &mut Errors, spec: &At<'_, '_>) {
    let (completions, parallelism) = (spec.get("completions"), spec.get("parallelism"));
    let (per_index, max_failed) = (spec.get("backoffLimitPerIndex"), spec.get("maxFailedIndexes"));
    let above = |errors: &mut Errors, at: &At<'_, '_>, max: i64, when: &str| {
        if at.int().is_some_and(|n| n > max) {
            errors.invalid(at, format!("must be less than or equal to {max}{when}"));
        }
    };
    above(errors, &parallelism, INDEXED_MAX, " when completion mode is Indexed");
    let Some(wanted) = completions.int() else {
        above(errors, &max_failed, INDEXED_MAX, "");
        return errors.required(&completions, "when completion mode is Indexed");
    };
    if max_failed.int().is_some_and(|n| n > wanted) {
        errors.invalid(&max_failed, "must be less than or equal to completions");
    }
    above(errors, &max_failed, INDEXED_MAX, "");
    if wanted > MANY_COMPLETIONS && per_index.present() {
        if !max_failed.present() {
            let why = format!("must be specified when completions is above {MANY_COMPLETIONS}");
            errors.required(&max_failed, why);
        }
        let when =
            format!(" when completions are above {MANY_COMPLETIONS} and used with backoff limit per index");
        above(errors, &parallelism, MANY_MAX, &when);
        above(errors, &max_failed, MANY_MAX, &when);
    }
}

fn managed_by(errors: &mut Errors, at: &At<'_, '_>) {
    let name = at.text();
    match name.split_once('/') {
        _ if name.is_empty() => errors.required(at, ""),
        Some((host, path)) if !host.is_empty() && !path.is_empty() => {
            for why in dns1123_subdomain(host, false) {
                errors.push(FieldError::invalid(at.path(), host.into(), why));
            }
            let fine = |b: u8| b.is_ascii_alphanumeric() || b"/%:_.~!$&'()*+,;=-".contains(&b);
            if !path.bytes().all(fine) {
                errors.push(FieldError::invalid(at.path(), path.into(), "Invalid path"));
            }
        }
        _ => errors.invalid(at, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
    if name.len() > MANAGER_MAX {
        errors.push(FieldError::too_long(at.path(), MANAGER_MAX));
    }
}
