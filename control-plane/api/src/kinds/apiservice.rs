//! APIServices: who serves the versions of the groups (`apiregistration.k8s.io`).

use super::columns::{age, name};
use super::rfc3339;
use crate::field::FieldError;
use crate::names::{dns1035_label, dns1123_subdomain, path_segment};
use crate::resource::{Column, Context, Strategy};
use crate::table::{self, column};
use crate::validation::{At, Errors};
use serde_json::{Value, json};

/// APIServices.
#[derive(Debug, Default)]
pub struct ApiService;

/// Most that the priority of a group and of a version may be.
const PRIORITY_MAX: (i64, i64) = (20_000, 1_000);

/// Where the version stands among all, as upstream's table has it: priority of the group and of the version. None for a
/// version that only custom resources have.
pub fn priority(group: &str, version: &str) -> Option<(i64, i64)> {
    let of_group = match group {
        "" => return (version == "v1").then_some((18_000, 1)),
        "apps" => 17_800,
        "events.k8s.io" => 17_750,
        "authentication.k8s.io" => 17_700,
        "authorization.k8s.io" => 17_600,
        "autoscaling" => 17_500,
        "batch" => 17_400,
        "certificates.k8s.io" => 17_300,
        "networking.k8s.io" => 17_200,
        "policy" => 17_100,
        "rbac.authorization.k8s.io" => 17_000,
        "storage.k8s.io" => 16_800,
        "apiextensions.k8s.io" | "admissionregistration.k8s.io" => 16_700,
        "scheduling.k8s.io" => 16_600,
        "coordination.k8s.io" => 16_500,
        "node.k8s.io" => 16_300,
        "discovery.k8s.io" | "resource.k8s.io" => 16_200,
        "flowcontrol.apiserver.k8s.io" => 16_100,
        _ => return None,
    };
    let of_version = match (group, version) {
        ("autoscaling", "v2") => 30,
        ("flowcontrol.apiserver.k8s.io" | "resource.k8s.io", "v1") => 21,
        (_, "v1") => 15,
        _ => return None,
    };
    Some((of_group, of_version))
}

/// The priorities of versions that come with custom resources.
pub const CUSTOM_PRIORITY: (i64, i64) = (1_000, 100);

fn is_local(object: &Value) -> bool {
    object.pointer("/spec/service").is_none_or(Value::is_null)
}

