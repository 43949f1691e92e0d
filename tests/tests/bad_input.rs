//! Bad input gets the `Status` that Kubernetes gives, and nothing is half-written.

use anyhow::Result;
use serde_json::{Value, json};
use skep_tests::{TestCluster, objects};
use xtask::api::Answer;

const CONFIG_MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn config_map(name: &str, data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// The answer is a `Status` of failure with this code, reason, and text in its message.
fn refused(answer: &Answer, code: u16, reason: &str, part: &str) -> Result<Value> {
    let status = answer.json()?;
    assert_eq!(answer.status, code, "{status}");
    assert_eq!(
        (&status["kind"], &status["status"], &status["code"]),
        (&json!("Status"), &json!("Failure"), &json!(code))
    );
    assert_eq!(status["reason"], reason, "{status}");
    let message = status["message"].as_str().unwrap_or_default();
    assert!(message.contains(part), "no {part:?} in {message:?}");
    Ok(status)
}

fn cause(status: &Value, field: &str) {
    let causes = status["details"]["causes"].as_array().map(Vec::as_slice).unwrap_or_default();
    assert!(causes.iter().any(|cause| cause["field"] == field), "no cause at {field}: {status}");
}

#[test]
fn bad_input_is_refused_with_a_reason() -> Result<()> {
    let cluster = TestCluster::start_control_plane()?;
    let api = &cluster.api;
    let absent = |name: &str| -> Result<()> {
        assert_eq!(api.get(&format!("{CONFIG_MAPS}/{name}"))?.status, 404, "{name} was written");
        Ok(())
    };

    // Unknown field under strict validation.
    let mut object = config_map("strict", json!({}));
    object["nonsense"] = json!(1);
    let answer = api.create(&format!("{CONFIG_MAPS}?fieldValidation=Strict"), &object)?;
    refused(&answer, 400, "BadRequest", "unknown field \"nonsense\"")?;
    absent("strict")?;

    // Wrong type.
    let answer = api.create(CONFIG_MAPS, &config_map("typed", json!("text")))?;
    refused(&answer, 400, "BadRequest", "data")?;
    absent("typed")?;

    // A name that is no name.
    let answer = api.create(CONFIG_MAPS, &config_map("No_Name", json!({})))?;
    cause(&refused(&answer, 422, "Invalid", "metadata.name")?, "metadata.name");

    // Already exists.
    api.create(CONFIG_MAPS, &config_map("twice", json!({"a": "1"})))?.success()?;
    let answer = api.create(CONFIG_MAPS, &config_map("twice", json!({"a": "2"})))?;
    refused(&answer, 409, "AlreadyExists", "configmaps \"twice\" already exists")?;
    let kept = api.get(&format!("{CONFIG_MAPS}/twice"))?.success()?;
    assert_eq!(kept["data"]["a"], "1");

    // A stale resourceVersion.
    api.merge(&format!("{CONFIG_MAPS}/twice"), &json!({"data": {"a": "3"}}))?.success()?;
    let mut stale = kept.clone();
    stale["data"]["a"] = json!("4");
    let put = |path: &str, object: &Value| -> Result<Answer> {
        api.request("PUT".parse()?, path, "application/json", serde_json::to_vec(object)?)
    };
    refused(&put(&format!("{CONFIG_MAPS}/twice"), &stale)?, 409, "Conflict", "the object has been modified")?;
    assert_eq!(api.get(&format!("{CONFIG_MAPS}/twice"))?.success()?["data"]["a"], "3");

    // An immutable field.
    let selector = json!({"spec": {"selector": {"matchLabels": {"app": "other"}}, "template": {"metadata": {"labels": {"app": "other"}}}}});
    cluster.create("/apis/apps/v1/namespaces/default/deployments", &objects::deployment("fixed", 0))?;
    let answer = api.merge("/apis/apps/v1/namespaces/default/deployments/fixed", &selector)?;
    cause(&refused(&answer, 422, "Invalid", "field is immutable")?, "spec.selector");

    // Data over 1 MiB, and a body over 3 MiB.
    let answer = api.create(CONFIG_MAPS, &config_map("large", json!({"a": "x".repeat((1 << 20) + 1)})))?;
    refused(&answer, 422, "Invalid", "Too long")?;
    absent("large")?;
    // The server answers before it has read all: kubectl listens while it sends, this test's own client does not.
    let huge = config_map("huge", json!({"a": "x".repeat((3 << 20) + 1)})).to_string();
    let output = cluster.kubectl_with(&["create", "--raw", CONFIG_MAPS, "-f", "-"], &huge)?;
    assert!(output.code != Some(0) && output.stderr.contains("RequestEntityTooLarge"), "{output:?}");
    absent("huge")?;

    // Not JSON, not found, not a method.
    let answer = api.request("POST".parse()?, CONFIG_MAPS, "application/json", b"{".to_vec())?;
    refused(&answer, 400, "BadRequest", "")?;
    refused(&api.get(&format!("{CONFIG_MAPS}/nobody"))?, 404, "NotFound", "configmaps \"nobody\" not found")?;
    Ok(())
}
