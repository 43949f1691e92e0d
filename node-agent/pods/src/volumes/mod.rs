//! Volumes of pods on this node: made before the sandbox, refreshed while it runs, removed after it.

pub mod atomic;

use crate::api::{Api, Referred};
use crate::core::env::{self, Sources};
use crate::core::image_volume;
use crate::core::sandbox::{Node, hosts_file, id};
use atomic::{File, Payload};
use jiff::{SignedDuration, Timestamp};
use k8s_cri::v1 as cri;
use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, KeyToPath, Pod, Volume, VolumeProjection,
};
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Why a volume is not there.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VolumeError {
    /// A referred object or key does not exist.
    #[error("MountVolume.SetUp failed for volume {volume:?} : {why}")]
    SetUp {
        /// The volume.
        volume: String,
        /// What failed.
        why: String,
    },
    /// A mount of a container refers to a volume or path that cannot be used.
    #[error("{0}")]
    Mount(String),
}

/// Tokens by pod uid, volume and audience.
type Tokens = HashMap<(String, String, String), Token>;

struct Token {
    token: String,
    issued: Timestamp,
    expires: Timestamp,
}

/// The volumes of every pod on the node.
#[derive(Clone)]
pub struct Volumes {
    api: Api,
    node: Arc<Node>,
    tokens: Arc<Mutex<Tokens>>,
}

/// Directory name of a volume kind, as the kubelet has it.
fn kind(v: &Volume) -> Option<&'static str> {
    if v.config_map.is_some() {
        Some("configmap")
    } else if v.secret.is_some() {
        Some("secret")
    } else if v.empty_dir.is_some() {
        Some("empty-dir")
    } else if v.projected.is_some() {
        Some("projected")
    } else if v.downward_api.is_some() {
        Some("downward-api")
    } else if v.host_path.is_some() {
        Some("host-path")
    } else {
        None
    }
}

/// Whether the volume's contents come from the API and follow it.
pub fn refreshed(v: &Volume) -> bool {
    matches!(kind(v), Some("configmap" | "secret" | "projected" | "downward-api"))
}

impl Volumes {
    /// Volumes on `node`, with contents from `api`.
    pub fn new(api: Api, node: Arc<Node>) -> Self {
        Self { api, node, tokens: Arc::new(Mutex::new(HashMap::new())) }
    }

    fn dir(&self, uid: &str, v: &Volume) -> Option<PathBuf> {
        if let Some(h) = &v.host_path {
            return Some(PathBuf::from(&h.path));
        }
        Some(self.node.pod_dir(uid).join("volumes").join(format!("kubernetes.io~{}", kind(v)?)).join(&v.name))
    }

