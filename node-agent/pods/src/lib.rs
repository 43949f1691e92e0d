//! skep-pods.
