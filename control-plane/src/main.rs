//! skep-server: reads flags, constructs the rooms of the control plane, wires them, and ends them together.

mod authority;
mod flags;
mod serve;

use anyhow::Context;
use clap::Parser;
use flags::{Cli, Command};
use skep_apiserver::pki::{self, Pki};
use tracing_subscriber::EnvFilter;

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
            pki::node_credentials(&pki, &node_name, &node_ip, &server, &out, now)
                .with_context(|| format!("node {node_name}"))
        }
        None => {
            log(cli.serve.verbose);
            few_arenas();
            let runtime = tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .max_blocking_threads(16)
                .enable_all()
                .build()?;
            runtime.block_on(serve::run(cli.serve))
        }
    }
}

/// Writes log lines to standard error: `RUST_LOG` where it is set, else by the number of `-v`.
fn log(verbose: u8) {
    let default = match verbose {
        0 => "info,openraft=warn,sled=warn",
        1 => "debug,openraft=info,sled=info,h2=info,hyper=info,rustls=info",
        _ => "trace,h2=info,hyper=info,rustls=info",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
}

/// Keeps the allocator from making an arena for each of the store's many threads, none of which allocates much.
#[allow(unsafe_code)]
fn few_arenas() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt changes a setting of the allocator and takes no pointer; no other thread runs yet.
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}
