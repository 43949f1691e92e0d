//! Rules of a pod's spec, in a Pod and in a template.

use super::container::{self, Pod};
use super::volume::Volumes;
use super::{placement, security};
use crate::field::FieldError;
use crate::names::{dns1123_label, dns1123_subdomain};
use crate::validation::resources::{self, Level};
use crate::validation::{At, Errors, ip, labels, text};
use std::collections::BTreeSet;

/// Checks a pod's spec. `name` is the pod's name; `None` in a template.
pub(crate) fn validate(errors: &mut Errors, spec: &At<'_, '_>, name: Option<&str>) {
    let grace = spec.get("terminationGracePeriodSeconds");
    if !grace.present() {
        errors.required(&grace, "");
    }
    let list = spec.get("volumes");
    let volumes = Volumes::validate(errors, &list, name.unwrap_or_default(), name.is_some());
    let host_users = spec.get("hostUsers");
    let os = spec.get("os");
    let restart_policy = spec.get("restartPolicy");
    let pod = Pod {
        volumes: &volumes,
        grace: grace.int(),
        os: os.get("name").text(),
        restart_policy: restart_policy.text(),
        host_users: !host_users.present() || host_users.is_true(),
    };
    container::containers(errors, spec, &pod);
    container::init_containers(errors, spec, &pod);
    container::ephemeral_containers(errors, spec, &pod);
    pod_resources(errors, &spec.get("resources"));
    host_network(errors, spec, name.is_some());
    errors.one_of(&restart_policy, &["Always", "OnFailure", "Never"]);
    errors.one_of(&spec.get("dnsPolicy"), &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"]);
    labels(errors, &spec.get("nodeSelector"));
    security::pod(errors, spec);
    placement::affinity(errors, &spec.get("affinity"));
    dns_config(errors, spec);
    gates(errors, spec);
    placement::spread_constraints(errors, &spec.get("topologySpreadConstraints"));
    if !pod.host_users {
        without_host_users(errors, spec);
    }
    for (field, rule) in [
        ("serviceAccountName", dns1123_subdomain as fn(&str, bool) -> Vec<String>),
        ("nodeName", dns1123_subdomain),
        ("hostname", dns1123_label),
        ("subdomain", dns1123_label),
        ("priorityClassName", dns1123_subdomain),
        ("runtimeClassName", dns1123_subdomain),
    ] {
        errors.optional_text(&spec.get(field), |text| rule(text, false));
    }
    hostname_override(errors, spec);
    errors.in_range(&spec.get("activeDeadlineSeconds"), 1, i64::from(i32::MAX));
    placement::tolerations(errors, &spec.get("tolerations"));
    for alias in spec.get("hostAliases").items() {
        ip(errors, &alias.get("ip"));
        for name in alias.get("hostnames").items() {
            errors.text(&name, dns1123_subdomain(name.text(), false));
        }
    }
    errors.optional_one_of(&spec.get("preemptionPolicy"), &["PreemptLowerPriority", "Never"]);
    let overhead = spec.get("overhead");
    if let Some(fixed) = overhead.value() {
        let limits = serde_json::json!({"limits": fixed});
        resources::requirements(errors, &overhead.with_value(Some(&limits)), resources::Level::Container);
    }
    if os.present() {
        let name = os.get("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !matches!(name.text(), "linux" | "windows") {
            errors.push(FieldError::not_supported(os.path(), name.json(), &["linux", "windows"]));
        }
    }
    resource_claims(errors, spec);
    if pod.os == "windows" {
        windows(errors, spec);
    }
    if pod.os == "linux" {
        let options = "windows options cannot be set for a linux pod";
        let context = spec.get("securityContext");
        let windows = context.get("windowsOptions");
        if windows.present() {
            errors.forbidden(&windows, options);
        }
        for_each_container(spec, |container| {
            let context = container.get("securityContext");
            let windows = context.get("windowsOptions");
            if windows.present() {
                errors.forbidden(&windows, options);
            }
        });
    }
}

/// What means nothing to a pod of that system. (Of what stands beside the security context, upstream looks at it only where
/// there is one: there always is.)
fn windows(errors: &mut Errors, spec: &At<'_, '_>) {
    const WHY: &str = "cannot be set for a windows pod";
    let context = spec.get("securityContext");
    for field in [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ] {
        let at = context.get(field);
        if at.present() {
            errors.forbidden(&at, WHY);
        }
    }
    let sysctls = context.get("sysctls");
    if !sysctls.is_empty() {
        errors.forbidden(&sysctls, WHY);
    }
    for field in ["hostUsers", "shareProcessNamespace"] {
        let at = spec.get(field);
        if at.present() {
            errors.forbidden(&at, WHY);
        }
    }
    for field in ["hostPID", "hostIPC"] {
        let at = spec.get(field);
        if at.is_true() {
            errors.forbidden(&at, WHY);
        }
    }
    for_each_container(spec, |container| {
        let context = container.get("securityContext");
        for field in [
            "appArmorProfile",
            "seLinuxOptions",
            "seccompProfile",
            "capabilities",
            "readOnlyRootFilesystem",
            "privileged",
            "allowPrivilegeEscalation",
            "procMount",
            "runAsUser",
            "runAsGroup",
        ] {
            let at = context.get(field);
            if at.present() {
                errors.forbidden(&at, WHY);
            }
        }
    });
}

/// Claims of devices, and that containers name those that there are.
fn resource_claims(errors: &mut Errors, spec: &At<'_, '_>) {
    let claims = spec.get("resourceClaims");
    let mut names = BTreeSet::new();
    for claim in claims.items() {
        let name = claim.get("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !names.insert(name.text()) {
            errors.push(FieldError::duplicate(name.path(), name.text().into()));
        } else {
            errors.text(&name, dns1123_label(name.text(), false));
        }
        let (of_claim, of_template) =
            (claim.get("resourceClaimName"), claim.get("resourceClaimTemplateName"));
        match (of_claim.present(), of_template.present()) {
            (true, true) => errors.invalid(
                &claim,
                "at most one of `resourceClaimName` or `resourceClaimTemplateName` may be specified",
            ),
            (false, false) => errors
                .invalid(&claim, "must specify one of: `resourceClaimName`, `resourceClaimTemplateName`"),
            _ => {}
        }
        for at in [&of_claim, &of_template] {
            if at.present() {
                errors.text(at, dns1123_subdomain(at.text(), false));
            }
        }
    }
    for_each_container(spec, |container| {
        let resources = container.get("resources");
        let used = resources.get("claims");
        let mut seen = BTreeSet::new();
        for claim in used.items() {
            let (name, request) = (claim.get("name"), claim.get("request"));
            if name.text().is_empty() {
                errors.required(&claim, "");
                continue;
            }
            if !request.text().is_empty() {
                errors.text(&request, dns1123_label(request.text(), false));
            }
            if !seen.insert((name.text(), request.text())) {
                errors.push(FieldError::duplicate(claim.path(), name.text().into()));
            }
            if !names.contains(name.text()) {
                let mut known = "must be one of the names in pod.spec.resourceClaims".to_owned();
                if !names.is_empty() {
                    let list: Vec<&str> = names.iter().copied().collect();
                    known.push_str(&format!(": {}", list.join(", ")));
                }
                let error = FieldError::not_found(claim.path(), name.text().into());
                errors.push(FieldError { detail: known, ..error });
            }
        }
    });
}

fn for_each_container(spec: &At<'_, '_>, mut visit: impl FnMut(&At<'_, '_>)) {
    for field in ["initContainers", "containers", "ephemeralContainers"] {
        spec.get(field).items().for_each(|container| visit(&container));
    }
}

fn pod_resources(errors: &mut Errors, at: &At<'_, '_>) {
    let claims = at.get("claims");
    if claims.present() {
        errors.forbidden(&claims, "claims may not be set for Resources at pod-level");
    }
    resources::requirements(errors, at, Level::Pod);
}

fn host_network(errors: &mut Errors, spec: &At<'_, '_>, is_pod: bool) {
    if !spec.get("hostNetwork").is_true() {
        return;
    }
    for container in spec.get("containers").items() {
        for port in container.get("ports").items() {
            let host = port.get("hostPort");
            let number = host.int().unwrap_or(0);
            if (is_pod || number != 0) && number != port.get("containerPort").int().unwrap_or(0) {
                let why = "must match `containerPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(host.path(), number.into(), why));
            }
        }
    }
}

fn without_host_users(errors: &mut Errors, spec: &At<'_, '_>) {
    // Upstream writes two of these with a capital letter.
    for (field, shown) in [("hostNetwork", "hostNetwork"), ("hostPID", "HostPID"), ("hostIPC", "HostIPC")] {
        if spec.get(field).is_true() {
            errors.push(FieldError::forbidden(spec.path().child(shown), "when `hostUsers` is false"));
        }
    }
    for_each_container(spec, |container| {
        let devices = container.get("volumeDevices");
        if !devices.is_empty() {
            errors.forbidden(&devices, "when `hostUsers` is false");
        }
    });
}

fn hostname_override(errors: &mut Errors, spec: &At<'_, '_>) {
    let at = spec.get("hostnameOverride");
    if !at.present() {
        return;
    }
    if spec.get("setHostnameAsFQDN").is_true() {
        errors.forbidden(&at, "may not be specified when setHostnameAsFQDN is true");
    }
    if spec.get("hostNetwork").is_true() {
        errors.forbidden(&at, "may not be specified when hostNetwork is true");
    }
    if at.text().len() > 64 {
        errors.push(FieldError::too_long(at.path(), 64));
    }
    errors.text(&at, dns1123_subdomain(at.text(), false));
}

/// Most name servers, search paths and characters of search paths that a resolver takes.
const NAMESERVERS_MAX: usize = 3;
const SEARCHES_MAX: usize = 32;
const SEARCH_CHARACTERS_MAX: usize = 2048;

fn dns_config(errors: &mut Errors, spec: &At<'_, '_>) {
    let at = spec.get("dnsConfig");
    let (servers, searches) = (at.get("nameservers"), at.get("searches"));
    if spec.get("dnsPolicy").text() == "None" {
        if !at.present() {
            return errors.required(&at, "must provide `dnsConfig` when `dnsPolicy` is None");
        }
        if servers.is_empty() {
            let why = "must provide at least one DNS nameserver when `dnsPolicy` is None";
            return errors.required(&servers, why);
        }
    }
    if servers.len() > NAMESERVERS_MAX {
        errors.invalid(&servers, format!("must not have more than {NAMESERVERS_MAX} nameservers"));
    }
    for server in servers.items() {
        ip(errors, &server);
    }
    if searches.len() > SEARCHES_MAX {
        errors.invalid(&searches, format!("must not have more than {SEARCHES_MAX} search paths"));
    }
    if searches.texts().collect::<Vec<_>>().join(" ").len() > SEARCH_CHARACTERS_MAX {
        errors.invalid(
            &searches,
            format!(
                "must not have more than {SEARCH_CHARACTERS_MAX} characters (including spaces) in the search list"
            ),
        );
    }
    for search in searches.items() {
        let name = search.text().strip_suffix('.').unwrap_or(search.text());
        // A search path may be the root, and its labels may hold underscores (KEP-4427).
        if search.text() != "." && !dns1123_subdomain(&name.replace('_', "a"), false).is_empty() {
            errors.text(&search, dns1123_subdomain(name, false));
        }
    }
    let options = at.get("options");
    for option in options.items() {
        if option.get("name").text().is_empty() {
            errors.required(&option, "must not be empty");
        }
    }
}

fn gates(errors: &mut Errors, spec: &At<'_, '_>) {
    for gate in spec.get("readinessGates").items() {
        let kind = gate.get("conditionType");
        errors.text(&kind, text::qualified_name(kind.text()));
    }
    let mut seen = BTreeSet::new();
    for gate in spec.get("schedulingGates").items() {
        let name = gate.get("name");
        for message in text::qualified_name(name.text()) {
            errors.push(FieldError::invalid(gate.path(), name.text().into(), message));
        }
        if !seen.insert(name.text()) {
            errors.push(FieldError::duplicate(gate.path(), name.text().into()));
        }
    }
}
