//! Pods: each row is a change of a good pod and what must be said about it.

use super::*;
use crate::kinds::testing::{complete, context, now, shown};

fn pod() -> Value {
    complete(json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "d"},
        "spec": {
            "volumes": [{"name": "data"}, {"name": "config", "configMap": {"name": "c"}}],
            "containers": [{
                "name": "c", "image": "web:1", "ports": [{"name": "http", "containerPort": 80}],
                "env": [{"name": "A", "value": "b"}],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
                "readinessProbe": {"httpGet": {"port": "http"}},
                "resources": {"limits": {"cpu": "1"}},
            }],
        },
    }))
}

/// The pod with one field set.
fn with(pointer: &str, value: Value) -> Value {
    let mut object = pod();
    set(&mut object, pointer, value);
    object
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    let parent = object.pointer_mut(parent).unwrap_or_else(|| panic!("{pointer}"));
    match (parent, key.parse::<usize>()) {
        (Value::Array(list), Ok(i)) => list[i] = value,
        (parent, _) => parent[key] = value,
    }
}

#[test]
fn a_good_pod_passes() {
    assert_eq!(Pod.validate(&pod()), []);
    assert_eq!(Pod.validate_create(&pod()), []);
    assert_eq!(Pod.validate_update(&pod(), &pod()), []);
    let container = &pod()["spec"]["containers"][0];
    assert_eq!(container["ports"][0]["protocol"], "TCP");
    assert_eq!(container["readinessProbe"]["httpGet"]["scheme"], "HTTP");
    assert_eq!(container["resources"]["requests"]["cpu"], "1");
}

