//! StatefulSets (`pkg/apis/apps/validation`, `pkg/registry/apps/statefulset`).

use super::{above_all, is_zero, number_or_percent, template};
use crate::field::FieldError;
use crate::kinds::columns::{age, container_cells, containers, count, name};
use crate::kinds::volume;
use crate::names::dns1123_label;
use crate::resource::{Column, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors, same, selector};
use serde_json::{Map, Value, json};
use std::borrow::Cow;

const ROLLING: &str = "RollingUpdate";
const ON_DELETE: &str = "OnDelete";
/// What an update of the specification may change.
const CHANGEABLE: &[&str] = &[
    "replicas",
    "template",
    "updateStrategy",
    "minReadySeconds",
    "ordinals",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
];

/// StatefulSets.
#[derive(Debug, Default)]
pub struct StatefulSet;

impl Strategy for StatefulSet {
    fn default(&self, object: &mut Value) {
        super::default_template(object);
        let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return };
        default_strategy(spec);
        // Claims within a template say what they are, as they did before they had to.
        let claims = spec.get_mut("volumeClaimTemplates").and_then(Value::as_array_mut);
        for claim in claims.into_iter().flatten().filter_map(Value::as_object_mut) {
            claim.insert("apiVersion".into(), "v1".into());
            claim.insert("kind".into(), "PersistentVolumeClaim".into());
            let status = claim.entry("status").or_insert_with(|| json!({}));
            if status.is_null() {
                *status = json!({});
            }
            if status.get("phase").is_some_and(|p| p != "") {
                continue;
            }
            if let Some(status) = status.as_object_mut() {
                status.insert("phase".into(), "Pending".into());
            }
        }
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        validate_spec(&mut errors, &root.get("spec"));
        errors.done()
    }

    fn validate_create(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let spec = root.get("spec");
        errors.optional_text(&spec.get("serviceName"), |name| dns1123_label(name, false));
        for claim in spec.get("volumeClaimTemplates").items() {
            volume::check_claim_spec(&mut errors, &claim.get("spec"));
        }
        errors.done()
    }

    fn validate_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let fixed = |object: &Value| {
            let mut spec = object.get("spec").and_then(Value::as_object).cloned().unwrap_or_default();
            spec.retain(|field, _| !CHANGEABLE.contains(&field.as_str()));
            Value::Object(spec)
        };
        let mut errors = Errors::new();
        if !same(Some(&fixed(new)), Some(&fixed(old))) {
            let why = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                       'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                       'minReadySeconds' are forbidden";
            errors.forbidden(&At::root(new).get("spec"), why);
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let (root, old) = (At::root(new), At::root(old));
        let status = root.get("status");
        let parts = ["readyReplicas", "currentReplicas", "updatedReplicas", "availableReplicas"];
        for field in ["replicas", "observedGeneration", "collisionCount"].iter().chain(&parts) {
            errors.not_negative(&status.get(field));
        }
        let number = |field: &str| status.get(field).int().unwrap_or(0);
        for field in parts {
            if number(field) > number("replicas") {
                errors.invalid(&status.get(field), "cannot be greater than status.replicas");
            }
        }
        if number("availableReplicas") > number("readyReplicas") {
            let at = status.get("availableReplicas");
            errors.invalid(&at, "cannot be greater than status.readyReplicas");
        }
        super::collisions(&mut errors, &status, &old.get("status"));
        errors.done()
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        dns1123_label(name, prefix)
    }

    fn warnings(&self, new: &Value, old: Option<&Value>) -> Vec<String> {
        let mut told = super::template_warnings(new, old);
        let limit = new.pointer("/spec/revisionHistoryLimit").and_then(Value::as_i64);
        let why = "a negative value retains all historical revisions; a value >= 0 is recommended";
        let wrong = limit.is_some_and(|limit| limit < 0);
        told.extend(wrong.then(|| format!("spec.revisionHistoryLimit: {why}")));
        told
    }

    fn has_generation(&self) -> bool {
        true
    }

    fn columns(&self) -> Vec<Column> {
        let [names, images] = containers();
        vec![name(), column("Ready", "string", "Number of the pod with ready state"), age(), names, images]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let ready = format!("{}/{}", count(&status.get("readyReplicas")), count(&spec.get("replicas")));
        let [names, images] = container_cells(&spec.get("template"));
        vec![table::name(object), ready.into(), table::age(object, now), names, images]
    }
}

/// A rolling update unless another way is asked for; it starts with the last pod.
fn default_strategy(spec: &mut Map<String, Value>) {
    let strategy = spec.entry("updateStrategy").or_insert_with(|| json!({}));
    if strategy.is_null() {
        *strategy = json!({});
    }
    if !strategy.is_object() {
        return;
    }
    if strategy["type"].as_str().unwrap_or_default().is_empty() {
        strategy["type"] = ROLLING.into();
        if strategy["rollingUpdate"].is_null() {
            strategy["rollingUpdate"] = json!({});
        }
    }
    if strategy["type"] == ROLLING
        && strategy["rollingUpdate"].is_object()
        && strategy["rollingUpdate"]["partition"].is_null()
    {
        strategy["rollingUpdate"]["partition"] = 0.into();
    }
    if let Some(strategy) = strategy.as_object_mut() {
        strategy.retain(|_, value| !value.is_null());
    }
}

