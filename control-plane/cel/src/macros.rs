//! Macros: `has`, `all`, `exists`, `exists_one`, `map`, `filter`, their forms with two variables, `transformList`,
//! `transformMap`, `transformMapEntry`, `optMap`, `optFlatMap`, `sortBy`.

use std::sync::Arc;

use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Issue, Kind, Literal};
use crate::parser::Nodes;

type Result<T> = std::result::Result<T, Issue>;

/// A call of a global function, or what the macro of that name makes of it.
pub(crate) fn global(
    nodes: &mut Nodes,
    offset: usize,
    function: Arc<str>,
    mut args: Vec<Expr>,
) -> Result<Expr> {
    if &*function != "has" || args.len() != 1 {
        return nodes.make(offset, Kind::Call(Call { function, target: None, args }));
    }
    match args.pop().map(|arg| (nodes.offset(&arg), arg.kind)) {
        Some((_, Kind::Select { operand, field, test: false })) => {
            nodes.make(offset, Kind::Select { operand, field, test: true })
        }
        other => {
            let at = other.map_or(offset, |(at, _)| at);
            Err(Issue { offset: at, message: "invalid argument to has() macro".to_owned() })
        }
    }
}

/// A call of a member, or what the macro of that name makes of it.
pub(crate) fn member(
    nodes: &mut Nodes,
    offset: usize,
    target: Expr,
    function: Arc<str>,
    args: Vec<Expr>,
) -> Result<Expr> {
    let mut maker = Maker { nodes, offset };
    match (&*function, args.len()) {
        ("all" | "exists" | "exists_one" | "existsOne", 2 | 3) => maker.quantifier(&function, target, args),
        ("map", 2 | 3) => maker.transform("map", target, args, 1),
        ("filter", 2) => maker.filter(target, args),
        ("transformList" | "transformMap" | "transformMapEntry", 3 | 4) => {
            maker.transform(&function, target, args, 2)
        }
        ("optMap" | "optFlatMap", 2) => maker.optional(&function, target, args),
        ("sortBy", 2) => maker.sort_by(target, args),
        _ => maker.nodes.make(offset, Kind::Call(Call { function, target: Some(Box::new(target)), args })),
    }
}

struct Maker<'n> {
    nodes: &'n mut Nodes,
    offset: usize,
}

/// Variables of a comprehension.
type Variables = (Arc<str>, Option<Arc<str>>);

