//! The checks of the Pod Security Standards, one row a check and one function a meaning.

use super::{Level, Violation};
use serde_json::{Map, Value};
use std::collections::BTreeSet;

/// A pod as checks see it.
pub(super) struct Pod<'a> {
    annotations: Option<&'a Map<String, Value>>,
    spec: &'a Value,
}

type Function = fn(&Pod<'_>) -> Option<Violation>;

/// A check from one minor version on.
pub(super) struct Versioned {
    pub(super) from: u32,
    pub(super) check: Function,
}

/// A check with all its versions, the oldest first.
pub(super) struct Check {
    pub(super) id: &'static str,
    pub(super) level: Level,
    /// The check of the level below that this one makes superfluous, at this level.
    pub(super) replaces: Option<(&'static str, Level)>,
    pub(super) versions: &'static [Versioned],
}

const fn from(from: u32, check: Function) -> Versioned {
    Versioned { from, check }
}

const fn baseline(id: &'static str, versions: &'static [Versioned]) -> Check {
    Check { id, level: Level::Baseline, replaces: None, versions }
}

const fn restricted(id: &'static str, replaces: &'static str, versions: &'static [Versioned]) -> Check {
    let replaces = if replaces.is_empty() { None } else { Some((replaces, Level::Restricted)) };
    Check { id, level: Level::Restricted, replaces, versions }
}

/// All checks, in the order in which they are reported: by level, then by name.
pub(super) const TABLE: &[Check] = &[
    baseline("appArmorProfile", &[from(0, app_armor)]),
    baseline("capabilities_baseline", &[from(0, capabilities_added)]),
    baseline("hostNamespaces", &[from(0, host_namespaces)]),
    baseline("hostPathVolumes", &[from(0, host_paths)]),
    baseline("hostPorts", &[from(0, host_ports)]),
    baseline("hostProbesAndHostLifecycle", &[from(34, probed_hosts)]),
    baseline("privileged", &[from(0, privileged)]),
    baseline("procMount", &[from(0, proc_mount), from(35, |pod| pod.unless_own_users(proc_mount))]),
    baseline("seLinuxOptions", &[from(0, |p| se_linux(p, 3)), from(31, |p| se_linux(p, 4))]),
    baseline("seccompProfile_baseline", &[from(0, seccomp_annotations), from(19, seccomp)]),
    baseline(
        "sysctls",
        &[
            from(0, |p| sysctls(p, 5)),
            from(27, |p| sysctls(p, 6)),
            from(29, |p| sysctls(p, 10)),
            from(32, |p| sysctls(p, 12)),
        ],
    ),
    baseline("windowsHostProcess", &[from(0, host_process)]),
    restricted(
        "allowPrivilegeEscalation",
        "",
        &[from(8, privilege_escalation), from(25, |pod| pod.unless_windows(privilege_escalation))],
    ),
    restricted(
        "capabilities_restricted",
        "capabilities_baseline",
        &[from(22, capabilities_dropped), from(25, |pod| pod.unless_windows(capabilities_dropped))],
    ),
    restricted("procMount_restricted", "procMount", &[from(35, proc_mount)]),
    restricted("restrictedVolumes", "hostPathVolumes", &[from(0, volume_types)]),
    restricted("runAsNonRoot", "", &[from(0, non_root), from(35, |pod| pod.unless_own_users(non_root))]),
    restricted("runAsUser", "", &[from(23, root_user), from(35, |pod| pod.unless_own_users(root_user))]),
    restricted(
        "seccompProfile_restricted",
        "seccompProfile_baseline",
        &[from(19, seccomp_required), from(25, |pod| pod.unless_windows(seccomp_required))],
    ),
];

/// SELinux types that may be set; the last since 1.31.
const SE_LINUX_TYPES: [&str; 4] =
    ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// Sysctls that may be set, in the order in which versions allowed them.
const SYSCTLS: [&str; 12] = [
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];

/// Capabilities a container may add under `baseline`.
const CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Volume sources a pod may use under `restricted`.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// Those it may not use, by the names that messages have for them.
const OTHER_VOLUMES: [&str; 21] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// A field that is there: `null` counts as absent.
fn field<'a>(tree: &'a Value, pointer: &str) -> Option<&'a Value> {
    tree.pointer(pointer).filter(|value| !value.is_null())
}

fn text<'a>(tree: &'a Value, pointer: &str) -> &'a str {
    tree.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn list<'a>(tree: &'a Value, pointer: &str) -> &'a [Value] {
    tree.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn flag(tree: &Value, pointer: &str) -> Option<bool> {
    tree.pointer(pointer).and_then(Value::as_bool)
}

