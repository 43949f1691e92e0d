//! The address families of a Service (`pkg/registry/core/service/storage/alloc.go`, KEP-563).

use super::validate::cluster_ips;
use super::{Spec, ips, needs_cluster_ip, word};
use crate::field::FieldError;
use crate::validation::{At, Errors};
use serde_json::{Value, json};

const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";

/// The family of an address that is one.
fn family_of(ip: &str) -> &'static str {
    if ip.contains(':') { "IPv6" } else { "IPv4" }
}

fn other(family: &str) -> &'static str {
    if family == "IPv4" { "IPv6" } else { "IPv4" }
}

fn listed(spec: &Spec) -> Vec<String> {
    let list = spec.get("ipFamilies").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn spec_of(object: &Value) -> Option<&Spec> {
    object.get("spec").and_then(Value::as_object)
}

/// A Service that takes what there is keeps what it has, whatever the cluster has come to.
fn stays(spec: &Spec, before: &Spec) -> bool {
    let prefers = |policy: &str| policy == PREFER;
    prefers(word(spec, "ipFamilyPolicy"))
        && (prefers(word(before, "ipFamilyPolicy")) || word(before, "ipFamilyPolicy").is_empty())
        && word(spec, "type") == word(before, "type")
        && matches!(word(spec, "type"), "ClusterIP" | "NodePort" | "LoadBalancer")
        && ips(spec) == ips(before)
        && listed(spec) == listed(before)
}

/// Fills in the policy and the families of a Service, brings them to what the policy asks for, and says what speaks against
/// it. `cluster` are the families in which the cluster's Services have addresses, the default first. Addresses are given
/// afterwards, one for each family.
///
/// A second family comes and goes with the policy alone: it is added where the policy asks for both, and taken away, with its
/// address, where the policy becomes `SingleStack` and nothing else of them changes.
pub fn families(object: &mut Value, old: Option<&Value>, cluster: &[&str]) -> Vec<FieldError> {
    let before = old.and_then(spec_of);
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut) else { return Vec::new() };
    if !needs_cluster_ip(spec) || before.is_some_and(|before| stays(spec, before)) {
        return Vec::new();
    }
    let selects = spec.get("selector").and_then(Value::as_object).is_some_and(|s| !s.is_empty());
    let open = word(spec, "clusterIP") == "None" && !selects;
    if word(spec, "ipFamilyPolicy").is_empty() {
        let had = before.map(|before| word(before, "ipFamilyPolicy")).filter(|policy| !policy.is_empty());
        let policy = had.unwrap_or(if open { REQUIRE } else { SINGLE });
        spec.insert("ipFamilyPolicy".into(), policy.into());
    }
    let mut errors = Errors::new();
    cluster_ips(&mut errors, &At::root(object).get("spec"));
    let wrong = errors.done();
    let Some(spec) = object.get_mut("spec").and_then(Value::as_object_mut).filter(|_| wrong.is_empty())
    else {
        return wrong;
    };
    match settle(spec, before, cluster, open) {
        Ok(families) => {
            spec.insert("ipFamilies".into(), json!(families));
            Vec::new()
        }
        Err(errors) => errors,
    }
}

