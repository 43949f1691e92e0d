//! The doing: what each [`Action`](crate::core::plan::Action) means to the runtime, the disk and the API.

use crate::context::Context;
use crate::core::allot::Size;
use crate::core::backoff::Backoff;
use crate::core::observed::{Observed, Outcome, StartError};
use crate::core::resize::{self, Step};
use crate::core::resources::{Qos, pod_kernel};
use crate::core::sandbox::{self, id};
use crate::core::{dns, env, image_volume, rules, spec};
use crate::prober::{self, Handler};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, LifecycleHandler, Pod, PodSpec};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

/// How an operation ended.
#[derive(Debug, Clone)]
pub enum Done {
    /// It did what it should.
    Fine,
    /// The sandbox could not be made.
    NoSandbox,
    /// A container could not be started; whether a pull has failed.
    NotStarted(StartError, bool),
    /// The pod could not be given another size: why.
    NotResized(String),
    /// It failed and is tried again.
    Again,
}

const RETRY: SignedDuration = SignedDuration::from_secs(10);

fn not_started(reason: &str, message: impl Into<String>) -> Done {
    Done::NotStarted(
        StartError { reason: reason.into(), message: message.into(), retry_at: Timestamp::now() + RETRY },
        false,
    )
}

/// Makes volumes, cgroup and sandbox.
pub async fn make_sandbox(cx: Context, pod: Arc<Pod>, attempt: u32, changed: bool) -> Done {
    let (ns, name, uid) = id(&pod);
    if changed {
        cx.api.event(
            &pod,
            None,
            false,
            "SandboxChanged",
            "Pod sandbox changed, it will be killed and re-created.",
        );
    }
    let Some(spec) = pod.spec.as_ref() else { return Done::NoSandbox };
    let class = crate::core::resources::qos(spec);
    if class != Qos::Guaranteed {
        let _ = cx.cgroups.ensure(&sandbox::qos_cgroup(&cx.node, class), None);
    }
    if let Err(e) = cx.cgroups.ensure(&sandbox::cgroup(&pod, &cx.node), Some(&pod_kernel(spec))) {
        let m = format!("unable to ensure pod container exists: {e}");
        cx.api.event(&pod, None, true, "FailedCreatePodContainer", &m);
        return Done::NoSandbox;
    }
    cx.allotments.change(uid, |r| r.told.cgroup = Some(pod_kernel(spec)));
    let dirs = [cx.node.pod_logs(ns, name, uid), cx.node.pod_dir(uid)];
    for d in &dirs {
        if let Err(e) = std::fs::create_dir_all(d) {
            cx.api.event(&pod, None, true, "Failed", &format!("error making pod data directories: {e}"));
            return Done::NoSandbox;
        }
    }
    if let Err(e) = cx.volumes.set_up(&pod, &[]).await {
        cx.api.event(&pod, None, true, "FailedMount", &e.to_string());
        return Done::NoSandbox;
    }
    if rules::host_network(spec) {
        let _ = cx.volumes.write_hosts(&pod, &cx.node.ips);
    }
    for (reason, message) in dns::resolver(&pod, &cx.node).1 {
        cx.api.event(&pod, None, true, reason, &message);
    }
    let handler = "";
    match cx.rt.run_sandbox(sandbox::config(&pod, attempt, &cx.node), handler).await {
        Ok(_) => Done::Fine,
        Err(e) => {
            let m = format!("Failed to create pod sandbox: {}", e.message);
            cx.api.event(&pod, None, true, "FailedCreatePodSandBox", &m);
            Done::NoSandbox
        }
    }
}

/// What a start needs beside the context.
pub struct Start {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Name of the container.
    pub name: String,
    /// Restart count.
    pub attempt: u32,
    /// Sandbox identifier and attempt.
    pub sandbox: (String, u32),
    /// Pod addresses.
    pub ips: Vec<String>,
    /// Pull backoff so far.
    pub pulls: Option<Backoff>,
    /// Containers to attach an ephemeral one to, by name.
    pub ids: BTreeMap<String, String>,
}

