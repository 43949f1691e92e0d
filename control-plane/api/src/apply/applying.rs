//! Applying a configuration: merge, conflicts, and what is taken away again.

use super::managed::{Entry, Managed, Operation, UNOWNED, Writer, take_managed};
use super::set::{Element, FieldSet, shown};
use super::typed;
use super::versions::{Changes, Versions, Wanted};
use crate::schema::{Schema, inspect};
use crate::status::{Reason, Status, StatusCause, StatusDetails};
use serde_json::Value;
use std::collections::BTreeMap;

const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The manager whose client-side past is known.
const KUBECTL: &str = "kubectl";
const BEFORE: &str = "before-first-apply";

/// A field that somebody else owns and that the configuration would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// The manager, as messages show it: `"name" using apps/v1`.
    pub manager: String,
    /// The field, as messages show it: `.spec.replicas`.
    pub field: String,
}

/// Why a configuration cannot be applied.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ApplyError {
    /// 400.
    #[error("{0}")]
    Malformed(String),
    /// It does not fit the schema. Upstream makes it a 500, and so do we.
    #[error("failed to create typed patch object ({object}): {why}")]
    Untyped {
        /// `namespace/name; group/version, Kind=kind`.
        object: String,
        /// What is wrong.
        why: String,
    },
    /// The object's `managedFields` cannot be read.
    #[error("failed to decode managed fields: {0}")]
    Managed(String),
    /// Others own what it would change.
    #[error("{}", message(.0))]
    Conflicts(Vec<Conflict>),
    /// A conversion is to be made first.
    #[error("no conversion to {} is at hand", .0.api_version)]
    Wanted(Box<Wanted>),
}

impl From<Wanted> for ApplyError {
    fn from(wanted: Wanted) -> Self {
        ApplyError::Wanted(Box::new(wanted))
    }
}

fn message(conflicts: &[Conflict]) -> String {
    if let [Conflict { manager, field }] = conflicts {
        return format!("Apply failed with 1 conflict: conflict with {manager}: {field}");
    }
    let mut lines = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

impl ApplyError {
    /// The answer to the request.
    pub fn to_status(&self) -> Status {
        match self {
            ApplyError::Malformed(why) => Status::bad_request(why.clone()),
            ApplyError::Untyped { .. } | ApplyError::Managed(_) | ApplyError::Wanted(_) => {
                Status { code: 500, ..Status::new(Reason::Unknown, self.to_string()) }
            }
            ApplyError::Conflicts(conflicts) => {
                let cause = |conflict: &Conflict| StatusCause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {}", conflict.manager),
                    field: conflict.field.clone(),
                };
                let causes = conflicts.iter().map(cause).collect();
                let details = StatusDetails { causes, ..StatusDetails::default() };
                Status { details: Some(Box::new(details)), ..Status::new(Reason::Conflict, self.to_string()) }
            }
        }
    }
}

/// Applies a configuration to an object, which is left alone; none where it is yet to be made. The result bears its
/// `managedFields`, and is to be checked with [`check_patched`](crate::schema::check_patched).
pub fn apply(
    schema: Schema<'_>,
    live: Option<&Value>,
    config: &Value,
    writer: &Writer<'_>,
    force: bool,
    versions: &dyn Versions,
) -> Result<Value, ApplyError> {
    if config.pointer("/metadata/managedFields").is_some_and(|list| !list.is_null()) {
        return Err(ApplyError::Malformed("metadata.managedFields must be nil".into()));
    }
    fits(schema, config)?;
    let mut object = live.cloned().unwrap_or_else(|| Value::Object(Default::default()));
    let before = take_managed(&mut object);
    let mut managed = Managed::decode(before.as_ref()).map_err(ApplyError::Managed)?;
    if managed.0.is_empty() && live.is_some() {
        managed.update(schema, None, &object, &Writer { manager: BEFORE, ..*writer }, versions)?;
    }
    let applying = Applying { schema, writer, versions };
    let mut outcome = applying.attempt(&object, config, managed.clone(), force)?;
    if writer.manager == KUBECTL
        && let Err(conflicts) = &mut outcome
        && let Some(past) = last_applied(schema, &object, writer.api_version)
    {
        // What kubectl applied by itself before, and nobody changed since, is its own.
        for (_, fields) in conflicts.iter_mut() {
            *fields = fields.difference(&past);
        }
        conflicts.retain(|(_, fields)| !fields.is_empty());
        if conflicts.is_empty() {
            outcome = applying.attempt(&object, config, managed, true)?;
        }
    }
    let (mut new, managed) = outcome.map_err(|conflicts| ApplyError::Conflicts(listed(conflicts)))?;
    if writer.manager == KUBECTL {
        renew_last_applied(&mut new, config);
    }
    if let (Some(managed), Some(top)) = (managed.encode(), new.as_object_mut()) {
        // A configuration may leave its name to the path.
        let metadata = top.entry("metadata").or_insert_with(|| Value::Object(Default::default()));
        if let Some(metadata) = metadata.as_object_mut() {
            metadata.insert("managedFields".into(), managed);
        }
    }
    Ok(new)
}

