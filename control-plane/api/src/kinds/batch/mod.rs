//! Jobs (`pkg/apis/batch`, `pkg/registry/batch`).

mod failure;
pub mod indexes;
mod job;
mod spec;
mod status;

pub use indexes::Indexes;
pub use job::Job;

#[cfg(test)]
mod tests;
