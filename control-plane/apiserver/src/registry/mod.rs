//! The generic registry: every kind is read and written here, by its row in the resource table.
//!
//! A write goes: checked tree → defaults → strategy's `prepare` → admission → companion → validation → canonical bytes →
//! one transaction with a condition on the version that was read → answer. Nothing is half-written.

use crate::cache::Caches;
use crate::hooks::{Admission, Handlers};
use crate::request::UserInfo;
use skep_api::Resource;
use std::sync::Arc;

/// Reads and writes objects.
pub struct Registry {
    pub(crate) caches: Arc<Caches>,
    pub(crate) admission: Arc<dyn Admission>,
    pub(crate) handlers: Handlers,
}

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
}

impl Registry {
    /// A registry over the caches.
    pub fn new(caches: Arc<Caches>, admission: Arc<dyn Admission>, handlers: Handlers) -> Self {
        Registry { caches, admission, handlers }
    }

    /// The caches below.
    pub fn caches(&self) -> &Arc<Caches> {
        &self.caches
    }
}
