//! Names and amounts of resources: what a container may ask for, what a node has.

use super::{At, Errors, text};
use crate::field::FieldError;
use crate::quantity::Quantity;
use serde_json::Value;

/// Resources that containers may ask for without a domain.
const CONTAINER: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// Further resources without a domain, as quotas count them.
const QUOTA: &[&str] = &[
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "requests.storage",
    "services.nodeports",
    "services.loadbalancers",
];
/// Resources that come in whole numbers.
const WHOLE: &[&str] = &[
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];
/// Resources that a pod as a whole may ask for (KEP-2837).
const POD_LEVEL: &[&str] = &["cpu", "memory"];
const HUGE_PAGES: &str = "hugepages-";

/// The amount of a value, whether written as text or as a number; nothing where it is neither.
pub fn quantity(value: Option<&Value>) -> Option<Quantity> {
    match value? {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

/// Whether the resource is Kubernetes' own and not a device's.
fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether the resource is a device's and counted in whole numbers.
pub fn is_extended(name: &str) -> bool {
    !is_native(name)
        && !name.starts_with("requests.")
        && text::qualified_name(&format!("requests.{name}")).is_empty()
}

/// Whether more may be promised than there is.
pub fn may_overcommit(name: &str) -> bool {
    is_native(name) && !name.starts_with(HUGE_PAGES)
}

/// Whether quotas count the resource, so far as its name has no domain.
pub fn is_quota_resource(name: &str) -> bool {
    name.contains('/')
        || CONTAINER.contains(&name)
        || QUOTA.contains(&name)
        || name.trim_start_matches("requests.").starts_with(HUGE_PAGES)
}

/// The name of any resource.
pub fn resource_name(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let invalid = |why: String| FieldError::invalid(at.path(), name.into(), why);
    let wrong = text::qualified_name(name);
    if !wrong.is_empty() {
        errors.extend(wrong.into_iter().map(invalid));
    } else if !is_quota_resource(name) && name != "storage" {
        errors.push(invalid("must be a standard resource type or fully qualified".into()));
    }
}

/// The name of a resource that a container may ask for.
pub fn container_resource_name(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    resource_name(errors, at, name);
    let invalid = |why: &str| FieldError::invalid(at.path(), name.into(), why);
    if !name.contains('/') {
        if !CONTAINER.contains(&name) && !name.starts_with(HUGE_PAGES) {
            errors.push(invalid("must be a standard resource for containers"));
        }
    } else if !is_native(name) && !is_extended(name) {
        errors.push(invalid("doesn't follow extended resource name standard"));
    }
}

fn pod_resource_name(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let before = errors.len();
    resource_name(errors, at, name);
    if errors.len() == before && !POD_LEVEL.contains(&name) && !name.starts_with(HUGE_PAGES) {
        errors.push(FieldError::not_supported(at.path(), name.into(), POD_LEVEL));
    }
}

/// An amount of a resource: not below nothing, and whole where the resource comes in whole numbers.
pub fn amount(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let Some(amount) = quantity(at.value()) else { return };
    if amount.sign() < 0 {
        errors.invalid(at, "must be greater than or equal to 0");
    }
    if (WHOLE.contains(&name) || is_extended(name)) && amount.milli_value() % 1000 != 0 {
        errors.invalid(at, "must be an integer");
    }
}

/// Whether a request is for a container or for a whole pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// `spec.containers[i].resources`.
    Container,
    /// `spec.resources`.
    Pod,
}

/// Requests and limits: names, amounts, and requests no larger than limits.
pub fn requirements(errors: &mut Errors, at: &At<'_, '_>, level: Level) {
    let name_rule = match level {
        Level::Container => container_resource_name,
        Level::Pod => pod_resource_name,
    };
    let (limits, requests) = (at.get("limits"), at.get("requests"));
    for (name, limit) in limits.entries() {
        name_rule(errors, &limit, name);
        amount(errors, &limit, name);
        huge_pages(errors, &limit, name);
    }
    for (name, request) in requests.entries() {
        name_rule(errors, &request, name);
        amount(errors, &request, name);
        huge_pages(errors, &request, name);
        let asked = quantity(request.value());
        let limit = limits.key(name);
        match (asked, quantity(limit.value())) {
            (Some(asked), Some(most)) => {
                let invalid = |relation: &str| {
                    let why = format!("must be {relation} {name} limit of {most}");
                    FieldError::invalid(requests.path(), asked.to_string().into(), why)
                };
                if asked != most && !may_overcommit(name) {
                    errors.push(invalid("equal to"));
                } else if asked > most {
                    errors.push(invalid("less than or equal to"));
                }
            }
            (Some(_), None) if !may_overcommit(name) => {
                errors.required(&limits, "Limit must be set for non overcommitable resources");
            }
            _ => {}
        }
    }
    let either =
        |wanted: fn(&str) -> bool| limits.entries().chain(requests.entries()).any(|(name, _)| wanted(name));
    if either(|name| name.starts_with(HUGE_PAGES)) && !either(|name| matches!(name, "cpu" | "memory")) {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
}

fn huge_pages(errors: &mut Errors, at: &At<'_, '_>, name: &str) {
    let Some(size) = name.strip_prefix(HUGE_PAGES) else { return };
    let page = Quantity::parse(size).map(|page| page.value()).unwrap_or(0);
    let Some(amount) = quantity(at.value()) else { return };
    if page <= 0 || amount.value() % page != 0 {
        errors.push(FieldError::invalid(
            at.path(),
            amount.to_string().into(),
            format!("{amount} is not positive integer multiple of {name}"),
        ));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn requests_and_limits() {
        for (value, wrong) in [
            (json!({}), ""),
            (json!({"limits": {"cpu": "1"}, "requests": {"cpu": "1000m"}}), ""),
            (json!({"limits": {"cpu": 1}, "requests": {"cpu": 0.5}}), ""),
            (json!({"requests": {"memory": "1Gi"}}), ""),
            (
                json!({"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}),
                "requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            ),
            (
                json!({"limits": {"cpu": "-1"}}),
                "limits[cpu]: Invalid value: \"-1\": must be greater than or equal to 0",
            ),
            (
                json!({"limits": {"gpu": "1"}}),
                "limits[gpu]: Invalid value: \"gpu\": must be a standard resource type or fully qualified; \
                 limits[gpu]: Invalid value: \"gpu\": must be a standard resource for containers",
            ),
            (
                json!({"limits": {"pods": "1"}}),
                "limits[pods]: Invalid value: \"pods\": must be a standard resource for containers",
            ),
            (json!({"limits": {"example.com/gpu": "1"}, "requests": {"example.com/gpu": "1"}}), ""),
            (
                json!({"limits": {"example.com/gpu": "2"}, "requests": {"example.com/gpu": "1"}}),
                "requests: Invalid value: \"1\": must be equal to example.com/gpu limit of 2",
            ),
            (
                json!({"limits": {"example.com/gpu": "500m"}}),
                "limits[example.com/gpu]: Invalid value: \"500m\": must be an integer",
            ),
            (
                json!({"requests": {"example.com/gpu": "1"}}),
                "limits: Required value: Limit must be set for non overcommitable resources",
            ),
            (json!({"limits": {"hugepages-2Mi": "4Mi", "cpu": "1"}}), ""),
            (json!({"limits": {"hugepages-2Mi": "4Mi"}}), ": Forbidden: HugePages require cpu or memory"),
            (
                json!({"limits": {"hugepages-2Mi": "3Mi", "cpu": "1"}}),
                "limits[hugepages-2Mi]: Invalid value: \"3Mi\": 3Mi is not positive integer multiple of hugepages-2Mi",
            ),
        ] {
            let mut errors = Errors::new();
            requirements(&mut errors, &At::root(&value), Level::Container);
            let text = errors.done().iter().map(FieldError::to_string).collect::<Vec<_>>().join("; ");
            assert_eq!(text, wrong, "{value}");
        }
        let mut errors = Errors::new();
        let value = json!({"requests": {"ephemeral-storage": "1"}});
        requirements(&mut errors, &At::root(&value), Level::Pod);
        assert_eq!(errors.done()[0].cause().reason, "FieldValueNotSupported");
    }
}
