//! Tests of patches.

use super::*;
use crate::schema::Schemas;
use serde_json::json;

fn schema(name: &str) -> Schema<'static> {
    Schemas::builtin().get(&format!("io.k8s.api.{name}")).unwrap()
}

fn strategic(name: &str, object: Value, patch: Value) -> Result<Value, PatchError> {
    apply(PatchType::Strategic, schema(name), &object, &patch)
}

fn spec(object: Value, patch: Value) -> Value {
    strategic("core.v1.PodSpec", object, patch).unwrap()
}

fn json_patch(object: Value, patch: Value) -> Result<Value, PatchError> {
    apply(PatchType::Json, schema("core.v1.Pod"), &object, &patch)
}

#[test]
fn json_patch_operations() {
    let object = json!({"a": {"b": [1, 2, 3], "c~/d": "x"}, "e": null});
    let cases = [
        (json!([]), object.clone()),
        (
            json!([{"op": "add", "path": "/a/b/1", "value": 9}]),
            json!({"a": {"b": [1, 9, 2, 3], "c~/d": "x"}, "e": null}),
        ),
        (
            json!([{"op": "add", "path": "/a/b/-", "value": 9}]),
            json!({"a": {"b": [1, 2, 3, 9], "c~/d": "x"}, "e": null}),
        ),
        (json!([{"op": "remove", "path": "/a/b/-1"}]), json!({"a": {"b": [1, 2], "c~/d": "x"}, "e": null})),
        (
            json!([{"op": "replace", "path": "/a/c~0~1d", "value": "y"}]),
            json!({"a": {"b": [1, 2, 3], "c~/d": "y"}, "e": null}),
        ),
        (
            json!([{"op": "move", "from": "/a/b", "path": "/f"}]),
            json!({"a": {"c~/d": "x"}, "e": null, "f": [1, 2, 3]}),
        ),
        (
            json!([{"op": "copy", "from": "/a/b/0", "path": "/e"}, {"op": "test", "path": "/e", "value": 1}]),
            json!({"a": {"b": [1, 2, 3], "c~/d": "x"}, "e": 1}),
        ),
        (json!([{"op": "test", "path": "/nowhere", "value": null}]), object.clone()),
    ];
    for (patch, expected) in cases {
        assert_eq!(json_patch(object.clone(), patch.clone()), Ok(expected), "{patch}");
    }
}

#[test]
fn json_patch_errors() {
    let object = json!({"a": {"b": [1]}});
    for patch in [
        json!([{"op": "remove", "path": "/x"}]),
        json!([{"op": "remove", "path": ""}]),
        json!([{"op": "replace", "path": "/x/y", "value": 1}]),
        json!([{"op": "replace", "path": "/a/b/3", "value": 1}]),
        json!([{"op": "test", "path": "/x/y", "value": null}]),
        json!([{"op": "copy", "from": "/a/b/3", "path": "/x"}]),
        json!([{"op": "add"}]),
        json!([{"op": "x", "path": "/a"}]),
        json!([{"op": "add", "path": "/x/y", "value": 1}]),
        json!([{"op": "add", "path": "/a/b/7", "value": 1}]),
        json!([{"op": "add", "path": "a", "value": 1}]),
        json!([{"op": "test", "path": "/a", "value": 1}]),
        json!([{"op": "move", "from": "/a", "path": "/a/b"}]),
    ] {
        let error = json_patch(object.clone(), patch.clone()).unwrap_err();
        assert_eq!(error.to_status().code, 422, "{patch}");
    }
    for patch in [json!({}), json!([1])] {
        let error = json_patch(object.clone(), patch.clone()).unwrap_err();
        assert_eq!(error.to_status().code, 400, "{patch}");
    }
    let many = Value::Array(vec![json!({"op": "test", "path": "/x", "value": null}); 10_001]);
    assert_eq!(json_patch(object.clone(), many).unwrap_err().to_status().code, 413);
}

