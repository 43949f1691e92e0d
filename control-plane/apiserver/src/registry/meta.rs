//! What the registry itself does to `metadata`, as plain functions.

use serde_json::{Map, Value};
use skep_api::schema::json_name;
use skep_api::{GroupVersionKind, Object, Resource, Status};
use std::sync::Arc;

/// Longest base of a generated name, so that base and suffix stay a DNS label.
const GENERATED_BASE: usize = 58;
const SUFFIX: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// The text at a path below `metadata`, empty where there is none.
pub(crate) fn text<'a>(object: &'a Value, key: &str) -> &'a str {
    object.get("metadata").and_then(|m| m.get(key)).and_then(Value::as_str).unwrap_or_default()
}

/// `metadata` to be changed; made where it is missing.
pub(crate) fn metadata(object: &mut Value) -> Option<&mut Map<String, Value>> {
    let top = object.as_object_mut()?;
    let entry = top.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if entry.is_null() {
        *entry = Value::Object(Map::new());
    }
    entry.as_object_mut()
}

/// Sets or (with an empty text) removes a text of `metadata`.
pub(crate) fn set_text(object: &mut Value, key: &str, text: &str) {
    if let Some(metadata) = metadata(object) {
        if text.is_empty() {
            metadata.remove(key);
        } else {
            metadata.insert(key.into(), text.into());
        }
    }
}

/// An instant as Kubernetes writes it: seconds, UTC.
pub(crate) fn instant(at: jiff::Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Fills in `apiVersion` and `kind`, or refuses those of another kind.
pub(crate) fn check_kind(body: &mut Value, gvk: &GroupVersionKind) -> Result<(), Status> {
    let Some(top) = body.as_object_mut() else {
        return Err(Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; json parse error: \
             the body is not an object",
            gvk.kind
        )));
    };
    let api_version = gvk.api_version();
    let of = |top: &Map<String, Value>, key: &str| match top.get(key) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::String(text)) => Ok(text.clone()),
        Some(other) => Err(Status::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}: {key} must be a string, not {other}",
            gvk.kind, gvk.version, gvk.kind
        ))),
    };
    let (sent_version, sent_kind) = (of(top, "apiVersion")?, of(top, "kind")?);
    if !sent_version.is_empty() && sent_version != api_version {
        return Err(Status::bad_request(format!(
            "the API version in the data ({sent_version}) does not match the expected API version ({api_version})"
        )));
    }
    if !sent_kind.is_empty() && sent_kind != gvk.kind {
        return Err(Status::bad_request(format!(
            "{sent_kind} in version {:?} cannot be handled as a {kind}: no kind {sent_kind:?} is expected here",
            gvk.version,
            kind = gvk.kind
        )));
    }
    top.insert("apiVersion".into(), api_version.into());
    top.insert("kind".into(), gvk.kind.as_ref().into());
    match top.get("metadata") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(other) => Err(Status::bad_request(format!(
            "{kind} in version {:?} cannot be handled as a {kind}: json: cannot unmarshal {found} into Go struct field \
             {kind}.metadata of type v1.ObjectMeta",
            gvk.version,
            kind = gvk.kind,
            found = json_name(other)
        ))),
    }
}

/// Fills in the namespace, or refuses another than the request's.
pub(crate) fn check_namespace(body: &mut Value, namespace: &str) -> Result<(), Status> {
    let sent = text(body, "namespace");
    if !sent.is_empty() && sent != namespace && !namespace.is_empty() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    set_text(body, "namespace", namespace);
    Ok(())
}

/// Refuses an object that replaces another and does not say the name of that.
pub(crate) fn require_name(body: &Value, name: &str) -> Result<(), Status> {
    if text(body, "name").is_empty() {
        return Err(Status::bad_request(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )));
    }
    Ok(())
}

/// Fills in the name, or refuses another than the URL's.
pub(crate) fn check_name(body: &mut Value, name: &str) -> Result<(), Status> {
    let sent = text(body, "name");
    if !sent.is_empty() && sent != name {
        return Err(Status::bad_request(format!(
            "the name of the object ({sent}) does not match the name on the URL ({name})"
        )));
    }
    set_text(body, "name", name);
    Ok(())
}

/// A name made of a base and five random characters.
pub(crate) fn generated_name(base: &str, mut random: u128) -> String {
    let mut end = base.len().min(GENERATED_BASE);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    let mut name = base[..end].to_owned();
    for _ in 0..5 {
        name.push(char::from(SUFFIX[(random % SUFFIX.len() as u128) as usize]));
        random /= SUFFIX.len() as u128;
    }
    name
}

