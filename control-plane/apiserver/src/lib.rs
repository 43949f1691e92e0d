//! The API server: HTTPS in, store out.
//!
//! Generic code serves every kind by its row in the resource table. What differs is given from outside through the traits
//! of [`hooks`]: who asks ([`Authenticator`]), who may ([`Authorizer`]), what is changed or refused ([`Admission`]), what is
//! written together with an object ([`Companion`]) and paths and subresources of their own ([`Handlers`]).
//!
//! The order of construction: [`cache::Caches::start`] over an open store; the hooks, which may read the caches;
//! [`ApiServer::new`]; then `ApiServer::serve(listener, tls, stop)` for the network and `ApiServer::local_client(user)` for
//! clients in this process, which pass the same handler chain.

pub mod admission;
pub mod alloc;
pub mod apiservices;
pub mod auth;
pub mod authz;
pub mod bootstrap;
pub mod cache;
mod compaction;
pub mod custom;
pub mod dial;
pub mod discovery;
mod documents;
pub mod endpoints;
mod eviction;
mod expiry;
pub mod flows;
pub mod hooks;
mod http;
mod local;
pub mod nodes;
pub mod pki;
mod proxy;
pub mod registry;
pub mod request;
pub mod reviews;
pub mod server;
pub mod subresources;
pub mod table;
pub mod tls;
pub mod webhook;

pub use crate::http::Metrics;
pub use hooks::{
    Action, ActionRequest, Admission, Authenticator, Authorizer, Body, Companion, Decision, Exchange,
    Handler, Handlers, Operation, Together, WriteRequest, full,
};
pub use request::{RequestInfo, UserInfo};
pub use server::{ApiServer, Limits, Parts};

#[cfg(test)]
mod tests;
