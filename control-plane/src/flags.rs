//! The command line of skep-server.

use clap::{Args, Parser, Subcommand};
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The control plane of a Skep cluster: store, API server, scheduler and controllers in one process.
#[derive(Parser, Debug)]
#[command(name = "skep-server", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

/// Flags of the server itself.
#[derive(Args, Debug, Clone)]
pub(crate) struct Serve {
    /// Directory of the store, the certificates and admin.kubeconfig; made when it is not there
    #[arg(long, value_name = "DIR", default_value = "/var/lib/skep")]
    pub(crate) data_dir: PathBuf,
    /// Address to listen on
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::UNSPECIFIED))]
    pub(crate) bind_address: IpAddr,
    /// Port to listen on
    #[arg(long, value_name = "PORT", default_value_t = 6443)]
    pub(crate) secure_port: u16,
    /// Address under which pods and nodes reach this server; default: the bind address, or that of the default route
    #[arg(long, value_name = "IP")]
    pub(crate) advertise_address: Option<IpAddr>,
    /// Range of Service addresses, or one range of each family, the default one first: 10.96.0.0/16,fd00:10:96::/112
    #[arg(long, value_name = "CIDR[,CIDR]", default_value = "10.96.0.0/16")]
    pub(crate) service_cluster_ip_range: String,
    /// Range of pod addresses, or one range of each family; each node gets a part of it
    #[arg(long, value_name = "CIDR[,CIDR]", default_value = "10.244.0.0/16")]
    pub(crate) cluster_cidr: String,
    /// Length of a node's range of IPv4 pod addresses
    #[arg(long, value_name = "BITS", default_value_t = 24)]
    pub(crate) node_cidr_mask_size_ipv4: u8,
    /// Length of a node's range of IPv6 pod addresses
    #[arg(long, value_name = "BITS", default_value_t = 64)]
    pub(crate) node_cidr_mask_size_ipv6: u8,
    /// Address of the Service of the cluster's DNS, which a skep-dns on every node serves; default: the tenth of the Service
    /// range. Empty: there is no such Service, others see to DNS
    #[arg(long, value_name = "IP")]
    pub(crate) cluster_dns: Option<String>,
    /// Port on which every node's skep-dns answers
    #[arg(long, value_name = "PORT", default_value_t = 10053)]
    pub(crate) cluster_dns_port: u16,
    /// Further name or address of the serving certificate (repeatable)
    #[arg(long = "tls-san", value_name = "NAME")]
    pub(crate) tls_sans: Vec<String>,
    /// Say more (-v: debug, -vv: trace)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub(crate) verbose: u8,
}

/// What can be done with a data directory without a running server.
#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Print a kubeconfig with a new client certificate
    Kubeconfig {
        /// Data directory of the server
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// User name (the certificate's common name)
        #[arg(long)]
        user: String,
        /// Group (an organization of the certificate; repeatable)
        #[arg(long = "group", value_name = "GROUP")]
        groups: Vec<String>,
        /// URL of the API server
        #[arg(long, value_name = "URL")]
        server: String,
    },
    /// Write a node agent's kubeconfig, serving certificate and CA
    NodeCredentials {
        /// Data directory of the server
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Name of the node
        #[arg(long, value_name = "NAME")]
        node_name: String,
        /// Addresses of the node, one or one of each family
        #[arg(long, value_name = "IP[,IP]", value_delimiter = ',', required = true)]
        node_ip: Vec<IpAddr>,
        /// URL of the API server
        #[arg(long, value_name = "URL")]
        server: String,
        /// Directory to write to
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
    },
}