#[test]
fn what_is_wrong_with_a_pod() {
    let container = "/spec/containers/0";
    let rows = [
        ("/spec/containers", json!([]), "spec.containers: Required value"),
        (
            "/spec/restartPolicy",
            json!("Maybe"),
            "spec.restartPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"OnFailure\", \"Never\"",
        ),
        (
            "/spec/dnsPolicy",
            json!("None"),
            "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None",
        ),
        (
            "/spec/dnsConfig",
            json!({"nameservers": ["a"]}),
            "spec.dnsConfig.nameservers[0]: Invalid value: \"a\": must be a valid IP",
        ),
        (
            "/spec/dnsConfig",
            json!({"searches": ["a b"]}),
            "spec.dnsConfig.searches[0]: Invalid value: \"a b\"",
        ),
        ("/spec/nodeName", json!("A"), "spec.nodeName: Invalid value: \"A\": a lowercase RFC 1123 subdomain"),
        ("/spec/hostname", json!("a.b"), "spec.hostname: Invalid value: \"a.b\""),
        ("/spec/serviceAccountName", json!("A"), "spec.serviceAccountName: Invalid value: \"A\""),
        ("/spec/nodeSelector", json!({"a b": "c"}), "spec.nodeSelector: Invalid value: \"a b\""),
        (
            "/spec/activeDeadlineSeconds",
            json!(0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
        ),
        (
            "/spec/schedulingGates",
            json!([{"name": "a b"}]),
            "spec.schedulingGates[0]: Invalid value: \"a b\"",
        ),
        (
            "/spec/readinessGates",
            json!([{"conditionType": "a b"}]),
            "spec.readinessGates[0].conditionType: Invalid value",
        ),
        ("/spec/hostAliases", json!([{"ip": "x"}]), "spec.hostAliases[0].ip: Invalid value: \"x\""),
        (
            "/spec/tolerations",
            json!([{"key": "a", "operator": "Exists", "value": "b"}]),
            "spec.tolerations[0].operator: Invalid value: \"b\": value must be empty",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Equal"}]),
            "spec.tolerations[0].operator: Invalid value: \"Equal\": operator must be Exists",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Exists", "tolerationSeconds": 3}]),
            "spec.tolerations[0].effect: Invalid value: \"\": effect must be 'NoExecute'",
        ),
        (
            "/spec/tolerations",
            json!([{"operator": "Exists", "effect": "Never"}]),
            "spec.tolerations[0].effect: Unsupported value: \"Never\"",
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 0, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}]),
            "spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than zero",
        ),
        (
            "/spec/topologySpreadConstraints",
            json!([{"maxSkew": 1, "topologyKey": "", "whenUnsatisfiable": "x"}]),
            "spec.topologySpreadConstraints[0].topologyKey: Required value: can not be empty; spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value",
        ),
        (
            "/spec/affinity",
            json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}),
            "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms: Required value: must have at least one",
        ),
        (
            "/spec/affinity",
            json!({"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 0, "podAffinityTerm": {"topologyKey": "a"}}]}}),
            "spec.affinity.podAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 0: must be in the range 1-100",
        ),
        (
            "/spec/affinity",
            json!({"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{}]}}),
            "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].topologyKey: Required value: can not be empty",
        ),
        (
            "/spec/securityContext",
            json!({"runAsUser": -1}),
            "spec.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647",
        ),
        (
            "/spec/securityContext",
            json!({"seccompProfile": {"type": "Localhost"}}),
            "spec.securityContext.seccompProfile.localhostProfile: Required value: must be set when seccomp type is Localhost",
        ),
        (
            "/spec/securityContext",
            json!({"sysctls": [{"name": "A"}]}),
            "spec.securityContext.sysctls[0].name: Invalid value: \"A\": must have at most 253",
        ),
        (
            "/spec/securityContext",
            json!({"fsGroupChangePolicy": "x"}),
            "spec.securityContext.fsGroupChangePolicy: Unsupported value",
        ),
        (
            "/spec/os",
            json!({"name": "dos"}),
            "spec.os: Unsupported value: \"dos\": supported values: \"linux\", \"windows\"",
        ),
        (
            "/spec/resources",
            json!({"requests": {"pods": "1"}}),
            "spec.resources.requests[pods]: Unsupported value: \"pods\"",
        ),
        // Containers.
        ("/spec/containers/0/name", json!(""), "spec.containers[0].name: Required value"),
        (
            "/spec/containers/0/name",
            json!("A"),
            "spec.containers[0].name: Invalid value: \"A\": a lowercase RFC 1123 label",
        ),
        ("/spec/containers/0/image", json!(""), "spec.containers[0].image: Required value"),
        (
            "/spec/containers/0/image",
            json!(" web"),
            "spec.containers[0].image: Invalid value: \" web\": must not have leading or trailing whitespace",
        ),
        (
            "/spec/containers/0/imagePullPolicy",
            json!("Now"),
            "spec.containers[0].imagePullPolicy: Unsupported value: \"Now\"",
        ),
        (
            "/spec/containers/0/ports/0/containerPort",
            json!(0),
            "spec.containers[0].ports[0].containerPort: Required value",
        ),
        (
            "/spec/containers/0/ports/0/containerPort",
            json!(70000),
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "/spec/containers/0/ports/0/protocol",
            json!("ICMP"),
            "spec.containers[0].ports[0].protocol: Unsupported value: \"ICMP\": supported values: \"SCTP\", \"TCP\", \"UDP\"",
        ),
        (
            "/spec/containers/0/ports/0/name",
            json!("HTTP"),
            "spec.containers[0].ports[0].name: Invalid value: \"HTTP\": must contain only alpha-numeric",
        ),
        ("/spec/containers/0/env", json!([{"name": ""}]), "spec.containers[0].env[0].name: Required value"),
        (
            "/spec/containers/0/env",
            json!([{"name": "a=b"}]),
            "spec.containers[0].env[0].name: Invalid value: \"a=b\": a valid environment variable name",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {}}]),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": must specify one of",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "value": "x", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]),
            "spec.containers[0].env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s"}}}]),
            "spec.containers[0].env[0].valueFrom.secretKeyRef.key: Required value",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "spec.nope"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.nope\": error converting fieldPath: field label not supported: spec.nope",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.labels['a b']"}}}]),
            "spec.containers[0].env[0].valueFrom.fieldRef: Invalid value: \"a b\"",
        ),
        (
            "/spec/containers/0/env",
            json!([{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.gpu"}}}]),
            "spec.containers[0].env[0].valueFrom.resourceFieldRef.resource: Unsupported value: \"limits.gpu\"",
        ),
        (
            "/spec/containers/0/envFrom",
            json!([{}]),
            "spec.containers[0].envFrom: Invalid value: \"\": must specify one of: `configMapRef` or `secretRef`",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "gone", "mountPath": "/x"}]),
            "spec.containers[0].volumeMounts[0].name: Not found: \"gone\"",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "data", "mountPath": ""}]),
            "spec.containers[0].volumeMounts[0].mountPath: Required value",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "data", "mountPath": "/x"}, {"name": "config", "mountPath": "/x"}]),
            "spec.containers[0].volumeMounts[1].mountPath: Invalid value: \"/x\": must be unique",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "data", "mountPath": "/x", "subPath": "../y"}]),
            "spec.containers[0].volumeMounts.subPath: Invalid value: \"../y\": must not contain '..'",
        ),
        (
            "/spec/containers/0/volumeMounts",
            json!([{"name": "data", "mountPath": "/x", "mountPropagation": "Bidirectional"}]),
            "spec.containers[0].volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation",
        ),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
        ),
        (
            "/spec/containers/0/readinessProbe/httpGet",
            json!(null),
            "spec.containers[0].readinessProbe: Required value: must specify a handler type",
        ),
        (
            "/spec/containers/0/readinessProbe/periodSeconds",
            json!(-1),
            "spec.containers[0].readinessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "/spec/containers/0/readinessProbe/exec",
            json!({"command": ["a"]}),
            "spec.containers[0].readinessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
        ),
        (
            "/spec/containers/0/livenessProbe",
            json!({"tcpSocket": {"port": 80}, "successThreshold": 2}),
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
        ),
        (
            "/spec/containers/0/lifecycle",
            json!({"preStop": {"sleep": {"seconds": 99}}}),
            "spec.containers[0].lifecycle.preStop.sleep: Invalid value: 99: must be non-negative and less than terminationGracePeriodSeconds (30)",
        ),
        (
            "/spec/containers/0/securityContext",
            json!({"privileged": true, "allowPrivilegeEscalation": false}),
            "spec.containers[0].securityContext: Invalid value: ",
        ),
        (
            "/spec/containers/0/resizePolicy",
            json!([{"resourceName": "gpu", "restartPolicy": "NotRequired"}]),
            "spec.containers[0].resizePolicy: Unsupported value: \"gpu\"",
        ),
        // Volumes.
        (
            "/spec/volumes/0",
            json!({"name": "data"}),
            "spec.volumes[0]: Required value: must specify a volume type",
        ),
        ("/spec/volumes/1/name", json!("data"), "spec.volumes[1].name: Duplicate value: \"data\""),
        ("/spec/volumes/1/name", json!("A"), "spec.volumes[1].name: Invalid value: \"A\""),
        (
            "/spec/volumes/1/emptyDir",
            json!({}),
            "spec.volumes[1].configMap: Forbidden: may not specify more than 1 volume type",
        ),
        ("/spec/volumes/1/configMap/name", json!(""), "spec.volumes[1].configMap.name: Required value"),
        (
            "/spec/volumes/1/configMap/defaultMode",
            json!(512),
            "spec.volumes[1].configMap.defaultMode: Invalid value: 512: must be a number between 0 and 0777",
        ),
        (
            "/spec/volumes/1/configMap/items",
            json!([{"key": "a", "path": "/b"}]),
            "spec.volumes[1].configMap.items[0].path: Invalid value: \"/b\": must be a relative path",
        ),
        (
            "/spec/volumes/1",
            json!({"name": "config", "hostPath": {"path": "/a/../b", "type": ""}}),
            "spec.volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            "/spec/volumes/1",
            json!({"name": "config", "secret": {}}),
            "spec.volumes[1].secret.secretName: Required value",
        ),
        (
            "/spec/volumes/1",
            json!({"name": "config", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 60}}]}}),
            "spec.volumes[1].projected.sources[0].serviceAccountToken.expirationSeconds: Invalid value: 60: may not specify a duration less than 10 minutes",
        ),
    ];
    assert_eq!(Pod.validate(&with(&format!("{container}/env"), json!([]))), []);
    for (pointer, value, wrong) in rows {
        let text = shown(&Pod.validate(&with(pointer, value.clone())));
        assert!(text.starts_with(wrong), "{pointer}: {value}\n is {text}\nnot {wrong}");
    }
}

