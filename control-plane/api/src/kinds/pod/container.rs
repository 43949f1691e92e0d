//! Rules of containers.

use super::{env, probe, security, volume::Volumes};
use crate::field::FieldError;
use crate::names::dns1123_label;
use crate::validation::resources::{self, Level};
use crate::validation::{At, Errors, port_number, text};
use std::collections::BTreeSet;

/// Transport protocols of ports.
pub(crate) const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];

/// What the rules of a container need to know of its pod.
pub(super) struct Pod<'a> {
    pub(super) volumes: &'a Volumes<'a>,
    pub(super) grace: Option<i64>,
    pub(super) os: &'a str,
    pub(super) restart_policy: &'a str,
    pub(super) host_users: bool,
}

pub(super) fn containers(errors: &mut Errors, spec: &At<'_, '_>, pod: &Pod<'_>) {
    let list = spec.get("containers");
    if list.is_empty() {
        return errors.required(&list, "");
    }
    let mut names = BTreeSet::new();
    for container in list.items() {
        common(errors, &container, pod);
        unique_name(errors, &container, &mut names);
        hooks_and_probes(errors, &container, pod);
        restart_rules(errors, &container);
    }
    let mut ports = BTreeSet::new();
    list.items().for_each(|container| host_ports(errors, &container, &mut ports));
}

pub(super) fn init_containers(errors: &mut Errors, spec: &At<'_, '_>, pod: &Pod<'_>) {
    let regular = spec.get("containers");
    let mut names: BTreeSet<String> = regular.items().map(|c| c.get("name").text().to_owned()).collect();
    let list = spec.get("initContainers");
    for container in list.items() {
        common(errors, &container, pod);
        restart_rules(errors, &container);
        unique_name(errors, &container, &mut names);
        host_ports(errors, &container, &mut BTreeSet::new());
        let sidecar = container.get("restartPolicy").text() == "Always";
        if sidecar {
            hooks_and_probes(errors, &container, pod);
        } else {
            for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
                let at = container.get(field);
                if at.present() {
                    errors.forbidden(&at, "may not be set for init containers without restartPolicy=Always");
                }
            }
            for policy in container.get("resizePolicy").items() {
                let restart = policy.get("restartPolicy");
                if restart.text() == "RestartContainer" {
                    errors.invalid(
                        &restart,
                        "must not be set to 'RestartContainer' for non-sidecar initContainers",
                    );
                }
            }
        }
    }
}

/// What an ephemeral container may not have.
const NOT_EPHEMERAL: &[&str] = &[
    "ports",
    "resources",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "resizePolicy",
    "restartPolicy",
    "restartPolicyRules",
];

pub(super) fn ephemeral_containers(errors: &mut Errors, spec: &At<'_, '_>, pod: &Pod<'_>) {
    let list = spec.get("ephemeralContainers");
    let (regular, init) = (spec.get("containers"), spec.get("initContainers"));
    let others: BTreeSet<String> =
        regular.items().chain(init.items()).map(|c| c.get("name").text().to_owned()).collect();
    let mut names = others.clone();
    for container in list.items() {
        common(errors, &container, pod);
        image_is_trimmed(errors, &container);
        unique_name(errors, &container, &mut names);
        let target = container.get("targetContainerName");
        if !target.text().is_empty() && !others.contains(target.text()) {
            errors.not_found(&target);
        }
        for field in NOT_EPHEMERAL {
            let at = container.get(field);
            if !at.is_empty() {
                errors.forbidden(&at, "cannot be set for an Ephemeral Container");
            }
        }
        for mount in container.get("volumeMounts").items() {
            for field in ["subPath", "subPathExpr"] {
                let at = mount.get(field);
                if !at.is_empty() {
                    errors.forbidden(&at, "cannot be set for an Ephemeral Container");
                }
            }
        }
    }
}

fn unique_name(errors: &mut Errors, container: &At<'_, '_>, names: &mut BTreeSet<String>) {
    let name = container.get("name");
    if !name.text().is_empty() && !names.insert(name.text().to_owned()) {
        errors.duplicate(&name);
    }
}

/// In a Pod, not in a template, where old objects may have it.
pub(super) fn image_is_trimmed(errors: &mut Errors, container: &At<'_, '_>) {
    let image = container.get("image");
    if image.text() != image.text().trim() {
        errors.invalid(&image, "must not have leading or trailing whitespace");
    }
}

