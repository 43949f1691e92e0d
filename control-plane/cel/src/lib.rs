//! The Common Expression Language with the libraries of Kubernetes 1.36.
//!
//! [`Program::compile`] reads an expression, checks its types against the variables of an [`Env`] and estimates what
//! it can cost; [`Program::run`] evaluates it over JSON within a limit. Variables are declared by structural schemas
//! ([`Decl::of`]) or left dynamic ([`Decl::any`]). Everything here only computes, in bounded time and memory.
//!
//! The authorizer library is not part of it: expressions of built-in kinds that name it are let through.

mod ast;
mod call;
mod check;
mod cost;
mod decl;
mod eval;
mod expressions;
mod functions;
mod lexer;
mod macros;
pub mod names;
mod parser;
mod plan;
mod program;
mod rules;
mod types;
mod unify;
mod validate;
mod value;

pub use ast::Issues;
pub use cost::Range;
pub use decl::{Decl, Env, Field, ListKind, Object, Variable};
pub use program::{CompileError, Program, Run};
pub use rules::Rules;
pub use types::{Kube, Type};
pub use value::time::Moment;
pub use value::{Entries, Failure, Key, List, Map, Text, Value};
