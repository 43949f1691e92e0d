//! HTTP: connections, the handler chain, negotiation, bodies and answers.

pub(crate) mod accept;
pub(crate) mod answer;
mod body;
mod chain;
mod gather;
mod metrics;
pub(crate) mod options;
mod route;
mod serve;
mod watch;

pub(crate) use chain::Peer;
pub use metrics::Metrics;
pub(crate) use route::Acted;
