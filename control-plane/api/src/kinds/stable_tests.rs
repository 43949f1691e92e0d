//! The rows against the list of all stable kinds of Kubernetes 1.36 (its OpenAPI document): `version plural kind scope
//! subresources…`.

use crate::kinds::ResourceTable;
use crate::resource::{GroupVersion, Scope};

const STABLE: &str = include_str!("stable.txt");

#[test]
fn every_stable_kind_is_served_as_upstream_serves_it() {
    let table = ResourceTable::builtin();
    let mut count = 0;
    for line in STABLE.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [version, plural, kind, scope, below @ ..] = words.as_slice() else { panic!("{line}") };
        let version = GroupVersion::parse(version);
        let row = table.get(&version.group, &version.version, plural);
        let row = row.unwrap_or_else(|| panic!("no row serves {line}"));
        count += 1;
        assert_eq!(row.gvk.kind, *kind);
        assert_eq!(row.scope == Scope::Cluster, *scope == "Cluster", "{line}");
        let mut names: Vec<&str> = row.subresources.iter().map(|below| below.name.as_ref()).collect();
        names.sort_unstable();
        assert_eq!(names, below, "{line}");
    }
    assert!(count >= 57, "{count} rows");
}

#[test]
fn the_list_holds_every_row() {
    for row in ResourceTable::builtin().rows() {
        let start = format!("{} {} {} ", row.gvk.group_version(), row.plural, row.gvk.kind);
        assert!(
            STABLE.lines().any(|line| format!("{line} ").starts_with(&start)),
            "{start}is not a stable kind"
        );
    }
}
