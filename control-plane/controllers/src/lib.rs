//! skep-controllers.
