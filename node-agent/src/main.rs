//! skep-agent.

fn main() {}
