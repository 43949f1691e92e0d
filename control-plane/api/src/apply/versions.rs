//! Ownership that was recorded in other versions of an object.
//!
//! An entry of `managedFields` names fields as its version has them. What a write changes is therefore looked at in that
//! version too: both objects are converted, and compared there.

use super::managed::{Managed, Writer};
use super::set::FieldSet;
use super::typed;
use crate::schema::Schema;
use serde_json::Value;
use std::collections::BTreeMap;

/// A conversion that is not at hand: whoever has made it tries again.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// What is to be converted, in the version that it names.
    pub object: Value,
    /// To which version.
    pub api_version: String,
}

/// The versions of an object beside the one that is written.
pub trait Versions {
    /// An object in another version; none where that is not served any more.
    fn convert(&self, object: &Value, api_version: &str) -> Result<Option<Value>, Wanted>;

    /// The schema of a version; none where it is not served any more.
    fn schema(&self, api_version: &str) -> Option<Schema<'_>>;
}

/// For kinds of one version.
#[derive(Clone, Copy, Debug)]
pub struct OneVersion;

impl Versions for OneVersion {
    fn convert(&self, _object: &Value, _api_version: &str) -> Result<Option<Value>, Wanted> {
        Ok(None)
    }

    fn schema(&self, _api_version: &str) -> Option<Schema<'_>> {
        None
    }
}

/// What a write changes, in each version that somebody's ownership is recorded in.
pub(super) struct Changes {
    /// In the version that is written: what has come or is different now, and what has gone.
    touched: FieldSet,
    gone: FieldSet,
    /// Whether there are items in lists that nobody could own, since they lack their keys.
    pub(super) unkeyed: bool,
    /// In the others; none for versions that are not served any more.
    others: BTreeMap<String, Option<(FieldSet, FieldSet)>>,
}

impl Changes {
    /// Compares two objects of the written version, and their conversions to those of the entries. Without an old object
    /// there is nothing that others could have owned.
    pub(super) fn between(
        schema: Schema<'_>,
        (live, new): (Option<&Value>, &Value),
        writer: &Writer<'_>,
        managed: &Managed,
        versions: &dyn Versions,
    ) -> Result<Self, Wanted> {
        let compared = |schema: Schema<'_>, old: &Value, new: &Value| {
            let difference = typed::compare(schema, old, new);
            let mut touched = difference.added.union(&difference.modified);
            let mut gone = difference.removed;
            for field in writer.reset {
                touched.forget(field);
                gone.forget(field);
            }
            (touched, gone, difference.unkeyed)
        };
        let mut others = BTreeMap::new();
        if let Some(live) = live {
            for entry in managed.0.iter().filter(|entry| entry.api_version != writer.api_version) {
                let version = &entry.api_version;
                if others.contains_key(version) {
                    continue;
                }
                let there = match (versions.schema(version), versions.convert(live, version)?) {
                    (Some(schema), Some(old)) => versions.convert(new, version)?.map(|new| {
                        let (touched, gone, _) = compared(schema, &old, &new);
                        (touched, gone)
                    }),
                    _ => None,
                };
                others.insert(version.clone(), there);
            }
        }
        let blank;
        let live = match live {
            Some(live) => live,
            None => {
                blank = typed::blank(schema);
                &blank
            }
        };
        let (touched, gone, unkeyed) = compared(schema, live, new);
        Ok(Changes { touched, gone, unkeyed, others })
    }

    /// What has come or is different, in the written version.
    pub(super) fn touched(&self) -> &FieldSet {
        &self.touched
    }

    /// Forgets entries of versions that are not served any more.
    pub(super) fn forget_lost(&self, managed: &mut Managed) {
        managed.0.retain(|entry| !matches!(self.others.get(&entry.api_version), Some(None)));
    }

    /// What has come or is different, and what has gone, as an entry of this version names it.
    pub(super) fn at(&self, api_version: &str) -> (&FieldSet, &FieldSet) {
        match self.others.get(api_version) {
            Some(Some((touched, gone))) => (touched, gone),
            _ => (&self.touched, &self.gone),
        }
    }
}
