//! Schemas of custom resources in a typed form, read from the tree that a CustomResourceDefinition has.

use super::pattern::Pattern;
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt;

/// A schema (`JSONSchemaProps`), or a part of one. Whether the whole is structural, [`super::rules_of_structure`] says.
///
/// Schemas below [`Limits::all_of`], `any_of`, `one_of` and `not` say what values must be and nothing of their
/// structure; they are of the same type, and the rules of structure see to it that the rest of them is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Structural {
    /// `type`.
    pub kind: Kind,
    /// Whether null is a value.
    pub nullable: bool,
    /// What stands where nothing is given.
    pub default: Option<Value>,
    /// For people; empty for none.
    pub description: String,
    /// For people; empty for none.
    pub title: String,
    /// An example.
    pub example: Option<Value>,
    /// `externalDocs`, as it was given.
    pub external_docs: Option<Value>,
    /// Fields of an object by name.
    pub properties: BTreeMap<String, Structural>,
    /// Fields of an object that are not among [`properties`](Self::properties).
    pub additional: Option<Additional>,
    /// Elements of a list.
    pub items: Option<Box<Structural>>,
    /// `x-kubernetes-preserve-unknown-fields`: fields that are not named stay.
    pub preserve_unknown: bool,
    /// `x-kubernetes-embedded-resource`: an object with `apiVersion`, `kind` and `metadata`.
    pub embedded: bool,
    /// `x-kubernetes-int-or-string`.
    pub int_or_string: bool,
    /// `x-kubernetes-list-type`.
    pub list: Option<List>,
    /// `x-kubernetes-list-map-keys`.
    pub map_keys: Vec<String>,
    /// `x-kubernetes-map-type`.
    pub map: Option<MapType>,
    /// `x-kubernetes-validations`.
    pub rules: Vec<Rule>,
    /// What values must be beyond their type.
    pub limits: Limits,
}

/// `type` of a schema.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// None is given.
    #[default]
    Any,
    /// `object`.
    Object,
    /// `array`.
    Array,
    /// `string`.
    String,
    /// `integer`.
    Integer,
    /// `number`.
    Number,
    /// `boolean`.
    Boolean,
}

/// One row a type: how it is written.
const KINDS: &[(Kind, &str)] = &[
    (Kind::Any, ""),
    (Kind::Object, "object"),
    (Kind::Array, "array"),
    (Kind::String, "string"),
    (Kind::Integer, "integer"),
    (Kind::Number, "number"),
    (Kind::Boolean, "boolean"),
];

impl Kind {
    /// As the schema writes it; empty for none.
    pub fn as_str(self) -> &'static str {
        KINDS.iter().find(|row| row.0 == self).map_or("", |row| row.1)
    }

    /// The type of a name; none for a name that no type has.
    pub fn parse(name: &str) -> Option<Self> {
        KINDS.iter().find(|row| row.1 == name).map(|row| row.0)
    }
}

/// `additionalProperties`.
#[derive(Clone, Debug, PartialEq)]
pub enum Additional {
    /// Any value, or none at all.
    Allowed(bool),
    /// Values of this schema.
    Schema(Box<Structural>),
}

impl Additional {
    /// The schema, where there is one.
    pub fn schema(&self) -> Option<&Structural> {
        match self {
            Additional::Schema(schema) => Some(schema),
            Additional::Allowed(_) => None,
        }
    }
}

/// `x-kubernetes-list-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// One value.
    Atomic,
    /// No two elements are the same.
    Set,
    /// No two elements have the same keys.
    Map,
}

/// `x-kubernetes-map-type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MapType {
    /// One value.
    Atomic,
    /// Each field by itself.
    Granular,
}

/// What values must be beyond their type.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// `format`; empty for none.
    pub format: String,
    /// The greatest number.
    pub maximum: Option<f64>,
    /// Whether [`maximum`](Self::maximum) itself is too great.
    pub exclusive_maximum: bool,
    /// The smallest number.
    pub minimum: Option<f64>,
    /// Whether [`minimum`](Self::minimum) itself is too small.
    pub exclusive_minimum: bool,
    /// Numbers are multiples of it.
    pub multiple_of: Option<f64>,
    /// Most characters of a string.
    pub max_length: Option<i64>,
    /// Fewest characters of a string.
    pub min_length: Option<i64>,
    /// Strings match it.
    pub pattern: Option<Pattern>,
    /// Most elements of a list.
    pub max_items: Option<i64>,
    /// Fewest elements of a list.
    pub min_items: Option<i64>,
    /// Elements of a list differ.
    pub unique_items: bool,
    /// Most fields of an object.
    pub max_properties: Option<i64>,
    /// Fewest fields of an object.
    pub min_properties: Option<i64>,
    /// Fields that an object must have.
    pub required: Vec<String>,
    /// The values there are.
    pub enumeration: Vec<Value>,
    /// All of these hold.
    pub all_of: Vec<Structural>,
    /// At least one of these holds.
    pub any_of: Vec<Structural>,
    /// Exactly one of these holds.
    pub one_of: Vec<Structural>,
    /// This does not hold.
    pub not: Option<Box<Structural>>,
}