impl Maker<'_> {
    fn literal(&mut self, literal: Literal) -> Result<Expr> {
        self.nodes.make(self.offset, Kind::Literal(literal))
    }

    fn ident(&mut self, name: &str) -> Result<Expr> {
        self.nodes.make(self.offset, Kind::Ident(name.into()))
    }

    fn accu(&mut self) -> Result<Expr> {
        self.ident(ACCUMULATOR)
    }

    fn call(&mut self, function: &str, args: Vec<Expr>) -> Result<Expr> {
        self.nodes.call(self.offset, function, args)
    }

    fn on(&mut self, target: Expr, function: &str, args: Vec<Expr>) -> Result<Expr> {
        let call = Call { function: function.into(), target: Some(Box::new(target)), args };
        self.nodes.make(self.offset, Kind::Call(call))
    }

    fn list(&mut self, elements: Vec<Expr>) -> Result<Expr> {
        let elements = elements.into_iter().map(|one| (one, false)).collect();
        self.nodes.make(self.offset, Kind::List(elements))
    }

    /// Takes the first one or two arguments as names of variables.
    fn variables(&mut self, args: &mut Vec<Expr>, count: usize, why: &str) -> Result<Variables> {
        let mut names = Vec::with_capacity(2);
        for arg in args.drain(..count.min(args.len())) {
            let offset = self.nodes.offset(&arg);
            let fail = |message: String| Err(Issue { offset, message });
            let Kind::Ident(name) = arg.kind else { return fail(why.to_owned()) };
            if &*name == "__result__" {
                return fail("iteration variable overwrites accumulator variable".to_owned());
            }
            if names.contains(&name) {
                return fail(format!("duplicate variable name: {name}"));
            }
            names.push(name);
        }
        let mut names = names.into_iter();
        Ok((names.next().unwrap_or_else(|| "".into()), names.next()))
    }

    fn fold(
        &mut self,
        range: Expr,
        (var, var2): Variables,
        [init, condition, step, result]: [Expr; 4],
    ) -> Result<Expr> {
        let fold = Fold { range, var, var2, accu: ACCUMULATOR.into(), init, condition, step, result };
        self.nodes.make(self.offset, Kind::Fold(Box::new(fold)))
    }

    fn quantifier(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Result<Expr> {
        let count = args.len() - 1;
        let variables = self.variables(&mut args, count, "argument must be a simple name")?;
        let predicate = args.pop().map_or_else(|| self.accu(), Ok)?;
        let (init, condition) = match function {
            "all" => {
                let init = self.literal(Literal::Bool(true))?;
                let accu = self.accu()?;
                (init, self.call("@not_strictly_false", vec![accu])?)
            }
            "exists" => {
                let init = self.literal(Literal::Bool(false))?;
                let accu = self.accu()?;
                let not = self.call("!_", vec![accu])?;
                (init, self.call("@not_strictly_false", vec![not])?)
            }
            _ => (self.literal(Literal::Int(0))?, self.literal(Literal::Bool(true))?),
        };
        let accu = self.accu()?;
        let (step, result) = match function {
            "all" => (self.call("_&&_", vec![accu, predicate])?, self.accu()?),
            "exists" => (self.call("_||_", vec![accu, predicate])?, self.accu()?),
            _ => {
                let one = self.literal(Literal::Int(1))?;
                let more = self.call("_+_", vec![accu, one])?;
                let same = self.accu()?;
                let step = self.call("_?_:_", vec![predicate, more, same])?;
                let (accu, one) = (self.accu()?, self.literal(Literal::Int(1))?);
                (step, self.call("_==_", vec![accu, one])?)
            }
        };
        self.fold(target, variables, [init, condition, step, result])
    }

    /// `map`, `transformList`, `transformMap`, `transformMapEntry`, each with or without a filter.
    fn transform(&mut self, function: &str, target: Expr, mut args: Vec<Expr>, count: usize) -> Result<Expr> {
        let why = if function == "map" {
            "argument is not an identifier"
        } else {
            "argument must be a simple name"
        };
        let variables = self.variables(&mut args, count, why)?;
        let transform = args.pop().map_or_else(|| self.accu(), Ok)?;
        let filter = args.pop();
        let init = match function {
            "map" | "transformList" => self.list(Vec::new())?,
            _ => self.nodes.make(self.offset, Kind::Map(Vec::new()))?,
        };
        let condition = self.literal(Literal::Bool(true))?;
        let accu = self.accu()?;
        let mut step = match function {
            "transformMap" => {
                let key = self.ident(&variables.0)?;
                self.call("cel.@mapInsert", vec![accu, key, transform])?
            }
            "transformMapEntry" => self.call("cel.@mapInsert", vec![accu, transform])?,
            _ => {
                let one = self.list(vec![transform])?;
                self.call("_+_", vec![accu, one])?
            }
        };
        if let Some(filter) = filter {
            let same = self.accu()?;
            step = self.call("_?_:_", vec![filter, step, same])?;
        }
        let result = self.accu()?;
        self.fold(target, variables, [init, condition, step, result])
    }

    fn filter(&mut self, target: Expr, mut args: Vec<Expr>) -> Result<Expr> {
        let variables = self.variables(&mut args, 1, "argument is not an identifier")?;
        let predicate = args.pop().map_or_else(|| self.accu(), Ok)?;
        let (init, condition) = (self.list(Vec::new())?, self.literal(Literal::Bool(true))?);
        let (accu, element) = (self.accu()?, self.ident(&variables.0)?);
        let one = self.list(vec![element])?;
        let more = self.call("_+_", vec![accu, one])?;
        let same = self.accu()?;
        let step = self.call("_?_:_", vec![predicate, more, same])?;
        let result = self.accu()?;
        self.fold(target, variables, [init, condition, step, result])
    }

    /// A comprehension over nothing that gives `value` the name `name` in `body`.
    fn bind(&mut self, name: Arc<str>, value: Expr, body: Expr) -> Result<Expr> {
        let fold = Fold {
            range: self.list(Vec::new())?,
            var: "#unused".into(),
            var2: None,
            condition: self.literal(Literal::Bool(false))?,
            step: self.ident(&name)?,
            accu: name,
            init: value,
            result: body,
        };
        self.nodes.make(self.offset, Kind::Fold(Box::new(fold)))
    }

    fn optional(&mut self, function: &str, target: Expr, mut args: Vec<Expr>) -> Result<Expr> {
        let why = format!("{function}() variable name must be a simple identifier");
        let (name, _) = self.variables(&mut args, 1, &why)?;
        let body = args.pop().map_or_else(|| self.accu(), Ok)?;
        let again = copy(self.nodes, &target)?;
        let present = self.on(target, "hasValue", Vec::new())?;
        let value = self.on(again, "value", Vec::new())?;
        let mut inner = self.bind(name, value, body)?;
        if function == "optMap" {
            inner = self.call("optional.of", vec![inner])?;
        }
        let none = self.call("optional.none", Vec::new())?;
        self.call("_?_:_", vec![present, inner, none])
    }

    fn sort_by(&mut self, target: Expr, args: Vec<Expr>) -> Result<Expr> {
        const INPUT: &str = "@__sortBy_input__";
        if matches!(target.kind, Kind::Literal(_) | Kind::Map(_) | Kind::Struct { .. }) {
            let message =
                "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err(Issue { offset: self.nodes.offset(&target), message: message.to_owned() });
        }
        let input = self.ident(INPUT)?;
        let keys = self.transform("map", input, args, 1)?;
        let input = self.ident(INPUT)?;
        let sorted = self.on(input, "@sortByAssociatedKeys", vec![keys])?;
        self.bind(INPUT.into(), target, sorted)
    }
}

