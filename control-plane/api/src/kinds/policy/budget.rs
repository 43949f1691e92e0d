//! What a PodDisruptionBudget says about the eviction of a pod (`pkg/registry/core/pod/storage/eviction.go`).

use crate::kinds::rfc3339;
use crate::resource::GroupResource;
use crate::status::{Status, StatusCause, StatusDetails};
use crate::validation::{At, selector};
use jiff::Timestamp;
use serde_json::{Value, json};

/// Type of the condition that says whether any pod may go.
const ALLOWED: &str = "DisruptionAllowed";
/// Reason of that condition while the controller cannot tell.
pub const SYNC_FAILED: &str = "SyncFailed";
/// Why an eviction is refused (`policy/v1.DisruptionBudgetCause`).
const CAUSE: &str = "DisruptionBudget";
const REFUSED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// Type of a pod's condition that says that it is to go, and why.
pub const MARK: &str = "DisruptionTarget";
/// Seconds after which a budget that is behind may be asked again.
const AGAIN: u32 = 10;
/// More evictions than this may not wait for the controller to see them.
const DISRUPTED_MAX: usize = 2000;

/// What becomes of a pod that is to be evicted, by the budget that guards it.
#[derive(Clone, Debug, PartialEq)]
pub enum Ruling {
    /// It goes, and the budget takes this status.
    Charge(Value),
    /// It goes without a charge, as long as it is what it was: it counts for nothing now.
    Free,
}

/// Whether no budget need be asked about a pod: it does not run yet, or not any more.
pub fn unguarded(pod: &Value) -> bool {
    let root = At::root(pod);
    matches!(root.get("status").get("phase").text(), "Succeeded" | "Failed" | "Pending")
        || root.get("metadata").get("deletionTimestamp").present()
}

/// Whether a pod without a guard must still be what it was when it goes: it might have begun to run.
pub fn may_change(pod: &Value) -> bool {
    let root = At::root(pod);
    !matches!(root.get("status").get("phase").text(), "Succeeded" | "Failed")
        && !root.get("metadata").get("deletionTimestamp").present()
}

/// Whether a budget guards a pod of its namespace.
pub fn guards(budget: &Value, pod: &Value) -> bool {
    let root = At::root(pod);
    let metadata = root.get("metadata");
    let wanted = selector::compile(budget.pointer("/spec/selector"));
    wanted.is_some_and(|wanted| wanted.matches(&selector::labels_of(&metadata)))
}

/// Asks a budget whether a pod may go.
///
/// # Errors
/// 429 where it would violate the budget, with upstream's cause; 403 where the status of the budget cannot be right.
pub fn rule(budget: &Value, pod: &Value, now: Timestamp) -> Result<Ruling, Status> {
    let root = At::root(budget);
    let (spec, status) = (root.get("spec"), root.get("status"));
    let number = |field: &str| status.get(field).int().unwrap_or(0);
    let (healthy, wanted) = (number("currentHealthy"), number("desiredHealthy"));
    let always = spec.get("unhealthyPodEvictionPolicy").text() == "AlwaysAllow";
    if !is_ready(pod) && (always || (healthy >= wanted && wanted > 0)) {
        return Ok(Ruling::Free);
    }
    let metadata = root.get("metadata");
    let name = metadata.get("name").text();
    if number("observedGeneration") < metadata.get("generation").int().unwrap_or(0) {
        return Err(behind(name));
    }
    let resource = GroupResource::new("policy", "poddisruptionbudget");
    let left = number("disruptionsAllowed");
    if left < 0 {
        return Err(Status::forbidden(&resource, name, "pdb disruptions allowed is negative"));
    }
    if status.get("disruptedPods").len() > DISRUPTED_MAX {
        let why = "DisruptedPods map too big - too many evictions not confirmed by PDB controller";
        return Err(Status::forbidden(&resource, name, why));
    }
    if left == 0 {
        return Err(refused(0, why_not(&status, name, healthy, wanted)));
    }
    let mut out = status.json();
    out["disruptionsAllowed"] = (left - 1).into();
    if left == 1 {
        out = with_condition(out, now);
    }
    let pod = pod.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    if !out["disruptedPods"].is_object() {
        out["disruptedPods"] = json!({});
    }
    out["disruptedPods"][pod] = rfc3339(now).into();
    Ok(Ruling::Charge(out))
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array).into_iter().flatten();
    conditions.into_iter().any(|c| c["type"] == "Ready" && c["status"] == "True")
}

/// The refusal while the controller has not looked at the budget as it is now.
pub fn behind(name: &str) -> Status {
    refused(AGAIN, format!("The disruption budget {name} is still being processed by the server."))
}

