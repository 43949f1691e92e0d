//! The status of an autoscaler as it becomes, with the events that go with it.

use crate::views::time;
use jiff::Timestamp;
use serde_json::{Value, json};

/// An event: whether it is a warning, its reason and its message.
pub(super) type Told = (bool, &'static str, String);

/// A status in the making.
pub(super) struct Status {
    tree: Value,
    now: Timestamp,
    /// What there is to tell.
    pub(super) told: Vec<Told>,
}

impl Status {
    /// Begins with what was written last.
    pub(super) fn new(object: &Value, now: Timestamp) -> Self {
        let tree = object.get("status").filter(|status| status.is_object()).cloned();
        Status { tree: tree.unwrap_or_else(|| json!({})), now, told: Vec::new() }
    }

    pub(super) fn warn(&mut self, reason: &'static str, message: &str) {
        self.told.push((true, reason, message.to_owned()));
    }

    /// Sets a condition; when it changed is said anew only where its status did.
    pub(super) fn condition(&mut self, kind: &str, good: bool, reason: &str, message: &str) {
        let state = if good { "True" } else { "False" };
        let mut new = json!({"type": kind, "status": state, "reason": reason, "message": message});
        if !self.tree["conditions"].is_array() {
            self.tree["conditions"] = json!([]);
        }
        let Some(all) = self.tree["conditions"].as_array_mut() else { return };
        let old = all.iter_mut().find(|c| c["type"] == kind);
        let since =
            old.as_ref().filter(|old| old["status"] == state).map(|old| old["lastTransitionTime"].clone());
        new["lastTransitionTime"] = since.unwrap_or_else(|| time(self.now));
        match old {
            Some(old) => *old = new,
            None => all.push(new),
        }
    }

    /// What metrics are; none where none was looked at.
    pub(super) fn metrics(&mut self, metrics: Vec<Value>) {
        self.tree["currentMetrics"] = if metrics.is_empty() { Value::Null } else { metrics.into() };
    }

    /// How many replicas there are, and how many there shall be where that is known.
    pub(super) fn replicas(&mut self, current: i64, desired: Option<i64>) {
        self.tree["currentReplicas"] = current.into();
        if let Some(desired) = desired {
            self.tree["desiredReplicas"] = desired.into();
        }
        if self.tree["desiredReplicas"].is_null() {
            self.tree["desiredReplicas"] = 0.into();
        }
    }

    /// The target has been scaled at this instant.
    pub(super) fn scaled(&mut self) {
        self.tree["lastScaleTime"] = time(self.now);
    }

    /// The object with this status; none where it says what it said.
    pub(super) fn written(&self, object: &Value) -> Option<Value> {
        let mut out = object.clone();
        let mut tree = self.tree.clone();
        if let Some(map) = tree.as_object_mut() {
            map.retain(|key, value| !value.is_null() && key != "observedGeneration");
        }
        out["status"] = tree;
        (out["status"] != object["status"]).then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_time_while_its_status_stays() {
        let now = |n: i64| Timestamp::from_second(1_800_000_000 + n).unwrap();
        let object = json!({"spec": {}});
        let mut first = Status::new(&object, now(0));
        first.condition("AbleToScale", true, "A", "a");
        first.replicas(1, None);
        let written = first.written(&object).unwrap();
        assert_eq!(written["status"]["desiredReplicas"], 0);
        let mut same = Status::new(&written, now(5));
        same.condition("AbleToScale", true, "A", "a");
        same.replicas(1, None);
        assert_eq!(same.written(&written), None);
        let mut other = Status::new(&written, now(9));
        other.condition("AbleToScale", true, "B", "b");
        other.condition("ScalingActive", false, "C", "c");
        let conditions = other.written(&written).unwrap()["status"]["conditions"].clone();
        assert_eq!(conditions[0]["lastTransitionTime"], time(now(0)));
        assert_eq!((&conditions[0]["reason"], conditions.as_array().unwrap().len()), (&json!("B"), 2));
        other.condition("AbleToScale", false, "B", "b");
        let conditions = other.written(&written).unwrap()["status"]["conditions"].clone();
        assert_eq!(conditions[0]["lastTransitionTime"], time(now(9)));
    }
}
