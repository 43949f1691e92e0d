//! Creating and changing objects.

use super::meta::{self, Expected};
use super::shown::{shown, to_stored};
use super::versions::Conversions;
use super::{Call, Registry};
use crate::cache::store_key;
use crate::hooks::{Operation, Together, WriteRequest};
use bytes::Bytes;
use serde_json::Value;
use skep_api::apply::{self, Writer};
use skep_api::schema::{Schema, Schemas, apply_defaults_of, forget_empty_lists};
use skep_api::validation::metadata;
use skep_api::{Context, FieldError, Object, Status};
use skep_store::{Compare, Op, Txn, TxnOutcome};
use std::sync::Arc;

/// How often a write is tried that others keep overtaking.
const ATTEMPTS: u32 = 30;
/// How many generated names are tried.
const NAMES: u32 = 8;

/// An object as it was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// The new version; of a dry run, what it would have been.
    pub object: Arc<Object>,
    /// Whether it is new.
    pub created: bool,
}

/// What became of a transaction.
pub(super) enum Outcome {
    /// Durable, at this revision.
    Done(u64),
    /// The object was not as expected.
    Overtaken,
    /// A companion's condition failed.
    CompanionOvertaken,
}

/// A change of an object: given the version that is there and its tree, the new tree (whose resource version says which
/// version was meant) and warnings.
pub type Change<'a> = dyn Fn(&Arc<Object>, &Value) -> Result<(Value, Vec<String>), Status> + Send + Sync + 'a;

impl Call<'_> {
    pub(crate) fn write<'a>(&'a self, operation: Operation, name: &'a str) -> WriteRequest<'a> {
        WriteRequest {
            user: self.user,
            resource: self.row,
            subresource: self.subresource,
            operation,
            namespace: self.namespace,
            name,
            dry_run: self.dry_run,
        }
    }

    pub(super) fn key(&self, name: &str) -> Bytes {
        store_key(&self.row.stored_in(), self.namespace, name).into()
    }

    /// What was just stored, in the version of the row.
    pub(super) async fn written(&self, value: Bytes, revision: u64) -> Result<Arc<Object>, Status> {
        let stored = crate::cache::decode(self.row, value, revision).map_err(Status::internal)?;
        shown(self.row, Arc::new(stored)).await
    }

    /// Works with this write as `managedFields` sees it.
    pub(super) fn as_writer<T>(&self, now: jiff::Timestamp, work: impl FnOnce(&Writer<'_>) -> T) -> T {
        work(&Writer {
            manager: self.manager,
            api_version: &self.row.gvk.api_version(),
            subresource: self.subresource,
            reset: skep_api::kinds::reset_fields(self.row, self.subresource),
            now: &meta::instant(now),
        })
    }

    /// What becomes of `managedFields`, which are taken out of `new`.
    fn managed(
        &self,
        operation: apply::Operation,
        old: Option<&Value>,
        new: &mut Value,
        now: jiff::Timestamp,
        versions: &Conversions,
    ) -> Result<Option<Value>, Status> {
        match operation {
            apply::Operation::Apply => Ok(apply::take_managed(new)),
            apply::Operation::Update => {
                let schema = self.schema()?;
                self.as_writer(now, |writer| apply::track(schema, old, new, writer, versions))
                    .map_err(|wanted| apply::ApplyError::from(wanted).to_status())
            }
        }
    }

    pub(super) fn schema(&self) -> Result<Schema<'_>, Status> {
        self.row.schema()
    }
}

/// A built-in schema.
pub fn schema_of(name: &str) -> Result<Schema<'static>, Status> {
    Schemas::builtin().get(name).ok_or_else(|| Status::internal(format!("no schema is named {name}")))
}

pub(super) fn canonical(value: Value) -> Result<Bytes, Status> {
    Object::canonical(value).map_err(|e| Status::bad_request(e.to_string()))
}

fn invalid(call: &Call<'_>, name: &str, errors: &[FieldError]) -> Result<(), Status> {
    if errors.is_empty() { Ok(()) } else { Err(Status::invalid(call.row.stored_as(), name, errors)) }
}

