//! A row of the resource table: one kind with its names, scope, schema and behaviour.

use crate::custom::Scale;
use crate::expressions::Expression;
use crate::field::FieldError;
use crate::patch::PatchType;
use crate::schema::{self, Checked, FieldValidation, Schema, Schemas};
use crate::status::Status;
use serde_json::{Map, Value};
use std::borrow::Cow;
use std::fmt;
use std::future::Future;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Text that is static for built-in kinds and owned for those of a CustomResourceDefinition.
pub type Str = Cow<'static, str>;

/// API group and version; the core group is empty.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersion {
    /// `apps`; empty for core.
    pub group: Str,
    /// `v1`.
    pub version: Str,
}

impl GroupVersion {
    /// Builds one.
    pub fn new(group: impl Into<Str>, version: impl Into<Str>) -> Self {
        GroupVersion { group: group.into(), version: version.into() }
    }

    /// Parses an `apiVersion`: `v1` or `apps/v1`.
    pub fn parse(api_version: &str) -> Self {
        match api_version.split_once('/') {
            Some((group, version)) => GroupVersion::new(group.to_owned(), version.to_owned()),
            None => GroupVersion::new("", api_version.to_owned()),
        }
    }
}

impl fmt::Display for GroupVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.version)
        } else {
            write!(f, "{}/{}", self.group, self.version)
        }
    }
}

/// Group, version and kind.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupVersionKind {
    /// API group, empty for core.
    pub group: Str,
    /// Version.
    pub version: Str,
    /// `Pod`.
    pub kind: Str,
}

impl GroupVersionKind {
    /// Builds one.
    pub fn new(group: impl Into<Str>, version: impl Into<Str>, kind: impl Into<Str>) -> Self {
        GroupVersionKind { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// `group/version` or `version`: what objects carry as `apiVersion`.
    pub fn api_version(&self) -> String {
        self.group_version().to_string()
    }

    /// The group and version.
    pub fn group_version(&self) -> GroupVersion {
        GroupVersion { group: self.group.clone(), version: self.version.clone() }
    }

    /// `Kind.group`, or `Kind` in the core group: how messages name it.
    pub fn group_kind(&self) -> String {
        if self.group.is_empty() { self.kind.to_string() } else { format!("{}.{}", self.kind, self.group) }
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, Kind={}", self.group_version(), self.kind)
    }
}

/// Group and plural name: what messages and RBAC speak of.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct GroupResource {
    /// API group, empty for core.
    pub group: Str,
    /// Plural lower-case name.
    pub resource: Str,
}

impl GroupResource {
    /// Builds one.
    pub fn new(group: impl Into<Str>, resource: impl Into<Str>) -> Self {
        GroupResource { group: group.into(), resource: resource.into() }
    }
}

impl fmt::Display for GroupResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.group.is_empty() {
            f.write_str(&self.resource)
        } else {
            write!(f, "{}.{}", self.resource, self.group)
        }
    }
}

/// Whether objects live in namespaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One set for the cluster.
    Cluster,
    /// One set a namespace.
    Namespaced,
}

/// What a path below an object names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subresource {
    /// `status`, `binding`, `log`, …
    pub name: Str,
    /// What kind its body has.
    pub kind: GroupVersionKind,
    /// Verbs in discovery: `get`, `update`, `patch`, `create`.
    pub verbs: &'static [&'static str],
}

/// A column of `kubectl get` (`metav1.TableColumnDefinition`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Header.
    pub name: Str,
    /// OpenAPI type: `string`, `integer`, `date`, `boolean`, `number`.
    pub kind: Str,
    /// OpenAPI format; `name` marks the primary column.
    pub format: Str,
    /// For people.
    pub description: Str,
    /// 0 shows always, more only with `-o wide`.
    pub priority: i32,
}

/// What a strategy may need to know beside the object. All of it is an input: strategies are pure.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The instant of the request.
    pub now: jiff::Timestamp,
    /// Who asks.
    pub user: &'a str,
}

