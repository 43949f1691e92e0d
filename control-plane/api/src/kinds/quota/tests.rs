use super::*;
use crate::kinds::pod::amounts::Amounts;
use crate::kinds::testing::{now, shown};
use crate::resource::GroupResource;
use serde_json::json;

fn core(plural: &'static str) -> GroupResource {
    GroupResource::new("", plural)
}

fn pod(resources: Value) -> Value {
    json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "resources": resources}]}})
}

fn quota(hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": "q"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}})
}

fn text(amounts: &Amounts) -> String {
    amounts.iter().map(|(name, amount)| format!("{name}={amount}")).collect::<Vec<_>>().join(",")
}

fn change<'a>(resource: &'a GroupResource, old: Option<&'a Value>, new: Option<&'a Value>) -> Change<'a> {
    Change { resource, subresource: "", old, new, now: now() }
}

#[test]
fn what_objects_use() {
    let asks = json!({"requests": {"cpu": "500m", "memory": "1Gi", "hugepages-2Mi": "4Mi", "example.com/gpu": "2"},
        "limits": {"cpu": "1", "memory": "1Gi"}});
    assert_eq!(
        text(&usage::usage(&core("pods"), &pod(asks.clone()), now())),
        "count/pods=1,cpu=500m,hugepages-2Mi=4Mi,limits.cpu=1,limits.memory=1Gi,memory=1Gi,pods=1,requests.cpu=500m,\
         requests.example.com/gpu=2,requests.hugepages-2Mi=4Mi,requests.memory=1Gi"
    );
    let mut ended = pod(asks);
    ended["status"]["phase"] = "Succeeded".into();
    assert_eq!(text(&usage::usage(&core("pods"), &ended, now())), "count/pods=1");
    let service = |spec: Value| text(&usage::usage(&core("services"), &json!({"spec": spec}), now()));
    let ports = json!([{"port": 80}, {"port": 81, "nodePort": 30_000}]);
    let (balancers, node_ports) = ("services.loadbalancers", "services.nodeports");
    for (spec, ports_counted, balanced) in [
        (json!({"type": "ClusterIP", "ports": ports}), 0, 0),
        (json!({"type": "NodePort", "ports": ports}), 2, 0),
        (json!({"type": "LoadBalancer", "ports": ports}), 2, 1),
        (json!({"type": "LoadBalancer", "ports": ports, "allocateLoadBalancerNodePorts": false}), 1, 1),
    ] {
        let wanted =
            format!("count/services=1,services=1,{balancers}={balanced},{node_ports}={ports_counted}");
        assert_eq!(service(spec), wanted);
    }
    let claim = json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1Gi"}}}});
    assert_eq!(
        text(&usage::usage(&core("persistentvolumeclaims"), &claim, now())),
        "count/persistentvolumeclaims=1,gold.storageclass.storage.k8s.io/persistentvolumeclaims=1,\
         gold.storageclass.storage.k8s.io/requests.storage=1Gi,persistentvolumeclaims=1,requests.storage=1Gi"
    );
    let deployments = GroupResource::new("apps", "deployments");
    assert_eq!(text(&usage::usage(&deployments, &json!({}), now())), "count/deployments.apps=1");
    assert_eq!(text(&usage::usage(&core("secrets"), &json!({}), now())), "count/secrets=1,secrets=1");
}

