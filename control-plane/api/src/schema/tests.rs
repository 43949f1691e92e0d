//! Tests of the built-in schema set and of what is done with it.

use super::*;
use serde_json::json;

fn schema(name: &str) -> Schema<'static> {
    Schemas::builtin().get(&format!("io.k8s.api.{name}")).unwrap()
}

fn gvk(group: &'static str, kind: &'static str) -> GroupVersionKind {
    GroupVersionKind::new(group, "v1", kind)
}

fn deployment(change: impl FnOnce(&mut Value)) -> Value {
    let mut value = json!({
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "web", "image": "web:1"}]},
            },
        },
    });
    change(&mut value);
    value
}

fn check_deployment(value: &mut Value, validation: FieldValidation) -> Result<Vec<String>, Status> {
    check(schema("apps.v1.Deployment"), &gvk("apps", "Deployment"), value, &[], validation)
}

#[test]
fn the_set_is_whole() {
    let set = Schemas::builtin();
    assert!(set.types().len() > 700, "{}", set.types().len());
    assert!(set.types().is_sorted_by(|a, b| a.name < b.name));
    for this in set.types() {
        assert!(this.fields.is_sorted_by(|a, b| a.name < b.name), "{}", this.name);
        for field in this.fields.iter() {
            for text in [&field.default, &field.zero].into_iter().flatten() {
                serde_json::from_str::<Value>(text)
                    .unwrap_or_else(|e| panic!("{}.{}: {e}", this.name, field.name));
            }
            if let Some(key) = &field.merge.key {
                let element =
                    set.get(&this.name).and_then(|s| s.field(&field.name)).and_then(|f| f.1.element());
                assert!(
                    element.unwrap().field(key).is_some(),
                    "{}.{}: no merge key {key}",
                    this.name,
                    field.name
                );
            }
        }
    }
}

#[test]
fn facts_are_where_they_belong() {
    let spec = schema("core.v1.PodSpec");
    let (containers, list) = spec.field("containers").unwrap();
    assert!(containers.required && containers.merge.merge);
    assert_eq!(containers.merge.key.as_deref(), Some("name"));
    assert_eq!(*list.list_type(), ListType::Map(vec!["name".into()].into()));
    let (volumes, _) = spec.field("volumes").unwrap();
    assert!(volumes.merge.merge && volumes.merge.retain_keys);
    assert!(schema("apps.v1.DeploymentSpec").field("strategy").unwrap().0.merge.retain_keys);
    assert_eq!(*spec.field("nodeSelector").unwrap().1.node(), Node::Map(string_node(), true));
    assert_eq!(*spec.field("tolerations").unwrap().1.list_type(), ListType::Atomic);
    let finalizers = schema("core.v1.Pod").at("metadata.finalizers").unwrap();
    assert_eq!(*finalizers.list_type(), ListType::Set);
    let ports = schema("core.v1.Service").at("spec.ports").unwrap();
    assert_eq!(*ports.list_type(), ListType::Map(vec!["port".into(), "protocol".into()].into()));
    assert!(schema("core.v1.ObjectReference").structure().unwrap().atomic);
    let doc = Schemas::builtin().doc(containers.doc);
    assert!(doc.starts_with("List of containers belonging to the pod."), "{doc}");
}

fn string_node() -> u32 {
    let at = (0..).find(|i| Schemas::builtin().node_at(*i) == Some(&Node::String));
    at.unwrap()
}

