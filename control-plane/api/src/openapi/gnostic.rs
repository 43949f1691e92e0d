//! A document of version 2 in protobuf, as `github.com/google/gnostic-models/openapiv2` has its messages: what clients of
//! `client-go` ask for. Only what our documents and those of custom resources can hold is written.

pub mod v3;

use crate::protobuf::wire::{put_bytes, put_fixed64, put_int};
use crate::yaml;
use serde_json::{Map, Value};

/// The media type, and the same as older clients call it.
pub const MEDIA_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v2.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v2@v1.0+protobuf",
];

/// Writes the message of a value.
type Write = fn(&Value, &mut Vec<u8>);

/// How a field is written.
#[derive(Clone, Copy)]
enum Kind {
    Text,
    Texts,
    Flag,
    Int,
    Double,
    /// A value of any form, as text.
    Any,
    Anys,
    One(Write),
    Many(Write),
}
use Kind::{Any, Anys, Double, Flag, Int, Many, One, Text, Texts};

/// Fields of a message: number, name in JSON, form.
type Rows = &'static [(u32, &'static str, Kind)];

const DOCUMENT: Rows = &[
    (1, "swagger", Text),
    (2, "info", One(info)),
    (8, "paths", One(paths)),
    (9, "definitions", One(schemas)),
    (12, "security", Many(requirement)),
    (13, "securityDefinitions", One(securities)),
];
const INFO: Rows = &[(1, "title", Text), (2, "version", Text), (3, "description", Text)];
const PATH_ITEM: Rows = &[
    (1, "$ref", Text),
    (2, "get", One(operation)),
    (3, "put", One(operation)),
    (4, "post", One(operation)),
    (5, "delete", One(operation)),
    (6, "options", One(operation)),
    (7, "head", One(operation)),
    (8, "patch", One(operation)),
    (9, "parameters", Many(parameter)),
];
const OPERATION: Rows = &[
    (1, "tags", Texts),
    (2, "summary", Text),
    (3, "description", Text),
    (5, "operationId", Text),
    (6, "produces", Texts),
    (7, "consumes", Texts),
    (8, "parameters", Many(parameter)),
    (9, "responses", One(responses)),
    (10, "schemes", Texts),
    (11, "deprecated", Flag),
];
const BODY: Rows = &[
    (1, "description", Text),
    (2, "name", Text),
    (3, "in", Text),
    (4, "required", Flag),
    (5, "schema", One(schema)),
];
/// Parameters in the query; those in the path have no `allowEmptyValue`, and so other numbers from there on.
const QUERY: Rows = &[
    (1, "required", Flag),
    (2, "in", Text),
    (3, "description", Text),
    (4, "name", Text),
    (6, "type", Text),
    (7, "format", Text),
    (20, "uniqueItems", Flag),
];
const PATH: Rows = &[
    (1, "required", Flag),
    (2, "in", Text),
    (3, "description", Text),
    (4, "name", Text),
    (5, "type", Text),
    (6, "format", Text),
    (19, "uniqueItems", Flag),
];
const REFERENCE: Rows = &[(1, "$ref", Text), (2, "description", Text)];
const RESPONSE: Rows = &[(1, "description", Text), (2, "schema", One(schema_item))];
const API_KEY: Rows = &[(1, "type", Text), (2, "name", Text), (3, "in", Text), (4, "description", Text)];
const SCHEMA: Rows = &[
    (1, "$ref", Text),
    (2, "format", Text),
    (3, "title", Text),
    (4, "description", Text),
    (5, "default", Any),
    (6, "multipleOf", Double),
    (7, "maximum", Double),
    (8, "exclusiveMaximum", Flag),
    (9, "minimum", Double),
    (10, "exclusiveMinimum", Flag),
    (11, "maxLength", Int),
    (12, "minLength", Int),
    (13, "pattern", Text),
    (14, "maxItems", Int),
    (15, "minItems", Int),
    (16, "uniqueItems", Flag),
    (17, "maxProperties", Int),
    (18, "minProperties", Int),
    (19, "required", Texts),
    (20, "enum", Anys),
    (21, "additionalProperties", One(additional)),
    (22, "type", One(types)),
    (23, "items", One(items)),
    (24, "allOf", Many(schema)),
    (25, "properties", One(schemas)),
    (29, "externalDocs", One(external_docs)),
    (30, "example", Any),
];
const EXTERNAL_DOCS: Rows = &[(1, "description", Text), (2, "url", Text)];

/// The message of a whole document.
pub fn document(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(2 << 20);
    put_rows(DOCUMENT, Some(16), document, &mut out);
    out
}

