//! Compiled expressions.

use std::fmt;

use crate::ast::{Expr, Issue, Issues, Kind, Source};
use crate::check::{Checked, check};
use crate::cost::{Range, estimate};
use crate::decl::Env;
use crate::eval::Machine;
use crate::parser::parse;
use crate::plan::Plan;
use crate::types::Type;
use crate::value::{Failure, Meter, Value};

/// Why an expression is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It has no meaning: syntax or types are wrong.
    #[error("{0}")]
    Issues(Issues),
    /// It is of another type than is wanted.
    #[error("must evaluate to {wanted}, not {found}")]
    Type {
        /// The type that is wanted.
        wanted: String,
        /// The type it is of.
        found: String,
    },
    /// A constant in it cannot be computed.
    #[error("{0}")]
    Constant(Failure),
}

/// A compiled expression.
pub struct Program {
    expr: Expr,
    checked: Checked,
    plan: Plan,
    estimate: Range,
}

/// How a run ended.
#[derive(Debug)]
pub struct Run<'v> {
    /// The value, or why there is none.
    pub value: Result<Value<'v>, Failure>,
    /// Cost units that were used.
    pub cost: u64,
}

impl Program {
    /// Compiles an expression over the variables of an environment; it must be of a type, if one is wanted.
    ///
    /// # Errors
    /// When it has no meaning there.
    pub fn compile(text: &str, env: &Env, wanted: Option<&Type>) -> Result<Self, CompileError> {
        let (mut expr, source) = parse(text).map_err(CompileError::Issues)?;
        let checked = check(&mut expr, &source, env).map_err(|issues| shown(&source, issues))?;
        let found = checked.ty(expr.id);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != found) {
            return Err(CompileError::Type { wanted: wanted.to_string(), found: found.to_string() });
        }
        let plan = Plan::new(&expr, &checked).map_err(CompileError::Constant)?;
        let estimate = estimate::estimate(&expr, &checked, env);
        Ok(Program { expr, checked, plan, estimate })
    }

    /// What a run costs at least and at most, by the bounds of the variables.
    pub fn estimate(&self) -> Range {
        self.estimate
    }

    /// The type it is of.
    pub fn ty(&self) -> &Type {
        self.checked.ty(self.expr.id)
    }

    /// Whether it names a variable.
    pub fn uses(&self, variable: &str) -> bool {
        uses(&self.expr, variable)
    }

    /// Runs it over values of its variables, using at most `limit` cost units.
    pub fn run<'v>(&self, bindings: &[(&str, Value<'v>)], limit: u64) -> Run<'v> {
        let mut machine = Machine {
            plan: &self.plan,
            checked: &self.checked,
            bindings,
            meter: Meter::new(),
            cost: 0,
            limit,
            locals: Vec::new(),
        };
        let value = machine.eval(&self.expr);
        Run { value, cost: machine.cost }
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program").field("type", &self.ty()).field("estimate", &self.estimate).finish()
    }
}

fn shown(source: &Source, issues: Vec<Issue>) -> CompileError {
    CompileError::Issues(Issues::new(source, issues))
}

fn uses(expr: &Expr, variable: &str) -> bool {
    let one = |expr: &Expr| uses(expr, variable);
    match &expr.kind {
        Kind::Literal(_) => false,
        Kind::Ident(name) => **name == *variable,
        Kind::Select { operand, .. } => one(operand),
        Kind::Call(call) => call.target.as_deref().into_iter().chain(&call.args).any(one),
        Kind::List(list) => list.iter().any(|(element, _)| one(element)),
        Kind::Map(entries) => entries.iter().any(|entry| one(&entry.key) || one(&entry.value)),
        Kind::Struct { fields, .. } => fields.iter().any(|(_, value)| one(value)),
        Kind::Fold(fold) => {
            let inner =
                [&*fold.var, &*fold.accu].contains(&variable) || fold.var2.as_deref() == Some(variable);
            one(&fold.range)
                || one(&fold.init)
                || !inner && [&fold.condition, &fold.step, &fold.result].into_iter().any(one)
        }
    }
}
