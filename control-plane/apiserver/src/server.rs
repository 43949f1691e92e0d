//! The server put together.

use crate::cache::Caches;
use crate::hooks::{Admission, Authenticator, Authorizer, Handlers};
use crate::http::Metrics;
use crate::registry::Registry;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// Bounds of what the server does at a time.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Reading requests in flight, beyond which 429 is answered; those that run for long do not count.
    pub reading: usize,
    /// Writing requests in flight.
    pub writing: usize,
    /// How long a request may take that is not meant to run for long.
    pub timeout: Duration,
    /// Largest body that is read, in bytes.
    pub body: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Limits { reading: 400, writing: 200, timeout: Duration::from_secs(60), body: 3 << 20 }
    }
}

/// What a server is made of.
pub struct Parts {
    /// Store and watch caches.
    pub caches: Arc<Caches>,
    /// Who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Who may.
    pub authorizer: Arc<dyn Authorizer>,
    /// Who changes and refuses writes.
    pub admission: Arc<dyn Admission>,
    /// What generic code does not serve.
    pub handlers: Handlers,
    /// Bounds.
    pub limits: Limits,
}

/// The API server.
pub struct ApiServer {
    pub(crate) registry: Arc<Registry>,
    pub(crate) authenticator: Arc<dyn Authenticator>,
    pub(crate) authorizer: Arc<dyn Authorizer>,
    pub(crate) limits: Limits,
    pub(crate) metrics: Arc<Metrics>,
    /// Set when the server stops.
    pub(crate) stopping: watch::Sender<bool>,
}

impl ApiServer {
    /// Puts a server together.
    pub fn new(parts: Parts) -> Arc<ApiServer> {
        let metrics = Arc::new(Metrics::default());
        let mut handlers = parts.handlers;
        handlers.path("/metrics", metrics.clone());
        crate::subresources::register(&mut handlers);
        let registry = Arc::new(Registry::new(parts.caches, parts.admission, handlers));
        Arc::new(ApiServer {
            registry,
            authenticator: parts.authenticator,
            authorizer: parts.authorizer,
            limits: parts.limits,
            metrics,
            stopping: watch::channel(false).0,
        })
    }

    /// What `/metrics` shows.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// The registry, for who reads and writes without being asked by a request.
    pub fn registry(&self) -> &Arc<Registry> {
        &self.registry
    }
}