/// The pure functions of a kind. Each has the default that most kinds share.
///
/// The generic registry calls them in this order: schema defaults, [`default`](Self::default),
/// [`prepare_create`](Self::prepare_create) or [`prepare_update`](Self::prepare_update), admission,
/// [`validate`](Self::validate) and [`validate_create`](Self::validate_create) or
/// [`validate_update`](Self::validate_update).
pub trait Strategy: Send + Sync + 'static {
    /// Defaults that depend on other fields, beyond those in the schema.
    fn default(&self, _object: &mut Value) {}

    /// Drops what a client may not set at creation (status, by default). A kind whose schema has no status need not
    /// say so: unknown fields are gone by then.
    fn prepare_create(&self, object: &mut Value, _context: &Context<'_>) {
        // Where the schema has a status, it stands there, empty: patches may add to it.
        if let Some(status) = object.get_mut("status") {
            *status = Value::Object(Map::new());
        }
    }

    /// Keeps what an update of the main resource may not change (status, by default).
    fn prepare_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    /// Keeps what an update of `status` may not change (all but status, labels stay as they were).
    fn prepare_status_update(&self, new: &mut Value, old: &Value) {
        keep(new, old, "spec");
    }

    /// Errors of the object as it would be stored, metadata aside.
    fn validate(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Further errors of a new object.
    fn validate_create(&self, _object: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Further errors of a change of the main resource.
    fn validate_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Errors of a change through `status`.
    fn validate_status_update(&self, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Expressions that must have a meaning for the object to be written; `old` is the object that it replaces.
    fn expressions(&self, _new: &Value, _old: Option<&Value>) -> Vec<Expression> {
        Vec::new()
    }

    /// What whoever writes an object is warned of (`WarningsOnCreate`, `WarningsOnUpdate`). `old` is the object that
    /// it replaces.
    fn warnings(&self, _new: &Value, _old: Option<&Value>) -> Vec<String> {
        Vec::new()
    }

    /// Errors of a name; DNS-1123 subdomain by default.
    fn validate_name(&self, name: &str, prefix: bool) -> Vec<String> {
        crate::names::dns1123_subdomain(name, prefix)
    }

    /// Whether `metadata.generation` counts changes of everything but metadata and status.
    fn has_generation(&self) -> bool {
        false
    }

    /// Whether a change of the main resource counts as a new generation.
    fn generation_changes(&self, new: &Value, old: &Value) -> bool {
        self.has_generation() && crate::validation::metadata::desired_state_changed(new, old)
    }

    /// Whether an update may create the object (`AllowCreateOnUpdate`).
    fn create_on_update(&self) -> bool {
        false
    }

    /// Whether an update without a resource version is taken as it is (`AllowUnconditionalUpdate`).
    fn unconditional_update(&self) -> bool {
        true
    }

    /// Whether a new object bears a generation from the start.
    fn begins_with_generation(&self) -> bool {
        self.has_generation()
    }

    /// Seconds of grace a deletion gets, or `None` where the kind is deleted at once.
    fn graceful_deletion(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether something beside `metadata.finalizers` keeps an object whose deletion has been asked for (the
    /// `spec.finalizers` of a Namespace).
    fn holds(&self, _object: &Value) -> bool {
        false
    }

    /// Changes an object that stays for a while after its deletion has been asked for (a Namespace's phase).
    fn prepare_delete(&self, _object: &mut Value) {}

    /// Whether a deletion that does not say so leaves dependents in place (`DefaultGarbageCollectionPolicy`).
    fn orphans_dependents(&self) -> bool {
        false
    }

    /// Whether a deletion answers the object that is gone instead of a Status (`ReturnDeletedObject`).
    fn returns_deleted(&self) -> bool {
        false
    }

    /// Keeps what an update of a subresource other than `status` may not change: by default the status.
    fn prepare_subresource_update(&self, _subresource: &str, new: &mut Value, old: &Value) {
        keep(new, old, "status");
    }

    /// Errors of a change through a subresource other than `status`.
    fn validate_subresource_update(&self, _subresource: &str, _new: &Value, _old: &Value) -> Vec<FieldError> {
        Vec::new()
    }

    /// Columns of `kubectl get`, the first one the name.
    fn columns(&self) -> Vec<Column> {
        crate::table::default_columns()
    }

    /// The cells of an object, one a column.
    fn cells(&self, object: &Value, now: jiff::Timestamp) -> Vec<Value> {
        crate::table::default_cells(object, now)
    }
}

/// Puts `old[key]` into `new`, or takes the key out where the old object has none.
fn keep(new: &mut Value, old: &Value, key: &str) {
    if let Some(map) = new.as_object_mut() {
        match old.get(key) {
            Some(value) => map.insert(key.to_owned(), value.clone()),
            None => map.remove(key),
        };
    }
}

/// Where the schema of a kind is.
#[derive(Clone)]
pub enum SchemaRef {
    /// The built-in type of this name: `io.k8s.api.core.v1.Pod`.
    BuiltIn(Str),
    /// A type of a set of one's own, as a CustomResourceDefinition has it.
    Own {
        /// The set.
        schemas: Arc<Schemas>,
        /// Name of the type of whole objects.
        root: Str,
    },
}

/// What becomes of a conversion: as many objects as were given, in their order.
pub type Converting<'a> = Pin<Box<dyn Future<Output = Result<Vec<Value>, Status>> + Send + 'a>>;

/// Turns objects of the form that is stored into those of a row's version, and back. It may have to ask somebody, and so
/// takes many objects at once.
pub trait Convert: Send + Sync + 'static {
    /// Objects as they are stored (perhaps in an older form), as objects of the row's version.
    fn to_served(&self, objects: Vec<Value>) -> Converting<'_>;

    /// Objects of the row's version as they are to be stored.
    fn to_stored(&self, objects: Vec<Value>) -> Converting<'_>;
}

/// That the objects of a row lie elsewhere, or in another form than is served: several versions share one stored form.
#[derive(Clone)]
pub struct Stored {
    /// The resource whose keys and cache are shared.
    pub resource: GroupResource,
    /// The form they are stored in.
    pub gvk: GroupVersionKind,
    /// Both ways.
    pub convert: Arc<dyn Convert>,
    /// Tells what one conversion made from what another did.
    id: u64,
}

impl Stored {
    /// A form shared below `resource`.
    pub fn new(resource: GroupResource, gvk: GroupVersionKind, convert: Arc<dyn Convert>) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Stored { resource, gvk, convert, id: NEXT.fetch_add(1, Ordering::Relaxed) }
    }

    /// Different for every call of [`Stored::new`]: under it objects keep what this conversion made of them.
    pub fn id(&self) -> u64 {
        self.id
    }
}

/// A conversion that needs nobody: a pair of plain functions.
#[derive(Clone, Copy, Debug)]
pub struct Pure {
    /// From the stored form.
    pub to_served: fn(Value) -> Value,
    /// To the stored form.
    pub to_stored: fn(Value) -> Value,
}

impl Convert for Pure {
    fn to_served(&self, objects: Vec<Value>) -> Converting<'_> {
        Box::pin(std::future::ready(Ok(objects.into_iter().map(self.to_served).collect())))
    }

    fn to_stored(&self, objects: Vec<Value>) -> Converting<'_> {
        Box::pin(std::future::ready(Ok(objects.into_iter().map(self.to_stored).collect())))
    }
}

