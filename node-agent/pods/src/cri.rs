//! The container runtime over its unix socket: calls, and what they say about a pod.

use crate::core::observed::{Container, Observed, Sandbox, State};
use crate::core::resources::Kernel;
use crate::core::spec::{IMAGE_ANNOTATION, MESSAGE_POLICY, NAME_LABEL};
use hyper_util::rt::TokioIo;
use k8s_cri::v1 as cri;
use k8s_cri::v1::image_service_client::ImageServiceClient;
use k8s_cri::v1::runtime_service_client::RuntimeServiceClient;
use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A call to the runtime that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{call}: {message}")]
pub struct CriError {
    /// The call.
    pub call: &'static str,
    /// The runtime's message, or that of the connection.
    pub message: String,
    /// Whether the runtime does not know what was asked about.
    pub not_found: bool,
    /// Whether the runtime does not know the call itself.
    pub unimplemented: bool,
}

impl CriError {
    /// The runtime answered, and said nothing.
    fn empty(call: &'static str) -> Self {
        CriError { call, message: "empty answer".into(), not_found: false, unimplemented: false }
    }
}

fn failed(call: &'static str) -> impl Fn(tonic::Status) -> CriError {
    move |s| CriError {
        call,
        message: format!("rpc error: code = {:?} desc = {}", s.code(), s.message()),
        not_found: s.code() == tonic::Code::NotFound,
        unimplemented: s.code() == tonic::Code::Unimplemented,
    }
}

/// What went wrong, or what came out.
pub type Result<T> = std::result::Result<T, CriError>;

/// A connection to the runtime; clones share it. It reconnects by itself.
#[derive(Clone, Debug)]
pub struct Runtime {
    rt: RuntimeServiceClient<Channel>,
    im: ImageServiceClient<Channel>,
}

/// Sandboxes and containers of one pod as listed.
pub type Listed = (Vec<cri::PodSandbox>, Vec<cri::Container>);

const LIMIT: usize = 16 << 20;

macro_rules! call {
    ($client:expr, $method:ident, $name:literal, $timeout:expr, $request:expr) => {{
        let mut request = tonic::Request::new($request);
        if let Some(t) = $timeout {
            request.set_timeout(t);
        }
        $client.clone().$method(request).await.map(tonic::Response::into_inner).map_err(failed($name))
    }};
}

const SHORT: Option<Duration> = Some(Duration::from_secs(120));
const SANDBOX: Option<Duration> = Some(Duration::from_secs(240));

