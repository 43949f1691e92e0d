use super::*;
use crate::kinds::testing::{complete, now, shown};
use serde_json::json;

fn object(kind: &str, more: Value) -> Value {
    let mut object = json!({"apiVersion": "storage.k8s.io/v1", "kind": kind,
        "metadata": {"name": "a", "creationTimestamp": "2026-05-01T11:59:00Z"}});
    for (key, value) in more.as_object().unwrap() {
        object[key] = value.clone();
    }
    complete(object)
}

fn check(strategy: &dyn Strategy, kind: &str, rows: &[(Value, &str)]) {
    for (more, wrong) in rows {
        assert_eq!(shown(&strategy.validate(&object(kind, more.clone()))), *wrong, "{kind} {more}");
    }
}

#[test]
fn storage_classes() {
    let zone = |values: Value| json!({"matchLabelExpressions": [{"key": "zone", "values": values}]});
    let allowed = |terms: Value| json!({"provisioner": "example.com/disk", "allowedTopologies": terms});
    check(
        &StorageClass,
        "StorageClass",
        &[
            (allowed(json!([zone(json!(["a"])), zone(json!(["b"]))])), ""),
            (json!({}), "provisioner: Required value"),
            (
                json!({"provisioner": "example.com/disk", "reclaimPolicy": "Recycle"}),
                "reclaimPolicy: Unsupported value: \"Recycle\": supported values: \"Delete\", \"Retain\"",
            ),
            (
                json!({"provisioner": "example.com/disk", "volumeBindingMode": "Never"}),
                "volumeBindingMode: Unsupported value: \"Never\": supported values: \"Immediate\", \"WaitForFirstConsumer\"",
            ),
            (
                allowed(json!([zone(json!([]))])),
                "allowedTopologies[0].matchLabelExpressions[0].values: Required value",
            ),
            (
                allowed(json!([zone(json!(["a"])), zone(json!(["a"]))])),
                "allowedTopologies[1].matchLabelExpressions: Duplicate value: \"\"",
            ),
            (
                json!({"provisioner": "example.com/disk", "parameters": {"": "x"}}),
                "parameters: Invalid value: \"\": field can not be empty.",
            ),
        ],
    );
    let mut class = object("StorageClass", json!({"provisioner": "example.com/disk"}));
    let mut other = class.clone();
    other["reclaimPolicy"] = "Retain".into();
    assert_eq!(
        shown(&StorageClass.validate_update(&other, &class)),
        "reclaimPolicy: Invalid value: \"Retain\": field is immutable"
    );
    class["metadata"]["annotations"] = json!({"storageclass.kubernetes.io/is-default-class": "true"});
    assert_eq!(
        Value::from(StorageClass.cells(&class, now())),
        json!(["a (default)", "example.com/disk", "Delete", "Immediate", false, "60s"])
    );
}

#[test]
fn attributes_classes() {
    check(
        &VolumeAttributesClass,
        "VolumeAttributesClass",
        &[
            (json!({"driverName": "example.com", "parameters": {"iops": "100"}}), ""),
            (
                json!({"driverName": "example.com"}),
                "parameters: Required value: must contain at least one key/value pair",
            ),
        ],
    );
    let (old, new) = (json!({"driverName": "a"}), json!({"driverName": "b"}));
    assert_eq!(
        shown(&VolumeAttributesClass.validate_update(&new, &old)),
        "driverName: Forbidden: updates to driverName are forbidden."
    );
}

#[test]
fn drivers() {
    let spec = |spec: Value| json!({"spec": spec});
    check(
        &CsiDriver,
        "CSIDriver",
        &[
            (spec(json!({})), ""),
            (
                spec(json!({"fsGroupPolicy": "All"})),
                "spec.fsGroupPolicy: Unsupported value: \"All\": supported values: \"File\", \"None\", \"ReadWriteOnceWithFSType\"",
            ),
            (
                spec(json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]})),
                "spec.tokenRequests[1].audience: Duplicate value: \"a\"",
            ),
            (
                spec(json!({"tokenRequests": [{"audience": "a", "expirationSeconds": 5}]})),
                "spec.tokenRequests[0].expirationSeconds: Invalid value: 5: may not specify a duration less than 10 minutes",
            ),
            (
                spec(json!({"volumeLifecycleModes": ["Eternal"]})),
                "spec.volumeLifecycleModes: Unsupported value: \"Eternal\": supported values: \"Persistent\", \"Ephemeral\"",
            ),
        ],
    );
    let driver = object("CSIDriver", spec(json!({"tokenRequests": [{"audience": "a"}]})));
    assert_eq!(
        Value::from(CsiDriver.cells(&driver, now())),
        json!(["a", true, false, false, "a", false, "Persistent", "60s"])
    );
    let node = |driver: Value| spec(json!({"drivers": [driver]}));
    check(
        &CsiNode,
        "CSINode",
        &[
            (node(json!({"name": "example.com", "nodeID": "n", "topologyKeys": ["zone"]})), ""),
            (node(json!({"name": "example.com", "nodeID": ""})), "spec.drivers[0].nodeID: Required value"),
            (
                node(json!({"name": "example.com", "nodeID": "n", "topologyKeys": ["a", "a"]})),
                "spec.drivers[0]: Duplicate value: \"a\"",
            ),
        ],
    );
    let old = object("CSINode", node(json!({"name": "example.com", "nodeID": "n"})));
    let mut new = old.clone();
    new["spec"]["drivers"][0]["allocatable"] = json!({"count": 5});
    assert_eq!(shown(&CsiNode.validate_update(&new, &old)), "");
    new["spec"]["drivers"][0]["nodeID"] = "m".into();
    assert!(shown(&CsiNode.validate_update(&new, &old)).starts_with("spec.drivers: Invalid value:"));
    assert_eq!(Value::from(CsiNode.cells(&old, now())), json!(["a", 1, "60s"]));
}

#[test]
fn capacities_and_attachments() {
    check(
        &CsiStorageCapacity,
        "CSIStorageCapacity",
        &[
            (json!({"storageClassName": "c", "capacity": "1Gi"}), ""),
            (
                json!({"storageClassName": "c", "capacity": "-1Gi"}),
                "capacity: Invalid value: \"-1Gi\": must be greater than or equal to 0",
            ),
        ],
    );
    let capacity = object("CSIStorageCapacity", json!({"storageClassName": "c", "capacity": "1Gi"}));
    assert_eq!(CsiStorageCapacity.cells(&capacity, now()), ["a", "c", "1Gi"]);
    let spec =
        |source: Value| json!({"spec": {"attacher": "example.com", "nodeName": "n", "source": source}});
    check(
        &VolumeAttachment,
        "VolumeAttachment",
        &[
            (spec(json!({"persistentVolumeName": "v"})), ""),
            (
                spec(json!({})),
                "spec.source: Required value: must specify exactly one of inlineVolumeSpec and persistentVolumeName",
            ),
        ],
    );
    let old = object("VolumeAttachment", spec(json!({"persistentVolumeName": "v"})));
    let new = object("VolumeAttachment", spec(json!({"persistentVolumeName": "w"})));
    assert!(shown(&VolumeAttachment.validate_update(&new, &old)).ends_with("field is immutable"));
    assert_eq!(
        Value::from(VolumeAttachment.cells(&old, now())),
        json!(["a", "example.com", "v", "n", false, "60s"])
    );
    let long = json!({"status": {"attachError": {"message": "x".repeat(1025)}}});
    assert_eq!(
        shown(&VolumeAttachment.validate_status_update(&long, &long)),
        "status.attachError.message: Too long: may not be more than 1024 bytes"
    );
}
