//! Objects in the form of `application/vnd.kubernetes.protobuf`.
//!
//! Four bytes (`k8s` and a zero) go before the message `runtime.Unknown`, which names `apiVersion` and `kind`
//! and carries the object's own message. How kinds are written is data: `facts/protobuf.txt`. Trees are what
//! Go would write as JSON, but for empty structures, which the schema check puts in and takes out anyway.
//! Custom resources have no such form.

mod answer;
mod decode;
mod encode;
mod json;
mod plan;
mod table;
#[cfg(test)]
mod tests;
pub(crate) mod wire;

pub use answer::{ListMeta, Message, envelope, frame, item_head, kind_of, list, object, object_frame, tree};

use serde_json::Value;
use table::Table;
use wire::{Reader, Wire};

/// The media type.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// What every body begins with.
pub const MAGIC: [u8; 4] = *b"k8s\0";

/// How deep messages may nest.
const MAX_DEPTH: usize = 100;

/// How many values one tree may have: far more than a body of a few MiB holds that was written in earnest,
/// and few enough that tiny messages cannot grow into a tree of gigabytes.
const MAX_VALUES: usize = 250_000;

/// Why bytes are not an object, or an object has no bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProtobufError {
    /// The four bytes are missing.
    #[error("provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]")]
    Magic,
    /// The bytes end within a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A number is larger than its type.
    #[error("proto: integer overflow")]
    Overflow,
    /// A tag that no message may have.
    #[error("proto: illegal tag {number} (wire type {wire})")]
    Tag {
        /// The field's number.
        number: u32,
        /// Its wire type.
        wire: u8,
    },
    /// A field is written in a way its type is not.
    #[error("proto: wrong wireType for field {0}")]
    WireType(&'static str),
    /// Messages nest deeper than allowed.
    #[error("exceeded the limit of {MAX_DEPTH} nested messages")]
    TooDeep,
    /// The tree would be larger than allowed.
    #[error("exceeded the limit of {MAX_VALUES} values")]
    TooLarge,
    /// A string is not UTF-8.
    #[error("field {0} is not valid UTF-8")]
    Utf8(&'static str),
    /// A value that its type cannot hold.
    #[error("field {field}: {why}")]
    Value {
        /// The JSON name of the field.
        field: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no protobuf form of such a kind.
    #[error("no kind {kind:?} is registered for version {api_version:?} in protobuf form")]
    UnknownKind {
        /// As the envelope (or the caller) says.
        api_version: String,
        /// As the envelope (or the caller) says.
        kind: String,
    },
}

/// An object that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The group and version it says it is of.
    pub api_version: String,
    /// The kind it says it is.
    pub kind: String,
    /// The tree, with `apiVersion` and `kind` in it.
    pub value: Value,
}

/// Whether kinds of this name can be written as protobuf.
pub fn is_known(api_version: &str, kind: &str) -> bool {
    Table::get().of_kind(api_version, kind).is_some()
}

/// Reads an object with its envelope. No bytes make it panic; depth and size of the tree are limited.
pub fn decode(bytes: &[u8]) -> Result<Decoded, ProtobufError> {
    decode::envelope(bytes, &mut decode::Limits::new())
}

/// Writes a tree with its envelope, as an object of this kind; `apiVersion` and `kind` of the tree itself are passed over.
///
/// The bytes are those that upstream writes: fields by number, maps by key, values of Go that are no
/// pointers even when they are zero. Fields that the message does not have are left out.
pub fn encode(value: &Value, api_version: &str, kind: &str) -> Result<Vec<u8>, ProtobufError> {
    let table = Table::get();
    let unknown =
        || ProtobufError::UnknownKind { api_version: api_version.to_owned(), kind: kind.to_owned() };
    let message = table.of_kind(api_version, kind).ok_or_else(unknown)?;
    let raw = encode::message(table, message, value.to_string().as_bytes())?;
    let (mut out, after) = envelope(api_version, kind, raw.len());
    out.extend_from_slice(&raw);
    out.extend_from_slice(after);
    Ok(out)
}

/// The parts of an envelope after the four bytes.
#[derive(Default)]
struct Envelope<'a> {
    api_version: &'a [u8],
    kind: &'a [u8],
    raw: &'a [u8],
}

impl<'a> Envelope<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, ProtobufError> {
        let mut envelope = Self::default();
        let mut reader = Reader::new(bytes.strip_prefix(&MAGIC).ok_or(ProtobufError::Magic)?);
        while let Some((number, wire)) = reader.field()? {
            match (number, wire) {
                (1, Wire::Bytes(meta)) => {
                    let mut meta = Reader::new(meta);
                    while let Some((number, wire)) = meta.field()? {
                        match (number, wire) {
                            (1, Wire::Bytes(text)) => envelope.api_version = text,
                            (2, Wire::Bytes(text)) => envelope.kind = text,
                            (1 | 2, _) => return Err(ProtobufError::WireType("typeMeta")),
                            _ => {}
                        }
                    }
                }
                (2, Wire::Bytes(raw)) => envelope.raw = raw,
                (1 | 2, _) => return Err(ProtobufError::WireType("raw")),
                _ => {}
            }
        }
        Ok(envelope)
    }
}
