//! Objects, lists and watch events as they go over the wire, written around the messages of objects.

use super::encode;
use super::json::Cursor;
use super::table::Table;
use super::wire::{Reader, Wire, put_bytes, put_head, put_int};
use super::{MAGIC, ProtobufError};
use crate::object::Object;
use bytes::{BufMut, Bytes, BytesMut};
use serde_json::Value;

/// What stands behind the message in an envelope: no encoding and no content type.
const TAIL: &[u8] = &[0x1a, 0, 0x22, 0];
/// An empty `resourceVersion` of `ObjectMeta`.
const NO_VERSION: &[u8] = &[0x32, 0];

/// The message of an object, without its envelope and without a resource version; that is written around it, so that all
/// who are told of the object share one buffer.
#[derive(Clone, Debug)]
pub struct Message {
    bytes: Bytes,
    version: Option<Splice>,
}

/// Where the resource version goes.
#[derive(Clone, Copy, Debug)]
struct Splice {
    /// Where the content of `metadata`, the first field, begins, and how long it is.
    metadata: (usize, usize),
    /// Where the empty version stands.
    at: usize,
}

impl Message {
    /// The message of an object; an error where its kind has none.
    pub fn of(object: &Object) -> Result<Self, ProtobufError> {
        let json = object.body();
        let (api_version, kind) = kind_of(object);
        let table = Table::get();
        let message =
            table.of_kind(&api_version, &kind).ok_or(ProtobufError::UnknownKind { api_version, kind })?;
        Self::new(encode::message(table, message, json)?)
    }

    /// The message of an object's metadata alone (`PartialObjectMetadata`), of whatever kind it is.
    pub fn partial(object: &Object) -> Result<Self, ProtobufError> {
        let table = Table::get();
        let (api_version, kind) = ("meta.k8s.io/v1", "PartialObjectMetadata");
        let message = table.of_kind(api_version, kind).ok_or_else(|| ProtobufError::UnknownKind {
            api_version: api_version.into(),
            kind: kind.into(),
        })?;
        Self::new(encode::message(table, message, object.body())?)
    }

    fn new(bytes: Vec<u8>) -> Result<Self, ProtobufError> {
        let mut version = None;
        let mut reader = Reader::new(&bytes);
        if let Some((1, Wire::Bytes(metadata))) = reader.field()? {
            let begin = bytes.len() - reader.left() - metadata.len();
            let mut inner = Reader::new(metadata);
            loop {
                let at = metadata.len() - inner.left();
                match inner.field()? {
                    Some((6, Wire::Bytes([]))) => {
                        version = Some(Splice { metadata: (begin, metadata.len()), at: begin + at });
                        break;
                    }
                    Some((number, _)) if number < 6 => {}
                    _ => break,
                }
            }
        }
        Ok(Message { bytes: bytes.into(), version })
    }

    /// Its length with `revision` as its resource version (0: none).
    pub fn len(&self, revision: u64) -> usize {
        match self.version {
            Some(splice) if revision > 0 => {
                let added = digits(revision);
                let (begin, length) = splice.metadata;
                head(1, length + added).len() + self.bytes.len() - begin + added
            }
            _ => self.bytes.len(),
        }
    }

    /// Whether it has no bytes at all.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Appends it with `revision` as its resource version (0: none).
    pub fn write(&self, revision: u64, out: &mut BytesMut) {
        match self.version {
            Some(splice) if revision > 0 => {
                let (begin, length) = splice.metadata;
                let text = revision.to_string();
                out.put_slice(&head(1, length + text.len()));
                out.put_slice(&self.bytes[begin..splice.at]);
                out.put_slice(&head(6, text.len()));
                out.put_slice(text.as_bytes());
                out.put_slice(&self.bytes[splice.at + NO_VERSION.len()..]);
            }
            _ => out.put_slice(&self.bytes),
        }
    }
}

fn digits(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |tens| tens as usize + 1)
}

fn head(number: u32, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(12);
    put_head(&mut out, number, length);
    out
}

