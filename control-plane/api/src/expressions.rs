//! Expressions that built-in kinds carry: where each stands, what it may name and what it must evaluate to. Whoever has
//! CEL compiles them ([`crate::custom::rules::Compiler::problem`]).

use crate::field::{FieldError, Path};
use crate::validation::At;
use std::sync::Arc;

/// An expression of an object.
#[derive(Clone, Debug, PartialEq)]
pub struct Expression {
    /// The field that it stands in.
    pub path: Path,
    /// As it is written.
    pub text: String,
    /// What it may name.
    pub about: About,
    /// What it must evaluate to.
    pub wanted: Wanted,
}

impl Expression {
    /// The expression of a field; none where the field is blank, which is said elsewhere.
    pub fn of(at: &At<'_, '_>, about: &About, wanted: Wanted) -> Option<Self> {
        let text = at.text();
        let expression =
            || Expression { path: at.path(), text: text.to_owned(), about: about.clone(), wanted };
        (!text.trim().is_empty()).then(expression)
    }

    /// The error of an expression that has no meaning, and why.
    pub fn refused(&self, why: String) -> FieldError {
        FieldError::invalid(self.path.clone(), self.text.as_str().into(), why)
    }
}

/// What an expression may name.
#[derive(Clone, Debug, PartialEq)]
pub enum About {
    /// A request to write an object (`object`, `oldObject`, `request`, `namespaceObject`, `authorizer`).
    Request {
        /// Whether there are parameters (`params`).
        params: bool,
        /// The variables that were declared before it, each with its expression (`variables`); none where a policy has none.
        variables: Option<Arc<[(String, String)]>>,
    },
    /// A device (`device`).
    Device,
}

/// What an expression must evaluate to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Anything.
    Any,
    /// True or false.
    Bool,
    /// A text.
    Text,
    /// A text, or null.
    TextOrNull,
}
