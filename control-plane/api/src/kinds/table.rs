//! The resource table: which kinds are served. Cheap to clone; rows of CustomResourceDefinitions are added by
//! making a new table from an old one.

use crate::resource::{GroupVersion, GroupVersionKind, Resource, Str};
use std::collections::BTreeMap;
use std::sync::Arc;

type Plurals = BTreeMap<Str, Arc<Resource>>;
type Versions = BTreeMap<Str, Plurals>;

/// All rows, by group, version and plural name. Clones share the rows.
#[derive(Clone, Debug, Default)]
pub struct ResourceTable {
    groups: Arc<BTreeMap<Str, Versions>>,
}

impl ResourceTable {
    /// A table of these rows; of two with the same group, version and plural name the later one stays.
    pub fn new(rows: impl IntoIterator<Item = Resource>) -> Self {
        ResourceTable::default().with(rows)
    }

    /// The table of the kinds that are built in.
    pub fn builtin() -> Self {
        ResourceTable::new(super::builtin())
    }

    /// A table of these rows, which are shared with whoever has them.
    pub fn of(rows: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        ResourceTable::default().with_shared(rows)
    }

    /// This table with further rows, each in place of the one with its group, version and plural name.
    pub fn with(&self, rows: impl IntoIterator<Item = Resource>) -> Self {
        self.with_shared(rows.into_iter().map(Arc::new))
    }

    fn with_shared(&self, rows: impl IntoIterator<Item = Arc<Resource>>) -> Self {
        let mut groups = BTreeMap::clone(&self.groups);
        for row in rows {
            let versions = groups.entry(row.gvk.group.clone()).or_default();
            let plurals = versions.entry(row.gvk.version.clone()).or_default();
            plurals.insert(row.plural.clone(), row);
        }
        ResourceTable { groups: Arc::new(groups) }
    }

    /// This table with the rows that `keep` wants.
    pub fn retain(&self, keep: impl Fn(&Resource) -> bool) -> Self {
        ResourceTable::of(self.rows().filter(|row| keep(row)).cloned())
    }

    /// Whether this is a copy of that table, so that both have the same rows.
    pub fn is_same(&self, other: &ResourceTable) -> bool {
        Arc::ptr_eq(&self.groups, &other.groups)
    }

    /// The row of a path `/apis/GROUP/VERSION/…/PLURAL` (the core group is empty).
    pub fn get(&self, group: &str, version: &str, plural: &str) -> Option<&Arc<Resource>> {
        self.groups.get(group)?.get(version)?.get(plural)
    }

    /// The row of a kind.
    pub fn by_kind(&self, gvk: &GroupVersionKind) -> Option<&Arc<Resource>> {
        self.in_version(&gvk.group, &gvk.version).find(|row| row.gvk.kind == gvk.kind)
    }

    /// The rows of a group and version, sorted by plural name; none where it is not served.
    pub fn in_version(&self, group: &str, version: &str) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.get(group).and_then(|v| v.get(version)).into_iter().flat_map(BTreeMap::values)
    }

    /// The groups and versions that are served, the core group first.
    pub fn versions(&self) -> impl Iterator<Item = GroupVersion> {
        self.groups.iter().flat_map(|(group, versions)| {
            versions.keys().map(|v| GroupVersion::new(group.clone(), v.clone()))
        })
    }

    /// All rows, sorted by group, version and plural name.
    pub fn rows(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.groups.values().flat_map(BTreeMap::values).flat_map(BTreeMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_found_by_path_and_by_kind() {
        let table = ResourceTable::builtin();
        let row = table.get("apps", "v1", "deployments").unwrap();
        assert_eq!(row.gvk.kind, "Deployment");
        assert!(Arc::ptr_eq(table.by_kind(&row.gvk).unwrap(), row));
        assert!(table.get("apps", "v1", "pods").is_none());
        assert!(table.get("", "v2", "pods").is_none());
        assert_eq!(table.versions().next().unwrap().to_string(), "v1");
    }

    #[test]
    fn a_changed_table_leaves_the_old_one_alone() {
        let old = ResourceTable::builtin();
        let mut row = Resource::clone(old.get("", "v1", "configmaps").unwrap());
        row.gvk = GroupVersionKind::new("example.com", "v1", "Widget");
        row.plural = "widgets".into();
        let new = old.with([row]);
        assert!(new.get("example.com", "v1", "widgets").is_some());
        assert!(old.get("example.com", "v1", "widgets").is_none());
        let gone = new.retain(|row| row.gvk.group != "example.com");
        assert_eq!(gone.rows().count(), old.rows().count());
        assert!(gone.versions().all(|gv| gv.group != "example.com"));
        let (same, again) = (old.get("", "v1", "pods").unwrap(), gone.get("", "v1", "pods").unwrap());
        assert!(Arc::ptr_eq(same, again), "rows that stay are the same");
    }
}
