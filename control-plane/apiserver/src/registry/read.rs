//! Getting and listing.

use super::Registry;
use super::page::Token;
use super::selection::Selection;
use super::shown::{shown, shown_all};
use crate::cache::{Cache, View, prefix_of, store_status, too_large};
use skep_api::{GroupResource, Object, Resource, Status};
use skep_store::{StoreError, prefix_end};
use std::sync::Arc;

/// Which moment a list is of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Moment {
    /// Everything acknowledged before the request.
    #[default]
    Latest,
    /// Whatever is at hand.
    AtHand,
    /// This revision or a later one.
    NotOlderThan(u64),
    /// This revision.
    Exact(u64),
}

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Namespace, or empty for all.
    pub namespace: String,
    /// Which objects.
    pub selection: Selection,
    /// Of which moment; not looked at when `token` is set.
    pub moment: Moment,
    /// At most so many; 0 for all.
    pub limit: usize,
    /// Where the page before ended.
    pub token: Option<Token>,
}

/// A list, or a page of one.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    /// By namespace and name.
    pub items: Vec<Arc<Object>>,
    /// The moment.
    pub revision: u64,
    /// Where the next page starts; none on the last.
    pub token: Option<Token>,
    /// How many objects follow, where that is known.
    pub remaining: Option<usize>,
}

/// Objects looked at in one step when a page is filled from few that match.
const STEP: usize = 2_000;

impl Registry {
    /// Reads an object: at least as new as `moment` asks.
    pub async fn get(
        &self,
        row: &Resource,
        namespace: &str,
        name: &str,
        moment: Moment,
    ) -> Result<Arc<Object>, Status> {
        if let Some(made) = self.made_up(row) {
            let found = made?.into_iter().find(|object| *object.meta().name == *name);
            let resource = GroupResource::new(row.gvk.group.clone(), row.singular.clone());
            return found.ok_or_else(|| Status::not_found(&resource, name));
        }
        match moment {
            Moment::AtHand => {
                if let Some(found) = self.caches.peek(&row.stored_in(), namespace, name) {
                    return shown(row, found).await;
                }
            }
            Moment::NotOlderThan(revision) | Moment::Exact(revision) => self.caches.wait(revision).await?,
            Moment::Latest => {}
        }
        shown(row, self.latest(row, namespace, name)?).await
    }

    /// The latest version of an object as it is stored; 404 where there is none.
    pub(super) fn latest(&self, row: &Resource, namespace: &str, name: &str) -> Result<Arc<Object>, Status> {
        let found = self.caches.latest(row, namespace, name)?;
        found.ok_or_else(|| Status::not_found(&row.group_resource(), name))
    }

    /// Lists objects of one moment.
    pub async fn list(&self, row: &Resource, query: &ListQuery) -> Result<Listing, Status> {
        if let Some(made) = self.made_up(row) {
            let items = made?.into_iter().filter(|object| query.selection.matches(object)).collect();
            return Ok(Listing { items, ..Listing::default() });
        }
        let cache = &*self.stored(row)?;
        let (start, exact) = match (&query.token, query.moment) {
            (Some(token), _) => (token.start.as_str(), token.revision),
            (None, Moment::Exact(revision)) => ("", Some(revision)),
            (None, Moment::NotOlderThan(revision)) => {
                self.caches.wait(revision).await?;
                ("", None)
            }
            (None, Moment::AtHand) => ("", None),
            (None, Moment::Latest) => {
                self.caches.fresh().await?;
                ("", None)
            }
        };
        if matches!(&query.token, Some(token) if token.revision.is_none()) {
            self.caches.fresh().await?;
        }
        let most = if query.limit == 0 { usize::MAX } else { query.limit };
        // A page is cut at `limit` matches; without a selector those are simply the next objects.
        let step = match query.limit {
            0 => 0,
            limit if query.selection.is_everything() => limit,
            limit => limit.max(STEP),
        };
        let first = self.shown_step(row, cache, query, start, step, exact).await?;
        let revision = exact.unwrap_or(first.revision);
        let mut listing = Listing { revision, ..Listing::default() };
        let mut view = first;
        loop {
            let mut seen = 0;
            for object in &view.items {
                seen += 1;
                if query.selection.matches(object) {
                    listing.items.push(object.clone());
                    if listing.items.len() == most {
                        break;
                    }
                }
            }
            let left = view.items.len() - seen + view.remaining;
            if left == 0 {
                return Ok(listing);
            }
            let Some(last) = view.items.get(seen.wrapping_sub(1)) else { return Ok(listing) };
            let next = format!("{}\0", last.meta().key());
            if listing.items.len() == most {
                listing.token = Some(Token { start: next, revision: Some(revision) });
                listing.remaining = query.selection.is_everything().then_some(left);
                return Ok(listing);
            }
            view = self.shown_step(row, cache, query, &next, step, Some(revision)).await?;
        }
    }

