use super::*;
use crate::kinds::testing::{complete, now, shown};
use crate::resource::Strategy;
use serde_json::json;

const VERSION: &str = "resource.k8s.io/v1";

fn claim() -> Value {
    complete(json!({
        "apiVersion": VERSION, "kind": "ResourceClaim", "metadata": {"name": "c", "namespace": "n"},
        "spec": {"devices": {
            "requests": [
                {"name": "gpu", "exactly": {"deviceClassName": "gpu.example.com"}},
                {"name": "any", "firstAvailable": [{"name": "big", "deviceClassName": "gpu.example.com"}]},
            ],
            "constraints": [{"requests": ["gpu", "any/big"], "matchAttribute": "example.com/numa"}],
            "config": [{"requests": ["gpu"], "opaque": {"driver": "gpu.example.com", "parameters": {"a": 1}}}],
        }},
    }))
}

#[test]
fn a_claim_asks_for_one_device_unless_it_says_otherwise() {
    let claim = claim();
    let requests = &claim["spec"]["devices"]["requests"];
    assert_eq!(requests[0]["exactly"]["allocationMode"], "ExactCount");
    assert_eq!(requests[0]["exactly"]["count"], 1);
    assert_eq!(requests[1]["firstAvailable"][0]["count"], 1);
    assert_eq!(shown(&ResourceClaim.validate_create(&claim)), "");
    assert_eq!(ResourceClaim.cells(&claim, now())[1], "pending");
    let template = json!({"metadata": {"name": "t"}, "spec": {"spec": claim["spec"]}});
    assert_eq!(shown(&ResourceClaimTemplate.validate(&template)), "");
}

#[test]
fn claims_say_what_is_wrong_with_them() {
    for (pointer, value, wrong) in [
        (
            "/requests/0",
            json!({"name": "gpu"}),
            "spec.devices.requests[0]: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        (
            "/requests/0/exactly/count",
            json!(-1),
            "spec.devices.requests[0].exactly.count: Invalid value: -1: must be greater than zero",
        ),
        (
            "/requests/0/exactly/allocationMode",
            json!("All"),
            "spec.devices.requests[0].exactly.count: Invalid value: 1: must not be specified when allocationMode is 'All'",
        ),
        (
            "/requests/0/exactly/deviceClassName",
            json!(""),
            "spec.devices.requests[0].exactly.deviceClassName: Required value",
        ),
        (
            "/constraints/0/matchAttribute",
            json!("numa"),
            "spec.devices.constraints[0].matchAttribute: Invalid value: \"numa\": a fully qualified name must be a domain and a name separated by a slash",
        ),
        (
            "/config/0/requests",
            json!(["other"]),
            "spec.devices.config[0].requests[0]: Invalid value: \"other\": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'",
        ),
        (
            "/config/0/opaque/parameters",
            json!([1]),
            "spec.devices.config[0].opaque.parameters: Invalid value: \"<value omitted>\": must be a valid JSON object",
        ),
    ] {
        let mut object = claim();
        *object["spec"]["devices"].pointer_mut(pointer).unwrap() = value;
        assert_eq!(shown(&ResourceClaim.validate_create(&object)), wrong, "{pointer}");
    }
    let mut changed = claim();
    changed["spec"]["devices"]["requests"][0]["name"] = "x".into();
    assert!(shown(&ResourceClaim.validate_update(&changed, &claim())).contains("field is immutable"));
}

fn allocated() -> Value {
    let mut claim = claim();
    let device = json!({"driver": "gpu.example.com", "pool": "node/a", "device": "gpu-0"});
    let mut result = device.clone();
    result["request"] = "gpu".into();
    claim["status"] = json!({"allocation": {"devices": {"results": [result]}}, "devices": [device]});
    claim["status"]["reservedFor"] = json!([{"resource": "pods", "name": "p", "uid": "u"}]);
    claim
}

