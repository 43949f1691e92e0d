use super::*;
use crate::kinds::testing::{complete, context, now, shown};
use crate::resource::Strategy;
use serde_json::json;

fn volume(source: Value) -> Value {
    let mut tree = complete(json!({
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": "2Gi"}},
    }));
    for (kind, value) in source.as_object().unwrap() {
        tree["spec"][kind] = value.clone();
    }
    tree
}

fn claim() -> Value {
    complete(json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c", "namespace": "n"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }))
}

#[test]
fn volumes_begin_pending_and_show_what_they_are() {
    let mut made = volume(json!({"hostPath": {"path": "/tmp/a"}}));
    PersistentVolume.prepare_create(&mut made, &context());
    assert_eq!(shown(&PersistentVolume.validate(&made)), "");
    assert_eq!(
        made["status"],
        json!({"phase": "Pending", "lastPhaseTransitionTime": "2026-05-01T12:00:00Z"})
    );
    made["spec"]["claimRef"] = json!({"namespace": "n", "name": "c"});
    let cells = PersistentVolume.cells(&made, now());
    assert_eq!(
        cells[1..7],
        [json!("2Gi"), json!("RWO,ROX"), json!("Retain"), json!("Pending"), json!("n/c"), json!("")]
    );
    assert_eq!(cells[10], "Filesystem");
}

#[test]
fn volumes_say_what_is_wrong_with_them() {
    for (source, wrong) in [
        (json!({}), "spec: Required value: must specify a volume type"),
        (
            json!({"hostPath": {"path": "/a"}, "nfs": {"server": "s", "path": "/b"}}),
            "spec.nfs: Forbidden: may not specify more than 1 volume type",
        ),
        (
            json!({"hostPath": {"path": "/a/../b"}}),
            "spec.hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            json!({"local": {"path": "/a"}}),
            "spec.nodeAffinity: Required value: Local volume requires node affinity",
        ),
        (json!({"csi": {"driver": "d"}}), "spec.csi.volumeHandle: Required value"),
        (
            json!({"hostPath": {"path": "//./"}, "persistentVolumeReclaimPolicy": "Recycle"}),
            "spec.persistentVolumeReclaimPolicy: Forbidden: may not be 'recycle' for a hostPath mount of '/'",
        ),
        (
            json!({"hostPath": {"path": "/a"}, "capacity": {"storage": "0"}}),
            "spec.capacity[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            json!({"hostPath": {"path": "/a"}, "accessModes": ["ReadWriteOncePod", "ReadWriteOnce"]}),
            "spec.accessModes: Forbidden: may not use ReadWriteOncePod with other access modes",
        ),
        (
            json!({"nfs": {"server": "s", "path": "b"}}),
            "spec.nfs.path: Invalid value: \"b\": must be an absolute path",
        ),
    ] {
        assert_eq!(shown(&PersistentVolume.validate(&volume(source.clone()))), wrong, "{source}");
    }
}

#[test]
fn the_source_of_a_volume_stays() {
    let csi = |more: Value| {
        let mut source = json!({"driver": "d", "volumeHandle": "h"});
        source.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        volume(json!({"csi": source}))
    };
    let secret = json!({"controllerExpandSecretRef": {"name": "s", "namespace": "n"}});
    let update = |new: &Value, old: &Value| shown(&PersistentVolume.validate_update(new, old));
    assert_eq!(update(&csi(secret.clone()), &csi(json!({}))), "");
    assert!(!update(&csi(json!({})), &csi(secret)).is_empty());
    assert!(update(&csi(json!({"volumeHandle": "x"})), &csi(json!({}))).contains("immutable after creation"));
    let mut other = csi(json!({}));
    other["spec"]["volumeMode"] = "Block".into();
    assert_eq!(update(&other, &csi(json!({}))), "volumeMode: Invalid value: \"Block\": field is immutable");
}

#[test]
fn claims_say_what_is_wrong_with_them() {
    assert_eq!(shown(&PersistentVolumeClaim.validate(&claim())), "");
    for (pointer, value, wrong) in [
        ("/accessModes", json!([]), "spec.accessModes: Required value: at least 1 access mode is required"),
        ("/resources/requests", json!({}), "spec.resources[storage]: Required value"),
        (
            "/resources/requests/storage",
            json!("0"),
            "spec.resources[storage]: Invalid value: \"0\": must be greater than zero",
        ),
        (
            "/dataSource",
            json!({"kind": "Other", "name": "x"}),
            "spec.dataSource: Invalid value: \"Other\": must be 'PersistentVolumeClaim' when referencing the default apiGroup",
        ),
        (
            "/volumeMode",
            json!("Tape"),
            "spec.volumeMode: Unsupported value: \"Tape\": supported values: \"Block\", \"Filesystem\"",
        ),
    ] {
        let mut object = claim();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object["spec"].pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(shown(&PersistentVolumeClaim.validate(&object)), wrong, "{pointer}");
    }
}

#[test]
fn sources_of_data_are_said_twice() {
    let mut made = claim();
    made["spec"]["dataSource"] = json!({"kind": "PersistentVolumeClaim", "name": "x"});
    PersistentVolumeClaim.prepare_create(&mut made, &context());
    assert_eq!(made["spec"]["dataSourceRef"], made["spec"]["dataSource"]);
    let mut unknown = claim();
    unknown["spec"]["dataSource"] = json!({"apiGroup": "example.com", "kind": "Other", "name": "x"});
    PersistentVolumeClaim.prepare_create(&mut unknown, &context());
    assert!(unknown["spec"].get("dataSource").is_none());
    let mut newer = claim();
    newer["spec"]["dataSourceRef"] = json!({"apiGroup": "example.com", "kind": "Other", "name": "x"});
    PersistentVolumeClaim.prepare_create(&mut newer, &context());
    assert_eq!(newer["spec"]["dataSource"], newer["spec"]["dataSourceRef"]);
    assert_eq!(shown(&PersistentVolumeClaim.validate(&newer)), "");
}

#[test]
fn a_claim_is_bound_once_and_then_only_grows() {
    let update = |new: &Value, old: &Value| shown(&PersistentVolumeClaim.validate_update(new, old));
    let changed = |old: &Value, pointer: &str, value: Value| {
        let mut new = old.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[key] = value;
        new
    };
    let pending = claim();
    assert_eq!(update(&changed(&pending, "/spec/volumeName", json!("v")), &pending), "");
    assert_eq!(update(&changed(&pending, "/spec/storageClassName", json!("gold")), &pending), "");
    assert_eq!(update(&changed(&pending, "/spec/resources/requests/storage", json!("1024Mi")), &pending), "");
    let immutable = "spec is immutable after creation";
    assert!(
        update(&changed(&pending, "/spec/resources/requests/storage", json!("2Gi")), &pending)
            .contains(immutable)
    );
    assert!(
        update(&changed(&pending, "/spec/accessModes", json!(["ReadOnlyMany"])), &pending)
            .contains(immutable)
    );
    let mut bound = changed(&pending, "/spec/volumeName", json!("v"));
    bound["status"] = json!({"phase": "Bound", "capacity": {"storage": "1Gi"}});
    assert_eq!(update(&changed(&bound, "/spec/resources/requests/storage", json!("2Gi")), &bound), "");
    assert!(update(&changed(&bound, "/spec/volumeName", json!("w")), &bound).contains(immutable));
    assert_eq!(
        update(&changed(&bound, "/spec/resources/requests/storage", json!("512Mi")), &bound),
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"
    );
    let named = changed(&pending, "/spec/storageClassName", json!("gold"));
    assert!(update(&changed(&named, "/spec/storageClassName", json!("lead")), &named).contains(immutable));
}

#[test]
fn claims_show_their_volume_when_they_have_one() {
    let mut made = claim();
    made["status"]["phase"] = "Pending".into();
    assert_eq!(
        PersistentVolumeClaim.cells(&made, now())[1..5],
        [json!("Pending"), json!(""), json!(""), json!("")]
    );
    made["spec"]["volumeName"] = "v".into();
    made["status"] =
        json!({"phase": "Bound", "capacity": {"storage": "2Gi"}, "accessModes": ["ReadWriteOnce"]});
    assert_eq!(
        PersistentVolumeClaim.cells(&made, now())[1..5],
        [json!("Bound"), json!("v"), json!("2Gi"), json!("RWO")]
    );
    assert_eq!(PersistentVolumeClaim.cells(&made, now())[6], "<unset>");
}