impl Registry {
    /// Creates an object from a checked tree.
    pub async fn create(
        &self,
        call: &Call<'_>,
        body: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        self.create_by(apply::Operation::Update, call, body, warnings).await
    }

    /// Creates an object. What is applied bears its `managedFields`.
    pub(super) async fn create_by(
        &self,
        by: apply::Operation,
        call: &Call<'_>,
        mut body: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let row = call.row;
        if row.terminating() {
            let why = "create not allowed while custom resource definition is terminating";
            return Err(Status::forbidden(&row.group_resource(), call.name, why));
        }
        meta::check_kind(&mut body, &row.gvk)?;
        meta::check_namespace(&mut body, call.namespace)?;
        if !call.name.is_empty() {
            meta::check_name(&mut body, call.name)?;
        }
        // What is no number is not looked at, as upstream.
        if meta::text(&body, "resourceVersion").parse::<u64>().is_ok_and(|revision| revision != 0) {
            let why = "resourceVersion should not be set on objects to be created";
            return Err(Status { code: 500, ..Status::new(skep_api::Reason::Unknown, why) });
        }
        let now = jiff::Timestamp::now();
        let strategy = &row.strategy;
        meta::fill_create(
            &mut body,
            &uuid::Uuid::new_v4().to_string(),
            now,
            strategy.begins_with_generation(),
        );

        let base = meta::text(&body, "generateName").to_owned();
        let generated = meta::text(&body, "name").is_empty() && !base.is_empty();
        let versions = Conversions::of(call, self.caches.table());
        let mut attempt = 0;
        let mut turn = None;
        loop {
            let mut new = body.clone();
            if generated {
                let random = uuid::Uuid::new_v4().as_u128();
                meta::set_text(&mut new, "name", &meta::generated_name(&base, random));
            }
            row.apply_defaults(&mut new)?;
            strategy.default(&mut new);
            let managed = call.managed(by, None, &mut new, now, &versions)?;
            strategy.prepare_create(&mut new, &Context { now, user: &call.user.name });
            let mut told = Vec::new();
            let name = meta::text(&new, "name").to_owned();
            let request = call.write(Operation::Create, &name);
            self.admission.admit(&request, &mut new, None).await?;
            let together = self.together(call, &request, Some(&mut new), None, attempt).await?;
            apply::put_managed(&mut new, managed, None);
            let mut errors = metadata::validate_create(&new, row.namespaced(), |n, prefix| {
                strategy.validate_name(n, prefix)
            });
            if row.qualifies_finalizers() {
                errors.extend(metadata::unqualified_finalizers(&new));
            }
            errors.extend(strategy.validate(&new));
            errors.extend(strategy.validate_create(&new));
            errors.extend(self.senseless(&strategy.expressions(&new, None)));
            invalid(call, &name, &errors)?;
            told.extend(strategy.warnings(&new, None));
            self.admission.validate(&request, Some(&new), None, &mut told).await?;
            let together = together.and(self.admission.charge(&request, Some(&new), None).await?);
            let contended = together.contended();

            // What Go writes of a status in which nothing is set.
            apply_defaults_of(row.schema()?, &mut new, "status");
            forget_empty_lists(row.schema()?, &mut new);
            let key = call.key(&name);
            let value = canonical(to_stored(row, new).await?)?;
            let op = Op::Put { key: key.clone(), value: value.clone() };
            match self.commit(call, Compare::Absent(key), op, together).await? {
                Outcome::Done(revision) => {
                    warnings.append(&mut told);
                    return Ok(Written { object: call.written(value, revision).await?, created: true });
                }
                Outcome::Overtaken if generated && attempt + 1 < NAMES => {}
                Outcome::Overtaken => return Err(Status::already_exists(&row.group_resource(), &name)),
                Outcome::CompanionOvertaken if attempt + 1 < ATTEMPTS => {
                    if let (None, Some(key)) = (&turn, contended) {
                        turn = self.turn(&key).await;
                    }
                }
                Outcome::CompanionOvertaken => return Err(Status::stale(&row.group_resource(), &name)),
            }
            attempt += 1;
        }
    }