fn refused(again: u32, message: String) -> Status {
    let cause = StatusCause { reason: CAUSE.into(), message, field: String::new() };
    let mut status = Status::too_many_requests(REFUSED, again);
    let details = status.details.take().unwrap_or_default();
    status.details = Some(Box::new(StatusDetails { causes: vec![cause], ..*details }));
    status
}

fn why_not(status: &At<'_, '_>, name: &str, healthy: i64, wanted: i64) -> String {
    let conditions = status.get("conditions");
    let mut conditions = conditions.items();
    let told = conditions.find(|c| c.get("type").text() == ALLOWED && c.get("status").text() == "False");
    let told = told.map(|c| (c.get("reason").text(), c.get("message").text())).filter(|t| !t.1.is_empty());
    match told {
        Some((SYNC_FAILED, message)) => format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {message}"
        ),
        _ if healthy <= wanted => {
            format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
        }
        Some((reason, message)) => {
            format!(
                "The disruption budget {name} does not allow evicting pods currently ({reason}): {message}"
            )
        }
        None => format!("The disruption budget {name} does not allow evicting pods currently"),
    }
}

/// A status with the condition that its `disruptionsAllowed` asks for.
pub fn with_condition(status: Value, now: Timestamp) -> Value {
    if status["disruptionsAllowed"].as_i64().unwrap_or(0) > 0 {
        put_condition(status, ("True", "SufficientPods", ""), now)
    } else {
        put_condition(status, ("False", "InsufficientPods", ""), now)
    }
}

/// A status that allows nothing because the controller could not tell.
pub fn failed(mut status: Value, why: &str, now: Timestamp) -> Value {
    status["disruptionsAllowed"] = 0.into();
    put_condition(status, ("False", SYNC_FAILED, why), now)
}

fn put_condition(mut status: Value, (is, reason, message): (&str, &str, &str), now: Timestamp) -> Value {
    let observed = status["observedGeneration"].as_i64().unwrap_or(0);
    let known = status["conditions"].as_array().cloned().unwrap_or_default();
    let old = known.iter().find(|c| c["type"] == ALLOWED);
    let since = old.filter(|c| c["status"] == is).map(|c| c["lastTransitionTime"].clone());
    let mut new = json!({
        "type": ALLOWED, "status": is, "reason": reason, "message": message,
        "lastTransitionTime": since.unwrap_or_else(|| rfc3339(now).into()),
    });
    if observed > 0 {
        new["observedGeneration"] = observed.into();
    }
    let at = known.iter().position(|c| c["type"] == ALLOWED);
    let mut conditions = known;
    match at {
        Some(at) => conditions[at] = new,
        None => conditions.push(new),
    }
    status["conditions"] = conditions.into();
    status
}

