//! Says in the status of each FlowSchema whether its priority level is there.

use jiff::Timestamp;
use serde_json::{Value, json};
use skep_api::{Object, Status};
use skep_client::{Client, Collection, Informer, Patch, WriteOptions};
use std::sync::Arc;
use std::time::Duration;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
/// Who writes the condition.
const MANAGER: &str = "api-priority-and-fairness-config-consumer-v1";
const DANGLING: &str = "Dangling";
/// How long a failed attempt waits before the next.
const RETRY: Duration = Duration::from_secs(1);

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// What is to be applied to a FlowSchema; none where its condition is as it should be. `there` says whether a priority level
/// exists.
fn verdict(schema: &Value, there: impl Fn(&str) -> bool, now: Timestamp) -> Option<Value> {
    let level = text(schema, "/spec/priorityLevelConfiguration/name");
    let names = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = match there(level) {
        true => ("False", "Found", format!("{names} and it exists")),
        false => ("True", "NotFound", format!("{names} but there is no such object")),
    };
    let conditions = schema.pointer("/status/conditions").and_then(Value::as_array);
    let old = conditions.into_iter().flatten().find(|condition| condition["type"] == DANGLING);
    if old.is_some_and(|old| old["status"] == status && old["reason"] == reason && old["message"] == *message)
    {
        return None;
    }
    let since = old.filter(|old| old["status"] == status).map(|old| old["lastTransitionTime"].clone());
    let second = || Timestamp::from_second(now.as_second()).unwrap_or(now).to_string().into();
    Some(json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "FlowSchema",
        "metadata": {"name": text(schema, "/metadata/name")},
        "status": {"conditions": [{
            "type": DANGLING, "status": status, "reason": reason, "message": message,
            "lastTransitionTime": since.unwrap_or_else(second),
        }]},
    }))
}

/// Keeps the conditions true for as long as the server runs.
pub async fn keep(client: Arc<dyn Client>) {
    let schemas = Collection::of(GROUP, "v1", "flowschemas");
    let all = Informer::all(client.clone(), schemas.clone());
    let levels = Informer::all(client.clone(), Collection::of(GROUP, "v1", "prioritylevelconfigurations"));
    all.synced().await;
    levels.synced().await;
    let (mut changed, mut moved) = (all.subscribe(), levels.subscribe());
    loop {
        let mut failed = false;
        for schema in all.list() {
            if let Err(status) = write(&*client, &schemas, &schema, &levels).await
                && !status.is_not_found()
            {
                tracing::debug!(name = %schema.meta().name, %status, "the condition of a FlowSchema was not written");
                failed = true;
            }
        }
        let more = tokio::select! {
            more = changed.recv() => more.is_some(),
            more = moved.recv() => more.is_some(),
            () = tokio::time::sleep(RETRY), if failed => true,
        };
        if !more {
            return;
        }
        // What has come meanwhile is looked at together.
        while changed.try_recv().is_ok() || moved.try_recv().is_ok() {}
    }
}

async fn write(
    client: &dyn Client,
    schemas: &Collection,
    schema: &Object,
    levels: &Informer,
) -> Result<(), Status> {
    let there = |name: &str| levels.get("", name).is_some();
    let Some(body) = verdict(&schema.value(), there, Timestamp::now()) else { return Ok(()) };
    let target = schemas.object(&*schema.meta().name).sub("status");
    let options =
        WriteOptions { field_manager: Some(MANAGER.into()), force: true, ..WriteOptions::default() };
    client.patch(&target, &Patch::Apply(body), &options).await.map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    #[test]
    fn a_schema_dangles_while_its_level_is_not_there() {
        let mut schema =
            json!({"metadata": {"name": "s"}, "spec": {"priorityLevelConfiguration": {"name": "p"}}});
        let found = verdict(&schema, |name| name == "p", at(0)).unwrap();
        assert_eq!(
            found["status"]["conditions"][0],
            json!({
                "type": "Dangling", "status": "False", "reason": "Found", "lastTransitionTime": at(0).to_string(),
                "message": "This FlowSchema references the PriorityLevelConfiguration object named \"p\" and it exists",
            })
        );
        schema["status"] = found["status"].clone();
        assert_eq!(verdict(&schema, |_| true, at(5)), None, "nothing to write");
        let lost = verdict(&schema, |_| false, at(9)).unwrap()["status"]["conditions"][0].clone();
        assert_eq!((&lost["status"], &lost["reason"]), (&json!("True"), &json!("NotFound")));
        assert_eq!(lost["lastTransitionTime"], at(9).to_string());
        assert_eq!(
            lost["message"],
            "This FlowSchema references the PriorityLevelConfiguration object named \"p\" but there is no such object"
        );
    }
}
