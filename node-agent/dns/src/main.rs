//! skep-dns: the cluster's DNS server of one node.

use clap::Parser;
use skep_dns::flags::Flags;
use std::time::Duration;
use tracing_subscriber::EnvFilter;

fn main() -> anyhow::Result<()> {
    let flags = Flags::parse();
    let level = match flags.verbose {
        0 => "info",
        1 => "info,skep_dns=debug,skep_client=debug",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .max_blocking_threads(4)
        .thread_keep_alive(Duration::from_secs(5))
        .thread_stack_size(1 << 20)
        .enable_all()
        .build()?;
    let result = runtime.block_on(skep_dns::run(flags));
    runtime.shutdown_timeout(Duration::from_secs(1));
    result
}