/// Pulls, creates and starts a container, and runs its post-start hook.
pub async fn start(cx: Context, s: Start) -> Done {
    let pod = &s.pod;
    let Some((pod_spec, c)) = pod.spec.as_ref().and_then(|p| spec::find(p, &s.name).map(|c| (p, c))) else {
        return Done::Fine;
    };
    let sandbox_config = sandbox::config(pod, s.sandbox.1, &cx.node);
    let image =
        match crate::images::ensure(&cx.rt, &cx.api, pod, &c, s.pulls.as_ref(), sandbox_config.clone()).await
        {
            Ok(i) => i,
            Err(n) => {
                let message = n.message;
                return Done::NotStarted(
                    StartError { reason: n.reason.into(), message, retry_at: n.retry_at },
                    n.failed,
                );
            }
        };
    let volumes = match image_volumes(&cx, &s, pod_spec, &c, &sandbox_config).await {
        Ok(v) => v,
        Err(done) => return done,
    };
    let fail = |reason: &str, event: &str, message: String| {
        cx.api.event(pod, Some(&c.name), true, event, &format!("Error: {message}"));
        not_started(reason, message)
    };
    let sources = match cx.sources(pod, &c, &s.ips).await {
        Ok(x) => x,
        Err(e) => return fail("CreateContainerConfigError", "Failed", e),
    };
    let vars = match env::build(pod, &c, &sources) {
        Ok(v) => v,
        Err(e) => return fail("CreateContainerConfigError", "Failed", e.to_string()),
    };
    let (_, _, uid) = id(pod);
    let hosts = if rules::host_network(pod_spec) { &cx.node.ips } else { &s.ips };
    if let Err(e) = cx.volumes.write_hosts(pod, hosts) {
        return fail("CreateContainerConfigError", "Failed", e.to_string());
    }
    let table: BTreeMap<String, String> = vars.iter().cloned().collect();
    let mounts = match cx.volumes.mounts(pod, &c, &table, &volumes) {
        Ok(m) => m,
        Err(e) => return fail("CreateContainerConfigError", "Failed", e.to_string()),
    };
    let file = cx.node.termination_file(uid, &c.name, s.attempt);
    if let Err(e) = message_file(&file) {
        return fail("CreateContainerConfigError", "Failed", e.to_string());
    }
    let target = pod_spec
        .ephemeral_containers
        .iter()
        .flatten()
        .find(|e| e.name == c.name)
        .and_then(|e| e.target_container_name.as_ref())
        .and_then(|t| s.ids.get(t).cloned());
    let parts =
        spec::Parts { attempt: s.attempt, image: image.id, user: image.user, env: vars, mounts, target };
    let config = match spec::config(pod, &c, parts, &cx.node) {
        Ok(x) => x,
        Err(e) => return fail("CreateContainerConfigError", "Failed", e.to_string()),
    };
    let log_dir = std::path::Path::new(&sandbox_config.log_directory).join(&c.name);
    let _ = std::fs::create_dir_all(log_dir);
    let made = match cx.rt.create_container(&s.sandbox.0, config, sandbox_config).await {
        Ok(x) => x,
        Err(e) => return fail("CreateContainerError", "Failed", e.message),
    };
    // Before it runs: whoever sees it run must know what it was made with.
    let size = Size::of(c.resources.as_ref());
    cx.allotments.change(uid, |r| {
        r.told.containers.insert(c.name.clone(), size);
    });
    cx.api.event(pod, Some(&c.name), false, "Created", "Container created");
    if let Err(e) = cx.rt.start_container(&made).await {
        return fail("RunContainerError", "Failed", e.message);
    }
    cx.api.event(pod, Some(&c.name), false, "Started", "Container started");
    if let Some(h) = c.lifecycle.as_ref().and_then(|l| l.post_start.as_ref()) {
        let ip = s.ips.first().cloned().unwrap_or_default();
        // A post-start hook has no time limit of its own.
        let a = hook(&cx, pod, &c.name, &made, &ip, h, Duration::from_secs(24 * 3600)).await;
        if let Some(a) = a.filter(|a| a.outcome == Outcome::Failure) {
            cx.api.event(pod, Some(&c.name), true, "FailedPostStartHook", "PostStartHook failed");
            let grace = rules::grace_seconds(pod);
            cx.api.event(pod, Some(&c.name), false, "Killing", "FailedPostStartHook");
            let _ = cx.rt.stop_container(&made, grace.max(2)).await;
            return not_started("PostStartHookError", format!("PostStartHook failed: {}", a.text));
        }
    }
    Done::Fine
}

