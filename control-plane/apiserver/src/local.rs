//! The client for those who live in this process: a fixed identity, the same handler chain, shared objects instead of JSON.

use crate::http::{Acted, options};
use crate::registry::{
    Begin, Call, Configuration, Deleted, ListQuery, Moment, Selection, Sent, Token, Told, Watch, WatchQuery,
};
use crate::request::{RequestInfo, UserInfo};
use crate::server::ApiServer;
use async_trait::async_trait;
use futures::StreamExt;
use serde_json::Value;
use skep_api::patch::PatchType;
use skep_api::schema::FieldValidation;
use skep_api::{Object, Resource, Status};
use skep_client::{
    Client, Collection, DeleteOptions, ListOptions, ObjectList, Patch, Target, WatchEvent, WatchOptions,
    WatchStream, WriteOptions,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

struct LocalClient {
    server: Arc<ApiServer>,
    user: UserInfo,
}

impl ApiServer {
    /// A client in this process that acts as `user`.
    pub fn local_client(self: &Arc<Self>, user: UserInfo) -> Arc<dyn Client> {
        Arc::new(LocalClient { server: self.clone(), user })
    }
}

impl LocalClient {
    /// What a request over the network would be about, if the user may.
    async fn permit(
        &self,
        method: &str,
        path: &str,
        query: &str,
    ) -> Result<(RequestInfo, Arc<Resource>), Status> {
        let info = RequestInfo::parse(method, path, query);
        self.server.permit(&self.user, &info).await?;
        let row = self.server.row(&info)?;
        Ok((info, row))
    }

    fn call<'a>(&'a self, info: &'a RequestInfo, row: &'a Arc<Resource>, dry_run: bool) -> Call<'a> {
        Call::of(&self.user, info, row, dry_run, component(&self.user.name))
    }

    fn write_call<'a>(
        &'a self,
        info: &'a RequestInfo,
        row: &'a Arc<Resource>,
        options: &'a WriteOptions,
    ) -> Call<'a> {
        let call = self.call(info, row, options.dry_run);
        Call { manager: options.field_manager.as_deref().unwrap_or(call.manager), ..call }
    }
}

/// The component that acts as a user, named as its user agent would be: all controllers are the controller manager's.
fn component(user: &str) -> &str {
    match user.strip_prefix("system:") {
        Some("apiserver") => "kube-apiserver",
        Some(name) if name.starts_with("serviceaccount:kube-system:") => "kube-controller-manager",
        Some(name) => name,
        None => user,
    }
}

fn log(warnings: &[String], info: &RequestInfo) {
    for text in warnings {
        tracing::debug!(path = %info.path, text, "warning to a client in this process");
    }
}

#[async_trait]
impl Client for LocalClient {
    async fn get(&self, target: &Target) -> Result<Arc<Object>, Status> {
        let (info, row) = self.permit("GET", &target.path(), "").await?;
        self.server.read_object(&self.call(&info, &row, false), Moment::Latest).await
    }

    async fn list(&self, collection: &Collection, options: &ListOptions) -> Result<ObjectList, Status> {
        let (info, row) = self.permit("GET", &collection.path(), "").await?;
        let listing = self.server.registry.list(&row, &list_query(&row, &info, options)?).await?;
        Ok(ObjectList {
            items: listing.items,
            revision: listing.revision,
            continue_token: listing.token.map(|token| token.encode()),
        })
    }

    async fn watch(&self, collection: &Collection, options: &WatchOptions) -> Result<WatchStream, Status> {
        let (info, row) = self.permit("GET", &collection.path(), "watch=true").await?;
        let begin = match (options.revision, options.send_initial_events) {
            (None, _) => Begin::Latest,
            (Some(0), _) => Begin::AtHand,
            (Some(revision), true) => Begin::NotOlderThan(revision),
            (Some(revision), false) => Begin::After(revision),
        };
        let timeout =
            options.timeout_seconds.map_or_else(options::watch_timeout, |s| Duration::from_secs(s.into()));
        let query = WatchQuery {
            namespace: info.namespace.clone(),
            selection: Selection::parse(&row, &options.label_selector, &options.field_selector)?,
            begin,
            mark_initial_end: options.send_initial_events,
            bookmarks: options.bookmarks,
            timeout,
        };
        let watch = self.server.registry.watch(&row, query).await?;
        let events =
            Events { watch, told: VecDeque::new(), stop: self.server.stopping.subscribe(), over: false };
        Ok(futures::stream::unfold(events, |mut events| async move {
            events.next().await.map(|event| (event, events))
        })
        .boxed())
    }

    async fn create(
        &self,
        collection: &Collection,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let (info, row) = self.permit("POST", &collection.path(), "").await?;
        self.post(&info, &row, body, options).await
    }

    async fn create_subresource(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let (info, row) = self.permit("POST", &target.path(), "").await?;
        self.post(&info, &row, body, options).await
    }