fn quoted<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect::<Vec<_>>().join(", ")
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `container "a"`, `containers "a", "b"`.
fn named(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

fn violation(reason: &'static str, detail: String) -> Option<Violation> {
    Some(Violation { reason, detail })
}

/// Who sets something that is forbidden.
struct Setters<'a> {
    pod: bool,
    containers: Vec<&'a str>,
}

impl Setters<'_> {
    fn is_empty(&self) -> bool {
        !self.pod && self.containers.is_empty()
    }

    /// `pod and container "a"`, with whatever comes last.
    fn and(&self, last: Option<&str>) -> String {
        let containers = (!self.containers.is_empty()).then(|| named(&self.containers));
        let pod = self.pod.then(|| "pod".to_owned());
        let parts: Vec<String> = pod.into_iter().chain(containers).chain(last.map(str::to_owned)).collect();
        parts.join(" and ")
    }
}

impl<'a> Pod<'a> {
    pub(super) fn new(annotations: Option<&'a Value>, spec: &'a Value) -> Self {
        Pod { annotations: annotations.and_then(Value::as_object), spec }
    }

    fn containers(&self) -> impl Iterator<Item = &'a Value> + use<'a> {
        let spec = self.spec;
        ["/initContainers", "/containers", "/ephemeralContainers"].into_iter().flat_map(|at| list(spec, at))
    }

    /// The names of the containers that a predicate holds for.
    fn which(&self, mut bad: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers().filter(|c| bad(c)).map(|c| text(c, "/name")).collect()
    }

    /// Whose security context a predicate holds for, the pod's first.
    fn setters(&self, mut bad: impl FnMut(&'a Value) -> bool) -> Setters<'a> {
        let pod = field(self.spec, "/securityContext").is_some_and(&mut bad);
        Setters { pod, containers: self.which(|c| field(c, "/securityContext").is_some_and(&mut bad)) }
    }

    fn unless_windows(&self, check: Function) -> Option<Violation> {
        if text(self.spec, "/os/name") == "windows" { None } else { check(self) }
    }

    /// In a user namespace of its own, root is nobody outside.
    fn unless_own_users(&self, check: Function) -> Option<Violation> {
        if flag(self.spec, "/hostUsers") == Some(false) { None } else { check(self) }
    }
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = pod.setters(|context| {
        let Some(profile) = field(context, "/appArmorProfile") else { return false };
        let kind = text(profile, "/type");
        let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
        if bad {
            values.insert(kind.to_owned());
        }
        bad
    });
    let good = |v: &str| v.is_empty() || v == "runtime/default" || v.starts_with("localhost/");
    let annotations: Vec<String> = pod
        .annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| !good(value))
        .map(|(key, value)| format!("{key}={value:?}"))
        .collect();
    if setters.is_empty() && annotations.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", annotations.len());
    let who = setters.and((!annotations.is_empty()).then_some(word));
    let all: Vec<String> = values.into_iter().chain(annotations).collect();
    violation(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len()),
        format!("{who} must not set AppArmor profile type to {}", quoted(all)),
    )
}

/// Adds the capabilities of a container that `allowed` does not have to `found`; whether there are any.
fn adds(container: &Value, allowed: &[&str], found: &mut BTreeSet<String>) -> bool {
    let added = list(container, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
    let bad: Vec<&str> = added.filter(|c| !allowed.contains(c)).collect();
    found.extend(bad.iter().map(|c| (*c).to_owned()));
    !bad.is_empty()
}

fn capabilities_added(pod: &Pod<'_>) -> Option<Violation> {
    let mut found = BTreeSet::new();
    let bad = pod.which(|container| adds(container, &CAPABILITIES, &mut found));
    if bad.is_empty() {
        return None;
    }
    let detail =
        format!("{} must not include {} in securityContext.capabilities.add", named(&bad), quoted(found));
    violation("non-default capabilities", detail)
}

fn capabilities_dropped(pod: &Pod<'_>) -> Option<Violation> {
    let dropped = |c: &Value| list(c, "/securityContext/capabilities/drop").iter().any(|d| d == "ALL");
    let keep = pod.which(|container| !dropped(container));
    let mut found = BTreeSet::new();
    let add = pod.which(|container| adds(container, &["NET_BIND_SERVICE"], &mut found));
    let mut details = Vec::new();
    if !keep.is_empty() {
        details.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", named(&keep)));
    }
    if !add.is_empty() {
        details.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            named(&add),
            quoted(found)
        ));
    }
    if details.is_empty() { None } else { violation("unrestricted capabilities", details.join("; ")) }
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let shared = ["hostNetwork", "hostPID", "hostIPC"];
    let found: Vec<String> = shared
        .iter()
        .filter(|name| pod.spec.get(**name).and_then(Value::as_bool) == Some(true))
        .map(|name| format!("{name}=true"))
        .collect();
    if found.is_empty() { None } else { violation("host namespaces", found.join(", ")) }
}

fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let volumes = list(pod.spec, "/volumes").iter().filter(|v| field(v, "/hostPath").is_some());
    let found: Vec<&str> = volumes.map(|v| text(v, "/name")).collect();
    let word = plural("volume", "volumes", found.len());
    if found.is_empty() { None } else { violation("hostPath volumes", format!("{word} {}", quoted(found))) }
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let mut ports = BTreeSet::new();
    let bad = pod.which(|container| {
        let all = list(container, "/ports").iter().filter_map(|p| p.get("hostPort")?.as_i64());
        let found: Vec<i64> = all.filter(|port| *port != 0).collect();
        ports.extend(found.iter().map(i64::to_string));
        !found.is_empty()
    });
    if bad.is_empty() {
        return None;
    }
    let uses = plural("uses", "use", bad.len());
    let word = plural("hostPort", "hostPorts", ports.len());
    let ports: Vec<String> = ports.into_iter().collect();
    violation("hostPort", format!("{} {uses} {word} {}", named(&bad), ports.join(", ")))
}

fn probed_hosts(pod: &Pod<'_>) -> Option<Violation> {
    const PLACES: [&str; 5] =
        ["/livenessProbe", "/readinessProbe", "/startupProbe", "/lifecycle/postStart", "/lifecycle/preStop"];
    let mut hosts = BTreeSet::new();
    let bad: BTreeSet<&str> = pod
        .which(|container| {
            let ways =
                PLACES.iter().flat_map(|at| [format!("{at}/httpGet/host"), format!("{at}/tcpSocket/host")]);
            let found: Vec<&str> = ways.map(|way| text(container, &way)).filter(|h| !h.is_empty()).collect();
            hosts.extend(found.iter().copied());
            !found.is_empty()
        })
        .into_iter()
        .collect();
    if bad.is_empty() {
        return None;
    }
    let bad: Vec<&str> = bad.into_iter().collect();
    let uses = plural("uses", "use", bad.len());
    let word = plural("probe or lifecycle host", "probe or lifecycle hosts", hosts.len());
    violation("probe or lifecycle host", format!("{} {uses} {word} {}", named(&bad), quoted(hosts)))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.which(|c| flag(c, "/securityContext/privileged") == Some(true));
    if bad.is_empty() {
        return None;
    }
    violation("privileged", format!("{} must not set securityContext.privileged=true", named(&bad)))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let bad = pod.which(|container| {
        let Some(mount) = field(container, "/securityContext/procMount").and_then(Value::as_str) else {
            return false;
        };
        if mount != "Default" {
            values.insert(mount);
        }
        mount != "Default"
    });
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must not set securityContext.procMount to {}", named(&bad), quoted(values));
    violation("procMount", detail)
}

fn se_linux(pod: &Pod<'_>, known: usize) -> Option<Violation> {
    let (mut types, mut user, mut role) = (BTreeSet::new(), false, false);
    let setters = pod.setters(|context| {
        let Some(options) = field(context, "/seLinuxOptions") else { return false };
        let kind = text(options, "/type");
        let bad = !kind.is_empty() && !SE_LINUX_TYPES.iter().take(known).any(|t| *t == kind);
        if bad {
            types.insert(kind);
        }
        let (with_user, with_role) = (!text(options, "/user").is_empty(), !text(options, "/role").is_empty());
        user |= with_user;
        role |= with_role;
        bad || with_user || with_role
    });
    if setters.is_empty() {
        return None;
    }
    let mut data = Vec::new();
    if !types.is_empty() {
        data.push(format!("{} {}", plural("type", "types", types.len()), quoted(types)));
    }
    if user {
        data.push("user may not be set".to_owned());
    }
    if role {
        data.push("role may not be set".to_owned());
    }
    let detail =
        format!("{} set forbidden securityContext.seLinuxOptions: {}", setters.and(None), data.join("; "));
    violation("seLinuxOptions", detail)
}