    /// Makes every volume of the pod, or brings it up to date.
    pub async fn set_up(&self, pod: &Pod, ips: &[String]) -> Result<(), VolumeError> {
        for v in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()) {
            self.one(pod, v, ips, false)
                .await
                .map_err(|why| VolumeError::SetUp { volume: v.name.clone(), why })?;
        }
        Ok(())
    }

    /// Brings what follows the API up to date; what fails is tried again the next time.
    pub async fn refresh(&self, pod: &Pod, ips: &[String]) {
        for v in pod.spec.iter().flat_map(|s| s.volumes.iter().flatten()).filter(|v| refreshed(v)) {
            if let Err(why) = self.one(pod, v, ips, true).await {
                tracing::debug!(volume = %v.name, %why, "volume not refreshed");
            }
        }
    }

    async fn one(&self, pod: &Pod, v: &Volume, ips: &[String], again: bool) -> Result<(), String> {
        let (_, _, uid) = id(pod);
        if v.image.is_some() {
            // The runtime mounts it into each container.
            return Ok(());
        }
        let Some(dir) = self.dir(uid, v) else {
            return Err("this kind of volume is not supported on this node".into());
        };
        let sc = pod.spec.as_ref().and_then(|s| s.security_context.as_ref());
        let group = sc.and_then(|s| s.fs_group).and_then(|g| u32::try_from(g).ok());
        if let Some(h) = &v.host_path {
            return host_path(&dir, h.type_.as_deref().unwrap_or(""));
        }
        if let Some(e) = &v.empty_dir {
            let limit = e.size_limit.as_ref().and_then(crate::core::resources::units);
            return empty_dir(&dir, e.medium.as_deref() == Some("Memory"), limit, group)
                .map_err(|e| e.to_string());
        }
        if again && !dir.exists() {
            return Ok(());
        }
        let payload = self.payload(pod, v, ips).await?;
        let memory = v.secret.is_some() || v.projected.is_some();
        let written = tokio::task::spawn_blocking(move || {
            std::fs::create_dir_all(&dir)?;
            if memory {
                tmpfs(&dir, None)?;
            }
            own(&dir, group, if memory { 0o1777 } else { 0o755 })?;
            atomic::write(&dir, &payload, group)
        })
        .await
        .map_err(|e| e.to_string())?;
        written.map(|_| ()).map_err(|e| e.to_string())
    }

    async fn payload(&self, pod: &Pod, v: &Volume, ips: &[String]) -> Result<Payload, String> {
        let (ns, _, _) = id(pod);
        let mut out = Payload::new();
        let mode = |m: Option<i32>| m.and_then(|m| u32::try_from(m).ok()).unwrap_or(0o644);
        if let Some(c) = &v.config_map {
            self.object(
                Referred::ConfigMap,
                ns,
                &c.name,
                c.items.as_ref(),
                c.optional,
                mode(c.default_mode),
                &mut out,
            )
            .await?;
        } else if let Some(s) = &v.secret {
            let name = s.secret_name.as_deref().unwrap_or_default();
            self.object(
                Referred::Secret,
                ns,
                name,
                s.items.as_ref(),
                s.optional,
                mode(s.default_mode),
                &mut out,
            )
            .await?;
        } else if let Some(d) = &v.downward_api {
            self.downward(pod, d.items.as_ref(), mode(d.default_mode), ips, &mut out)?;
        } else if let Some(p) = &v.projected {
            for s in p.sources.iter().flatten() {
                self.source(pod, v, s, mode(p.default_mode), ips, &mut out).await?;
            }
        }
        Ok(out)
    }

    async fn source(
        &self,
        pod: &Pod,
        v: &Volume,
        s: &VolumeProjection,
        mode: u32,
        ips: &[String],
        out: &mut Payload,
    ) -> Result<(), String> {
        let (ns, _, _) = id(pod);
        if let Some(c) = &s.config_map {
            self.object(Referred::ConfigMap, ns, &c.name, c.items.as_ref(), c.optional, mode, out).await?;
        } else if let Some(c) = &s.secret {
            self.object(Referred::Secret, ns, &c.name, c.items.as_ref(), c.optional, mode, out).await?;
        } else if let Some(d) = &s.downward_api {
            self.downward(pod, d.items.as_ref(), mode, ips, out)?;
        } else if let Some(t) = &s.service_account_token {
            let token =
                self.token(pod, &v.name, t.audience.as_deref(), t.expiration_seconds.unwrap_or(3600)).await?;
            let user = single_user(pod);
            let group = pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).and_then(|s| s.fs_group);
            let mode = if user.is_some() || group.is_some() { 0o600 } else { mode };
            out.insert(t.path.clone(), File { data: token.into_bytes(), mode, owner: user });
        } else {
            return Err("this kind of projection is not supported on this node".into());
        }
        Ok(())
    }

    /// A token is asked for anew at 80 % of its life, and after a day in any case.
    async fn token(
        &self,
        pod: &Pod,
        volume: &str,
        audience: Option<&str>,
        seconds: i64,
    ) -> Result<String, String> {
        let (_, _, uid) = id(pod);
        let key = (uid.to_owned(), volume.to_owned(), audience.unwrap_or_default().to_owned());
        let now = Timestamp::now();
        if let Some(t) = self.tokens.lock().get(&key) {
            let life = t.expires.duration_since(t.issued);
            let age = now.duration_since(t.issued);
            if age.as_secs() < life.as_secs() * 4 / 5 && age < SignedDuration::from_hours(24) {
                return Ok(t.token.clone());
            }
        }
        match self.api.token(pod, audience, seconds).await {
            Ok((token, expires)) => {
                self.tokens.lock().insert(key, Token { token: token.clone(), issued: now, expires });
                Ok(token)
            }
            Err(e) => match self.tokens.lock().get(&key).filter(|t| t.expires > now) {
                Some(t) => Ok(t.token.clone()),
                None => Err(format!("failed to fetch token: {}", e.message)),
            },
        }
    }

    #[allow(clippy::too_many_arguments)]
    async fn object(
        &self,
        kind: Referred,
        ns: &str,
        name: &str,
        items: Option<&Vec<KeyToPath>>,
        optional: Option<bool>,
        mode: u32,
        out: &mut Payload,
    ) -> Result<(), String> {
        let word = if kind == Referred::Secret { "secret" } else { "configmap" };
        let data = match self.api.data(kind, ns, name).await {
            Ok(Some(d)) => d,
            Ok(None) if optional == Some(true) => return Ok(()),
            Ok(None) => return Err(format!("{word} {name:?} not found")),
            Err(e) => return Err(e.message.clone()),
        };
        select(data, items, optional == Some(true), mode, out)
    }

    fn downward(
        &self,
        pod: &Pod,
        items: Option<&Vec<DownwardAPIVolumeFile>>,
        mode: u32,
        ips: &[String],
        out: &mut Payload,
    ) -> Result<(), String> {
        let src = Sources {
            pod_ips: ips.to_vec(),
            host_ips: self.node.ips.clone(),
            node_cpu_milli: self.node.cpu_milli,
            node_memory: self.node.memory,
            ..Sources::default()
        };
        for i in items.into_iter().flatten() {
            let value = if let Some(f) = &i.field_ref {
                env::field(pod, &f.field_path, &src)
            } else if let Some(r) = &i.resource_field_ref {
                let d = r.divisor.as_ref().and_then(crate::core::resources::milli).unwrap_or(0);
                env::resource(pod, "", r.container_name.as_deref(), &r.resource, d, &src)
            } else {
                None
            };
            let value = value.ok_or_else(|| format!("unsupported reference for {}", i.path))?;
            let mode = i.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
            out.insert(i.path.clone(), File { data: value.into_bytes(), mode, owner: None });
        }
        Ok(())
    }

    /// Writes the files beside the volumes: the pod's `/etc/hosts`.
    pub fn write_hosts(&self, pod: &Pod, ips: &[String]) -> std::io::Result<()> {
        let (_, _, uid) = id(pod);
        let dir = self.node.pod_dir(uid);
        std::fs::create_dir_all(&dir)?;
        let at = dir.join("etc-hosts");
        let text = hosts_file(pod, &self.node, ips);
        if std::fs::read_to_string(&at).is_ok_and(|have| have == text) {
            return Ok(());
        }
        std::fs::write(&at, text)
    }

    /// The mounts of one container. `vars` expands `subPathExpr`.
    pub fn mounts(
        &self,
        pod: &Pod,
        c: &Container,
        vars: &BTreeMap<String, String>,
        images: &image_volume::Images,
    ) -> Result<Vec<cri::Mount>, VolumeError> {
        let (_, _, uid) = id(pod);
        let empty = Vec::new();
        let volumes = pod.spec.as_ref().and_then(|s| s.volumes.as_ref()).unwrap_or(&empty);
        let mut out = Vec::new();
        let mut hosts = true;
        for m in c.volume_mounts.iter().flatten() {
            let v = volumes
                .iter()
                .find(|v| v.name == m.name)
                .ok_or_else(|| VolumeError::Mount(format!("no volume with the name {:?}", m.name)))?;
            let sub = match (&m.sub_path, &m.sub_path_expr) {
                (Some(s), _) if !s.is_empty() => Some(s.clone()),
                (_, Some(e)) if !e.is_empty() => Some(env::expand(e, vars)),
                _ => None,
            };
            hosts &= m.mount_path != "/etc/hosts";
            if v.image.is_some() {
                let mount = image_volume::mount(m, sub.as_deref(), images.get(&v.name));
                out.push(mount.map_err(VolumeError::Mount)?);
                continue;
            }
            let mut path = self
                .dir(uid, v)
                .ok_or_else(|| VolumeError::Mount(format!("volume {:?} is not supported", m.name)))?;
            if let Some(sub) = sub {
                path = sub_path(&path, &sub).map_err(|e| {
                    VolumeError::Mount(format!(
                        "failed to prepare subPath for volumeMount {:?} of container {:?}: {e}",
                        m.name, c.name
                    ))
                })?;
            }
            let propagation = match m.mount_propagation.as_deref() {
                Some("HostToContainer") => cri::MountPropagation::PropagationHostToContainer,
                Some("Bidirectional") => cri::MountPropagation::PropagationBidirectional,
                _ => cri::MountPropagation::PropagationPrivate,
            };
            let read_only = m.read_only == Some(true)
                || v.config_map.is_some()
                || v.secret.is_some()
                || v.projected.is_some()
                || v.downward_api.is_some();
            out.push(cri::Mount {
                container_path: m.mount_path.clone(),
                host_path: path.to_string_lossy().into_owned(),
                readonly: read_only,
                propagation: i32::from(propagation),
                ..cri::Mount::default()
            });
        }
        if hosts {
            out.push(cri::Mount {
                container_path: "/etc/hosts".into(),
                host_path: self.node.pod_dir(uid).join("etc-hosts").to_string_lossy().into_owned(),
                ..cri::Mount::default()
            });
        }
        Ok(out)
    }

    /// Unmounts and removes everything of a pod, but its logs. Idempotent.
    pub fn tear_down(&self, uid: &str) -> std::io::Result<()> {
        self.tokens.lock().retain(|(u, _, _), _| u != uid);
        let dir = self.node.pod_dir(uid);
        for m in mounts_below(&dir).into_iter().rev() {
            nix::mount::umount2(&m, nix::mount::MntFlags::MNT_DETACH)?;
        }
        match std::fs::remove_dir_all(dir.join("volumes")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Removes the pod's whole directory, once its object is gone.
    pub fn remove_dir(&self, uid: &str) -> std::io::Result<()> {
        self.tear_down(uid)?;
        match std::fs::remove_dir_all(self.node.pod_dir(uid)) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }
}

/// The one user all containers run as, if there is one.
fn single_user(pod: &Pod) -> Option<u32> {
    let spec = pod.spec.as_ref()?;
    let of_pod = spec.security_context.as_ref().and_then(|s| s.run_as_user);
    let mut users = spec
        .containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .map(|c| c.security_context.as_ref().and_then(|s| s.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|u| u == Some(first)).then(|| u32::try_from(first).ok()).flatten()
}

/// Picks keys of an object into files.
fn select(
    mut data: BTreeMap<String, Vec<u8>>,
    items: Option<&Vec<KeyToPath>>,
    optional: bool,
    mode: u32,
    out: &mut Payload,
) -> Result<(), String> {
    match items.filter(|i| !i.is_empty()) {
        None => {
            for (k, data) in data {
                out.insert(k, File { data, mode, owner: None });
            }
        }
        Some(items) => {
            for i in items {
                let mode = i.mode.and_then(|m| u32::try_from(m).ok()).unwrap_or(mode);
                match data.get_mut(&i.key) {
                    Some(d) => {
                        out.insert(i.path.clone(), File { data: d.clone(), mode, owner: None });
                    }
                    None if optional => {}
                    None => return Err(format!("references non-existent config key: {}", i.key)),
                }
            }
        }
    }
    Ok(())
}

fn tmpfs(dir: &Path, size: Option<i64>) -> std::io::Result<()> {
    use nix::mount::{MsFlags, mount};
    if mounts_below(dir).iter().any(|m| m == dir) {
        return Ok(());
    }
    let options = size.filter(|s| *s > 0).map(|s| format!("size={s}"));
    mount(Some("tmpfs"), dir, Some("tmpfs"), MsFlags::empty(), options.as_deref())?;
    Ok(())
}

fn own(dir: &Path, group: Option<u32>, mode: u32) -> std::io::Result<()> {
    if group.is_some() {
        std::os::unix::fs::chown(dir, None, group)?;
    }
    let mode = if group.is_some() { mode | 0o2770 } else { mode };
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(mode))
}

fn empty_dir(dir: &Path, memory: bool, limit: Option<i64>, group: Option<u32>) -> std::io::Result<()> {
    if dir.exists() && (!memory || mounts_below(dir).iter().any(|m| m == dir)) {
        return Ok(());
    }
    std::fs::create_dir_all(dir)?;
    if memory {
        tmpfs(dir, limit)?;
    }
    own(dir, group, 0o777)
}

fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    use std::os::unix::fs::FileTypeExt;
    let meta = std::fs::metadata(path);
    let wrong = |what: &str| Err(format!("hostPath type check failed: {} is not a {what}", path.display()));
    let is = |f: fn(&std::fs::FileType) -> bool| meta.as_ref().is_ok_and(|m| f(&m.file_type()));
    match kind {
        "" => Ok(()),
        "DirectoryOrCreate" if meta.is_err() => {
            std::fs::create_dir_all(path).map_err(|e| e.to_string())?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).map_err(|e| e.to_string())
        }
        "FileOrCreate" if meta.is_err() => std::fs::File::create(path).map(|_| ()).map_err(|e| e.to_string()),
        "Directory" | "DirectoryOrCreate" if !is(std::fs::FileType::is_dir) => wrong("directory"),
        "File" | "FileOrCreate" if !is(std::fs::FileType::is_file) => wrong("file"),
        "Socket" if !is(FileTypeExt::is_socket) => wrong("socket"),
        "CharDevice" if !is(FileTypeExt::is_char_device) => wrong("character device"),
        "BlockDevice" if !is(FileTypeExt::is_block_device) => wrong("block device"),
        _ => Ok(()),
    }
}

