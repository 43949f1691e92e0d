//! The object model of a Kubernetes API, pure: no I/O, no clock, no runtime.
//!
//! * [`Object`] is one immutable version of an object as the store and the watch cache share it.
//! * [`Resource`] is a row of the resource table: a kind with its names, scope, schema and [`Strategy`].
//! * [`Status`] is the answer to a request that failed, and [`FieldError`] one of its causes.
//! * The dynamic tree that patches, defaulting and validation work on is [`serde_json::Value`].

pub mod apply;
pub mod custom;
pub mod expressions;
pub mod field;
pub mod kinds;
pub mod meta;
pub mod names;
pub mod object;
pub mod openapi;
pub mod patch;
pub mod podsecurity;
pub mod protobuf;
pub mod quantity;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod table;
pub mod taint;
pub mod validation;
pub mod yaml;

pub use field::{FieldError, Path};
pub use meta::Meta;
pub use object::{Object, ObjectError};
pub use quantity::Quantity;
pub use resource::{
    Column, Context, Convert, Converting, CustomRow, GroupResource, GroupVersion, GroupVersionKind, Resource,
    SchemaRef, Scope, Stored, Strategy, Subresource,
};
pub use schema::{FieldValidation, Schema, Schemas};
pub use selector::{FieldSelector, LabelSelector, SelectorError};
pub use status::{Reason, Status, StatusCause};