#[test]
fn several_containers() {
    let second = |name: &str, port: Value| {
        let mut object = pod();
        let mut container = object["spec"]["containers"][0].clone();
        container["name"] = name.into();
        container["ports"] = port;
        object["spec"]["containers"].as_array_mut().unwrap().push(container);
        shown(&Pod.validate(&object))
    };
    assert_eq!(second("d", json!([])), "");
    assert_eq!(second("c", json!([])), "spec.containers[1].name: Duplicate value: \"c\"");
    let port = json!({"containerPort": 80, "hostPort": 8080, "protocol": "TCP"});
    assert_eq!(
        second("d", json!([port, port])),
        "spec.containers[1].ports[1].hostPort: Duplicate value: \"TCP//8080\""
    );
    let mut object = pod();
    let init = json!({"name": "i", "image": "a:1", "livenessProbe": {"exec": {"command": ["a"]}}});
    object["spec"]["initContainers"] = json!([init]);
    let mut object = complete(object);
    let text = shown(&Pod.validate(&object));
    assert_eq!(
        text,
        "spec.initContainers[0].livenessProbe: Forbidden: may not be set for init containers without restartPolicy=Always"
    );
    object["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
    assert_eq!(Pod.validate(&object), []);
}

#[test]
fn a_new_pod_is_pending_with_its_class() {
    let mut object = with("/status", json!({"phase": "Running"}));
    Pod.prepare_create(&mut object, &context());
    assert_eq!(object["status"], json!({"phase": "Pending", "qosClass": "Burstable"}));
    object["spec"]["schedulingGates"] = json!([{"name": "g"}]);
    Pod.prepare_create(&mut object, &context());
    assert_eq!(object["status"]["conditions"][0]["reason"], "SchedulingGated");
    object["spec"]["nodeName"] = "n1".into();
    assert_eq!(
        shown(&Pod.validate_create(&object)),
        "spec.nodeName: Forbidden: cannot be set until all schedulingGates have been cleared"
    );
    let ephemeral = with("/spec/ephemeralContainers", json!([{"name": "e", "image": "a:1"}]));
    assert_eq!(
        shown(&Pod.validate_create(&ephemeral)),
        "spec.ephemeralContainers: Forbidden: cannot be set on create"
    );
}

#[test]
fn what_may_change() {
    let old = with("/spec/tolerations", json!([{"key": "a", "operator": "Exists", "effect": "NoExecute"}]));
    let change = |pointer: &str, value: Value| {
        let mut new = old.clone();
        set(&mut new, pointer, value);
        shown(&Pod.validate_update(&new, &old))
    };
    let toleration = |seconds: Value| json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds});
    for (pointer, value, wrong) in [
        ("/spec/containers/0/image", json!("web:2"), ""),
        ("/spec/activeDeadlineSeconds", json!(10), ""),
        ("/spec/tolerations", json!([toleration(json!(5))]), ""),
        ("/spec/tolerations", json!([toleration(json!(null)), {"key": "b", "operator": "Exists"}]), ""),
        ("/spec/containers/0/resources", json!({"limits": {"cpu": "1000m"}, "requests": {"cpu": 1}}), ""),
        (
            "/spec/tolerations",
            json!([]),
            "spec.tolerations: Forbidden: existing toleration can not be modified",
        ),
        (
            "/spec/nodeName",
            json!("n2"),
            "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`",
        ),
        (
            "/spec/containers/0/env",
            json!([]),
            "spec: Forbidden: pod updates may not change fields other than",
        ),
        (
            "/spec/containers/0/resources",
            json!({"limits": {"cpu": "2"}}),
            "spec: Forbidden: pod updates may not change",
        ),
        (
            "/spec/containers",
            json!([]),
            "spec.containers: Forbidden: pod updates may not add or remove containers",
        ),
        (
            "/spec/schedulingGates",
            json!([{"name": "g"}]),
            "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'g'",
        ),
        ("/spec/terminationGracePeriodSeconds", json!(1), "spec: Forbidden"),
    ] {
        let text = change(pointer, value.clone());
        assert!(text.starts_with(wrong) && text.is_empty() == wrong.is_empty(), "{pointer}: {value}: {text}");
    }
    let deadline = |seconds: Value| with("/spec/activeDeadlineSeconds", seconds);
    let text = shown(&Pod.validate_update(&deadline(json!(20)), &deadline(json!(10))));
    assert!(text.ends_with("20: must be less than or equal to previous value"), "{text}");
    let text = shown(&Pod.validate_update(&pod(), &deadline(json!(10))));
    assert!(text.ends_with("must not update from a positive integer to nil value"), "{text}");
}

