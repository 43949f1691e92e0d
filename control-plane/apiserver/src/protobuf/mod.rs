//! Request bodies in Kubernetes' protobuf form (`application/vnd.kubernetes.protobuf`), which kubectl's typed commands send, turned
//! into the tree that JSON would have given. Answers are always JSON, which every client takes.
//!
//! The table `messages.txt` has a line a message and in it `NUMBER:name:KIND` a field. A name ending in `?` is left out where it
//! is zero (Go's `omitempty`); the name `-` stands for a message whose fields belong to the message around it. Kinds: `s` text,
//! `y` bytes (base64 in JSON), `b` boolean, `i` integer, `d` double, `T` and `U` times of second and microsecond precision, `I`
//! number or text, `Q` quantity, `F` and `R` embedded JSON, `E` a list of texts in a message of its own, or the name of a
//! message; before it `*` for a list and `%` for a map from texts.

mod wire;

use serde_json::{Map, Value, json};
use skep_api::Status;
use std::collections::HashMap;
use std::sync::OnceLock;
use wire::{Field, Malformed, fields};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";
/// What every body begins with.
const MAGIC: &[u8] = b"k8s\0";
/// Messages within messages, at most.
const DEPTH: usize = 64;

struct Row {
    name: &'static str,
    omit_zero: bool,
    kind: &'static str,
}

type Message = HashMap<u32, Row>;

fn messages() -> &'static HashMap<&'static str, Message> {
    static MESSAGES: OnceLock<HashMap<&'static str, Message>> = OnceLock::new();
    MESSAGES.get_or_init(|| {
        let lines = include_str!("messages.txt").lines().filter(|l| !l.starts_with('#'));
        lines.filter_map(message).collect()
    })
}

fn message(line: &'static str) -> Option<(&'static str, Message)> {
    let mut words = line.split(' ');
    let name = words.next()?;
    let row = |word: &'static str| {
        let mut parts = word.splitn(3, ':');
        let (number, name, kind) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        let (name, omit_zero) = name.strip_suffix('?').map_or((name, false), |n| (n, true));
        Some((number, Row { name, omit_zero, kind }))
    };
    Some((name, words.filter_map(row).collect()))
}

/// Turns a body into JSON; 400 for what is malformed, 415 for a kind whose form is not known.
pub fn to_json(body: &[u8]) -> Result<Value, Status> {
    let bad =
        |why: Malformed| Status::bad_request(format!("the body is not a Kubernetes protobuf message: {why}"));
    let rest = body.strip_prefix(MAGIC).ok_or_else(|| bad(Malformed::Magic))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    for field in fields(rest) {
        match field.map_err(bad)? {
            (1, Field::Bytes(meta)) => {
                for field in fields(meta) {
                    match field.map_err(bad)? {
                        (1, Field::Bytes(text)) => api_version = wire::text(text).map_err(bad)?,
                        (2, Field::Bytes(text)) => kind = wire::text(text).map_err(bad)?,
                        _ => {}
                    }
                }
            }
            (2, Field::Bytes(bytes)) => raw = bytes,
            _ => {}
        }
    }
    let group =
        api_version.split_once('/').map_or("core", |(group, _)| group.split('.').next().unwrap_or_default());
    // Options of a deletion carry the group of what is deleted.
    let name =
        if kind == "DeleteOptions" { "meta.DeleteOptions".to_owned() } else { format!("{group}.{kind}") };
    let Some(message) = messages().get(name.as_str()) else {
        return Err(Status::unsupported_media_type(MEDIA_TYPE, &["application/json", "application/yaml"]));
    };
    let mut tree = Map::new();
    tree.insert("apiVersion".into(), api_version.into());
    tree.insert("kind".into(), kind.into());
    decode(message, raw, &mut tree, 0).map_err(bad)?;
    Ok(Value::Object(tree))
}

