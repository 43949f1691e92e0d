//! HTTP: connections, the handler chain, negotiation, bodies and answers.

pub(crate) mod accept;
pub(crate) mod answer;
mod body;
mod chain;
mod metrics;
pub(crate) mod options;
mod route;
mod serve;
mod watch;

pub use metrics::Metrics;
pub(crate) use route::Acted;
pub(crate) use serve::ClientAddress;
