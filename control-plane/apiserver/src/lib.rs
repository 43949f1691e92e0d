//! skep-apiserver.
