//! Rules of security contexts of pods and containers.

use crate::field::FieldError;
use crate::validation::{At, Errors, text, user_id};
use std::collections::BTreeSet;

pub(super) fn container(errors: &mut Errors, at: &At<'_, '_>, host_users: bool) {
    user_id(errors, &at.get("runAsUser"));
    user_id(errors, &at.get("runAsGroup"));
    let proc_mount = at.get("procMount");
    errors.optional_one_of(&proc_mount, &["Default", "Unmasked"]);
    if host_users && proc_mount.text() == "Unmasked" {
        errors.invalid(&proc_mount, "`hostUsers` must be false to use `Unmasked`");
    }
    profile(errors, &at.get("seccompProfile"), "seccomp", "seccompProfile");
    let escalation = at.get("allowPrivilegeEscalation");
    if escalation.present() && !escalation.is_true() {
        if at.get("privileged").is_true() {
            errors.invalid(at, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        if at.get("capabilities").get("add").texts().any(|capability| capability == "CAP_SYS_ADMIN") {
            errors.invalid(
                at,
                "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN",
            );
        }
    }
    profile(errors, &at.get("appArmorProfile"), "AppArmor", "appArmorProfile");
}

pub(super) fn pod(errors: &mut Errors, spec: &At<'_, '_>) {
    let at = spec.get("securityContext");
    for field in ["fsGroup", "runAsUser", "runAsGroup"] {
        user_id(errors, &at.get(field));
    }
    for group in at.get("supplementalGroups").items() {
        user_id(errors, &group);
    }
    let share = spec.get("shareProcessNamespace");
    if share.is_true() && spec.get("hostPID").is_true() {
        // Upstream keeps both in the security context and says so.
        let path = at.path().child("shareProcessNamespace");
        errors.push(FieldError::invalid(
            path,
            true.into(),
            "ShareProcessNamespace and HostPID cannot both be enabled",
        ));
    }
    sysctls(errors, spec, &at.get("sysctls"));
    errors.optional_one_of(&at.get("fsGroupChangePolicy"), &["Always", "OnRootMismatch"]);
    profile(errors, &at.get("seccompProfile"), "seccomp", "seccompProfile");
    profile(errors, &at.get("appArmorProfile"), "AppArmor", "appArmorProfile");
    errors.optional_one_of(&at.get("supplementalGroupsPolicy"), &["Merge", "Strict"]);
    errors.optional_one_of(&at.get("seLinuxChangePolicy"), &["MountOption", "Recursive"]);
}

/// A seccomp or AppArmor profile.
fn profile(errors: &mut Errors, at: &At<'_, '_>, word: &str, field: &str) {
    if !at.present() {
        return;
    }
    let (kind, local) = (at.get("type"), at.get("localhostProfile"));
    match kind.text() {
        "Localhost" if local.text().is_empty() => {
            errors.required(&local, format!("must be set when {word} type is Localhost"));
        }
        "Localhost" if word == "AppArmor" => {
            if local.text().trim() != local.text() {
                errors.invalid(&local, "must not be padded with whitespace");
            }
            if local.text().len() > 4095 {
                errors.push(FieldError::too_long(local.path(), 4095));
            }
        }
        "Localhost" => errors.text(&local, text::descending_path(local.text())),
        "" => errors.required(&kind, format!("type is required when {field} is set")),
        "RuntimeDefault" | "Unconfined" => {}
        _ => errors.not_supported(&kind, &["Localhost", "RuntimeDefault", "Unconfined"]),
    }
    if kind.text() != "Localhost" && local.present() {
        errors.invalid(&local, format!("can only be set when {word} type is Localhost"));
    }
}

const SYSCTL: &str = "must have at most 253 characters and match regex \
    ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";

fn is_sysctl(name: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    name.len() <= 253
        && name.split(['.', '/']).all(|part| {
            let bytes = part.as_bytes();
            matches!((bytes.first(), bytes.last()), (Some(&a), Some(&b)) if word(a) && word(b))
                && bytes.iter().all(|&b| word(b) || matches!(b, b'-' | b'_'))
        })
}

fn sysctls(errors: &mut Errors, spec: &At<'_, '_>, list: &At<'_, '_>) {
    let mut seen = BTreeSet::new();
    for sysctl in list.items() {
        let name = sysctl.get("name");
        let dotted = name.text().replace('/', ".");
        if name.text().is_empty() {
            errors.required(&name, "");
        } else if !is_sysctl(name.text()) {
            errors.invalid(&name, SYSCTL);
        } else if !seen.insert(name.text()) {
            errors.duplicate(&name);
        }
        if spec.get("hostNetwork").is_true() && dotted.starts_with("net.") {
            errors.invalid(&name, "may not be specified when 'hostNetwork' is true");
        }
        let ipc =
            ["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."].iter().any(|p| dotted.starts_with(p));
        if spec.get("hostIPC").is_true() && ipc {
            errors.invalid(&name, "may not be specified when 'hostIPC' is true");
        }
    }
}
