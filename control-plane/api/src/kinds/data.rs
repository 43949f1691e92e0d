//! ConfigMaps and Secrets: data by key.

use super::columns::{age, name};
use crate::field::{FieldError, Path};
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same, text};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

/// Most bytes of data that a ConfigMap or Secret may hold.
pub const DATA_MAX: usize = 1 << 20;
const SEALED: &str = "field is immutable when `immutable` is set";

/// ConfigMaps.
#[derive(Debug, Default)]
pub struct ConfigMap;

impl Strategy for ConfigMap {
    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (data, binary) = (root.get("data"), root.get("binaryData"));
        let mut size = 0;
        for (key, value) in data.entries() {
            check_key(&mut errors, &value, key);
            if binary.key(key).present() {
                let why = "duplicate of key present in binaryData";
                errors.push(FieldError::invalid(value.path(), key.into(), why));
            }
            size += value.text().len();
        }
        for (key, value) in binary.entries() {
            check_key(&mut errors, &value, key);
            size += decoded_len(value.text());
        }
        if size > DATA_MAX {
            errors.push(FieldError::too_long(Path::default(), DATA_MAX));
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        sealed(&mut errors, &At::root(new), &At::root(old), &["data", "binaryData"]);
        errors.done()
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), column("Data", "string", "How many keys it holds."), age()]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let count = root.get("data").len() + root.get("binaryData").len();
        vec![table::name(object), count.into(), table::age(object, now)]
    }
}

/// Secrets.
#[derive(Debug, Default)]
pub struct Secret;

/// What a type of Secret must hold: one row a type, with keys of `data` that must be there.
const TYPES: &[(&str, &[&str])] = &[
    ("kubernetes.io/dockercfg", &[".dockercfg"]),
    ("kubernetes.io/dockerconfigjson", &[".dockerconfigjson"]),
    ("kubernetes.io/ssh-auth", &["ssh-privatekey"]),
    (TLS, &["tls.crt", "tls.key"]),
];
const TLS: &str = "kubernetes.io/tls";
const SERVICE_ACCOUNT: &str = "kubernetes.io/service-account.name";

impl Strategy for Secret {
    /// `stringData` is written into `data` and not kept.
    fn default(&self, object: &mut Value) {
        let Some(map) = object.as_object_mut() else { return };
        let Some(Value::Object(plain)) = map.remove("stringData") else { return };
        if plain.is_empty() {
            return;
        }
        let data = map.entry("data").or_insert_with(|| Value::Object(serde_json::Map::new()));
        if !data.is_object() {
            *data = Value::Object(serde_json::Map::new());
        }
        for (key, value) in plain {
            data[key] = STANDARD.encode(value.as_str().unwrap_or_default()).into();
        }
    }

