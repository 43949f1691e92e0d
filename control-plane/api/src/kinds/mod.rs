//! The kinds that are built in: their rows, and one file a kind or small family with its
//! [`Strategy`](crate::Strategy).

mod rows;
mod table;

pub use rows::builtin;
pub use table::ResourceTable;

/// A kind whose schema says all there is to say.
#[derive(Debug, Default)]
pub struct Plain;

impl crate::Strategy for Plain {}