    async fn update(
        &self,
        target: &Target,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let (info, row) = self.permit("PUT", &target.path(), "").await?;
        let call = self.write_call(&info, &row, options);
        let (tree, mut warnings) = self.server.check_tree(&call, body, FieldValidation::Ignore)?;
        let written = self.server.update_object(&call, tree, &mut warnings).await?;
        log(&warnings, &info);
        Ok(written.object)
    }

    async fn patch(
        &self,
        target: &Target,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let (info, row) = self.permit("PATCH", &target.path(), "").await?;
        let media_type = patch.content_type();
        let call = self.write_call(&info, &row, options);
        let mut warnings = Vec::new();
        let ignore = FieldValidation::Ignore;
        if media_type == PatchType::APPLY {
            if options.field_manager.is_none() {
                return Err(options::no_manager());
            }
            let config = Configuration {
                tree: patch.body(),
                duplicates: &[],
                validation: ignore,
                force: options.force,
            };
            let written = self.server.apply_object(&call, &info, config, &mut warnings).await?;
            log(&warnings, &info);
            return Ok(written.object);
        }
        let sent = Sent { tree: patch.body(), duplicates: &[], validation: ignore };
        let kind = PatchType::parse(media_type)
            .filter(|_| row.patches().contains(&media_type))
            .ok_or_else(|| Status::unsupported_media_type(row.patches()))?;
        let written = self.server.patch_object(&call, kind, sent, &mut warnings).await?;
        log(&warnings, &info);
        Ok(written.object)
    }

    async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Option<Arc<Object>>, Status> {
        let (info, row) = self.permit("DELETE", &target.path(), "").await?;
        let call = self.call(&info, &row, options.dry_run);
        let mut warnings = Vec::new();
        let deleted = self.server.registry.delete(&call, options, &mut warnings).await?;
        log(&warnings, &info);
        Ok(match deleted {
            Deleted::Gone(_) => None,
            Deleted::Stays(object) => Some(object),
        })
    }

    async fn delete_collection(
        &self,
        collection: &Collection,
        selectors: &ListOptions,
        options: &DeleteOptions,
    ) -> Result<(), Status> {
        let (info, row) = self.permit("DELETE", &collection.path(), "").await?;
        let query = list_query(&row, &info, selectors)?;
        let call = self.call(&info, &row, options.dry_run);
        self.server.registry.delete_collection(&call, &query, options, &mut Vec::new()).await?;
        Ok(())
    }
}

impl LocalClient {
    async fn post(
        &self,
        info: &RequestInfo,
        row: &Arc<Resource>,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Arc<Object>, Status> {
        let call = self.write_call(info, row, options);
        let (tree, mut warnings) = self.server.check_tree(&call, body, FieldValidation::Ignore)?;
        let answered = match self.server.act(&call, info, tree).await? {
            Acted::Answered(answer) => {
                Object::from_value(answer, 0, &[]).map(Arc::new).map_err(Status::internal)?
            }
            Acted::Nothing(tree) => self.server.create_object(&call, tree, &mut warnings).await?.object,
        };
        log(&warnings, info);
        Ok(answered)
    }
}

fn list_query(row: &Resource, info: &RequestInfo, options: &ListOptions) -> Result<ListQuery, Status> {
    let moment = match options.revision {
        None => Moment::Latest,
        Some(0) => Moment::AtHand,
        Some(revision) => Moment::NotOlderThan(revision),
    };
    Ok(ListQuery {
        namespace: info.namespace.clone(),
        selection: Selection::parse(row, &options.label_selector, &options.field_selector)?,
        moment,
        limit: options.limit,
        token: options.continue_token.as_deref().map(Token::decode).transpose()?,
    })
}

struct Events {
    watch: Watch,
    told: VecDeque<Told>,
    stop: tokio::sync::watch::Receiver<bool>,
    over: bool,
}

impl Events {
    async fn next(&mut self) -> Option<Result<WatchEvent, Status>> {
        loop {
            if let Some(told) = self.told.pop_front() {
                return Some(Ok(match told {
                    Told::Added(object, _) => WatchEvent::Added(object),
                    Told::Modified(object, _) => WatchEvent::Modified(object),
                    Told::Deleted(object, _) => WatchEvent::Deleted(object),
                    Told::Bookmark { revision, initial_end } => {
                        WatchEvent::Bookmark { revision, initial_events_end: initial_end }
                    }
                }));
            }
            if self.over {
                return None;
            }
            let told = tokio::select! {
                told = self.watch.next() => told?,
                _ = self.stop.wait_for(|stop| *stop) => return None,
            };
            match told {
                Ok(batch) => self.told.extend(batch),
                Err(status) => {
                    self.over = true;
                    return Some(Err(status));
                }
            }
        }
    }
}
