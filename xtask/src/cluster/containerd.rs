//! A containerd of the cluster's own: its configuration, its start, and images put into it without a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::config::Config;
use crate::layout::Layout;
use crate::oci::{self, Files, Image};
use crate::proc::{self, Process};
use crate::run::{captured, command, which};

/// Reference of the pause image. The version is a tag, so the default pull policy does not look for a registry.
pub const PAUSE_IMAGE: &str = concat!("localhost/skep-pause:", env!("CARGO_PKG_VERSION"));
/// Reference of the demo image.
pub const DEMO_IMAGE: &str = concat!("localhost/skep-demo:", env!("CARGO_PKG_VERSION"));

/// Configuration, version 2: containerd 1.6 and 1.7 read it, 2.x migrates it.
#[must_use]
pub fn config_toml(config: &Config) -> String {
    let run = config.run_dir();
    let root = config.dir.join("containerd");
    let state = run.join("containerd");
    let socket = config.containerd_socket();
    let (cni_bin, cni_conf) = (config.dir.join("cni/bin"), config.dir.join("cni/net.d"));
    format!(
        r#"version = 2
root = {root:?}
state = {state:?}
oom_score = 0
disabled_plugins = ["io.containerd.internal.v1.opt", "io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri"]
[grpc]
  address = {socket:?}
[ttrpc]
  address = "{}.ttrpc"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = {cni_bin:?}
    conf_dir = {cni_conf:?}
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        socket.display()
    )
}

/// Where the `loopback` plugin is that containerd wants beside skep-cni.
#[must_use]
pub fn loopback_plugin() -> Option<PathBuf> {
    ["/usr/lib/cni/loopback", "/opt/cni/bin/loopback"]
        .into_iter()
        .map(PathBuf::from)
        .find(|file| file.exists())
}

/// Writes what containerd reads. The network configuration is not part of it: the agent puts it there when it is ready.
///
/// # Errors
/// When a file cannot be written or the `loopback` plugin is missing.
pub fn prepare(config: &Config) -> Result<()> {
    let (bin, conf) = (config.dir.join("cni/bin"), config.dir.join("cni/net.d"));
    for dir in [&bin, &conf, &config.run_dir()] {
        fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    }
    let loopback = loopback_plugin()
        .context("the CNI plugin `loopback` is missing: install containernetworking-plugins")?;
    replace(&loopback, &bin.join("loopback"))?;
    fs::write(config.dir.join("containerd.toml"), config_toml(config))?;
    Ok(())
}

/// Copies a program over one that may be running: the new one takes the name, the old one keeps its inode.
///
/// # Errors
/// I/O errors.
pub fn replace(from: &Path, to: &Path) -> Result<()> {
    let fresh = to.with_extension("new");
    fs::copy(from, &fresh)
        .with_context(|| format!("cannot copy {} to {}", from.display(), fresh.display()))?;
    fs::rename(&fresh, to).with_context(|| format!("{}", to.display()))
}

/// Starts containerd and waits until it answers.
///
/// # Errors
/// When it is missing, ends, or does not answer.
pub fn start(config: &Config) -> Result<Process> {
    let program = which("containerd").context("containerd is missing: install the package containerd")?;
    let mut start = command(&program);
    start.arg("--config").arg(config.dir.join("containerd.toml"));
    // The shim of the same release must be found first.
    let own = program.parent().map(Path::to_path_buf).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [own]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    start.env("PATH", std::env::join_paths(dirs)?);
    let log = config.log("containerd");
    let process = proc::daemon(&start, &log)?;
    process.write(&config.pid_file("containerd"))?;
    let mut ended = false;
    let answers = proc::until(Duration::from_secs(60), || {
        ended = !process.alive();
        ended || captured(ctr(config).args(["plugins", "ls"])).is_ok()
    });
    if ended || !answers {
        bail!("containerd did not come up; its log {} ends with:\n{}", log.display(), proc::tail(&log, 8));
    }
    Ok(process)
}

/// `ctr` for this containerd, in the namespace that CRI uses.
#[must_use]
pub fn ctr(config: &Config) -> Command {
    let mut ctr = command(which("ctr").unwrap_or_else(|| "ctr".into()));
    ctr.arg("--address").arg(config.containerd_socket()).args(["--namespace", "k8s.io"]);
    ctr
}

/// Builds the pause and demo images from the static binaries and puts them into containerd.
///
/// # Errors
/// When a binary is missing or containerd refuses.
pub fn import_images(config: &Config, layout: &Layout) -> Result<()> {
    let images: [(&str, &str, &[&str]); 2] =
        [("skep-pause", PAUSE_IMAGE, &[]), ("skep-demo", DEMO_IMAGE, &["serve"])];
    for (name, reference, arguments) in images {
        let file = layout.bin().join(name);
        let binary = fs::read(&file).with_context(|| format!("{}", file.display()))?;
        let archive = config.dir.join(format!("{name}.oci.tar"));
        let path = format!("/{name}");
        let image = Image {
            reference,
            files: Files::Program(&path, &binary),
            entrypoint: &[&path],
            cmd: arguments,
            user: "",
            path: "/",
        };
        oci::write_archive(&image, fs::File::create(&archive)?)?;
        captured(ctr(config).args(["images", "import"]).arg(&archive))?;
        fs::remove_file(&archive)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_share_no_path() {
        let one = Config::new(Path::new("/a/one")).unwrap();
        let two = Config { name: "two".into(), ..Config::new(Path::new("/a/two")).unwrap() };
        let paths = |config: &Config| -> Vec<String> {
            config_toml(config).lines().filter(|line| line.contains("\"/")).map(str::to_owned).collect()
        };
        let (first, second) = (paths(&one), paths(&two));
        assert_eq!(first.len(), 6);
        assert!(first.iter().zip(&second).all(|(a, b)| a != b), "{first:?} {second:?}");
    }
}
