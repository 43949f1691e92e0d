//! The status of a Deployment, with its conditions.

use super::model::{Deployment, ReplicaSet};
use crate::views;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::time::Duration;

/// What happened to the new ReplicaSet in this round.
pub(super) enum Event<'a> {
    /// Nothing new.
    None,
    /// It was created.
    Created(&'a str),
    /// It could not be created, and why.
    Failed(&'a str, &'a str),
}

/// The status, and when the progress deadline passes if nothing changes before.
pub(super) fn status(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    all: &[&ReplicaSet],
    event: Event<'_>,
    now: Timestamp,
) -> (Value, Option<Duration>) {
    let sum = |f: fn(&ReplicaSet) -> i64| all.iter().map(|s| f(s)).sum::<i64>();
    let available = sum(|s| s.status.available_replicas);
    let asked = sum(ReplicaSet::replicas);
    let old = &deployment.status;
    let mut status = json!({
        "observedGeneration": deployment.metadata.meta.generation,
        "terminatingReplicas": sum(|s| s.status.terminating_replicas),
    });
    for (key, number) in [
        ("replicas", sum(|s| s.status.replicas)),
        ("updatedReplicas", new.map_or(0, |n| n.status.replicas)),
        ("readyReplicas", sum(|s| s.status.ready_replicas)),
        ("availableReplicas", available),
        ("unavailableReplicas", (asked - available).max(0)),
    ] {
        if number != 0 {
            status[key] = number.into();
        }
    }
    if let Some(count) = old.get("collisionCount") {
        status["collisionCount"] = count.clone();
    }
    let mut conditions = Conditions { list: old["conditions"].as_array().cloned().unwrap_or_default(), now };
    if available >= deployment.replicas() - deployment.fences().1 {
        conditions.set(
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        );
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.set("Available", "False", "MinimumReplicasUnavailable", message);
    }
    let again = progress(deployment, new, &status, &mut conditions, event);
    match all.iter().find_map(|s| s.status.conditions.iter().find(|c| c["type"] == "ReplicaFailure")) {
        Some(failure) => conditions.set(
            "ReplicaFailure",
            failure["status"].as_str().unwrap_or("True"),
            failure["reason"].as_str().unwrap_or_default(),
            failure["message"].as_str().unwrap_or_default(),
        ),
        None => conditions.remove("ReplicaFailure"),
    }
    if !conditions.list.is_empty() {
        status["conditions"] = conditions.list.into();
    }
    (status, again)
}

/// Keeps the Progressing condition; answers when its deadline passes.
fn progress(
    deployment: &Deployment,
    new: Option<&ReplicaSet>,
    status: &Value,
    conditions: &mut Conditions,
    event: Event<'_>,
) -> Option<Duration> {
    const P: &str = "Progressing";
    let Some(deadline) = deployment.deadline() else {
        conditions.remove(P);
        return None;
    };
    match event {
        Event::Created(name) => {
            conditions.set(P, "True", "NewReplicaSetCreated", &format!("Created new replica set \"{name}\""));
        }
        Event::Failed(name, why) => {
            let message = format!("Failed to create new replica set \"{name}\": {why}");
            conditions.set(P, "False", "ReplicaSetCreateError", &message);
        }
        Event::None => {}
    }
    if deployment.spec.paused {
        conditions.set(P, "Unknown", "DeploymentPaused", "Deployment is paused");
        return None;
    }
    if conditions.reason(P) == Some("DeploymentPaused") {
        conditions.set(P, "Unknown", "DeploymentResumed", "Deployment is resumed");
    }
    if conditions.reason(P).is_none()
        && let Some(new) = new
    {
        conditions.set(P, "True", "FoundNewReplicaSet", &format!("Found new replica set \"{}\"", new.name()));
    }
    let number = |s: &Value, key: &str| s[key].as_i64().unwrap_or(0);
    let (replicas, updated) = (number(status, "replicas"), number(status, "updatedReplicas"));
    if replicas == updated && conditions.reason(P) == Some("NewReplicaSetAvailable") {
        return None;
    }
    let subject = match new {
        Some(new) => format!("ReplicaSet \"{}\"", new.name()),
        None => format!("Deployment \"{}\"", deployment.metadata.meta.name),
    };
    let want = deployment.replicas();
    let old = &deployment.status;
    let behind = |s: &Value| number(s, "replicas") - number(s, "updatedReplicas");
    let grew = |key: &str| number(status, key) > number(old, key);
    if updated == want && replicas == want && number(status, "availableReplicas") == want {
        conditions.set(
            P,
            "True",
            "NewReplicaSetAvailable",
            &format!("{subject} has successfully progressed."),
        );
        return None;
    }
    if grew("updatedReplicas")
        || grew("readyReplicas")
        || grew("availableReplicas")
        || behind(status) < behind(old)
    {
        conditions.touch(P, "True", "ReplicaSetUpdated", &format!("{subject} is progressing."));
    }
    let updated_at = conditions.updated(P)?;
    let left = deadline - conditions.now.as_second().saturating_sub(updated_at.as_second());
    match conditions.reason(P) {
        Some("NewReplicaSetAvailable" | "ProgressDeadlineExceeded") => None,
        _ if left < 0 => {
            let message = format!("{subject} has timed out progressing.");
            conditions.set(P, "False", "ProgressDeadlineExceeded", &message);
            None
        }
        // A second more, since conditions carry whole seconds.
        _ => Some(Duration::from_secs(left.unsigned_abs() + 1)),
    }
}

struct Conditions {
    list: Vec<Value>,
    now: Timestamp,
}

impl Conditions {
    fn get(&self, kind: &str) -> Option<&Value> {
        self.list.iter().find(|c| c["type"] == kind)
    }

    fn reason(&self, kind: &str) -> Option<&str> {
        self.get(kind)?["reason"].as_str()
    }

    fn updated(&self, kind: &str) -> Option<Timestamp> {
        self.get(kind)?["lastUpdateTime"].as_str()?.parse().ok()
    }

    fn remove(&mut self, kind: &str) {
        self.list.retain(|c| c["type"] != kind);
    }

    /// Sets a condition, unless one with that status and reason is there.
    fn set(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        if self.get(kind).is_some_and(|c| c["status"] == status && c["reason"] == reason) {
            return;
        }
        self.touch(kind, status, reason, message);
    }

    /// Sets a condition and its update time in any case; the transition time stays while the status does.
    fn touch(&mut self, kind: &str, status: &str, reason: &str, message: &str) {
        let now = views::time(self.now);
        let since = self.get(kind).filter(|c| c["status"] == status).map(|c| c["lastTransitionTime"].clone());
        self.remove(kind);
        self.list.push(json!({
            "type": kind, "status": status, "reason": reason, "message": message,
            "lastUpdateTime": now, "lastTransitionTime": since.unwrap_or_else(|| now.clone()),
        }));
    }
}
