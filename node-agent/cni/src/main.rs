//! skep-cni.

fn main() {}
