//! Tokens to a tree: precedence climbing, bounded in depth and in nodes.
//!
//! The grammar is that of the CEL language definition with optional syntax and backtick field names. The library
//! parsers at hand overflow the stack on a rule of a few hundred nested or chained operators, which a client may
//! send; here both are an error.

use std::sync::Arc;

use crate::ast::{Call, Entry, Expr, Issue, Issues, Kind, Literal, Source};
use crate::lexer::{Placed, Token, tokens};
use crate::macros;
use skep_api::names::CEL_RESERVED;

/// Most code points of an expression, as upstream's compiler takes them.
const LONGEST: usize = 100_000;
/// Most levels of the tree.
const DEEPEST: u16 = 250;
/// Most expressions within expressions in the text: half of what upstream takes, so that a stack of 2 MiB is enough.
const DEEPEST_TEXT: u16 = 125;
/// Most nodes; macros can multiply them.
const MOST_NODES: usize = 200_000;

/// Binary operators: symbol, function, strength.
const BINARY: &[(&str, &str, u8)] = &[
    ("<", "_<_", 3),
    ("<=", "_<=_", 3),
    (">", "_>_", 3),
    (">=", "_>=_", 3),
    ("==", "_==_", 3),
    ("!=", "_!=_", 3),
    ("in", "@in", 3),
    ("+", "_+_", 4),
    ("-", "_-_", 4),
    ("*", "_*_", 5),
    ("/", "_/_", 5),
    ("%", "_%_", 5),
];

/// What an operand may begin with, as messages list it.
const OPERANDS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
     BYTES, IDENTIFIER}";

type Result<T> = std::result::Result<T, Issue>;

/// Reads an expression.
///
/// # Errors
/// When it has no meaning, is too long or too deep: the first thing wrong, with its place.
pub(crate) fn parse(text: &str) -> std::result::Result<(Expr, Source), Issues> {
    let mut source = Source { text: text.to_owned(), offsets: Vec::new() };
    let size = text.chars().count();
    if size > LONGEST {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {LONGEST}");
        source.text.clear();
        return Err(Issues::new(&source, vec![Issue { offset: 0, message }]));
    }
    let parsed = tokens(text).and_then(|tokens| {
        let mut parser = Parser { text, tokens, at: 0, depth: 0, nodes: Nodes { offsets: Vec::new() } };
        let expr = parser.expr()?;
        parser.expect_end()?;
        Ok((expr, parser.nodes.offsets))
    });
    match parsed {
        Ok((expr, offsets)) => {
            source.offsets = offsets;
            Ok((expr, source))
        }
        Err(issue) => Err(Issues::new(&source, vec![issue])),
    }
}

/// Makes nodes and keeps their places.
pub(crate) struct Nodes {
    offsets: Vec<u32>,
}

impl Nodes {
    /// A node that lies where `offset` says.
    pub(crate) fn make(&mut self, offset: usize, kind: Kind) -> Result<Expr> {
        let depth = 1 + deepest(&kind);
        if depth > DEEPEST {
            return Err(Issue { offset, message: format!("expression recursion limit exceeded: {DEEPEST}") });
        }
        if self.offsets.len() >= MOST_NODES {
            return Err(Issue {
                offset,
                message: format!("expression node count exceeds limit: {MOST_NODES}"),
            });
        }
        self.offsets.push(offset as u32);
        Ok(Expr { id: self.offsets.len() - 1, depth, kind })
    }

    /// Where a node lies.
    pub(crate) fn offset(&self, expr: &Expr) -> usize {
        self.offsets.get(expr.id).copied().unwrap_or_default() as usize
    }

    /// A call of an operator or a global function.
    pub(crate) fn call(&mut self, offset: usize, function: &str, args: Vec<Expr>) -> Result<Expr> {
        self.make(offset, Kind::Call(Call { function: function.into(), target: None, args }))
    }
}

