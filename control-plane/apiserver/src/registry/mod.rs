//! The generic registry: every kind is read and written here, by its row in the resource table.
//!
//! A write goes: checked tree → defaults → strategy's `prepare` → admission → companion → validation → canonical bytes →
//! one transaction with a condition on the version that was read → answer. Nothing is half-written.

mod applying;
mod delete;
pub(crate) mod meta;
mod page;
mod patching;
mod read;
mod scale;
mod selection;
mod shown;
mod versions;
mod watching;
mod write;

pub use applying::Configuration;
pub use delete::Deleted;
pub use page::Token;
pub(crate) use page::status_value;
pub use patching::Sent;
pub use read::{ListQuery, Listing, Moment};
pub use scale::ScaleChange;
pub use selection::Selection;
pub use watching::{Begin, Told, Watch, WatchQuery};
pub use write::{Change, Written, schema_of};

use crate::cache::Caches;
use crate::hooks::{Admission, Handlers};
use crate::request::{RequestInfo, UserInfo};
use skep_api::custom::rules::Compiler;
use skep_api::expressions::Expression;
use skep_api::{FieldError, Resource};
use std::hash::{Hash, Hasher};
use std::sync::{Arc, OnceLock};

/// Reads and writes objects.
pub struct Registry {
    pub(crate) caches: Arc<Caches>,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) handlers: Handlers,
    /// Who is overtaken on a key waits here for its turn instead of racing on.
    turns: Vec<tokio::sync::Mutex<()>>,
    /// Who compiles expressions of objects; nobody until it is said.
    compiler: OnceLock<Arc<dyn Compiler>>,
}

/// Number of [`Registry::turns`]; keys share them by hash.
const TURNS: u64 = 64;

/// What a write is about, and by whom.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Who writes.
    pub user: &'a UserInfo,
    /// Row of the resource.
    pub row: &'a Arc<Resource>,
    /// What is written below the object, or empty.
    pub subresource: &'a str,
    /// Namespace, or empty.
    pub namespace: &'a str,
    /// Name; empty for a creation.
    pub name: &'a str,
    /// Everything but the write itself.
    pub dry_run: bool,
    /// Name of the writer for `managedFields`.
    pub manager: &'a str,
}

impl<'a> Call<'a> {
    /// What a request is about, by whom; cluster-scoped objects have no namespace, whatever the path says.
    pub fn of(
        user: &'a UserInfo,
        info: &'a RequestInfo,
        row: &'a Arc<Resource>,
        dry_run: bool,
        manager: &'a str,
    ) -> Self {
        let namespace = if row.namespaced() { info.namespace.as_str() } else { "" };
        Call { user, row, subresource: &info.subresource, namespace, name: &info.name, dry_run, manager }
    }
}

impl Registry {
    /// A registry over the caches.
    pub fn new(caches: Arc<Caches>, admission: Arc<dyn Admission>, handlers: Handlers) -> Self {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::new(())).collect();
        Registry { caches, admission, handlers, turns, compiler: OnceLock::new() }
    }

    /// The caches below.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }

    /// Has the expressions of objects compiled from now on. The first compiler stays.
    pub(crate) fn compile_with(&self, compiler: Arc<dyn Compiler>) {
        let _ = self.compiler.set(compiler);
    }

    /// Errors of expressions that have no meaning.
    fn senseless(&self, expressions: &[Expression]) -> Vec<FieldError> {
        let Some(compiler) = self.compiler.get() else { return Vec::new() };
        let each = expressions.iter();
        each.filter_map(|expression| Some(expression.refused(compiler.problem(expression)?))).collect()
    }

    /// Waits for the turn of a key.
    async fn turn(&self, key: &[u8]) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let mut hasher = std::hash::DefaultHasher::new();
        key.hash(&mut hasher);
        match self.turns.get((hasher.finish() % TURNS) as usize) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        }
    }
}
