//! skep-tests.
