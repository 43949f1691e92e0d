//! `metadata.managedFields`: who changed what, and when.

use super::fresh;
use super::set::{Element, FieldSet};
use super::versions::{Changes, Versions, Wanted};
use crate::schema::Schema;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

/// How many entries of updates are kept apart.
const MOST_UPDATERS: usize = 10;
/// Whose the oldest updates become beyond that.
const ANCIENT: &str = "ancient-changes";

/// What a manager did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Server-side apply.
    Apply,
    /// Everything else.
    Update,
}

/// Who writes, and where.
#[derive(Clone, Copy, Debug)]
pub struct Writer<'a> {
    /// Name of the manager.
    pub manager: &'a str,
    /// `group/version` of what is written.
    pub api_version: &'a str,
    /// The subresource that is written, or empty.
    pub subresource: &'a str,
    /// Fields of the object that this place does not change: `status` for the object itself, `spec` for its status.
    pub reset: &'a [&'a str],
    /// The instant, as the API writes it.
    pub now: &'a str,
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) manager: String,
    pub(super) operation: Operation,
    pub(super) api_version: String,
    pub(super) subresource: String,
    pub(super) time: Option<String>,
    pub(super) fields: FieldSet,
}

impl Entry {
    pub(super) fn new(writer: &Writer<'_>, operation: Operation, fields: FieldSet) -> Self {
        Entry {
            manager: if writer.manager.is_empty() { "unknown" } else { writer.manager }.to_owned(),
            operation,
            api_version: writer.api_version.to_owned(),
            subresource: writer.subresource.to_owned(),
            time: None,
            fields,
        }
    }

    /// Whether both are entries of the same manager: appliers stay the same whatever version they apply.
    pub(super) fn is_of(&self, other: &Entry) -> bool {
        self.manager == other.manager
            && self.operation == other.operation
            && self.subresource == other.subresource
            && (self.operation == Operation::Apply || self.api_version == other.api_version)
    }
}

/// All entries of an object.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Managed(pub(super) Vec<Entry>);

impl Managed {
    /// Reads `managedFields`.
    pub(super) fn decode(list: Option<&Value>) -> Result<Self, String> {
        let entries = list.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        entries
            .iter()
            .enumerate()
            .map(|(at, entry)| decode_entry(at, entry))
            .collect::<Result<_, _>>()
            .map(Managed)
    }

    /// Writes `managedFields`; none where nobody owns anything.
    pub(super) fn encode(mut self) -> Option<Value> {
        self.0.sort_by(|a, b| {
            let key = |e: &Entry| {
                (e.operation, e.time.clone(), e.manager.clone(), e.api_version.clone(), e.subresource.clone())
            };
            key(a).cmp(&key(b))
        });
        (!self.0.is_empty())
            .then(|| self.0.iter().map(|entry| encode_entry(entry, entry.fields.encode())).collect())
    }

    /// Takes what has changed away from everybody.
    pub(super) fn take(&mut self, changes: &Changes) {
        changes.forget_lost(self);
        for entry in &mut self.0 {
            let (touched, gone) = changes.at(&entry.api_version);
            entry.fields = entry.fields.difference(&touched.union(gone));
        }
        self.0.retain(|entry| !entry.fields.is_empty());
    }