/// What the row of a CustomResourceDefinition says beyond those of built-in kinds.
#[derive(Clone, Debug, Default)]
pub struct CustomRow {
    /// The kind of lists; empty for the usual one.
    pub list_kind: Str,
    /// Whether discovery tells of it (`Established`).
    pub announced: bool,
    /// Whether it is being deleted.
    pub terminating: bool,
    /// Where the objects keep what `scale` shows.
    pub scale: Option<Scale>,
    /// The schema as it was given, for documents.
    pub schema: Option<Arc<Value>>,
    /// Different for different schemas, and the same for the same in every process.
    pub schema_digest: u64,
}

impl CustomRow {
    /// With a schema as it was given.
    pub fn with_schema(self, schema: Option<Value>) -> Self {
        let mut hasher = DefaultHasher::new();
        schema.as_ref().map(Value::to_string).hash(&mut hasher);
        CustomRow { schema: schema.map(Arc::new), schema_digest: hasher.finish(), ..self }
    }
}

/// One row of the resource table.
#[derive(Clone)]
pub struct Resource {
    /// Group, version and kind as served; also as stored, unless [`stored`](Self::stored) says otherwise.
    pub gvk: GroupVersionKind,
    /// Plural lower-case name: `pods`.
    pub plural: Str,
    /// Singular lower-case name: `pod`.
    pub singular: Str,
    /// `po`.
    pub short_names: Vec<Str>,
    /// `all`.
    pub categories: Vec<Str>,
    /// Whether it lives in namespaces.
    pub scope: Scope,
    /// What lies below an object.
    pub subresources: Vec<Subresource>,
    /// Verbs of the main resource in discovery, in its order; a review kind has `create` alone.
    pub verbs: &'static [&'static str],
    /// Field paths that field selectors may name beside `metadata.name` and `metadata.namespace`.
    pub selectable_fields: Vec<Str>,
    /// The kind's schema: see [`Resource::schema`].
    pub schema: SchemaRef,
    /// Where and in which form the objects lie, if not here and in this one. Absent for nearly all rows: their objects are
    /// served from the stored bytes.
    pub stored: Option<Stored>,
    /// The kind's pure functions.
    pub strategy: Arc<dyn Strategy>,
    /// Where the kind is a custom one.
    pub custom: Option<Arc<CustomRow>>,
    /// What whoever asks for this version is warned of.
    pub warnings: Vec<String>,
}

