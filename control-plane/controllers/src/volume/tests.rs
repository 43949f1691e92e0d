use super::plan::*;
use serde_json::{Value, json};
use skep_api::kinds::volume::matching::Place;
use std::collections::BTreeMap;

fn volume(name: &str, size: &str) -> Value {
    json!({"metadata": {"name": name}, "status": {"phase": "Available"},
        "spec": {"accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": {"storage": size}, "hostPath": {"path": "/v"},
            "persistentVolumeReclaimPolicy": "Retain"}})
}

fn claim(size: &str) -> Value {
    json!({"metadata": {"name": "c", "namespace": "n", "uid": "u", "resourceVersion": "7"}, "status": {"phase": "Pending"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}}})
}

fn bound_to(plan: ForClaim) -> Option<String> {
    match plan {
        ForClaim::Bind(volume) => Some(volume["metadata"]["name"].as_str().unwrap().to_owned()),
        _ => None,
    }
}

fn chosen(claim: &Value, volumes: &[Value]) -> Option<String> {
    bound_to(for_claim(claim, volumes, None, None))
}

#[test]
fn a_claim_gets_the_smallest_volume_that_has_all_it_asks_for() {
    let mut small = volume("small", "1Gi");
    let (large, middle) = (volume("large", "10Gi"), volume("middle", "5Gi"));
    let all = [large.clone(), small.clone(), middle.clone()];
    assert_eq!(chosen(&claim("1Gi"), &all).unwrap(), "small");
    assert_eq!(chosen(&claim("2Gi"), &all).unwrap(), "middle");
    assert_eq!(chosen(&claim("20Gi"), &all), None);
    small["spec"]["volumeMode"] = "Block".into();
    assert_eq!(chosen(&claim("1Gi"), &[small.clone()]), None);
    small["spec"]["volumeMode"] = "Filesystem".into();
    small["spec"]["storageClassName"] = "gold".into();
    assert_eq!(chosen(&claim("1Gi"), &[small.clone()]), None);
    let mut many = claim("1Gi");
    many["spec"]["accessModes"] = json!(["ReadWriteMany"]);
    assert_eq!(chosen(&many, &all), None);
    let mut picky = claim("1Gi");
    picky["spec"]["selector"] = json!({"matchLabels": {"a": "b"}});
    let mut labelled = large;
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(chosen(&picky, &[middle, labelled]).unwrap(), "large");
}

#[test]
fn a_volume_that_names_a_claim_is_for_it_alone() {
    let mut reserved = volume("reserved", "9Gi");
    reserved["spec"]["claimRef"] = json!({"namespace": "n", "name": "c"});
    let all = [volume("free", "1Gi"), reserved.clone()];
    assert_eq!(chosen(&claim("1Gi"), &all).unwrap(), "reserved");
    let mut other = claim("1Gi");
    other["metadata"]["name"] = "d".into();
    assert_eq!(chosen(&other, &all).unwrap(), "free");
    let bound = bound_volume(&reserved, &claim("1Gi"));
    assert_eq!(bound["spec"]["claimRef"]["uid"], "u");
    assert!(bound["metadata"].get("annotations").is_none(), "a person chose it");
    let ours = bound_volume(&all[0], &claim("1Gi"));
    assert_eq!(ours["metadata"]["annotations"][BOUND_BY_CONTROLLER], "yes");
}

#[test]
fn a_claim_that_names_a_volume_gets_it_or_waits() {
    let mut named = claim("2Gi");
    named["spec"]["volumeName"] = "v".into();
    assert_eq!(for_claim(&named, &[], None, None), ForClaim::Wait(None));
    assert_eq!(chosen(&named, &[volume("v", "2Gi")]).unwrap(), "v");
    let small = for_claim(&named, &[volume("v", "1Gi")], None, None);
    let ForClaim::Wait(Some(Told(true, "VolumeMismatch", message))) = small else { panic!("{small:?}") };
    assert_eq!(message, "Cannot bind to requested volume \"v\": requested PV is too small");
    let mut taken = volume("v", "2Gi");
    taken["spec"]["claimRef"] = json!({"namespace": "n", "name": "other", "uid": "x"});
    assert!(matches!(
        for_claim(&named, &[taken], None, None),
        ForClaim::Wait(Some(Told(true, "FailedBinding", _)))
    ));
}

