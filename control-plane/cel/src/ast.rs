//! The syntax tree of an expression, macros expanded.

use std::sync::Arc;

/// Names a node; index into [`Source::offsets`] and into what the checker notes about nodes.
pub(crate) type Id = usize;

/// A literal value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Literal {
    /// `null`
    Null,
    /// `true` or `false`
    Bool(bool),
    /// `-1`
    Int(i64),
    /// `1u`
    Uint(u64),
    /// `1.5`
    Double(f64),
    /// `'text'`
    String(Arc<str>),
    /// `b'text'`
    Bytes(Arc<[u8]>),
}

/// A node.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    /// Its name.
    pub id: Id,
    /// Levels of the tree from here down, itself included.
    pub depth: u16,
    /// What it is.
    pub kind: Kind,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Kind {
    /// A literal.
    Literal(Literal),
    /// A name.
    Ident(Arc<str>),
    /// `operand.field`, or `has(operand.field)`.
    Select {
        /// What is selected from.
        operand: Box<Expr>,
        /// The field.
        field: Arc<str>,
        /// Whether only the presence is asked for.
        test: bool,
    },
    /// A call, of an operator too.
    Call(Call),
    /// `[a, ?b]`, with whether each is optional.
    List(Vec<(Expr, bool)>),
    /// `{a: b, ?c: d}`.
    Map(Vec<Entry>),
    /// `name{field: value}`.
    Struct {
        /// The type's name.
        name: Arc<str>,
        /// Fields and values.
        fields: Vec<(Arc<str>, Expr)>,
    },
    /// A comprehension.
    Fold(Box<Fold>),
}

/// A call of a function or operator.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// Its name: of a function, or like `_+_` of an operator.
    pub function: Arc<str>,
    /// What it is called on, if it is a member.
    pub target: Option<Box<Expr>>,
    /// Its arguments.
    pub args: Vec<Expr>,
}

/// An entry of a map literal.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The key.
    pub key: Expr,
    /// The value.
    pub value: Expr,
    /// Whether the value is an optional that may be empty.
    pub optional: bool,
}

/// A comprehension: for each of `range`, while `condition`, the accumulator becomes `step`; then `result`.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    /// List or map that is gone through.
    pub range: Expr,
    /// Variable of the element, of the key of a map, or with a second variable of the index or key.
    pub var: Arc<str>,
    /// Variable of the value.
    pub var2: Option<Arc<str>>,
    /// Variable of the accumulator.
    pub accu: Arc<str>,
    /// What the accumulator is at first.
    pub init: Expr,
    /// Whether to go on.
    pub condition: Expr,
    /// What the accumulator becomes.
    pub step: Expr,
    /// What comes out.
    pub result: Expr,
}

impl Fold {
    /// Whether this only binds a variable (`optMap`, `sortBy`): nothing is gone through.
    pub(crate) fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Kind::List(list) if list.is_empty())
            && matches!(self.condition.kind, Kind::Literal(Literal::Bool(false)))
            && &*self.accu != ACCUMULATOR
    }
}

/// The accumulator of macros: no identifier, so that nothing written can name it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// The text of an expression and where in it each node lies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Source {
    /// The text.
    pub text: String,
    /// Byte offset of each node.
    pub offsets: Vec<u32>,
}

impl Source {
    /// Line and column of a byte offset, both counted from 1, the column in characters.
    pub(crate) fn position(&self, offset: usize) -> (usize, usize) {
        let before = self.text.get(..offset).unwrap_or(&self.text);
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or("").chars().count() + 1;
        (line, column)
    }
}

/// Something wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Issue {
    /// Byte offset.
    pub offset: usize,
    /// What is wrong.
    pub message: String,
}

/// What is wrong with an expression; shown as upstream's compiler shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issues(pub String);

impl Issues {
    /// Puts issues in the order of their places and shows them with the lines they speak of.
    pub(crate) fn new(source: &Source, mut issues: Vec<Issue>) -> Self {
        issues.sort_by_key(|issue| issue.offset);
        issues.dedup();
        let shown: Vec<String> = issues.iter().map(|issue| show(source, issue)).collect();
        Issues(shown.join("\n"))
    }
}

fn show(source: &Source, issue: &Issue) -> String {
    let (line, column) = source.position(issue.offset);
    let text = source.text.split('\n').nth(line - 1).unwrap_or("");
    // A line can be as long as the whole expression; what is far off helps nobody.
    let text: String = text.chars().take(1000).collect::<String>().replace('\t', " ");
    let dots = ".".repeat((column - 1).min(1000));
    format!("ERROR: <input>:{line}:{column}: {}\n | {text}\n | {dots}^", issue.message)
}

impl std::fmt::Display for Issues {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Issues {}