/// A rule of `x-kubernetes-validations`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The CEL expression that must be true.
    pub rule: String,
    /// What is said where it is not; empty for none.
    pub message: String,
    /// A CEL expression for what is said; empty for none.
    pub message_expression: String,
    /// `FieldValueInvalid` and its like; none is that one.
    pub reason: Option<String>,
    /// The field that is at fault, as a simple JSON path; empty for none.
    pub field_path: String,
    /// Whether `oldSelf` is an optional, and the rule is evaluated where there is none.
    pub optional_old_self: Option<bool>,
}

/// What a schema has that no schema of a custom resource may have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsupported {
    /// A keyword.
    #[error("OpenAPIV3Schema '{0}' is not supported")]
    Keyword(&'static str),
    /// `items` with a list.
    #[error("OpenAPIV3Schema 'items' must be a schema, but is an array")]
    Items,
    /// `x-kubernetes-preserve-unknown-fields` that is false.
    #[error("internal error: 'x-kubernetes-preserve-unknown-fields' must be true or undefined")]
    Preserve,
    /// A type, a list type or a map type with a name that none has.
    #[error("{0:?} is an invalid type name")]
    Type(String),
    /// Schemas within schemas, too deep.
    #[error("the schema is nested too deeply")]
    Deep,
}

const KEYWORDS: &[(&str, &str)] = &[
    ("id", "id"),
    ("$schema", "schema"),
    ("$ref", "$ref"),
    ("patternProperties", "patternProperties"),
    ("dependencies", "dependencies"),
    ("additionalItems", "additionalItems"),
    ("definitions", "definitions"),
];

/// How deep schemas may lie within schemas. Bodies of requests end at 128 levels, of which a schema takes two.
const DEEPEST: usize = 128;

impl Structural {
    /// Reads a schema from the tree of a CustomResourceDefinition.
    pub fn parse(tree: &Value) -> Result<Self, Unsupported> {
        parse(tree, 0)
    }

    /// The schema of a field: its own, or that of all further fields.
    pub fn field(&self, name: &str) -> Option<&Structural> {
        self.properties.get(name).or_else(|| self.additional.as_ref().and_then(Additional::schema))
    }

    /// Whether a rule stands here or below, as seen from objects (rules within `allOf` alone do not count).
    pub fn has_rules(&self) -> bool {
        !self.rules.is_empty()
            || self.items.as_deref().is_some_and(Structural::has_rules)
            || self.additional.as_ref().and_then(Additional::schema).is_some_and(Structural::has_rules)
            || self.properties.values().any(Structural::has_rules)
    }

    /// Whether `wanted` holds of this schema or any within it.
    pub fn any(&self, wanted: &dyn Fn(&Structural) -> bool) -> bool {
        wanted(self) || self.parts().any(|part| part.any(wanted))
    }

    /// All schemas directly within this one.
    pub fn parts(&self) -> impl Iterator<Item = &Structural> {
        let limits = &self.limits;
        self.properties
            .values()
            .chain(self.items.as_deref())
            .chain(self.additional.as_ref().and_then(Additional::schema))
            .chain(&limits.all_of)
            .chain(&limits.any_of)
            .chain(&limits.one_of)
            .chain(limits.not.as_deref())
    }

