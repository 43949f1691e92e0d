//! What the server offers, as documents: the old form (`APIGroupList`, `APIResourceList`) and the aggregated one
//! (`apidiscovery.k8s.io/v2`). All are plain functions of the resource table.

use serde_json::{Map, Value, json};
use skep_api::kinds::ResourceTable;
use skep_api::{GroupResource, GroupVersionKind, Resource, Scope};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Versions of each named group, the preferred one first; the core group is left out.
fn groups(table: &ResourceTable) -> BTreeMap<String, Vec<String>> {
    let mut groups: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for row in table.rows().filter(|row| row.announced() && !row.gvk.group.is_empty()) {
        let versions = groups.entry(row.gvk.group.to_string()).or_default();
        if !versions.iter().any(|version| *version == row.gvk.version) {
            versions.push(row.gvk.version.to_string());
        }
    }
    for versions in groups.values_mut() {
        versions.sort_by_key(|version| priority(version));
    }
    groups
}

/// Sorts versions as Kubernetes does: stable before beta before alpha, higher numbers first, others by name at the end.
fn priority(version: &str) -> (u8, [std::cmp::Reverse<u32>; 2], String) {
    let parsed = version.strip_prefix('v').and_then(|rest| {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let (major, rest) = rest.split_at(digits);
        let (stage, minor) = match rest {
            "" => (0, "0"),
            _ => rest
                .strip_prefix("beta")
                .map(|n| (1, n))
                .or_else(|| rest.strip_prefix("alpha").map(|n| (2, n)))?,
        };
        Some((stage, major.parse().ok()?, minor.parse().ok()?))
    });
    match parsed {
        Some((stage, major, minor)) => {
            (stage, [std::cmp::Reverse(major), std::cmp::Reverse(minor)], String::new())
        }
        None => (3, [std::cmp::Reverse(0), std::cmp::Reverse(0)], version.to_owned()),
    }
}

/// One row for every set of objects that is served: of the versions that share a stored form the one whose form that is,
/// or else the preferred one.
pub fn distinct(table: &ResourceTable) -> impl Iterator<Item = &Arc<Resource>> {
    let mut chosen: BTreeMap<GroupResource, &Arc<Resource>> = BTreeMap::new();
    for row in table.rows() {
        let rank = |row: &Resource| (row.stored.is_some(), priority(&row.gvk.version));
        let found = chosen.entry(row.stored_in()).or_insert(row);
        if rank(row) < rank(found) {
            *found = row;
        }
    }
    chosen.into_values()
}

