//! Cluster DNS on every node: names of Services and pods from what the API server says, everything else from the node's own
//! servers.
//!
//! [`core`] decides and does no I/O; the rest is the shell around it. It is a process of its own, so that names go on
//! resolving while the agent is down, and it goes on from its last view while the API server is.

pub mod access;
pub mod core;
pub mod flags;
pub mod forward;
pub mod handler;
mod http;
pub mod metrics;
pub mod serve;
pub mod upstream;
pub mod view;

use access::Access;
use anyhow::Context;
use flags::Flags;
use forward::Forwarder;
use handler::Handler;
use metrics::Metrics;
use skep_client::{Client, Config, HttpClient};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use tokio::net::{TcpListener, UdpSocket};
use tokio::signal::unix::{SignalKind, signal};
use upstream::{Named, Upstreams};
use view::View;

/// Runs the server until it is told to stop.
///
/// # Errors
/// A flag names what cannot be used, or an address is taken.
pub async fn run(flags: Flags) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    std::fs::create_dir_all(&flags.data_dir)
        .with_context(|| format!("--data-dir {}", flags.data_dir.display()))?;
    let config = Config::from_file(&flags.kubeconfig).context("--kubeconfig")?;
    let client: Arc<dyn Client> = Arc::new(HttpClient::new(&config, "skep-dns").context("API client")?);

    let at: Vec<SocketAddr> =
        flags.bind_addresses.iter().map(|ip| SocketAddr::new(*ip, flags.port)).collect();
    let named = match flags.upstreams.is_empty() {
        true => Named::File(flags.resolv_conf.clone()),
        false => Named::Here(flags.upstreams.clone()),
    };
    let metrics = Arc::new(Metrics::default());
    let upstreams = Upstreams::new(named, at.clone());
    let view = Arc::new(View::open(&flags.data_dir));
    let handler = Arc::new(Handler {
        access: Access::new(flags.cluster_cidrs.clone()),
        domain: flags.cluster_domain.clone(),
        view: view.clone(),
        forwarder: Forwarder::new(upstreams, flags.cache_mib << 20, metrics.clone()),
        metrics,
        turn: AtomicUsize::new(0),
    });
    for at in &at {
        let taken =
            || format!("cannot answer on {at}: another process may have the port (--bind-address, --port)");
        let datagrams = UdpSocket::bind(at).await.with_context(taken)?;
        let streams = TcpListener::bind(at).await.with_context(taken)?;
        tokio::spawn(serve::datagrams(datagrams, handler.clone()));
        tokio::spawn(serve::streams(streams, handler.clone()));
    }
    let http = SocketAddr::new(flags.http_address, flags.http_port);
    let listener = TcpListener::bind(http)
        .await
        .with_context(|| format!("cannot listen on {http} (--http-address, --http-port)"))?;
    tokio::spawn(http::serve(listener, handler));
    tokio::spawn(view.clone().keep());
    tracing::info!(?at, source = ?view.source(), "answering");

    tokio::select! {
        () = view.clone().follow(client) => anyhow::bail!("the view of the API server has ended"),
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("ending");
    view.save().context("the snapshot of names")
}
