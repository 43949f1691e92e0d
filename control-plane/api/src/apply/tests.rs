//! Tables of what appliers and updaters do to each other.

use super::*;
use crate::schema::{Schema, Schemas, check_patched};
use crate::{FieldValidation, GroupVersionKind};
use serde_json::{Value, json};

fn schema(name: &str) -> Schema<'static> {
    Schemas::builtin().get(&format!("io.k8s.api.{name}")).unwrap()
}

fn deployments() -> Schema<'static> {
    schema("apps.v1.Deployment")
}

fn writer<'a>(manager: &'a str, now: &'a str) -> Writer<'a> {
    Writer { manager, api_version: "apps/v1", subresource: "", reset: &["status"], now }
}

const T1: &str = "2024-01-01T00:00:01Z";
const T2: &str = "2024-01-01T00:00:02Z";

fn config(spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a", "namespace": "d"}, "spec": spec})
}

fn containers(list: Value) -> Value {
    config(json!({"template": {"spec": {"containers": list}}}))
}

/// Applies and cleans as the registry does.
fn applied(
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    now: &str,
    force: bool,
) -> Result<Value, ApplyError> {
    let mut new = apply(deployments(), live, config, &writer(manager, now), force, &OneVersion)?;
    let gvk = GroupVersionKind::new("apps", "v1", "Deployment");
    check_patched(deployments(), &gvk, &mut new, &[], FieldValidation::Strict).unwrap();
    Ok(new)
}

fn updated(live: Option<&Value>, mut new: Value, manager: &str, now: &str) -> Value {
    let managed = track(deployments(), live, &mut new, &writer(manager, now), &OneVersion).unwrap();
    put_managed(&mut new, managed, live);
    new
}

/// What a manager owns, as `fieldsV1`.
fn owns(object: &Value, manager: &str) -> Value {
    let entries = object["metadata"]["managedFields"].as_array().cloned().unwrap_or_default();
    entries.iter().find(|e| e["manager"] == manager).map_or(Value::Null, |e| e["fieldsV1"].clone())
}

#[test]
fn an_applier_owns_what_it_names() {
    let list = json!([{"name": "c", "image": "i", "ports": [{"containerPort": 80}], "args": ["x"]}]);
    let made = applied(None, &containers(list), "one", T1, false).unwrap();
    assert_eq!(
        made["metadata"]["managedFields"],
        json!([{
            "apiVersion": "apps/v1", "fieldsType": "FieldsV1", "manager": "one", "operation": "Apply", "time": T1,
            "fieldsV1": {"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {
                ".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
            }}}}}},
        }])
    );
}

#[test]
fn a_conflict_names_manager_and_field() {
    let one = applied(None, &config(json!({"replicas": 1, "paused": true})), "one", T1, false).unwrap();
    let other = config(json!({"replicas": 2}));
    let error = applied(Some(&one), &other, "two", T2, false).unwrap_err().to_status();
    assert_eq!((error.code, error.reason.as_str()), (409, "Conflict"));
    assert_eq!(error.message, "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas");
    let cause = &error.details.unwrap().causes[0];
    assert_eq!(
        (cause.reason.as_str(), cause.message.as_str(), cause.field.as_str()),
        ("FieldManagerConflict", "conflict with \"one\"", ".spec.replicas")
    );
    let mut scaled = one.clone();
    scaled["spec"]["replicas"] = 3.into();
    let scaled = updated(Some(&one), scaled, "kubectl-client-side-apply", T2);
    let error = applied(Some(&scaled), &other, "two", T2, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"kubectl-client-side-apply\" using apps/v1: .spec.replicas"
    );
    let both = config(json!({"replicas": 2, "paused": false}));
    assert_eq!(
        applied(Some(&scaled), &both, "two", T2, false).unwrap_err().to_string(),
        "Apply failed with 2 conflicts: conflicts with \"kubectl-client-side-apply\" using apps/v1:\n\
         - .spec.replicas\nconflicts with \"one\":\n- .spec.paused"
    );
    // Force takes it over.
    let forced = applied(Some(&scaled), &other, "two", T2, true).unwrap();
    assert_eq!(forced["spec"]["replicas"], 2);
    assert_eq!(owns(&forced, "two"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(owns(&forced, "one"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(owns(&forced, "kubectl-client-side-apply"), Value::Null);
}

#[test]
fn the_same_value_is_shared() {
    let spec = config(json!({"replicas": 1}));
    let one = applied(None, &spec, "one", T1, false).unwrap();
    let both = applied(Some(&one), &spec, "two", T2, false).unwrap();
    assert_eq!(owns(&both, "one"), owns(&both, "two"));
    // What one gives up stays while the other owns it, and goes with the last.
    let mut nothing = config(Value::Null);
    nothing.as_object_mut().unwrap().remove("spec");
    let left = applied(Some(&both), &nothing, "one", T2, false).unwrap();
    assert_eq!((left["spec"]["replicas"].clone(), owns(&left, "one")), (json!(1), Value::Null));
    let gone = applied(Some(&left), &nothing, "two", T2, false).unwrap();
    assert_eq!(gone.pointer("/spec/replicas"), None);
    assert_eq!(gone["metadata"].get("managedFields"), None);
}

/// From the containers of one applier and of a second, what stays after the first applies a third list.
#[test]
fn items_go_with_their_last_applier() {
    let c = |name: &str| json!({"name": name, "image": "i"});
    for (first, second, third, stays) in [
        (json!([c("a"), c("b")]), json!([]), json!([c("a")]), json!(["a"])),
        (json!([c("a"), c("b")]), json!([{"name": "b"}]), json!([c("a")]), json!(["a", "b"])),
        (json!([c("a")]), json!([c("b")]), json!([c("c"), c("a")]), json!(["c", "a", "b"])),
        (json!([c("a")]), json!([c("b")]), json!([]), json!(["b"])),
        (json!([c("a"), c("b")]), json!([]), json!([c("b"), c("a")]), json!(["b", "a"])),
    ] {
        let live = applied(None, &containers(first.clone()), "one", T1, false).unwrap();
        let live = applied(Some(&live), &containers(second.clone()), "two", T1, false).unwrap();
        let new = applied(Some(&live), &containers(third.clone()), "one", T2, false).unwrap();
        let list = new["spec"]["template"]["spec"]["containers"].as_array().cloned().unwrap_or_default();
        let names: Vec<&Value> = list.iter().map(|c| &c["name"]).collect();
        assert_eq!(json!(names), stays, "{first} {second} {third}");
    }
}

#[test]
fn an_updaters_field_in_an_item_does_not_keep_it() {
    let live = applied(None, &containers(json!([{"name": "a"}, {"name": "b"}])), "one", T1, false).unwrap();
    let mut new = live.clone();
    new["spec"]["template"]["spec"]["containers"][1]["image"] = "x".into();
    let live = updated(Some(&live), new, "two", T2);
    assert_eq!(
        owns(&live, "two"),
        json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"b\"}": {"f:image": {}}}}}}})
    );
    let new = applied(Some(&live), &containers(json!([{"name": "a"}])), "one", T2, false).unwrap();
    assert_eq!(new["spec"]["template"]["spec"]["containers"], json!([{"name": "a"}]));
    assert_eq!(owns(&new, "two"), Value::Null);
}

