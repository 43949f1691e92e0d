//! Filters and scores, one file a concern; all are functions of their inputs.

pub mod filter;
pub mod interpod;
pub mod score;
pub mod spread;