    /// The objects of a resource that nobody stores; none where it is stored. They have no revision.
    fn made_up(&self, row: &Resource) -> Option<Result<Vec<Arc<Object>>, Status>> {
        let source = self.handlers.for_reads(row)?;
        let paths: Vec<&str> = row.selectable_fields.iter().map(|path| &**path).collect();
        let object = |tree| Object::from_value(tree, 0, &paths).map(Arc::new).map_err(Status::internal);
        Some(source.objects().into_iter().map(object).collect())
    }

    /// The cache of a resource that is stored.
    pub(super) fn stored(&self, row: &Resource) -> Result<Arc<Cache>, Status> {
        self.caches
            .cache(&row.stored_in())
            .ok_or_else(|| Status::method_not_supported(&row.group_resource(), "list"))
    }

    /// [`Registry::step`] in the version of the row.
    async fn shown_step(
        &self,
        row: &Resource,
        cache: &Cache,
        query: &ListQuery,
        start: &str,
        most: usize,
        exact: Option<u64>,
    ) -> Result<View, Status> {
        let view = self.step(row, cache, query, start, most, exact)?;
        Ok(View { items: shown_all(row, view.items).await?, ..view })
    }

    /// The next objects of a range, of one moment, as they are stored: from the cache where that still is the moment, else from the store's
    /// history.
    fn step(
        &self,
        row: &Resource,
        cache: &Cache,
        query: &ListQuery,
        start: &str,
        most: usize,
        exact: Option<u64>,
    ) -> Result<View, Status> {
        let reached = self.caches.reached();
        let Some(revision) = exact else {
            return Ok(cache.view(reached, &query.namespace, start, most));
        };
        // What has been compacted is gone, also where nothing has changed since: who pages must know that a moment ends.
        if revision >= self.caches.store().oldest_revision()
            && let Some(view) = cache.view_at(revision, reached, &query.namespace, start, most)
        {
            return Ok(view);
        }
        let current = self.caches.store().revision();
        if revision > current {
            return Err(too_large(revision, current));
        }
        let prefix = prefix_of(&row.stored_in());
        let within =
            if query.namespace.is_empty() { prefix.clone() } else { format!("{prefix}{}/", query.namespace) };
        let low = format!("{prefix}{start}").max(within.clone());
        let end = prefix_end(within.as_bytes());
        if low.as_bytes() >= end.as_slice() {
            return Ok(View { revision, ..View::default() });
        }
        let read =
            self.caches.store().range(low.as_bytes(), &end, most, Some(revision)).map_err(|why| {
                match (&why, &query.token) {
                    (StoreError::Compacted(_), Some(_)) => {
                        expired_token(&Token { start: start.to_owned(), revision: None })
                    }
                    (StoreError::Compacted(_), None) => {
                        Status::expired("The resourceVersion for the provided list is too old.")
                    }
                    _ => store_status(why),
                }
            })?;
        let items =
            read.kvs.iter().map(|kv| self.caches.object(row, kv)).collect::<Result<Vec<_>, Status>>()?;
        Ok(View { remaining: read.count.saturating_sub(items.len()), items, revision })
    }
}

/// 410 for a token whose moment is no longer kept; it offers to go on with a later one.
fn expired_token(onward: &Token) -> Status {
    let status = Status::expired(
        "The provided continue parameter is too old to display a consistent list result. You can start a new list without \
         the continue parameter, or use the continue token in this response to retrieve the remainder of the results. \
         Continuing with the provided token results in an inconsistent list - objects that were created, modified, or \
         deleted between the time the first chunk was returned and now may show up in the list.",
    );
    super::page::with_continue(status, onward)
}
