use super::*;
use serde_json::json;

fn policy(text: &str) -> LevelVersion {
    let (level, version) = text.split_once(':').unwrap();
    LevelVersion { level: Level::parse(level).unwrap(), version: Version::parse(version).unwrap() }
}

fn broken(text: &str, annotations: Value, spec: &Value) -> String {
    detailed(&violations(policy(text), Some(&annotations), spec))
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<Box<str>, Box<str>> {
    pairs.iter().map(|(k, v)| (format!("{PREFIX}{k}").into(), (*v).into())).collect()
}

/// A pod that the strictest policy lets through.
fn hardened() -> Value {
    json!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "a", "image": "i", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}],
        "volumes": [{"name": "v", "emptyDir": {}}],
    })
}

#[test]
fn a_bare_pod_is_told_everything_it_lacks() {
    let spec = json!({"securityContext": {}, "containers": [{"name": "a", "image": "i"}]});
    assert_eq!(
        broken("restricted:latest", Value::Null, &spec),
        "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
         unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
         runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), \
         seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
         \"Localhost\")"
    );
    assert_eq!(broken("baseline:latest", Value::Null, &spec), "");
    assert_eq!(broken("restricted:v1.7", Value::Null, &spec).matches('(').count(), 1);
    assert_eq!(broken("restricted:latest", Value::Null, &hardened()), "");
}

