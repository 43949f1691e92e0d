//! OpenAPI documents, written once for each state of the resource table.

use bytes::Bytes;
use parking_lot::Mutex;
use skep_api::kinds::ResourceTable;
use skep_api::openapi;
use skep_api::schema::Schemas;
use skep_api::{GroupVersion, Resource};
use std::collections::HashMap;
use std::sync::Arc;

/// The documents that were asked for. Those of version 3 outlive changes of the table that do not concern them.
#[derive(Default)]
pub(crate) struct Documents {
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    table: ResourceTable,
    v2: Option<Bytes>,
    index: Option<Arc<Index>>,
    /// With the hash that the index gives each.
    v3: HashMap<GroupVersion, (String, Bytes)>,
}

/// `/openapi/v3`.
pub(crate) struct Index {
    /// The document.
    pub(crate) text: Bytes,
    /// Where each group version's document is, with its hash.
    urls: HashMap<String, String>,
}

impl Index {
    /// Where the document of a path such as `apis/apps/v1` is.
    pub(crate) fn url(&self, path: &str) -> Option<&str> {
        self.urls.get(path).map(String::as_str)
    }
}

fn rows(table: &ResourceTable) -> Vec<&Resource> {
    table.rows().filter(|row| row.announced()).map(|row| &**row).collect()
}

impl Documents {
    fn of<T>(&self, table: &ResourceTable, work: impl FnOnce(&mut Kept) -> T) -> T {
        let mut kept = self.kept.lock();
        if !kept.table.is_same(table) {
            kept.table = table.clone();
            kept.v2 = None;
            kept.index = None;
        }
        work(&mut kept)
    }

    /// `/openapi/v2` as JSON.
    pub(crate) fn v2(&self, table: &ResourceTable) -> Bytes {
        self.of(table, |kept| {
            kept.v2.get_or_insert_with(|| openapi::v2(&rows(table), Schemas::builtin())).clone()
        })
    }

    /// `/openapi/v3`.
    pub(crate) fn index(&self, table: &ResourceTable) -> Arc<Index> {
        self.of(table, |kept| kept.index.get_or_insert_with(|| Arc::new(index(table))).clone())
    }

    /// `/openapi/v3/…`; none where the group version is not served.
    pub(crate) fn v3(&self, table: &ResourceTable, gv: &GroupVersion) -> Option<Bytes> {
        let path = openapi::v3_path(gv);
        let index = self.index(table);
        let url = index.url(&path)?;
        self.of(table, |kept| {
            if let Some((known, document)) = kept.v3.get(gv)
                && known == url
            {
                return Some(document.clone());
            }
            let document = openapi::v3(&rows(table), Schemas::builtin(), gv)?;
            // What is gone from the index is not asked for again.
            kept.v3.retain(|gv, _| index.url(&openapi::v3_path(gv)).is_some());
            kept.v3.insert(gv.clone(), (url.to_owned(), document.clone()));
            Some(document)
        })
    }
}

fn index(table: &ResourceTable) -> Index {
    let tree = openapi::v3_index(&rows(table));
    let paths = tree.get("paths").and_then(serde_json::Value::as_object);
    let urls = paths.into_iter().flatten().filter_map(|(path, entry)| {
        Some((path.clone(), entry.get("serverRelativeURL")?.as_str()?.to_owned()))
    });
    Index { urls: urls.collect(), text: tree.to_string().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_written_once_for_a_table() {
        let documents = Documents::default();
        let table = ResourceTable::builtin();
        let apps = GroupVersion::new("apps", "v1");
        let first = (documents.v2(&table), documents.v3(&table, &apps).unwrap());
        let again = (documents.v2(&table), documents.v3(&table, &apps).unwrap());
        assert_eq!((first.0.as_ptr(), first.1.as_ptr()), (again.0.as_ptr(), again.1.as_ptr()));

        let less = table.retain(|row| row.gvk.group != "batch");
        let text = String::from_utf8(documents.v2(&less).to_vec()).unwrap();
        assert!(!text.contains("/apis/batch/v1/"));
        assert!(documents.v3(&less, &GroupVersion::new("batch", "v1")).is_none());
        // What does not concern a group leaves its document as it is.
        assert_eq!(documents.v3(&less, &apps).unwrap().as_ptr(), first.1.as_ptr());
        assert!(documents.index(&less).url("apis/apps/v1").unwrap().starts_with("/openapi/v3/apis/apps/v1?hash="));
    }
}
