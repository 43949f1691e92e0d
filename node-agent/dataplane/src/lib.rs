//! skep-dataplane.