/// Resolves a sub-path inside a volume, making it a directory where it does not exist. It may not lead out.
fn sub_path(volume: &Path, sub: &str) -> std::io::Result<PathBuf> {
    use std::io::{Error, ErrorKind};
    let outside = || Error::new(ErrorKind::InvalidInput, format!("subpath {sub:?} leads out of the volume"));
    if Path::new(sub)
        .components()
        .any(|c| !matches!(c, std::path::Component::Normal(_) | std::path::Component::CurDir))
    {
        return Err(outside());
    }
    let root = volume.canonicalize()?;
    let at = volume.join(sub);
    if !at.exists() {
        // The deepest part that exists decides whether making the rest stays inside.
        let mut base = at.as_path();
        while !base.exists() {
            base = base.parent().ok_or_else(outside)?;
        }
        if !base.canonicalize()?.starts_with(&root) {
            return Err(outside());
        }
        std::fs::create_dir_all(&at)?;
    }
    let real = at.canonicalize()?;
    if real.starts_with(&root) { Ok(real) } else { Err(outside()) }
}

/// Mount points at or below a directory, outer ones first.
pub fn mounts_below(dir: &Path) -> Vec<PathBuf> {
    let text = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    text.lines()
        .filter_map(|l| l.split_whitespace().nth(4))
        .map(|p| PathBuf::from(unescape(p)))
        .filter(|p| p.starts_with(dir))
        .collect()
}

fn unescape(s: &str) -> String {
    s.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\")
}
