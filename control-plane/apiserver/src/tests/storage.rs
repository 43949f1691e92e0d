//! What is filled in and refused of claims and volumes.

use super::secure::{ROOT, secure};
use serde_json::{Value, json};

const CLAIMS: &str = "/api/v1/namespaces/d/persistentvolumeclaims";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

fn class(name: &str, grows: bool) -> Value {
    json!({"metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
        "provisioner": "example.com/p", "allowVolumeExpansion": grows})
}

fn claim(name: &str, class: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": class,
        "resources": {"requests": {"storage": "1Gi"}}}})
}

#[tokio::test]
async fn claims_get_the_default_class_and_are_kept_while_in_use() {
    let world = secure().await;
    let before = world.make(CLAIMS, claim("a", Value::Null)).await;
    assert!(before["spec"].get("storageClassName").is_none());
    world.make(CLASSES, class("gold", true)).await;
    let after = world.make(CLAIMS, claim("b", Value::Null)).await;
    assert_eq!(after["spec"]["storageClassName"], "gold");
    assert_eq!(after["metadata"]["finalizers"], json!(["kubernetes.io/pvc-protection"]));
    assert_eq!(after["status"], json!({"phase": "Pending"}));
    let none = world.make(CLAIMS, claim("c", json!(""))).await;
    assert_eq!(none["spec"]["storageClassName"], "", "the empty class is a class");
    let volume = json!({"metadata": {"name": "v", "finalizers": ["example.com/f"]}, "spec": {
        "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/tmp/v"}}});
    let volume = world.make("/api/v1/persistentvolumes", volume).await;
    assert_eq!(volume["metadata"]["finalizers"], json!(["example.com/f", "kubernetes.io/pv-protection"]));
}

#[tokio::test]
async fn only_bound_claims_of_classes_that_say_so_grow() {
    let world = secure().await;
    world.make(CLASSES, class("gold", true)).await;
    world.make(CLASSES, class("lead", false)).await;
    let more = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    for (name, class, bound, says) in [
        ("a", "gold", false, "spec is immutable after creation"),
        ("b", "lead", true, "only dynamically provisioned pvc can be resized"),
        ("c", "gold", true, ""),
    ] {
        let mut made = world.make(CLAIMS, claim(name, class.into())).await;
        let one = format!("{CLAIMS}/{name}");
        if bound {
            made["status"]["phase"] = "Bound".into();
            assert_eq!(world.ask(ROOT, "PUT", &format!("{one}/status"), &made).await.code, 200);
        }
        let (code, message) = world.write(ROOT, "PATCH", &one, more.clone()).await;
        assert_eq!(code == 200, says.is_empty(), "{message}");
        assert!(message.contains(says), "{message}");
    }
}
