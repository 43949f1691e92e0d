//! Rules of custom resources (`x-kubernetes-validations`) and expressions of built-in kinds: what
//! [`skep_api::custom::rules`] asks for.

use std::sync::Arc;

use skep_api::custom::rules::{
    CompileError as Refused, Compiled, Compiler, Condition, EvalError, Evaluated, Input, Message, Old,
    PER_CALL,
};
use skep_api::custom::{Rule, Structural};
use skep_api::expressions::Expression;

use crate::decl::{Decl, Env, MAX_REQUEST_BYTES};
use crate::program::{CompileError, Program};
use crate::types::Type;
use crate::value::{Failure, Value};

/// Compiles rules as CEL.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rules;

impl Compiler for Rules {
    fn compile(&self, node: &Structural, rules: &[Rule], root: bool) -> Result<Vec<Compiled>, String> {
        let decl = Decl::of(node, root, "self");
        let decl = decl.ok_or("failed to convert to declType for CEL validation rules")?;
        let plain = Env::new().with("self", decl.clone()).with("oldSelf", decl.clone());
        let optional = Env::new().with("self", decl.clone()).with_optional("oldSelf", decl.clone());
        let compile = |rule: &Rule| {
            let env = if rule.optional_old_self == Some(true) { &optional } else { &plain };
            compile(rule, env, &decl)
        };
        Ok(rules.iter().map(compile).collect())
    }

    fn problem(&self, expression: &Expression) -> Option<String> {
        crate::expressions::problem(expression)
    }
}

fn compile(rule: &Rule, env: &Env, decl: &Arc<Decl>) -> Compiled {
    let mut compiled = Compiled {
        rule: None,
        uses_old_self: false,
        max_cost: 0,
        max_cardinality: 0,
        message: None,
        message_max_cost: 0,
    };
    if rule.rule.trim().is_empty() {
        return compiled;
    }
    match Program::compile(&rule.rule, env, Some(&Type::Bool)) {
        Err(why) => {
            compiled.rule = Some(Err(refused(why, "", "cel expression must evaluate to a bool", "program")));
            return compiled;
        }
        Ok(program) => {
            compiled.uses_old_self = program.uses("oldSelf");
            compiled.max_cost = program.estimate().max;
            compiled.max_cardinality = MAX_REQUEST_BYTES / (decl.min_size + 1);
            compiled.rule = Some(Ok(Box::new(Ready { program, decl: decl.clone() })));
        }
    }
    if rule.message_expression.is_empty() {
        return compiled;
    }
    compiled.message = Some(match Program::compile(&rule.message_expression, env, Some(&Type::String)) {
        Err(why) => {
            let wanted = "messageExpression must evaluate to a string";
            Err(refused(why, "messageExpression ", wanted, "messageExpression"))
        }
        Ok(program) => {
            compiled.message_max_cost = program.estimate().max;
            Ok(Box::new(Ready { program, decl: decl.clone() }))
        }
    });
    compiled
}

fn refused(why: CompileError, prefix: &str, wanted: &str, what: &str) -> Refused {
    let detail = match why {
        CompileError::Issues(issues) => format!("{prefix}compilation failed: {issues}"),
        CompileError::Type { .. } => wanted.to_owned(),
        CompileError::Constant(why) => format!("{what} instantiation failed: {why}"),
    };
    Refused { detail }
}

/// A compiled expression with the declaration of what it is about.
struct Ready {
    program: Program,
    decl: Arc<Decl>,
}

impl Ready {
    fn run<T>(&self, input: &Input<'_>, read: impl FnOnce(&Value<'_>) -> Option<T>) -> Evaluated<T> {
        match self.bindings(input) {
            Err(why) => Evaluated { cost: 0, outcome: Err(why_not(&why)) },
            Ok(bindings) => {
                let run = self.program.run(&bindings, PER_CALL);
                let outcome = run.value.and_then(|value| read(&value).ok_or_else(Failure::overload));
                Evaluated { cost: run.cost, outcome: outcome.map_err(|why| why_not(&why)) }
            }
        }
    }

    fn bindings<'v>(&'v self, input: &Input<'v>) -> Result<Vec<(&'static str, Value<'v>)>, Failure> {
        let read = |json| Value::of_json(json, &self.decl);
        let mut bindings = vec![("self", read(input.this)?)];
        match input.old {
            Old::None => {}
            Old::Value(old) => bindings.push(("oldSelf", read(old)?)),
            Old::Optional(None) => bindings.push(("oldSelf", Value::Optional(None))),
            Old::Optional(Some(old)) => bindings.push(("oldSelf", Value::some(read(old)?))),
        }
        Ok(bindings)
    }
}

fn why_not(why: &Failure) -> EvalError {
    let text = why.to_string();
    match why {
        Failure::Limit => EvalError::Limit(text),
        Failure::Error(_) if text.starts_with("no such overload") => EvalError::Overload(text),
        Failure::Error(_) => EvalError::Other(text),
    }
}

impl Condition for Ready {
    fn evaluate(&self, input: &Input<'_>) -> Evaluated<bool> {
        self.run(input, |value| match value {
            Value::Bool(value) => Some(*value),
            _ => None,
        })
    }
}

impl Message for Ready {
    fn evaluate(&self, input: &Input<'_>) -> Evaluated<String> {
        self.run(input, |value| match value {
            Value::String(text) => Some(text.to_string()),
            _ => None,
        })
    }
}
