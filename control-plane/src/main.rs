//! skep-server: reads flags, constructs the rooms of the control plane, wires them, and ends them together.

mod flags;

use anyhow::Context;
use clap::Parser;
use flags::{Cli, Command};
use skep_apiserver::pki::{self, Pki};

fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let now = jiff::Timestamp::now();
    match cli.command {
        Some(Command::Kubeconfig { data_dir, user, groups, server }) => {
            let pki = Pki::open(&data_dir.join("pki"))?;
            print!("{}", pki::kubeconfig(&pki, &user, &groups, &server, now)?);
            Ok(())
        }
        Some(Command::NodeCredentials { data_dir, node_name, node_ip, server, out }) => {
            let pki = Pki::open(&data_dir.join("pki"))?;
            pki::node_credentials(&pki, &node_name, node_ip, &server, &out, now)
                .with_context(|| format!("node {node_name}"))
        }
        None => anyhow::bail!("serving is not wired yet"),
    }
}
