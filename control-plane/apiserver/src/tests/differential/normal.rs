//! Answers without what differs between two servers that are alike.

use serde_json::{Value, json};

/// What names of a token's volume begin with; five random characters follow.
const TOKEN_VOLUME: &str = "kube-api-access-";

/// An extra of users who come with a certificate.
const CREDENTIAL: &str = "authentication.kubernetes.io/credential-id";

/// What stands before the uid that a label must have, and the length of what follows.
const UID_WANTED: &str = ": must be '";
const UID_LENGTH: usize = 37;

/// What a dump of a change begins with.
const DUMP: char = '\n';

/// An answer as it is compared.
pub(super) fn answer(step: &Value, code: u16, body: &Value, warnings: &Value) -> Value {
    let mut body = body.clone();
    let uid = body["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
    let asked = step["body"].to_string();
    if let Some(metadata) = body.get_mut("metadata").and_then(Value::as_object_mut) {
        for key in ["uid", "resourceVersion", "creationTimestamp"] {
            if let Some(value) = metadata.get_mut(key) {
                *value = json!("some");
            }
        }
        if let Some(entries) = metadata.get_mut("managedFields").and_then(Value::as_array_mut) {
            entries.iter_mut().for_each(|entry| entry["time"] = json!("some"));
            // Their order says which second each was written in.
            let key = |entry: &Value| {
                ["operation", "manager", "apiVersion", "subresource"].map(|key| entry[key].to_string())
            };
            entries.sort_by_key(key);
        }
    }
    // Which of their certificates somebody used.
    if let Some(spec) = body.get_mut("spec").and_then(Value::as_object_mut) {
        spec.retain(|key, value| key != "extra" || value.get(CREDENTIAL).is_none());
    }
    walk(&mut body, &mut |key, value| {
        let Value::String(text) = value else {
            // Ports that were given out.
            let given =
                matches!(key, "nodePort" | "healthCheckNodePort") && !asked.contains(&value.to_string());
            if given {
                *value = json!("some");
            }
            return;
        };
        if !uid.is_empty() && text.contains(&uid) {
            *text = text.replace(&uid, "UID");
        }
        let address = matches!(key, "clusterIP" | "clusterIPs") && text != "None" && !asked.contains(&*text);
        let moment = matches!(key, "lastTransitionTime" | "lastUpdateTime" | "lastPhaseTransitionTime")
            && !asked.contains(&*text);
        let named =
            text.strip_prefix(TOKEN_VOLUME).is_some_and(|rest| rest.len() == 5) && !asked.contains(&*text);
        if address || moment || named {
            *text = "some".into();
        }
    });
    // What one distribution's server adds to the volume of a token.
    for volume in body.pointer_mut("/spec/volumes").and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(sources) = volume.pointer_mut("/projected/sources").and_then(Value::as_array_mut) {
            sources.retain(|source| source["configMap"]["name"] != "openshift-service-ca.crt");
        }
    }
    causes(&mut body);
    json!({"code": code, "body": body, "warnings": warnings})
}

/// Errors of validation in any order and each once: upstream validates some kinds twice. The message repeats them, so that
/// only what stands before them is left of it.
fn causes(body: &mut Value) {
    let Some(causes) = body.pointer_mut("/details/causes").and_then(Value::as_array_mut) else { return };
    // The first line of a message; a dump of what has changed, in the words of the language it is written in, follows.
    for message in causes.iter_mut().filter_map(|cause| cause.get_mut("message")) {
        if let Some((line, _)) = message.as_str().and_then(|text| text.split_once(DUMP)) {
            *message = line.into();
        }
        if let Some(text) = message.as_str().and_then(without_value) {
            *message = text.into();
        }
        if let Some((what, rest)) = message.as_str().and_then(|text| text.split_once(UID_WANTED))
            && rest.len() == UID_LENGTH
        {
            *message = format!("{what}{UID_WANTED}UID'").into();
        }
    }
    causes.sort_by_key(Value::to_string);
    causes.dedup();
    if let Some((what, _)) = body["message"].as_str().and_then(|text| text.split_once(" is invalid: ")) {
        body["message"] = what.into();
    }
}

/// A message without the structure or list that it shows as the wrong value: upstream shows those in a form of its own
/// that no version of the API has, and objects with their fields in an order of its own.
fn without_value(message: &str) -> Option<String> {
    let (what, rest) = message
        .split_once(" value: ")
        .filter(|(_, rest)| rest.starts_with(['{', '[']) || rest.starts_with("\"{"))?;
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    values.next()?.ok()?;
    Some(format!("{what} value: …{}", rest.get(values.byte_offset()..)?))
}

/// Shows every value with the key that it stands at, elements of lists with that of their list.
fn walk(value: &mut Value, see: &mut impl FnMut(&str, &mut Value)) {
    fn below(key: &str, value: &mut Value, see: &mut impl FnMut(&str, &mut Value)) {
        match value {
            Value::Object(map) => map.iter_mut().for_each(|(key, value)| below(key, value, see)),
            Value::Array(list) => list.iter_mut().for_each(|value| below(key, value, see)),
            value => see(key, value),
        }
    }
    below("", value, see);
}