#[test]
fn sets_and_atomic_lists() {
    let with = |finalizers: Value| {
        let mut object = config(json!({}));
        object["metadata"]["finalizers"] = finalizers;
        object
    };
    let live = applied(None, &with(json!(["x/a", "x/b"])), "one", T1, false).unwrap();
    assert_eq!(
        owns(&live, "one"),
        json!({"f:metadata": {"f:finalizers": {"v:\"x/a\"": {}, "v:\"x/b\"": {}}}, "f:spec": {}})
    );
    let live = applied(Some(&live), &with(json!(["x/c"])), "two", T1, false).unwrap();
    let live = applied(Some(&live), &with(json!(["x/b"])), "one", T2, false).unwrap();
    assert_eq!(live["metadata"]["finalizers"], json!(["x/b", "x/c"]));
    // Arguments are one value: another list is a conflict, as a whole.
    let args = |list: Value| containers(json!([{"name": "a", "args": list}]));
    let live = applied(None, &args(json!(["1", "2"])), "one", T1, false).unwrap();
    let error = applied(Some(&live), &args(json!(["1", "3"])), "two", T2, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.template.spec.containers[name=\"a\"].args"
    );
    // And so is a selector.
    let selector = |label: &str| config(json!({"selector": {"matchLabels": {"app": label}}}));
    let live = applied(None, &selector("a"), "one", T1, false).unwrap();
    assert_eq!(owns(&live, "one"), json!({"f:spec": {"f:selector": {}}}));
    assert!(
        applied(Some(&live), &selector("b"), "two", T2, false)
            .unwrap_err()
            .to_string()
            .ends_with(".spec.selector")
    );
}

#[test]
fn what_is_no_configuration() {
    let mut managed = config(json!({}));
    managed["metadata"]["managedFields"] = json!([]);
    let place = "failed to create typed patch object (d/a; apps/v1, Kind=Deployment): ";
    for (bad, code, why) in [
        (managed, 400, "metadata.managedFields must be nil".to_owned()),
        (config(json!({"foo": 1})), 500, format!("{place}.spec.foo: field not declared in schema")),
        (
            containers(json!([{"name": "a"}, {"name": "a"}])),
            500,
            format!("{place}.spec.template.spec.containers: duplicate entries for key [name=\"a\"]"),
        ),
    ] {
        let status = applied(None, &bad, "one", T1, false).unwrap_err().to_status();
        assert_eq!((status.code, status.message), (code, why));
    }
}

#[test]
fn updates_are_recorded_by_manager() {
    let mut new =
        config(json!({"replicas": 1, "template": {"spec": {"containers": [{"name": "a", "image": "i"}]}}}));
    new["metadata"]["labels"] = json!({"x": "y"});
    new["status"] = json!({"replicas": 1});
    let made = updated(None, new, "maker", T1);
    assert_eq!(
        owns(&made, "maker"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:x": {}}},
            "f:spec": {"f:replicas": {}, "f:template": {"f:spec": {"f:containers": {
                "k:{\"name\":\"a\"}": {".": {}, "f:name": {}, "f:image": {}}}}}},
        })
    );
    // Writing back what was read changes nothing, whoever does it and whenever.
    assert_eq!(updated(Some(&made), made.clone(), "other", T2), made);
    let mut without = made.clone();
    without["metadata"].as_object_mut().unwrap().remove("managedFields");
    assert_eq!(updated(Some(&made), without, "other", T2), made);
    // A removed field is nobody's.
    let mut less = made.clone();
    less["spec"].as_object_mut().unwrap().remove("replicas");
    less["metadata"]["labels"] = json!({"x": "z"});
    let less = updated(Some(&made), less, "other", T2);
    assert_eq!(owns(&less, "other"), json!({"f:metadata": {"f:labels": {"f:x": {}}}}));
    assert_eq!(owns(&less, "maker")["f:spec"].get("f:replicas"), None);
    // The same manager below another place is another manager.
    let status = Writer { subresource: "status", reset: &["spec"], ..writer("maker", T2) };
    let mut new = less.clone();
    new["status"] = json!({"replicas": 2});
    let managed = track(deployments(), Some(&less), &mut new, &status, &OneVersion).unwrap().unwrap();
    let entry = managed.as_array().unwrap().iter().find(|e| e["subresource"] == "status").unwrap();
    assert_eq!(
        (entry["manager"].clone(), entry["fieldsV1"].clone()),
        (json!("maker"), json!({"f:status": {"f:replicas": {}}}))
    );
}

