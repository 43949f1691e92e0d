//! The types of the built-in kinds, as the build script writes them: static tables that cost no heap.

use super::set::{Doc, Field, ListType, Merge, Node, Schemas, Type};
use std::borrow::Cow;

include!(concat!(env!("OUT_DIR"), "/types.rs"));

pub(super) static SCHEMAS: Schemas =
    Schemas::fixed(TYPES, NODES, include_str!(concat!(env!("OUT_DIR"), "/docs.txt")));

const fn text(text: Option<&'static str>) -> Option<Cow<'static, str>> {
    match text {
        Some(text) => Some(Cow::Borrowed(text)),
        None => None,
    }
}

const fn ty(
    name: &'static str,
    doc: (u32, u32),
    shape: Node,
    atomic: bool,
    unions: Option<&'static str>,
    fields: &'static [Field],
) -> Type {
    Type {
        name: Cow::Borrowed(name),
        doc: Doc { start: doc.0, len: doc.1 },
        shape,
        fields: Cow::Borrowed(fields),
        atomic,
        open: false,
        unions: text(unions),
    }
}

#[allow(clippy::too_many_arguments)] // one argument a column of the table
const fn fd(
    name: &'static str,
    doc: (u32, u32),
    node: Node,
    required: bool,
    value: bool,
    default: Option<&'static str>,
    zero: Option<&'static str>,
    published: bool,
    merge: (bool, Option<&'static str>, bool, bool),
    go: Option<&'static str>,
    inline: Option<&'static str>,
    granular: bool,
) -> Field {
    Field {
        name: Cow::Borrowed(name),
        doc: Doc { start: doc.0, len: doc.1 },
        node,
        required,
        value,
        default: text(default),
        zero: text(zero),
        published,
        merge: Merge { merge: merge.0, key: text(merge.1), retain_keys: merge.2, replace: merge.3 },
        go: text(go),
        inline: text(inline),
        granular,
    }
}