#[test]
fn json_patch_cannot_grow_without_bound() {
    let copies = Value::Array(vec![json!({"op": "copy", "from": "/a", "path": "/a/-"}); 60]);
    assert_eq!(json_patch(json!({"a": ["x"]}), copies).unwrap_err().to_status().code, 413);
    let nest: Vec<Value> =
        (1..400).map(|n| json!({"op": "add", "path": "/a".repeat(n), "value": {}})).collect();
    assert_eq!(json_patch(json!({}), nest.into()).unwrap_err().to_status().code, 422);
    let fold = Value::Array(vec![json!({"op": "copy", "from": "/a", "path": "/a/b"}); 40]);
    // A copy into itself deepens by one level each time: it stays small, and it is not an error.
    assert!(json_patch(json!({"a": {}}), fold).is_ok());
}

#[test]
fn merge_patch_as_in_the_rfc() {
    for (object, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(
            apply(PatchType::Merge, schema("core.v1.Pod"), &object, &patch),
            Ok(expected),
            "{object} {patch}"
        );
    }
    for patch in [json!([]), json!(1), Value::Null] {
        let error = apply(PatchType::Merge, schema("core.v1.Pod"), &json!({}), &patch).unwrap_err();
        assert_eq!(error.to_status().code, 400);
    }
}

#[test]
fn strategic_lists_merge_by_key() {
    let object =
        json!({"containers": [{"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:1"}]});
    assert_eq!(
        spec(object.clone(), json!({"containers": [{"name": "b", "image": "b:2"}]})),
        json!({"containers": [{"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:2"}]})
    );
    assert_eq!(
        spec(object.clone(), json!({"containers": [{"name": "c", "image": "c:1", "env": null}]}))["containers"],
        json!([{"name": "c", "image": "c:1"}, {"name": "a", "image": "a:1", "args": ["x"]}, {"name": "b", "image": "b:1"}])
    );
    // Atomic lists are replaced.
    assert_eq!(
        spec(object.clone(), json!({"containers": [{"name": "a", "args": ["y"]}]}))["containers"][0],
        json!({"name": "a", "image": "a:1", "args": ["y"]})
    );
    assert_eq!(
        spec(json!({"tolerations": [{"key": "a"}]}), json!({"tolerations": [{"key": "b"}]})),
        json!({"tolerations": [{"key": "b"}]})
    );
    // Ports merge by container port, whatever their protocol.
    let ports = json!({"name": "a", "ports": [{"containerPort": 80, "protocol": "TCP"}]});
    let merged = spec(
        json!({"containers": [ports]}),
        json!({"containers": [{"name": "a", "ports": [{"containerPort": 80, "name": "web"}, {"containerPort": 81}]}]}),
    );
    assert_eq!(
        merged["containers"][0]["ports"],
        json!([{"containerPort": 80, "protocol": "TCP", "name": "web"}, {"containerPort": 81}])
    );
}

#[test]
fn strategic_maps_merge_and_nulls_delete() {
    let object = json!({"metadata": {"labels": {"a": "1", "b": "2"}, "annotations": {"x": "y"}}, "spec": {"replicas": 3}});
    let patch = json!({"metadata": {"labels": {"a": null, "c": "3"}, "annotations": null}, "spec": {"replicas": null, "paused": true}});
    assert_eq!(
        strategic("apps.v1.Deployment", object, patch).unwrap(),
        json!({"metadata": {"labels": {"b": "2", "c": "3"}}, "spec": {"paused": true}})
    );
    // A patch of another type replaces.
    assert_eq!(spec(json!({"containers": {"a": 1}}), json!({"containers": []})), json!({"containers": []}));
}

#[test]
fn strategic_patch_directive() {
    let object = json!({"containers": [{"name": "a"}, {"name": "b"}], "securityContext": {"runAsUser": 1, "fsGroup": 2}});
    let cases = [
        (
            json!({"containers": [{"name": "a", "$patch": "delete"}]}),
            json!([{"name": "b"}]),
            json!({"runAsUser": 1, "fsGroup": 2}),
        ),
        (
            json!({"containers": [{"$patch": "replace"}, {"name": "c"}]}),
            json!([{"name": "c"}]),
            json!({"runAsUser": 1, "fsGroup": 2}),
        ),
        (
            json!({"securityContext": {"$patch": "replace", "fsGroup": 3}}),
            json!([{"name": "a"}, {"name": "b"}]),
            json!({"fsGroup": 3}),
        ),
        (json!({"securityContext": {"$patch": "delete"}}), json!([{"name": "a"}, {"name": "b"}]), json!({})),
        (
            json!({"containers": [{"name": "nobody", "$patch": "delete"}]}),
            json!([{"name": "a"}, {"name": "b"}]),
            json!({"runAsUser": 1, "fsGroup": 2}),
        ),
    ];
    for (patch, containers, context) in cases {
        let merged = spec(object.clone(), patch.clone());
        assert_eq!(merged, json!({"containers": containers, "securityContext": context}), "{patch}");
    }
    assert_eq!(
        spec(json!({}), json!({"volumes": [{"name": "v", "$patch": "delete"}]})),
        json!({"volumes": []})
    );
}

