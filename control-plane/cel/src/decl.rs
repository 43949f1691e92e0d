//! Declarations: what variables there are, of which types, and how large their values can be.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;
use skep_api::custom::{Additional, Kind, List, Structural};
use skep_api::names::is_cel_keyword;

use crate::names;
use crate::types::Type;

/// The largest request a server takes, by which unbounded sizes are bounded.
pub(crate) const MAX_REQUEST_BYTES: u64 = 3 * 1024 * 1024;

/// Bytes that the smallest value of a kind takes in JSON, and the most a text of a format has.
mod sizes {
    pub(super) const DURATION_MOST: u64 = 32;
    pub(super) const DATE_TIME_MOST: u64 = 32;
    pub(super) const DURATION_LEAST: u64 = 3;
    pub(super) const DATE: u64 = 12;
    pub(super) const DATE_TIME_LEAST: u64 = 21;
    pub(super) const STRING_LEAST: u64 = 2;
    pub(super) const BOOL_LEAST: u64 = 4;
    pub(super) const NUMBER_LEAST: u64 = 1;
}

/// An object type: its fields by the names that expressions call them.
#[derive(Debug)]
pub struct Object {
    /// The type's name; tells object types apart.
    pub name: String,
    /// Fields by escaped name.
    pub fields: BTreeMap<Arc<str>, Field>,
    /// Escaped names by name in JSON; `None` where a name cannot be escaped, so that no expression reaches it.
    pub(crate) by_json: BTreeMap<Arc<str>, Property>,
}

/// The identifier of a property, if it has one, and its declaration.
type Property = (Option<Arc<str>>, Arc<Decl>);

impl Object {
    /// A field by its identifier. A property that is named as a keyword is found by that too.
    pub fn field(&self, name: &str) -> Option<&Field> {
        let keyword = || self.fields.get(format!("__{name}__").as_str()).filter(|_| is_cel_keyword(name));
        self.fields.get(name).or_else(keyword)
    }
}

/// A field of an object.
#[derive(Debug)]
pub struct Field {
    /// Its name in JSON.
    pub json: Arc<str>,
    /// Its declaration.
    pub decl: Arc<Decl>,
}

/// A declaration: the type of JSON values, how to read them, and bounds for them.
#[derive(Debug)]
pub struct Decl {
    /// The type in expressions.
    pub ty: Type,
    /// Most elements, entries, characters or bytes a value has.
    pub max_elements: u64,
    /// Bytes of the smallest value in JSON.
    pub min_size: u64,
    /// Whether it may be null.
    pub nullable: bool,
    pub(crate) shape: Shape,
}

/// How JSON is read.
#[derive(Clone, Debug)]
pub(crate) enum Shape {
    /// As it is.
    Any,
    /// An int or a string.
    IntOrString,
    /// A scalar.
    Scalar(Scalar),
    /// An object with named fields.
    Object(Arc<Object>),
    /// A map from strings.
    Map(Arc<Decl>),
    /// A list.
    List(Arc<Decl>, ListKind),
}

/// Scalars of schemas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scalar {
    Bool,
    Int,
    Double,
    String,
    Bytes,
    Duration,
    Date,
    DateTime,
}

/// What makes two lists equal (`x-kubernetes-list-type`).
#[derive(Clone, Debug, PartialEq)]
pub enum ListKind {
    /// The same elements in the same order.
    Atomic,
    /// The same elements.
    Set,
    /// The same elements by these keys.
    Map(Vec<Arc<str>>),
}

impl Decl {
    /// Any JSON, of dynamic type.
    pub fn any() -> Arc<Self> {
        let most = MAX_REQUEST_BYTES;
        Arc::new(Decl { ty: Type::Dyn, max_elements: most, min_size: 1, nullable: true, shape: Shape::Any })
    }