impl fmt::Debug for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Resource({})", self.group_resource())
    }
}

impl Resource {
    /// Group and plural name.
    pub fn group_resource(&self) -> GroupResource {
        GroupResource { group: self.gvk.group.clone(), resource: self.plural.clone() }
    }

    /// The resource below whose keys the objects lie, and whose cache holds them.
    pub fn stored_in(&self) -> GroupResource {
        match &self.stored {
            Some(stored) => stored.resource.clone(),
            None => self.group_resource(),
        }
    }

    /// The form that objects are stored in.
    pub fn stored_as(&self) -> &GroupVersionKind {
        self.stored.as_ref().map_or(&self.gvk, |stored| &stored.gvk)
    }

    /// The schema of whole objects.
    pub fn schema(&self) -> Result<Schema<'_>, Status> {
        let (schemas, name) = match &self.schema {
            SchemaRef::BuiltIn(name) => (Schemas::builtin(), name),
            SchemaRef::Own { schemas, root, .. } => (&**schemas, root),
        };
        schemas.get(name).ok_or_else(|| Status::internal(format!("no schema is named {name}")))
    }

    /// Whether finalizers of its objects must be Kubernetes' own or qualified by a domain.
    pub fn qualifies_finalizers(&self) -> bool {
        const GENERIC: [&str; 6] = [
            "admissionregistration.k8s.io",
            "apiextensions.k8s.io",
            "apiregistration.k8s.io",
            "coordination.k8s.io",
            "node.k8s.io",
            "policy",
        ];
        // Events of the first version are looked at as they always were.
        let old_event = self.gvk.group.is_empty() && self.gvk.kind == "Event";
        self.built_in_schema().is_some() && !GENERIC.contains(&&*self.gvk.group) && !old_event
    }

    /// The name of the built-in type; none where the schema is one's own.
    pub fn built_in_schema(&self) -> Option<&Str> {
        match &self.schema {
            SchemaRef::BuiltIn(name) => Some(name),
            SchemaRef::Own { .. } => None,
        }
    }

    /// Checks and cleans the body of a request: see [`schema::check`].
    pub fn check(
        &self,
        value: &mut Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<Checked, Status> {
        schema::check(self.schema()?, &self.gvk, value, duplicates, validation)
    }

    /// Checks and cleans the result of a patch: see [`schema::check_patched`].
    pub fn check_patched(
        &self,
        value: &mut Value,
        duplicates: &[String],
        validation: FieldValidation,
    ) -> Result<Checked, Status> {
        schema::check_patched(self.schema()?, &self.gvk, value, duplicates, validation)
    }

    /// Fills in the defaults of the schema.
    pub fn apply_defaults(&self, value: &mut Value) -> Result<(), Status> {
        schema::apply_defaults(self.schema()?, value);
        Ok(())
    }

    /// The kind of lists.
    pub fn list_kind(&self) -> Str {
        match &self.custom {
            Some(custom) if !custom.list_kind.is_empty() => custom.list_kind.clone(),
            _ => format!("{}List", self.gvk.kind).into(),
        }
    }

    /// The media types of patches that are taken. What a strategic merge does, no client said of a custom kind.
    pub fn patches(&self) -> &'static [&'static str] {
        if self.custom.is_some() { &PatchType::OF_CUSTOM } else { &PatchType::MEDIA_TYPES }
    }

    /// Whether discovery tells of it. What is not told of may still be asked for.
    pub fn announced(&self) -> bool {
        self.custom.as_ref().is_none_or(|custom| custom.announced)
    }

    /// The verbs of the main resource that discovery tells of.
    pub fn announced_verbs(&self) -> &'static [&'static str] {
        match &self.custom {
            Some(custom) if custom.terminating => &["delete", "deletecollection", "get", "list", "watch"],
            _ => self.verbs,
        }
    }

    /// Whether it is about to go, and takes no new objects.
    pub fn terminating(&self) -> bool {
        self.custom.as_ref().is_some_and(|custom| custom.terminating)
    }

    /// Where the objects keep what `scale` shows.
    pub fn scale_paths(&self) -> Option<&Scale> {
        self.custom.as_ref()?.scale.as_ref()
    }

    /// Whether it lives in namespaces.
    pub fn namespaced(&self) -> bool {
        self.scope == Scope::Namespaced
    }

    /// The subresource of that name.
    pub fn subresource(&self, name: &str) -> Option<&Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// Whether `status` is a subresource, so that the main resource leaves it alone.
    pub fn has_status(&self) -> bool {
        self.subresource("status").is_some()
    }
}
