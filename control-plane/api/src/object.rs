//! One immutable version of an object, shared by store, watch cache and in-process clients.

mod fields;

use crate::meta::Meta;
use bytes::{BufMut, Bytes, BytesMut};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// Why bytes are not an object.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    /// Not JSON, or a part of `metadata` has the wrong type.
    #[error("not a Kubernetes object: {0}")]
    Json(#[from] serde_json::Error),
    /// JSON, but not of the form `{"apiVersion":…,"kind":…,"metadata":{…}}`.
    #[error("not a Kubernetes object: {0}")]
    Shape(&'static str),
}

/// One version of one object: canonical bytes, a slim decoded [`Meta`], and the revision that made it.
///
/// The bytes are JSON with `apiVersion`, `kind` and `metadata` first, the rest sorted, and **without**
/// `metadata.resourceVersion`: the store assigns that, so it is written around the buffer
/// ([`Object::write_json`]) and never costs a second encoding.
#[derive(Clone, Debug)]
pub struct Object {
    meta: Meta,
    body: Bytes,
    /// Offset just behind `"metadata":{`, where the resource version goes.
    splice: usize,
    revision: u64,
    fields: Box<[Box<str>]>,
    views: Views,
}

/// What a conversion made of an object.
#[derive(Clone, Debug)]
pub enum View {
    /// The same: the object is served as it is stored.
    Same,
    /// This.
    Other(Arc<Object>),
}

/// So many views are kept with an object: those of the conversions that were asked for last.
const VIEWS: usize = 4;

type Kept = Box<Mutex<Vec<(u64, View)>>>;

/// The views of an object, which live exactly as long as it does. A copy begins without.
#[derive(Default)]
struct Views(OnceLock<Kept>);

impl Clone for Views {
    fn clone(&self) -> Self {
        Views::default()
    }
}

impl fmt::Debug for Views {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "kept" } else { "none" })
    }
}

#[derive(Deserialize)]
struct Slim {
    #[serde(default)]
    metadata: Meta,
}

const METADATA: &[u8] = b"\"metadata\":{";

/// Where most objects fit into while they are written, in bytes.
const ROOM: usize = 4096;

impl Object {
    /// The canonical bytes of `value`: what the store keeps. `metadata.resourceVersion` is left out.
    pub fn canonical(mut value: Value) -> Result<Bytes, ObjectError> {
        let top = value.as_object_mut().ok_or(ObjectError::Shape("the body is not a JSON object"))?;
        let mut metadata = match top.remove("metadata") {
            Some(Value::Object(map)) => map,
            None | Some(Value::Null) => serde_json::Map::new(),
            Some(_) => return Err(ObjectError::Shape("metadata is not a JSON object")),
        };
        metadata.remove("resourceVersion");
        let mut out = Vec::with_capacity(ROOM);
        for key in ["apiVersion", "kind"] {
            let text = top.remove(key).unwrap_or_else(|| "".into());
            if !text.is_string() {
                return Err(ObjectError::Shape("apiVersion and kind must be strings"));
            }
            out.push(if key == "kind" { b',' } else { b'{' });
            serde_json::to_writer(&mut out, key)?;
            out.push(b':');
            serde_json::to_writer(&mut out, &text)?;
        }
        out.extend_from_slice(b",\"metadata\":");
        serde_json::to_writer(&mut out, &metadata)?;
        for (key, field) in top.iter() {
            out.push(b',');
            serde_json::to_writer(&mut out, key)?;
            out.push(b':');
            serde_json::to_writer(&mut out, field)?;
        }
        out.push(b'}');
        // They are kept for long: no byte more than there are.
        Ok(out.into_boxed_slice().into())
    }

    /// Reads canonical bytes back, sharing them. `selectable` are the field paths of the resource that
    /// field selectors may name; their values are kept beside the metadata, in the same order.
    pub fn from_stored(body: Bytes, revision: u64, selectable: &[&str]) -> Result<Self, ObjectError> {
        let splice = find(&body, METADATA)
            .map(|at| at + METADATA.len())
            .ok_or(ObjectError::Shape("metadata is missing"))?;
        let meta = serde_json::from_slice::<Slim>(&body)?.metadata;
        let fields = if selectable.is_empty() { Box::default() } else { fields::texts(&body, selectable)? };
        Ok(Object { meta, body, splice, revision, fields, views: Views::default() })
    }

    /// Encodes a tree as an object of `revision` (0: none, as for answers that are never stored).
    pub fn from_value(value: Value, revision: u64, selectable: &[&str]) -> Result<Self, ObjectError> {
        Object::from_stored(Object::canonical(value)?, revision, selectable)
    }

    /// Reads an object as another server wrote it: its resource version becomes the revision.
    pub fn from_wire(value: Value) -> Result<Self, ObjectError> {
        let revision = value
            .pointer("/metadata/resourceVersion")
            .and_then(Value::as_str)
            .and_then(|text| text.parse().ok())
            .unwrap_or(0);
        Object::from_value(value, revision, &[])
    }

    /// The slim metadata.
    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    /// The revision that wrote this version; 0 for an answer that is not stored.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The canonical bytes, as stored: without a resource version.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Values of the resource's selectable fields, in the order of its row.
    pub fn fields(&self) -> &[Box<str>] {
        &self.fields
    }