/// `apiVersion` and `kind` of an object.
pub fn kind_of(object: &Object) -> (String, String) {
    let (mut api_version, mut kind) = (String::new(), String::new());
    let mut from = Cursor::new(object.body());
    let mut first = from.take(b'{');
    let mut found = 0;
    while let Some(Some(key)) = from.key(&mut first) {
        let slot = match &*key {
            b"apiVersion" => &mut api_version,
            b"kind" => &mut kind,
            _ => {
                if from.raw().is_none() {
                    break;
                }
                continue;
            }
        };
        let Some(text) = from.string() else { break };
        *slot = String::from_utf8_lossy(&text).into_owned();
        found += 1;
        if found == 2 {
            break;
        }
    }
    (api_version, kind)
}

/// An envelope in two parts: what goes before a message of `length` bytes, and what goes behind it.
pub fn envelope(api_version: &str, kind: &str, length: usize) -> (Vec<u8>, &'static [u8]) {
    let mut meta = Vec::with_capacity(api_version.len() + kind.len() + 4);
    put_bytes(&mut meta, 1, api_version.as_bytes());
    put_bytes(&mut meta, 2, kind.as_bytes());
    let mut out = Vec::with_capacity(MAGIC.len() + meta.len() + 8);
    out.extend_from_slice(&MAGIC);
    put_bytes(&mut out, 1, &meta);
    put_head(&mut out, 2, length);
    (out, TAIL)
}

/// An object with its envelope. `apiVersion` and `kind` are those of the message, not always of the object.
pub fn object((api_version, kind): (&str, &str), message: &Message, revision: u64) -> Bytes {
    let length = message.len(revision);
    let (before, after) = envelope(api_version, kind, length);
    let mut out = BytesMut::with_capacity(before.len() + length + after.len());
    out.put_slice(&before);
    message.write(revision, &mut out);
    out.put_slice(after);
    out.freeze()
}

/// `metadata` of a list.
#[derive(Clone, Debug, Default)]
pub struct ListMeta<'a> {
    /// The moment.
    pub revision: u64,
    /// Where the next page starts, or empty.
    pub token: &'a str,
    /// How many objects follow.
    pub remaining: Option<i64>,
}

/// What goes before the items of a list whose items, each with [`item_head`], are `length` bytes together; then what goes
/// behind them.
pub fn list(api_version: &str, kind: &str, meta: &ListMeta<'_>, length: usize) -> (Vec<u8>, &'static [u8]) {
    let mut metadata = Vec::new();
    put_bytes(&mut metadata, 1, b"");
    let version = if meta.revision > 0 { meta.revision.to_string() } else { String::new() };
    put_bytes(&mut metadata, 2, version.as_bytes());
    put_bytes(&mut metadata, 3, meta.token.as_bytes());
    if let Some(remaining) = meta.remaining {
        put_int(&mut metadata, 4, remaining.cast_unsigned());
    }
    let before = head(1, metadata.len());
    let (mut out, after) = envelope(api_version, kind, before.len() + metadata.len() + length);
    out.extend_from_slice(&before);
    out.extend_from_slice(&metadata);
    (out, after)
}

/// What goes before an item of a list.
pub fn item_head(length: usize) -> Vec<u8> {
    head(2, length)
}

/// Appends an event of a watch, as a frame: its length in four bytes, then a `WatchEvent`. `write` appends the object with
/// its envelope, `length` bytes.
pub fn frame(word: &str, length: usize, out: &mut BytesMut, write: impl FnOnce(&mut BytesMut)) {
    let raw = head(1, length);
    let mut event = Vec::with_capacity(32);
    put_bytes(&mut event, 1, word.as_bytes());
    put_head(&mut event, 2, raw.len() + length);
    let all = event.len() + raw.len() + length;
    out.reserve(all + 4);
    out.put_u32(u32::try_from(all).unwrap_or(u32::MAX));
    out.put_slice(&event);
    out.put_slice(&raw);
    write(out);
}

/// Appends an event about an object's message at a revision.
pub fn object_frame(
    word: &str,
    (api_version, kind): (&str, &str),
    message: &Message,
    revision: u64,
    out: &mut BytesMut,
) {
    let length = message.len(revision);
    let (before, after) = envelope(api_version, kind, length);
    frame(word, before.len() + length + after.len(), out, |out| {
        out.put_slice(&before);
        message.write(revision, out);
        out.put_slice(after);
    });
}

/// Writes a tree with its envelope, by the `apiVersion` and `kind` that it bears.
pub fn tree(value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let text = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
    super::encode(value, text("apiVersion"), text("kind"))
}
