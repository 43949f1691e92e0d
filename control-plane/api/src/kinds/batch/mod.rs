//! Jobs and CronJobs (`pkg/apis/batch`, `pkg/registry/batch`).

mod cronjob;
mod failure;
pub mod indexes;
mod job;
pub mod schedule;
mod spec;
mod status;

pub use cronjob::CronJob;
pub use indexes::Indexes;
pub use job::Job;

#[cfg(test)]
mod tests;