#[test]
fn unknown_fields_are_dropped_named_or_refused() {
    let make = || {
        deployment(|d| {
            d["spec"]["foo"] = 1.into();
            d["spec"]["template"]["spec"]["containers"][0]["bar"] = json!({"x": 1});
            d["baz"] = Value::Null;
        })
    };
    let clean = deployment(|_| {});
    let mut value = make();
    assert_eq!(check_deployment(&mut value, FieldValidation::Ignore), Ok(vec![]));
    assert_eq!(value, clean);
    let mut value = make();
    let warnings = check_deployment(&mut value, FieldValidation::Warn).unwrap();
    assert_eq!(
        warnings,
        [
            r#"unknown field "baz""#,
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.template.spec.containers[0].bar""#
        ]
    );
    assert_eq!(value, clean);
    let status = check_deployment(&mut make(), FieldValidation::Strict).unwrap_err();
    assert_eq!(status.code, 400);
    assert_eq!(
        status.message,
        "Deployment in version \"v1\" cannot be handled as a Deployment: strict decoding error: unknown field \"baz\", \
         unknown field \"spec.foo\", unknown field \"spec.template.spec.containers[0].bar\""
    );
}

#[test]
fn keys_that_stand_twice_are_named_or_refused() {
    let body = br#"{"metadata":{"name":"a"},"data":{"k":"1","k":"2"}}"#;
    let read = |v| read(schema("core.v1.ConfigMap"), &gvk("", "ConfigMap"), body, Format::Json, v);
    let (value, warnings) = read(FieldValidation::Warn).unwrap();
    assert_eq!(warnings, [r#"duplicate field "data.k""#]);
    assert_eq!(
        value,
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "2"}})
    );
    let status = read(FieldValidation::Strict).unwrap_err();
    assert!(
        status.message.ends_with("strict decoding error: duplicate field \"data.k\""),
        "{}",
        status.message
    );
}