    /// Replaces an object, or what a subresource shows of it, by a checked tree.
    pub async fn update(
        &self,
        call: &Call<'_>,
        mut body: Value,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        meta::check_kind(&mut body, &call.row.gvk)?;
        meta::check_namespace(&mut body, call.namespace)?;
        meta::require_name(&body, call.name)?;
        meta::check_name(&mut body, call.name)?;
        if call.subresource.is_empty()
            && call.row.strategy.create_on_update()
            && self.caches.latest(call.row, call.namespace, call.name)?.is_none()
        {
            let mut new = body.clone();
            if meta::expected(&new)? == Expected::Any && meta::text(&new, "uid").is_empty() {
                meta::set_text(&mut new, "resourceVersion", "");
                return self.create(call, new, warnings).await;
            }
        }
        let uid = meta::text(&body, "uid");
        let replace = |current: &Arc<Object>, _: &Value| {
            meta::check_preconditions(call.row, current, uid, None)?;
            Ok((body.clone(), Vec::new()))
        };
        self.change(call, &replace, warnings).await
    }

    /// Changes an object by a function of the version that is there, again and again until nobody comes between or the
    /// function refuses.
    pub async fn change(
        &self,
        call: &Call<'_>,
        change: &Change<'_>,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let versions = Conversions::of(call, self.caches.table());
        self.change_by((apply::Operation::Update, change), call, &versions, warnings).await
    }

    /// The same. What an apply makes bears its `managedFields`.
    pub(super) async fn change_by(
        &self,
        how: (apply::Operation, &Change<'_>),
        call: &Call<'_>,
        versions: &Conversions,
        warnings: &mut Vec<String>,
    ) -> Result<Written, Status> {
        let resource = call.row.group_resource();
        let mut turn = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 && turn.is_none() {
                turn = self.turn(&call.key(call.name)).await;
            }
            let current = self.latest(call.row, call.namespace, call.name)?;
            let mut told = Vec::new();
            let tried = self.try_change(how, call, &current, (attempt, versions), &mut told).await;
            // What was said before it was refused is said all the same.
            if !matches!(tried, Ok(None)) {
                warnings.append(&mut told);
            }
            if let Some(object) = tried? {
                return Ok(Written { object, created: false });
            }
        }
        Err(Status::stale(&resource, call.name))
    }