#[test]
fn each_check_says_what_is_wrong() {
    // policy, where in the hardened pod, what is put there, what is said
    let rows: &[(&str, &str, Value, &str)] = &[
        ("baseline:latest", "/hostNetwork", json!(true), "host namespaces (hostNetwork=true)"),
        ("baseline:latest", "/hostPID", json!(true), "host namespaces (hostPID=true)"),
        (
            "baseline:latest",
            "/volumes/0",
            json!({"name": "h", "hostPath": {"path": "/"}}),
            "hostPath volumes (volume \"h\")",
        ),
        (
            "restricted:latest",
            "/volumes/0",
            json!({"name": "h", "hostPath": {"path": "/"}}),
            "restricted volume types (volume \"h\" uses restricted volume type \"hostPath\")",
        ),
        (
            "baseline:latest",
            "/containers/0/ports",
            json!([{"hostPort": 90}, {"hostPort": 8080}, {"hostPort": 0}]),
            "hostPort (container \"a\" uses hostPorts 8080, 90)",
        ),
        (
            "baseline:latest",
            "/containers/0/livenessProbe",
            json!({"httpGet": {"host": "10.0.0.1"}}),
            "probe or lifecycle host (container \"a\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        ("baseline:v1.33", "/containers/0/livenessProbe", json!({"httpGet": {"host": "10.0.0.1"}}), ""),
        (
            "baseline:latest",
            "/containers/0/securityContext/privileged",
            json!(true),
            "privileged (container \"a\" must not set securityContext.privileged=true)",
        ),
        (
            "baseline:latest",
            "/containers/0/securityContext/capabilities/add",
            json!(["SYS_ADMIN", "CHOWN"]),
            "non-default capabilities (container \"a\" must not include \"SYS_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            "restricted:latest",
            "/containers/0/securityContext/capabilities/add",
            json!(["CHOWN"]),
            "unrestricted capabilities (container \"a\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            "baseline:v1.35",
            "/containers/0/securityContext/procMount",
            json!("Unmasked"),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "restricted:latest",
            "/containers/0/securityContext/procMount",
            json!("Unmasked"),
            "procMount (container \"a\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "baseline:v1.30",
            "/securityContext/seLinuxOptions",
            json!({"type": "container_engine_t", "user": "u"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"container_engine_t\"; user may not be set)",
        ),
        ("baseline:v1.31", "/securityContext/seLinuxOptions", json!({"type": "container_engine_t"}), ""),
        (
            "restricted:latest",
            "/securityContext/seccompProfile/type",
            json!("Unconfined"),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            "baseline:v1.31",
            "/securityContext/sysctls",
            json!([{"name": "net.ipv4.tcp_rmem"}, {"name": "net.ipv4.tcp_syncookies"}]),
            "forbidden sysctls (net.ipv4.tcp_rmem)",
        ),
        ("baseline:v1.32", "/securityContext/sysctls", json!([{"name": "net.ipv4.tcp_rmem"}]), ""),
        (
            "baseline:latest",
            "/containers/0/securityContext/windowsOptions",
            json!({"hostProcess": true}),
            "hostProcess (container \"a\" must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            "restricted:latest",
            "/containers/0/securityContext/runAsNonRoot",
            json!(false),
            "runAsNonRoot != true (container \"a\" must not set securityContext.runAsNonRoot=false)",
        ),
        (
            "restricted:latest",
            "/securityContext/runAsUser",
            json!(0),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        ("restricted:v1.22", "/securityContext/runAsUser", json!(0), ""),
        (
            "baseline:latest",
            "/securityContext/appArmorProfile",
            json!({"type": "Unconfined"}),
            "forbidden AppArmor profile (pod must not set AppArmor profile type to \"Unconfined\")",
        ),
    ];
    for (policy, pointer, value, said) in rows {
        let mut spec = hardened();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = spec.pointer_mut(parent).unwrap();
        match key.parse::<usize>() {
            Ok(i) if parent.is_array() => parent[i] = value.clone(),
            _ => parent[key] = value.clone(),
        }
        assert_eq!(broken(policy, Value::Null, &spec), *said, "{policy} {pointer}");
    }
}

#[test]
fn annotations_count_where_there_was_no_field() {
    let spec = hardened();
    let apparmor = json!({"container.apparmor.security.beta.kubernetes.io/a": "unconfined"});
    assert_eq!(
        broken("baseline:latest", apparmor, &spec),
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to \
         \"container.apparmor.security.beta.kubernetes.io/a=\"unconfined\"\")"
    );
    let seccomp = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
    assert_eq!(
        broken("baseline:v1.18", seccomp.clone(), &spec),
        "seccompProfile (forbidden annotation seccomp.security.alpha.kubernetes.io/pod=\"unconfined\")"
    );
    assert_eq!(broken("baseline:v1.19", seccomp, &spec), "");
}

#[test]
fn pods_of_windows_and_of_user_namespaces_need_less() {
    let bare = |extra: Value| {
        let mut spec = json!({"containers": [{"name": "a", "securityContext": {"runAsNonRoot": true}}]});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        spec
    };
    assert_eq!(broken("restricted:v1.25", Value::Null, &bare(json!({"os": {"name": "windows"}}))), "");
    assert_ne!(broken("restricted:v1.24", Value::Null, &bare(json!({"os": {"name": "windows"}}))), "");
    let mut own = hardened();
    own["hostUsers"] = false.into();
    own["securityContext"] = json!({"runAsUser": 0, "seccompProfile": {"type": "Localhost"}});
    assert_eq!(broken("restricted:v1.35", Value::Null, &own), "");
    assert!(broken("restricted:v1.34", Value::Null, &own).contains("runAsUser=0"));
}

#[test]
fn ephemeral_and_init_containers_count() {
    let mut spec = hardened();
    spec["ephemeralContainers"] = json!([{"name": "e", "securityContext": {"privileged": true}}]);
    spec["initContainers"] = json!([{"name": "i", "securityContext": {"privileged": true}}]);
    assert_eq!(
        broken("baseline:latest", Value::Null, &spec),
        "privileged (containers \"i\", \"e\" must not set securityContext.privileged=true)"
    );
}

#[test]
fn labels_say_the_policy() {
    let (free, errors) = Policy::of_labels(&labels(&[]));
    assert!(free.is_free() && errors.is_empty());
    let (enforced, _) = Policy::of_labels(&labels(&[("enforce", "baseline"), ("enforce-version", "v1.20")]));
    assert_eq!(enforced.enforce.to_string(), "baseline:v1.20");
    assert_eq!(enforced.warn.to_string(), "baseline:v1.20");
    assert_eq!(enforced.audit.to_string(), "privileged:latest");
    let (told, _) = Policy::of_labels(&labels(&[("enforce", "restricted"), ("warn", "privileged")]));
    assert_eq!(told.warn.level, Level::Privileged);
    let (bad, errors) =
        Policy::of_labels(&labels(&[("enforce", "strict"), ("warn", "x"), ("audit-version", "v1.02")]));
    assert_eq!(bad.enforce.to_string(), "restricted:latest");
    assert_eq!((bad.warn.level, bad.audit.version), (Level::Privileged, Version::Latest));
    assert_eq!(
        errors.iter().map(FieldError::to_string).collect::<Vec<_>>(),
        [
            "metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: \"strict\": must be one of \
             privileged, baseline, restricted",
            "metadata.labels[pod-security.kubernetes.io/audit-version]: Invalid value: \"v1.02\": must be \
             \"latest\" or \"v1.x\"",
            "metadata.labels[pod-security.kubernetes.io/warn]: Invalid value: \"x\": must be one of privileged, \
             baseline, restricted",
        ]
    );
}

#[test]
fn only_containers_and_images_make_a_change_matter() {
    let old = hardened();
    let mut new = old.clone();
    new["tolerations"] = json!([{"operator": "Exists"}]);
    assert!(!matters(&new, &old));
    new["containers"][0]["image"] = "other".into();
    assert!(matters(&new, &old));
    let mut new = old.clone();
    new["ephemeralContainers"] = json!([{"name": "e", "image": "i"}]);
    assert!(matters(&new, &old) && !matters(&old, &new));
}

#[test]
fn checks_are_in_the_order_they_are_reported_in() {
    let key = |c: &checks::Check| (c.level, c.id);
    assert!(checks::TABLE.windows(2).all(|two| key(&two[0]) < key(&two[1])));
    assert!(checks::TABLE.iter().all(|c| c.versions.windows(2).all(|two| two[0].from < two[1].from)));
}