/// A pod's status with the condition that says why it goes.
pub fn marked(pod: &Value, now: Timestamp) -> Value {
    let mut out = pod.clone();
    let mut conditions =
        out.pointer("/status/conditions").and_then(Value::as_array).cloned().unwrap_or_default();
    let is = |c: &Value| c["type"] == MARK;
    let old = conditions.iter().find(|c| is(c) && c["status"] == "True");
    let since = old.map_or_else(|| rfc3339(now).into(), |c| c["lastTransitionTime"].clone());
    let mut new = json!({
        "type": MARK, "status": "True", "reason": "EvictionByEvictionAPI",
        "message": "Eviction API: evicting", "lastProbeTime": null, "lastTransitionTime": since,
    });
    // Who says which generation a condition is of goes on to.
    if let Some(observed) = conditions.iter().find(|c| is(c)).and_then(|c| c.get("observedGeneration")) {
        new["observedGeneration"] = observed.clone();
    }
    conditions.retain(|c| !is(c));
    conditions.push(new);
    if !out["status"].is_object() {
        out["status"] = json!({});
    }
    out["status"]["conditions"] = conditions.into();
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-05-01T12:00:00Z".parse().unwrap()
    }

    fn pod(ready: bool) -> Value {
        json!({"metadata": {"name": "web-0", "labels": {"app": "web"}}, "status": {"phase": "Running",
            "conditions": [{"type": "Ready", "status": if ready { "True" } else { "False" }}]}})
    }

    fn budget(status: &Value) -> Value {
        let mut out = json!({"metadata": {"name": "pdb", "generation": 2},
            "spec": {"selector": {"matchLabels": {"app": "web"}}},
            "status": {"observedGeneration": 2, "currentHealthy": 3, "desiredHealthy": 2, "disruptionsAllowed": 1}});
        for (field, value) in status.as_object().unwrap() {
            out["status"][field] = value.clone();
        }
        out
    }

    fn refusal(status: &Value) -> (u16, String, u32) {
        let error = rule(&budget(status), &pod(true), now()).unwrap_err();
        let details = error.details.unwrap();
        let why = details.causes.first().map_or(error.message, |c| format!("{} {}", c.reason, c.message));
        (error.code, why, details.retry_after_seconds)
    }

    #[test]
    fn an_eviction_is_charged() {
        let Ruling::Charge(status) = rule(&budget(&json!({})), &pod(true), now()).unwrap() else {
            panic!("free")
        };
        assert_eq!(status["disruptionsAllowed"], 0);
        assert_eq!(status["disruptedPods"], json!({"web-0": "2026-05-01T12:00:00Z"}));
        assert_eq!(status["conditions"][0]["reason"], "InsufficientPods");
        let Ruling::Charge(status) =
            rule(&budget(&json!({"disruptionsAllowed": 2})), &pod(true), now()).unwrap()
        else {
            panic!("free")
        };
        assert!(status.get("conditions").is_none());
    }

    #[test]
    fn a_budget_refuses() {
        let prefix = "DisruptionBudget The disruption budget pdb";
        let told = |reason: &str| {
            json!({"disruptionsAllowed": 0, "conditions": [
                {"type": "DisruptionAllowed", "status": "False", "reason": reason, "message": "no luck"}]})
        };
        for (status, code, why, again) in [
            (
                json!({"observedGeneration": 1}),
                429,
                format!("{prefix} is still being processed by the server."),
                10,
            ),
            (
                json!({"disruptionsAllowed": 0, "currentHealthy": 2}),
                429,
                format!("{prefix} needs 2 healthy pods and has 2 currently"),
                0,
            ),
            (
                json!({"disruptionsAllowed": 0}),
                429,
                format!("{prefix} does not allow evicting pods currently"),
                0,
            ),
            (
                told("SyncFailed"),
                429,
                format!("{prefix} does not allow evicting pods currently because it failed sync: no luck"),
                0,
            ),
            (told("Odd"), 429, format!("{prefix} does not allow evicting pods currently (Odd): no luck"), 0),
        ] {
            assert_eq!(refusal(&status), (code, why, again), "{status}");
        }
        assert_eq!(refusal(&json!({"disruptionsAllowed": -1})).0, 403);
        let error = rule(&budget(&json!({"disruptionsAllowed": 0})), &pod(true), now()).unwrap_err();
        assert_eq!(error.message, REFUSED);
    }

    #[test]
    fn pods_that_are_not_ready_may_go_free() {
        let full = budget(&json!({"currentHealthy": 2, "disruptionsAllowed": 0}));
        assert_eq!(rule(&full, &pod(false), now()), Ok(Ruling::Free));
        let short = budget(&json!({"currentHealthy": 1, "disruptionsAllowed": 0}));
        assert!(rule(&short, &pod(false), now()).is_err());
        let mut always = short;
        always["spec"]["unhealthyPodEvictionPolicy"] = "AlwaysAllow".into();
        assert_eq!(rule(&always, &pod(false), now()), Ok(Ruling::Free));
    }

    #[test]
    fn who_is_guarded() {
        assert!(guards(&budget(&json!({})), &pod(true)));
        let of = |selector: Value| json!({"spec": {"selector": selector}});
        assert!(guards(&of(json!({})), &pod(true)), "an empty selector is everything");
        assert!(!guards(&of(Value::Null), &pod(true)), "none is nothing");
        assert!(!unguarded(&pod(true)));
        let pending = json!({"status": {"phase": "Pending"}});
        assert!(unguarded(&pending) && may_change(&pending));
        let done = json!({"status": {"phase": "Failed"}});
        assert!(unguarded(&done) && !may_change(&done));
        let going = json!({"metadata": {"deletionTimestamp": "2026-05-01T12:00:00Z"}, "status": {"phase": "Running"}});
        assert!(unguarded(&going) && !may_change(&going));
    }

    #[test]
    fn conditions_keep_their_time() {
        let first = with_condition(json!({"disruptionsAllowed": 1, "observedGeneration": 2}), now());
        assert_eq!(first["conditions"][0]["observedGeneration"], 2);
        let later = "2026-05-01T13:00:00Z".parse().unwrap();
        assert_eq!(with_condition(first.clone(), later), first);
        let broken = failed(first, "lost", later);
        assert_eq!(broken["conditions"][0]["lastTransitionTime"], "2026-05-01T13:00:00Z");
        assert_eq!(broken["disruptionsAllowed"], 0);
        let pod = marked(&pod(true), now());
        assert_eq!(pod["status"]["conditions"][1]["reason"], "EvictionByEvictionAPI");
        assert_eq!(marked(&pod, later), pod);
    }
}