/// The images that a container mounts, pulled where they have to be.
async fn image_volumes(
    cx: &Context,
    s: &Start,
    spec: &PodSpec,
    c: &Container,
    sandbox: &k8s_cri::v1::PodSandboxConfig,
) -> Result<image_volume::Images, Done> {
    let mut out = image_volume::Images::new();
    let wanted = image_volume::wanted(spec, c);
    if wanted.is_empty() {
        return Ok(out);
    }
    let runtime = cx.rt.version().await.map_err(|e| not_started("CreateContainerConfigError", e.message))?;
    if !image_volume::supported(&runtime.runtime_name, &runtime.runtime_version) {
        let m = format!(
            "{} {} has no image volumes, which this pod asks for; containerd has them from 2.1 on",
            runtime.runtime_name, runtime.runtime_version
        );
        cx.api.event(&s.pod, Some(&c.name), true, "Failed", &format!("Error: {m}"));
        return Err(not_started("CreateContainerConfigError", m));
    }
    for (name, asks) in wanted {
        let pulled =
            crate::images::ensure(&cx.rt, &cx.api, &s.pod, &asks, s.pulls.as_ref(), sandbox.clone()).await;
        let image = pulled.map_err(|n| {
            let e = StartError { reason: n.reason.into(), message: n.message, retry_at: n.retry_at };
            Done::NotStarted(e, n.failed)
        })?;
        let image = k8s_cri::v1::ImageSpec {
            image: image.id,
            user_specified_image: asks.image.unwrap_or_default(),
            ..k8s_cri::v1::ImageSpec::default()
        };
        out.insert(name, image);
    }
    Ok(out)
}

fn message_file(file: &std::path::Path) -> std::io::Result<()> {
    if let Some(dir) = file.parent() {
        std::fs::create_dir_all(dir)?;
    }
    std::fs::File::create(file)?;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o666))
}

async fn hook(
    cx: &Context,
    pod: &Pod,
    name: &str,
    container_id: &str,
    ip: &str,
    h: &LifecycleHandler,
    limit: Duration,
) -> Option<prober::Answer> {
    let c = pod.spec.as_ref().and_then(|s| spec::find(s, name))?;
    let what = if let Some(e) = &h.exec {
        Handler::Exec(e.command.as_deref().unwrap_or_default())
    } else if let Some(a) = &h.http_get {
        Handler::Http(a)
    } else if let Some(s) = &h.sleep {
        Handler::Sleep(s.seconds)
    } else {
        let t = h.tcp_socket.as_ref()?;
        Handler::Tcp(&t.port, t.host.as_deref())
    };
    Some(prober::run(&cx.rt, pod, &c, container_id, ip, what, limit).await)
}

/// Shortest time a container gets between the signal and the kill.
const MIN_GRACE: i64 = 2;

/// What a stop needs beside the context.
pub struct Stop {
    /// The pod.
    pub pod: Arc<Pod>,
    /// Runtime identifier.
    pub id: String,
    /// Name of the container.
    pub name: String,
    /// Seconds.
    pub grace: i64,
    /// Message of the event.
    pub message: String,
    /// Only shorten a stop that is under way.
    pub hasten: bool,
    /// Pod address.
    pub ip: String,
}

/// Runs the pre-stop hook and stops a container.
pub async fn stop(cx: Context, s: Stop) -> Done {
    let mut left = s.grace;
    if !s.hasten {
        cx.api.event(&s.pod, Some(&s.name), false, "Killing", &s.message);
        let h = s
            .pod
            .spec
            .as_ref()
            .and_then(|p| spec::find(p, &s.name))
            .and_then(|c| c.lifecycle)
            .and_then(|l| l.pre_stop);
        if let Some(h) = h.filter(|_| left > 0) {
            let began = std::time::Instant::now();
            let limit = Duration::from_secs(u64::try_from(left).unwrap_or(0));
            let a = hook(&cx, &s.pod, &s.name, &s.id, &s.ip, &h, limit).await;
            if a.is_some_and(|a| a.outcome == Outcome::Failure) {
                cx.api.event(&s.pod, Some(&s.name), true, "FailedPreStopHook", "PreStopHook failed");
            }
            left -= i64::try_from(began.elapsed().as_secs()).unwrap_or(left);
        }
    }
    match cx.rt.stop_container(&s.id, left.max(MIN_GRACE)).await {
        Ok(()) => Done::Fine,
        Err(e) => {
            tracing::warn!(container = %s.id, error = %e, "container not stopped");
            Done::Again
        }
    }
}