#[test]
fn a_gated_pod_may_be_narrowed() {
    let mut old = with("/spec/schedulingGates", json!([{"name": "g"}]));
    old["spec"]["nodeSelector"] = json!({"a": "b"});
    let mut new = old.clone();
    new["spec"]["nodeSelector"] = json!({"a": "b", "c": "d"});
    new["spec"]["schedulingGates"] = json!([]);
    assert_eq!(Pod.validate_update(&new, &old), []);
    new["spec"]["nodeSelector"] = json!({"c": "d"});
    assert!(
        shown(&Pod.validate_update(&new, &old)).contains("only additions to spec.nodeSelector are allowed")
    );
}

#[test]
fn status_updates() {
    let status = |value: Value| with("/status", value);
    let ended = json!({"qosClass": "Burstable", "containerStatuses": [{"name": "c", "state": {"terminated": {"exitCode": 0}}}]});
    let running =
        json!({"qosClass": "Burstable", "containerStatuses": [{"name": "c", "state": {"running": {}}}]});
    assert_eq!(Pod.validate_status_update(&status(running.clone()), &status(ended.clone())), []);
    let mut never = status(ended);
    never["spec"]["restartPolicy"] = "Never".into();
    let text = shown(&Pod.validate_status_update(&status(running), &never));
    assert_eq!(
        text,
        "status.containerStatuses[0].state: Forbidden: may not be transitioned to non-terminated state"
    );
    for (new, wrong) in [
        (
            json!({"qosClass": "Guaranteed"}),
            "status.qosClass: Invalid value: \"Guaranteed\": field is immutable",
        ),
        (json!({"qosClass": "Burstable", "podIPs": [{"ip": "a"}]}), "status.podIPs[0]: Invalid value: \"a\""),
        (
            json!({"qosClass": "Burstable", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}]}),
            "status.podIPs: Invalid value",
        ),
        (
            json!({"qosClass": "Burstable", "hostIP": "10.0.0.1", "hostIPs": [{"ip": "10.0.0.2"}]}),
            "status.hostIPs[0].ip: Invalid value",
        ),
        (
            json!({"qosClass": "Burstable", "conditions": [{"type": "a b"}]}),
            "status.conditions[0].Type: Invalid value",
        ),
    ] {
        let text =
            shown(&Pod.validate_status_update(&status(new), &status(json!({"qosClass": "Burstable"}))));
        assert!(text.starts_with(wrong), "{text}");
    }
    let old = status(json!({"qosClass": "Burstable", "observedGeneration": 3,
        "conditions": [{"type": "Ready", "observedGeneration": 2}]}));
    let mut new = status(json!({"conditions": [{"type": "Ready", "status": "True"}]}));
    new["spec"]["nodeName"] = "n9".into();
    new["metadata"]["ownerReferences"] = json!([{"name": "x"}]);
    Pod.prepare_status_update(&mut new, &old);
    assert_eq!(new["status"]["qosClass"], "Burstable");
    assert_eq!(new["status"]["observedGeneration"], 3);
    assert_eq!(new["status"]["conditions"][0]["observedGeneration"], 2);
    assert!(new["spec"].get("nodeName").is_none() && new["metadata"].get("ownerReferences").is_none());
}

