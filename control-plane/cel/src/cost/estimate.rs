//! The worst that an expression can cost, by the bounds of what it reads.

use std::collections::HashMap;
use std::sync::Arc;

use super::calls::{Arg, CallCost};
use super::{LIST_BASE, MAP_BASE, Range, STRUCT_BASE, calls};
use crate::ast::{ACCUMULATOR, Call, Expr, Fold, Id, Kind, Literal};
use crate::check::Checked;
use crate::decl::Env;
use crate::types::Type;

/// Where a value lies: a variable, then fields, `@items`, `@keys`, `@values`, `@indices`.
pub(crate) type Path = Vec<Arc<str>>;

/// Sizes of keys and values of a container.
#[derive(Clone, Copy)]
struct Entries {
    list: bool,
    key: Range,
    value: Range,
}

#[derive(Clone)]
struct Local {
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

/// Estimates what a checked expression costs.
pub(crate) fn estimate(expr: &Expr, checked: &Checked, env: &Env) -> Range {
    let mut estimator = Estimator {
        checked,
        env,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: HashMap::new(),
    };
    estimator.cost(expr)
}

struct Estimator<'e> {
    checked: &'e Checked,
    env: &'e Env,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
    locals: HashMap<Arc<str>, Vec<Local>>,
}

impl Estimator<'_> {
    fn cost(&mut self, expr: &Expr) -> Range {
        match &expr.kind {
            Kind::Literal(_) => Range::ZERO,
            Kind::Ident(name) => {
                let path = match self.local(name) {
                    Some(local) => local.path.clone(),
                    None => vec![name.clone()],
                };
                self.paths.insert(expr.id, path);
                Range::fixed(1)
            }
            Kind::Select { operand, test: true, .. } => self.cost(operand),
            Kind::Select { operand, field, .. } => {
                let mut cost = self.cost(operand);
                if matches!(self.checked.ty(operand.id), Type::Map(_) | Type::Object(_) | Type::Param(_)) {
                    cost = cost.add(Range::fixed(1));
                }
                let mut path = self.path(operand);
                path.push(field.clone());
                self.paths.insert(expr.id, path);
                cost
            }
            Kind::Call(call) => self.call(expr, call),
            Kind::List(list) => {
                let mut cost = Range::ZERO;
                let mut sizes = Sizes::default();
                for (element, _) in list {
                    cost = cost.add(self.cost(element));
                    sizes.join(self.size_or_unknown(element));
                }
                let entries =
                    Entries { list: true, key: Range::fixed(1), value: sizes.0.unwrap_or(Range::ZERO) };
                self.entries.insert(expr.id, entries);
                cost.add(Range::fixed(LIST_BASE))
            }
            Kind::Map(entries) => {
                let mut cost = Range::ZERO;
                let (mut keys, mut values) = (Sizes::default(), Sizes::default());
                for entry in entries {
                    cost = cost.add(self.cost(&entry.key)).add(self.cost(&entry.value));
                    keys.join(self.size_or_unknown(&entry.key));
                    values.join(self.size_or_unknown(&entry.value));
                }
                let zero = Range::ZERO;
                let entries =
                    Entries { list: false, key: keys.0.unwrap_or(zero), value: values.0.unwrap_or(zero) };
                self.entries.insert(expr.id, entries);
                cost.add(Range::fixed(MAP_BASE))
            }
            Kind::Struct { fields, .. } => {
                let fields = fields.iter().map(|(_, value)| self.cost(value)).fold(Range::ZERO, Range::add);
                fields.add(Range::fixed(STRUCT_BASE))
            }
            Kind::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Kind::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Range {
        if let ("dyn", [arg]) = (&*call.function, call.args.as_slice()) {
            let cost = self.cost(arg);
            self.copy_sizes(expr, arg);
            return cost.add(Range::fixed(1));
        }
        let mut args = Vec::with_capacity(call.args.len());
        let mut costs = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            costs.push(self.cost(arg));
            args.push(self.arg(arg));
        }
        let overloads = self.checked.overloads(expr.id);
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let mut cost = Range::ZERO;
        let target = call.target.as_deref().map(|target| {
            cost = self.cost(target);
            self.arg(target)
        });
        let mut function: Option<Range> = None;
        let mut size: Option<Range> = None;
        for overload in overloads {
            let one = self.function(expr, call, overload, target.as_ref(), &args, &costs);
            function = Some(function.map_or(one.cost, |before| before.union(one.cost)));
            if let Some(result) = one.size {
                size = Some(size.map_or(result, |before| before.union(result)));
            }
            let step = match *overload {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(container)) = (step, call.args.first()) {
                size = self.entry_sizes(container).map(|entries| entries.value);
                let mut path = self.path(container);
                path.push(step.into());
                self.paths.insert(expr.id, path);
            }
            if size.is_none() {
                size = self.size(expr);
            }
        }
        if let Some(size) = size {
            self.sizes.insert(expr.id, size);
        }
        cost.add(function.unwrap_or(Range::ZERO))
    }

    fn function(
        &mut self,
        expr: &Expr,
        call: &Call,
        overload: &str,
        target: Option<&Arg>,
        args: &[Arg],
        costs: &[Range],
    ) -> CallCost {
        let sum = costs.iter().copied().fold(Range::ZERO, Range::add);
        let own = calls::listed(overload, target, args, &|path| self.declared(path)).or_else(|| {
            calls::kubernetes(&call.function, overload, target, args, &|path| self.declared(path))
        });
        if let Some(found) = own {
            return CallCost { cost: found.cost.add(sum), size: found.size };
        }
        match (overload, call.args.as_slice(), costs) {
            ("logical_or" | "logical_and", _, [left, right]) => {
                CallCost { cost: Range { min: left.min, max: left.add(*right).max }, size: None }
            }
            ("conditional", [_, yes, no], [condition, cost_yes, cost_no]) => {
                let size = self.size_or_unknown(yes).union(self.size_or_unknown(no));
                self.union_entries(expr, yes, no);
                CallCost { cost: condition.add(cost_yes.union(*cost_no)), size: Some(size) }
            }
            ("add_string" | "add_bytes" | "add_list", [left, right], _) => {
                let size = self.size_or_unknown(left).add(self.size_or_unknown(right));
                self.union_entries(expr, left, right);
                let own =
                    if overload == "add_list" { Range::fixed(1) } else { size.scale(super::STRING_FACTOR) };
                CallCost { cost: own.add(sum), size: Some(size) }
            }
            _ => {
                let found = calls::standard(overload, target, args);
                CallCost { cost: found.cost.add(sum), size: found.size }
            }
        }
    }

    fn union_entries(&mut self, expr: &Expr, a: &Expr, b: &Expr) {
        if let (Some(a), Some(b)) = (self.entry_sizes(a), self.entry_sizes(b)) {
            let entries = Entries { list: a.list, key: a.key.union(b.key), value: a.value.union(b.value) };
            self.entries.insert(expr.id, entries);
        }
    }

    fn fold(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let mut cost = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_value(&fold.accu, &fold.init);
        let entries = self.entry_sizes(&fold.range);
        let list = entries
            .map_or_else(|| matches!(self.checked.ty(fold.range.id), Type::List(_)), |entries| entries.list);
        let path = self.path(&fold.range);
        let key = entries.map(|entries| entries.key);
        let value = entries.map(|entries| entries.value);
        let (keys, values) = if list { ("@indices", "@items") } else { ("@keys", "@values") };
        match &fold.var2 {
            Some(var2) => {
                self.push(&fold.var, &path, keys, key);
                self.push(var2, &path, values, value);
            }
            None if list => self.push(&fold.var, &path, values, value),
            None => self.push(&fold.var, &path, keys, key),
        }
        let condition = self.cost(&fold.condition);
        let step = self.cost(&fold.step);
        self.pop(&fold.var);
        if let Some(var2) = &fold.var2 {
            self.pop(var2);
        }
        cost = cost.add(self.cost(&fold.result));
        self.pop(&fold.accu);
        let count = self.size_or_unknown(&fold.range);
        match fold.init.kind {
            Kind::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Kind::List(_) | Kind::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = self.entry_sizes(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        cost.add(count.multiply(step.add(condition)))
    }

    fn bind(&mut self, expr: &Expr, fold: &Fold) -> Range {
        let cost = self.cost(&fold.range).add(self.cost(&fold.init));
        self.push_value(&fold.accu, &fold.init);
        let result = self.cost(&fold.result);
        self.pop(&fold.accu);
        self.copy_sizes(expr, &fold.result);
        cost.add(result)
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.get(name).and_then(|stack| stack.last())
    }

    fn push_value(&mut self, name: &Arc<str>, value: &Expr) {
        let local =
            Local { path: self.path(value), size: self.size(value), entries: self.entry_sizes(value) };
        self.locals.entry(name.clone()).or_default().push(local);
    }

    fn push(&mut self, name: &Arc<str>, container: &Path, step: &str, size: Option<Range>) {
        let mut path = container.clone();
        path.push(step.into());
        self.locals.entry(name.clone()).or_default().push(Local { path, size, entries: None });
    }

    fn pop(&mut self, name: &str) {
        if let Some(stack) = self.locals.get_mut(name) {
            stack.pop();
        }
    }

    fn path(&self, expr: &Expr) -> Path {
        if let Kind::Ident(name) = &expr.kind
            && let Some(local) = self.local(name)
        {
            return local.path.clone();
        }
        self.paths.get(&expr.id).cloned().unwrap_or_default()
    }

    fn arg(&mut self, expr: &Expr) -> Arg {
        let mut path = self.path(expr);
        if path.first().is_some_and(|first| **first == *ACCUMULATOR) {
            path.clear();
        }
        let literal = match expr.kind {
            Kind::Literal(Literal::Int(number)) => Some(number),
            _ => None,
        };
        Arg { path, ty: self.checked.ty(expr.id).clone(), size: self.size(expr), literal }
    }

    /// The size that declarations allow for what lies at a path.
    fn declared(&self, path: &[Arc<str>]) -> Option<Range> {
        let (first, rest) = path.split_first()?;
        let root = self.env.variable(first).or_else(|| self.env.variables().first())?;
        let mut decl = &root.decl;
        for (index, step) in rest.iter().enumerate() {
            decl = match &**step {
                "@items" | "@values" => decl.element()?,
                // Keys of maps are strings without a bound that is known; upstream takes them to have no size.
                "@keys" if matches!(decl.ty, Type::Map(_)) => {
                    return (index + 1 == rest.len()).then_some(Range::ZERO);
                }
                name => decl.field(name)?,
            };
        }
        Some(Range { min: 0, max: decl.max_elements })
    }

    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        let known = match &expr.kind {
            Kind::Literal(Literal::String(text)) => Some(text.chars().count()),
            Kind::Literal(Literal::Bytes(bytes)) => Some(bytes.len()),
            Kind::Literal(_) => Some(1),
            Kind::List(list) => Some(list.len()),
            Kind::Map(entries) => Some(entries.len()),
            _ => None,
        };
        if let Some(known) = known {
            return Some(Range::fixed(known as u64));
        }
        if let Some(declared) = self.declared(&self.path(expr)) {
            self.sizes.insert(expr.id, declared);
            return Some(declared);
        }
        if self.checked.ty(expr.id).is_scalar() {
            return Some(Range::fixed(1));
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.size),
            _ => None,
        }
    }

    fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    fn entry_sizes(&self, expr: &Expr) -> Option<Entries> {
        if let Some(found) = self.entries.get(&expr.id) {
            return Some(*found);
        }
        match &expr.kind {
            Kind::Ident(name) => self.local(name).and_then(|local| local.entries),
            _ => None,
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        if let Some(entries) = self.entry_sizes(from) {
            self.entries.insert(to.id, entries);
        }
    }
}

/// The union of sizes seen so far.
#[derive(Default)]
struct Sizes(Option<Range>);

impl Sizes {
    fn join(&mut self, size: Range) {
        self.0 = Some(self.0.map_or(size, |before| before.union(size)));
    }
}