impl Runtime {
    /// A runtime behind `endpoint` (`unix:///path`); the connection is made when it is needed.
    pub fn new(endpoint: &str) -> Result<Self> {
        let path = PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(endpoint));
        let bad = |e: tonic::transport::Error| CriError {
            call: "connect",
            message: e.to_string(),
            not_found: false,
            unimplemented: false,
        };
        let channel = Endpoint::try_from("http://localhost").map_err(bad)?.connect_with_connector_lazy(
            service_fn(move |_: Uri| {
                let path = path.clone();
                async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(path).await?)) }
            }),
        );
        Ok(Self {
            rt: RuntimeServiceClient::new(channel.clone()).max_decoding_message_size(LIMIT),
            im: ImageServiceClient::new(channel).max_decoding_message_size(LIMIT),
        })
    }

    /// Name and version of the runtime.
    pub async fn version(&self) -> Result<cri::VersionResponse> {
        call!(self.rt, version, "Version", SHORT, cri::VersionRequest { version: "v1".into() })
    }

    /// Runtime conditions (`RuntimeReady`, `NetworkReady`).
    pub async fn status(&self) -> Result<cri::StatusResponse> {
        call!(self.rt, status, "Status", SHORT, cri::StatusRequest { verbose: false })
    }

    /// Everything there is, by pod uid.
    pub async fn list(&self) -> Result<HashMap<String, Listed>> {
        let sandboxes = call!(
            self.rt,
            list_pod_sandbox,
            "ListPodSandbox",
            SHORT,
            cri::ListPodSandboxRequest { filter: None }
        )?;
        let containers = call!(
            self.rt,
            list_containers,
            "ListContainers",
            SHORT,
            cri::ListContainersRequest { filter: None }
        )?;
        let mut out: HashMap<String, Listed> = HashMap::new();
        for s in sandboxes.items {
            if let Some(uid) = s.labels.get("io.kubernetes.pod.uid") {
                out.entry(uid.clone()).or_default().0.push(s);
            }
        }
        for c in containers.containers {
            if let Some(uid) = c.labels.get("io.kubernetes.pod.uid") {
                out.entry(uid.clone()).or_default().1.push(c);
            }
        }
        Ok(out)
    }

    /// Lists one pod.
    pub async fn list_pod(&self, uid: &str) -> Result<Listed> {
        let labels = HashMap::from([("io.kubernetes.pod.uid".to_owned(), uid.to_owned())]);
        let sandboxes = call!(
            self.rt,
            list_pod_sandbox,
            "ListPodSandbox",
            SHORT,
            cri::ListPodSandboxRequest {
                filter: Some(cri::PodSandboxFilter { label_selector: labels.clone(), ..Default::default() }),
            }
        )?;
        let containers = call!(
            self.rt,
            list_containers,
            "ListContainers",
            SHORT,
            cri::ListContainersRequest {
                filter: Some(cri::ContainerFilter { label_selector: labels, ..Default::default() }),
            }
        )?;
        Ok((sandboxes.items, containers.containers))
    }

    /// Turns a listing into what the state machine looks at; asks for details only where they may have changed.
    pub async fn observe(
        &self,
        listed: &Listed,
        before: &Observed,
        message: &MessageFiles,
    ) -> Result<Observed> {
        let mut out = Observed::default();
        for s in &listed.0 {
            let ready = s.state == i32::from(cri::PodSandboxState::SandboxReady);
            if let Some(b) =
                before.sandboxes.iter().find(|b| b.id == s.id && b.ready == ready && !b.ips.is_empty())
            {
                out.sandboxes.push(b.clone());
                continue;
            }
            let ips = match self.sandbox_status(&s.id).await {
                Ok(st) => st
                    .network
                    .map(|n| {
                        std::iter::once(n.ip)
                            .chain(n.additional_ips.into_iter().map(|p| p.ip))
                            .filter(|ip| !ip.is_empty())
                            .collect()
                    })
                    .unwrap_or_default(),
                Err(e) if e.not_found => continue,
                Err(e) => return Err(e),
            };
            out.sandboxes.push(Sandbox {
                id: s.id.clone(),
                attempt: s.metadata.as_ref().map_or(0, |m| m.attempt),
                ready,
                created_at: s.created_at,
                ips,
            });
        }
        for c in &listed.1 {
            let state = state(c.state);
            if let Some(b) = before.containers.iter().find(|b| b.id == c.id && b.state == state) {
                out.containers.push(b.clone());
                continue;
            }
            match self.container_status(&c.id).await {
                Ok(st) => {
                    let mut seen = convert(c, st);
                    if seen.state == State::Exited {
                        message.fill(&mut seen, c).await;
                    }
                    out.containers.push(seen);
                }
                Err(e) if e.not_found => {}
                Err(e) => return Err(e),
            }
        }
        out.sandboxes.sort_by_key(|s| std::cmp::Reverse((s.created_at, s.attempt)));
        out.containers.sort_by_key(|c| std::cmp::Reverse((c.created_at, c.attempt)));
        Ok(out)
    }

    /// Details of a sandbox.
    pub async fn sandbox_status(&self, id: &str) -> Result<cri::PodSandboxStatus> {
        let r = cri::PodSandboxStatusRequest { pod_sandbox_id: id.into(), verbose: false };
        let out: cri::PodSandboxStatusResponse =
            call!(self.rt, pod_sandbox_status, "PodSandboxStatus", SHORT, r)?;
        out.status.ok_or(CriError::empty("PodSandboxStatus"))
    }

    /// Details of a container.
    pub async fn container_status(&self, id: &str) -> Result<cri::ContainerStatus> {
        let r = cri::ContainerStatusRequest { container_id: id.into(), verbose: false };
        let out: cri::ContainerStatusResponse =
            call!(self.rt, container_status, "ContainerStatus", SHORT, r)?;
        out.status.ok_or(CriError::empty("ContainerStatus"))
    }

    /// Makes and starts a sandbox; answers its identifier.
    pub async fn run_sandbox(&self, config: cri::PodSandboxConfig, handler: &str) -> Result<String> {
        let r = cri::RunPodSandboxRequest { config: Some(config), runtime_handler: handler.into() };
        Ok(call!(self.rt, run_pod_sandbox, "RunPodSandbox", SANDBOX, r)?.pod_sandbox_id)
    }

    /// Stops a sandbox and takes its network down.
    pub async fn stop_sandbox(&self, id: &str) -> Result<()> {
        let r = cri::StopPodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(call!(self.rt, stop_pod_sandbox, "StopPodSandbox", SANDBOX, r).map(|_| ()))
    }

    /// Removes a sandbox and its containers.
    pub async fn remove_sandbox(&self, id: &str) -> Result<()> {
        let r = cri::RemovePodSandboxRequest { pod_sandbox_id: id.into() };
        gone_is_fine(call!(self.rt, remove_pod_sandbox, "RemovePodSandbox", SANDBOX, r).map(|_| ()))
    }

    /// Makes a container in a sandbox; answers its identifier.
    pub async fn create_container(
        &self,
        sandbox: &str,
        config: cri::ContainerConfig,
        sandbox_config: cri::PodSandboxConfig,
    ) -> Result<String> {
        let r = cri::CreateContainerRequest {
            pod_sandbox_id: sandbox.into(),
            config: Some(config),
            sandbox_config: Some(sandbox_config),
        };
        Ok(call!(self.rt, create_container, "CreateContainer", SANDBOX, r)?.container_id)
    }

    /// Starts a made container.
    pub async fn start_container(&self, id: &str) -> Result<()> {
        let r = cri::StartContainerRequest { container_id: id.into() };
        call!(self.rt, start_container, "StartContainer", SANDBOX, r).map(|_| ())
    }

    /// Stops a container, killing it after `grace` seconds.
    pub async fn stop_container(&self, id: &str, grace: i64) -> Result<()> {
        let r = cri::StopContainerRequest { container_id: id.into(), timeout: grace };
        let limit = Duration::from_secs(u64::try_from(grace).unwrap_or(0).saturating_add(120));
        gone_is_fine(call!(self.rt, stop_container, "StopContainer", Some(limit), r).map(|_| ()))
    }

    /// Changes what a container may use.
    pub async fn update_container(&self, id: &str, linux: cri::LinuxContainerResources) -> Result<()> {
        let r = cri::UpdateContainerResourcesRequest {
            container_id: id.into(),
            linux: Some(linux),
            ..Default::default()
        };
        call!(self.rt, update_container_resources, "UpdateContainerResources", SHORT, r).map(|_| ())
    }

    /// Removes a container.
    pub async fn remove_container(&self, id: &str) -> Result<()> {
        let r = cri::RemoveContainerRequest { container_id: id.into() };
        gone_is_fine(call!(self.rt, remove_container, "RemoveContainer", SHORT, r).map(|_| ()))
    }

    /// Runs a command in a container to its end: exit code and output.
    pub async fn exec_sync(&self, id: &str, cmd: Vec<String>, timeout: Duration) -> Result<(i32, Vec<u8>)> {
        let secs = i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX);
        let r = cri::ExecSyncRequest { container_id: id.into(), cmd, timeout: secs };
        let limit = if timeout.is_zero() { None } else { Some(timeout + Duration::from_secs(10)) };
        let out: cri::ExecSyncResponse = call!(self.rt, exec_sync, "ExecSync", limit, r)?;
        let mut text = out.stdout;
        text.extend(out.stderr);
        Ok((out.exit_code, text))
    }

    /// Asks for the streaming URL of a command.
    pub async fn exec_url(&self, r: cri::ExecRequest) -> Result<String> {
        Ok(call!(self.rt, exec, "Exec", SHORT, r)?.url)
    }

    /// Asks for the streaming URL of a container's own streams.
    pub async fn attach_url(&self, r: cri::AttachRequest) -> Result<String> {
        Ok(call!(self.rt, attach, "Attach", SHORT, r)?.url)
    }

    /// Asks for the streaming URL of a sandbox's ports. `ports` are those of WebSocket clients; SPDY's name theirs themselves.
    pub async fn port_forward_url(&self, sandbox: &str, ports: Vec<i32>) -> Result<String> {
        let r = cri::PortForwardRequest { pod_sandbox_id: sandbox.into(), port: ports };
        Ok(call!(self.rt, port_forward, "PortForward", SHORT, r)?.url)
    }

    /// Has the runtime open a container's log file again, after it was moved.
    pub async fn reopen_log(&self, id: &str) -> Result<()> {
        let r = cri::ReopenContainerLogRequest { container_id: id.into() };
        call!(self.rt, reopen_container_log, "ReopenContainerLog", SHORT, r).map(|_| ())
    }

    /// Figures of every container.
    pub async fn stats(&self) -> Result<Vec<cri::ContainerStats>> {
        let r = cri::ListContainerStatsRequest { filter: None };
        Ok(call!(self.rt, list_container_stats, "ListContainerStats", SHORT, r)?.stats)
    }

    /// The stream of container events, where the runtime has one (containerd from 1.7).
    pub async fn events(&self) -> Result<tonic::Streaming<cri::ContainerEventResponse>> {
        call!(self.rt, get_container_events, "GetContainerEvents", None::<Duration>, cri::GetEventsRequest {})
    }

    /// The image of that name, if it is here.
    pub async fn image(&self, image: &str) -> Result<Option<cri::Image>> {
        let r = cri::ImageStatusRequest {
            image: Some(cri::ImageSpec { image: image.into(), ..Default::default() }),
            verbose: false,
        };
        Ok(call!(self.im, image_status, "ImageStatus", SHORT, r)?.image)
    }

    /// Images on the node.
    pub async fn images(&self) -> Result<Vec<cri::Image>> {
        Ok(call!(self.im, list_images, "ListImages", SHORT, cri::ListImagesRequest { filter: None })?.images)
    }

    /// Where the images lie.
    pub async fn image_dir(&self) -> Result<PathBuf> {
        let r: cri::ImageFsInfoResponse =
            call!(self.im, image_fs_info, "ImageFsInfo", SHORT, cri::ImageFsInfoRequest {})?;
        let first = r.image_filesystems.into_iter().next().and_then(|f| f.fs_id);
        first.map(|f| PathBuf::from(f.mountpoint)).ok_or(CriError::empty("ImageFsInfo"))
    }

    /// Removes an image.
    pub async fn remove_image(&self, id: &str) -> Result<()> {
        let image = Some(cri::ImageSpec { image: id.into(), ..Default::default() });
        let r = cri::RemoveImageRequest { image };
        gone_is_fine(call!(self.im, remove_image, "RemoveImage", SHORT, r).map(|_| ()))
    }

    /// The image that the runtime makes sandboxes of, where it tells.
    pub async fn sandbox_image(&self) -> Option<String> {
        let r = cri::StatusRequest { verbose: true };
        let s: cri::StatusResponse = call!(self.rt, status, "Status", SHORT, r).ok()?;
        let config: serde_json::Value = serde_json::from_str(s.info.get("config")?).ok()?;
        config["sandboxImage"].as_str().map(str::to_owned)
    }

    /// Pulls an image.
    pub async fn pull(
        &self,
        image: &str,
        auth: Option<cri::AuthConfig>,
        sandbox: Option<cri::PodSandboxConfig>,
    ) -> Result<String> {
        let r = cri::PullImageRequest {
            image: Some(cri::ImageSpec { image: image.into(), ..Default::default() }),
            auth,
            sandbox_config: sandbox,
        };
        Ok(call!(self.im, pull_image, "PullImage", None::<Duration>, r)?.image_ref)
    }
}