fn common(errors: &mut Errors, at: &At<'_, '_>, pod: &Pod<'_>) {
    errors.required_text(&at.get("name"), |name| dns1123_label(name, false));
    let image = at.get("image");
    if image.text().is_empty() {
        errors.required(&image, "");
    }
    errors.one_of(&at.get("terminationMessagePolicy"), &["File", "FallbackToLogsOnError"]);
    ports(errors, &at.get("ports"));
    env::variables(errors, &at.get("env"), pod.volumes);
    env::sources(errors, &at.get("envFrom"));
    pod.volumes.mounts(errors, at);
    pod.volumes.devices(errors, at);
    errors.one_of(&at.get("imagePullPolicy"), &["Always", "IfNotPresent", "Never"]);
    resources::requirements(errors, &at.get("resources"), Level::Container);
    resize_policies(errors, &at.get("resizePolicy"), pod.restart_policy);
    security::container(errors, &at.get("securityContext"), pod.host_users);
}

fn hooks_and_probes(errors: &mut Errors, at: &At<'_, '_>, pod: &Pod<'_>) {
    let lifecycle = at.get("lifecycle");
    for hook in ["postStart", "preStop"] {
        let hook = lifecycle.get(hook);
        if hook.present() {
            probe::handler(errors, &hook, &["exec", "httpGet", "tcpSocket", "sleep"], pod.grace);
        }
    }
    let signal = lifecycle.get("stopSignal");
    if signal.present() && pod.os.is_empty() {
        errors.forbidden(&signal, "may not be set for containers with empty `spec.os.name`");
    }
    for kind in probe::Kind::ALL {
        probe::probe(errors, &at.get(kind.field()), kind, pod.grace);
    }
}

fn ports(errors: &mut Errors, list: &At<'_, '_>) {
    let mut names = BTreeSet::new();
    for port in list.items() {
        let name = port.get("name");
        if !name.text().is_empty() {
            let wrong = text::port_name(name.text());
            if !wrong.is_empty() {
                errors.text(&name, wrong);
            } else if !names.insert(name.text()) {
                errors.duplicate(&name);
            }
        }
        let number = port.get("containerPort");
        if number.int().unwrap_or(0) == 0 {
            errors.required(&number, "");
        } else {
            port_number(errors, &number);
        }
        let host = port.get("hostPort");
        if host.int().unwrap_or(0) != 0 {
            port_number(errors, &host);
        }
        errors.one_of(&port.get("protocol"), PROTOCOLS);
    }
}

fn host_ports(errors: &mut Errors, container: &At<'_, '_>, seen: &mut BTreeSet<String>) {
    for port in container.get("ports").items() {
        let at = port.get("hostPort");
        let number = at.int().unwrap_or(0);
        if number == 0 {
            continue;
        }
        let key = format!("{}/{}/{number}", port.get("protocol").text(), port.get("hostIP").text());
        if !seen.insert(key.clone()) {
            errors.push(FieldError::duplicate(at.path(), key.into()));
        }
    }
}

fn resize_policies(errors: &mut Errors, list: &At<'_, '_>, restart_policy: &str) {
    let mut seen = BTreeSet::new();
    for policy in list.items() {
        let (resource, restart) = (policy.get("resourceName"), policy.get("restartPolicy"));
        if !seen.insert(resource.text()) {
            errors.push(FieldError::duplicate(policy.path(), resource.json()));
        }
        for (at, known) in [(&resource, ["cpu", "memory"]), (&restart, ["NotRequired", "RestartContainer"])] {
            if at.text().is_empty() {
                errors.required(list, "");
            } else if !known.contains(&at.text()) {
                errors.push(FieldError::not_supported(list.path(), at.json(), &known));
            }
        }
        if restart_policy == "Never" && restart.text() != "NotRequired" {
            let why = "must be 'NotRequired' when pod `restartPolicy` is 'Never'";
            errors.push(FieldError::invalid(list.path(), restart.json(), why));
        }
    }
}

/// A container's own restart policy (KEP-5307).
fn restart_rules(errors: &mut Errors, at: &At<'_, '_>) {
    let (policy, rules) = (at.get("restartPolicy"), at.get("restartPolicyRules"));
    if !policy.present() && !rules.is_empty() {
        errors.required(&policy, "must specify restartPolicy when restart rules are used");
    }
    errors.optional_one_of(&policy, &["Always", "Never", "OnFailure"]);
    if rules.len() > 20 {
        errors.push(FieldError::too_many(rules.path(), rules.len(), 20));
    }
    for rule in rules.items() {
        errors.optional_one_of(&rule.get("action"), &["Restart", "RestartAllContainers"]);
        let codes = rule.get("exitCodes");
        if !codes.present() {
            errors.required(&codes, "must be specified");
            continue;
        }
        errors.optional_one_of(&codes.get("operator"), &["In", "NotIn"]);
        let values = codes.get("values");
        if values.len() > 255 {
            errors.push(FieldError::too_many(values.path(), values.len(), 255));
        }
    }
}
