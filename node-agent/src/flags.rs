//! Command line of the agent.

use clap::Parser;
use std::net::IpAddr;
use std::path::PathBuf;

/// The node agent of a Skep cluster: runs the pods bound to its node and routes their traffic in eBPF.
#[derive(Debug, Clone, Parser)]
#[command(name = "skep-agent", version)]
pub(crate) struct Flags {
    /// Credentials and address of the API server.
    #[arg(long)]
    pub(crate) kubeconfig: PathBuf,
    /// Name of the node.
    #[arg(long)]
    pub(crate) node_name: String,
    /// Address of the node.
    #[arg(long)]
    pub(crate) node_ip: IpAddr,
    /// Directory for pods, logs and addresses.
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// The container runtime.
    #[arg(long, default_value = "unix:///run/containerd/containerd.sock")]
    pub(crate) container_runtime_endpoint: String,
    /// What belongs to this node of the cgroup2 mount; the whole mount by default.
    #[arg(long)]
    pub(crate) cgroup_root: Option<PathBuf>,
    /// The eBPF object.
    #[arg(long)]
    pub(crate) bpf_object: PathBuf,
    /// Where bpffs is mounted.
    #[arg(long, default_value = "/sys/fs/bpf")]
    pub(crate) bpffs: PathBuf,
    /// Name of the cluster, under which programs are pinned.
    #[arg(long, default_value = "skep")]
    pub(crate) cluster_name: String,
    /// Addresses of all pods.
    #[arg(long, default_value = "10.244.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// Addresses of Services.
    #[arg(long, default_value = "10.96.0.0/16")]
    pub(crate) service_cluster_ip_range: String,
    /// Certificate of the agent's server.
    #[arg(long)]
    pub(crate) tls_cert_file: PathBuf,
    /// Its key.
    #[arg(long)]
    pub(crate) tls_private_key_file: PathBuf,
    /// Authority that signs the certificates of those who may ask the agent.
    #[arg(long)]
    pub(crate) client_ca_file: PathBuf,
    /// Socket for skep-cni.
    #[arg(long, default_value = "/run/skep/cni.sock")]
    pub(crate) cni_socket: PathBuf,
    /// Where the runtime reads network configurations.
    #[arg(long, default_value = "/etc/cni/net.d")]
    pub(crate) cni_conf_dir: PathBuf,
    /// Where the runtime finds network plugins.
    #[arg(long, default_value = "/opt/cni/bin")]
    pub(crate) cni_bin_dir: PathBuf,
    /// Addresses of the cluster's DNS.
    #[arg(long)]
    pub(crate) cluster_dns: Vec<String>,
    /// Domain of the cluster.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) cluster_domain: String,
    /// Port of the agent's server.
    #[arg(long, default_value_t = 10250)]
    pub(crate) port: u16,
    /// Port of the health endpoint on 127.0.0.1.
    #[arg(long, default_value_t = 10248)]
    pub(crate) healthz_port: u16,
    /// Port on which this node says whether it takes traffic for Services (kube-proxy's own), on every address.
    #[arg(long, default_value_t = 10256)]
    pub(crate) proxy_healthz_port: u16,
    /// Interface to the network outside; that of the default route by default.
    #[arg(long)]
    pub(crate) uplink: Option<String>,
    /// Used hundredths of the disk from which on images that nobody uses are removed; 100 for never.
    #[arg(long, default_value_t = 85, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_high_threshold: u8,
    /// Used hundredths down to which they are removed.
    #[arg(long, default_value_t = 80, value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) image_gc_low_threshold: u8,
    /// More log; may be repeated.
    #[arg(short = 'v', action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}
