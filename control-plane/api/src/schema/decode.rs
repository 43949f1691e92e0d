//! Bytes to trees, with limits.

use super::message::prefix;
use super::yaml;
use crate::resource::GroupVersionKind;
use crate::status::Status;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::fmt;

/// How a body is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`; JSON is a part of it.
    Yaml,
}

impl Format {
    /// The format of a media type (without parameters); an empty one is JSON.
    pub fn parse(media_type: &str) -> Option<Self> {
        match media_type {
            "" | "application/json" => Some(Self::Json),
            "application/yaml" | "application/apply-patch+yaml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Why bytes are not a tree.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Not JSON, or deeper than allowed.
    #[error("json parse error: {0}")]
    Json(String),
    /// Not YAML, or deeper or larger (through aliases) than allowed.
    #[error("error converting YAML to JSON: {0}")]
    Yaml(String),
}

impl DecodeError {
    /// The answer to a request with such a body: 400.
    pub fn to_status(&self, gvk: &GroupVersionKind) -> Status {
        Status::bad_request(format!(
            "the object provided is unrecognized (must be of type {}): couldn't get version/kind; {self}",
            gvk.kind
        ))
    }
}

/// A tree and what was lost on the way to it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Decoded {
    /// The tree; of a key that stands twice, the last value.
    pub value: Value,
    /// What is to be said of keys that stand twice: `duplicate field "spec.containers[0].name"` in JSON, `line 3: key
    /// "name" already set in map` in YAML.
    pub duplicates: Vec<String>,
}

/// Reads a body. Depth (128) and aliases are limited; no input panics or overflows the stack.
pub fn decode(body: &[u8], format: Format) -> Result<Decoded, DecodeError> {
    match format {
        Format::Json => {
            let mut duplicates = Vec::new();
            let seed = Tree { duplicates: &mut duplicates };
            let mut from = serde_json::Deserializer::from_slice(body);
            let read = seed.deserialize(&mut from).and_then(|value| from.end().map(|()| value));
            let value = read.map_err(|error| {
                let why =
                    if error.is_eof() { "unexpected end of JSON input".into() } else { error.to_string() };
                DecodeError::Json(why)
            })?;
            let say = |path: String| format!("duplicate field {path:?}");
            Ok(Decoded { value, duplicates: duplicates.into_iter().map(say).collect() })
        }
        Format::Yaml => {
            let text = std::str::from_utf8(body).map_err(|error| DecodeError::Yaml(error.to_string()))?;
            yaml::load(text).map_err(DecodeError::Yaml)
        }
    }
}

/// Reads any value, noting keys that stand twice. Paths are put together on the way out, so that the
/// usual body pays nothing for them.
struct Tree<'a> {
    duplicates: &'a mut Vec<String>,
}

impl<'de> DeserializeSeed<'de> for Tree<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Tree<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number must be finite"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        loop {
            let known = self.duplicates.len();
            let Some(value) = from.next_element_seed(Tree { duplicates: &mut *self.duplicates })? else {
                return Ok(Value::Array(list));
            };
            prefix(self.duplicates, known, || format!("[{}]", list.len()));
            list.push(value);
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = from.next_key::<String>()? {
            let known = self.duplicates.len();
            let value = from.next_value_seed(Tree { duplicates: &mut *self.duplicates })?;
            prefix(self.duplicates, known, || key.clone());
            if map.contains_key(&key) && !self.duplicates.contains(&key) {
                self.duplicates.push(key.clone());
            }
            map.insert(key, value);
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn json_and_yaml_read_alike() {
        let json = br#"{"a":{"b":[1,-2,1.5,"x",true,null]},"c":""}"#;
        let yaml = b"a:\n  b: [1, -2, 1.5, x, true, null]\nc: ''\n";
        let tree = json!({"a": {"b": [1, -2, 1.5, "x", true, null]}, "c": ""});
        assert_eq!(decode(json, Format::Json).unwrap().value, tree);
        assert_eq!(decode(json, Format::Yaml).unwrap().value, tree);
        assert_eq!(decode(yaml, Format::Yaml).unwrap().value, tree);
        let keys = decode(b"{1: a, true: b}", Format::Yaml).unwrap().value;
        assert_eq!(keys, json!({"1": "a", "true": "b"}));
    }

    #[test]
    fn keys_that_stand_twice_are_named_with_their_path() {
        let json = br#"{"a":1,"s":{"c":[{},{"n":1,"n":2,"n":3}]},"a":2}"#;
        let decoded = decode(json, Format::Json).unwrap();
        assert_eq!(decoded.duplicates, ["duplicate field \"s.c[1].n\"", "duplicate field \"a\""]);
        assert_eq!(decoded.value, json!({"a": 2, "s": {"c": [{}, {"n": 3}]}}));
        let yaml = decode(b"a: 1\nb:\n- c: 1\n  c: 2\na: 2\n", Format::Yaml).unwrap();
        let expected = ["line 4: key \"c\" already set in map", "line 5: key \"a\" already set in map"];
        assert_eq!(yaml.duplicates, expected);
    }

    #[test]
    fn what_is_no_tree_is_refused() {
        for body in [&b""[..], b"{", b"{} x", b"nul", b"\xff\xfe", b"{\"a\":1e999}"] {
            assert!(matches!(decode(body, Format::Json), Err(DecodeError::Json(_))), "{body:?}");
        }
        for body in [&b"a: ["[..], b"a: b: c", b"\xff", b"a: .nan", b"a: !x 1"] {
            assert!(matches!(decode(body, Format::Yaml), Err(DecodeError::Yaml(_))), "{body:?}");
        }
    }

    #[test]
    fn depth_and_aliases_are_limited() {
        let deep = "[".repeat(200_000);
        assert!(decode(deep.as_bytes(), Format::Json).is_err());
        assert!(decode(deep.as_bytes(), Format::Yaml).is_err());
        assert!(decode("{a: ".repeat(200_000).as_bytes(), Format::Yaml).is_err());
        assert!(decode("- ".repeat(200_000).as_bytes(), Format::Yaml).is_err());
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        for format in [Format::Json, Format::Yaml] {
            assert!(decode(nested(127).as_bytes(), format).is_ok(), "{format:?}");
            assert!(decode(nested(129).as_bytes(), format).is_err(), "{format:?}");
        }
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for i in 1..12 {
            let list = vec![format!("*a{}", i - 1); 10].join(", ");
            bomb.push_str(&format!("a{i}: &a{i} [{list}]\n"));
        }
        assert!(decode(bomb.as_bytes(), Format::Yaml).is_err());
    }
}