/// Refuses a configuration with unknown fields, wrong types or items that cannot be told apart.
fn fits(schema: Schema<'_>, config: &Value) -> Result<(), ApplyError> {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let refuse = |why: String| {
        let version = text("/apiVersion");
        let slash = if version.contains('/') { "" } else { "/" };
        let place = format!("{}/{}", text("/metadata/namespace"), text("/metadata/name"));
        ApplyError::Untyped { object: format!("{place}; {slash}{version}, Kind={}", text("/kind")), why }
    };
    let unknown = inspect(schema, &mut config.clone()).map_err(refuse)?;
    if let Some(first) = unknown.first() {
        return Err(refuse(format!(".{first}: field not declared in schema")));
    }
    match typed::wrong_items(schema, config) {
        Some((path, why)) => Err(refuse(format!("{}: {why}", shown(&path)))),
        None => Ok(()),
    }
}

type Conflicts = Vec<(Entry, FieldSet)>;

/// What all steps of an apply need.
#[derive(Clone, Copy)]
struct Applying<'a> {
    schema: Schema<'a>,
    writer: &'a Writer<'a>,
    versions: &'a dyn Versions,
}

impl Applying<'_> {
    fn attempt(
        self,
        live: &Value,
        config: &Value,
        mut managed: Managed,
        force: bool,
    ) -> Result<Result<(Value, Managed), Conflicts>, Wanted> {
        let Applying { schema, writer, versions } = self;
        let own = |mut fields: FieldSet| {
            writer.reset.iter().for_each(|field| fields.forget(field));
            fields
        };
        let mut mine = Entry::new(writer, Operation::Apply, own(typed::field_set(schema, config)));
        let last = managed.find(&mine).cloned();
        managed.0.retain(|entry| !entry.is_of(&mine));
        mine.time = last.as_ref().and_then(|last| last.time.clone());

        let merged = typed::merge(schema, live, config);
        let last = last.map(|last| Entry { fields: own(last.fields), ..last });
        let new = match last.filter(|last| !last.fields.is_empty()) {
            Some(last) => self.pruned(merged, &last, managed.0.iter().chain([&mine]))?,
            None => merged,
        };

        let changes = Changes::between(schema, (Some(live), &new), writer, &managed, versions)?;
        changes.forget_lost(&mut managed);
        let mut conflicts = Vec::new();
        for entry in &managed.0 {
            let lost = entry.fields.intersection(changes.at(&entry.api_version).0);
            if !lost.is_empty() {
                conflicts.push((entry.clone(), lost));
            }
        }
        if !force && !conflicts.is_empty() {
            return Ok(Err(conflicts));
        }
        managed.take(&changes);
        mine.fields = mine.fields.difference(&UNOWNED);
        if new != *live {
            mine.time = Some(writer.now.to_owned());
        }
        if !mine.fields.is_empty() {
            managed.0.push(mine);
        }
        Ok(Ok((new, managed)))
    }

    /// Takes away what the applier named last time and nobody owns now, each in the version it was named in. Where a version is not served any more, all stays.
    fn pruned<'e>(
        self,
        merged: Value,
        last: &Entry,
        owners: impl Iterator<Item = &'e Entry>,
    ) -> Result<Value, Wanted> {
        let mut owned: BTreeMap<&str, FieldSet> = BTreeMap::new();
        for entry in owners {
            let fields = owned.entry(&entry.api_version).or_default();
            *fields = fields.union(&entry.fields);
        }
        let own = self.writer.api_version;
        let Some(first) = self.at(&merged, &last.api_version)? else { return Ok(merged) };
        let Some(schema) = self.schema_of(&last.api_version) else { return Ok(merged) };
        let before = last.fields.with_parents(Some(schema));
        let mut pruned = typed::without(schema, &first, &before);
        // What somebody owns comes back, with what lies below it that nobody named; that of the version in which fields
        // were taken away first, lest others cannot be made of it.
        let mut order: Vec<&str> = owned.keys().copied().collect();
        order.sort_by_key(|version| *version != last.api_version);
        for version in order {
            let Some(schema) = self.schema_of(version) else { continue };
            let (Some(all), Some(left)) = (self.at(&merged, version)?, self.at(&pruned, version)?) else {
                continue;
            };
            let set = |tree: &Value| typed::field_set(schema, tree).with_parents(Some(schema));
            let fields = owned.get(version).cloned().unwrap_or_default();
            let kept = set(&left).union(&fields.with_parents(Some(schema)));
            pruned = typed::without(schema, &all, &set(&all).difference(&kept));
        }
        // And whatever was not this applier's stays in any case.
        let Some(left) = self.at(&pruned, &last.api_version)? else { return Ok(merged) };
        let set = |tree: &Value| typed::field_set(schema, tree).with_parents(Some(schema));
        let gone = set(&first).difference(&set(&left)).intersection(&before);
        let pruned = typed::without(schema, &first, &gone);
        Ok(self.at(&pruned, own)?.unwrap_or(merged))
    }

    fn schema_of(&self, api_version: &str) -> Option<Schema<'_>> {
        if api_version == self.writer.api_version {
            Some(self.schema)
        } else {
            self.versions.schema(api_version)
        }
    }

    /// An object in a version.
    fn at(&self, object: &Value, api_version: &str) -> Result<Option<Value>, Wanted> {
        if object.get("apiVersion").and_then(Value::as_str) == Some(api_version) {
            return Ok(Some(object.clone()));
        }
        // Objects that do not say are of the version that is written.
        if object.get("apiVersion").is_none() && api_version == self.writer.api_version {
            return Ok(Some(object.clone()));
        }
        self.versions.convert(object, api_version)
    }
}