    /// The canonical bytes before and after the place of the resource version. The first part ends with
    /// `"metadata":{`.
    pub fn parts(&self) -> (&[u8], &[u8]) {
        self.body.split_at(self.splice)
    }

    /// Appends the object as clients see it, with `revision` as its resource version (a deletion is told
    /// at the deletion's revision; 0 writes none).
    pub fn write_json_at(&self, revision: u64, out: &mut BytesMut) {
        let (head, tail) = self.parts();
        out.reserve(self.body.len() + 44);
        out.put_slice(head);
        if revision > 0 {
            out.put_slice(b"\"resourceVersion\":\"");
            out.put_slice(revision.to_string().as_bytes());
            out.put_slice(if tail.first() == Some(&b'}') { b"\"" } else { b"\"," });
        }
        out.put_slice(tail);
    }

    /// Appends the object as clients see it.
    pub fn write_json(&self, out: &mut BytesMut) {
        self.write_json_at(self.revision, out);
    }

    /// The object as clients see it.
    pub fn to_json(&self) -> Bytes {
        let mut out = BytesMut::new();
        self.write_json(&mut out);
        out.freeze()
    }

    /// The tree, with its resource version, to be changed and written back.
    pub fn value(&self) -> Value {
        // The bytes were parsed when the object was made; a failure here cannot come from outside.
        let mut tree: Value = serde_json::from_slice(&self.body).unwrap_or(Value::Null);
        if self.revision > 0
            && let Some(metadata) = tree.get_mut("metadata").and_then(Value::as_object_mut)
        {
            metadata.insert("resourceVersion".into(), self.revision.to_string().into());
        }
        tree
    }

    /// The object as a typed structure (or any projection of it), with its resource version.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, ObjectError> {
        Ok(serde_json::from_slice(&self.to_json())?)
    }

    /// A part of the object, without its resource version, read out of its bytes without a copy.
    pub fn read<'a, T: Deserialize<'a>>(&'a self) -> Result<T, ObjectError> {
        Ok(serde_json::from_slice(&self.body)?)
    }

    /// What the conversion of that id made of the object, if that is kept.
    pub fn view(&self, conversion: u64) -> Option<View> {
        let kept = self.views.0.get()?.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(id, _)| *id == conversion).map(|(_, view)| view.clone())
    }

    /// Keeps what a conversion made of the object.
    pub fn keep_view(&self, conversion: u64, view: View) {
        let mut kept = self.views.0.get_or_init(Kept::default).lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|(id, _)| *id != conversion);
        if kept.len() == VIEWS {
            kept.remove(0);
        }
        kept.push((conversion, view));
    }

    /// The same version told at another revision (a deletion is told at its own).
    pub fn at_revision(&self, revision: u64) -> Self {
        Object { revision, ..self.clone() }
    }
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Value {
        json!({
            "kind": "Pod", "apiVersion": "v1", "status": {"phase": "Running"},
            "metadata": {"name": "a", "namespace": "d", "uid": "u", "resourceVersion": "7", "labels": {"x": "y"}},
            "spec": {"nodeName": "n1"},
        })
    }

    #[test]
    fn stored_bytes_carry_no_resource_version() {
        let body = Object::canonical(pod()).unwrap();
        let text = std::str::from_utf8(&body).unwrap();
        assert!(text.starts_with(r#"{"apiVersion":"v1","kind":"Pod","metadata":{"#));
        assert!(!text.contains("resourceVersion"));
    }

    #[test]
    fn the_resource_version_is_written_around_the_buffer() {
        let object = Object::from_value(pod(), 42, &["spec.nodeName", "status.phase"]).unwrap();
        assert_eq!(object.meta().key(), "d/a");
        assert_eq!(object.fields(), ["n1".into(), "Running".into()] as [Box<str>; 2]);
        let shown: Value = serde_json::from_slice(&object.to_json()).unwrap();
        assert_eq!(shown["metadata"]["resourceVersion"], "42");
        assert_eq!(shown, object.value());
        let mut out = BytesMut::new();
        object.write_json_at(43, &mut out);
        let shown: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(shown["metadata"]["resourceVersion"], "43");
    }

    #[test]
    fn a_part_is_read_out_of_the_bytes() {
        #[derive(Deserialize)]
        struct Part<'a> {
            #[serde(borrow)]
            spec: std::collections::BTreeMap<&'a str, &'a str>,
        }
        let object = Object::from_value(pod(), 42, &[]).unwrap();
        assert_eq!(object.read::<Part<'_>>().unwrap().spec["nodeName"], "n1");
        assert!(object.read::<Vec<u8>>().is_err());
    }

    #[test]
    fn empty_metadata_still_makes_json() {
        let object = Object::from_value(json!({"apiVersion": "v1", "kind": "X"}), 3, &[]).unwrap();
        let shown: Value = serde_json::from_slice(&object.to_json()).unwrap();
        assert_eq!(shown["metadata"], json!({"resourceVersion": "3"}));
    }

    #[test]
    fn what_is_no_object_is_refused() {
        assert!(Object::canonical(json!([])).is_err());
        assert!(Object::canonical(json!({"metadata": 3})).is_err());
        assert!(Object::from_value(json!({"metadata": {"labels": 3}}), 0, &[]).is_err());
    }
}
