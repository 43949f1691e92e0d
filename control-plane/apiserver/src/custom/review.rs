//! `ConversionReview`: what a conversion webhook is asked, and what is taken from its answer. Plain functions.

use serde_json::{Map, Value, json};
use skep_api::GroupVersionKind;

const GROUP: &str = "apiextensions.k8s.io";

/// The version of the question: the first that the webhook names and this server speaks.
pub(super) fn version(understood: &[String]) -> Option<&str> {
    understood.iter().map(String::as_str).find(|v| matches!(*v, "v1" | "v1beta1"))
}

/// The question.
pub(super) fn ask(version: &str, uid: &str, objects: &[Value], desired: &str) -> Value {
    json!({
        "kind": "ConversionReview", "apiVersion": format!("{GROUP}/{version}"),
        "request": {"uid": uid, "desiredAPIVersion": desired, "objects": objects},
    })
}

/// The objects of an answer, as many as were sent; what is wrong with it else.
pub(super) fn read(
    answer: &Value,
    version: &str,
    uid: &str,
    objects: usize,
    gvk: &GroupVersionKind,
) -> Result<Vec<Value>, String> {
    let failed = |why: String| format!("conversion webhook for {gvk} failed: {why}");
    let text = |tree: &Value, key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    // Upstream looks at neither of the two in the old version.
    let strict = version == "v1";
    let wanted = format!("{GROUP}/{version}, Kind=ConversionReview");
    let got = format!("{}, Kind={}", text(answer, "apiVersion"), text(answer, "kind"));
    if strict && got != wanted {
        return Err(failed(format!("expected webhook response of {wanted}, got {got}")));
    }
    let response = answer.get("response").filter(|r| !r.is_null());
    let response = response.ok_or_else(|| failed("no response provided".into()))?;
    if strict && text(response, "uid") != uid {
        let got = text(response, "uid");
        return Err(failed(format!("expected response.uid={uid:?}, got {got:?}")));
    }
    let result = response.get("result").unwrap_or(&Value::Null);
    if text(result, "status") != "Success" {
        let message = text(result, "message");
        return Err(failed(match message.is_empty() {
            false => message,
            true => format!("response.result.status was '{}', not 'Success'", text(result, "status")),
        }));
    }
    let converted = response.get("convertedObjects").and_then(Value::as_array).cloned().unwrap_or_default();
    if converted.len() != objects {
        let got = converted.len();
        return Err(format!("conversion webhook for {gvk} returned {got} objects, expected {objects}"));
    }
    Ok(converted)
}

/// A converted object, once it has been seen that it is the same object in the desired version. It keeps the metadata it
/// had, but for labels and annotations.
pub(super) fn accept(
    original: &Value,
    mut converted: Value,
    desired: &str,
    at: usize,
    gvk: &GroupVersionKind,
) -> Result<Value, String> {
    let invalid = |why: String| {
        format!("conversion webhook for {gvk} returned invalid converted object at index {at}: {why}")
    };
    let text = |tree: &Value, key: &str| tree.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let meta = |tree: &Value, key: &str| tree.get("metadata").map(|m| text(m, key)).unwrap_or_default();
    let got = text(&converted, "apiVersion");
    if got != desired {
        return Err(invalid(format!("invalid groupVersion (expected {desired}, received {got})")));
    }
    let (kind, got) = (text(original, "kind"), text(&converted, "kind"));
    if got != kind {
        return Err(invalid(format!("invalid kind (expected {kind}, received {got})")));
    }
    for (key, name) in [("name", "name"), ("namespace", "namespace"), ("uid", "UID")] {
        let (had, has) = (meta(original, key), meta(&converted, key));
        if had != has {
            return Err(invalid(format!("must have the same {name}: {had} != {has}")));
        }
    }
    let metadata = restored(original, &converted).map_err(|why| {
        format!("conversion webhook for {gvk} returned invalid metadata in object at index {at}: {why}")
    })?;
    if let Some(top) = converted.as_object_mut() {
        top.insert("metadata".into(), Value::Object(metadata));
    }
    Ok(converted)
}

