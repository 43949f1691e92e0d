//! Deleting objects: preconditions, grace, finalizers (`apiserver/pkg/registry/rest` and `…/generic/registry`).

use super::meta;
use super::read::{ListQuery, Listing, Moment};
use super::shown::{shown, to_stored};
use super::write::Outcome;
use super::{Call, Registry};
use crate::hooks::Operation;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use serde_json::Value;
use skep_api::{GroupResource, Object, Resource, Status};
use skep_client::{DeleteOptions, Propagation};
use skep_store::{Compare, Op};
use std::sync::Arc;

const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";
const ATTEMPTS: u32 = 30;
/// Deletions of a collection that run at a time.
const AT_A_TIME: usize = 8;

/// What became of a deletion.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; the last version.
    Gone(Arc<Object>),
    /// It stays for a while, marked.
    Stays(Arc<Object>),
}

impl Deleted {
    /// The object, gone or not.
    pub fn object(&self) -> &Arc<Object> {
        match self {
            Deleted::Gone(object) | Deleted::Stays(object) => object,
        }
    }
}

/// Whether nothing keeps an object any longer whose deletion has been asked for.
pub(super) fn is_done(row: &Resource, object: &Value) -> bool {
    let metadata = object.get("metadata");
    let get = |key: &str| metadata.and_then(|m| m.get(key));
    !meta::text(object, "deletionTimestamp").is_empty()
        && get("finalizers").and_then(Value::as_array).is_none_or(Vec::is_empty)
        && get("deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0) == 0
        && !row.strategy.holds(object)
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
enum Step {
    /// Nothing: it is already under way.
    Nothing,
    /// The object is marked and stays.
    Mark(Value),
    /// The object goes.
    Remove,
}

/// Decides what a deletion does, as a function of the object, the options and the time.
fn step(row: &Resource, old: &Value, options: &DeleteOptions, now: jiff::Timestamp) -> Step {
    let mut new = old.clone();
    let asked = options.grace_period_seconds.map(|seconds| if seconds < 0 { 1 } else { seconds });
    let grace = row.strategy.graceful_deletion(old, asked);
    let deleting = meta::text(old, "deletionTimestamp").to_owned();
    let given = old.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64);

    let mut graceful = false;
    if let Some(seconds) = grace {
        if deleting.is_empty() {
            mark(&mut new, now, seconds);
            graceful = true;
        } else if let Some(given) = given {
            // A deletion under way may only be hastened.
            match asked {
                Some(asked) if asked < given => {
                    let at = deleting.parse::<jiff::Timestamp>().unwrap_or(now);
                    let at = at.as_second() - given + asked;
                    if let Some(metadata) = meta::metadata(&mut new) {
                        let at = jiff::Timestamp::from_second(at).unwrap_or(now);
                        metadata.insert("deletionTimestamp".into(), meta::instant(at).into());
                        metadata.insert("deletionGracePeriodSeconds".into(), asked.into());
                    }
                    graceful = true;
                }
                // Without grace left, the finalizers and whatever else holds it decide below.
                _ if given == 0 => {}
                _ => return Step::Nothing,
            }
        }
    }
    set_finalizers(&mut new, options.propagation.or_else(|| unsaid_policy(row, old)));
    let held = new.pointer("/metadata/finalizers").and_then(Value::as_array).is_some_and(|f| !f.is_empty())
        || row.strategy.holds(&new);
    let left = new.pointer("/metadata/deletionGracePeriodSeconds").and_then(Value::as_i64).unwrap_or(0);
    if !held && (!graceful || left == 0) {
        return Step::Remove;
    }
    if !graceful && deleting.is_empty() {
        mark(&mut new, now, 0);
    }
    row.strategy.prepare_delete(&mut new);
    if new == *old { Step::Nothing } else { Step::Mark(new) }
}

fn mark(object: &mut Value, now: jiff::Timestamp, grace: i64) {
    let counted = object.pointer("/metadata/generation").and_then(Value::as_i64).unwrap_or(0) > 0;
    if let Some(metadata) = meta::metadata(object) {
        let at = jiff::Timestamp::from_second(now.as_second().saturating_add(grace)).unwrap_or(now);
        metadata.insert("deletionTimestamp".into(), meta::instant(at).into());
        metadata.insert("deletionGracePeriodSeconds".into(), grace.into());
    }
    if counted {
        meta::bump_generation(object);
    }
}

/// What happens to dependents where the request does not say: what the object's finalizers say, or else the kind.
fn unsaid_policy(row: &Resource, object: &Value) -> Option<Propagation> {
    let said = object
        .pointer("/metadata/finalizers")
        .and_then(Value::as_array)
        .is_some_and(|list| list.iter().filter_map(Value::as_str).any(|f| f == ORPHAN || f == FOREGROUND));
    (row.strategy.orphans_dependents() && !said).then_some(Propagation::Orphan)
}

/// The garbage collector's finalizers, as the policy has them; without a policy they stay as they are.
fn set_finalizers(object: &mut Value, policy: Option<Propagation>) {
    let Some(policy) = policy else { return };
    let wanted = match policy {
        Propagation::Orphan => Some(ORPHAN),
        Propagation::Foreground => Some(FOREGROUND),
        Propagation::Background => None,
    };
    let Some(metadata) = meta::metadata(object) else { return };
    let mut finalizers: Vec<Value> = metadata
        .get("finalizers")
        .and_then(Value::as_array)
        .map(|list| {
            list.iter()
                .filter(|f| f.as_str().is_some_and(|f| (f != ORPHAN && f != FOREGROUND) || Some(f) == wanted))
                .cloned()
                .collect()
        })
        .unwrap_or_default();
    if let Some(wanted) = wanted
        && !finalizers.iter().any(|f| f == wanted)
    {
        finalizers.push(wanted.into());
    }
    if finalizers.is_empty() {
        metadata.remove("finalizers");
    } else {
        metadata.insert("finalizers".into(), finalizers.into());
    }
}

/// Refuses a deletion that was meant for another object of the name, or for another version.
fn check_preconditions(row: &Resource, current: &Object, options: &DeleteOptions) -> Result<(), Status> {
    let refuse = |why: String| {
        let named = GroupResource { group: row.gvk.group.clone(), resource: row.gvk.kind.clone() };
        Err(Status::conflict(&named, &current.meta().name, why))
    };
    let (uid, revision) = (&*current.meta().uid, current.revision());
    match (options.uid.as_deref(), options.revision) {
        (Some(asked), _) if !asked.is_empty() && asked != uid => refuse(format!(
            "the UID in the precondition ({asked}) does not match the UID in record ({uid}). The object might have \
             been deleted and then recreated"
        )),
        (_, Some(asked)) if asked != revision => refuse(format!(
            "the ResourceVersion in the precondition ({asked}) does not match the ResourceVersion in record \
             ({revision}). The object might have been modified"
        )),
        _ => Ok(()),
    }
}

impl Registry {
    /// Deletes an object, or asks for it.
    pub async fn delete(
        &self,
        call: &Call<'_>,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Deleted, Status> {
        let resource = call.row.group_resource();
        let mut turn = None;
        for attempt in 0..ATTEMPTS {
            let found = self.latest(call.row, call.namespace, call.name)?;
            let current = shown(call.row, found).await?;
            check_preconditions(call.row, &current, options)?;
            let request = call.write(Operation::Delete, call.name);
            let mut told = Vec::new();
            self.admission.validate(&request, None, Some(&current), &mut told).await?;
            let key = call.key(call.name);
            let compare = Compare::ModRevision(key.clone(), current.revision());
            let done = match step(call.row, &current.value(), options, jiff::Timestamp::now()) {
                Step::Nothing => Some(Deleted::Stays(current)),
                Step::Mark(new) => {
                    let value = super::write::canonical(to_stored(call.row, new).await?)?;
                    let op = Op::Put { key, value: value.clone() };
                    match self.commit(call, compare, op, Default::default()).await? {
                        Outcome::Done(revision) => Some(Deleted::Stays(call.written(value, revision).await?)),
                        _ => None,
                    }
                }
                Step::Remove => {
                    let given_back = self.admission.charge(&request, None, Some(&current)).await?;
                    let together = self.together(call, &request, None, Some(&current), attempt).await?;
                    let together = together.and(given_back);
                    let contended = together.contended();
                    match self.commit(call, compare, Op::Delete { key }, together).await? {
                        Outcome::Done(revision) => {
                            Some(Deleted::Gone(Arc::new(current.at_revision(revision))))
                        }
                        Outcome::CompanionOvertaken => {
                            if let (None, Some(key)) = (&turn, contended) {
                                turn = self.turn(&key).await;
                            }
                            None
                        }
                        Outcome::Overtaken => None,
                    }
                }
            };
            if let Some(done) = done {
                warnings.append(&mut told);
                return Ok(done);
            }
        }
        Err(Status::stale(&resource, call.name))
    }

    /// Deletes every object that a query names. Answers those that were deleted or marked, and where the query goes on.
    pub async fn delete_collection(
        &self,
        call: &Call<'_>,
        query: &ListQuery,
        options: &DeleteOptions,
        warnings: &mut Vec<String>,
    ) -> Result<Listing, Status> {
        let query = ListQuery { moment: Moment::Latest, ..query.clone() };
        let listed = self.list(call.row, &query).await?;
        let deletions: Vec<BoxFuture<'_, _>> =
            listed.items.into_iter().map(|object| self.delete_one(call, object, options).boxed()).collect();
        let done: Vec<_> = futures::stream::iter(deletions).buffered(AT_A_TIME).try_collect().await?;
        let mut objects = Vec::with_capacity(done.len());
        for (object, mut told) in done {
            objects.extend(object);
            warnings.append(&mut told);
        }
        Ok(Listing { items: objects, ..listed })
    }

    /// Deletes an object of a collection; none where it is gone already: that is what was asked for.
    async fn delete_one(
        &self,
        call: &Call<'_>,
        object: Arc<Object>,
        options: &DeleteOptions,
    ) -> Result<(Option<Arc<Object>>, Vec<String>), Status> {
        let meta = object.meta();
        let call = Call { namespace: &meta.namespace, name: &meta.name, ..*call };
        let mut told = Vec::new();
        match self.delete(&call, options, &mut told).await {
            Ok(deleted) => Ok((Some(deleted.object().clone()), told)),
            Err(status) if status.is_not_found() => Ok((None, told)),
            Err(status) => Err(status),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use skep_api::{GroupVersionKind, Strategy, kinds::ResourceTable};

    struct Graceful;
    impl Strategy for Graceful {
        fn graceful_deletion(&self, _: &Value, asked: Option<i64>) -> Option<i64> {
            Some(asked.unwrap_or(30))
        }
    }
    struct Held;
    impl Strategy for Held {
        fn holds(&self, object: &Value) -> bool {
            object.pointer("/spec/finalizers").is_some()
        }
        fn prepare_delete(&self, object: &mut Value) {
            object["status"] = json!({"phase": "Terminating"});
        }
    }

    fn row(strategy: impl Strategy) -> Resource {
        let table = ResourceTable::builtin();
        let row = table.by_kind(&GroupVersionKind::new("", "v1", "ConfigMap")).unwrap();
        Resource { strategy: Arc::new(strategy), ..Resource::clone(row) }
    }

    fn at(seconds: i64) -> jiff::Timestamp {
        jiff::Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn options(grace: Option<i64>, propagation: Option<Propagation>) -> DeleteOptions {
        DeleteOptions { grace_period_seconds: grace, propagation, ..DeleteOptions::default() }
    }

    #[test]
    fn without_grace_or_finalizers_it_goes_at_once() {
        let plain = row(skep_api::kinds::Plain);
        let object = json!({"metadata": {"name": "a"}});
        assert_eq!(step(&plain, &object, &options(Some(30), None), at(0)), Step::Remove);
        assert_eq!(step(&plain, &object, &options(None, Some(Propagation::Background)), at(0)), Step::Remove);
    }

    #[test]
    fn finalizers_keep_it() {
        let plain = row(skep_api::kinds::Plain);
        let object = json!({"metadata": {"generation": 2}});
        let Step::Mark(marked) = step(&plain, &object, &options(None, Some(Propagation::Foreground)), at(0))
        else {
            panic!("not marked")
        };
        assert_eq!(
            marked["metadata"],
            json!({"finalizers": ["foregroundDeletion"], "deletionTimestamp": "2023-11-14T22:13:20Z",
                   "deletionGracePeriodSeconds": 0, "generation": 3})
        );
        assert!(!is_done(&plain, &marked));
        assert_eq!(step(&plain, &marked, &options(None, None), at(9)), Step::Nothing);
        assert_eq!(step(&plain, &marked, &options(None, Some(Propagation::Background)), at(9)), Step::Remove);
        let mut freed = marked;
        freed["metadata"]["finalizers"] = json!([]);
        assert!(is_done(&plain, &freed));
    }

    #[test]
    fn a_kind_may_leave_its_dependents_behind() {
        let jobs = ResourceTable::builtin();
        let jobs = jobs.get("batch", "v1", "jobs").unwrap();
        let object = json!({"metadata": {"name": "a"}});
        let Step::Mark(marked) = step(jobs, &object, &options(None, None), at(0)) else {
            panic!("not marked")
        };
        assert_eq!(marked["metadata"]["finalizers"], json!(["orphan"]));
        assert_eq!(step(jobs, &object, &options(None, Some(Propagation::Background)), at(0)), Step::Remove);
        let foreground = json!({"metadata": {"finalizers": ["foregroundDeletion"]}});
        let Step::Mark(marked) = step(jobs, &foreground, &options(None, None), at(0)) else {
            panic!("not marked")
        };
        assert_eq!(marked["metadata"]["finalizers"], json!(["foregroundDeletion"]));
    }

    #[test]
    fn grace_is_given_and_can_only_be_shortened() {
        let pods = row(Graceful);
        let object = json!({"metadata": {}});
        let Step::Mark(marked) = step(&pods, &object, &options(None, None), at(0)) else {
            panic!("not marked")
        };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2023-11-14T22:13:50Z");
        assert!(!is_done(&pods, &marked));
        assert_eq!(step(&pods, &marked, &options(None, None), at(1)), Step::Nothing);
        assert_eq!(step(&pods, &marked, &options(Some(60), None), at(1)), Step::Nothing);
        let Step::Mark(hastened) = step(&pods, &marked, &options(Some(5), None), at(1)) else {
            panic!("not marked")
        };
        assert_eq!(hastened["metadata"]["deletionTimestamp"], "2023-11-14T22:13:25Z");
        assert_eq!(step(&pods, &hastened, &options(Some(0), None), at(2)), Step::Remove);
        assert_eq!(step(&pods, &object, &options(Some(0), None), at(2)), Step::Remove);
    }

    #[test]
    fn what_else_holds_it() {
        let namespaces = row(Held);
        let object = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        let Step::Mark(marked) = step(&namespaces, &object, &options(None, None), at(0)) else {
            panic!("not marked")
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
        assert!(!is_done(&namespaces, &marked));
        assert_eq!(step(&namespaces, &marked, &options(None, None), at(3)), Step::Nothing);
    }
}