    /// The declaration of what a structural schema describes, or nothing where it is hidden from expressions.
    /// `resource` says that it is the root of a resource, whose type and name are always known; `name` is
    /// what its type is called.
    pub fn of(schema: &Structural, resource: bool, name: &str) -> Option<Arc<Self>> {
        let limits = &schema.limits;
        let make = |ty, max_elements, min_size, shape| {
            Some(Arc::new(Decl { ty, max_elements, min_size, nullable: schema.nullable, shape }))
        };
        let bound = |limit: Option<i64>| limit.map(|limit| limit.max(0) as u64);
        let max_length = bound(limits.max_length);
        if schema.int_or_string {
            let most = max_length.map_or(MAX_REQUEST_BYTES - 2, |most| most.saturating_mul(4));
            return make(Type::Dyn, most, 1, Shape::IntOrString);
        }
        match schema.kind {
            Kind::Array => {
                let items = schema.items.as_deref()?;
                let items = Self::of(items, items.embedded, &format!("{name}.@idx"))?;
                let most = (MAX_REQUEST_BYTES - 2) / (items.min_size + 1);
                let most = bound(limits.max_items).unwrap_or(most);
                make(Type::list(items.ty.clone()), most, 2, Shape::List(items, list_kind(schema)))
            }
            Kind::Object => {
                let values = schema.additional.as_ref().and_then(Additional::schema);
                if let Some(values) = values {
                    let values = Self::of(values, values.embedded, &format!("{name}.@elem"))?;
                    let most = (MAX_REQUEST_BYTES - 2) / (values.min_size + 6);
                    let most = bound(limits.max_properties).unwrap_or(most);
                    return make(Type::map(Type::String, values.ty.clone()), most, 2, Shape::Map(values));
                }
                let (object, least) = object(schema, resource, name);
                let object = Arc::new(object);
                make(Type::Object(object.clone()), 0, least, Shape::Object(object))
            }
            Kind::String => {
                let whole = MAX_REQUEST_BYTES - 2;
                let (ty, scalar, most, least) = match limits.format.as_str() {
                    "byte" => (Type::Bytes, Scalar::Bytes, max_length.unwrap_or(whole), sizes::STRING_LEAST),
                    "duration" => {
                        (Type::Duration, Scalar::Duration, sizes::DURATION_MOST, sizes::DURATION_LEAST)
                    }
                    "date" => (Type::Timestamp, Scalar::Date, sizes::DATE, sizes::DATE),
                    "date-time" => {
                        (Type::Timestamp, Scalar::DateTime, sizes::DATE_TIME_MOST, sizes::DATE_TIME_LEAST)
                    }
                    _ => {
                        let longest =
                            limits.enumeration.iter().map(|one| one.as_str().map_or(0, str::len) as u64);
                        let most = max_length.map(|most| most.saturating_mul(4)).or(longest.max());
                        (Type::String, Scalar::String, most.unwrap_or(whole), sizes::STRING_LEAST)
                    }
                };
                make(ty, most, least, Shape::Scalar(scalar))
            }
            Kind::Boolean => make(Type::Bool, 0, sizes::BOOL_LEAST, Shape::Scalar(Scalar::Bool)),
            Kind::Number => make(Type::Double, 0, sizes::NUMBER_LEAST, Shape::Scalar(Scalar::Double)),
            Kind::Integer => make(Type::Int, 0, sizes::NUMBER_LEAST, Shape::Scalar(Scalar::Int)),
            Kind::Any => None,
        }
    }

    /// The declaration of the elements of a list or of the values of a map.
    pub fn element(&self) -> Option<&Arc<Decl>> {
        match &self.shape {
            Shape::List(element, _) | Shape::Map(element) => Some(element),
            _ => None,
        }
    }

    /// The declaration of a field, by its escaped name.
    pub fn field(&self, name: &str) -> Option<&Arc<Decl>> {
        match &self.shape {
            Shape::Object(object) => object.field(name).map(|field| &field.decl),
            _ => None,
        }
    }
}