    /// The type stays what it was where an update leaves it out.
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        if new.get("type").and_then(Value::as_str).unwrap_or_default().is_empty() {
            super::keep(new, old, &["type"]);
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let data = root.get("data");
        let mut size = 0;
        for (key, value) in data.entries() {
            check_key(&mut errors, &value, key);
            size += decoded_len(value.text());
        }
        if size > DATA_MAX {
            errors.push(FieldError::too_long(data.path(), DATA_MAX));
        }
        let kind = root.get("type").text();
        if kind == "kubernetes.io/service-account-token" {
            let metadata = root.get("metadata");
            let annotations = metadata.get("annotations");
            let account = annotations.key(SERVICE_ACCOUNT);
            if account.text().is_empty() {
                errors.required(&account, "");
            }
        }
        if kind == "kubernetes.io/basic-auth" {
            let fields = ["username", "password"].map(|key| data.key(key));
            if fields.iter().all(|at| !at.present()) {
                fields.iter().for_each(|at| errors.required(at, ""));
            }
        }
        let needed = TYPES.iter().find(|(name, _)| *name == kind).map(|(_, keys)| *keys).unwrap_or_default();
        for key in needed {
            let at = data.key(key);
            let missing = if *key == "ssh-privatekey" { at.is_empty() } else { !at.present() };
            if missing {
                errors.required(&at, "");
            } else if key.starts_with(".docker")
                && let Err(why) = is_json_object(at.text())
            {
                errors.push(FieldError::invalid(at.path(), "<secret contents redacted>".into(), why));
            }
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (new, old) = (At::root(new), At::root(old));
        errors.immutable(&new.get("type"), &old.get("type"));
        sealed(&mut errors, &new, &old, &["data"]);
        errors.done()
    }

    fn warnings(&self, new: &Value, _old: Option<&Value>) -> Vec<String> {
        let root = At::root(new);
        let data = root.get("data");
        let block = |key| STANDARD.decode(data.key(key).text()).unwrap_or_default();
        match root.get("type").text() {
            TLS => super::warnings::key_pair(&block("tls.crt"), &block("tls.key")),
            _ => Vec::new(),
        }
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Type", "string", "What the data is for."),
            column("Data", "string", "How many keys it holds."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        vec![
            table::name(object),
            root.get("type").text().into(),
            root.get("data").len().into(),
            table::age(object, now),
        ]
    }
}

fn check_key(errors: &mut Errors, at: &At<'_, '_>, key: &str) {
    for message in text::config_key(key) {
        errors.push(FieldError::invalid(at.path(), key.into(), message));
    }
}

fn sealed(errors: &mut Errors, new: &At<'_, '_>, old: &At<'_, '_>, fields: &[&str]) {
    if !old.get("immutable").is_true() {
        return;
    }
    if !new.get("immutable").is_true() {
        errors.forbidden(&new.get("immutable"), SEALED);
    }
    for field in fields {
        let at = new.get(field);
        if !same(at.value(), old.get(field).value()) {
            errors.forbidden(&at, SEALED);
        }
    }
}

/// Bytes that a base64 text stands for.
fn decoded_len(text: &str) -> usize {
    let digits = text.bytes().filter(|b| !matches!(b, b'=' | b'\n' | b'\r')).count();
    digits * 3 / 4
}

fn is_json_object(text: &str) -> Result<(), &'static str> {
    let bytes = STANDARD.decode(text).unwrap_or_default();
    match serde_json::from_slice::<Value>(&bytes) {
        Ok(value) if value.is_object() => Ok(()),
        Err(error) if error.is_eof() => Err("unexpected end of JSON input"),
        _ => Err("must be a JSON object"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{now, shown};
    use serde_json::json;

    #[test]
    fn config_maps() {
        let big = "x".repeat(DATA_MAX + 1);
        for (object, wrong) in [
            (json!({"data": {"a.b_c-D": "any"}, "binaryData": {"b": "AAAA"}}), ""),
            (json!({"data": {"a b": "x"}}), "data[a b]: Invalid value: \"a b\": a valid config key must"),
            (json!({"data": {"..": "x"}}), "data[..]: Invalid value: \"..\": must not be '..'"),
            (json!({"binaryData": {"/": "x"}}), "binaryData[/]: Invalid value"),
            (
                json!({"data": {"a": "x"}, "binaryData": {"a": "AAAA"}}),
                "data[a]: Invalid value: \"a\": duplicate of key present in binaryData",
            ),
            (json!({"data": {"a": "x".repeat(DATA_MAX)}}), ""),
            (json!({"data": {"a": big}}), ": Too long: may not be more than 1048576 bytes"),
        ] {
            let text = shown(&ConfigMap.validate(&object));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{wrong}: {text:.200}");
        }
        let sealed = json!({"immutable": true, "data": {"a": "b"}});
        assert_eq!(ConfigMap.validate_update(&sealed, &sealed), []);
        let changed = json!({"data": {"a": "c"}, "binaryData": {"x": "AAAA"}});
        let text = shown(&ConfigMap.validate_update(&changed, &sealed));
        for field in ["immutable", "data", "binaryData"] {
            assert!(text.contains(&format!("{field}: Forbidden: {SEALED}")), "{text}");
        }
        let cells = ConfigMap
            .cells(&json!({"metadata": {"name": "c"}, "data": {"a": ""}, "binaryData": {"b": ""}}), now());
        assert_eq!(cells[..2], [json!("c"), json!(2)]);
    }

    #[test]
    fn secrets() {
        let mut object = json!({"stringData": {"a": "foo"}, "data": {"a": "AAAA", "b": "Zg=="}});
        Secret.default(&mut object);
        assert_eq!(object, json!({"data": {"a": "Zm9v", "b": "Zg=="}}));
        let tls = "kubernetes.io/tls";
        for (object, wrong) in [
            (json!({"type": "Opaque", "data": {"a": "AAAA"}}), ""),
            (json!({"type": "my/own"}), ""),
            (json!({"type": "Opaque", "data": {"a b": "AAAA"}}), "data[a b]: Invalid value"),
            (
                json!({"type": "Opaque", "data": {"a": STANDARD.encode(vec![0; DATA_MAX + 1])}}),
                "data: Too long: may not be more than 1048576 bytes",
            ),
            (json!({"type": tls, "data": {"tls.crt": ""}}), "data[tls.key]: Required value"),
            (json!({"type": tls, "data": {"tls.crt": "", "tls.key": ""}}), ""),
            (
                json!({"type": "kubernetes.io/ssh-auth", "data": {"ssh-privatekey": ""}}),
                "data[ssh-privatekey]: Required",
            ),
            (
                json!({"type": "kubernetes.io/basic-auth"}),
                "data[username]: Required value; data[password]: Required",
            ),
            (json!({"type": "kubernetes.io/basic-auth", "data": {"username": ""}}), ""),
            (
                json!({"type": "kubernetes.io/service-account-token"}),
                "metadata.annotations[kubernetes.io/service-account.name]: Required value",
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": "Zm9v"}}),
                "data[.dockerconfigjson]: Invalid value: \"<secret contents redacted>\"",
            ),
            (
                json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": STANDARD.encode("{}")}}),
                "",
            ),
        ] {
            let text = shown(&Secret.validate(&object));
            assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{wrong}: {text:.200}");
        }
        let (old, mut new) = (json!({"type": "Opaque"}), json!({}));
        Secret.prepare_update(&mut new, &old);
        assert_eq!(Secret.validate_update(&new, &old), []);
        let text = shown(&Secret.validate_update(&json!({"type": "a"}), &old));
        assert_eq!(text, "type: Invalid value: \"a\": field is immutable");
    }
}
