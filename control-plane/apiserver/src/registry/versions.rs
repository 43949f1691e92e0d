//! The versions that share an object, for ownership that was recorded in another one than is written.

use super::Call;
use super::shown::to_stored;
use parking_lot::Mutex;
use serde_json::Value;
use skep_api::apply::{Versions, Wanted};
use skep_api::kinds::ResourceTable;
use skep_api::schema::Schema;
use skep_api::{Resource, Status};
use std::sync::{Arc, OnceLock};

/// Conversions of one write. Those that are asked for in vain are made by [`Conversions::fetch`], whereupon what asked is
/// done again.
pub(super) struct Conversions {
    table: ResourceTable,
    row: Arc<Resource>,
    /// The rows that share the objects of [`Self::row`], found when they are first looked for.
    rows: OnceLock<Vec<Arc<Resource>>>,
    made: Mutex<Vec<Made>>,
    wanted: Mutex<Option<Wanted>>,
}

struct Made {
    of: Wanted,
    object: Option<Value>,
}

impl Conversions {
    /// For a write of a row of the table.
    pub(super) fn of(call: &Call<'_>, table: ResourceTable) -> Self {
        Conversions {
            table,
            row: call.row.clone(),
            rows: OnceLock::new(),
            made: Mutex::default(),
            wanted: Mutex::default(),
        }
    }

    fn row(&self, api_version: &str) -> Option<&Arc<Resource>> {
        let home = self.row.stored_in();
        let find = || self.table.rows().filter(|row| row.stored_in() == home).cloned().collect();
        self.rows.get_or_init(find).iter().find(|row| row.gvk.api_version() == api_version)
    }

    /// Whether something was asked for that has not been made.
    pub(super) fn wanted(&self) -> Option<Wanted> {
        self.wanted.lock().take()
    }

    /// Makes a conversion.
    pub(super) async fn fetch(&self, wanted: Wanted) -> Result<(), Status> {
        let from = wanted.object.get("apiVersion").and_then(Value::as_str).unwrap_or_default();
        let object = match (self.row(from), self.row(&wanted.api_version)) {
            (Some(from), Some(to)) => {
                let stored = to_stored(from, wanted.object.clone()).await?;
                match &to.stored {
                    Some(form) => form.convert.to_served(vec![stored]).await?.pop(),
                    None => Some(stored),
                }
            }
            _ => None,
        };
        self.made.lock().push(Made { of: wanted, object });
        Ok(())
    }
}

impl Versions for Conversions {
    fn convert(&self, object: &Value, api_version: &str) -> Result<Option<Value>, Wanted> {
        if let Some(made) =
            self.made.lock().iter().find(|m| m.of.api_version == api_version && m.of.object == *object)
        {
            return Ok(made.object.clone());
        }
        let wanted = Wanted { object: object.clone(), api_version: api_version.to_owned() };
        *self.wanted.lock() = Some(wanted.clone());
        Err(wanted)
    }

    fn schema(&self, api_version: &str) -> Option<Schema<'_>> {
        self.row(api_version)?.schema().ok()
    }
}
