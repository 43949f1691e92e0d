//! skep-abi.