fn object(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn nested(number: u32, write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let mut inner = Vec::new();
    write(&mut inner);
    put_bytes(out, number, &inner);
}

/// Writes the fields of a message; `extensions` is the number of those whose names begin with `x-`.
fn put_rows(rows: Rows, extensions: Option<u32>, value: &Value, out: &mut Vec<u8>) {
    for (number, name, kind) in rows {
        if let Some(value) = value.get(name).filter(|value| !value.is_null()) {
            put(*number, *kind, value, out);
        }
    }
    for (name, value) in object(value).filter(|(name, _)| name.starts_with("x-")) {
        if let Some(number) = extensions {
            named(number, name, |out| nested(2, |out| any(value, out), out), out);
        }
    }
}

/// A field, if it is not zero.
fn put(number: u32, kind: Kind, value: &Value, out: &mut Vec<u8>) {
    let list = || value.as_array().into_iter().flatten();
    match kind {
        Text => match value.as_str() {
            None | Some("") => {}
            Some(text) => put_bytes(out, number, text.as_bytes()),
        },
        Texts => list().filter_map(Value::as_str).for_each(|text| put_bytes(out, number, text.as_bytes())),
        Flag if value == &Value::Bool(true) => put_int(out, number, 1),
        Flag => {}
        Int => match value.as_i64() {
            None | Some(0) => {}
            Some(int) => put_int(out, number, int.cast_unsigned()),
        },
        Double => match value.as_f64() {
            None | Some(0.0) => {}
            Some(double) => put_fixed64(out, number, double.to_bits()),
        },
        Any => nested(number, |out| any(value, out), out),
        Anys => list().for_each(|value| nested(number, |out| any(value, out), out)),
        One(write) => nested(number, |out| write(value, out), out),
        Many(write) => list().for_each(|value| nested(number, |out| write(value, out), out)),
    }
}

/// A pair of a name and what `write` appends (a field with number 2), as a message under `number`.
fn named(number: u32, name: &str, write: impl FnOnce(&mut Vec<u8>), out: &mut Vec<u8>) {
    let pair = |out: &mut Vec<u8>| {
        put_bytes(out, 1, name.as_bytes());
        write(out);
    };
    nested(number, pair, out);
}

/// A map from names to messages.
fn map(number: u32, value: &Value, write: Write, out: &mut Vec<u8>) {
    for (name, value) in object(value) {
        named(number, name, |out| nested(2, |out| write(value, out), out), out);
    }
}

/// Of any form: as YAML. Gnostic's own has lists within values indented by more, and quotes less.
fn any(value: &Value, out: &mut Vec<u8>) {
    put_bytes(out, 2, &yaml::document(value));
}

fn info(value: &Value, out: &mut Vec<u8>) {
    put_rows(INFO, Some(7), value, out);
}

fn paths(value: &Value, out: &mut Vec<u8>) {
    map(2, value, path_item, out);
}

fn path_item(value: &Value, out: &mut Vec<u8>) {
    put_rows(PATH_ITEM, Some(10), value, out);
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    put_rows(OPERATION, Some(13), value, out);
}

/// A reference, or a parameter: of the body, or of another place.
fn parameter(value: &Value, out: &mut Vec<u8>) {
    if value.get("$ref").is_some() {
        return nested(2, |out| put_rows(REFERENCE, None, value, out), out);
    }
    let other = |number, rows, extensions, out: &mut Vec<u8>| {
        nested(2, |out| nested(number, |out| put_rows(rows, Some(extensions), value, out), out), out);
    };
    nested(
        1,
        |out| match value.get("in").and_then(Value::as_str) {
            Some("body") => nested(1, |out| put_rows(BODY, Some(6), value, out), out),
            Some("path") => other(4, PATH, 22, out),
            _ => other(3, QUERY, 23, out),
        },
        out,
    );
}

fn responses(value: &Value, out: &mut Vec<u8>) {
    map(1, value, |value, out| nested(1, |out| put_rows(RESPONSE, Some(5), value, out), out), out);
}

fn schema_item(value: &Value, out: &mut Vec<u8>) {
    nested(1, |out| schema(value, out), out);
}

fn schemas(value: &Value, out: &mut Vec<u8>) {
    map(1, value, schema, out);
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    put_rows(SCHEMA, Some(31), value, out);
}

fn external_docs(value: &Value, out: &mut Vec<u8>) {
    put_rows(EXTERNAL_DOCS, Some(3), value, out);
}

/// A schema, or whether there may be any.
fn additional(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(allowed) => put_int(out, 2, (*allowed).into()),
        _ => nested(1, |out| schema(value, out), out),
    }
}

/// One type, or several.
fn types(value: &Value, out: &mut Vec<u8>) {
    let kind = if value.is_array() { Texts } else { Text };
    put(1, kind, value, out);
}

/// One schema, or several.
fn items(value: &Value, out: &mut Vec<u8>) {
    if value.is_array() {
        put(1, Many(schema), value, out);
    } else {
        put(1, One(schema), value, out);
    }
}

/// Names of securities, each with its scopes.
fn requirement(value: &Value, out: &mut Vec<u8>) {
    map(1, value, |scopes, out| put(1, Texts, scopes, out), out);
}

fn securities(value: &Value, out: &mut Vec<u8>) {
    map(1, value, |value, out| nested(2, |out| put_rows(API_KEY, Some(5), value, out), out), out);
}