/// The families that a Service comes to have; addresses that go with a family are taken away.
fn settle(
    spec: &mut Spec,
    before: Option<&Spec>,
    cluster: &[&str],
    open: bool,
) -> Result<Vec<String>, Vec<FieldError>> {
    let policy = word(spec, "ipFamilyPolicy").to_owned();
    let mut families = listed(spec);
    let mut errors = Vec::new();
    let against = |why: &str| FieldError::invalid("spec.ipFamilyPolicy", policy.as_str().into(), why);
    if let Some(before) = before {
        let had = listed(before);
        if policy == SINGLE {
            if ips(spec) == ips(before) && ips(spec).len() > 1 {
                let first = json!([ips(spec)[0]]);
                spec.insert("clusterIPs".into(), first);
            }
            if families == had {
                families.truncate(1);
            }
        } else {
            if !ips(spec).is_empty() && ips(spec).len() < ips(before).len() {
                errors.push(against("must be 'SingleStack' to release the secondary cluster IP"));
            }
            if !families.is_empty() && families.len() < had.len() {
                errors.push(against("must be 'SingleStack' to release the secondary IP family"));
            }
        }
    }
    if policy == SINGLE {
        for (number, what) in [(ips(spec).len(), "cluster IPs"), (families.len(), "IP families")] {
            if number == 2 {
                errors.push(against(&format!(
                    "must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified"
                )));
            }
        }
    }
    for (i, ip) in ips(spec).iter().enumerate() {
        let Some(ip) = ip.as_str().filter(|ip| *ip != "None") else { break };
        let family = family_of(ip);
        if i < families.len() {
            continue;
        }
        if cluster.contains(&family) {
            families.push(family.into());
        } else {
            let why = format!("{family} is not configured on this cluster");
            errors.push(FieldError::invalid(format!("spec.clusterIPs[{i}]").as_str(), ips(spec).into(), why));
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    let default = cluster.first().copied().unwrap_or("IPv4");
    if families.is_empty() && open {
        families.push(default.into());
    }
    // Endpoints that somebody else writes may be of families that the cluster does not have.
    if open {
        if families.len() == 1 && policy != SINGLE {
            let second = other(&families[0]);
            families.push(second.into());
        }
        return Ok(families);
    }
    if policy == REQUIRE && cluster.len() < 2 {
        errors.push(against("this cluster is not configured for dual-stack services"));
    }
    for (i, family) in families.iter().enumerate().filter(|(_, family)| !cluster.contains(&family.as_str())) {
        let path = format!("spec.ipFamilies[{i}]");
        errors.push(FieldError::invalid(
            path.as_str(),
            family.as_str().into(),
            "not configured on this cluster",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if families.is_empty() {
        families.push(default.into());
    }
    if policy != SINGLE && families.len() == 1 && cluster.len() == 2 {
        let second = other(&families[0]);
        families.push(second.into());
    }
    Ok(families)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::shown;

    const BOTH: &[&str] = &["IPv4", "IPv6"];
    const FOUR: &[&str] = &["IPv4"];

    fn service(spec: Value) -> Value {
        let mut service = json!({"spec": {"type": "ClusterIP", "selector": {"a": "b"}}});
        for (key, value) in spec.as_object().unwrap() {
            service["spec"][key] = value.clone();
        }
        service
    }

    /// The policy and the families that a Service comes to have, or what is wrong.
    fn of(spec: Value, old: Option<Value>, cluster: &[&str]) -> String {
        let mut new = service(spec);
        let errors = families(&mut new, old.map(service).as_ref(), cluster);
        if !errors.is_empty() {
            return shown(&errors);
        }
        let words =
            |field: &str| listed(&json!({"ipFamilies": new["spec"][field]}).as_object().unwrap().clone());
        let policy = new["spec"]["ipFamilyPolicy"].as_str().unwrap_or_default();
        format!("{policy} {} {}", words("ipFamilies").join("+"), words("clusterIPs").join("+"))
    }

    #[test]
    fn a_new_service_has_one_family_unless_it_asks_for_both() {
        for (spec, four, both) in [
            (json!({}), "SingleStack IPv4 ", "SingleStack IPv4 "),
            (
                json!({"ipFamilyPolicy": "PreferDualStack"}),
                "PreferDualStack IPv4 ",
                "PreferDualStack IPv4+IPv6 ",
            ),
            (
                json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6"]}),
                "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
                "PreferDualStack IPv6+IPv4 ",
            ),
            (
                json!({"ipFamilyPolicy": "RequireDualStack"}),
                "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
                "RequireDualStack IPv4+IPv6 ",
            ),
            (
                json!({"clusterIP": "fd00::9", "clusterIPs": ["fd00::9"]}),
                "spec.clusterIPs[0]: Invalid value: [\"fd00::9\"]: IPv6 is not configured on this cluster",
                "SingleStack IPv6 fd00::9",
            ),
            (
                json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"], "ipFamilyPolicy": "PreferDualStack"}),
                "spec.clusterIPs[1]: Invalid value: [\"10.0.0.9\",\"fd00::9\"]: IPv6 is not configured on this cluster",
                "PreferDualStack IPv4+IPv6 10.0.0.9+fd00::9",
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"]}),
                "SingleStack IPv4 None",
                "SingleStack IPv4 None",
            ),
            (
                json!({"clusterIP": "None", "clusterIPs": ["None"], "selector": {}}),
                "RequireDualStack IPv4+IPv6 None",
                "RequireDualStack IPv4+IPv6 None",
            ),
            (
                json!({"ipFamilies": ["IPv4", "IPv6"]}),
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
                "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified",
            ),
        ] {
            assert_eq!(of(spec.clone(), None, FOUR), four, "{spec}");
            assert_eq!(of(spec.clone(), None, BOTH), both, "{spec}");
        }
        assert_eq!(of(json!({}), None, &["IPv6", "IPv4"]), "SingleStack IPv6 ");
        assert_eq!(of(json!({"type": "ExternalName"}), None, BOTH), "  ");
    }

    #[test]
    fn a_second_family_comes_and_goes_with_the_policy() {
        let one = json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9"], "ipFamilies": ["IPv4"], "ipFamilyPolicy": "SingleStack"});
        let two = json!({"clusterIP": "10.0.0.9", "clusterIPs": ["10.0.0.9", "fd00::9"], "ipFamilies": ["IPv4", "IPv6"],
            "ipFamilyPolicy": "PreferDualStack"});
        let with = |base: &Value, field: &str, value: Value| {
            let mut spec = base.clone();
            spec[field] = value;
            spec
        };
        let wider = with(&one, "ipFamilyPolicy", "PreferDualStack".into());
        assert_eq!(of(wider.clone(), Some(one.clone()), BOTH), "PreferDualStack IPv4+IPv6 10.0.0.9");
        assert_eq!(of(wider.clone(), Some(one.clone()), FOUR), "PreferDualStack IPv4 10.0.0.9");
        // One that took what there was stays as it is when the cluster comes to have more, or less.
        assert_eq!(of(wider.clone(), Some(wider.clone()), BOTH), "PreferDualStack IPv4 10.0.0.9");
        assert_eq!(of(two.clone(), Some(two.clone()), FOUR), "PreferDualStack IPv4+IPv6 10.0.0.9+fd00::9");
        let narrower = with(&two, "ipFamilyPolicy", "SingleStack".into());
        assert_eq!(of(narrower, Some(two.clone()), BOTH), "SingleStack IPv4 10.0.0.9");
        let unsaid = with(&with(&two, "ipFamilyPolicy", Value::Null), "clusterIPs", json!(["10.0.0.9"]));
        let why = "spec.ipFamilyPolicy: Invalid value: \"PreferDualStack\": must be 'SingleStack' to release the secondary cluster IP";
        assert_eq!(of(unsaid, Some(two), BOTH), why);
    }
}
