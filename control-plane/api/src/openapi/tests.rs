//! Tests of the documents as clients read them.

use super::*;
use crate::kinds::builtin;
use std::sync::Arc;

fn rows() -> Vec<Arc<Resource>> {
    builtin().into_iter().map(Arc::new).collect()
}

fn document(gv: &str) -> Value {
    let bytes = v3(&rows(), Schemas::builtin(), &GroupVersion::parse(gv)).unwrap();
    serde_json::from_slice(&bytes).unwrap()
}

/// Every reference of a tree.
fn references<'a>(value: &'a Value, found: &mut BTreeSet<&'a str>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                match value {
                    Value::String(text) if key == "$ref" => drop(found.insert(text)),
                    value => references(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere() {
    let rows = rows();
    let mut documents: Vec<Value> =
        group_versions(&rows).iter().map(|gv| document(&gv.to_string())).collect();
    documents.push(serde_json::from_slice(&v2(&rows, Schemas::builtin())).unwrap());
    for document in &documents {
        let mut found = BTreeSet::new();
        references(document, &mut found);
        assert!(found.len() > 10);
        for reference in found {
            assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
        }
    }
}

#[test]
fn the_index_names_each_group_version_once() {
    let rows = rows();
    let index = v3_index(&rows);
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"].as_str().unwrap();
    assert!(url.starts_with("/openapi/v3/apis/apps/v1?hash="), "{url}");
    for path in index["paths"].as_object().unwrap().keys() {
        let gv = v3_group_version(path).unwrap();
        assert_eq!(v3_path(&gv), *path);
        assert!(v3(&rows, Schemas::builtin(), &gv).is_some(), "{path}");
    }
    assert!(v3(&rows, Schemas::builtin(), &GroupVersion::new("none", "v1")).is_none());
    let fewer: Vec<_> = rows.iter().filter(|r| r.plural != "deployments").cloned().collect();
    let apps = GroupVersion::new("apps", "v1");
    assert_ne!(hash(&rows, Some(&apps)), hash(&fewer, Some(&apps)));
    assert_eq!(
        hash(&rows, Some(&GroupVersion::new("", "v1"))),
        hash(&fewer, Some(&GroupVersion::new("", "v1")))
    );
}

#[test]
fn explain_finds_its_way() {
    let apps = document("apps/v1");
    let gvk = json!({"group": "apps", "kind": "Deployment", "version": "v1"});
    for path in ["/apis/apps/v1/deployments", "/apis/apps/v1/namespaces/{namespace}/deployments"] {
        let list = &apps["paths"][path]["get"];
        assert_eq!(list["x-kubernetes-group-version-kind"], gvk, "{path}");
        assert_eq!(list["x-kubernetes-action"], "list");
    }
    let schemas = &apps["components"]["schemas"];
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"], json!([gvk]));
    let spec = &deployment["properties"]["spec"];
    assert_eq!(spec["allOf"][0]["$ref"], "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec");
    assert_eq!(spec["default"], json!({}));
    assert!(spec["description"].as_str().unwrap().len() > 10);
    let strategy = &schemas["io.k8s.api.apps.v1.DeploymentSpec"]["properties"]["strategy"];
    assert_eq!(strategy["x-kubernetes-patch-strategy"], "retainKeys");
}

#[test]
fn clients_find_merge_keys_and_patch_types() {
    let core = document("v1");
    let schemas = &core["components"]["schemas"];
    let spec = &schemas["io.k8s.api.core.v1.PodSpec"];
    assert_eq!(spec["required"], json!(["containers"]));
    let containers = &spec["properties"]["containers"];
    assert_eq!(containers["items"]["$ref"], "#/components/schemas/io.k8s.api.core.v1.Container");
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-patch-strategy"], "merge");
    assert_eq!(containers["x-kubernetes-list-map-keys"], json!(["name"]));
    assert_eq!(spec["properties"]["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    assert_eq!(schemas["io.k8s.api.core.v1.ContainerPort"]["properties"]["protocol"]["default"], "TCP");
    assert_eq!(schemas["io.k8s.apimachinery.pkg.apis.meta.v1.Time"]["format"], "date-time");
    let patch = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}"]["patch"];
    assert_eq!(patch["operationId"], "patchCoreV1NamespacedPod");
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    let status = &core["paths"]["/api/v1/namespaces/{namespace}/pods/{name}/status"]["put"];
    assert_eq!(status["operationId"], "replaceCoreV1NamespacedPodStatus");
}

#[test]
fn version_two_has_definitions() {
    let document: Value = serde_json::from_slice(&v2(&rows(), Schemas::builtin())).unwrap();
    assert_eq!(document["swagger"], "2.0");
    let pod = &document["definitions"]["io.k8s.api.core.v1.Pod"];
    assert_eq!(pod["properties"]["spec"]["$ref"], "#/definitions/io.k8s.api.core.v1.PodSpec");
    assert_eq!(pod["x-kubernetes-group-version-kind"][0]["kind"], "Pod");
    assert!(document["paths"]["/api/v1/namespaces/{namespace}/pods"]["post"]["parameters"].is_array());
}

/// The parts of a message: number and content of each field that has a length.
fn parts(message: &[u8]) -> Vec<(u32, &[u8])> {
    let mut reader = crate::protobuf::wire::Reader::new(message);
    let mut parts = Vec::new();
    while let Some((number, wire)) = reader.field().unwrap() {
        if let crate::protobuf::wire::Wire::Bytes(bytes) = wire {
            parts.push((number, bytes));
        }
    }
    parts
}

fn part(message: &[u8], number: u32) -> &[u8] {
    parts(message).into_iter().find(|(at, _)| *at == number).unwrap().1
}

/// The value of a name in a list of pairs.
fn pair<'a>(message: &'a [u8], number: u32, name: &str) -> &'a [u8] {
    let named = parts(message).into_iter().filter(|(at, _)| *at == number).map(|(_, pair)| pair);
    part(named.into_iter().find(|pair| part(pair, 1) == name.as_bytes()).unwrap(), 2)
}