fn listed(mut conflicts: Conflicts) -> Vec<Conflict> {
    conflicts.sort_by(|(a, _), (b, _)| {
        let key = |e: &Entry| (e.manager.clone(), e.operation, e.api_version.clone(), e.subresource.clone());
        key(a).cmp(&key(b))
    });
    let of = |(entry, fields): &(Entry, FieldSet)| {
        let mut manager = format!("{:?}", entry.manager);
        if !entry.subresource.is_empty() {
            manager.push_str(&format!(" with subresource {:?}", entry.subresource));
        }
        if entry.operation == Operation::Update {
            manager.push_str(&format!(" using {}", entry.api_version));
        }
        let paths: Vec<Vec<Element>> = fields.paths();
        paths
            .into_iter()
            .map(move |path| Conflict { manager: manager.clone(), field: shown(&path) })
            .collect::<Vec<_>>()
    };
    conflicts.iter().flat_map(of).collect()
}

/// The fields that the annotation of client-side apply names and that are still as it has them.
fn last_applied(schema: Schema<'_>, live: &Value, api_version: &str) -> Option<FieldSet> {
    let text = live.pointer("/metadata/annotations")?.get(LAST_APPLIED)?.as_str()?;
    let past: Value = serde_json::from_str(text).ok()?;
    if past.get("apiVersion").and_then(Value::as_str) != Some(api_version) {
        return None;
    }
    let difference = typed::compare(schema, &past, live);
    let fields = typed::field_set(schema, &past);
    Some(
        fields.difference(&difference.modified).difference(&difference.added).difference(&difference.removed),
    )
}

/// Keeps the annotation of client-side apply true, where there is one.
fn renew_last_applied(new: &mut Value, config: &Value) {
    let Some(annotations) = new.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return;
    };
    let there = annotations.get(LAST_APPLIED).and_then(Value::as_str).is_some_and(|text| !text.is_empty());
    if there {
        let mut config = config.clone();
        if let Some(map) = config.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) {
            map.remove(LAST_APPLIED);
        }
        annotations.insert(LAST_APPLIED.into(), format!("{config}\n").into());
    }
}