fn validate_spec(errors: &mut Errors, spec: &At<'_, '_>) {
    let management = spec.get("podManagementPolicy");
    match management.text() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.required(&management, ""),
        _ => errors.invalid(&management, "must be 'OrderedReady' or 'Parallel'"),
    }
    update_strategy(errors, &spec.get("updateStrategy"));
    let retention = spec.get("persistentVolumeClaimRetentionPolicy");
    if retention.present() {
        for field in ["whenDeleted", "whenScaled"] {
            let at = retention.get(field);
            if !["Retain", "Delete"].contains(&at.text()) {
                errors.not_supported(&at, &["Retain", "Delete"]);
            }
        }
    }
    for field in ["replicas", "minReadySeconds"] {
        errors.not_negative(&spec.get(field));
    }
    let ordinals = spec.get("ordinals");
    if ordinals.get("start").int().is_some_and(|n| n < 0) {
        let (at, why) = (ordinals.get("start"), "must be greater than or equal to 0");
        errors.invalid(&at, why);
    }
    let wanted = spec.get("selector");
    let valid = selector::is_valid(&wanted);
    if wanted.present() {
        selector::validate(errors, &wanted);
        if wanted.get("matchLabels").is_empty() && wanted.get("matchExpressions").is_empty() {
            errors.invalid(&wanted, "empty selector is invalid for statefulset");
        }
    } else {
        errors.required(&wanted, "");
    }
    let at = spec.get("template");
    if valid {
        let metadata = at.get("metadata");
        if selector::misses(&wanted, &selector::labels_of(&metadata)) {
            errors.invalid(&metadata.get("labels"), "`selector` does not match template `labels`");
        }
        let made = at.value().map(|template| as_made(template, &spec.get("volumeClaimTemplates")));
        template(errors, &at.with_value(made.as_deref()));
    } else {
        errors.invalid(&wanted, "");
    }
    let pod = at.get("spec");
    let restart = pod.get("restartPolicy");
    if restart.text() != "Always" {
        errors.not_supported(&restart, &["Always"]);
    }
    let deadline = pod.get("activeDeadlineSeconds");
    if deadline.present() {
        errors.forbidden(&deadline, "activeDeadlineSeconds in StatefulSet is not Supported");
    }
}

fn update_strategy(errors: &mut Errors, at: &At<'_, '_>) {
    let rolling = at.get("rollingUpdate");
    match at.get("type").text() {
        "" => errors.required(at, ""),
        ON_DELETE if rolling.present() => {
            errors.invalid(&rolling, format!("only allowed for updateStrategy '{ROLLING}'"));
        }
        ON_DELETE => {}
        ROLLING => {
            errors.not_negative(&rolling.get("partition"));
            let unavailable = rolling.get("maxUnavailable");
            if unavailable.present() {
                number_or_percent(errors, &unavailable);
                if is_zero(&unavailable) {
                    errors.invalid(&unavailable, "cannot be 0");
                }
                if above_all(&unavailable) {
                    errors.invalid(&unavailable, "must not be greater than 100%");
                }
            }
        }
        _ => errors.invalid(at, format!("must be '{ROLLING}' or '{ON_DELETE}'")),
    }
}

