//! A containerd of the cluster's own: its configuration, its start, and images put into it without a registry.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::config::{Config, Node};
use crate::layout::Layout;
use crate::oci::{self, Files, Image};
use crate::proc::side_by_side;
use crate::run::{captured, command, which};

/// Reference of the pause image. The version is a tag, so the default pull policy does not look for a registry.
pub const PAUSE_IMAGE: &str = concat!("localhost/skep-pause:", env!("CARGO_PKG_VERSION"));
/// Reference of the demo image.
pub const DEMO_IMAGE: &str = concat!("localhost/skep-demo:", env!("CARGO_PKG_VERSION"));

/// Configuration, version 2: containerd 1.6 and 1.7 read it, 2.x migrates it.
#[must_use]
pub fn config_toml(config: &Config, node: &Node) -> String {
    let (run, dir) = (config.node_run(node), config.node_dir(node));
    let root = dir.join("containerd");
    let state = run.join("containerd");
    let socket = config.containerd_socket(node);
    let (cni_bin, cni_conf) = (dir.join("cni/bin"), dir.join("cni/net.d"));
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

/// Writes what containerd reads and gives its command line. The network configuration is not part of it: the agent puts it
/// there when it is ready.
///
/// # Errors
/// When a file cannot be written, or containerd or the `loopback` plugin is missing.
pub fn prepare(config: &Config, node: &Node) -> Result<Command> {
    let dir = config.node_dir(node);
    let (bin, conf) = (dir.join("cni/bin"), dir.join("cni/net.d"));
    for dir in [&bin, &conf, &config.node_run(node)] {
        fs::create_dir_all(dir).with_context(|| format!("{}", dir.display()))?;
    }
    let loopback = loopback_plugin()
        .context("the CNI plugin `loopback` is missing: install containernetworking-plugins")?;
    replace(&loopback, &bin.join("loopback"))?;
    let file = dir.join("containerd.toml");
    fs::write(&file, config_toml(config, node))?;
    let program = which("containerd").context("containerd is missing: install the package containerd")?;
    let mut start = command(&program);
    start.arg("--config").arg(file);
    // The shim of the same release must be found first.
    let own = program.parent().map(Path::to_path_buf).unwrap_or_default();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = [own]
        .into_iter()
        .chain(std::env::split_paths(&path))
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from));
    start.env("PATH", std::env::join_paths(dirs)?);
    Ok(start)
}

/// Whether a node's containerd answers.
#[must_use]
pub fn answers(config: &Config, node: &Node) -> bool {
    captured(ctr(config, node).args(["plugins", "ls"])).is_ok()
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

/// `ctr` for a node's containerd, in the namespace that CRI uses.
#[must_use]
pub fn ctr(config: &Config, node: &Node) -> Command {
    let mut ctr = command(which("ctr").unwrap_or_else(|| "ctr".into()));
    ctr.arg("--address").arg(config.containerd_socket(node)).args(["--namespace", "k8s.io"]);
    ctr
}

/// Puts the pause and demo images, built from the static binaries, into the containerd of every node.
///
/// # Errors
/// When a binary is missing or containerd refuses.
pub fn import_images(config: &Config, layout: &Layout) -> Result<()> {
    let images: [(&str, &str, &[&str]); 2] =
        [("skep-pause", PAUSE_IMAGE, &[]), ("skep-demo", DEMO_IMAGE, &["serve"])];
    let mut archives = Vec::new();
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
        archives.push(archive);
    }
    import(config, &archives)?;
    for archive in archives {
        fs::remove_file(&archive)?;
    }
    Ok(())
}

/// Puts OCI archives into the containerd of every node, all nodes side by side.
///
/// # Errors
/// When containerd refuses one.
pub fn import(config: &Config, archives: &[PathBuf]) -> Result<()> {
    side_by_side(&config.nodes, |node| {
        for archive in archives {
            captured(ctr(config, node).args(["images", "import"]).arg(archive))?;
        }
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_clusters_share_no_path() {
        let one = Config::new(Path::new("/a/one")).unwrap();
        let two = Config { name: "two".into(), ..Config::new(Path::new("/a/two")).unwrap() };
        let paths = |config: &Config| -> Vec<String> {
            config_toml(config, &config.nodes[0])
                .lines()
                .filter(|line| line.contains("\"/"))
                .map(str::to_owned)
                .collect()
        };
        let (first, second) = (paths(&one), paths(&two));
        assert_eq!(first.len(), 6);
        assert!(first.iter().zip(&second).all(|(a, b)| a != b), "{first:?} {second:?}");
        let nodes = one.with_agents(2, "10.245.0.0/24".parse().unwrap(), 1).unwrap();
        assert_ne!(config_toml(&nodes, &nodes.nodes[0]), config_toml(&nodes, &nodes.nodes[1]));
    }
}
