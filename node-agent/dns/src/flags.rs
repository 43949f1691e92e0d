//! The command line of skep-dns.

use crate::core::{Domain, resolv};
use clap::Parser;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Cluster DNS for the pods of one node: names of Services from the API server, all others from the node's own servers.
#[derive(Debug, Clone, Parser)]
#[command(name = "skep-dns", version)]
pub struct Flags {
    /// Credentials and address of the API server
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Directory of the last view, from which names are answered while the API server is away
    #[arg(long, value_name = "DIR")]
    pub data_dir: PathBuf,
    /// Address to answer on: that of the node (repeatable)
    #[arg(long = "bind-address", value_name = "IP", required = true)]
    pub bind_addresses: Vec<IpAddr>,
    /// Port to answer on, UDP and TCP; not 53, which a resolver of the machine's own may have. It is --cluster-dns-port of
    /// skep-server
    #[arg(long, value_name = "PORT", default_value_t = 10053)]
    pub port: u16,
    /// Domain of the cluster
    #[arg(long, value_name = "DOMAIN", default_value = "cluster.local", value_parser = domain)]
    pub cluster_domain: Domain,
    /// Whom to answer beside this machine itself: the addresses of pods (repeatable). All others are refused
    #[arg(long = "cluster-cidr", value_name = "CIDR", default_value = "10.244.0.0/16", value_parser = range)]
    pub cluster_cidrs: Vec<(IpAddr, u8)>,
    /// Server to ask for all other names, as IP or IP:PORT (repeatable); by default those of --resolv-conf
    #[arg(long = "upstream", value_name = "SERVER", value_parser = server)]
    pub upstreams: Vec<SocketAddr>,
    /// Where the node's own servers are named; read again when it changes
    #[arg(long, value_name = "FILE", default_value = "/etc/resolv.conf")]
    pub resolv_conf: PathBuf,
    /// Address of /healthz, /readyz and /metrics
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub http_address: IpAddr,
    /// Port of /healthz, /readyz and /metrics
    #[arg(long, value_name = "PORT", default_value_t = 9153)]
    pub http_port: u16,
    /// Memory for answers of others, in MiB
    #[arg(long, value_name = "MIB", default_value_t = 8)]
    pub cache_mib: usize,
    /// Say more (-v: debug, -vv: trace)
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

fn domain(text: &str) -> Result<Domain, String> {
    Domain::new(text).ok_or_else(|| format!("{text:?} is no domain such as cluster.local"))
}

fn range(text: &str) -> Result<(IpAddr, u8), String> {
    resolv::range(text).ok_or_else(|| format!("{text:?} is no range such as 10.244.0.0/16"))
}

fn server(text: &str) -> Result<SocketAddr, String> {
    resolv::parse(text).ok_or_else(|| format!("{text:?} is no address such as 192.0.2.53 or 192.0.2.53:5353"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound_and_names_what_is_wrong() {
        Flags::command().debug_assert();
        let with = |more: &[&str]| {
            let base = ["skep-dns", "--kubeconfig", "k", "--data-dir", "d", "--bind-address", "10.0.0.1"];
            Flags::try_parse_from(base.iter().chain(more)).map_err(|e| e.to_string())
        };
        assert_eq!(with(&[]).unwrap().port, 10053);
        let two = with(&["--upstream", "192.0.2.1", "--upstream", "192.0.2.2:5353"]).unwrap().upstreams;
        assert_eq!(two.iter().map(SocketAddr::port).collect::<Vec<_>>(), [53, 5353]);
        assert!(with(&["--upstream", "dns.example"]).unwrap_err().contains("no address such as"));
        assert!(with(&["--cluster-cidr", "pods"]).unwrap_err().contains("no range such as"));
        assert!(with(&["--cluster-domain", "a..b"]).unwrap_err().contains("no domain such as"));
    }
}