/// The template as pods are made of it: hostname and subdomain are given by the controller, and volumes of the
/// names of claim templates are theirs.
fn as_made<'v>(template: &'v Value, claims: &At<'v, '_>) -> Cow<'v, Value> {
    let said = |field: &str| template.pointer(&format!("/spec/{field}")).is_some();
    if !said("hostname") && !said("subdomain") && claims.is_empty() {
        return Cow::Borrowed(template);
    }
    let mut out = template.clone();
    let Some(spec) = out.get_mut("spec").and_then(Value::as_object_mut) else { return Cow::Owned(out) };
    spec.remove("hostname");
    spec.remove("subdomain");
    let name = |claim: At<'v, '_>| claim.value().and_then(|claim| claim.pointer("/metadata/name")).cloned();
    let names: Vec<Value> = claims.items().map(|claim| name(claim).unwrap_or_else(|| "".into())).collect();
    let mut volumes: Vec<Value> = names
        .iter()
        .map(|name| json!({"name": name, "persistentVolumeClaim": {"claimName": name}}))
        .collect();
    let own = spec.get("volumes").and_then(Value::as_array).into_iter().flatten();
    volumes.extend(own.filter(|v| v.get("name").is_none_or(|n| !names.contains(n))).cloned());
    if !volumes.is_empty() {
        spec.insert("volumes".into(), volumes.into());
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::super::tests::workload;
    use super::*;
    use crate::kinds::testing::{now, shown};

    fn set(spec: &Value) -> Value {
        workload("StatefulSet", spec.clone())
    }

    fn claim() -> Value {
        json!({"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}})
    }

    #[test]
    fn defaults() {
        let object = set(&json!({"volumeClaimTemplates": [claim()]}));
        let spec = &object["spec"];
        assert_eq!(spec["podManagementPolicy"], "OrderedReady");
        assert_eq!(
            spec["updateStrategy"],
            json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
        );
        assert_eq!(spec["replicas"], 1);
        assert_eq!(spec["revisionHistoryLimit"], 10);
        assert_eq!(
            spec["persistentVolumeClaimRetentionPolicy"],
            json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
        );
        let claim = &spec["volumeClaimTemplates"][0];
        assert_eq!(claim["kind"], "PersistentVolumeClaim");
        assert_eq!(claim["spec"]["volumeMode"], "Filesystem");
        assert_eq!(claim["status"], json!({"phase": "Pending"}));
        assert_eq!(shown(&StatefulSet.validate(&object)), "");
        // Who asks for a rolling update by name and says no more gets no partition.
        let bare = set(&json!({"updateStrategy": {"type": "RollingUpdate"}}));
        assert_eq!(bare["spec"]["updateStrategy"], json!({"type": "RollingUpdate"}));
    }

    #[test]
    fn what_is_wrong() {
        let mount = json!({"metadata": {"labels": {"app": "web"}}, "spec": {"hostname": "Not_A_Label",
            "containers": [{"name": "c", "image": "web:1", "volumeMounts": [{"name": "data", "mountPath": "/d"}]}]}});
        for (spec, wrong) in [
            (json!({"template": mount.clone(), "volumeClaimTemplates": [claim()]}), ""),
            (
                json!({"template": mount}),
                "spec.template.spec.containers[0].volumeMounts[0].name: Not found: \"data\"",
            ),
            (
                json!({"podManagementPolicy": "Chaos"}),
                "spec.podManagementPolicy: Invalid value: \"Chaos\": must be 'OrderedReady' or 'Parallel'",
            ),
            (
                json!({"updateStrategy": {"type": "OnDelete", "rollingUpdate": {"partition": 1}}}),
                "spec.updateStrategy.rollingUpdate: Invalid value: {\"partition\":1}: only allowed for updateStrategy 'RollingUpdate'",
            ),
            (
                json!({"updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0}}}),
                "spec.updateStrategy.rollingUpdate.maxUnavailable: Invalid value: 0: cannot be 0",
            ),
            (
                json!({"persistentVolumeClaimRetentionPolicy": {"whenScaled": "Burn"}}),
                "spec.persistentVolumeClaimRetentionPolicy.whenScaled: Unsupported value: \"Burn\": supported values: \"Retain\", \"Delete\"",
            ),
            (
                json!({"ordinals": {"start": -1}}),
                "spec.ordinals.start: Invalid value: -1: must be greater than or equal to 0",
            ),
            (
                json!({"selector": {}}),
                "spec.selector: Invalid value: {}: empty selector is invalid for statefulset",
            ),
        ] {
            assert_eq!(shown(&StatefulSet.validate(&set(&spec))), wrong, "{spec}");
        }
        let named = set(&json!({"serviceName": "a.b"}));
        assert!(shown(&StatefulSet.validate_create(&named)).starts_with("spec.serviceName: Invalid value"));
        let bare = set(&json!({"volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]}));
        let text = shown(&StatefulSet.validate_create(&bare));
        assert!(text.starts_with("spec.volumeClaimTemplates[0].spec.accessModes: Required value"), "{text}");
        let endless = set(&json!({"revisionHistoryLimit": -1}));
        assert_eq!(StatefulSet.warnings(&endless, None).len(), 1);
        assert_eq!(StatefulSet.warnings(&named, None), [""; 0]);
    }

    #[test]
    fn only_some_fields_change() {
        let old = set(&json!({"serviceName": "web"}));
        let mut new = set(&json!({"serviceName": "web", "replicas": 3, "minReadySeconds": 4}));
        new["spec"]["template"]["spec"]["containers"][0]["image"] = "web:2".into();
        assert_eq!(shown(&StatefulSet.validate_update(&new, &old)), "");
        new["spec"]["podManagementPolicy"] = "Parallel".into();
        assert!(shown(&StatefulSet.validate_update(&new, &old)).starts_with("spec: Forbidden: updates to"));
        new["status"] = json!({"replicas": 1, "currentReplicas": 2});
        let text = shown(&StatefulSet.validate_status_update(&new, &old));
        assert_eq!(text, "status.currentReplicas: Invalid value: 2: cannot be greater than status.replicas");
        assert_eq!(StatefulSet.cells(&new, now()), ["web", "0/3", "2m", "c,s", "web:2,side"]);
    }
}