fn list_kind(schema: &Structural) -> ListKind {
    match schema.list {
        Some(List::Set) => ListKind::Set,
        Some(List::Map) => ListKind::Map(schema.map_keys.iter().map(|key| key.as_str().into()).collect()),
        Some(List::Atomic) | None => ListKind::Atomic,
    }
}

/// The object of a schema, and bytes of the smallest one in JSON.
fn object(schema: &Structural, resource: bool, name: &str) -> (Object, u64) {
    let mut object = Object { name: name.to_owned(), fields: BTreeMap::new(), by_json: BTreeMap::new() };
    let always = if resource && !has_meta(schema) { meta() } else { BTreeMap::new() };
    let own = schema.properties.iter().filter(|(field, _)| !always.contains_key(*field));
    let mut least = 2;
    for (field, part) in own.chain(&always) {
        let escaped = names::escape(field);
        let inner = format!("{name}.{}", escaped.as_deref().unwrap_or(field));
        let Some(decl) = Decl::of(part, part.embedded, &inner) else { continue };
        if schema.limits.required.contains(field) && part.default.as_ref().is_none_or(Json::is_null) {
            least += field.len() as u64 + decl.min_size + 4;
        }
        let json: Arc<str> = field.as_str().into();
        let escaped: Option<Arc<str>> = escaped.map(Into::into);
        if let Some(escaped) = &escaped {
            object.fields.insert(escaped.clone(), Field { json: json.clone(), decl: decl.clone() });
        }
        object.by_json.insert(json, (escaped, decl));
    }
    (object, least)
}

/// What is always known of a resource.
fn meta() -> BTreeMap<String, Structural> {
    let text = || Structural { kind: Kind::String, ..Structural::default() };
    let names = ["name", "generateName"].map(|name| (name.to_owned(), text()));
    let metadata = Structural { kind: Kind::Object, properties: names.into(), ..Structural::default() };
    let fields = [("kind", text()), ("apiVersion", text()), ("metadata", metadata)];
    fields.map(|(name, schema)| (name.to_owned(), schema)).into()
}

/// Whether a schema itself says all that is always known of a resource.
fn has_meta(schema: &Structural) -> bool {
    let is = |schema: &Structural, name: &str, wanted: Kind| {
        schema.properties.get(name).is_some_and(|field| field.kind == wanted)
    };
    is(schema, "kind", Kind::String)
        && is(schema, "apiVersion", Kind::String)
        && is(schema, "metadata", Kind::Object)
        && schema.properties.get("metadata").is_some_and(|metadata| {
            is(metadata, "name", Kind::String) && is(metadata, "generateName", Kind::String)
        })
}

/// The variables an expression may use.
#[derive(Clone, Debug, Default)]
pub struct Env {
    variables: Vec<Variable>,
}

/// A variable.
#[derive(Clone, Debug)]
pub struct Variable {
    /// Its name.
    pub name: Arc<str>,
    /// Its type: of its declaration, or an optional of that.
    pub ty: Type,
    /// Its declaration.
    pub decl: Arc<Decl>,
}

impl Env {
    /// No variables.
    pub fn new() -> Self {
        Self::default()
    }

    /// With a variable.
    #[must_use]
    pub fn with(mut self, name: &str, decl: Arc<Decl>) -> Self {
        self.variables.push(Variable { name: name.into(), ty: decl.ty.clone(), decl });
        self
    }

    /// With a variable that is an optional.
    #[must_use]
    pub fn with_optional(mut self, name: &str, decl: Arc<Decl>) -> Self {
        self.variables.push(Variable { name: name.into(), ty: Type::optional(decl.ty.clone()), decl });
        self
    }

    /// The variable of a name.
    pub fn variable(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|one| *one.name == *name)
    }

    /// All variables, in the order they were given.
    pub fn variables(&self) -> &[Variable] {
        &self.variables
    }
}