#[test]
fn wrong_types_are_refused_in_gos_words() {
    let cases: &[(&str, Value, &str)] = &[
        (
            "/spec/replicas",
            json!("3"),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/spec/replicas",
            json!(1.5),
            "json: cannot unmarshal number 1.5 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/spec/replicas",
            json!(4_000_000_000_u64),
            "json: cannot unmarshal number 4000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            "/spec/paused",
            json!("no"),
            "json: cannot unmarshal string into Go struct field DeploymentSpec.spec.paused of type bool",
        ),
        (
            "/spec",
            json!([]),
            "json: cannot unmarshal array into Go struct field Deployment.spec of type v1.DeploymentSpec",
        ),
        (
            "/spec/template/spec/containers",
            json!({}),
            "json: cannot unmarshal object into Go struct field PodSpec.spec.template.spec.containers of type []v1.Container",
        ),
        (
            "/spec/template/spec/containers/0/image",
            json!(7),
            "json: cannot unmarshal number into Go struct field Container.spec.template.spec.containers.image of type string",
        ),
        (
            "/metadata/labels",
            json!({"a": true}),
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            "/metadata/creationTimestamp",
            json!("x"),
            "parsing time \"x\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"x\" as \"2006\"",
        ),
        (
            "/spec/template/spec/containers/0/resources",
            json!({"limits": {"cpu": "lots"}}),
            "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
    ];
    for (path, wrong, message) in cases {
        let mut value = deployment(|d| put(d, path, wrong.clone()));
        let status = check_deployment(&mut value, FieldValidation::Warn).unwrap_err();
        assert_eq!(status.code, 400);
        let expected = format!("Deployment in version \"v1\" cannot be handled as a Deployment: {message}");
        assert_eq!(status.message, expected, "{path}");
        let mut value = deployment(|d| put(d, path, wrong.clone()));
        let patched = check_patched(
            schema("apps.v1.Deployment"),
            &gvk("apps", "Deployment"),
            &mut value,
            &[],
            FieldValidation::Warn,
        );
        assert_eq!(patched.unwrap_err().code, 422);
    }
}

fn put(value: &mut Value, path: &str, what: Value) {
    let (parent, key) = path.rsplit_once('/').unwrap();
    value.pointer_mut(parent).unwrap()[key] = what;
}

#[test]
fn what_a_body_says_it_is_must_fit() {
    let mut value = deployment(|d| {
        d.as_object_mut().unwrap().remove("apiVersion");
        d["kind"] = "".into();
    });
    check_deployment(&mut value, FieldValidation::Strict).unwrap();
    assert_eq!((&value["apiVersion"], &value["kind"]), (&json!("apps/v1"), &json!("Deployment")));
    let status = check_deployment(&mut deployment(|d| d["apiVersion"] = "v1".into()), FieldValidation::Warn)
        .unwrap_err();
    assert_eq!(
        status.message,
        "the API version in the data (v1) does not match the expected API version (apps/v1)"
    );
    let status =
        check_deployment(&mut deployment(|d| d["kind"] = "ReplicaSet".into()), FieldValidation::Warn)
            .unwrap_err();
    assert!(status.message.starts_with("ReplicaSet in version \"v1\" cannot be handled as a Deployment"));
    assert_eq!(check_deployment(&mut json!([]), FieldValidation::Warn).unwrap_err().code, 400);
}

#[test]
fn values_take_the_form_that_is_stored() {
    let mut value = json!({
        "metadata": {
            "name": "p", "labels": {"a": null}, "annotations": {}, "creationTimestamp": null,
            "deletionTimestamp": "2026-01-02T03:04:05.678+02:00",
        },
        "spec": {
            "hostNetwork": false, "nodeName": "", "terminationGracePeriodSeconds": 0, "volumes": [],
            "nodeSelector": {}, "securityContext": {},
            "containers": [{
                "name": "c", "env": null, "command": [],
                "resources": {"limits": {"cpu": 1.5, "memory": "1024Mi"}, "requests": {"cpu": "1000m"}},
                "ports": [{"containerPort": 80, "hostPort": 0}],
                "livenessProbe": {"httpGet": {"port": "web"}, "periodSeconds": 0},
            }],
        },
    });
    check(schema("core.v1.Pod"), &gvk("", "Pod"), &mut value, &[], FieldValidation::Strict).unwrap();
    assert_eq!(
        value,
        json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p", "labels": {"a": ""}, "deletionTimestamp": "2026-01-02T01:04:05Z"},
            "spec": {
                "terminationGracePeriodSeconds": 0, "securityContext": {},
                "containers": [{
                    "name": "c",
                    "resources": {"limits": {"cpu": "1500m", "memory": "1Gi"}, "requests": {"cpu": "1"}},
                    "ports": [{"containerPort": 80}],
                    "livenessProbe": {"httpGet": {"port": "web"}},
                }],
            },
        })
    );
    let mut lease = json!({"metadata": {"name": "l"}, "spec": {"renewTime": "2026-01-02T03:04:05.1Z"}});
    check(
        schema("coordination.v1.Lease"),
        &gvk("coordination.k8s.io", "Lease"),
        &mut lease,
        &[],
        FieldValidation::Strict,
    )
    .unwrap();
    assert_eq!(lease["spec"]["renewTime"], "2026-01-02T03:04:05.100000Z");
    let mut secret = json!({"metadata": {"name": "s"}, "data": {"a": "aGk=", "b": ""}});
    check(schema("core.v1.Secret"), &gvk("", "Secret"), &mut secret, &[], FieldValidation::Strict).unwrap();
    let mut secret = json!({"metadata": {"name": "s"}, "data": {"a": "!"}});
    let status =
        check(schema("core.v1.Secret"), &gvk("", "Secret"), &mut secret, &[], FieldValidation::Strict)
            .unwrap_err();
    assert!(status.message.ends_with("illegal base64 data at input byte 0"), "{}", status.message);
}

