//! Which room may know which: the arrows between crates.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use serde_json::Value;

use super::Fault;
use crate::layout::Layout;
use crate::run::{cargo, text};

/// For each crate the crates of this workspace that it may depend on outside of tests.
const ALLOWED: &[(&str, &[&str])] = &[
    ("skep-abi", &[]),
    ("skep-api", &[]),
    ("skep-store", &[]),
    ("skep-cel", &["skep-api"]),
    ("skep-client", &["skep-api"]),
    ("skep-streams", &[]),
    ("skep-apiserver", &["skep-api", "skep-client", "skep-store", "skep-streams"]),
    ("skep-scheduler", &["skep-api", "skep-client"]),
    ("skep-controllers", &["skep-api", "skep-client"]),
    (
        "skep-server",
        &[
            "skep-api",
            "skep-apiserver",
            "skep-cel",
            "skep-client",
            "skep-controllers",
            "skep-scheduler",
            "skep-store",
        ],
    ),
    ("skep-pods", &["skep-api", "skep-client", "skep-streams"]),
    ("skep-dataplane", &["skep-abi"]),
    ("skep-observe", &["skep-abi", "skep-dataplane"]),
    ("skep-agent", &["skep-api", "skep-client", "skep-dataplane", "skep-observe", "skep-pods"]),
    ("skep-kubectl", &["skep-client", "skep-observe"]),
    ("skep-cni", &[]),
    ("skep-dns", &["skep-api", "skep-client"]),
    ("skep-bench", &["skep-client", "skep-dataplane", "skep-store"]),
    ("skep-images", &[]),
    ("skep-guest", &["skep-dataplane"]),
    ("xtask", &["skep-api", "skep-client", "skep-dataplane", "skep-images", "skep-observe"]),
    ("skep-fuzz", &["skep-api", "skep-apiserver", "skep-cel", "skep-dns"]),
    ("skep-operator", &[]),
    ("skep-tests", &["skep-api", "skep-client", "skep-dataplane", "skep-images", "xtask"]),
];

/// Libraries a crate must not depend on directly, with the reason.
const FOREIGN: &[(&str, &[&str], &str)] = &[
    ("skep-api", &["tokio", "hyper", "k8s-openapi", "openraft", "sled"], "the object model does no I/O"),
    ("skep-cel", &["tokio", "hyper", "k8s-openapi"], "expressions only compute"),
    ("skep-store", &["hyper", "k8s-openapi", "axum"], "the store knows keys and bytes only"),
    ("skep-abi", &["tokio", "serde", "aya"], "both sides of eBPF share it, one of them without an allocator"),
    (
        "skep-cni",
        &["tokio", "hyper", "aya", "k8s-openapi", "tonic"],
        "containerd starts it for every pod: it must be small",
    ),
    ("skep-scheduler", &["skep-store", "openraft", "sled"], "every arrow goes through the API server"),
    ("skep-controllers", &["skep-store", "openraft", "sled"], "every arrow goes through the API server"),
    ("skep-dataplane", &["skep-client", "hyper", "tonic"], "it fills maps from what it is given"),
];

/// A crate with its dependencies.
pub type Edges = BTreeMap<String, BTreeSet<String>>;

/// The workspace's crates and what each depends on, tests aside.
///
/// # Errors
/// When `cargo metadata` fails.
pub fn workspace(layout: &Layout) -> Result<Edges> {
    let mut metadata = cargo();
    metadata.current_dir(&layout.root).args(["metadata", "--no-deps", "--format-version", "1"]);
    parse(&serde_json::from_str(&text(&mut metadata)?)?).context("cargo metadata has an unknown shape")
}

fn parse(metadata: &Value) -> Option<Edges> {
    let mut edges = Edges::new();
    for package in metadata["packages"].as_array()? {
        // What a build script uses is not in the crate; one of our own crates there is an arrow all the same.
        let counts = |one: &&Value| match one["kind"].as_str() {
            None => true,
            Some("build") => one["name"].as_str().is_some_and(|name| name.starts_with("skep-")),
            Some(_) => false,
        };
        let dependencies = package["dependencies"].as_array()?.iter().filter(counts);
        let names = dependencies.filter_map(|one| one["name"].as_str().map(str::to_owned)).collect();
        edges.insert(package["name"].as_str()?.to_owned(), names);
    }
    Some(edges)
}

/// Finds arrows that should not be.
#[must_use]
pub fn check(edges: &Edges) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (name, dependencies) in edges {
        let fault = |what: String| Fault { at: name.clone(), what };
        let Some((_, allowed)) = ALLOWED.iter().find(|(of, _)| of == name) else {
            faults.push(fault(
                "a crate without a row in the table of allowed edges (xtask/src/tidy/edges.rs)".to_owned(),
            ));
            continue;
        };
        for dependency in dependencies.iter().filter(|one| edges.contains_key(*one)) {
            if !allowed.contains(&dependency.as_str()) {
                faults.push(fault(format!("must not depend on {dependency}")));
            }
        }
        for (_, foreign, why) in FOREIGN.iter().filter(|(of, ..)| of == name) {
            for library in foreign.iter().filter(|library| dependencies.contains(**library)) {
                faults.push(fault(format!("must not depend on {library}: {why}")));
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn edges(list: &[(&str, &[&str])]) -> Edges {
        list.iter()
            .map(|(name, to)| ((*name).to_owned(), to.iter().map(|&one| one.to_owned()).collect()))
            .collect()
    }

    #[test]
    fn a_forbidden_arrow_is_named() {
        let faults = check(&edges(&[
            ("skep-api", &["serde", "tokio"]),
            ("skep-scheduler", &["skep-store"]),
            ("skep-store", &[]),
        ]));
        let said: Vec<&str> = faults.iter().map(|fault| fault.what.as_str()).collect();
        assert_eq!(faults.len(), 3, "{said:?}");
        assert!(said[0].contains("tokio") && said[1].contains("skep-store"), "{said:?}");
    }

    #[test]
    fn an_unknown_crate_is_a_fault_and_a_fine_one_is_not() {
        assert_eq!(check(&edges(&[("skep-novel", &[])])).len(), 1);
        assert_eq!(check(&edges(&[("skep-client", &["skep-api", "tokio"]), ("skep-api", &[])])), []);
    }

    #[test]
    fn dependencies_of_tests_and_build_scripts_are_not_arrows() {
        let metadata = json!({"packages": [{"name": "a", "dependencies": [
            {"name": "b", "kind": "dev"}, {"name": "c", "kind": null},
            {"name": "d", "kind": "build"}, {"name": "skep-d", "kind": "build"}]}]});
        assert_eq!(parse(&metadata), Some(edges(&[("a", &["c", "skep-d"])])));
    }
}
