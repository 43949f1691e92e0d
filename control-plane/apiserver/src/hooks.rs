//! The traits through which the generic server meets who decides: authentication, authorization, admission, writes that
//! must happen together with an object's, and handlers of paths and subresources that no generic code can serve.

use crate::request::{RequestInfo, UserInfo};
use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use rustls_pki_types::CertificateDer;
use serde_json::Value;
use skep_api::{Object, Resource, Status};
use skep_store::{Compare, Op};
use std::collections::HashMap;
use std::sync::Arc;

/// A body broke off.
#[derive(Debug, thiserror::Error)]
#[error("the body broke off: {0}")]
pub struct BodyError(#[source] Box<dyn std::error::Error + Send + Sync>);

impl BodyError {
    /// Wraps the reason.
    pub fn new(why: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        BodyError(why.into())
    }
}

impl From<hyper::Error> for BodyError {
    fn from(why: hyper::Error) -> Self {
        BodyError::new(why)
    }
}

impl From<std::io::Error> for BodyError {
    fn from(why: std::io::Error) -> Self {
        BodyError::new(why)
    }
}

/// Body of requests and answers.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A body that is at hand.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

/// Whom the certificate names that a client showed when it connected.
#[derive(Clone, Debug, Default)]
pub enum Shown {
    /// It showed none.
    #[default]
    Nothing,
    /// This user.
    User(UserInfo),
    /// Nobody.
    Nobody,
}

/// Says who asks.
#[async_trait]
pub trait Authenticator: Send + Sync + 'static {
    /// Whom the certificates of a connection name (verified by TLS, the client's own first; empty where it sent none).
    /// Asked once a connection.
    fn shown(&self, certificates: &[CertificateDer<'_>]) -> Shown;

    /// The user of a request, by its headers and what its connection showed. Anonymous users are the authenticator's to
    /// name; 401 where it knows nobody.
    async fn authenticate(&self, headers: &http::HeaderMap, shown: &Shown) -> Result<UserInfo, Status>;
}

/// What an [`Authorizer`] decides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The user may.
    Allow,
    /// The user may not; why, for people (may be empty). Only the administrator should learn more than a role's name.
    Deny(String),
}

/// Says who may do what.
#[async_trait]
pub trait Authorizer: Send + Sync + 'static {
    /// Decides about a request.
    async fn authorize(&self, user: &UserInfo, info: &RequestInfo) -> Decision;
}

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// A new object, or a post to a subresource.
    Create,
    /// A change, by update or patch.
    Update,
    /// A deletion.
    Delete,
}

/// A write as admission sees it.
#[derive(Clone, Copy, Debug)]
pub struct WriteRequest<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// Row of the resource.
    pub resource: &'a Arc<Resource>,
    /// What is written below the object, or empty.
    pub subresource: &'a str,
    /// What the write does.
    pub operation: Operation,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Name; empty for a creation that leaves it to `generateName` (the object then has it).
    pub name: &'a str,
    /// Whether nothing will be stored.
    pub dry_run: bool,
}

/// Changes and refuses writes.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// Changes the object that is about to be written, or refuses it. Not called for deletions.
    async fn admit(
        &self,
        request: &WriteRequest<'_>,
        new: &mut Value,
        old: Option<&Object>,
    ) -> Result<(), Status>;

    /// Refuses what must not be written, after all changes; `new` is none for a deletion. Warnings are sent to the client.
    async fn validate(
        &self,
        request: &WriteRequest<'_>,
        new: Option<&Value>,
        old: Option<&Object>,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status>;

    /// What must be written together with the object once nothing speaks against it any more (`new` is none where it goes), or
    /// why the write may not be after all. Called anew when the write is tried again; also for dry runs, whose writes are
    /// dropped.
    async fn charge(
        &self,
        _request: &WriteRequest<'_>,
        _new: Option<&Value>,
        _old: Option<&Object>,
    ) -> Result<Together, Status> {
        Ok(Together::default())
    }
}

/// Writes that happen together with an object's, or not at all.
#[derive(Clone, Debug, Default)]
pub struct Together {
    /// Further conditions; when one fails the whole write is tried again, hook included.
    pub compare: Vec<Compare>,
    /// Further changes: keys that begin with `/` and lie outside `/registry/`, or other objects as they are stored
    /// ([`Object::canonical`](skep_api::Object::canonical)), for which nobody asks admission or validation.
    pub ops: Vec<Op>,
}

impl Together {
    /// The key of the first condition: what others are likely to write at the same time.
    pub(crate) fn contended(&self) -> Option<Bytes> {
        self.compare.first().map(|compare| compare.key().clone())
    }

    /// Both together.
    pub(crate) fn and(mut self, more: Together) -> Self {
        self.compare.extend(more.compare);
        self.ops.extend(more.ops);
        self
    }
}

/// Adds writes to that of an object, such as the claim of an address.
#[async_trait]
pub trait Companion: Send + Sync + 'static {
    /// What to write together with `new` (none: `old` is removed). May fill in fields of `new`, before it is validated; must
    /// not claim anything by itself. Called anew when the write is tried again, with `attempt` counting from 0. Also called
    /// for dry runs, whose writes are then dropped.
    async fn together(
        &self,
        request: &WriteRequest<'_>,
        new: Option<&mut Value>,
        old: Option<&Object>,
        attempt: u32,
    ) -> Result<Together, Status>;
}

