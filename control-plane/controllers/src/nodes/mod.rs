//! Nodes: their pod address ranges, whether they still answer, and what becomes of pods where they do not.

pub(crate) mod eviction;
pub(crate) mod health;
pub(crate) mod ipam;
pub(crate) mod podgc;
