//! `pods/eviction`: a deletion that a PodDisruptionBudget may refuse. What it says is decided in `skep_api`'s
//! `kinds::policy::budget`; here the budget is charged first, then the pod is marked, then deleted.

use crate::hooks::{Action, ActionRequest};
use crate::registry::{Call, ListQuery, Moment, meta};
use crate::request::UserInfo;
use crate::subresources::{pods, success};
use async_trait::async_trait;
use jiff::Timestamp;
use serde_json::Value;
use skep_api::kinds::policy::budget::{self, Ruling};
use skep_api::{GroupVersionKind, Object, Resource, Status};
use skep_client::{DeleteOptions, Propagation};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How often a pod that changes meanwhile is tried, and how long between.
const ATTEMPTS: u32 = 20;
const PAUSE: Duration = Duration::from_millis(500);

/// The handler of the subresource.
pub(crate) struct Evict;

/// One eviction.
struct Eviction<'a> {
    request: &'a ActionRequest<'a>,
    row: Arc<Resource>,
    name: String,
    options: DeleteOptions,
}

/// What the body asks for.
fn options(request: &ActionRequest<'_>) -> Result<DeleteOptions, Status> {
    let asked = request.body.get("deleteOptions").cloned().unwrap_or_default();
    let text = |pointer: &str| {
        let text = asked.pointer(pointer).and_then(Value::as_str).filter(|text| !text.is_empty());
        text.map(str::to_owned)
    };
    let dry = asked.get("dryRun").and_then(Value::as_array).is_some_and(|list| !list.is_empty());
    Ok(DeleteOptions {
        grace_period_seconds: asked.get("gracePeriodSeconds").and_then(Value::as_i64),
        uid: text("/preconditions/uid"),
        revision: text("/preconditions/resourceVersion")
            .map(|r| r.parse().map_err(|_| Status::bad_request("preconditions.resourceVersion is no number")))
            .transpose()?,
        propagation: text("/propagationPolicy").and_then(|policy| Propagation::parse(&policy)),
        dry_run: request.dry_run || dry,
    })
}

#[async_trait]
impl Action for Evict {
    async fn perform(&self, request: ActionRequest<'_>) -> Result<Value, Status> {
        let (row, name) = pods(&request)?;
        let eviction = Eviction { options: options(&request)?, request: &request, row, name };
        match eviction.unguarded().await? {
            None => {}
            Some(pod) => eviction.guarded(&pod).await?,
        }
        Ok(success())
    }
}

impl Eviction<'_> {
    fn call<'a>(
        &'a self,
        user: &'a UserInfo,
        row: &'a Arc<Resource>,
        name: &'a str,
        subresource: &'a str,
    ) -> Call<'a> {
        Call {
            user,
            row,
            subresource,
            namespace: &self.request.info.namespace,
            name,
            dry_run: self.options.dry_run,
            manager: self.request.manager,
        }
    }

    /// Deletes a pod that no budget guards. Answers one that may have a guard.
    async fn unguarded(&self) -> Result<Option<Arc<Object>>, Status> {
        for attempt in 1.. {
            let namespace = &self.request.info.namespace;
            let pod = self.request.registry.get(&self.row, namespace, &self.name, Moment::Latest).await?;
            let tree = pod.value();
            if !budget::unguarded(&tree) {
                return Ok(Some(pod));
            }
            // It may begin to run meanwhile: then it must not go without a guard.
            let as_it_is = budget::may_change(&tree) && self.options.revision.is_none();
            match self.delete(as_it_is.then(|| pod.revision())).await {
                Err(status)
                    if status.is_conflict() && self.options.revision.is_none() && attempt < ATTEMPTS =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                done => return done.map(|()| None),
            }
        }
        Ok(None)
    }

    /// Asks the budget of a pod, and deletes the pod where that allows it.
    async fn guarded(&self, pod: &Object) -> Result<(), Status> {
        let tree = pod.value();
        let registry = self.request.registry;
        let table = registry.caches().table();
        let kind = GroupVersionKind::new("policy", "v1", "PodDisruptionBudget");
        let row = table.by_kind(&kind).ok_or_else(Status::unknown_path)?.clone();
        let query = ListQuery { namespace: self.request.info.namespace.clone(), ..ListQuery::default() };
        let budgets = registry.list(&row, &query).await?.items;
        let guards: Vec<&Arc<Object>> =
            budgets.iter().filter(|budget| budget::guards(&budget.value(), &tree)).collect();
        let (free, name) = match guards.as_slice() {
            [] => (false, ""),
            [one] => (self.charge(&row, &one.meta().name, &tree).await?, &*one.meta().name),
            _ => {
                let why = "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(Status { code: 500, ..Status::new(skep_api::Reason::Unknown, why) });
            }
        };
        match self.delete(free.then(|| pod.revision())).await {
            // The pod changed since it was found to count for nothing: the client is to ask again.
            Err(status) if status.is_conflict() && free && self.options.revision.is_none() => {
                Err(budget::behind(name))
            }
            done => done,
        }
    }

    /// Charges a budget with a pod. Answers whether the pod goes without a charge.
    async fn charge(&self, row: &Arc<Resource>, name: &str, pod: &Value) -> Result<bool, Status> {
        // The budget is the server's to charge: who may evict need not be allowed to change it.
        let user = UserInfo::new("system:apiserver", &["system:masters"]);
        let call = self.call(&user, row, name, "status");
        let free = AtomicBool::new(false);
        let change = |old: &Value| {
            let ruling = budget::rule(old, pod, Timestamp::now())?;
            free.store(ruling == Ruling::Free, Ordering::Relaxed);
            let mut new = old.clone();
            if let Ruling::Charge(status) = ruling {
                new["status"] = status;
            }
            Ok((new, Vec::new()))
        };
        self.request.registry.change(&call, &|_, old| change(old), &mut Vec::new()).await?;
        Ok(free.load(Ordering::Relaxed))
    }

    /// Marks the pod as evicted and deletes it, of this revision where one is given.
    async fn delete(&self, revision: Option<u64>) -> Result<(), Status> {
        let mut options =
            DeleteOptions { revision: self.options.revision.or(revision), ..self.options.clone() };
        let user = self.request.user;
        if !options.dry_run {
            let call = self.call(user, &self.row, &self.name, "status");
            let (uid, revision) = (options.uid.clone().unwrap_or_default(), options.revision);
            let change = |current: &Arc<Object>, old: &Value| {
                meta::check_preconditions(&self.row, current, &uid, revision)?;
                Ok((budget::marked(old, Timestamp::now()), Vec::new()))
            };
            let marked = self.request.registry.change(&call, &change, &mut Vec::new()).await?;
            options.revision = options.revision.map(|_| marked.object.revision());
        }
        let call = self.call(user, &self.row, &self.name, "");
        self.request.registry.delete(&call, &options, &mut Vec::new()).await.map(|_| ())
    }
}