fn gone_is_fine(r: Result<()>) -> Result<()> {
    match r {
        Err(e) if e.not_found => Ok(()),
        other => other,
    }
}

fn state(s: i32) -> State {
    match cri::ContainerState::try_from(s) {
        Ok(cri::ContainerState::ContainerCreated) => State::Created,
        Ok(cri::ContainerState::ContainerRunning) => State::Running,
        Ok(cri::ContainerState::ContainerExited) => State::Exited,
        _ => State::Unknown,
    }
}

fn convert(c: &cri::Container, st: cri::ContainerStatus) -> Container {
    Container {
        id: c.id.clone(),
        name: c.labels.get(NAME_LABEL).cloned().unwrap_or_default(),
        attempt: c.metadata.as_ref().map_or(0, |m| m.attempt),
        sandbox_id: c.pod_sandbox_id.clone(),
        state: state(st.state),
        created_at: st.created_at,
        started_at: st.started_at,
        finished_at: st.finished_at,
        exit_code: st.exit_code,
        reason: st.reason,
        message: st.message,
        image: st.image.map(|i| i.image).unwrap_or_default(),
        image_ref: st.image_ref,
        spec_hash: c.annotations.get(IMAGE_ANNOTATION).cloned(),
        user: st.user.and_then(|u| u.linux).map(|u| (u.uid, u.gid, u.supplemental_groups)),
        resources: st.resources.and_then(|r| r.linux).map(|l| Kernel {
            shares: l.cpu_shares,
            quota: l.cpu_quota,
            period: l.cpu_period,
            memory: l.memory_limit_in_bytes,
        }),
    }
}