    /// One attempt on the stored version `found`; none when somebody came between.
    async fn try_change(
        &self,
        (by, change): (apply::Operation, &Change<'_>),
        call: &Call<'_>,
        found: &Arc<Object>,
        (attempt, versions): (u32, &Conversions),
        told: &mut Vec<String>,
    ) -> Result<Option<Arc<Object>>, Status> {
        let (row, strategy) = (call.row, &call.row.strategy);
        let current = &shown(row, found.clone()).await?;
        let old = current.value();
        let (mut new, mut made) = loop {
            match (change(current, &old), versions.wanted()) {
                (_, Some(wanted)) => versions.fetch(wanted).await?,
                (changed, None) => break changed?,
            }
        };
        told.append(&mut made);
        meta::check_kind(&mut new, &row.gvk)?;
        meta::check_namespace(&mut new, call.namespace)?;
        meta::require_name(&new, call.name)?;
        meta::check_name(&mut new, call.name)?;
        match meta::expected(&new)? {
            Expected::Revision(revision) if revision != current.revision() => {
                return Err(Status::stale(&row.group_resource(), call.name));
            }
            Expected::Any if !strategy.unconditional_update() => {
                let error = FieldError::invalid(
                    "metadata.resourceVersion",
                    0.into(),
                    "must be specified for an update",
                );
                return Err(Status::invalid(&row.gvk, call.name, &[error]));
            }
            _ => {}
        }
        meta::fill_update(&mut new, &old, call.dry_run);
        row.apply_defaults(&mut new)?;
        strategy.default(&mut new);
        let managed = loop {
            let managed = call.managed(by, Some(&old), &mut new, jiff::Timestamp::now(), versions);
            match versions.wanted() {
                Some(wanted) => versions.fetch(wanted).await?,
                None => break managed?,
            }
        };
        match call.subresource {
            "" => strategy.prepare_update(&mut new, &old),
            "status" => strategy.prepare_status_update(&mut new, &old),
            other => strategy.prepare_subresource_update(other, &mut new, &old),
        }
        if call.subresource != "status" && strategy.generation_changes(&new, &old) {
            meta::bump_generation(&mut new);
        }
        let request = call.write(Operation::Update, call.name);
        self.admission.admit(&request, &mut new, Some(current)).await?;
        let together = self.together(call, &request, Some(&mut new), Some(current), attempt).await?;
        apply::take_managed(&mut new);
        apply::put_managed(&mut new, managed, Some(&old));
        let mut errors = metadata::validate_update(&new, &old);
        if row.qualifies_finalizers() {
            errors.extend(metadata::unqualified_finalizers(&new));
        }
        match call.subresource {
            "" => {
                errors.extend(strategy.validate(&new));
                errors.extend(strategy.validate_update(&new, &old));
                errors.extend(self.senseless(&strategy.expressions(&new, Some(&old))));
            }
            "status" => errors.extend(strategy.validate_status_update(&new, &old)),
            other => errors.extend(strategy.validate_subresource_update(other, &new, &old)),
        }
        invalid(call, call.name, &errors)?;
        if call.subresource.is_empty() {
            told.extend(strategy.warnings(&new, Some(&old)));
        }
        self.admission.validate(&request, Some(&new), Some(current), told).await?;

        forget_empty_lists(row.schema()?, &mut new);
        let key = call.key(call.name);
        let removed = super::delete::is_done(row, &new);
        let charged = match removed {
            true => Together::default(),
            false => self.admission.charge(&request, Some(&new), Some(current)).await?,
        };
        let value = canonical(to_stored(row, new).await?)?;
        if value == found.body() && !removed {
            return Ok(Some(current.clone()));
        }
        let compare = Compare::ModRevision(key.clone(), current.revision());
        let (op, together) = if removed {
            let request = call.write(Operation::Delete, call.name);
            let given_back = self.admission.charge(&request, None, Some(current)).await?;
            let together = self.together(call, &request, None, Some(current), attempt).await?;
            (Op::Delete { key }, together.and(given_back))
        } else {
            (Op::Put { key, value: value.clone() }, together.and(charged))
        };
        match self.commit(call, compare, op, together).await? {
            Outcome::Done(revision) => Ok(Some(call.written(value, revision).await?)),
            Outcome::Overtaken | Outcome::CompanionOvertaken => Ok(None),
        }
    }

    /// What the resource's companion writes together with an object.
    pub(super) async fn together(
        &self,
        call: &Call<'_>,
        request: &WriteRequest<'_>,
        new: Option<&mut Value>,
        old: Option<&Object>,
        attempt: u32,
    ) -> Result<Together, Status> {
        match self.handlers.for_writes(call.row) {
            Some(companion) => companion.together(request, new, old, attempt).await,
            None => Ok(Together::default()),
        }
    }

    /// Runs a write; a dry run only tests the condition on the object.
    pub(super) async fn commit(
        &self,
        call: &Call<'_>,
        compare: Compare,
        op: Op,
        together: Together,
    ) -> Result<Outcome, Status> {
        let store = self.caches.store();
        if call.dry_run {
            let found = store.get(compare.key());
            let holds = match &compare {
                Compare::Absent(_) => found.is_none(),
                Compare::Exists(_) => found.is_some(),
                Compare::ModRevision(_, revision) => {
                    found.as_ref().is_some_and(|kv| kv.mod_revision == *revision)
                }
            };
            // A dry run answers the version it started from; a new object has none.
            let revision = found.map_or(0, |kv| kv.mod_revision);
            return Ok(if holds { Outcome::Done(revision) } else { Outcome::Overtaken });
        }
        let mut txn = Txn { compare: vec![compare], ops: vec![op] };
        txn.compare.extend(together.compare);
        txn.ops.extend(together.ops);
        match store.txn(txn).await.map_err(crate::cache::store_status)? {
            TxnOutcome::Committed { revision } => Ok(Outcome::Done(revision)),
            TxnOutcome::Conflict { index: 0, .. } => Ok(Outcome::Overtaken),
            TxnOutcome::Conflict { .. } => Ok(Outcome::CompanionOvertaken),
        }
    }
}