#[test]
fn what_is_allocated_stays_until_it_is_given_back() {
    let (before, after) = (claim(), allocated());
    assert_eq!(shown(&ResourceClaim.validate_status_update(&after, &before)), "");
    assert_eq!(ResourceClaim.cells(&after, now())[1], "allocated,reserved");
    let mut other = after.clone();
    other["status"]["allocation"]["devices"]["results"][0]["device"] = "gpu-1".into();
    let wrong = shown(&ResourceClaim.validate_status_update(&other, &after));
    assert!(wrong.contains("must be an allocated device in the claim"), "{wrong}");
    assert!(wrong.contains("status.allocation: Invalid value"), "{wrong}");
    let mut free = after.clone();
    free["status"].as_object_mut().unwrap().remove("allocation");
    ResourceClaim.prepare_status_update(&mut free, &after);
    assert!(free["status"].get("devices").is_none(), "what the driver said goes with the device");
    assert_eq!(
        shown(&ResourceClaim.validate_status_update(&free, &after)),
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    );
    let mut unknown = after;
    unknown["status"]["allocation"]["devices"]["results"][0]["request"] = "no".into();
    assert_eq!(ResourceClaim.validate_status_update(&unknown, &before).len(), 1);
}

fn slice() -> Value {
    complete(json!({
        "apiVersion": VERSION, "kind": "ResourceSlice", "metadata": {"name": "s"},
        "spec": {
            "driver": "gpu.example.com", "nodeName": "a", "pool": {"name": "a", "generation": 0, "resourceSliceCount": 1},
            "devices": [{"name": "gpu-0", "attributes": {"model": {"string": "x"}, "example.com/v": {"version": "1.2.3-rc.1"}},
                "capacity": {"memory": {"value": "1Gi"}}}],
        },
    }))
}

#[test]
fn slices_say_what_devices_there_are_and_where() {
    assert_eq!(shown(&ResourceSlice.validate(&slice())), "");
    assert_eq!(
        ResourceSlice.cells(&slice(), now())[1..4],
        [json!("a"), json!("gpu.example.com"), json!("a")]
    );
    let policy = json!({"value": "1Gi", "requestPolicy": {"default": "1Mi", "validRange": {"min": "2Mi"}}});
    for (pointer, value, wrong) in [
        (
            "/allNodes",
            json!(true),
            "spec: Invalid value: \"{`nodeName`, `allNodes`}\": exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple fields are set",
        ),
        (
            "/nodeName",
            Value::Null,
            "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required",
        ),
        (
            "/pool/resourceSliceCount",
            json!(0),
            "spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero",
        ),
        (
            "/devices/0/attributes/model",
            json!({}),
            "spec.devices[0].attributes[model]: Invalid value: \"\": exactly one value must be specified",
        ),
        (
            "/devices/0/attributes/model",
            json!({"version": "1.02.0"}),
            "spec.devices[0].attributes[model].version: Invalid value: \"1.02.0\": must be a string compatible with semver.org spec 2.0.0",
        ),
        (
            "/devices/0/capacity/memory",
            policy,
            "spec.devices[0].capacity[memory].requestPolicy: Forbidden: allowMultipleAllocations must be true",
        ),
        (
            "/devices/0/taints",
            json!([{"key": "a", "effect": "Never"}]),
            "spec.devices[0].taints[0].effect: Unsupported value: \"Never\": supported values: \"NoExecute\", \"NoSchedule\", \"None\"",
        ),
        (
            "/devices/0/allNodes",
            json!(true),
            "spec.devices[0]: Invalid value: null: `nodeName`, `nodeSelector` and `allNodes` can only be set if `perDeviceNodeSelection` is set to true in the ResourceSlice spec",
        ),
    ] {
        let mut object = slice();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        object["spec"].pointer_mut(parent).unwrap()[key] = value;
        assert_eq!(shown(&ResourceSlice.validate(&object)), wrong, "{pointer}");
    }
    let mut shared = slice();
    shared["spec"]["devices"][0]["allowMultipleAllocations"] = true.into();
    shared["spec"]["devices"][0]["capacity"]["memory"]["requestPolicy"] =
        json!({"default": "1Mi", "validRange": {"min": "2Mi", "max": "2Gi"}});
    assert_eq!(ResourceSlice.validate(&shared).len(), 2, "{:?}", ResourceSlice.validate(&shared));
}

#[test]
fn classes_choose_devices() {
    let class = json!({"metadata": {"name": "gpu"}, "spec": {
        "selectors": [{"cel": {"expression": "true"}}, {}], "extendedResourceName": "example.com/gpu"}});
    assert_eq!(shown(&DeviceClass.validate(&class)), "spec.selectors[1].cel: Required value");
    let named = json!({"metadata": {"name": "gpu"}, "spec": {"extendedResourceName": "cpu"}});
    assert_eq!(DeviceClass.validate(&named).len(), 1);
}