/// The same tree with nodes of its own.
fn copy(nodes: &mut Nodes, expr: &Expr) -> Result<Expr> {
    let mut one = |expr: &Expr| copy(nodes, expr);
    let kind = match &expr.kind {
        Kind::Literal(_) | Kind::Ident(_) => expr.kind.clone(),
        Kind::Select { operand, field, test } => {
            Kind::Select { operand: Box::new(one(operand)?), field: field.clone(), test: *test }
        }
        Kind::Call(call) => Kind::Call(Call {
            function: call.function.clone(),
            target: call.target.as_deref().map(&mut one).transpose()?.map(Box::new),
            args: call.args.iter().map(one).collect::<Result<_>>()?,
        }),
        Kind::List(list) => Kind::List(
            list.iter().map(|(expr, optional)| Ok((one(expr)?, *optional))).collect::<Result<_>>()?,
        ),
        Kind::Map(entries) => {
            let mut copied = Vec::with_capacity(entries.len());
            for entry in entries {
                let (key, value) = (one(&entry.key)?, one(&entry.value)?);
                copied.push(crate::ast::Entry { key, value, optional: entry.optional });
            }
            Kind::Map(copied)
        }
        Kind::Struct { name, fields } => Kind::Struct {
            name: name.clone(),
            fields: fields
                .iter()
                .map(|(name, expr)| Ok((name.clone(), one(expr)?)))
                .collect::<Result<_>>()?,
        },
        Kind::Fold(fold) => Kind::Fold(Box::new(Fold {
            range: one(&fold.range)?,
            var: fold.var.clone(),
            var2: fold.var2.clone(),
            accu: fold.accu.clone(),
            init: one(&fold.init)?,
            condition: one(&fold.condition)?,
            step: one(&fold.step)?,
            result: one(&fold.result)?,
        })),
    };
    let offset = nodes.offset(expr);
    nodes.make(offset, kind)
}