    /// The entry of the same manager as this one.
    pub(super) fn find(&self, like: &Entry) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.is_of(like))
    }

    /// Records the change of an object from `live` (none: it is new) to `new` by an update.
    pub(super) fn update(
        &mut self,
        schema: Schema<'_>,
        live: Option<&Value>,
        new: &Value,
        writer: &Writer<'_>,
        versions: &dyn Versions,
    ) -> Result<(), Wanted> {
        let changes = Changes::between(schema, (live, new), writer, self, versions)?;
        // As upstream, which gives up all ownership where it cannot be told.
        if changes.unkeyed {
            self.0.clear();
            return Ok(());
        }
        self.take(&changes);
        let fields = changes.touched().difference(&UNOWNED);
        if !fields.is_empty() {
            let mut mine = Entry::new(writer, Operation::Update, fields);
            if let Some(at) = self.0.iter().position(|entry| entry.is_of(&mine)) {
                mine.fields = mine.fields.union(&self.0.swap_remove(at).fields);
            }
            mine.time = Some(writer.now.to_owned());
            self.0.push(mine);
        }
        self.cap();
        Ok(())
    }

    /// Puts the oldest updates of each version together while there are too many.
    fn cap(&mut self) {
        let updates =
            |managed: &Managed| managed.0.iter().filter(|e| e.operation == Operation::Update).count();
        if updates(self) <= MOST_UPDATERS {
            return;
        }
        self.0.sort_by(|a, b| (a.operation, &a.time, &a.manager).cmp(&(b.operation, &b.time, &b.manager)));
        while updates(self) > MOST_UPDATERS {
            let mut old = self.0.iter().enumerate().filter(|(_, e)| e.operation == Operation::Update);
            let pair = loop {
                let Some((first, entry)) = old.next() else { return };
                let same = |e: &Entry| e.operation == Operation::Update && e.api_version == entry.api_version;
                let second = self.0.iter().enumerate().skip(first + 1).find(|(_, e)| same(e));
                if let Some((second, _)) = second {
                    break (first, second);
                }
            };
            let first = self.0.remove(pair.0);
            let Some(bucket) = self.0.get_mut(pair.1 - 1) else { return };
            bucket.fields = bucket.fields.union(&first.fields);
            bucket.manager = ANCIENT.to_owned();
            bucket.subresource.clear();
        }
    }
}

/// Fields that nobody owns, since they are the server's or say which object it is.
pub(super) static UNOWNED: LazyLock<FieldSet> = LazyLock::new(unowned);

/// Those at the top.
pub(super) const UNOWNED_TOP: [&str; 3] = ["apiVersion", "kind", "metadata"];

/// Those of `metadata`.
pub(super) const UNOWNED_METADATA: [&str; 9] = [
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "clusterName",
    "generation",
    "managedFields",
    "resourceVersion",
];

fn unowned() -> FieldSet {
    let field = |name: &str| Element::Field(name.into());
    let mut set = FieldSet::default();
    for name in UNOWNED_TOP {
        set.insert(&[field(name)]);
    }
    for name in UNOWNED_METADATA {
        set.insert(&[field("metadata"), field(name)]);
    }
    set
}

fn decode_entry(at: usize, entry: &Value) -> Result<Entry, String> {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return Err("operation must be `Apply` or `Update`".into()),
    };
    if text("apiVersion").is_empty() {
        return Err("apiVersion must not be empty".into());
    }
    match text("fieldsType").as_str() {
        "FieldsV1" => {}
        "" => return Err(format!("missing fieldsType in managed fields entry {at}")),
        other => return Err(format!("invalid fieldsType {other:?} in managed fields entry {at}")),
    }
    let fields = entry.get("fieldsV1").map(FieldSet::decode).transpose();
    Ok(Entry {
        manager: text("manager"),
        operation,
        api_version: text("apiVersion"),
        subresource: text("subresource"),
        time: Some(text("time")).filter(|time| !time.is_empty()),
        fields: fields.map_err(|why| format!("error decoding set: {why}"))?.unwrap_or_default(),
    })
}

fn encode_entry(entry: &Entry, fields: Value) -> Value {
    let operation = match entry.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    let mut map = Map::new();
    let mut text = |key: &str, text: &str| {
        if !text.is_empty() {
            map.insert(key.to_owned(), text.into());
        }
    };
    text("apiVersion", &entry.api_version);
    text("fieldsType", "FieldsV1");
    text("manager", &entry.manager);
    text("operation", operation);
    text("subresource", &entry.subresource);
    text("time", entry.time.as_deref().unwrap_or_default());
    map.insert("fieldsV1".into(), fields);
    Value::Object(map)
}