#[test]
fn grace() {
    let mut object = pod();
    assert_eq!(Pod.graceful_deletion(&object, None), Some(0), "not scheduled");
    object["spec"]["nodeName"] = "n1".into();
    assert_eq!(Pod.graceful_deletion(&object, None), Some(30));
    assert_eq!(Pod.graceful_deletion(&object, Some(5)), Some(5));
    assert_eq!(Pod.graceful_deletion(&object, Some(0)), Some(0));
    assert_eq!(Pod.graceful_deletion(&object, Some(-1)), Some(1));
    object["status"]["phase"] = "Succeeded".into();
    assert_eq!(Pod.graceful_deletion(&object, Some(5)), Some(0), "finished");
}

#[test]
fn a_binding_writes_node_and_condition() {
    let old = with("/status", json!({"phase": "Pending"}));
    let binding = json!({"metadata": {"name": "web"}, "target": {"kind": "Node", "name": "n1"}});
    let mut new = bind(&old, &binding, now()).unwrap();
    Pod.prepare_subresource_update("binding", &mut new, &old);
    assert_eq!(new["spec"]["nodeName"], "n1");
    assert_eq!(new["status"]["conditions"][0]["type"], "PodScheduled");
    assert_eq!(Pod.validate_subresource_update("binding", &new, &old), []);
    assert!(!Pod.generation_changes(&new, &old));
    assert!(Pod.generation_changes(&with("/spec/containers/0/image", json!("web:2")), &pod()));
}

