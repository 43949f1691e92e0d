//! The `proxy` subresources.

use super::path::Route;
use crate::cache::Caches;
use crate::dial::{Dialer, Named, Services, Target, may_be_dialled, node, pod};
use crate::hooks::{Body, Exchange, Handler, Handlers};
use crate::request::{RequestInfo, param};
use async_trait::async_trait;
use http::{Request, Response};
use serde_json::Value;
use skep_api::{GroupResource, Status};
use std::sync::Arc;

/// Segments of the path up to `proxy`, below a namespaced object and below another.
const NAMESPACED: usize = 7;
const CLUSTER: usize = 5;

#[derive(Clone, Copy)]
enum Of {
    Pods,
    Services,
    Nodes,
}

struct Proxy {
    of: Of,
    caches: Arc<Caches>,
    services: Arc<Services>,
    dialer: Dialer,
}

/// Registers the `proxy` subresources.
pub(crate) fn register(
    handlers: &mut Handlers,
    caches: &Arc<Caches>,
    services: &Arc<Services>,
    dialer: &Dialer,
) {
    for (of, resource) in [(Of::Pods, "pods"), (Of::Services, "services"), (Of::Nodes, "nodes")] {
        let proxy = Proxy { of, caches: caches.clone(), services: services.clone(), dialer: dialer.clone() };
        handlers.connect("", resource, "proxy", Arc::new(proxy));
    }
}

impl Proxy {
    fn find(&self, resource: &str, namespace: &str, name: &str) -> Result<Value, Status> {
        let row = self.caches.row("", "v1", resource).ok_or_else(Status::unknown_path)?;
        let found = self.caches.latest(&row, namespace, name)?;
        let missing = || Status::not_found(&GroupResource::new("", resource.to_owned()), name);
        found.map(|object| object.value()).ok_or_else(missing)
    }

    async fn target(&self, info: &RequestInfo) -> Result<Target, Status> {
        match self.of {
            Of::Pods => {
                let asked = Named::parse(&info.name, "pod")?;
                pod(&self.find("pods", &info.namespace, asked.name)?, &asked)
            }
            Of::Services => self.services.target(&info.namespace, &info.name),
            Of::Nodes => {
                let asked = Named::parse(&info.name, "node")?;
                let target = node(&self.find("nodes", "", asked.name)?, &asked)?;
                proxyable(&target).await?;
                Ok(target)
            }
        }
    }
}

/// 400 for a request that is to change nothing: what happens at the other end is not in this server's hands.
pub(crate) fn refuse_dry_run(request: &Request<Body>) -> Result<(), Status> {
    match param(request.uri().query().unwrap_or_default(), "dryRun") {
        Some(_) => Err(Status::bad_request("dryRun is not supported")),
        None => Ok(()),
    }
}

/// 400 for a node whose address is one that only this machine may use.
async fn proxyable(target: &Target) -> Result<(), Status> {
    let refused = |why: &dyn std::fmt::Display| Status::bad_request(why.to_string());
    let found = tokio::net::lookup_host((target.host.as_str(), target.port)).await;
    let mut count = 0;
    for address in found.map_err(|why| refused(&why))? {
        count += 1;
        if !may_be_dialled(address.ip()) {
            return Err(refused(&"address not allowed"));
        }
    }
    if count == 0 { Err(refused(&"no addresses for hostname")) } else { Ok(()) }
}

#[async_trait]
impl Handler for Proxy {
    async fn handle(&self, exchange: Exchange) -> Result<Response<Body>, Status> {
        refuse_dry_run(&exchange.request)?;
        let target = self.target(&exchange.info).await?;
        let segments = if exchange.info.namespace.is_empty() { CLUSTER } else { NAMESPACED };
        let route = Route::cut(exchange.request.uri().path(), segments);
        super::carry(&self.dialer, &target, &route, exchange.request).await
    }
}