impl Strategy for ApiService {
    /// What this server serves is there at once.
    fn prepare_create(&self, object: &mut Value, context: &Context<'_>) {
        let local = is_local(object);
        let Some(map) = object.as_object_mut() else { return };
        let conditions = json!([{
            "type": "Available", "status": "True", "lastTransitionTime": rfc3339(context.now),
            "reason": "Local", "message": "Local APIServices are always available",
        }]);
        let status = if local { json!({"conditions": conditions}) } else { json!({}) };
        map.insert("status".into(), status);
    }

    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        path_segment(name, prefix)
    }

    fn validate(&self, object: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(object);
        let (metadata, spec) = (root.get("metadata"), root.get("spec"));
        let (group, version) = (spec.get("group"), spec.get("version"));
        let wanted = format!("{}.{}", version.text(), group.text());
        let name = metadata.get("name");
        if name.text() != wanted {
            errors.invalid(&name, format!("must be `spec.version+\".\"+spec.group`: {wanted:?}"));
        }
        if group.text().is_empty() && version.text() != "v1" {
            errors.required(&group, "only v1 may have an empty group and it better be legacy kube");
        }
        errors.optional_text(&group, |group| dns1123_subdomain(group, false));
        errors.text(&version, dns1035_label(version.text(), false));
        for (field, max) in [("groupPriorityMinimum", PRIORITY_MAX.0), ("versionPriority", PRIORITY_MAX.1)] {
            let at = spec.get(field);
            let number = at.int().unwrap_or(0);
            if !(1..=max).contains(&number) {
                let why = format!("must be positive and less than {max}");
                errors.push(FieldError::invalid(at.path(), number.into(), why));
            }
        }
        let (service, bundle) = (spec.get("service"), spec.get("caBundle"));
        let (insecure, bundled) = (spec.get("insecureSkipTLSVerify"), !bundle.text().is_empty());
        if !service.present() {
            if bundled {
                let bytes = format!("{} bytes", bundle.text().len());
                let why = "local APIServices may not have a caBundle";
                errors.push(FieldError::invalid(bundle.path(), bytes.into(), why));
            }
            if insecure.is_true() {
                errors.invalid(&insecure, "local APIServices may not have insecureSkipTLSVerify");
            }
            return errors.done();
        }
        for field in ["namespace", "name"] {
            let part = service.get(field);
            if part.text().is_empty() {
                errors.required(&part, "");
            }
        }
        let port = service.get("port");
        if port.int().is_some_and(|port| !(1..=65535).contains(&port)) {
            errors.invalid(&port, "port is not valid: must be between 1 and 65535, inclusive");
        }
        if insecure.is_true() && bundled {
            errors.invalid(&insecure, "may not be true if caBundle is present");
        }
        errors.done()
    }

    fn validate_status_update(&self, new: &Value, _old: &Value) -> Vec<FieldError> {
        let mut errors = Errors::new();
        let root = At::root(new);
        let status = root.get("status");
        for condition in status.get("conditions").items() {
            let state = condition.get("status");
            if !matches!(state.text(), "True" | "False" | "Unknown") {
                errors.not_supported(&state, &["True", "False", "Unknown"]);
            }
        }
        errors.done()
    }

    fn unconditional_update(&self) -> bool {
        false
    }

    fn columns(&self) -> Vec<Column> {
        vec![
            name(),
            column("Service", "string", "The reference to the service that hosts this API endpoint."),
            column("Available", "string", "Whether this service is available."),
            age(),
        ]
    }

    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        let root = At::root(object);
        let (spec, status) = (root.get("spec"), root.get("status"));
        let service = spec.get("service");
        let served = if service.present() {
            format!("{}/{}", service.get("namespace").text(), service.get("name").text())
        } else {
            "Local".into()
        };
        let conditions = status.get("conditions");
        let found = conditions.items().find(|c| c.get("type").text() == "Available");
        let available =
            found.map_or("Unknown".to_owned(), |c| match (c.get("status").text(), c.get("reason").text()) {
                ("True", _) => "True".into(),
                (state, "") => state.into(),
                (state, reason) => format!("{state} ({reason})"),
            });
        vec![table::name(object), served.into(), available.into(), table::age(object, now)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::testing::{context, now, shown};

    fn of(group: &str, version: &str) -> Value {
        json!({
            "metadata": {"name": format!("{version}.{group}")},
            "spec": {"group": group, "version": version, "groupPriorityMinimum": 2000, "versionPriority": 15},
        })
    }

    #[test]
    fn what_is_served_here_is_available_at_once() {
        let mut local = of("", "v1");
        ApiService.prepare_create(&mut local, &context());
        assert_eq!(local["status"]["conditions"][0]["reason"], "Local");
        assert_eq!(ApiService.cells(&local, now())[1..3], [json!("Local"), json!("True")]);
        let mut remote = of("wardle.example.com", "v1alpha1");
        remote["spec"]["service"] = json!({"namespace": "n", "name": "s", "port": 443});
        ApiService.prepare_create(&mut remote, &context());
        assert_eq!(remote["status"], json!({}));
        assert_eq!(shown(&ApiService.validate(&remote)), "");
        assert_eq!(ApiService.cells(&remote, now())[1..3], [json!("n/s"), json!("Unknown")]);
    }

    #[test]
    fn names_and_priorities_follow_the_group_and_version() {
        assert_eq!(shown(&ApiService.validate(&of("", "v1"))), "");
        let mut wrong = of("apps", "v1");
        wrong["metadata"]["name"] = "v1.app".into();
        wrong["spec"]["versionPriority"] = 0.into();
        assert_eq!(
            shown(&ApiService.validate(&wrong)),
            "metadata.name: Invalid value: \"v1.app\": must be `spec.version+\".\"+spec.group`: \"v1.apps\"; \
             spec.versionPriority: Invalid value: 0: must be positive and less than 1000"
        );
        assert_eq!(ApiService.validate(&of("", "v2")).len(), 1);
        let mut local = of("apps", "v1");
        local["spec"]["insecureSkipTLSVerify"] = true.into();
        assert_eq!(ApiService.validate(&local).len(), 1);
    }

    #[test]
    fn every_version_that_is_built_in_has_its_place() {
        // The versions of this kind itself are not registered by it.
        for version in crate::kinds::ResourceTable::builtin().versions() {
            let own = version.group == "apiregistration.k8s.io";
            assert!(own || priority(&version.group, &version.version).is_some(), "{version}");
        }
        assert_eq!(priority("stable.example.com", "v1"), None);
    }
}