#[test]
fn subresources_change_their_part_alone() {
    let old = with("/spec/nodeName", json!("n1"));
    let mut new = with("/spec/ephemeralContainers", json!([{"name": "e", "image": "a:1"}]));
    new = complete(new);
    Pod.prepare_subresource_update("ephemeralcontainers", &mut new, &old);
    assert_eq!(new["spec"]["nodeName"], "n1");
    assert_eq!(Pod.validate_subresource_update("ephemeralcontainers", &new, &old), []);
    let text = shown(&Pod.validate_subresource_update("ephemeralcontainers", &old, &new));
    assert!(text.starts_with(
        "spec.ephemeralContainers: Forbidden: existing ephemeral containers \"e\" may not be removed"
    ));
    let mut bigger =
        with("/spec/containers/0/resources", json!({"limits": {"cpu": "2"}, "requests": {"cpu": "1"}}));
    bigger["spec"]["containers"][0]["image"] = "other".into();
    Pod.prepare_subresource_update("resize", &mut bigger, &old);
    assert_eq!(bigger["spec"]["containers"][0]["image"], "web:1");
    assert_eq!(bigger["spec"]["containers"][0]["resources"]["limits"]["cpu"], "2");
    assert_eq!(Pod.validate_subresource_update("resize", &bigger, &old), []);
}

/// Phase, statuses of init containers and of containers, how many containers there are, and the cells READY, STATUS
/// and RESTARTS: the facts of upstream's own table.
type Row = (&'static str, Vec<Value>, Vec<Value>, usize, &'static str, &'static str, &'static str);