#[test]
fn version_two_in_protobuf_says_the_same() {
    let json: Value = serde_json::from_slice(&v2(&rows(), Schemas::builtin())).unwrap();
    let document = gnostic::document(&json);
    assert_eq!(part(&document, 1), b"2.0");
    assert_eq!(part(part(&document, 2), 1), b"Kubernetes");
    let paths = part(&document, 8);
    assert_eq!(parts(paths).len(), json["paths"].as_object().unwrap().len());
    let patch = part(pair(paths, 2, "/api/v1/namespaces/{namespace}/pods/{name}"), 8);
    assert_eq!(part(patch, 5), b"patchCoreV1NamespacedPod");
    assert_eq!(part(pair(patch, 13, "x-kubernetes-action"), 2), b"patch\n");
    let definitions = part(&document, 9);
    assert_eq!(parts(definitions).len(), json["definitions"].as_object().unwrap().len());
    let spec = pair(definitions, 1, "io.k8s.api.core.v1.PodSpec");
    assert_eq!(part(part(spec, 22), 1), b"object");
    assert_eq!(part(spec, 19), b"containers");
    let containers = pair(part(spec, 25), 1, "containers");
    assert_eq!(part(part(part(containers, 23), 1), 1), b"#/definitions/io.k8s.api.core.v1.Container");
    assert_eq!(part(pair(containers, 31, "x-kubernetes-patch-merge-key"), 2), b"name\n");
    let quantities = pair(definitions, 1, "io.k8s.api.core.v1.ResourceRequirements");
    let limits = part(pair(part(quantities, 25), 1, "limits"), 21);
    assert!(part(part(limits, 1), 1).starts_with(b"#/definitions/"));
}