fn decode(
    message: &Message,
    bytes: &[u8],
    out: &mut Map<String, Value>,
    depth: usize,
) -> Result<(), Malformed> {
    if depth > DEPTH {
        return Err(Malformed::Depth);
    }
    for field in fields(bytes) {
        let (number, field) = field?;
        let Some(row) = message.get(&number) else { continue };
        if let Some(kind) = row.kind.strip_prefix('*') {
            let list = out.entry(row.name).or_insert_with(|| json!([]));
            for field in wire::unpacked(field, matches!(kind, "i" | "b"))? {
                let value = value(kind, field, depth)?;
                list.as_array_mut().into_iter().for_each(|l| l.push(value.clone()));
            }
        } else if let Some(kind) = row.kind.strip_prefix('%') {
            let Field::Bytes(entry) = field else { return Err(Malformed::Type) };
            let (mut key, mut found) = (String::new(), zero(kind));
            for part in fields(entry) {
                match part? {
                    (1, Field::Bytes(text)) => key = wire::text(text)?,
                    (2, part) => found = value(kind, part, depth)?,
                    _ => {}
                }
            }
            let map = out.entry(row.name).or_insert_with(|| json!({}));
            map.as_object_mut().into_iter().for_each(|m| drop(m.insert(key.clone(), found.clone())));
        } else if row.name == "-" {
            let (Some(inner), Field::Bytes(bytes)) = (messages().get(row.kind), field) else {
                return Err(Malformed::Type);
            };
            decode(inner, bytes, out, depth + 1)?;
        } else {
            let value = value(row.kind, field, depth)?;
            // A time that is zero is null in JSON, and left out.
            let left_out = value.is_null() || (row.omit_zero && value == zero(row.kind));
            if !left_out {
                out.insert(row.name.to_owned(), value);
            }
        }
    }
    Ok(())
}

/// The value of a field that is not there.
fn zero(kind: &str) -> Value {
    match kind {
        "s" | "y" => "".into(),
        "b" => false.into(),
        "i" => 0.into(),
        _ => Value::Null,
    }
}

fn value(kind: &str, field: Field<'_>, depth: usize) -> Result<Value, Malformed> {
    match (kind, field) {
        ("b", Field::Varint(n)) => Ok((n != 0).into()),
        ("i", Field::Varint(n)) => Ok((n as i64).into()),
        ("d", Field::Fixed64(bits)) => Ok(f64::from_bits(bits).into()),
        ("s", Field::Bytes(bytes)) => wire::text(bytes).map(Value::from),
        ("y", Field::Bytes(bytes)) => {
            use base64::{Engine, engine::general_purpose::STANDARD};
            Ok(STANDARD.encode(bytes).into())
        }
        ("T" | "U", Field::Bytes(bytes)) => time(bytes, kind == "U"),
        ("Q", Field::Bytes(bytes)) => match inner(bytes, 1)? {
            Some(Field::Bytes(text)) => wire::text(text).map(Value::from),
            _ => Ok("0".into()),
        },
        ("I", Field::Bytes(bytes)) => {
            let text = matches!(inner(bytes, 1)?, Some(Field::Varint(1)));
            match (text, inner(bytes, if text { 3 } else { 2 })?) {
                (true, Some(Field::Bytes(text))) => wire::text(text).map(Value::from),
                (false, Some(Field::Varint(n))) => Ok((n as i64).into()),
                (true, _) => Ok("".into()),
                (false, _) => Ok(0.into()),
            }
        }
        ("F" | "R", Field::Bytes(bytes)) => match inner(bytes, 1)? {
            Some(Field::Bytes(raw)) => serde_json::from_slice(raw).map_err(|_| Malformed::Json),
            _ => Ok(Value::Null),
        },
        ("E", Field::Bytes(bytes)) => {
            let mut list = Vec::new();
            for part in fields(bytes) {
                if let (1, Field::Bytes(text)) = part? {
                    list.push(wire::text(text)?);
                }
            }
            Ok(list.into())
        }
        (name, Field::Bytes(bytes)) if name.contains('.') => {
            let mut out = Map::new();
            let message = messages().get(name).ok_or(Malformed::Type)?;
            decode(message, bytes, &mut out, depth + 1)?;
            Ok(Value::Object(out))
        }
        _ => Err(Malformed::Type),
    }
}

/// The last field of that number.
fn inner(bytes: &[u8], wanted: u32) -> Result<Option<Field<'_>>, Malformed> {
    let mut found = None;
    for field in fields(bytes) {
        let (number, field) = field?;
        if number == wanted {
            found = Some(field);
        }
    }
    Ok(found)
}