/// Before there was a field: annotations.
fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let good = |v: &str| v == "runtime/default" || v == "docker/default" || v.starts_with("localhost/");
    let keys = pod.containers().map(|c| format!("{SECCOMP_CONTAINER}{}", text(c, "/name")));
    let found: BTreeSet<String> = std::iter::once(SECCOMP_POD.to_owned())
        .chain(keys)
        .filter_map(|key| Some((pod.annotations?.get(&key)?.as_str()?, key)))
        .filter(|(value, _)| !good(value))
        .map(|(value, key)| format!("{key}={value:?}"))
        .collect();
    if found.is_empty() {
        return None;
    }
    let word = plural("annotation", "annotations", found.len());
    let found: Vec<String> = found.into_iter().collect();
    violation("seccompProfile", format!("forbidden {word} {}", found.join(", ")))
}

/// The type of a context's profile, where it has one.
fn seccomp_type(context: &Value) -> Option<&str> {
    field(context, "/seccompProfile").map(|profile| text(profile, "/type"))
}

fn seccomp_is_good(kind: &str) -> bool {
    matches!(kind, "Localhost" | "RuntimeDefault")
}

fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = BTreeSet::new();
    let setters = pod.setters(|context| {
        let bad = seccomp_type(context).filter(|kind| !seccomp_is_good(kind));
        values.extend(bad);
        bad.is_some()
    });
    if setters.is_empty() {
        return None;
    }
    let who = setters.and(None);
    let detail = format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(values));
    violation("seccompProfile", detail)
}

fn seccomp_required(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(found) = seccomp(pod) {
        return Some(found);
    }
    let context_type = |tree| field(tree, "/securityContext").and_then(seccomp_type);
    if context_type(pod.spec).is_some() {
        return None;
    }
    let bad = pod.which(|container| context_type(container).is_none());
    if bad.is_empty() {
        return None;
    }
    let detail = format!(
        "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
        named(&bad)
    );
    violation("seccompProfile", detail)
}

fn sysctls(pod: &Pod<'_>, known: usize) -> Option<Violation> {
    let names = list(pod.spec, "/securityContext/sysctls").iter().map(|s| text(s, "/name"));
    let bad: Vec<&str> = names.filter(|name| !SYSCTLS.iter().take(known).any(|s| s == name)).collect();
    if bad.is_empty() { None } else { violation("forbidden sysctls", bad.join(", ")) }
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| flag(context, "/windowsOptions/hostProcess") == Some(true));
    if setters.is_empty() {
        return None;
    }
    let who = setters.and(None);
    violation("hostProcess", format!("{who} must not set securityContext.windowsOptions.hostProcess=true"))
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = pod.which(|c| flag(c, "/securityContext/allowPrivilegeEscalation") != Some(false));
    if bad.is_empty() {
        return None;
    }
    let detail = format!("{} must set securityContext.allowPrivilegeEscalation=false", named(&bad));
    violation("allowPrivilegeEscalation != false", detail)
}

fn volume_types(pod: &Pod<'_>) -> Option<Violation> {
    let has = |volume: &Value, kind: &str| volume.get(kind).is_some_and(|source| !source.is_null());
    let bad: Vec<&Value> =
        list(pod.spec, "/volumes").iter().filter(|v| !VOLUMES.iter().any(|kind| has(v, kind))).collect();
    if bad.is_empty() {
        return None;
    }
    let kind = |v: &&Value| OTHER_VOLUMES.into_iter().find(|kind| has(v, kind)).unwrap_or("unknown");
    let kinds: BTreeSet<&str> = bad.iter().map(kind).collect();
    let detail = format!(
        "{} {} {} {} {}",
        plural("volume", "volumes", bad.len()),
        quoted(bad.iter().map(|v| text(v, "/name"))),
        plural("uses", "use", bad.len()),
        plural("restricted volume type", "restricted volume types", kinds.len()),
        quoted(kinds)
    );
    violation("restricted volume types", detail)
}

fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let setters = pod.setters(|context| flag(context, "/runAsNonRoot") == Some(false));
    if !setters.is_empty() {
        let who = setters.and(None);
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if flag(pod.spec, "/securityContext/runAsNonRoot") == Some(true) {
        return None;
    }
    let bad = pod.which(|c| flag(c, "/securityContext/runAsNonRoot").is_none());
    if bad.is_empty() {
        return None;
    }
    violation(REASON, format!("pod or {} must set securityContext.runAsNonRoot=true", named(&bad)))
}

fn root_user(pod: &Pod<'_>) -> Option<Violation> {
    let setters = pod.setters(|context| context.get("runAsUser").and_then(Value::as_i64) == Some(0));
    if setters.is_empty() {
        return None;
    }
    violation("runAsUser=0", format!("{} must not set runAsUser=0", setters.and(None)))
}
