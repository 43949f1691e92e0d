//! The texts of an object's selectable fields, read out of its bytes without a tree of all the rest.

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use std::borrow::Cow;
use std::fmt;

/// Selectable fields that are read otherwise than by their own path: the paths that are tried, and what stands for none
/// of them.
const READ: &[(&str, &[&str], &str)] = &[
    // Booleans of which only `true` is written.
    ("spec.unschedulable", &["spec.unschedulable"], "false"),
    ("spec.hostNetwork", &["spec.hostNetwork"], "false"),
    // Who reported an event has two places; the newer one counts where the older is empty.
    ("source", &["source.component", "reportingComponent"], ""),
];

fn rule(field: &str) -> Option<&'static (&'static str, &'static [&'static str], &'static str)> {
    READ.iter().find(|(name, ..)| *name == field)
}

/// A path that is looked for, and the text that was found there.
struct Wanted<'a> {
    path: Vec<&'a str>,
    text: String,
}

/// The texts of the selectable fields `fields` of an object's JSON, in the same order: absent is empty, unless [`READ`] says
/// otherwise; booleans and numbers are as JSON writes them.
pub(super) fn texts(json: &[u8], fields: &[&str]) -> Result<Box<[Box<str>]>, serde_json::Error> {
    let mut wanted: Vec<Wanted<'_>> = fields
        .iter()
        .flat_map(|field| rule(field).map_or(std::slice::from_ref(field), |(_, paths, _)| paths))
        .map(|path| Wanted { path: path.split('.').collect(), text: String::new() })
        .collect();
    let level = Level { wanted: wanted.iter_mut().collect(), depth: 0 };
    level.deserialize(&mut serde_json::Deserializer::from_slice(json))?;
    let mut found = wanted.into_iter().map(|one| one.text);
    let text = |field: &&str| {
        let (tried, absent) = rule(field).map_or((1, ""), |(_, paths, absent)| (paths.len(), *absent));
        let texts: Vec<String> = found.by_ref().take(tried).collect();
        texts.into_iter().find(|text| !text.is_empty()).map_or_else(|| absent.into(), String::into_boxed_str)
    };
    Ok(fields.iter().map(text).collect())
}

/// Reads a value below which all of `wanted` lie, whose first `depth` parts led here.
struct Level<'l, 'a> {
    wanted: Vec<&'l mut Wanted<'a>>,
    depth: usize,
}

/// A key of a map, borrowed where it has no escapes.
#[derive(Deserialize)]
struct Key<'k>(#[serde(borrow)] Cow<'k, str>);

impl<'de> DeserializeSeed<'de> for Level<'_, '_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut map: A) -> Result<(), A::Error> {
        while let Some(Key(key)) = map.next_key()? {
            let here = |one: &&mut &mut Wanted<'_>| one.path.get(self.depth).is_some_and(|part| *part == key);
            let below: Vec<&mut Wanted<'_>> =
                self.wanted.iter_mut().filter(here).map(|one| &mut **one).collect();
            let depth = self.depth + 1;
            if below.is_empty() {
                map.next_value::<IgnoredAny>()?;
            } else if below.iter().any(|one| one.path.len() == depth) {
                let value = map.next_value::<Value>()?;
                for one in below {
                    one.text = text_at(&value, one.path.get(depth..).unwrap_or_default());
                }
            } else {
                map.next_value_seed(Level { wanted: below, depth })?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    // What is no map has no fields.
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
}

/// The text below a value; of what is absent it is empty.
fn text_at(tree: &Value, path: &[&str]) -> String {
    match path.iter().try_fold(tree, |at, part| at.get(part)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(tree: &Value, fields: &[&str]) -> Vec<String> {
        texts(tree.to_string().as_bytes(), fields).unwrap().iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn some_fields_are_read_elsewhere() {
        let both = json!({"source": {"component": "a"}, "reportingComponent": "b"});
        assert_eq!(of(&both, &["source", "reportingComponent"]), ["a", "b"]);
        let newer = json!({"source": {}, "reportingComponent": "b"});
        assert_eq!(of(&newer, &["reportingComponent", "source"]), ["b", "b"]);
        assert_eq!(of(&json!({"spec": {}}), &["spec.unschedulable"]), ["false"]);
        assert_eq!(of(&json!({"spec": {"unschedulable": true}}), &["spec.unschedulable"]), ["true"]);
        assert_eq!(of(&json!({"spec": {"replicas": 3}}), &["spec.replicas"]), ["3"]);
    }

    #[test]
    fn a_path_may_lead_into_another_and_through_what_is_no_map() {
        let tree =
            json!({"a": {"b": {"c": "x"}, "l": [1, {"c": "y"}]}, "t": "text", "n": null, "d": {"b": 1.5}});
        let got = of(&tree, &["a.b.c", "a.b", "t.more", "n.more", "a.l.c", "d.b", "a.b.c", "none"]);
        assert_eq!(got, ["x", r#"{"c":"x"}"#, "", "", "", "1.5", "x", ""]);
    }

    #[test]
    fn keys_with_escapes_are_keys() {
        let text = br#"{"sp\u0065c":{"nodeName":"n"},"rest":{"nodeName":"m"}}"#;
        assert_eq!(*texts(text, &["spec.nodeName"]).unwrap(), ["n".into()]);
    }
}
