//! Server-side apply (KEP-555): field ownership, merging applied configurations, and conflicts.
//!
//! [`apply()`] merges a configuration into an object; [`track`] records what any other write changed. Both are driven
//! by the schema: [`ListType`](crate::schema::ListType), and what is owned as a whole.

mod applying;
mod fresh;
mod managed;
mod set;
#[cfg(test)]
mod tests;
mod typed;
mod versions;

pub use applying::{ApplyError, Conflict, apply};
pub use managed::{Operation, Writer, put_managed, take_managed, track};
pub use versions::{OneVersion, Versions, Wanted};
