//! skep-scheduler.