/// `/api`. `address` is where clients reach the server, `host:port`.
pub fn api_versions(address: &str) -> Value {
    json!({
        "kind": "APIVersions", "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    })
}

fn group(name: &str, versions: &[String]) -> Map<String, Value> {
    let versions: Vec<Value> =
        versions.iter().map(|v| json!({"groupVersion": format!("{name}/{v}"), "version": v})).collect();
    let mut out = Map::new();
    out.insert("name".into(), name.into());
    out.insert("preferredVersion".into(), versions.first().cloned().unwrap_or_default());
    out.insert("versions".into(), versions.into());
    out
}

/// `/apis`.
pub fn group_list(table: &ResourceTable) -> Value {
    let groups: Vec<Value> =
        groups(table).iter().map(|(name, versions)| Value::Object(group(name, versions))).collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/GROUP`; none where it is not served.
pub fn one_group(table: &ResourceTable, name: &str) -> Option<Value> {
    let mut out = group(name, groups(table).get(name)?);
    out.insert("kind".into(), "APIGroup".into());
    out.insert("apiVersion".into(), "v1".into());
    Some(Value::Object(out))
}

/// `/api/v1` or `/apis/GROUP/VERSION`; none where it is not served.
pub fn resource_list(table: &ResourceTable, group: &str, version: &str) -> Option<Value> {
    let mut resources = Vec::new();
    for row in table.in_version(group, version).filter(|row| row.announced()) {
        let mut main = json!({
            "name": row.plural, "singularName": row.singular, "namespaced": row.namespaced(), "kind": row.gvk.kind,
            "verbs": row.announced_verbs(),
        });
        names(&mut main, row);
        if row.verbs.contains(&"get") {
            main["storageVersionHash"] = storage_hash(row.stored_as()).into();
        }
        resources.push(main);
        for sub in &row.subresources {
            let mut below = json!({
                "name": format!("{}/{}", row.plural, sub.name), "singularName": "", "namespaced": row.namespaced(),
                "kind": sub.kind.kind, "verbs": sub.verbs,
            });
            if sub.kind.group_version() != row.gvk.group_version() {
                below["group"] = sub.kind.group.as_ref().into();
                below["version"] = sub.kind.version.as_ref().into();
            }
            resources.push(below);
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    (!resources.is_empty()).then(|| {
        json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources})
    })
}

/// By this clients see that objects are stored in another form than before.
fn storage_hash(gvk: &GroupVersionKind) -> String {
    use base64::Engine;
    let text = format!("{}/{}/{}", gvk.group, gvk.version, gvk.kind);
    let digest = ring::digest::digest(&ring::digest::SHA256, text.as_bytes());
    base64::engine::general_purpose::STANDARD.encode(digest.as_ref().get(..8).unwrap_or_default())
}

fn names(out: &mut Value, row: &Resource) {
    for (key, list) in [("shortNames", &row.short_names), ("categories", &row.categories)] {
        if !list.is_empty() {
            out[key] = json!(list);
        }
    }
}

/// The aggregated form: of the core group at `/api`, of all others at `/apis`. `version` is that of the document, `v2` or
/// `v2beta1`; they differ in nothing else.
pub fn aggregated(table: &ResourceTable, core: bool, version: &str) -> Value {
    let groups = if core { BTreeMap::from([(String::new(), vec!["v1".to_owned()])]) } else { groups(table) };
    let items: Vec<Value> = groups
        .iter()
        .map(|(group, versions)| {
            let versions: Vec<Value> = versions
                .iter()
                .map(|version| {
                    let resources: Vec<Value> = table
                        .in_version(group, version)
                        .filter(|row| row.announced())
                        .map(|row| entry(row))
                        .collect();
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            let metadata = if core { json!({}) } else { json!({"name": group}) };
            json!({"metadata": metadata, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList", "apiVersion": format!("apidiscovery.k8s.io/{version}"), "metadata": {},
        "items": items,
    })
}

fn entry(row: &Resource) -> Value {
    let scope = match row.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut out = json!({
        "resource": row.plural, "responseKind": kind(&row.gvk), "scope": scope, "singularResource": row.singular,
        "verbs": row.announced_verbs(),
    });
    names(&mut out, row);
    if !row.subresources.is_empty() {
        out["subresources"] = row
            .subresources
            .iter()
            .map(|sub| json!({"subresource": sub.name, "responseKind": kind(&sub.kind), "verbs": sub.verbs}))
            .collect();
    }
    out
}

fn kind(gvk: &GroupVersionKind) -> Value {
    json!({"group": gvk.group, "version": gvk.version, "kind": gvk.kind})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_is_in_both_forms_and_nothing_else_is() {
        let table = ResourceTable::builtin();
        let mut old: Vec<String> = Vec::new();
        let mut new: Vec<String> = Vec::new();
        let mut want: Vec<String> = Vec::new();
        for row in table.rows() {
            want.push(format!("{} {} {:?}", row.gvk, row.plural, row.verbs));
            want.extend(
                row.subresources
                    .iter()
                    .map(|s| format!("{} {}/{} {:?}", s.kind, row.plural, s.name, s.verbs)),
            );
        }
        for gv in table.versions() {
            let list = resource_list(&table, &gv.group, &gv.version).unwrap();
            assert_eq!(list["groupVersion"], gv.to_string());
            for r in list["resources"].as_array().unwrap() {
                let text = |key: &str| r.get(key).and_then(Value::as_str);
                let gvk = GroupVersionKind::new(
                    text("group").unwrap_or(&gv.group).to_owned(),
                    text("version").unwrap_or(&gv.version).to_owned(),
                    text("kind").unwrap().to_owned(),
                );
                old.push(format!("{gvk} {} {:?}", text("name").unwrap(), verbs(r)));
            }
        }
        for document in [aggregated(&table, true, "v2"), aggregated(&table, false, "v2")] {
            for version in
                document["items"].as_array().unwrap().iter().flat_map(|i| i["versions"].as_array().unwrap())
            {
                for r in version["resources"].as_array().unwrap() {
                    new.push(format!(
                        "{} {} {:?}",
                        shown(&r["responseKind"]),
                        r["resource"].as_str().unwrap(),
                        verbs(r)
                    ));
                    for s in r.get("subresources").and_then(Value::as_array).into_iter().flatten() {
                        let name = format!(
                            "{}/{}",
                            r["resource"].as_str().unwrap(),
                            s["subresource"].as_str().unwrap()
                        );
                        new.push(format!("{} {name} {:?}", shown(&s["responseKind"]), verbs(s)));
                    }
                }
            }
        }
        want.sort();
        old.sort();
        new.sort();
        assert_eq!(old, want);
        assert_eq!(new, want);
        assert!(want.len() > 40);
    }

    fn verbs(r: &Value) -> Vec<&str> {
        r["verbs"].as_array().unwrap().iter().map(|v| v.as_str().unwrap()).collect()
    }

    fn shown(kind: &Value) -> GroupVersionKind {
        let text = |key: &str| kind[key].as_str().unwrap().to_owned();
        GroupVersionKind::new(text("group"), text("version"), text("kind"))
    }

    #[test]
    fn stable_versions_come_first() {
        let mut versions = ["v1alpha1", "foo", "v1", "v2beta1", "v10", "v2", "v1beta2", "v1beta10"];
        versions.sort_by_key(|v| priority(v));
        assert_eq!(versions, ["v10", "v2", "v1", "v2beta1", "v1beta10", "v1beta2", "v1alpha1", "foo"]);
    }

    #[test]
    fn groups_that_are_not_served() {
        let table = ResourceTable::builtin();
        assert_eq!(one_group(&table, "nope"), None);
        assert_eq!(resource_list(&table, "apps", "v9"), None);
        assert_eq!(one_group(&table, "apps").unwrap()["preferredVersion"]["groupVersion"], "apps/v1");
        assert!(group_list(&table)["groups"].as_array().unwrap().iter().all(|g| g["name"] != ""));
    }

    #[test]
    fn stored_forms_have_upstreams_hashes() {
        // As a kube-apiserver of 1.36 tells them.
        let table = ResourceTable::builtin();
        let list = resource_list(&table, "apps", "v1").unwrap();
        let hash = |name: &str| {
            let all = list["resources"].as_array().unwrap();
            all.iter().find(|r| r["name"] == name).unwrap()["storageVersionHash"].clone()
        };
        assert_eq!(
            (hash("deployments"), hash("replicasets")),
            ("8aSe+NMegvE=".into(), "P1RzHs8/mWQ=".into())
        );
        assert_eq!(hash("deployments/scale"), Value::Null);
    }
}
