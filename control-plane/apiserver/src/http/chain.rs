//! The chain every request passes: limits, who asks, may they, the handler, the answer, the log.

use super::accept::Wants;
use super::answer;
use super::metrics::Counted;
use crate::hooks::{Body, Decision, Exchange, Shown};
use crate::request::{RequestInfo, UserInfo};
use crate::server::ApiServer;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::header::{CACHE_CONTROL, HeaderName, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response};
use skep_api::{Reason, Status};
use std::net::IpAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// The other end of a connection; among the extensions of its requests.
#[derive(Default)]
pub(crate) struct Peer {
    /// Where it is.
    pub(crate) address: Option<IpAddr>,
    /// Who it is by its certificate.
    pub(super) shown: Shown,
    /// How many watches run on the connection now.
    pub(super) watches: AtomicUsize,
}

fn header<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
}

/// 403 in upstream's words.
pub(crate) fn forbidden(user: &UserInfo, info: &RequestInfo, why: &str) -> Status {
    let tail = if why.is_empty() { String::new() } else { format!(": {why}") };
    if !info.is_resource {
        let message =
            format!("forbidden: User {:?} cannot {} path {:?}{tail}", user.name, info.verb, info.path);
        let mut status = Status::new(Reason::Forbidden, message);
        status.details = Some(Box::default());
        return status;
    }
    let resource = if info.subresource.is_empty() {
        info.resource.clone()
    } else {
        format!("{}/{}", info.resource, info.subresource)
    };
    let place = if info.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", info.namespace)
    };
    let why = format!(
        "User {:?} cannot {} resource {resource:?} in API group {:?} {place}{tail}",
        user.name, info.verb, info.group
    );
    Status::forbidden(&info.group_resource(), &info.name, why)
}

impl ApiServer {
    /// Answers a request. Never fails and never panics: whatever goes wrong is an answer.
    pub(super) async fn answer(self: Arc<Self>, request: Request<Body>, peer: Arc<Peer>) -> Response<Body> {
        let began = Instant::now();
        let query = request.uri().query().unwrap_or_default().to_owned();
        let info = RequestInfo::parse(request.method().as_str(), request.uri().path(), &query);
        let method = request.method().clone();
        let agent = header(request.headers(), &USER_AGENT).to_owned();
        let wants = Wants::read(request.headers(), &query);
        let handled: BoxFuture<'_, Result<Response<Body>, Status>> =
            Box::pin(self.handle(request, &info, &wants, &query, &peer));
        let result = AssertUnwindSafe(handled).catch_unwind().await.unwrap_or_else(|panic| {
            let why = panic
                .downcast_ref::<&str>()
                .map(|s| (*s).to_owned())
                .or_else(|| panic.downcast_ref::<String>().cloned())
                .unwrap_or_default();
            tracing::error!(%method, path = %info.path, %why, "a handler panicked");
            Err(Status::internal("This request caused apiserver to panic. Look in the logs for details."))
        });
        let mut response = match result {
            Ok(response) => response,
            Err(status) => answer::status(&wants.for_status(), &status),
        };
        let id = uuid::Uuid::new_v4().to_string();
        let headers = response.headers_mut();
        if let Ok(mut id) = HeaderValue::from_str(&id) {
            // It comes once: HTTP/2 need not remember it for the answers to come.
            id.set_sensitive(true);
            headers.insert(AUDIT_ID, id);
        }
        headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-cache, private"));
        let took = began.elapsed();
        let code = response.status().as_u16();
        self.metrics.observe(&info, code, took);
        tracing::debug!(%method, path = %info.path, %query, code, us = took.as_micros() as u64, agent, "request");
        response
    }

    async fn handle(
        self: &Arc<Self>,
        request: Request<Body>,
        info: &RequestInfo,
        wants: &Wants,
        query: &str,
        peer: &Peer,
    ) -> Result<Response<Body>, Status> {
        let handlers = &self.registry.handlers;
        let connect = if info.is_resource { handlers.for_connect(info) } else { None };
        if info.verb == "watch" || connect.is_some() {
            let user = self.identify(request.headers(), info, peer).await?;
            if let Some(handler) = connect {
                return handler.handle(Exchange { user, info: info.clone(), request }).await;
            }
            return self.route(request, &user, info, wants, query).await;
        }
        let (gauge, most) = if info.is_read_only() {
            (&self.metrics.reading, self.limits.reading)
        } else {
            (&self.metrics.mutating, self.limits.writing)
        };
        let Some(_counted) = Counted::enter(gauge, most) else {
            self.metrics.dropped.fetch_add(1, Ordering::Relaxed);
            return Err(Status::too_many_requests("Too many requests, please try again later.", 1));
        };
        let work = async {
            let user = self.identify(request.headers(), info, peer).await?;
            if info.is_resource {
                return self.route(request, &user, info, wants, query).await;
            }
            match handlers.for_path(&info.path) {
                Some(handler) => handler.handle(Exchange { user, info: info.clone(), request }).await,
                None => Err(Status::unknown_path()),
            }
        };
        tokio::time::timeout(self.limits.timeout, work).await.unwrap_or_else(|_| {
            Err(Status::timeout(format!(
                "Timeout: request did not complete within the allotted timeout of {} s",
                self.limits.timeout.as_secs()
            )))
        })
    }

    fn authenticate<'a>(
        &'a self,
        headers: &'a HeaderMap,
        peer: &'a Peer,
    ) -> BoxFuture<'a, Result<UserInfo, Status>> {
        self.authenticator.authenticate(headers, &peer.shown)
    }

    /// Who asks, if they may.
    async fn identify(
        &self,
        headers: &HeaderMap,
        info: &RequestInfo,
        peer: &Peer,
    ) -> Result<UserInfo, Status> {
        let user = self.authenticate(headers, peer).await?;
        self.permit(&user, info).await?;
        Ok(user)
    }

    /// Whether a user may do this; 403 where not.
    pub(crate) async fn permit(&self, user: &UserInfo, info: &RequestInfo) -> Result<(), Status> {
        match self.authorizer.authorize(user, info).await {
            Decision::Allow => Ok(()),
            Decision::Deny(why) => Err(forbidden(user, info, &why)),
        }
    }
}

#[cfg(test)]
impl ApiServer {
    /// Answers a request that came without a certificate.
    pub(crate) async fn answer_to(self: Arc<Self>, request: Request<Body>) -> Response<Body> {
        self.answer(request, Arc::default()).await
    }
}