fn restored(original: &Value, converted: &Value) -> Result<Map<String, Value>, String> {
    let given = match converted.get("metadata") {
        None => return Err("missing metadata in converted object".into()),
        Some(Value::Object(given)) => given,
        Some(_) => return Err("invalid metadata in converted object".into()),
    };
    let mut kept = original.get("metadata").and_then(Value::as_object).cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        match given.get(field) {
            None | Some(Value::Null) => {
                kept.remove(field);
            }
            Some(Value::Object(map)) => {
                if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
                    return Err(format!("metadata.{field}[{key}] must be a string in converted object"));
                }
                kept.insert(field.into(), Value::Object(map.clone()));
            }
            Some(_) => return Err(format!("invalid metadata.{field} in converted object")),
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gvk() -> GroupVersionKind {
        GroupVersionKind::new("stable.example.com", "v1", "Endpoint")
    }

    fn answer(response: Value) -> Value {
        json!({"kind": "ConversionReview", "apiVersion": "apiextensions.k8s.io/v1", "response": response})
    }

    #[test]
    fn the_version_is_the_first_that_both_know() {
        let of = |list: &[&str]| {
            let list: Vec<String> = list.iter().map(|v| (*v).to_owned()).collect();
            version(&list).map(str::to_owned)
        };
        assert_eq!(of(&["v2", "v1beta1", "v1"]).as_deref(), Some("v1beta1"));
        assert_eq!(of(&["v2"]), None);
    }

    #[test]
    fn an_answer_must_be_to_this_question() {
        let good =
            answer(json!({"uid": "u", "result": {"status": "Success"}, "convertedObjects": [{"a": 1}]}));
        assert_eq!(read(&good, "v1", "u", 1, &gvk()), Ok(vec![json!({"a": 1})]));
        for (response, want) in [
            (json!({"uid": "x", "result": {"status": "Success"}}), "expected response.uid=\"u\", got \"x\""),
            (json!({"uid": "u", "result": {"status": "Failed", "message": "no idea"}}), "failed: no idea"),
            (json!({"uid": "u", "result": {}}), "response.result.status was '', not 'Success'"),
            (json!({"uid": "u", "result": {"status": "Success"}}), "returned 0 objects, expected 1"),
            (Value::Null, "no response provided"),
        ] {
            let why = read(&answer(response), "v1", "u", 1, &gvk()).unwrap_err();
            assert!(why.contains(want), "{why}");
        }
        let other = json!({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1"});
        assert!(read(&other, "v1", "u", 1, &gvk()).unwrap_err().contains("expected webhook response of"));
        let old = json!({"response": {"result": {"status": "Success"}, "convertedObjects": [{}]}});
        assert!(read(&old, "v1beta1", "u", 1, &gvk()).is_ok());
    }

    #[test]
    fn only_labels_and_annotations_of_metadata_may_change() {
        let original = json!({
            "apiVersion": "stable.example.com/v1", "kind": "Endpoint",
            "metadata": {"name": "a", "uid": "u", "labels": {"x": "y"}, "annotations": {"b": "c"}, "generation": 2},
        });
        let mut converted = json!({
            "apiVersion": "stable.example.com/v2", "kind": "Endpoint",
            "metadata": {"name": "a", "uid": "u", "labels": {"x": "z"}, "generation": 7}, "host": "h",
        });
        let desired = "stable.example.com/v2";
        let got = accept(&original, converted.clone(), desired, 0, &gvk()).unwrap();
        assert_eq!(got["metadata"], json!({"name": "a", "uid": "u", "labels": {"x": "z"}, "generation": 2}));
        assert_eq!(got["host"], "h");
        converted["metadata"]["labels"] = json!({"x": 1});
        assert!(
            accept(&original, converted.clone(), desired, 0, &gvk())
                .unwrap_err()
                .contains("must be a string")
        );
        converted["metadata"] = json!({"name": "b", "uid": "u"});
        let why = accept(&original, converted.clone(), desired, 0, &gvk()).unwrap_err();
        assert!(why.ends_with("must have the same name: a != b"), "{why}");
        let why = accept(&original, converted, "stable.example.com/v3", 0, &gvk()).unwrap_err();
        assert!(why.contains("invalid groupVersion (expected stable.example.com/v3"), "{why}");
    }
}
