//! skep-apiserver.

pub mod pki;