fn deepest(kind: &Kind) -> u16 {
    match kind {
        Kind::Literal(_) | Kind::Ident(_) => 0,
        Kind::Select { operand, .. } => operand.depth,
        Kind::Call(call) => {
            call.args.iter().chain(call.target.as_deref()).map(|one| one.depth).max().unwrap_or(0)
        }
        Kind::List(list) => list.iter().map(|(one, _)| one.depth).max().unwrap_or(0),
        Kind::Map(entries) => entries.iter().map(|one| one.key.depth.max(one.value.depth)).max().unwrap_or(0),
        Kind::Struct { fields, .. } => fields.iter().map(|(_, one)| one.depth).max().unwrap_or(0),
        Kind::Fold(fold) => [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result]
            .map(|one| one.depth)
            .into_iter()
            .fold(0, u16::max),
    }
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Placed>,
    at: usize,
    depth: u16,
    nodes: Nodes,
}

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).map_or(&Token::End, |placed| &placed.0)
    }

    fn offset(&self) -> usize {
        self.tokens.get(self.at).map_or(self.text.len(), |placed| placed.1)
    }

    fn take(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Token::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn unexpected<T>(&self, expecting: &str) -> Result<T> {
        let (start, end) = self.tokens.get(self.at).map_or((0, 0), |placed| (placed.1, placed.2));
        let found = self.peek().shown(self.text.get(start..end).unwrap_or(""));
        let message = format!("Syntax error: mismatched input '{found}' expecting {expecting}");
        Err(Issue { offset: self.offset(), message })
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        if self.eat(symbol) { Ok(()) } else { self.unexpected(&format!("'{symbol}'")) }
    }

    fn expect_end(&self) -> Result<()> {
        if *self.peek() == Token::End { Ok(()) } else { self.unexpected("<EOF>") }
    }

    fn expr(&mut self) -> Result<Expr> {
        if self.depth >= DEEPEST_TEXT {
            let message = format!("expression recursion limit exceeded: {DEEPEST_TEXT}");
            return Err(Issue { offset: self.offset(), message });
        }
        self.depth += 1;
        let result = self.ternary();
        self.depth -= 1;
        result
    }

    fn ternary(&mut self) -> Result<Expr> {
        let condition = self.either()?;
        let offset = self.offset();
        if !self.eat("?") {
            return Ok(condition);
        }
        let yes = self.either()?;
        self.expect(":")?;
        let no = self.expr()?;
        self.nodes.call(offset, "_?_:_", vec![condition, yes, no])
    }

    /// A chain of `||`.
    fn either(&mut self) -> Result<Expr> {
        let first = self.both()?;
        if *self.peek() == Token::Symbol("||") {
            self.chain(first, "||", "_||_", Self::both)
        } else {
            Ok(first)
        }
    }

    /// A chain of `&&`.
    fn both(&mut self) -> Result<Expr> {
        let first = self.binary(3)?;
        let operand = |parser: &mut Self| parser.binary(3);
        if *self.peek() == Token::Symbol("&&") { self.chain(first, "&&", "_&&_", operand) } else { Ok(first) }
    }

    /// The rest of a chain as a balanced tree: a long chain is not deep.
    fn chain(
        &mut self,
        first: Expr,
        symbol: &str,
        function: &str,
        operand: impl Fn(&mut Self) -> Result<Expr>,
    ) -> Result<Expr> {
        let mut terms = vec![first];
        let mut offsets = Vec::new();
        loop {
            let offset = self.offset();
            if !self.eat(symbol) {
                return self.balance(function, terms, &offsets);
            }
            offsets.push(offset);
            terms.push(operand(self)?);
        }
    }

    fn balance(&mut self, function: &str, mut terms: Vec<Expr>, offsets: &[usize]) -> Result<Expr> {
        if offsets.is_empty() {
            return terms.pop().map_or_else(|| self.unexpected("an expression"), Ok);
        }
        let middle = offsets.len() / 2;
        let right = terms.split_off(middle + 1);
        let left = self.balance(function, terms, &offsets[..middle])?;
        let right = self.balance(function, right, &offsets[middle + 1..])?;
        self.nodes.call(offsets[middle], function, vec![left, right])
    }

    fn binary(&mut self, least: u8) -> Result<Expr> {
        let mut left = self.unary()?;
        loop {
            let Token::Symbol(symbol) = *self.peek() else { return Ok(left) };
            let Some((_, function, strength)) =
                BINARY.iter().find(|(one, _, strength)| *one == symbol && *strength >= least)
            else {
                return Ok(left);
            };
            let offset = self.offset();
            self.at += 1;
            let right = self.binary(strength + 1)?;
            left = self.nodes.call(offset, function, vec![left, right])?;
        }
    }

    fn unary(&mut self) -> Result<Expr> {
        let offset = self.offset();
        for (symbol, function) in [("!", "!_"), ("-", "-_")] {
            let mut count = 0;
            while matches!(self.peek(), Token::Symbol(found) if *found == symbol) && !self.negative_number() {
                self.at += 1;
                count += 1;
            }
            if count > 0 {
                let operand = self.member()?;
                // Twice is not at all.
                return if count % 2 == 0 {
                    Ok(operand)
                } else {
                    self.nodes.call(offset, function, vec![operand])
                };
            }
        }
        self.member()
    }

    /// Whether a minus comes that belongs to a number.
    fn negative_number(&self) -> bool {
        let number = |token: &Token| {
            matches!(token, Token::IntMinimum | Token::Literal(Literal::Int(_) | Literal::Double(_)))
        };
        *self.peek() == Token::Symbol("-")
            && self.tokens.get(self.at + 1).is_some_and(|placed| number(&placed.0))
    }

    fn member(&mut self) -> Result<Expr> {
        let mut operand = self.primary()?;
        while let Token::Symbol(symbol @ ("." | "[" | "{")) = *self.peek() {
            let offset = self.offset();
            operand = match symbol {
                "." => self.dotted(offset, operand)?,
                "[" => self.indexed(offset, operand)?,
                _ => match qualified(&operand) {
                    Some(name) => self.fields(offset, name.into())?,
                    None => return Ok(operand),
                },
            };
        }
        Ok(operand)
    }

    /// `.field`, `.?field` or `.function(arguments)` behind an operand.
    fn dotted(&mut self, offset: usize, operand: Expr) -> Result<Expr> {
        self.at += 1;
        let optional = self.eat("?");
        let (field, quoted) = match self.take() {
            Token::Ident(name) => (name, false),
            Token::Quoted(name) => (name, true),
            _ => {
                self.at -= 1;
                return self.unexpected("IDENTIFIER");
            }
        };
        if optional {
            let name = self.nodes.make(offset, Kind::Literal(Literal::String(field)))?;
            return self.nodes.call(offset, "_?._", vec![operand, name]);
        }
        if !quoted && matches!(self.peek(), Token::Symbol("(")) {
            let open = self.offset();
            self.at += 1;
            let args = self.arguments()?;
            return macros::member(&mut self.nodes, open, operand, field, args);
        }
        self.nodes.make(offset, Kind::Select { operand: Box::new(operand), field, test: false })
    }

    /// `[index]` or `[?index]` behind an operand.
    fn indexed(&mut self, offset: usize, operand: Expr) -> Result<Expr> {
        self.at += 1;
        let function = if self.eat("?") { "_[?_]" } else { "_[_]" };
        let index = self.expr()?;
        self.expect("]")?;
        self.nodes.call(offset, function, vec![operand, index])
    }

    fn arguments(&mut self) -> Result<Vec<Expr>> {
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expr()?);
            if !self.eat(",") {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn fields(&mut self, offset: usize, name: Arc<str>) -> Result<Expr> {
        self.at += 1;
        let mut fields = Vec::new();
        while !self.eat("}") {
            let (Token::Ident(field) | Token::Quoted(field)) = self.take() else {
                self.at -= 1;
                return self.unexpected("IDENTIFIER");
            };
            self.expect(":")?;
            fields.push((field, self.expr()?));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        self.nodes.make(offset, Kind::Struct { name, fields })
    }

    fn primary(&mut self) -> Result<Expr> {
        match *self.peek() {
            Token::Symbol("(") => {
                self.at += 1;
                let inner = self.expr()?;
                self.expect(")")?;
                Ok(inner)
            }
            Token::Symbol("[") => self.list(),
            Token::Symbol("{") => self.map(),
            _ => self.simple(),
        }
    }

    fn list(&mut self) -> Result<Expr> {
        let offset = self.offset();
        self.at += 1;
        let mut list = Vec::new();
        while !self.eat("]") {
            let optional = self.eat("?");
            list.push((self.expr()?, optional));
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        self.nodes.make(offset, Kind::List(list))
    }

    fn map(&mut self) -> Result<Expr> {
        let offset = self.offset();
        self.at += 1;
        let mut entries = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let key = self.expr()?;
            self.expect(":")?;
            let value = self.expr()?;
            entries.push(Entry { key, value, optional });
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        self.nodes.make(offset, Kind::Map(entries))
    }

    /// Literals, variables and calls of global functions.
    fn simple(&mut self) -> Result<Expr> {
        let offset = self.offset();
        if self.negative_number() {
            self.at += 1;
            let literal = match self.take() {
                Token::Literal(Literal::Int(number)) => Literal::Int(-number),
                Token::Literal(Literal::Double(number)) => Literal::Double(-number),
                _ => Literal::Int(i64::MIN),
            };
            return self.nodes.make(offset, Kind::Literal(literal));
        }
        // A leading dot names the root of the one namespace there is.
        let rooted = self.eat(".");
        match self.take() {
            Token::Literal(literal) if !rooted => self.nodes.make(offset, Kind::Literal(literal)),
            Token::IntMinimum => {
                Err(Issue { offset, message: "Syntax error: invalid int literal".to_owned() })
            }
            Token::Ident(name) => self.named(offset, name),
            _ => {
                self.at -= 1;
                self.unexpected(if rooted { "IDENTIFIER" } else { OPERANDS })
            }
        }
    }

    /// A variable or the call of a global function.
    fn named(&mut self, offset: usize, name: Arc<str>) -> Result<Expr> {
        if CEL_RESERVED.contains(&&*name) {
            return Err(Issue { offset, message: format!("Syntax error: reserved identifier: {name}") });
        }
        let open = self.offset();
        if self.eat("(") {
            let args = self.arguments()?;
            return macros::global(&mut self.nodes, open, name, args);
        }
        self.nodes.make(offset, Kind::Ident(name))
    }
}

/// The dotted name that selections on a name spell.
pub(crate) fn qualified(expr: &Expr) -> Option<String> {
    match &expr.kind {
        Kind::Ident(name) => Some(name.to_string()),
        Kind::Select { operand, field, test: false } => Some(format!("{}.{field}", qualified(operand)?)),
        _ => None,
    }
}