    /// As the root of a resource or of an embedded one: with `apiVersion`, `kind` and `metadata`.
    pub(super) fn as_root(&self) -> std::borrow::Cow<'_, Structural> {
        if self.embedded {
            std::borrow::Cow::Borrowed(self)
        } else {
            std::borrow::Cow::Owned(Structural { embedded: true, ..self.clone() })
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

fn text(map: &Map<String, Value>, key: &str) -> String {
    map.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(map: &Map<String, Value>, key: &str) -> bool {
    map.get(key) == Some(&Value::Bool(true))
}

fn texts(map: &Map<String, Value>, key: &str) -> Vec<String> {
    let list = map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    list.iter().filter_map(|v| v.as_str().map(str::to_owned)).collect()
}

fn given<'a>(map: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    map.get(key).filter(|v| !v.is_null())
}

fn nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn parse(tree: &Value, depth: usize) -> Result<Structural, Unsupported> {
    if depth > DEEPEST {
        return Err(Unsupported::Deep);
    }
    let empty = Map::new();
    let map = tree.as_object().unwrap_or(&empty);
    for (key, name) in KEYWORDS {
        if map.get(*key).is_some_and(|value| !nothing(value)) {
            return Err(Unsupported::Keyword(name));
        }
    }
    let one = |key: &str| given(map, key).map(|tree| parse(tree, depth + 1).map(Box::new)).transpose();
    let many = |key: &str| -> Result<Vec<Structural>, Unsupported> {
        let list = map.get(key).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        list.iter().map(|tree| parse(tree, depth + 1)).collect()
    };
    let whole = |key: &str| map.get(key).and_then(Value::as_i64);
    let number = |key: &str| map.get(key).and_then(Value::as_f64);
    let limits = Limits {
        format: text(map, "format"),
        maximum: number("maximum"),
        exclusive_maximum: flag(map, "exclusiveMaximum"),
        minimum: number("minimum"),
        exclusive_minimum: flag(map, "exclusiveMinimum"),
        multiple_of: number("multipleOf"),
        max_length: whole("maxLength"),
        min_length: whole("minLength"),
        pattern: Some(text(map, "pattern")).filter(|p| !p.is_empty()).map(|p| Pattern::new(&p)),
        max_items: whole("maxItems"),
        min_items: whole("minItems"),
        unique_items: flag(map, "uniqueItems"),
        max_properties: whole("maxProperties"),
        min_properties: whole("minProperties"),
        required: texts(map, "required"),
        enumeration: map.get("enum").and_then(Value::as_array).cloned().unwrap_or_default(),
        all_of: many("allOf")?,
        any_of: many("anyOf")?,
        one_of: many("oneOf")?,
        not: one("not")?,
    };
    let kind = text(map, "type");
    let items = match given(map, "items") {
        Some(Value::Array(list)) if !list.is_empty() => return Err(Unsupported::Items),
        Some(Value::Array(_)) | None => None,
        Some(tree) => Some(Box::new(parse(tree, depth + 1)?)),
    };
    let additional = match given(map, "additionalProperties") {
        None => None,
        Some(Value::Bool(allowed)) => Some(Additional::Allowed(*allowed)),
        Some(tree) => Some(Additional::Schema(Box::new(parse(tree, depth + 1)?))),
    };
    let mut properties = BTreeMap::new();
    for (name, tree) in map.get("properties").and_then(Value::as_object).into_iter().flatten() {
        properties.insert(name.clone(), parse(tree, depth + 1)?);
    }
    let preserve_unknown = match map.get("x-kubernetes-preserve-unknown-fields") {
        Some(Value::Bool(false)) => return Err(Unsupported::Preserve),
        Some(Value::Bool(true)) => true,
        _ => false,
    };
    let list = match text(map, "x-kubernetes-list-type").as_str() {
        "" => None,
        "atomic" => Some(List::Atomic),
        "set" => Some(List::Set),
        "map" => Some(List::Map),
        other => return Err(Unsupported::Type(other.to_owned())),
    };
    let map_type = match text(map, "x-kubernetes-map-type").as_str() {
        "" => None,
        "atomic" => Some(MapType::Atomic),
        "granular" => Some(MapType::Granular),
        other => return Err(Unsupported::Type(other.to_owned())),
    };
    let rules = map.get("x-kubernetes-validations").and_then(Value::as_array);
    Ok(Structural {
        kind: Kind::parse(&kind).ok_or(Unsupported::Type(kind))?,
        nullable: flag(map, "nullable"),
        default: given(map, "default").cloned(),
        description: text(map, "description"),
        title: text(map, "title"),
        example: given(map, "example").cloned(),
        external_docs: given(map, "externalDocs").cloned(),
        properties,
        additional,
        items,
        preserve_unknown,
        embedded: flag(map, "x-kubernetes-embedded-resource"),
        int_or_string: flag(map, "x-kubernetes-int-or-string"),
        list,
        map_keys: texts(map, "x-kubernetes-list-map-keys"),
        map: map_type,
        rules: rules.into_iter().flatten().map(Rule::parse).collect(),
        limits,
    })
}

impl Rule {
    /// Reads a rule from the tree of a CustomResourceDefinition.
    pub fn parse(tree: &Value) -> Self {
        let empty = Map::new();
        let map = tree.as_object().unwrap_or(&empty);
        Rule {
            rule: text(map, "rule"),
            message: text(map, "message"),
            message_expression: text(map, "messageExpression"),
            reason: map.get("reason").and_then(Value::as_str).map(str::to_owned),
            field_path: text(map, "fieldPath"),
            optional_old_self: map.get("optionalOldSelf").and_then(Value::as_bool),
        }
    }
}
