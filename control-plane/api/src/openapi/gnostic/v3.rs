//! A document of version 3 in protobuf, as `github.com/google/gnostic-models/openapiv3` has its messages. Only what our
//! documents and those of custom resources can hold is written.

use super::Kind::{Any, Anys, Double, Flag, Int, Many, One, Text, Texts};
use super::{
    EXTERNAL_DOCS, Rows, map, named, nested, object, put, put_bytes, put_fixed64, put_int, put_rows,
};
use serde_json::Value;

/// The media type, and the same as older clients call it.
pub const MEDIA_TYPES: [&str; 2] = [
    "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
    "application/com.github.proto-openapi.spec.v3@v1.0+protobuf",
];

const DOCUMENT: Rows = &[
    (1, "openapi", Text),
    (2, "info", One(|value, out| put_rows(INFO, Some(7), value, out))),
    (4, "paths", One(|value, out| map(1, value, path_item, out))),
    (5, "components", One(|value, out| put_rows(COMPONENTS, Some(10), value, out))),
];
const INFO: Rows = &[(1, "title", Text), (2, "description", Text), (6, "version", Text)];
const COMPONENTS: Rows = &[
    (1, "schemas", One(schemas)),
    (7, "securitySchemes", One(|value, out| map(1, value, security_scheme, out))),
];
const PATH_ITEM: Rows = &[
    (1, "$ref", Text),
    (2, "summary", Text),
    (3, "description", Text),
    (4, "get", One(operation)),
    (5, "put", One(operation)),
    (6, "post", One(operation)),
    (7, "delete", One(operation)),
    (8, "options", One(operation)),
    (9, "head", One(operation)),
    (10, "patch", One(operation)),
    (13, "parameters", Many(parameter)),
];
const OPERATION: Rows = &[
    (1, "tags", Texts),
    (2, "summary", Text),
    (3, "description", Text),
    (5, "operationId", Text),
    (6, "parameters", Many(parameter)),
    (7, "requestBody", One(|value, out| or_reference(BODY, 4, value, out))),
    (8, "responses", One(responses)),
    (10, "deprecated", Flag),
];
const PARAMETER: Rows = &[
    (1, "name", Text),
    (2, "in", Text),
    (3, "description", Text),
    (4, "required", Flag),
    (10, "schema", One(schema_or_reference)),
    (13, "content", One(contents)),
];
const BODY: Rows = &[(1, "description", Text), (2, "content", One(contents)), (3, "required", Flag)];
const RESPONSE: Rows = &[(1, "description", Text), (3, "content", One(contents))];
const MEDIA: Rows = &[(1, "schema", One(schema_or_reference))];
const SECURITY: Rows = &[
    (1, "type", Text),
    (2, "description", Text),
    (3, "name", Text),
    (4, "in", Text),
    (5, "scheme", Text),
    (6, "bearerFormat", Text),
];
const REFERENCE: Rows = &[(1, "$ref", Text), (2, "summary", Text), (3, "description", Text)];
const SCHEMA: Rows = &[
    (1, "nullable", Flag),
    (6, "externalDocs", One(|value, out| put_rows(EXTERNAL_DOCS, Some(3), value, out))),
    (7, "example", Any),
    (9, "title", Text),
    (10, "multipleOf", Double),
    (11, "maximum", Double),
    (12, "exclusiveMaximum", Flag),
    (13, "minimum", Double),
    (14, "exclusiveMinimum", Flag),
    (15, "maxLength", Int),
    (16, "minLength", Int),
    (17, "pattern", Text),
    (18, "maxItems", Int),
    (19, "minItems", Int),
    (20, "uniqueItems", Flag),
    (21, "maxProperties", Int),
    (22, "minProperties", Int),
    (23, "required", Texts),
    (24, "enum", Anys),
    (25, "type", Text),
    (26, "allOf", Many(schema_or_reference)),
    (27, "oneOf", Many(schema_or_reference)),
    (28, "anyOf", Many(schema_or_reference)),
    (29, "not", One(schema)),
    (30, "items", One(|value, out| put(1, One(schema_or_reference), value, out))),
    (31, "properties", One(schemas)),
    (32, "additionalProperties", One(additional)),
    (33, "default", One(default)),
    (34, "description", Text),
    (35, "format", Text),
];

/// The message of a whole document.
pub fn document(document: &Value) -> Vec<u8> {
    let mut out = Vec::with_capacity(256 << 10);
    put_rows(DOCUMENT, Some(9), document, &mut out);
    out
}

/// A reference, or the message itself.
fn or_reference(rows: Rows, extensions: u32, value: &Value, out: &mut Vec<u8>) {
    if value.get("$ref").is_some() {
        nested(2, |out| put_rows(REFERENCE, None, value, out), out);
    } else {
        nested(1, |out| put_rows(rows, Some(extensions), value, out), out);
    }
}

fn path_item(value: &Value, out: &mut Vec<u8>) {
    put_rows(PATH_ITEM, Some(14), value, out);
}

fn operation(value: &Value, out: &mut Vec<u8>) {
    put_rows(OPERATION, Some(13), value, out);
}

fn parameter(value: &Value, out: &mut Vec<u8>) {
    or_reference(PARAMETER, 14, value, out);
}

/// The answer to whatever is not named, and those to codes.
fn responses(value: &Value, out: &mut Vec<u8>) {
    let response = |value: &Value, out: &mut Vec<u8>| or_reference(RESPONSE, 5, value, out);
    if let Some(value) = value.get("default") {
        put(1, One(response), value, out);
    }
    for (code, value) in object(value).filter(|(code, _)| *code != "default") {
        named(2, code, |out| put(2, One(response), value, out), out);
    }
}

fn contents(value: &Value, out: &mut Vec<u8>) {
    map(1, value, |value, out| put_rows(MEDIA, Some(5), value, out), out);
}

fn security_scheme(value: &Value, out: &mut Vec<u8>) {
    or_reference(SECURITY, 9, value, out);
}

fn schema(value: &Value, out: &mut Vec<u8>) {
    put_rows(SCHEMA, Some(36), value, out);
}

fn schema_or_reference(value: &Value, out: &mut Vec<u8>) {
    or_reference(SCHEMA, 36, value, out);
}

fn schemas(value: &Value, out: &mut Vec<u8>) {
    map(1, value, schema_or_reference, out);
}

/// A schema, or whether there may be any.
fn additional(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Bool(allowed) => put_int(out, 2, (*allowed).into()),
        _ => put(1, One(schema_or_reference), value, out),
    }
}

/// A number, a truth value or a text; there is no room for other defaults.
fn default(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Number(number) => put_fixed64(out, 1, number.as_f64().unwrap_or_default().to_bits()),
        Value::Bool(flag) => put_int(out, 2, (*flag).into()),
        Value::String(text) => put_bytes(out, 3, text.as_bytes()),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base64::{Engine, engine::general_purpose::STANDARD};

    /// A document with all that ours can hold, and the bytes that gnostic-models 0.7.0 makes of it.
    const RECORDED: &str = include_str!("../../../../../tests/fixtures/openapi-v3.json");

    #[test]
    fn a_document_is_written_as_gnostic_writes_it() {
        let recorded: Value = serde_json::from_str(RECORDED).unwrap();
        let bytes = STANDARD.decode(recorded["protobuf"].as_str().unwrap()).unwrap();
        assert!(bytes.len() > 1000);
        assert_eq!(document(&recorded["document"]), bytes);
    }
}