/// Bytes that containers use, by name, as the runtime counts them.
async fn memory_used(cx: &Context, changes: &[resize::Change]) -> BTreeMap<String, i64> {
    let stats = cx.rt.stats().await.unwrap_or_default();
    let of = |c: &resize::Change| {
        let own = |s: &&k8s_cri::v1::ContainerStats| s.attributes.as_ref().is_some_and(|a| a.id == c.id);
        let used = stats.iter().find(own)?.memory.as_ref()?.usage_bytes.as_ref()?.value;
        Some((c.name.clone(), i64::try_from(used).unwrap_or(i64::MAX)))
    };
    changes.iter().filter_map(of).collect()
}

/// Gives running containers and the pod's cgroup the size that the pod was given.
pub async fn resize(cx: Context, pod: Arc<Pod>, seen: Arc<Observed>) -> Done {
    let Some(spec) = pod.spec.as_ref() else { return Done::Fine };
    let uid = id(&pod).2;
    let cgroup = sandbox::cgroup(&pod, &cx.node);
    let (want, now) = (pod_kernel(spec), cx.cgroups.now(&cgroup));
    let changes = resize::changes(spec, &seen, &cx.allotments.told(uid));
    let each = memory_used(&cx, &changes).await;
    if let Some(why) = resize::too_small(&want, &now, &changes, cx.cgroups.memory_used(&cgroup), &each) {
        return Done::NotResized(why);
    }
    for step in resize::steps(&want, &now, &changes) {
        match step {
            Step::PodMemory(_) | Step::PodQuota(_) | Step::PodShares(_) => {
                if let Err(e) = cx.cgroups.resize(&cgroup, &step) {
                    return Done::NotResized(format!("failed to set the pod's cgroup: {e}"));
                }
            }
            Step::Container { id, name, size } => {
                // A running process keeps the score it was started with.
                let linux = sandbox::linux_resources(&size.kernel(), 0);
                if let Err(e) = cx.rt.update_container(&id, linux).await {
                    return Done::NotResized(e.message);
                }
                cx.allotments.change(uid, |r| {
                    r.told.containers.insert(name, size);
                });
            }
        }
    }
    cx.allotments.change(uid, |r| r.told.cgroup = Some(want));
    Done::Fine
}

/// Removes what an ended pod held on this node, but its logs and dead containers.
pub async fn finish(cx: Context, pod: Arc<Pod>) -> Done {
    let cgroup = sandbox::cgroup(&pod, &cx.node);
    let uid = id(&pod).2.to_owned();
    let done = tokio::task::spawn_blocking(move || {
        if let Err(error) = cx.volumes.tear_down(&uid) {
            tracing::warn!(%uid, %error, "volumes not removed");
            return Done::Again;
        }
        if let Err(error) = cx.cgroups.remove(&cgroup) {
            tracing::debug!(%uid, %error, "cgroup not removed yet");
            return Done::Again;
        }
        Done::Fine
    });
    done.await.unwrap_or(Done::Again)
}

/// Removes dead containers, their logs, and sandboxes.
pub async fn collect(
    cx: Context,
    pod: Arc<Pod>,
    containers: Vec<(String, String, u32)>,
    sandboxes: Vec<String>,
) -> Done {
    let (ns, name, uid) = id(&pod);
    let logs = cx.node.pod_logs(ns, name, uid);
    for (cid, cname, attempt) in containers {
        if let Err(e) = cx.rt.remove_container(&cid).await {
            tracing::debug!(container = %cid, error = %e, "container not removed");
            return Done::Again;
        }
        remove_logs(&logs.join(&cname), attempt);
        let _ = std::fs::remove_file(cx.node.termination_file(uid, &cname, attempt));
    }
    for s in sandboxes {
        let r = match cx.rt.stop_sandbox(&s).await {
            Ok(()) => cx.rt.remove_sandbox(&s).await,
            Err(e) => Err(e),
        };
        if let Err(e) = r {
            tracing::debug!(sandbox = %s, error = %e, "sandbox not removed");
            return Done::Again;
        }
    }
    Done::Fine
}

fn remove_logs(dir: &std::path::Path, attempt: u32) {
    let prefix = format!("{attempt}.log");
    for e in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if e.file_name().to_string_lossy().starts_with(&prefix) {
            let _ = std::fs::remove_file(e.path());
        }
    }
}