#[test]
fn a_write_is_charged_and_given_back() {
    let hard = json!({"pods": "2", "cpu": "1", "memory": "2Gi"});
    let before = quota(hard, json!({"pods": "1", "cpu": "250m", "memory": "0"}));
    let new = pod(json!({"requests": {"cpu": "500m", "memory": "1Gi"}}));
    let pods = core("pods");
    let charged = charge(std::slice::from_ref(&before), &change(&pods, None, Some(&new))).unwrap();
    assert_eq!(charged[0].quota["status"]["used"], json!({"pods": "2", "cpu": "750m", "memory": "1Gi"}));
    let after = charged[0].quota.clone();
    let gone = charge(std::slice::from_ref(&after), &change(&pods, Some(&new), None)).unwrap();
    assert_eq!(gone[0].quota["status"]["used"], before["status"]["used"]);
    let again = charge(std::slice::from_ref(&after), &change(&pods, None, Some(&new)));
    assert_eq!(
        again.unwrap_err().to_string(),
        "exceeded quota: q, requested: cpu=500m,pods=1, used: cpu=750m,pods=2, limited: cpu=1,pods=2"
    );
    let mut ended = new.clone();
    ended["status"]["phase"] = "Failed".into();
    let told = Change { subresource: "status", ..change(&pods, Some(&new), Some(&ended)) };
    let freed = charge(std::slice::from_ref(&after), &told).unwrap();
    assert_eq!(freed[0].quota["status"]["used"]["pods"], "1");
    let mut labelled = new.clone();
    labelled["metadata"]["labels"] = json!({"a": "b"});
    assert_eq!(charge(&[after], &change(&pods, Some(&new), Some(&labelled))), Ok(Vec::new()));
}

#[test]
fn what_a_quota_counts_must_be_said_and_known() {
    let hard = json!({"limits.cpu": "1", "memory": "1Gi"});
    let counted = quota(hard.clone(), json!({"limits.cpu": "0", "memory": "0"}));
    let pods = core("pods");
    let silent = pod(json!({}));
    assert_eq!(
        charge(&[counted], &change(&pods, None, Some(&silent))).unwrap_err().to_string(),
        "failed quota: q: must specify limits.cpu for: c; memory for: c"
    );
    let plain = pod(json!({"requests": {"memory": "1Mi"}, "limits": {"cpu": "1m"}}));
    assert_eq!(
        charge(&[quota(hard, json!({}))], &change(&pods, None, Some(&plain))).unwrap_err().to_string(),
        "status unknown for quota: q, resources: limits.cpu,memory"
    );
    let uncounted = json!({"metadata": {"name": "q"}, "spec": {"hard": {"pods": "0"}}});
    assert_eq!(charge(&[uncounted], &change(&pods, None, Some(&plain))), Ok(Vec::new()));
}

#[test]
fn scopes_choose_pods_and_claims() {
    let scoped = |spec: Value| json!({"spec": spec});
    let scopes = |list: &[&str]| scoped(json!({"scopes": list}));
    let class = |operator: &str, values: &[&str]| {
        scoped(json!({"scopeSelector": {"matchExpressions": [
            {"scopeName": "PriorityClass", "operator": operator, "values": values}]}}))
    };
    let mut high = pod(json!({"requests": {"cpu": "1"}}));
    high["spec"]["priorityClassName"] = "high".into();
    high["spec"]["activeDeadlineSeconds"] = 10.into();
    let plain = pod(json!({}));
    let matches = |quota: &Value, object: &Value| scopes_match(quota, &core("pods"), object);
    for (quota, of_high, of_plain) in [
        (scopes(&[]), true, true),
        (scopes(&["Terminating"]), true, false),
        (scopes(&["NotTerminating"]), false, true),
        (scopes(&["BestEffort"]), false, true),
        (scopes(&["NotBestEffort", "Terminating"]), true, false),
        (scopes(&["CrossNamespacePodAffinity"]), false, false),
        (class("In", &["high", "low"]), true, false),
        (class("NotIn", &["high"]), false, true),
        (class("Exists", &[]), true, false),
        (class("DoesNotExist", &[]), false, true),
    ] {
        assert_eq!((matches(&quota, &high), matches(&quota, &plain)), (of_high, of_plain), "{quota}");
    }
    assert!(!scopes_match(&scopes(&["Terminating"]), &core("services"), &json!({})));
    let claim = json!({"spec": {"volumeAttributesClassName": "gold"}});
    assert!(scopes_match(&scopes(&["VolumeAttributesClass"]), &core("persistentvolumeclaims"), &claim));
    let mut near = plain;
    near["spec"]["affinity"] = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "a", "namespaceSelector": {}}]}});
    assert!(matches(&scopes(&["CrossNamespacePodAffinity"]), &near));
}