#[test]
fn a_claim_that_waits_for_its_pod_takes_a_volume_that_the_node_reaches() {
    let class = Class { provisioner: "kubernetes.io/no-provisioner".into(), waits: true };
    let mut local = volume("local", "1Gi");
    local["spec"]["nodeAffinity"] = json!({"required": {"nodeSelectorTerms": [
        {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}]}});
    let first = for_claim(&claim("1Gi"), std::slice::from_ref(&local), Some(&class), None);
    assert!(matches!(first, ForClaim::Wait(Some(Told(false, "WaitForFirstConsumer", _)))), "{first:?}");
    let mut placed = claim("1Gi");
    annotate(&mut placed, SELECTED_NODE, "n1");
    for (zone, wanted) in [("a", Some("local")), ("b", None)] {
        let labels = BTreeMap::from([("zone".into(), zone.into())]);
        let place = Place { name: "n1", labels: &labels };
        let plan = for_claim(&placed, std::slice::from_ref(&local), Some(&class), Some(place));
        assert_eq!(bound_to(plan).as_deref(), wanted);
    }
}

#[test]
fn what_nobody_has_is_asked_of_the_classs_provisioner() {
    let mut asking = claim("1Gi");
    asking["spec"]["storageClassName"] = "gold".into();
    let gone = for_claim(&asking, &[], None, None);
    assert_eq!(
        gone,
        ForClaim::Wait(Some(Told(
            true,
            "ProvisioningFailed",
            "storageclass.storage.k8s.io \"gold\" not found".into()
        )))
    );
    let class = Class { provisioner: "example.com/p".into(), waits: false };
    let ForClaim::Provision(marked, Told(false, "ExternalProvisioning", _)) =
        for_claim(&asking, &[], Some(&class), None)
    else {
        panic!("nobody was asked")
    };
    assert_eq!(
        marked["metadata"]["annotations"]["volume.kubernetes.io/storage-provisioner"],
        "example.com/p"
    );
    assert!(matches!(
        for_claim(&claim("1Gi"), &[], None, None),
        ForClaim::Wait(Some(Told(false, "FailedBinding", _)))
    ));
}

#[test]
fn what_was_bound_is_bound_again_or_lost() {
    let mut bound = bound_claim(&claim("1Gi"), "v");
    bound["status"] = bound_status(&bound, &volume("v", "1Gi"));
    assert_eq!(bound["status"]["phase"], "Bound");
    assert_eq!(bound["status"]["capacity"], json!({"storage": "1Gi"}));
    assert!(matches!(for_claim(&bound, &[], None, None), ForClaim::Lost(Told(true, "ClaimLost", _))));
    assert_eq!(chosen(&bound, &[volume("v", "1Gi")]).unwrap(), "v");
    let mut other = volume("v", "1Gi");
    other["spec"]["claimRef"] = json!({"namespace": "n", "name": "other", "uid": "x"});
    assert!(matches!(
        for_claim(&bound, &[other], None, None),
        ForClaim::Lost(Told(true, "ClaimMisbound", _))
    ));
    let mut grown = bound.clone();
    grown["status"]["capacity"] = json!({"storage": "3Gi"});
    assert_eq!(bound_status(&grown, &volume("v", "1Gi"))["capacity"], json!({"storage": "3Gi"}));
}

#[test]
fn volumes_follow_their_claims() {
    let free = volume("v", "1Gi");
    assert_eq!(for_volume(&free, None), ForVolume::Phase("Available", None));
    let mine = bound_volume(&free, &claim("1Gi"));
    assert_eq!(for_volume(&mine, Some(&claim("1Gi"))), ForVolume::Nothing);
    let done = bound_claim(&claim("1Gi"), "v");
    assert_eq!(for_volume(&mine, Some(&done)), ForVolume::Phase("Bound", None));
    let elsewhere = bound_claim(&claim("1Gi"), "w");
    let ForVolume::Unbind(again) = for_volume(&mine, Some(&elsewhere)) else { panic!("still bound") };
    assert!(again["spec"].get("claimRef").is_none());
    let mut namesake = claim("1Gi");
    namesake["metadata"]["uid"] = "later".into();
    assert_eq!(for_volume(&mine, Some(&namesake)), ForVolume::Phase("Released", None));
    let mut released = mine.clone();
    released["status"]["phase"] = "Released".into();
    assert_eq!(for_volume(&released, None), ForVolume::Nothing, "kept for a person to look at");
    released["spec"]["persistentVolumeReclaimPolicy"] = "Delete".into();
    assert!(matches!(
        for_volume(&released, None),
        ForVolume::Phase("Failed", Some(Told(true, "VolumeFailedDelete", _)))
    ));
    annotate(&mut released, "pv.kubernetes.io/provisioned-by", "example.com/p");
    assert_eq!(for_volume(&released, None), ForVolume::Nothing, "its provisioner removes it");
}