#[test]
fn ownership_can_be_given_up() {
    let made = updated(None, config(json!({"replicas": 1})), "maker", T1);
    for reset in [json!([]), json!([{}])] {
        let mut new = made.clone();
        new["metadata"]["managedFields"] = reset;
        let bare = updated(Some(&made), new, "other", T2);
        assert_eq!(bare["metadata"].get("managedFields"), None);
        let mut new = bare.clone();
        new["spec"]["replicas"] = 2.into();
        assert_eq!(updated(Some(&bare), new, "other", T2)["metadata"].get("managedFields"), None);
        // The first to apply finds what was there before.
        let live = applied(Some(&bare), &config(json!({"paused": true})), "one", T2, false).unwrap();
        assert_eq!(owns(&live, "before-first-apply"), json!({"f:spec": {"f:replicas": {}}}));
    }
}

#[test]
fn the_oldest_updaters_become_one() {
    let mut live = updated(None, config(json!({"replicas": 1})), "maker", T1);
    for at in 0..12 {
        let mut new = live.clone();
        new["metadata"]["labels"][format!("l{at}")] = "x".into();
        live = updated(Some(&live), new, &format!("m{at}"), &format!("2024-01-01T00:01:{at:02}Z"));
    }
    let managed = live["metadata"]["managedFields"].as_array().unwrap();
    assert_eq!(managed.len(), 10);
    let old = owns(&live, "ancient-changes");
    assert_eq!(old["f:spec"], json!({"f:replicas": {}}));
    assert_eq!(old["f:metadata"]["f:labels"], json!({".": {}, "f:l0": {}, "f:l1": {}, "f:l2": {}}));
    assert_ne!(owns(&live, "m3"), Value::Null);
}

#[test]
fn an_apply_that_changes_nothing_keeps_its_time() {
    let spec = containers(json!([{"name": "a", "image": "i"}]));
    let live = applied(None, &spec, "one", T1, false).unwrap();
    assert_eq!(applied(Some(&live), &spec, "one", T2, false).unwrap(), live);
}

#[test]
fn kubectl_takes_over_what_it_applied_by_itself() {
    const NOTE: &str = "kubectl.kubernetes.io/last-applied-configuration";
    let spec = config(json!({"replicas": 1, "paused": true}));
    let mut first = spec.clone();
    first["metadata"]["annotations"] = json!({NOTE: spec.to_string()});
    let live = updated(None, first, "kubectl-client-side-apply", T1);
    let mut next = config(json!({"replicas": 5}));
    next["metadata"]["labels"] = json!({"x": "y"});
    assert!(matches!(applied(Some(&live), &next, "other", T2, false), Err(ApplyError::Conflicts(_))));
    let new = applied(Some(&live), &next, "kubectl", T2, false).unwrap();
    assert_eq!(new["spec"], json!({"replicas": 5, "paused": true}));
    let note: Value = serde_json::from_str(new["metadata"]["annotations"][NOTE].as_str().unwrap()).unwrap();
    assert_eq!(note, next);
    // What somebody else changed since is a conflict all the same.
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = 7.into();
    let scaled = updated(Some(&live), scaled, "scaler", T2);
    let error = applied(Some(&scaled), &next, "kubectl", T2, false).unwrap_err();
    assert_eq!(
        error.to_string(),
        "Apply failed with 1 conflict: conflict with \"scaler\" using apps/v1: .spec.replicas"
    );
}