/// A request with what is known of it.
pub struct Exchange {
    /// Who asks; authenticated and authorized.
    pub user: UserInfo,
    /// What about.
    pub info: RequestInfo,
    /// The request; hyper's upgrade is among its extensions.
    pub request: http::Request<Body>,
}

/// Answers a path or a subresource by itself.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// The answer; a [`Status`] is written as such.
    async fn handle(&self, exchange: Exchange) -> Result<http::Response<Body>, Status>;
}

/// A post whose body has been read, checked against the schema of its kind and defaulted.
pub struct ActionRequest<'a> {
    /// Who asks.
    pub user: &'a UserInfo,
    /// What about.
    pub info: &'a RequestInfo,
    /// Row of the resource.
    pub resource: &'a Arc<Resource>,
    /// The tree.
    pub body: Value,
    /// Whether nothing may be stored.
    pub dry_run: bool,
    /// Name of the writer for `managedFields`.
    pub manager: &'a str,
    /// The registry, to read and change objects.
    pub registry: &'a crate::registry::Registry,
}

/// Answers a post by a tree, without storing what was posted: reviews, `token`, `binding`, `eviction`.
#[async_trait]
pub trait Action: Send + Sync + 'static {
    /// The answer, sent with 201.
    async fn perform(&self, request: ActionRequest<'_>) -> Result<Value, Status>;
}

/// Makes up the objects of a resource that nobody stores, at each request.
pub trait Source: Send + Sync + 'static {
    /// The objects as they are now, in the form of the row.
    fn objects(&self) -> Vec<Value>;
}

type Place = (String, String, String);

fn place(group: &str, resource: &str, subresource: &str) -> Place {
    (group.to_owned(), resource.to_owned(), subresource.to_owned())
}

/// What generic code does not serve, by path or by place in the resource table.
#[derive(Default, Clone)]
pub struct Handlers {
    exact: HashMap<String, Arc<dyn Handler>>,
    prefix: Vec<(String, Arc<dyn Handler>)>,
    connect: HashMap<Place, Arc<dyn Handler>>,
    actions: HashMap<Place, Arc<dyn Action>>,
    companions: HashMap<(String, String), Arc<dyn Companion>>,
    sources: HashMap<(String, String), Arc<dyn Source>>,
}

impl Handlers {
    /// A path that names no resource.
    pub fn path(&mut self, path: &str, handler: Arc<dyn Handler>) -> &mut Self {
        self.exact.insert(path.to_owned(), handler);
        self
    }

    /// All paths that begin so and have no handler of their own; `/apis/` serves `/apis/apps/v1`. The longest prefix counts.
    pub fn prefix(&mut self, prefix: &str, handler: Arc<dyn Handler>) -> &mut Self {
        self.prefix.push((prefix.to_owned(), handler));
        self.prefix.sort_by_key(|(p, _)| std::cmp::Reverse(p.len()));
        self
    }

    /// A subresource that speaks HTTP itself, for as long as it likes: `log`, `exec`, `proxy`.
    pub fn connect(
        &mut self,
        group: &str,
        resource: &str,
        subresource: &str,
        handler: Arc<dyn Handler>,
    ) -> &mut Self {
        self.connect.insert(place(group, resource, subresource), handler);
        self
    }

    /// A post to a subresource, or (with an empty subresource) to a resource that is not stored.
    pub fn action(
        &mut self,
        group: &str,
        resource: &str,
        subresource: &str,
        action: Arc<dyn Action>,
    ) -> &mut Self {
        self.actions.insert(place(group, resource, subresource), action);
        self
    }

    /// Writes that happen together with those of a resource's objects.
    pub fn companion(&mut self, group: &str, resource: &str, companion: Arc<dyn Companion>) -> &mut Self {
        self.companions.insert((group.to_owned(), resource.to_owned()), companion);
        self
    }

    /// Where the objects of a resource come from that nobody stores.
    pub fn source(&mut self, group: &str, resource: &str, source: Arc<dyn Source>) -> &mut Self {
        self.sources.insert((group.to_owned(), resource.to_owned()), source);
        self
    }

    /// The source of a resource.
    pub fn for_reads(&self, row: &Resource) -> Option<&Arc<dyn Source>> {
        self.sources.get(&(row.gvk.group.to_string(), row.plural.to_string()))
    }

    /// The companion of a resource.
    pub fn for_writes(&self, row: &Resource) -> Option<&Arc<dyn Companion>> {
        self.companions.get(&(row.gvk.group.to_string(), row.plural.to_string()))
    }

    /// The handler of a path that names no resource.
    pub fn for_path(&self, path: &str) -> Option<&Arc<dyn Handler>> {
        self.exact
            .get(path)
            .or_else(|| self.exact.get(path.trim_end_matches('/')))
            .or_else(|| self.prefix.iter().find(|(p, _)| path.starts_with(p.as_str())).map(|(_, h)| h))
    }

    /// The handler of a subresource.
    pub fn for_connect(&self, info: &RequestInfo) -> Option<&Arc<dyn Handler>> {
        self.connect.get(&place(&info.group, &info.resource, &info.subresource))
    }

    /// The action of a post.
    pub fn for_action(&self, info: &RequestInfo) -> Option<&Arc<dyn Action>> {
        self.actions.get(&place(&info.group, &info.resource, &info.subresource))
    }

    /// The paths with handlers of their own, sorted: what `/` lists.
    pub fn paths(&self) -> Vec<String> {
        let mut paths: Vec<String> = self.exact.keys().cloned().collect();
        paths.sort();
        paths
    }
}
