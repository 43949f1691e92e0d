use super::{Config, objects, reconcile};
use crate::authz::defaults;
use serde_json::{Value, json};

fn role() -> Value {
    json!({"metadata": {"name": "r", "labels": {"a": "b"}, "annotations": {defaults::AUTOUPDATE: "true"}},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list"]}]})
}

#[test]
fn every_default_is_its_own_fixed_point() {
    for default in defaults::all().unwrap() {
        assert_eq!(reconcile::rbac(default.object.clone(), &default.object), None);
        assert!(!reconcile::replaced(&Some(default.object.clone()), &default.object));
    }
}

#[test]
fn what_is_missing_comes_back_and_what_was_added_stays() {
    let mut have = role();
    have["rules"] = json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]);
    have["metadata"]["labels"] = json!({"mine": "x"});
    let fixed = reconcile::rbac(have, &role()).unwrap();
    assert_eq!(fixed["rules"].as_array().unwrap().len(), 2);
    assert_eq!(fixed["metadata"]["labels"], json!({"mine": "x", "a": "b"}));
    assert_eq!(reconcile::rbac(fixed, &role()), None);
    let mut wider = role();
    wider["rules"][0]["verbs"] = json!(["get", "list", "watch"]);
    assert_eq!(reconcile::rbac(wider, &role()), None);
    let mut narrower = role();
    narrower["rules"][0]["resourceNames"] = json!(["one"]);
    assert!(reconcile::rbac(narrower, &role()).is_some());
    let mut emptied = role();
    emptied["rules"] = Value::Null;
    assert_eq!(reconcile::rbac(emptied, &role()).unwrap()["rules"], role()["rules"]);
    let mut own = role();
    own["rules"] = json!([]);
    own["metadata"]["annotations"][defaults::AUTOUPDATE] = "false".into();
    assert_eq!(reconcile::rbac(own, &role()), None);
}

#[test]
fn the_rules_of_aggregated_roles_are_left_alone() {
    let admin = defaults::all()
        .unwrap()
        .into_iter()
        .find(|d| d.object["metadata"]["name"] == "admin")
        .unwrap()
        .object;
    let mut have = admin.clone();
    have["rules"] = json!([{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}]);
    assert_eq!(reconcile::rbac(have, &admin), None);
}

#[test]
fn the_ranges_of_services_get_a_second_family_and_nothing_else() {
    let ranges = |cidrs: &[&str]| {
        objects::service_range(&cidrs.iter().map(|cidr| cidr.to_string()).collect::<Vec<_>>())
    };
    let (one, two) = (ranges(&["10.96.0.0/16"]), ranges(&["10.96.0.0/16", "fd00::/112"]));
    let wider = reconcile::second_range(one.clone(), &two).unwrap();
    assert_eq!(wider["spec"], two["spec"]);
    assert_eq!(reconcile::second_range(two.clone(), &two), None);
    assert_eq!(reconcile::second_range(two.clone(), &one), None);
    assert_eq!(reconcile::second_range(ranges(&["10.97.0.0/16"]), &two), None);
}

#[test]
fn the_kubernetes_service_follows_the_server() {
    let config = |ip: &str, port| Config {
        advertise: ip.parse().unwrap(),
        port,
        service_ip: "10.96.0.1".parse().unwrap(),
        service_ranges: vec!["10.96.0.0/16".into()],
        ca_pem: "pem".into(),
    };
    let before = objects::kubernetes(&config("10.0.0.1", 6443));
    let after = objects::kubernetes(&config("10.0.0.2", 7443));
    let changed: Vec<bool> = before
        .iter()
        .zip(&after)
        .map(|((_, old), (_, new))| reconcile::fields(old.clone(), new).is_some())
        .collect();
    assert_eq!(changed, [true, false, true, true, true]);
    assert_eq!(objects::kubernetes(&config("127.0.0.1", 6443)).len(), 3);
    // What the server fills in by itself is no difference.
    let (_, wanted) = &before[0];
    let mut stored = wanted.clone();
    stored["spec"]["clusterIPs"] = json!(["10.96.0.1"]);
    stored["metadata"]["uid"] = "u".into();
    assert_eq!(reconcile::fields(stored, wanted), None);
}

#[test]
fn flow_control_keeps_its_mandatory_objects_and_those_that_nobody_took_over() {
    use skep_api::kinds::flow;
    let find =
        |list: Vec<Value>, name: &str| list.into_iter().find(|o| o["metadata"]["name"] == name).unwrap();
    let mut taken = find(flow::suggested(), "global-default");
    let wanted = taken.clone();
    assert_eq!(reconcile::flow(taken.clone(), &wanted, false), None);
    taken["spec"]["matchingPrecedence"] = 9_000.into();
    assert_eq!(reconcile::flow(taken.clone(), &wanted, false).unwrap()["spec"], wanted["spec"]);
    taken["metadata"]["annotations"][flow::AUTOUPDATE] = "false".into();
    assert_eq!(reconcile::flow(taken.clone(), &wanted, false), None);
    assert!(reconcile::flow(taken, &wanted, true).is_some());
    let exempt = find(flow::mandatory(), "exempt");
    assert_eq!(objects::flow_collection(&exempt).resource, "prioritylevelconfigurations");
}
