use super::*;
use crate::kinds::testing::{complete, now, shown};
use crate::resource::Strategy;
use serde_json::{Value, json};

const GROUP: &str = "admissionregistration.k8s.io/v1";

fn hook() -> Value {
    complete(json!({
        "apiVersion": GROUP, "kind": "MutatingWebhookConfiguration", "metadata": {"name": "a"},
        "webhooks": [{
            "name": "a.example.com", "sideEffects": "None", "admissionReviewVersions": ["v1"],
            "clientConfig": {"service": {"name": "s", "namespace": "n", "path": "/a/b"}},
            "rules": [{"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}],
        }],
    }))
}

#[test]
fn webhooks_get_defaults_and_are_checked() {
    let base = hook();
    let first = &base["webhooks"][0];
    assert_eq!(first["timeoutSeconds"], 10);
    assert_eq!(first["rules"][0]["scope"], "*");
    assert_eq!(first["clientConfig"]["service"]["port"], 443);
    assert_eq!(first["reinvocationPolicy"], "Never");
    let service = json!({"name": "", "namespace": "n", "path": "//", "port": 0});
    for (pointer, value, wrong) in [
        (
            "/name",
            json!("short"),
            "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
        ),
        (
            "/sideEffects",
            json!("Some"),
            "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        ),
        (
            "/timeoutSeconds",
            json!(31),
            "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        ),
        (
            "/admissionReviewVersions",
            json!(["v2"]),
            "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
        ),
        (
            "/rules/0/resources",
            json!(["*/*", "pods"]),
            "webhooks[0].rules[0].resources: Invalid value: [\"*/*\",\"pods\"]: if '*/*' is present, must not specify other resources",
        ),
        (
            "/rules/0/operations",
            json!(["*", "CREATE"]),
            "webhooks[0].rules[0].operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations",
        ),
        ("/clientConfig", json!({"url": "https://example.com/a"}), ""),
        (
            "/clientConfig",
            json!({"url": "http://example.com"}),
            "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        ),
        (
            "/clientConfig",
            json!({"url": "https://a@b/?x#y"}),
            "webhooks[0].clientConfig.url: Invalid value: \"a\": user information is not permitted in the URL; webhooks[0].clientConfig.url: Invalid value: \"y\": fragments are not permitted in the URL; webhooks[0].clientConfig.url: Invalid value: \"x\": query parameters are not permitted in the URL",
        ),
        (
            "/clientConfig",
            json!({}),
            "webhooks[0].clientConfig: Required value: exactly one of url or service is required",
        ),
        (
            "/clientConfig/service",
            service,
            "webhooks[0].clientConfig.service.name: Required value; webhooks[0].clientConfig.service.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive; webhooks[0].clientConfig.service.path: Invalid value: \"//\": segment[0] may not be empty",
        ),
    ] {
        let mut object = base.clone();
        *object["webhooks"][0].pointer_mut(pointer).unwrap() = value;
        assert_eq!(shown(&MutatingWebhookConfiguration.validate_create(&object)), wrong, "{pointer}");
    }
    assert_eq!(shown(&ValidatingWebhookConfiguration.validate_create(&base)), "");
    assert_eq!(MutatingWebhookConfiguration.cells(&base, now())[1], 1);
}

#[test]
fn an_update_need_not_mend_what_was_wrong_before() {
    let mut old = hook();
    old["webhooks"][0]["sideEffects"] = "Unknown".into();
    old["webhooks"][0]["matchConditions"] = json!([{"name": "", "expression": "true"}]);
    let mut new = old.clone();
    new["webhooks"][0]["timeoutSeconds"] = 5.into();
    assert_eq!(shown(&MutatingWebhookConfiguration.validate_update(&new, &old)), "");
    new["webhooks"][0]["matchConditions"] = json!([{"name": "", "expression": " "}]);
    assert_eq!(
        shown(&MutatingWebhookConfiguration.validate_update(&new, &old)),
        "webhooks[0].matchConditions[0].expression: Required value; webhooks[0].matchConditions[0].name: Required value"
    );
}

fn policy(kind: &str) -> Value {
    complete(json!({
        "apiVersion": GROUP, "kind": kind, "metadata": {"name": "a"},
        "spec": {"matchConstraints": {"resourceRules": [
            {"operations": ["CREATE"], "apiGroups": ["apps"], "apiVersions": ["v1"], "resources": ["deployments"]},
        ]}},
    }))
}

#[test]
fn policies_say_what_they_lack() {
    let mut validating = policy("ValidatingAdmissionPolicy");
    assert_eq!(validating["spec"]["failurePolicy"], "Fail");
    assert_eq!(validating["spec"]["matchConstraints"]["matchPolicy"], "Equivalent");
    let lacking = shown(&ValidatingAdmissionPolicy.validate_create(&validating));
    assert!(
        lacking.starts_with("spec.validations: Required value: validations or auditAnnotations"),
        "{lacking}"
    );
    validating["spec"]["validations"] = json!([{"expression": "object.spec.replicas > 1"}]);
    validating["spec"]["variables"] = json!([{"name": "in", "expression": "1"}]);
    validating["spec"]["paramKind"] = json!({"apiVersion": "rules.example.com/v1", "kind": "ReplicaLimit"});
    assert_eq!(
        shown(&ValidatingAdmissionPolicy.validate_create(&validating)),
        "spec.variables[0].name: Invalid value: \"in\": must be a valid CEL identifier"
    );
    assert_eq!(
        ValidatingAdmissionPolicy.cells(&validating, now())[1..3],
        [json!(1), json!("rules.example.com/v1/ReplicaLimit")]
    );
    validating["spec"]["paramKind"] = json!({"apiVersion": "a/b/c", "kind": "1"});
    assert_eq!(ValidatingAdmissionPolicy.validate_create(&validating).len(), 3);

    let mut mutating = policy("MutatingAdmissionPolicy");
    mutating["spec"]["reinvocationPolicy"] = "Never".into();
    mutating["spec"]["mutations"] =
        json!([{"patchType": "JSONPatch", "applyConfiguration": {"expression": "x"}}]);
    assert_eq!(
        shown(&MutatingAdmissionPolicy.validate_create(&mutating)),
        "spec.mutations[0].jsonPatch: Required value: must be specified when patchType is JSONPatch; \
         spec.mutations[0].applyConfiguration: Invalid value: \"{applyConfiguration}\": must not be specified when \
         patchType is JSONPatch"
    );
    mutating["spec"]["mutations"] = json!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "x"}}]);
    mutating["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = json!(["DELETE"]);
    assert_eq!(MutatingAdmissionPolicy.validate_create(&mutating).len(), 1);
}

#[test]
fn bindings_name_a_policy_its_parameters_and_what_to_do() {
    let binding = |params: Value, actions: Value| {
        json!({"metadata": {"name": "b"},
            "spec": {"policyName": "p", "paramRef": params, "validationActions": actions}})
    };
    let fine =
        binding(json!({"name": "x", "namespace": "n", "parameterNotFoundAction": "Deny"}), json!(["Deny"]));
    assert_eq!(shown(&ValidatingAdmissionPolicyBinding.validate(&fine)), "");
    assert_eq!(ValidatingAdmissionPolicyBinding.cells(&fine, now())[1..3], [json!("p"), json!("n/x")]);
    for (params, actions, count) in [
        (json!({"parameterNotFoundAction": "Deny"}), json!(["Deny"]), 1),
        (json!({"name": "x", "selector": {}, "parameterNotFoundAction": "Deny"}), json!(["Audit"]), 2),
        (json!({"name": "x"}), json!([]), 2),
        (json!({"name": "x", "parameterNotFoundAction": "Allow"}), json!(["Deny", "Warn"]), 1),
        (json!({"name": "x", "parameterNotFoundAction": "Allow"}), json!(["Shout", "Shout"]), 3),
    ] {
        let object = binding(params, actions);
        assert_eq!(ValidatingAdmissionPolicyBinding.validate(&object).len(), count, "{object}");
    }
    assert_eq!(shown(&MutatingAdmissionPolicyBinding.validate(&fine)), "");
}