#[test]
fn defaults_are_filled_in_once() {
    let mut value = deployment(|d| {
        let spec = &mut d["spec"]["template"]["spec"];
        spec["volumes"] = json!([{"name": "v", "configMap": {"name": "c"}}]);
        spec["containers"][0]["readinessProbe"] = json!({"httpGet": {"port": 80}, "failureThreshold": 5});
        spec["containers"][0]["ports"] = json!([{"containerPort": 80}]);
        spec["dnsPolicy"] = "".into();
    });
    check_deployment(&mut value, FieldValidation::Strict).unwrap();
    apply_defaults(schema("apps.v1.Deployment"), &mut value);
    let once = value.clone();
    apply_defaults(schema("apps.v1.Deployment"), &mut value);
    assert_eq!(value, once);
    assert_eq!(
        value["spec"],
        json!({
            "replicas": 1, "revisionHistoryLimit": 10, "progressDeadlineSeconds": 600,
            "selector": {"matchLabels": {"app": "web"}}, "strategy": {"type": "RollingUpdate"},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler",
                    "securityContext": {}, "terminationGracePeriodSeconds": 30,
                    "volumes": [{"name": "v", "configMap": {"name": "c", "defaultMode": 420}}],
                    "containers": [{
                        "name": "web", "image": "web:1", "resources": {},
                        "ports": [{"containerPort": 80, "protocol": "TCP"}],
                        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                        "readinessProbe": {
                            "httpGet": {"path": "/", "port": 80, "scheme": "HTTP"}, "failureThreshold": 5,
                            "periodSeconds": 10, "successThreshold": 1, "timeoutSeconds": 1,
                        },
                    }],
                },
            },
        })
    );
    // Checking what has been defaulted changes nothing.
    check_deployment(&mut value, FieldValidation::Strict).unwrap();
    assert_eq!(value, once);
}

#[test]
fn zero_values_stand_where_go_writes_them() {
    let mut value = json!({"metadata": {"name": "r"}, "spec": {"selector": {}}});
    apply_defaults(schema("apps.v1.ReplicaSet"), &mut value);
    assert_eq!(value["status"], json!({"replicas": 0}));
    let mut service = json!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}});
    apply_defaults(schema("core.v1.Service"), &mut service);
    assert_eq!(service["status"], json!({"loadBalancer": {}}));
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["spec"]["sessionAffinity"], "None");
    let mut binding = json!({"roleRef": {"kind": "Role", "name": "x", "apiGroup": ""}});
    apply_defaults(schema("rbac.v1.RoleBinding"), &mut binding);
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
}

/// A small generator of numbers, so that the samples below are the same on every run.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        self.0 >> 33
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = Seeded(7);
    let good = serde_json::to_vec(&deployment(|_| {})).unwrap();
    for round in 0..1500 {
        let mut body = good.clone();
        for _ in 0..=random.next() % 6 {
            let at = (random.next() as usize) % body.len();
            match random.next() % 3 {
                0 => body[at] = random.next() as u8,
                1 => drop(body.remove(at)),
                _ => body.insert(at, b"{}[]\":,&*!-0\n"[(random.next() % 13) as usize]),
            }
        }
        for format in [Format::Json, Format::Yaml] {
            let result = read(
                schema("apps.v1.Deployment"),
                &gvk("apps", "Deployment"),
                &body,
                format,
                FieldValidation::Warn,
            );
            if let Ok((mut value, _)) = result {
                apply_defaults(schema("apps.v1.Deployment"), &mut value);
                let mut again = value.clone();
                check_deployment(&mut again, FieldValidation::Strict)
                    .unwrap_or_else(|e| panic!("round {round}: {e}"));
                // Reading drops null, which Go writes for some lists that are not there.
                apply_defaults(schema("apps.v1.Deployment"), &mut again);
                assert_eq!(again, value, "round {round}");
            }
        }
    }
}

#[test]
fn empty_lists_that_go_always_writes_become_null() {
    let role = schema("rbac.v1.ClusterRole");
    let mut value = json!({"rules": [], "aggregationRule": {"clusterRoleSelectors": []}});
    forget_empty_lists(role, &mut value);
    assert_eq!(value, json!({"rules": null, "aggregationRule": {"clusterRoleSelectors": []}}));
    let node = schema("storage.v1.CSINode");
    let mut value = json!({"spec": {"drivers": [{"name": "d", "topologyKeys": []}]}});
    forget_empty_lists(node, &mut value);
    assert_eq!(value, json!({"spec": {"drivers": [{"name": "d", "topologyKeys": null}]}}));
}