#[test]
fn an_object_that_comes_under_a_quota_is_charged_in_full() {
    let mut scoped = quota(json!({"pods": "5"}), json!({"pods": "1"}));
    scoped["spec"]["scopes"] = json!(["Terminating"]);
    let before = pod(json!({}));
    let mut after = before.clone();
    after["spec"]["activeDeadlineSeconds"] = 5.into();
    let pods = core("pods");
    let charged = charge(&[scoped], &change(&pods, Some(&before), Some(&after))).unwrap();
    assert_eq!(charged[0].quota["status"]["used"]["pods"], "2");
}

#[test]
fn a_count_from_the_beginning() {
    let quota = json!({"metadata": {"name": "q"}, "spec": {"hard": {
        "pods": "5", "count/configmaps": "9", "example.com/unknown": "1", "count/events": "3"}}});
    let (pods, maps, events) = (core("pods"), core("configmaps"), core("events"));
    let known = [pods.clone(), maps.clone(), events.clone()];
    let objects = [json!({}), pod(json!({})), json!({}), json!({})];
    let all = [(&maps, &objects[0]), (&pods, &objects[1]), (&maps, &objects[2]), (&events, &objects[3])];
    let status = recount(&quota, &known, all, now());
    assert_eq!(status["used"], json!({"pods": "1", "count/configmaps": "2"}));
    assert_eq!(status["hard"]["example.com/unknown"], "1");
}

#[test]
fn what_a_quota_may_say() {
    let wrong = |spec: Value| shown(&ResourceQuota.validate(&json!({"spec": spec})));
    assert_eq!(
        wrong(json!({"hard": {"pods": "1", "count/jobs.batch": "2", "requests.example.com/gpu": "1"}})),
        ""
    );
    assert_eq!(
        wrong(json!({"hard": {"pods": "1.5"}})),
        "spec.hard[pods]: Invalid value: \"1.5\": must be an integer"
    );
    assert_eq!(wrong(json!({"hard": {"nothing": "1"}})).matches("must be a standard resource").count(), 2);
    assert_eq!(
        wrong(json!({"hard": {"storage": "1"}})).matches("must be a standard resource for quota").count(),
        1
    );
    assert_eq!(
        wrong(json!({"hard": {"cpu": "1"}, "scopes": ["BestEffort"]})),
        "spec.scopes: Invalid value: [\"BestEffort\"]: unsupported scope applied to resource"
    );
    assert_eq!(
        wrong(json!({"scopes": ["Terminating", "NotTerminating"]})),
        "spec.scopes: Invalid value: [\"Terminating\",\"NotTerminating\"]: conflicting scopes"
    );
    let selector = |scope: &str, operator: &str, values: &[&str]| {
        let expression = json!({"scopeName": scope, "operator": operator, "values": values});
        wrong(json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [expression]}}))
    };
    assert_eq!(selector("PriorityClass", "In", &["a"]), "");
    assert!(selector("PriorityClass", "In", &[]).contains("must be at least one value"));
    assert!(selector("BestEffort", "In", &["a"]).contains("must be 'Exists' when scope is any of"));
    assert!(selector("Other", "Exists", &[]).contains("unsupported scope"));
    let object = |scopes: &[&str]| json!({"spec": {"scopes": scopes}});
    assert_eq!(ResourceQuota.validate_update(&object(&["Terminating"]), &object(&[])).len(), 1);
    let row = quota(json!({"pods": "2", "limits.cpu": "1"}), json!({"pods": "1"}));
    assert_eq!(ResourceQuota.cells(&row, now())[1..3], [json!("pods: 1/2"), json!("limits.cpu: 0/1")]);
}