/// Where termination messages and logs of a pod's containers lie.
#[derive(Debug, Clone, Default)]
pub struct MessageFiles {
    /// `<pod dir>/containers`.
    pub containers: PathBuf,
    /// The pod's log directory.
    pub logs: PathBuf,
}

/// Longest termination message; a tail of the log is half of it and at most 80 lines.
const MESSAGE_MAX: usize = 4096;

impl MessageFiles {
    async fn fill(&self, seen: &mut Container, c: &cri::Container) {
        let file = self.containers.join(&seen.name).join(seen.attempt.to_string());
        let mut text = read_limited(&file, MESSAGE_MAX).await;
        let fallback = c.annotations.get(MESSAGE_POLICY).is_some_and(|p| p == "FallbackToLogsOnError");
        if text.is_empty() && fallback && seen.exit_code != 0 {
            let log = self.logs.join(&seen.name).join(format!("{}.log", seen.attempt));
            text = crate::server::logs::tail_text(&log, 80, 2048).await;
        }
        if !text.is_empty() {
            seen.message = text;
        }
    }
}

async fn read_limited(path: &std::path::Path, limit: usize) -> String {
    use tokio::io::AsyncReadExt;
    let Ok(f) = tokio::fs::File::open(path).await else { return String::new() };
    let mut buf = Vec::new();
    if f.take(limit as u64).read_to_end(&mut buf).await.is_err() {
        return String::new();
    }
    String::from_utf8_lossy(&buf).into_owned()
}
