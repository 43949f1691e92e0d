//! skep-server.

fn main() {}
