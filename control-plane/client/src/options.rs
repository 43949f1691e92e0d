//! Options of requests.

use serde_json::Value;

/// What to list.
#[derive(Clone, Debug, Default)]
pub struct ListOptions {
    /// Label selector, as text.
    pub label_selector: String,
    /// Field selector, as text.
    pub field_selector: String,
    /// At most so many a page; 0 for all.
    pub limit: usize,
    /// The token of the page before.
    pub continue_token: Option<String>,
    /// Not older than this revision; none for the latest, 0 for whatever is at hand.
    pub revision: Option<u64>,
}

impl ListOptions {
    /// All objects whose labels match.
    pub fn labels(selector: impl Into<String>) -> Self {
        ListOptions { label_selector: selector.into(), ..ListOptions::default() }
    }

    /// All objects whose fields match.
    pub fn fields(selector: impl Into<String>) -> Self {
        ListOptions { field_selector: selector.into(), ..ListOptions::default() }
    }
}

/// What to watch.
#[derive(Clone, Debug, Default)]
pub struct WatchOptions {
    /// Label selector, as text.
    pub label_selector: String,
    /// Field selector, as text.
    pub field_selector: String,
    /// Events after this revision; none starts with the present state.
    pub revision: Option<u64>,
    /// Starts with the present state as added events and a bookmark that ends them (streaming list, KEP-3157).
    pub send_initial_events: bool,
    /// Asks for bookmarks.
    pub bookmarks: bool,
    /// Ends the watch after so many seconds.
    pub timeout_seconds: Option<u32>,
}

/// How to write.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Everything but the write itself.
    pub dry_run: bool,
    /// Who writes, for `managedFields`.
    pub field_manager: Option<String>,
    /// Server-side apply: take over fields that others own.
    pub force: bool,
}

/// A change, in one of the forms of the API.
#[derive(Clone, Debug)]
pub enum Patch {
    /// RFC 6902.
    Json(Value),
    /// RFC 7386.
    Merge(Value),
    /// Strategic merge, by the merge keys of the schema.
    Strategic(Value),
    /// Server-side apply.
    Apply(Value),
}

impl Patch {
    /// The media type of the body.
    pub fn content_type(&self) -> &'static str {
        match self {
            Patch::Json(_) => "application/json-patch+json",
            Patch::Merge(_) => "application/merge-patch+json",
            Patch::Strategic(_) => "application/strategic-merge-patch+json",
            Patch::Apply(_) => "application/apply-patch+yaml",
        }
    }

    /// The body.
    pub fn body(&self) -> &Value {
        match self {
            Patch::Json(body) | Patch::Merge(body) | Patch::Strategic(body) | Patch::Apply(body) => body,
        }
    }
}

/// What happens to the objects a deleted object owns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Propagation {
    /// They stay, without their owner.
    Orphan,
    /// They go, after the owner.
    Background,
    /// They go, before the owner.
    Foreground,
}

impl Propagation {
    /// The wire name.
    pub fn as_str(self) -> &'static str {
        match self {
            Propagation::Orphan => "Orphan",
            Propagation::Background => "Background",
            Propagation::Foreground => "Foreground",
        }
    }

    /// The policy of a wire name.
    pub fn parse(text: &str) -> Option<Self> {
        [Propagation::Orphan, Propagation::Background, Propagation::Foreground]
            .into_iter()
            .find(|p| p.as_str() == text)
    }
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Seconds of grace; none for the kind's or the object's own.
    pub grace_period_seconds: Option<i64>,
    /// Only the object with this uid.
    pub uid: Option<String>,
    /// Only this version.
    pub revision: Option<u64>,
    /// What happens to dependents; none for the kind's default.
    pub propagation: Option<Propagation>,
    /// Everything but the write itself.
    pub dry_run: bool,
}