fn time(bytes: &[u8], micro: bool) -> Result<Value, Malformed> {
    let number = |n| -> Result<i64, Malformed> {
        Ok(if let Some(Field::Varint(v)) = inner(bytes, n)? { v as i64 } else { 0 })
    };
    let (seconds, nanos) = (number(1)?, number(2)?);
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let nanos = i32::try_from(nanos).map_err(|_| Malformed::Time)?;
    let at = jiff::Timestamp::new(seconds, nanos).map_err(|_| Malformed::Time)?;
    let form = if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" };
    Ok(at.strftime(form).to_string().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_in_the_table_is_one_we_know() {
        let all = messages();
        assert!(all.len() > 200);
        for (message, rows) in all {
            for (number, row) in rows {
                let base = row.kind.trim_start_matches(['*', '%']);
                let known =
                    matches!(base, "s" | "y" | "b" | "i" | "d" | "T" | "U" | "I" | "Q" | "F" | "R" | "E");
                assert!(known || all.contains_key(base), "{message} {number}: {}", row.kind);
            }
        }
        // What the built-in kinds are called by.
        for row in skep_api::kinds::ResourceTable::builtin().rows() {
            let group = row.gvk.group.split('.').next().filter(|g| !g.is_empty()).unwrap_or("core");
            let name = format!("{group}.{}", row.gvk.kind);
            assert!(all.contains_key(name.as_str()), "{name}");
        }
    }

    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let mut out = vec![number << 3 | 2];
        let mut length = content.len();
        while length > 0x7f {
            out.push(length as u8 | 0x80);
            length >>= 7;
        }
        out.push(length as u8);
        out.extend_from_slice(content);
        out
    }

    fn envelope(api_version: &str, kind: &str, raw: &[u8]) -> Vec<u8> {
        let meta = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &meta), bytes(2, raw)].concat()
    }

    #[test]
    fn a_config_map() {
        let entry = [bytes(1, b"key"), bytes(2, b"value")].concat();
        let blob = [bytes(1, b"b"), bytes(2, &[0, 255])].concat();
        let created = [0x08, 0x80, 0xa7, 0xd0, 0xd0, 0x06, 0x10, 0x00];
        let meta =
            [bytes(1, b"a"), bytes(2, b""), bytes(8, &created), bytes(14, b"f1"), bytes(14, b"f2")].concat();
        let raw = [bytes(1, &meta), bytes(2, &entry), bytes(3, &blob), vec![0x20, 1]].concat();
        let tree = to_json(&envelope("v1", "ConfigMap", &raw)).unwrap();
        let created = jiff::Timestamp::from_second(1_779_700_608).unwrap().to_string();
        assert_eq!(
            tree,
            json!({"apiVersion": "v1", "kind": "ConfigMap", "data": {"key": "value"}, "binaryData": {"b": "AP8="}, "immutable": true,
                "metadata": {"name": "a", "creationTimestamp": created, "finalizers": ["f1", "f2"]}})
        );
    }

    #[test]
    fn embedded_messages_belong_to_the_one_around_them() {
        let source = bytes(2, &[]);
        let volume = [bytes(1, b"tmp"), bytes(2, &source)].concat();
        let spec = bytes(1, &volume);
        let tree = to_json(&envelope("v1", "Pod", &bytes(2, &spec))).unwrap();
        assert_eq!(tree["spec"]["volumes"], json!([{"name": "tmp", "emptyDir": {}}]));
    }

    #[test]
    fn what_is_cut_or_nested_too_deep_is_refused() {
        let whole = envelope("v1", "ConfigMap", &bytes(1, &bytes(1, b"name")));
        for cut in 0..whole.len() {
            // Cut at a field's edge it is a shorter message; nothing panics anywhere.
            let _ = to_json(&whole[..cut]);
        }
        assert_eq!(to_json(b"{}").unwrap_err().code, 400);
        assert_eq!(to_json(&envelope("v1", "Nope", &[])).unwrap_err().code, 415);
        assert_eq!(to_json(&envelope("v1", "ConfigMap", &[0x0a, 0x7f])).unwrap_err().code, 400);
        assert_eq!(to_json(&envelope("v1", "ConfigMap", &[0x08, 0x01])).unwrap_err().code, 400);
    }
}