#[test]
fn the_words_for_a_pod() {
    let ago = |seconds: i64| jiff::Timestamp::from_second(now().as_second() - seconds).unwrap().to_string();
    let running = json!({"running": {}});
    let waiting = |reason: &str| json!({"waiting": {"reason": reason}});
    let ended = |code: i64, reason: &str| json!({"terminated": {"exitCode": code, "reason": reason}});
    let status = |ready: bool, restarts: i64, state: &Value, last: i64| {
        let mut out = json!({"ready": ready, "restartCount": restarts, "state": state});
        if last > 0 {
            out["lastState"] = json!({"terminated": {"finishedAt": ago(last)}});
        }
        out
    };
    let none = json!({});
    let rows: Vec<Row> = vec![
        (
            "podPhase",
            vec![],
            vec![status(true, 3, &running, 0), json!({"restartCount": 3})],
            2,
            "1/2",
            "podPhase",
            "6",
        ),
        (
            "podPhase",
            vec![],
            vec![status(true, 3, &running, 0), status(false, 3, &waiting("ContainerWaitingReason"), 0)],
            2,
            "1/2",
            "ContainerWaitingReason",
            "6",
        ),
        (
            "podPhase",
            vec![],
            vec![status(true, 3, &running, 0), status(false, 3, &ended(0, "Completed"), 0)],
            2,
            "1/2",
            "Running",
            "6",
        ),
        (
            "p",
            vec![status(false, 3, &running, 10)],
            vec![status(false, 0, &none, 0)],
            1,
            "0/1",
            "Init:0/1",
            "3 (10s ago)",
        ),
        (
            "p",
            vec![status(false, 0, &ended(0, ""), 0), status(false, 3, &running, 10)],
            vec![status(false, 0, &waiting(""), 0)],
            1,
            "0/1",
            "Init:1/2",
            "3 (10s ago)",
        ),
        (
            "p",
            vec![status(false, 2, &ended(0, ""), 120), status(false, 3, &running, 10)],
            vec![],
            1,
            "0/1",
            "Init:1/2",
            "5 (10s ago)",
        ),
        (
            "Running",
            vec![status(false, 2, &ended(0, ""), 120)],
            vec![status(false, 4, &running, 20)],
            1,
            "0/1",
            "Running",
            "4 (20s ago)",
        ),
        ("Running", vec![], vec![status(true, 3, &running, 5 * 86_400)], 1, "1/1", "Running", "3 (5d ago)"),
        (
            "Running",
            vec![],
            vec![status(true, 6, &running, 5 * 86_400), status(true, 3, &running, 20 * 86_400)],
            2,
            "2/2",
            "Running",
            "9 (5d ago)",
        ),
        ("Succeeded", vec![], vec![status(false, 0, &ended(0, "Completed"), 0)], 1, "0/1", "Completed", "0"),
        ("Failed", vec![], vec![status(false, 0, &ended(1, "Error"), 0)], 1, "0/1", "Error", "0"),
        ("Running", vec![], vec![status(false, 0, &ended(7, ""), 0)], 1, "0/1", "ExitCode:7", "0"),
        ("p", vec![status(false, 0, &ended(1, "Error"), 0)], vec![], 1, "0/1", "Init:Error", "0"),
        ("p", vec![status(false, 0, &ended(3, ""), 0)], vec![], 1, "0/1", "Init:ExitCode:3", "0"),
        (
            "p",
            vec![status(false, 0, &waiting("ImagePullBackOff"), 0)],
            vec![],
            1,
            "0/1",
            "Init:ImagePullBackOff",
            "0",
        ),
        ("p", vec![status(false, 0, &waiting("PodInitializing"), 0)], vec![], 1, "0/1", "Init:0/1", "0"),
    ];
    for (phase, init, containers, total, ready, word, restarts) in rows {
        let object = json!({
            "metadata": {"name": "t"},
            "spec": {"initContainers": vec![json!({}); init.len()], "containers": vec![json!({}); total]},
            "status": {"phase": phase, "initContainerStatuses": init, "containerStatuses": containers, "conditions": [{"type": "Ready", "status": "True"}]},
        });
        let cells = Pod.cells(&object, now());
        assert_eq!(cells[1..4], [json!(ready), json!(word), json!(restarts)], "{object}");
        assert_eq!(cells.len(), Pod.columns().len());
    }
}

#[test]
fn further_words_and_wide_columns() {
    let mut object = json!({
        "metadata": {"name": "t", "creationTimestamp": "2026-05-01T11:00:00Z"},
        "spec": {
            "nodeName": "n1", "containers": [{}], "readinessGates": [{"conditionType": "a"}, {"conditionType": "b"}],
            "initContainers": [{"name": "s", "restartPolicy": "Always"}],
        },
        "status": {
            "phase": "Running", "podIPs": [{"ip": "10.244.0.5"}], "conditions": [{"type": "a", "status": "True"}],
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 1, "state": {"running": {}}}],
            "containerStatuses": [{"ready": true, "state": {"running": {}}}],
        },
    });
    assert_eq!(
        Pod.cells(&object, now()),
        ["t", "2/2", "Running", "1", "60m", "10.244.0.5", "n1", "<none>", "1/2"]
    );
    object["metadata"]["deletionTimestamp"] = "2026-05-01T11:59:00Z".into();
    assert_eq!(Pod.cells(&object, now())[2], "Terminating");
    object["status"]["reason"] = "NodeLost".into();
    assert_eq!(Pod.cells(&object, now())[2], "Unknown");
    let gated = json!({"status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "reason": "SchedulingGated"}]}});
    assert_eq!(Pod.cells(&gated, now())[2], "SchedulingGated");
    let evicted = json!({"status": {"phase": "Failed", "reason": "Evicted"}});
    assert_eq!(Pod.cells(&evicted, now())[2], "Evicted");
    let half = json!({"status": {"phase": "Running", "containerStatuses": [
        {"state": {"terminated": {"reason": "Completed", "exitCode": 0}}}, {"ready": true, "state": {"running": {}}}]}});
    assert_eq!(Pod.cells(&half, now())[2], "NotReady");
}
