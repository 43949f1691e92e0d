//! DeviceClasses.

use super::{LIST_MAX, configuration, expressions, fits, selectors};
use crate::expressions::Expression;
use crate::field::FieldError;
use crate::kinds::columns::{age, name};
use crate::resource::{Column, Context, Strategy};
use crate::validation::{At, Errors, resources};
use serde_json::Value;

/// DeviceClasses.
#[derive(Debug, Default)]
pub struct DeviceClass;

impl Strategy for DeviceClass {
    fn prepare_create(&self, _object: &mut Value, _context: &Context<'_>) {}

    fn prepare_update(&self, _new: &mut Value, _old: &Value) {}

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        selectors(&mut errors, &spec.get("selectors"));
        let config = spec.get("config");
        if fits(&mut errors, &config, LIST_MAX) {
            config.items().for_each(|entry| configuration(&mut errors, &entry));
        }
        let extended = spec.get("extendedResourceName");
        if extended.present() && !resources::is_extended(extended.text()) {
            errors.invalid(&extended, "must be a valid extended resource name");
        }
        errors.done()
    }

    fn expressions(&self, new: &Value, _old: Option<&Value>) -> Vec<Expression> {
        expressions(&At::root(new).get("spec").get("selectors"))
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn returns_deleted(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        vec![name(), age()]
    }
}
