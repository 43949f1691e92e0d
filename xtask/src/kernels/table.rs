//! The kernels that are tried, and what is known of each.

/// A kernel of Debian's for machines in clouds, as its suite has it.
pub struct Kernel {
    /// The suite.
    pub suite: &'static str,
    /// Major and minor number that the suite keeps to; none for the suite that takes every new one.
    pub series: Option<&'static str>,
    /// Tests that cannot pass there, with the reason. One that passes all the same is a fault, too.
    pub lacking: &'static [(&'static str, &'static str)],
}

/// The package that leads to the kernel of a suite.
pub const PACKAGE: &str = "linux-image-cloud-amd64";
/// What the names of the packages begin with that hold a kernel and its modules.
pub const PARTS: &[&str] = &["linux-image-", "linux-binary-", "linux-modules-"];
/// The modules that the tests need, those that others need first.
pub const MODULES: &[&str] = &["drivers/net/veth", "net/sched/sch_ingress", "net/sched/cls_bpf"];

/// Test programs that are not run there: of agents that are killed at each of their system calls, which takes hours under
/// emulation and asks little of a kernel.
pub const LEFT_OUT: &[&str] = &["handover"];

/// Why a node's loopback addresses are left alone.
const NO_COOKIE: &str = "the cookie of a network namespace cannot be asked before Linux 5.14";

/// Oldest first.
pub const KERNELS: &[Kernel] = &[
    Kernel {
        suite: "bullseye",
        series: Some("5.10"),
        lacking: &[
            ("a_node_port_is_reached_by_every_address_of_the_node_and_by_loopback", NO_COOKIE),
            ("ports_of_the_node_lead_to_pods_by_address_and_protocol", NO_COOKIE),
        ],
    },
    Kernel { suite: "bookworm", series: Some("6.1"), lacking: &[] },
    Kernel { suite: "trixie", series: Some("6.12"), lacking: &[] },
    Kernel { suite: "sid", series: None, lacking: &[] },
];
