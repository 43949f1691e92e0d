//! Costs: how dear an expression can be before it runs ([`estimate`]), and how dear it was ([`actual`]).
//!
//! The figures are those of the reference implementation and of Kubernetes; whether a rule may be written depends on
//! them, so that they are part of the API.

pub(crate) mod actual;
mod calls;
pub(crate) mod estimate;

/// A range of costs or sizes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The least.
    pub min: u64,
    /// The most.
    pub max: u64,
}

/// What reading a character or byte costs.
pub(crate) const STRING_FACTOR: f64 = 0.1;
/// What a character of a regular expression multiplies.
pub(crate) const REGEX_FACTOR: f64 = 0.25;
/// What making a list costs.
pub(crate) const LIST_BASE: u64 = 10;
/// What making a map costs.
pub(crate) const MAP_BASE: u64 = 30;
/// What making an object costs.
pub(crate) const STRUCT_BASE: u64 = 40;

impl Range {
    /// Nothing.
    pub(crate) const ZERO: Range = Range::fixed(0);
    /// Nothing is known.
    pub(crate) const UNKNOWN: Range = Range { min: 0, max: u64::MAX };

    /// Exactly that.
    pub(crate) const fn fixed(value: u64) -> Self {
        Range { min: value, max: value }
    }

    pub(crate) fn add(self, other: Range) -> Self {
        Range { min: self.min.saturating_add(other.min), max: self.max.saturating_add(other.max) }
    }

    pub(crate) fn multiply(self, other: Range) -> Self {
        Range { min: self.min.saturating_mul(other.min), max: self.max.saturating_mul(other.max) }
    }

    pub(crate) fn scale(self, factor: f64) -> Self {
        Range { min: scale(self.min, factor), max: scale(self.max, factor) }
    }

    pub(crate) fn union(self, other: Range) -> Self {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }
}

/// `value` times `factor`, rounded up, at most the largest there is.
pub(crate) fn scale(value: u64, factor: f64) -> u64 {
    // A float becomes the nearest integer there is.
    (value as f64 * factor).ceil() as u64
}
