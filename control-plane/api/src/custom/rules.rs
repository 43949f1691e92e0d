//! The hook for rules of `x-kubernetes-validations`: what a CEL implementation must be able to do.
//!
//! A [`Compiler`] turns the rules of a schema node into [`Compiled`] ones; those are evaluated on every write. Where
//! rules are evaluated, with which old value, what is let through and what the budget of an object is, is decided
//! in [`super::evaluate`]; what a rule may cost when a CustomResourceDefinition is made, in `kinds::custom`.

use super::structural::{Rule, Structural};
use crate::expressions::Expression;
use serde_json::Value;
use std::fmt;

/// Cost units that all rules of one object may use together in one request (`RuntimeCELCostBudget`).
pub const BUDGET: u64 = 10_000_000;
/// Cost units that one evaluation of one expression may use (`PerCallLimit`).
pub const PER_CALL: u64 = 1_000_000;
/// Estimated cost units that one expression may have (`StaticEstimatedCostLimit`).
pub const ESTIMATE: u64 = 10_000_000;
/// Estimated cost units that all expressions of a schema may have together (`StaticEstimatedCRDCostLimit`).
pub const ESTIMATE_ALL: u64 = 100_000_000;
/// Most bytes of what a `messageExpression` evaluates to.
pub const MESSAGE_MAX: usize = 5 * 1024;

/// Compiles rules.
pub trait Compiler: Send + Sync + fmt::Debug {
    /// Compiles `rules` as rules of `node`, one result a rule and in their order. (They are not always `node.rules`:
    /// rules within `allOf` are about the node around it.)
    ///
    /// `root` says that the node is the root of the resource or of an embedded one, so that `self` has `apiVersion`,
    /// `kind`, and of the metadata `name` and `generateName`, whether the schema says so or not.
    ///
    /// An error says why no types can be made of the node; the rules are not at fault then.
    fn compile(&self, node: &Structural, rules: &[Rule], root: bool) -> Result<Vec<Compiled>, String>;

    /// Why an expression of a built-in kind has no meaning where it stands, in upstream's words; nothing where it has, or
    /// where that cannot be told.
    fn problem(&self, _expression: &Expression) -> Option<String> {
        None
    }
}

/// A rule as far as it could be compiled.
pub struct Compiled {
    /// The rule itself; `None` where its text is blank.
    pub rule: Option<Result<Box<dyn Condition>, CompileError>>,
    /// Whether it names `oldSelf`.
    pub uses_old_self: bool,
    /// Worst cost of one evaluation, in cost units.
    pub max_cost: u64,
    /// How often at most a value of the node can stand in an object that fits into a request of 3 MiB (its smallest
    /// form in JSON and a comma taken as its size).
    pub max_cardinality: u64,
    /// The `messageExpression`; `None` where there is none.
    pub message: Option<Result<Box<dyn Message>, CompileError>>,
    /// Worst cost of one evaluation of the `messageExpression`, in cost units.
    pub message_max_cost: u64,
}

/// Why an expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct CompileError {
    /// In upstream's words: `compilation failed: ERROR: …`, `cel expression must evaluate to a bool`,
    /// `messageExpression compilation failed: …`, `messageExpression must evaluate to a string`.
    pub detail: String,
}

/// What an expression sees.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The schema that the values are of: the node that the rule was compiled for.
    pub node: &'a Structural,
    /// As it was said when compiling.
    pub root: bool,
    /// `self`, never null.
    pub this: &'a Value,
    /// `oldSelf`.
    pub old: Old<'a>,
}

/// What `oldSelf` is.
#[derive(Clone, Copy, Debug)]
pub enum Old<'a> {
    /// There is none. No rule that names it is evaluated then.
    None,
    /// A value of the type of `self`.
    Value(&'a Value),
    /// An optional of that type (`optionalOldSelf: true`).
    Optional(Option<&'a Value>),
}

/// How an evaluation ended, and what it cost in cost units.
#[derive(Clone, Debug, PartialEq)]
pub struct Evaluated<T> {
    /// Cost units that were used, whatever the end.
    pub cost: u64,
    /// The value, or why there is none.
    pub outcome: Result<T, EvalError>,
}

/// Why an evaluation has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// [`PER_CALL`] is used up: `operation cancelled: actual cost limit exceeded`.
    #[error("{0}")]
    Limit(String),
    /// Types do not fit at run time: `no such overload`.
    #[error("{0}")]
    Overload(String),
    /// All else, in the words of CEL: `no such key: x`, `index out of bounds: 3`, `division by zero`.
    #[error("{0}")]
    Other(String),
}

/// An expression that is true or false.
pub trait Condition: Send + Sync {
    /// Evaluates it, using at most [`PER_CALL`].
    fn evaluate(&self, input: &Input<'_>) -> Evaluated<bool>;
}

/// An expression that makes a text.
pub trait Message: Send + Sync {
    /// Evaluates it, using at most [`PER_CALL`].
    fn evaluate(&self, input: &Input<'_>) -> Evaluated<String>;
}

/// A compiler for servers without CEL: it refuses every rule, so that none is accepted and not kept.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRules;

impl Compiler for NoRules {
    fn compile(&self, _node: &Structural, rules: &[Rule], _root: bool) -> Result<Vec<Compiled>, String> {
        let refuse = |rule: &Rule| Compiled {
            rule: (!rule.rule.trim().is_empty())
                .then(|| Err(CompileError { detail: "compilation failed: this server has no rules".into() })),
            uses_old_self: false,
            max_cost: 0,
            max_cardinality: 0,
            message: None,
            message_max_cost: 0,
        };
        Ok(rules.iter().map(refuse).collect())
    }
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let good = matches!(self.rule, Some(Ok(_)));
        f.debug_struct("Compiled").field("good", &good).field("max_cost", &self.max_cost).finish()
    }
}
