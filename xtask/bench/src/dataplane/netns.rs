//! Network namespaces that live as long as this process holds them, and the tools that work in them.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::process::{Child, Command, Stdio};
use std::thread;

use anyhow::{Context, Result, anyhow, bail};
use nix::sched::{CloneFlags, setns, unshare};

/// A network namespace, kept by a descriptor: the kernel takes it back when this process ends, however it ends.
pub(crate) struct Netns(File);

impl Netns {
    /// A new one with its loopback interface up, in which nothing is said over IPv6 of its own accord.
    pub(crate) fn new() -> Result<Self> {
        let made = thread::spawn(|| -> Result<File> {
            unshare(CloneFlags::CLONE_NEWNET).context("a network namespace (this needs root)")?;
            std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
            Ok(File::open("/proc/thread-self/ns/net")?)
        });
        let netns = Netns(made.join().map_err(|_| anyhow!("a thread panicked"))??);
        netns.ip(&["link set lo up"])?;
        Ok(netns)
    }

    /// Does something inside, in a thread of its own.
    pub(crate) fn run<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        let done = thread::scope(|scope| {
            let inside = scope.spawn(|| {
                setns(&self.0, CloneFlags::CLONE_NEWNET).context("cannot enter a network namespace")?;
                work()
            });
            inside.join()
        });
        done.map_err(|_| anyhow!("a thread panicked"))?
    }

    /// Runs lines of `ip`.
    pub(crate) fn ip(&self, lines: &[&str]) -> Result<()> {
        let mut ip = Command::new("ip");
        ip.args(["-batch", "-"]);
        self.feed(&mut ip, &(lines.join("\n") + "\n"))
    }

    /// Runs a tool inside that reads `input`; what it complains of is the error.
    pub(crate) fn feed(&self, tool: &mut Command, input: &str) -> Result<()> {
        tool.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = self.spawn(tool)?;
        if let Some(mut stdin) = child.stdin.take() {
            // A tool that ends early says why itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        let output = child.wait_with_output()?;
        if !output.status.success() {
            let name = tool.get_program().to_string_lossy().into_owned();
            bail!("{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }

    /// Starts a program inside.
    pub(crate) fn spawn(&self, program: &mut Command) -> Result<Child> {
        let name = program.get_program().to_string_lossy().into_owned();
        self.run(|| program.spawn().with_context(|| name))
    }

    /// Where its descriptor is found by other processes.
    pub(crate) fn path(&self) -> String {
        format!("/proc/{}/fd/{}", std::process::id(), self.0.as_raw_fd())
    }

    /// Makes a wire to a pod as a CNI plugin does: a veth whose other end, `eth0`, has the pod's address, with the node as
    /// next hop for everything.
    pub(crate) fn wire(&self, name: &str, pod: &Netns, address: Ipv4Addr) -> Result<()> {
        self.ip(&[
            &format!("link add {name} type veth peer name eth0 netns {}", pod.path()),
            &format!("addr add 169.254.1.1/32 dev {name}"),
            &format!("link set {name} up"),
            &format!("route add {address}/32 dev {name} scope link"),
        ])?;
        pod.ip(&[
            &format!("addr add {address}/32 dev eth0"),
            "link set eth0 up",
            "route add 169.254.1.1/32 dev eth0 scope link",
            "route add default via 169.254.1.1 dev eth0",
        ])
    }
}
