//! `matchLabelKeys` and `mismatchLabelKeys`: a new pod's own labels of those keys join the selector beside them
//! (`pkg/registry/core/pod/strategy.go`).

use serde_json::{Map, Value, json};

/// Writes the pod's own labels into the selectors of its constraints and of its affinity.
pub(super) fn join_selectors(pod: &mut Value) {
    let labels = pod.pointer("/metadata/labels").and_then(Value::as_object).cloned().unwrap_or_default();
    let each = |list: Option<&mut Value>, below: &str| {
        for item in list.and_then(Value::as_array_mut).into_iter().flatten() {
            if let Some(term) = item.pointer_mut(below) {
                join(term, &labels);
            }
        }
    };
    each(pod.pointer_mut("/spec/topologySpreadConstraints"), "");
    for affinity in ["podAffinity", "podAntiAffinity"] {
        let path =
            |when: &str| format!("/spec/affinity/{affinity}/{when}DuringSchedulingIgnoredDuringExecution");
        each(pod.pointer_mut(&path("preferred")), "/podAffinityTerm");
        each(pod.pointer_mut(&path("required")), "");
    }
}

fn join(term: &mut Value, labels: &Map<String, Value>) {
    let mut joined = Vec::new();
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys = term.get(field).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let known = keys.filter_map(|key| Some((key, labels.get(key)?)));
        joined.extend(known.map(|(key, value)| json!({"key": key, "operator": operator, "values": [value]})));
    }
    // A selector that is not there selects nothing, whatever the labels are.
    let Some(selector) = term.get_mut("labelSelector").and_then(Value::as_object_mut) else { return };
    if joined.is_empty() {
        return;
    }
    match selector.get_mut("matchExpressions").and_then(Value::as_array_mut) {
        Some(list) => list.extend(joined),
        None => drop(selector.insert("matchExpressions".into(), joined.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_labels_join_the_selector_that_is_there() {
        let term = |selector: Value| json!({"labelSelector": selector, "matchLabelKeys": ["a", "none"]});
        let mut pod = json!({"metadata": {"labels": {"a": "1", "b": "2"}}, "spec": {
            "topologySpreadConstraints": [term(json!({})), term(Value::Null)],
            "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{
                "podAffinityTerm": {"labelSelector": {"matchExpressions": [{"key": "x", "operator": "Exists"}]},
                    "mismatchLabelKeys": ["b"]}}]}}}});
        join_selectors(&mut pod);
        let spread = &pod["spec"]["topologySpreadConstraints"];
        assert_eq!(
            spread[0]["labelSelector"],
            json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["1"]}]})
        );
        assert_eq!(spread[1]["labelSelector"], Value::Null);
        let terms = "/spec/affinity/podAntiAffinity/preferredDuringSchedulingIgnoredDuringExecution/0/podAffinityTerm";
        let expressions = pod.pointer(terms).unwrap()["labelSelector"]["matchExpressions"].clone();
        assert_eq!(
            expressions,
            json!([{"key": "x", "operator": "Exists"}, {"key": "b", "operator": "NotIn", "values": ["2"]}])
        );
    }
}