#[test]
fn strategic_retain_keys() {
    let strategy = |object: Value, patch: Value| {
        strategic("apps.v1.DeploymentSpec", json!({"strategy": object}), json!({"strategy": patch}))
    };
    let rolling = json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}});
    let recreate = json!({"$retainKeys": ["type"], "type": "Recreate"});
    assert_eq!(strategy(rolling.clone(), recreate.clone()), Ok(json!({"strategy": {"type": "Recreate"}})));
    let fresh = strategic("apps.v1.DeploymentSpec", json!({}), json!({"strategy": recreate})).unwrap();
    assert_eq!(fresh, json!({"strategy": {"type": "Recreate"}}));
    let volumes = spec(
        json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
        json!({"volumes": [{"$retainKeys": ["name", "hostPath"], "name": "v", "hostPath": {"path": "/x"}}]}),
    );
    assert_eq!(volumes, json!({"volumes": [{"name": "v", "hostPath": {"path": "/x"}}]}));
    for bad in [json!({"$retainKeys": 1}), json!({"$retainKeys": ["type"], "rollingUpdate": {}})] {
        assert_eq!(strategy(rolling.clone(), bad).unwrap_err().to_status().code, 400);
    }
}

#[test]
fn strategic_lists_of_scalars() {
    let object = json!({"finalizers": ["a", "b", "c"]});
    let meta = |patch: Value| {
        let schema = Schemas::builtin().get("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
        apply(PatchType::Strategic, schema, &object, &patch).unwrap()["finalizers"].clone()
    };
    assert_eq!(meta(json!({"finalizers": ["d"]})), json!(["d", "a", "b", "c"]));
    assert_eq!(meta(json!({"finalizers": ["b"]})), json!(["a", "b", "c"]));
    assert_eq!(meta(json!({"$deleteFromPrimitiveList/finalizers": ["a", "x"]})), json!(["b", "c"]));
    assert_eq!(
        meta(
            json!({"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["d", "a"], "finalizers": ["d"]})
        ),
        json!(["d", "a", "c"])
    );
}

#[test]
fn strategic_element_order() {
    let names = |value: Value| -> Vec<String> {
        value["containers"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| c["name"].as_str().unwrap().to_owned())
            .collect()
    };
    let object = json!({"containers": [{"name": "1"}, {"name": "2"}, {"name": "server"}, {"name": "3"}]});
    let order = |list: &[&str]| -> Value { list.iter().map(|n| json!({"name": n})).collect() };
    let patch = json!({"$setElementOrder/containers": order(&["3", "new", "1"]), "containers": [{"name": "new"}, {"name": "2", "$patch": "delete"}]});
    assert_eq!(names(spec(object.clone(), patch)), ["server", "3", "new", "1"]);
    let patch = json!({"$setElementOrder/containers": order(&["1", "2", "3"])});
    assert_eq!(names(spec(object.clone(), patch)), ["1", "2", "server", "3"]);
    let wrong = json!({"$setElementOrder/containers": order(&["1", "2"]), "containers": [{"name": "2"}, {"name": "1"}]});
    assert!(strategic("core.v1.PodSpec", object.clone(), wrong).is_err());
    let fresh = spec(
        json!({}),
        json!({"$setElementOrder/containers": order(&["a"]), "containers": [{"name": "a", "image": null}]}),
    );
    assert_eq!(fresh, json!({"containers": [{"name": "a"}]}));
    for bad in [
        json!({"$setElementOrder": []}),
        json!({"$setElementOrder/containers": 1}),
        json!({"$setElementOrder/nothing": []}),
    ] {
        let code = strategic("core.v1.PodSpec", object.clone(), bad.clone()).unwrap_err().to_status().code;
        assert!((400..=500).contains(&code), "{bad}");
    }
}

#[test]
fn strategic_errors() {
    let object = json!({"containers": [{"name": "a"}]});
    for (patch, code) in [
        (json!({"containers": [{"image": "x"}]}), 500),
        (json!({"containers": [{"name": "a", "$patch": "merge"}]}), 500),
        (json!({"containers": [{"name": "a", "$patch": "x"}]}), 500),
        (json!({"containers": [[]]}), 422),
        (json!({"containers": ["a"]}), 500),
        (json!({"$patch": 1}), 500),
        (json!({"$deleteFromPrimitiveList": ["a"]}), 400),
        (json!([]), 400),
        (json!("x"), 400),
    ] {
        let error = strategic("core.v1.PodSpec", object.clone(), patch.clone()).unwrap_err();
        assert_eq!(error.to_status().code, code, "{patch}");
    }
}

#[test]
fn media_types() {
    for (at, media) in PatchType::MEDIA_TYPES.iter().enumerate() {
        let expected = [PatchType::Json, PatchType::Merge, PatchType::Strategic].get(at).copied();
        assert_eq!(PatchType::parse(media), expected, "{media}");
    }
    assert_eq!(PatchType::parse("application/json"), None);
}

/// Trees of seeded numbers.
struct Seeded(u64);

impl Seeded {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % n
    }

    /// A tree of small keys, so that two of them overlap. `nulls` in maps only where asked for.
    fn tree(&mut self, depth: u32, nulls: bool) -> Value {
        let keys = [
            "containers",
            "name",
            "volumes",
            "metadata",
            "$patch",
            "$retainKeys",
            "$setElementOrder/containers",
            "finalizers",
        ];
        let known = if nulls { 8 } else { 4 };
        match self.below(if depth == 0 { 3 } else { 6 }) {
            0 if nulls => Value::Null,
            0 | 1 => self.below(4).into(),
            2 => ["a", "b", "delete", "replace"][self.below(4) as usize].into(),
            3 => (0..self.below(4)).map(|_| self.tree(depth - 1, nulls)).collect(),
            _ => Value::Object(
                (0..self.below(5))
                    .map(|_| (keys[self.below(known) as usize].into(), self.tree(depth - 1, nulls)))
                    .collect(),
            ),
        }
    }
}

/// The merge patch that turns `from` into `to` (both without nulls).
fn diff(from: &Value, to: &Value) -> Value {
    match (from, to) {
        (Value::Object(from), Value::Object(to)) => {
            let mut patch = serde_json::Map::new();
            for key in from.keys().filter(|key| !to.contains_key(*key)) {
                patch.insert(key.clone(), Value::Null);
            }
            for (key, value) in to {
                match from.get(key) {
                    Some(old) if old == value => {}
                    Some(old) => drop(patch.insert(key.clone(), diff(old, value))),
                    None => drop(patch.insert(key.clone(), value.clone())),
                }
            }
            Value::Object(patch)
        }
        _ => to.clone(),
    }
}

#[test]
fn a_difference_applied_is_the_other_side() {
    let mut random = Seeded(3);
    let mut objects = 0;
    for _ in 0..3000 {
        let (a, b) = (random.tree(4, false), random.tree(4, false));
        if a.is_object() && b.is_object() {
            objects += 1;
            let patch = diff(&a, &b);
            assert_eq!(apply(PatchType::Merge, schema("core.v1.Pod"), &a, &patch), Ok(b), "{a} {patch}");
        }
    }
    assert!(objects > 100);
}

#[test]
fn random_patches_never_panic_and_merge_patches_settle() {
    let mut random = Seeded(5);
    for _ in 0..20_000 {
        let (object, patch) = (random.tree(4, true), random.tree(4, true));
        for kind in [PatchType::Json, PatchType::Merge, PatchType::Strategic] {
            let once = apply(kind, schema("core.v1.PodSpec"), &object, &patch);
            if kind == PatchType::Merge
                && let Ok(once) = once
            {
                let again = apply(kind, schema("core.v1.PodSpec"), &once, &patch);
                assert_eq!(again, Ok(once), "{object} {patch}");
            }
        }
    }
}