/// Gives a new object what only the server may set, and takes away what a client may not.
pub(crate) fn fill_create(object: &mut Value, uid: &str, now: jiff::Timestamp, generation: bool) {
    let Some(metadata) = metadata(object) else { return };
    for key in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        metadata.remove(key);
    }
    metadata.insert("uid".into(), uid.into());
    metadata.insert("creationTimestamp".into(), instant(now).into());
    // Kinds that do not count generations keep the one they are given.
    if generation {
        metadata.insert("generation".into(), 1.into());
    }
}

/// Gives a changed object what a client may leave out, from the version it replaces.
pub(crate) fn fill_update(new: &mut Value, old: &Value, dry_run: bool) {
    let before = |key: &str| old.get("metadata").and_then(|m| m.get(key)).cloned();
    let Some(metadata) = metadata(new) else { return };
    // It is dropped when it would be stored.
    if !dry_run {
        metadata.remove("selfLink");
    }
    for key in ["resourceVersion", "generation"] {
        match before(key) {
            Some(value) => metadata.insert(key.into(), value),
            None => metadata.remove(key),
        };
    }
    // Another instant is no error; it is not taken.
    if let Some(created) = before("creationTimestamp") {
        metadata.insert("creationTimestamp".into(), created);
    }
    for key in ["uid", "deletionTimestamp", "deletionGracePeriodSeconds", "generateName"] {
        let absent = metadata.get(key).is_none_or(Value::is_null);
        if let (true, Some(value)) = (absent, before(key)) {
            metadata.insert(key.into(), value);
        }
    }
}

/// Counts `metadata.generation` on from that of the version before.
pub(crate) fn bump_generation(object: &mut Value) {
    if let Some(metadata) = metadata(object) {
        let last = metadata.get("generation").and_then(Value::as_i64).unwrap_or(0);
        metadata.insert("generation".into(), (last + 1).into());
    }
}

/// What a resource version in a body says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// Whatever is there.
    Any,
    /// This revision and no other.
    Revision(u64),
}

/// Reads `metadata.resourceVersion` of a body.
pub(crate) fn expected(body: &Value) -> Result<Expected, Status> {
    match text(body, "resourceVersion") {
        "" | "0" => Ok(Expected::Any),
        digits => digits.parse().map(Expected::Revision).map_err(|_| {
            let why = format!("strconv.ParseUint: parsing {digits:?}: invalid syntax");
            Status { code: 500, ..Status::new(skep_api::Reason::Unknown, why) }
        }),
    }
}

/// Refuses a write that was meant for another version or another object of the name.
pub(crate) fn check_preconditions(
    row: &Resource,
    current: &Arc<Object>,
    uid: &str,
    revision: Option<u64>,
) -> Result<(), Status> {
    let name = &current.meta().name;
    if !uid.is_empty() && uid != &*current.meta().uid {
        let why = format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
            current.meta().uid
        );
        return Err(Status::conflict(&row.group_resource(), name, why));
    }
    match revision {
        Some(asked) if asked != current.revision() => {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {asked}, ResourceVersion in object meta: {}",
                current.revision()
            );
            Err(Status::conflict(&row.group_resource(), name, why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn generated_names_stay_labels() {
        let name = generated_name(&"a".repeat(80), 12_345_678_901);
        assert_eq!(name.len(), 63);
        assert!(name.bytes().skip(58).all(|b| SUFFIX.contains(&b)));
        assert_ne!(generated_name("a-", 1), generated_name("a-", 2));
        assert_eq!(generated_name(&"é".repeat(40), 0).chars().filter(|c| *c == 'é').count(), 29);
    }

    #[test]
    fn kinds_and_namespaces_must_match() {
        let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
        let mut body = json!({});
        check_kind(&mut body, &gvk).unwrap();
        assert_eq!(body, json!({"apiVersion": "apps/v1", "kind": "Deployment"}));
        for bad in [
            json!({"apiVersion": "v1"}),
            json!({"kind": "Pod"}),
            json!([]),
            json!({"kind": 3}),
            json!({"metadata": []}),
        ] {
            assert_eq!(check_kind(&mut bad.clone(), &gvk).unwrap_err().code, 400, "{bad}");
        }
        assert!(check_namespace(&mut json!({"metadata": {"namespace": "a"}}), "b").is_err());
        let mut body = json!({"metadata": {"namespace": "a"}});
        check_namespace(&mut body, "").unwrap();
        assert_eq!(body, json!({"metadata": {}}));
    }

    #[test]
    fn what_the_server_owns_is_not_the_clients_to_change() {
        let old = json!({"metadata": {"uid": "u", "generation": 3, "resourceVersion": "9",
            "creationTimestamp": "t", "deletionTimestamp": "d", "deletionGracePeriodSeconds": 0}});
        let mut new = json!({"metadata": {"generation": 7, "selfLink": "/x", "resourceVersion": "1"}});
        fill_update(&mut new, &old, false);
        assert_eq!(new, old);
    }
}
