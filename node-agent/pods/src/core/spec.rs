//! What a container is made with. Source: kubelet `generateContainerConfig`, `security_context.go`.

use super::env::expand;
use super::resources::{kernel, oom_score};
use super::rules;
use super::sandbox::{Node, id, labels, linux_resources, namespaces, seccomp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};
use std::collections::{BTreeMap, HashMap};

/// Annotation that holds the image a container was made for, to see a changed spec.
pub const IMAGE_ANNOTATION: &str = "io.kubernetes.container.image";
/// Annotation that says what to do for an empty termination message.
pub const MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";
/// Annotation that says where the container writes its termination message.
pub const MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
/// Label with the container's name.
pub const NAME_LABEL: &str = "io.kubernetes.container.name";

/// The identity an image asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageUser {
    /// Numeric user, if the image gives one.
    pub uid: Option<i64>,
    /// User name otherwise.
    pub name: String,
}

/// Why a container cannot be configured (`CreateContainerConfigError`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// `runAsNonRoot` and the spec says root.
    #[error("container's runAsUser breaks non-root policy (pod: {pod:?}, container: {container})")]
    RootBySpec {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` and the image says root.
    #[error("container has runAsNonRoot and image will run as root (pod: {pod:?}, container: {container})")]
    RootByImage {
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
    /// `runAsNonRoot` and the image names a user that cannot be checked.
    #[error(
        "container has runAsNonRoot and image has non-numeric user ({user}), cannot verify user is non-root (pod: {pod:?}, container: {container})"
    )]
    UserByName {
        /// The image's user.
        user: String,
        /// The pod.
        pod: String,
        /// The container.
        container: String,
    },
}

/// An ephemeral container as a container.
pub fn ephemeral(e: &EphemeralContainer) -> Container {
    Container {
        name: e.name.clone(),
        image: e.image.clone(),
        command: e.command.clone(),
        args: e.args.clone(),
        working_dir: e.working_dir.clone(),
        env: e.env.clone(),
        env_from: e.env_from.clone(),
        resources: e.resources.clone(),
        volume_mounts: e.volume_mounts.clone(),
        termination_message_path: e.termination_message_path.clone(),
        termination_message_policy: e.termination_message_policy.clone(),
        image_pull_policy: e.image_pull_policy.clone(),
        security_context: e.security_context.clone(),
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        restart_policy: Some("Never".into()),
        ..Container::default()
    }
}

/// The container of that name, whichever list it is in.
pub fn find(spec: &PodSpec, name: &str) -> Option<Container> {
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|c| c.name == name)
        .cloned()
        .or_else(|| spec.ephemeral_containers.iter().flatten().find(|e| e.name == name).map(ephemeral))
}

/// Checks `runAsNonRoot`.
pub fn check_user(pod: &Pod, c: &Container, image: &ImageUser) -> Result<(), ConfigError> {
    let of_pod = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
    let own = c.security_context.as_ref();
    let required = own.and_then(|s| s.run_as_non_root).or(of_pod.and_then(|s| s.run_as_non_root));
    if required != Some(true) {
        return Ok(());
    }
    let (pod_name, container) = (rules::describe(pod), c.name.clone());
    match own.and_then(|s| s.run_as_user).or(of_pod.and_then(|s| s.run_as_user)) {
        Some(0) => Err(ConfigError::RootBySpec { pod: pod_name, container }),
        Some(_) => Ok(()),
        None if image.uid.is_some_and(|u| u != 0) => Ok(()),
        None if image.uid.is_none() && !image.name.is_empty() => {
            Err(ConfigError::UserByName { user: image.name.clone(), pod: pod_name, container })
        }
        None => Err(ConfigError::RootByImage { pod: pod_name, container }),
    }
}

const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

fn security(
    pod: &Pod,
    spec: &PodSpec,
    c: &Container,
    image: &ImageUser,
    node: &Node,
    target: Option<&str>,
) -> cri::LinuxContainerSecurityContext {
    let of_pod = spec.security_context.as_ref();
    let own = c.security_context.as_ref();
    let privileged = own.and_then(|s| s.privileged) == Some(true);
    let user = own.and_then(|s| s.run_as_user).or(of_pod.and_then(|s| s.run_as_user));
    let group = own.and_then(|s| s.run_as_group).or(of_pod.and_then(|s| s.run_as_group));
    let uid = user.or(if image.name.is_empty() { image.uid } else { None });
    let mut ns = namespaces(spec);
    if let Some(t) = target {
        ns.pid = i32::from(cri::NamespaceMode::Target);
        t.clone_into(&mut ns.target_id);
    }
    let mut groups = of_pod.and_then(|s| s.supplemental_groups.clone()).unwrap_or_default();
    groups.extend(of_pod.and_then(|s| s.fs_group));
    let caps = own.and_then(|s| s.capabilities.as_ref());
    let unmasked = own.and_then(|s| s.proc_mount.as_deref()) == Some("Unmasked");
    let paths = |list: &[&str]| {
        if privileged || unmasked { Vec::new() } else { list.iter().map(|s| (*s).to_owned()).collect() }
    };
    let profile =
        own.and_then(|s| s.seccomp_profile.as_ref()).or(of_pod.and_then(|s| s.seccomp_profile.as_ref()));
    let _ = pod;
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: caps.and_then(|c| c.add.clone()).unwrap_or_default(),
            drop_capabilities: caps.and_then(|c| c.drop.clone()).unwrap_or_default(),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(ns),
        run_as_user: uid.map(|value| cri::Int64Value { value }),
        run_as_group: group
            .filter(|_| uid.is_some() || !image.name.is_empty())
            .map(|value| cri::Int64Value { value }),
        run_as_username: if uid.is_none() { image.name.clone() } else { String::new() },
        readonly_rootfs: own.and_then(|s| s.read_only_root_filesystem) == Some(true),
        supplemental_groups: groups,
        supplemental_groups_policy: i32::from(
            match of_pod.and_then(|s| s.supplemental_groups_policy.as_deref()) {
                Some("Strict") => cri::SupplementalGroupsPolicy::Strict,
                _ => cri::SupplementalGroupsPolicy::Merge,
            },
        ),
        no_new_privs: own.and_then(|s| s.allow_privilege_escalation) == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(if privileged { seccomp(None, node) } else { seccomp(profile, node) }),
        ..cri::LinuxContainerSecurityContext::default()
    }
}

/// Everything a container's configuration is made from, beside the pod.
#[derive(Debug, Clone, Default)]
pub struct Parts {
    /// Restart count.
    pub attempt: u32,
    /// Image identifier to run.
    pub image: String,
    /// The image's own user.
    pub user: ImageUser,
    /// Environment, in order.
    pub env: Vec<(String, String)>,
    /// Mounts, in order.
    pub mounts: Vec<cri::Mount>,
    /// Container whose processes an ephemeral container sees.
    pub target: Option<String>,
}

/// The configuration of one container.
pub fn config(
    pod: &Pod,
    c: &Container,
    parts: Parts,
    node: &Node,
) -> Result<cri::ContainerConfig, ConfigError> {
    check_user(pod, c, &parts.user)?;
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let vars: BTreeMap<String, String> = parts.env.iter().cloned().collect();
    let words = |list: Option<&Vec<String>>| list.into_iter().flatten().map(|w| expand(w, &vars)).collect();
    let mut all = labels(pod);
    all.insert(NAME_LABEL.into(), c.name.clone());
    let k = kernel(c.resources.as_ref());
    let (_, _, uid) = id(pod);
    let mut mounts = parts.mounts;
    let message_path = c
        .termination_message_path
        .clone()
        .filter(|p| !p.is_empty())
        .unwrap_or_else(|| "/dev/termination-log".into());
    mounts.push(cri::Mount {
        container_path: message_path.clone(),
        host_path: node.termination_file(uid, &c.name, parts.attempt).to_string_lossy().into_owned(),
        ..cri::Mount::default()
    });
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: c.name.clone(), attempt: parts.attempt }),
        image: Some(cri::ImageSpec {
            image: parts.image,
            user_specified_image: c.image.clone().unwrap_or_default(),
            ..cri::ImageSpec::default()
        }),
        command: words(c.command.as_ref()),
        args: words(c.args.as_ref()),
        working_dir: c.working_dir.clone().unwrap_or_default(),
        envs: parts.env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        mounts,
        labels: all,
        annotations: HashMap::from([
            (IMAGE_ANNOTATION.to_owned(), c.image.clone().unwrap_or_default()),
            (
                MESSAGE_POLICY.to_owned(),
                c.termination_message_policy.clone().unwrap_or_else(|| "File".into()),
            ),
            (MESSAGE_PATH.to_owned(), message_path),
            ("io.kubernetes.container.restartCount".to_owned(), parts.attempt.to_string()),
        ]),
        log_path: format!("{}/{}.log", c.name, parts.attempt),
        stdin: c.stdin == Some(true),
        stdin_once: c.stdin_once == Some(true),
        tty: c.tty == Some(true),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(linux_resources(&k, oom_score(spec, c, node.memory))),
            security_context: Some(security(pod, spec, c, &parts.user, node, parts.target.as_deref())),
        }),
        ..cri::ContainerConfig::default()
    })
}
