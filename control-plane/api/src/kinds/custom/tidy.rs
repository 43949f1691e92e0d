//! Parts of schemas whose form the types of the API leave open: `items` is a schema or a list of them,
//! `additionalProperties` a schema or a boolean. What is a schema there is brought to the form of schemas elsewhere.

use crate::schema::{Schema, Schemas, inspect};
use serde_json::Value;

const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Brings all schemas of a definition to the form that is stored: what no schema has is dropped, as is what says nothing.
pub(super) fn tidy(object: &mut Value) {
    let Some(props) = Schemas::builtin().get(PROPS) else { return };
    let versions = object.pointer_mut("/spec/versions").and_then(Value::as_array_mut);
    for version in versions.into_iter().flatten() {
        if let Some(schema) = version.pointer_mut("/schema/openAPIV3Schema") {
            below(props, schema);
        }
    }
}

/// Looks at what a schema that is well itself contains.
fn below(props: Schema<'_>, schema: &mut Value) {
    let Some(map) = schema.as_object_mut() else { return };
    for (key, value) in map.iter_mut() {
        match (key.as_str(), &mut *value) {
            ("items" | "additionalProperties" | "additionalItems", Value::Object(_)) => open(props, value),
            ("items", Value::Array(list)) => list.iter_mut().for_each(|inner| open(props, inner)),
            ("dependencies", Value::Object(inner)) => {
                inner.values_mut().filter(|v| v.is_object()).for_each(|inner| open(props, inner));
            }
            ("not", _) => below(props, value),
            ("allOf" | "anyOf" | "oneOf", Value::Array(list)) => {
                list.iter_mut().for_each(|inner| below(props, inner));
            }
            ("properties" | "patternProperties" | "definitions", Value::Object(inner)) => {
                inner.values_mut().for_each(|inner| below(props, inner));
            }
            _ => {}
        }
    }
}

/// A schema that nobody has looked at. What has a wrong type is left for validation to speak of.
fn open(props: Schema<'_>, schema: &mut Value) {
    let mut tried = schema.clone();
    if inspect(props, &mut tried).is_ok() {
        *schema = tried;
    }
    below(props, schema);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn schemas_of_elements_are_schemas() {
        let mut object = json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"a": {"type": "array", "items": {
                "type": "object", "odd": 1, "nullable": false, "default": {"odd": 1, "no": false},
                "additionalProperties": {"type": "array", "odd": 1, "minItems": 0, "items": {"type": "string", "title": ""}},
            }}},
            "allOf": [{"items": {"maxLength": 1, "odd": 1}}],
        }}}]}});
        tidy(&mut object);
        assert_eq!(
            object,
            json!({"spec": {"versions": [{"schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"a": {"type": "array", "items": {
                    "type": "object", "default": {"odd": 1, "no": false},
                    "additionalProperties": {"type": "array", "minItems": 0, "items": {"type": "string"}},
                }}},
                "allOf": [{"items": {"maxLength": 1}}],
            }}}]}})
        );
    }
}