/// Whether a body asks for all ownership to be forgotten: an empty list, or one empty entry.
fn is_reset(list: &Value) -> bool {
    match list.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([only]) => only.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Takes `metadata.managedFields` out of an object.
pub fn take_managed(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields")
}

/// Puts `metadata.managedFields` into an object. Where nothing has changed beside their times, those of the version
/// before stay, so that a change that changes nothing is none.
pub fn put_managed(object: &mut Value, managed: Option<Value>, old: Option<&Value>) {
    let Some(mut managed) = managed else { return };
    if let Some(old) = old
        && let Some(before) = old.pointer("/metadata/managedFields")
        && same_but_times(before, &managed)
        && same_but_managed(old, object)
    {
        managed = before.clone();
    }
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.insert("managedFields".into(), managed);
    }
}

fn same_but(left: &Value, right: &Value, key: &str) -> bool {
    let (Some(left), Some(right)) = (left.as_object(), right.as_object()) else { return left == right };
    let rest = |map: &'_ Map<String, Value>| map.len() - usize::from(map.contains_key(key));
    rest(left) == rest(right) && left.iter().all(|(k, v)| k == key || right.get(k) == Some(v))
}

fn same_but_times(left: &Value, right: &Value) -> bool {
    match (left.as_array(), right.as_array()) {
        (Some(left), Some(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(l, r)| same_but(l, r, "time"))
        }
        _ => false,
    }
}

fn same_but_managed(left: &Value, right: &Value) -> bool {
    let metadata = |object: &Value| object.get("metadata").cloned().unwrap_or_else(|| json!({}));
    same_but(left, right, "metadata") && same_but(&metadata(left), &metadata(right), "managedFields")
}

/// The `managedFields` of an object that a writer makes, and that bears none yet.
fn made(schema: Schema<'_>, new: &Value, writer: &Writer<'_>) -> Option<Value> {
    let fields = fresh::fields(schema, new, writer.reset)?;
    let mut entry = Entry::new(writer, Operation::Update, FieldSet::default());
    entry.time = Some(writer.now.to_owned());
    Some(Value::Array(vec![encode_entry(&entry, fields)]))
}

/// Records a change that is no apply, and takes the `managedFields` it leads to out of `new`: those that the change
/// brings along, or else those of `live` (none: the object is new), with what the writer changed now the writer's.
/// An object whose ownership was never kept, or was given up, stays so. The error asks for a conversion; `new` is then as it
/// was.
pub fn track(
    schema: Schema<'_>,
    live: Option<&Value>,
    new: &mut Value,
    writer: &Writer<'_>,
    versions: &dyn Versions,
) -> Result<Option<Value>, Wanted> {
    let before = live.and_then(|live| live.pointer("/metadata/managedFields"));
    let given = take_managed(new);
    let of_live = || Managed::decode(before).unwrap_or_default();
    // What a view of the object says of managers is not asked for.
    let mut managed = match &given {
        Some(given) if writer.subresource.is_empty() => {
            if is_reset(given) {
                Managed::default()
            } else {
                Managed::decode(Some(given)).ok().filter(|m| !m.0.is_empty()).unwrap_or_else(of_live)
            }
        }
        _ => of_live(),
    };
    if live.is_none() && managed.0.is_empty() {
        return Ok(made(schema, new, writer));
    }
    if !managed.0.is_empty()
        && let Err(wanted) = managed.update(schema, live, new, writer, versions)
    {
        // It is tried again with the conversion: as if nothing had been.
        if let (Some(given), Some(metadata)) = (given, new.get_mut("metadata").and_then(Value::as_object_mut))
        {
            metadata.insert("managedFields".into(), given);
        }
        return Err(wanted);
    }
    Ok(managed.encode())
}
