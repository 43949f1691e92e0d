//! skep-observe.
