//! Running an expression.

use std::sync::Arc;

use crate::ast::{Call, Entry, Expr, Fold, Kind};
use crate::call::arith::{field, index, maybe};
use crate::call::convert::insert;
use crate::check::Checked;
use crate::cost::{LIST_BASE, MAP_BASE, actual};
use crate::plan::{Plan, Planned, zero};
use crate::value::{Entries, Failure, List, Map, Meter, Outcome, Value};

/// What runs an expression once.
pub(crate) struct Machine<'p, 'v> {
    pub(crate) plan: &'p Plan,
    pub(crate) checked: &'p Checked,
    pub(crate) bindings: &'p [(&'p str, Value<'v>)],
    pub(crate) meter: Meter,
    pub(crate) cost: u64,
    pub(crate) limit: u64,
    /// Variables of comprehensions. What failed to be computed fails when it is read.
    pub(crate) locals: Vec<(Arc<str>, Outcome<Value<'v>>)>,
}

impl<'v> Machine<'_, 'v> {
    fn charge(&mut self, cost: u64) -> Outcome<()> {
        self.cost = self.cost.saturating_add(cost);
        if self.cost > self.limit { Err(Failure::Limit) } else { Ok(()) }
    }

    /// The value of an expression.
    pub(crate) fn eval(&mut self, expr: &Expr) -> Outcome<Value<'v>> {
        if let Some(constant) = self.plan.constant(expr.id) {
            return Ok(constant.clone());
        }
        match &expr.kind {
            Kind::Literal(literal) => Ok(Value::literal(literal)),
            Kind::Ident(name) => self.ident(name),
            Kind::Select { operand, field, test } => self.select(operand, field, *test),
            Kind::Call(call) => self.call(expr, call),
            Kind::List(list) => self.list(list),
            Kind::Map(entries) => self.map(entries),
            Kind::Struct { .. } => Err(Failure::overload()),
            Kind::Fold(fold) => self.fold(fold),
        }
    }

    fn ident(&mut self, name: &Arc<str>) -> Outcome<Value<'v>> {
        self.charge(1)?;
        if let Some((_, value)) = self.locals.iter().rev().find(|(one, _)| *one == *name) {
            return value.clone();
        }
        match self.bindings.iter().find(|(one, _)| *one == &**name) {
            Some((_, value)) => Ok(value.clone()),
            None => Err(Failure::new(format!("no such attribute(s): {name}"))),
        }
    }

    /// The value of what is selected from. Where that is no attribute, it becomes one, at a price.
    fn operand(&mut self, operand: &Expr) -> Outcome<Value<'v>> {
        let value = self.eval(operand)?;
        if !is_attribute(operand) || self.plan.constant(operand.id).is_some() {
            self.charge(1)?;
        }
        Ok(value)
    }

    fn select(&mut self, operand: &Expr, name: &Arc<str>, test: bool) -> Outcome<Value<'v>> {
        let value = self.operand(operand)?;
        if !test {
            self.charge(1)?;
        }
        if let Value::Optional(inner) = &value {
            let found = match inner {
                Some(inner) => field(inner, name).transpose()?,
                None => None,
            };
            return Ok(if test {
                Value::Bool(found.is_some())
            } else {
                Value::Optional(found.map(Arc::new))
            });
        }
        let found = field(&value, name);
        if test {
            return found.transpose().map(|found| Value::Bool(found.is_some()));
        }
        found.unwrap_or_else(|| Err(Failure::new(format!("no such key: {name}"))))
    }

    fn call(&mut self, expr: &Expr, call: &Call) -> Outcome<Value<'v>> {
        match (&*call.function, call.args.as_slice()) {
            ("_&&_", [left, right]) => self.logical(left, right, false),
            ("_||_", [left, right]) => self.logical(left, right, true),
            ("_?_:_", [condition, yes, no]) => self.conditional(condition, yes, no),
            ("@not_strictly_false", [arg]) => {
                let value = match self.eval(arg) {
                    Err(Failure::Limit) => return Err(Failure::Limit),
                    Ok(Value::Bool(value)) => value,
                    _ => true,
                };
                self.charge(1)?;
                Ok(Value::Bool(value))
            }
            ("_[_]", [container, key]) => self.index(container, key),
            ("_[?_]" | "_?._", [container, key]) => self.optional_index(container, key),
            ("or" | "orValue", [other]) if call.target.is_some() => self.or(call, other),
            _ => self.function(expr, call),
        }
    }

    fn logical(&mut self, left: &Expr, right: &Expr, decisive: bool) -> Outcome<Value<'v>> {
        let one = |value: Outcome<Value<'v>>| match value {
            Ok(Value::Bool(value)) => Ok(value),
            Ok(_) => Err(Failure::overload()),
            Err(why) => Err(why),
        };
        let left = one(self.eval(left));
        match left {
            Ok(value) if value == decisive => return Ok(Value::Bool(decisive)),
            Err(Failure::Limit) => return Err(Failure::Limit),
            _ => {}
        }
        let right = one(self.eval(right));
        match (left, right) {
            (_, Ok(value)) if value == decisive => Ok(Value::Bool(decisive)),
            (_, Err(Failure::Limit)) => Err(Failure::Limit),
            (Err(why), _) | (_, Err(why)) => Err(why),
            (Ok(_), Ok(_)) => Ok(Value::Bool(!decisive)),
        }
    }

    fn conditional(&mut self, condition: &Expr, yes: &Expr, no: &Expr) -> Outcome<Value<'v>> {
        let branch = match self.eval(condition)? {
            Value::Bool(true) => yes,
            Value::Bool(false) => no,
            _ => return Err(Failure::overload()),
        };
        let value = self.eval(branch)?;
        // A branch that is an attribute is read without being counted as one.
        if is_plain_attribute(branch) && self.plan.constant(branch.id).is_none() {
            self.cost = self.cost.saturating_sub(1);
        }
        Ok(value)
    }

    fn index(&mut self, container: &Expr, key: &Expr) -> Outcome<Value<'v>> {
        let value = self.operand(container)?;
        let key = self.key(key)?;
        if let Value::Optional(inner) = &value {
            let found = match inner {
                Some(inner) => maybe(inner, &key)?,
                None => None,
            };
            return Ok(Value::Optional(found.map(Arc::new)));
        }
        index(&value, &key)
    }

    /// The value of an index. One that is an attribute is charged as that alone.
    fn key(&mut self, key: &Expr) -> Outcome<Value<'v>> {
        let value = self.eval(key)?;
        if !is_plain_attribute(key) || self.plan.constant(key.id).is_some() {
            self.charge(1)?;
        }
        Ok(value)
    }

    fn optional_index(&mut self, container: &Expr, key: &Expr) -> Outcome<Value<'v>> {
        let value = self.operand(container)?;
        let at = self.eval(key)?;
        let value = match &value {
            Value::Optional(None) => return Ok(Value::Optional(None)),
            Value::Optional(Some(inner)) => inner,
            value => value,
        };
        let found = maybe(value, &at)?;
        // What is not there is not charged.
        if found.is_some() && (!is_plain_attribute(key) || self.plan.constant(key.id).is_some()) {
            self.charge(1)?;
        }
        Ok(Value::Optional(found.map(Arc::new)))
    }

    fn or(&mut self, call: &Call, other: &Expr) -> Outcome<Value<'v>> {
        let Some(target) = &call.target else { return Err(Failure::overload()) };
        match self.eval(target)? {
            Value::Optional(None) => self.eval(other),
            Value::Optional(Some(value)) if &*call.function == "orValue" => Ok((*value).clone()),
            value @ Value::Optional(_) => Ok(value),
            _ => Err(Failure::overload()),
        }
    }

    fn function(&mut self, expr: &Expr, call: &Call) -> Outcome<Value<'v>> {
        let Some(planned) = self.plan.call(expr.id) else { return Err(Failure::overload()) };
        let count = call.args.len() + usize::from(call.target.is_some());
        let mut args = Vec::with_capacity(count);
        let mut failed = None;
        for arg in call.target.as_deref().into_iter().chain(&call.args) {
            match self.eval(arg) {
                Ok(value) => args.push(value),
                Err(Failure::Limit) => return Err(Failure::Limit),
                // With more arguments than two, those behind one that failed are not looked at.
                Err(why) if count > 2 => return Err(why),
                Err(why) => {
                    failed = failed.or(Some(why));
                    args.push(Value::Null);
                }
            }
        }
        let Some(why) = failed else { return self.apply(expr, call, planned, &args) };
        if !planned.member {
            let cost = actual::cost(planned.rule, &args, Some(&Value::Null), &self.meter)?;
            self.charge(cost)?;
        }
        Err(why)
    }

    fn apply(
        &mut self,
        expr: &Expr,
        call: &Call,
        planned: &Planned,
        args: &[Value<'v>],
    ) -> Outcome<Value<'v>> {
        let by_result = actual::by_result(planned.rule);
        if !by_result && !planned.member {
            let cost = actual::cost(planned.rule, args, None, &self.meter)?;
            self.charge(cost)?;
        }
        if &*call.function == "lists.range"
            && let [Value::Int(count)] = args
            && u64::try_from(*count).is_ok_and(|count| count > self.limit.saturating_sub(self.cost))
        {
            return Err(Failure::Limit);
        }
        let value = match (&planned.pattern, args) {
            (Some(pattern), [Value::String(text), _, rest @ ..]) => {
                self.matched(call, pattern, text, rest)?
            }
            _ => {
                let Some(native) = planned.native else { return Err(Failure::overload()) };
                native(&self.meter, args)?
            }
        };
        if by_result {
            let cost = actual::cost(planned.rule, args, Some(&value), &self.meter)?;
            self.charge(cost)?;
        }
        // What nothing adds up to depends on the type, which an empty list does not tell.
        if &*call.function == "sum" && matches!(args, [Value::List(list)] if list.is_empty()) {
            return Ok(zero(self.checked.ty(expr.id)));
        }
        Ok(value)
    }

    fn matched(
        &mut self,
        call: &Call,
        pattern: &skep_api::custom::Pattern,
        text: &str,
        rest: &[Value<'v>],
    ) -> Outcome<Value<'v>> {
        self.meter.spend(text.len() as u64)?;
        Ok(match &*call.function {
            "matches" => Value::Bool(pattern.matches(text)),
            "find" => Value::text(pattern.find(text).unwrap_or("")),
            _ => {
                let most = match rest {
                    [Value::Int(most)] => usize::try_from(*most).unwrap_or(usize::MAX),
                    _ => usize::MAX,
                };
                Value::list(pattern.find_all(text, most).into_iter().map(Value::text).collect())
            }
        })
    }

    fn list(&mut self, list: &[(Expr, bool)]) -> Outcome<Value<'v>> {
        let items = self.elements(list);
        self.charge(LIST_BASE)?;
        Ok(Value::list(items?))
    }

    fn elements(&mut self, list: &[(Expr, bool)]) -> Outcome<Vec<Value<'v>>> {
        let mut items = Vec::with_capacity(list.len());
        for (element, optional) in list {
            match (self.eval(element)?, optional) {
                (Value::Optional(value), true) => items.extend(value.map(|value| (*value).clone())),
                (_, true) => return Err(Failure::overload()),
                (value, false) => items.push(value),
            }
        }
        self.meter.spend(items.len() as u64)?;
        Ok(items)
    }

    fn map(&mut self, entries: &[Entry]) -> Outcome<Value<'v>> {
        let mut made = Entries::new();
        for entry in entries {
            let key = self.eval(&entry.key)?;
            let value = match (self.eval(&entry.value)?, entry.optional) {
                (Value::Optional(Some(value)), true) => (*value).clone(),
                (Value::Optional(None), true) => continue,
                (_, true) => return Err(Failure::overload()),
                (value, false) => value,
            };
            insert(&mut made, key, value)?;
        }
        self.meter.spend(made.len() as u64)?;
        self.charge(MAP_BASE)?;
        Ok(Value::Map(Map::Made(Arc::new(made))))
    }

    fn fold(&mut self, fold: &Fold) -> Outcome<Value<'v>> {
        if fold.is_bind() {
            let value = self.eval(&fold.init);
            return self.scoped(fold, value, |_| Ok(()));
        }
        let range = self.eval(&fold.range)?;
        let init = self.eval(&fold.init);
        self.scoped(fold, init, |machine| machine.rounds(fold, range))
    }

    /// Runs something with the accumulator in place, and then the result.
    fn scoped(
        &mut self,
        fold: &Fold,
        init: Outcome<Value<'v>>,
        run: impl FnOnce(&mut Self) -> Outcome<()>,
    ) -> Outcome<Value<'v>> {
        if matches!(init, Err(Failure::Limit)) {
            return Err(Failure::Limit);
        }
        let outer = self.locals.len();
        self.locals.push((fold.accu.clone(), init));
        let result = run(self).and_then(|()| {
            self.locals.truncate(outer + 1);
            self.eval(&fold.result)
        });
        self.locals.truncate(outer);
        result
    }

    fn rounds(&mut self, fold: &Fold, range: Value<'v>) -> Outcome<()> {
        let two = fold.var2.is_some();
        match range {
            Value::List(list) => {
                for index in 0..list.len() {
                    let Some(item) = list.get(index) else { break };
                    let first = if two { Ok(Value::Int(index as i64)) } else { item.clone() };
                    if !self.round(fold, first, item)? {
                        break;
                    }
                }
                Ok(())
            }
            Value::Map(map) => {
                let keys = map.keys();
                self.meter.spend(keys.len() as u64)?;
                for key in keys {
                    let value = if two { map.get(&key) } else { None }.unwrap_or(Ok(Value::Null));
                    if !self.round(fold, Ok(key), value)? {
                        break;
                    }
                }
                Ok(())
            }
            other => Err(Failure::new(format!("got '{}', expected iterable type", other.type_name()))),
        }
    }

    /// One round: whether to go on, and if so the step.
    fn round(&mut self, fold: &Fold, first: Outcome<Value<'v>>, second: Outcome<Value<'v>>) -> Outcome<bool> {
        let accu = self.locals.len() - 1;
        self.meter.spend(1)?;
        self.locals.push((fold.var.clone(), first));
        if let Some(var2) = &fold.var2 {
            self.locals.push((var2.clone(), second));
        }
        let go_on = match self.eval(&fold.condition) {
            Err(Failure::Limit) => return Err(Failure::Limit),
            Ok(Value::Bool(false)) => false,
            _ => true,
        };
        if go_on {
            let step = self.step(&fold.step, accu, &fold.accu);
            if matches!(step, Err(Failure::Limit)) {
                return Err(Failure::Limit);
            }
            if let Some(slot) = self.locals.get_mut(accu) {
                slot.1 = step;
            }
        }
        self.locals.truncate(accu + 1);
        Ok(go_on)
    }

    /// A step. What appends to the accumulator does so in place, at the price of the sum that is written.
    fn step(&mut self, step: &Expr, accu: usize, name: &Arc<str>) -> Outcome<Value<'v>> {
        match &step.kind {
            Kind::Call(call) => match (&*call.function, call.args.as_slice()) {
                ("_?_:_", [condition, yes, no]) if appended(yes, name).is_some() && is_name(no, name) => {
                    match self.eval(condition)? {
                        Value::Bool(true) => self.step(yes, accu, name),
                        // The accumulator as it is; reading it here costs nothing.
                        Value::Bool(false) => self.take(accu),
                        _ => Err(Failure::overload()),
                    }
                }
                _ => match appended(step, name) {
                    Some((list, element)) => self.append(list, element, accu),
                    None => self.eval(step),
                },
            },
            _ => self.eval(step),
        }
    }

    fn take(&mut self, accu: usize) -> Outcome<Value<'v>> {
        match self.locals.get_mut(accu) {
            Some(slot) => std::mem::replace(&mut slot.1, Ok(Value::Null)),
            None => Err(Failure::overload()),
        }
    }

    fn append(&mut self, list: &Expr, element: &Expr, accu: usize) -> Outcome<Value<'v>> {
        self.charge(1)?;
        let item = match self.plan.constant(element.id).filter(|_| self.plan.constant(list.id).is_some()) {
            Some(constant) => Ok(constant.clone()),
            None => {
                let item = self.eval(element);
                self.charge(LIST_BASE)?;
                item
            }
        };
        self.charge(1)?;
        // What failed first is what is told.
        let accu = if matches!(item, Err(Failure::Limit)) { Err(Failure::Limit) } else { self.take(accu) };
        match (accu?, item?) {
            (Value::List(List::Made(mut items, kind)), item) => {
                if Arc::get_mut(&mut items).is_none() {
                    self.meter.spend(items.len() as u64)?;
                }
                Arc::make_mut(&mut items).push(item);
                Ok(Value::List(List::Made(items, kind)))
            }
            _ => Err(Failure::overload()),
        }
    }
}

fn is_name(expr: &Expr, name: &Arc<str>) -> bool {
    matches!(&expr.kind, Kind::Ident(one) if one == name)
}

/// The list and its one element in `name + [element]`.
fn appended<'e>(expr: &'e Expr, name: &Arc<str>) -> Option<(&'e Expr, &'e Expr)> {
    let Kind::Call(call) = &expr.kind else { return None };
    match (&*call.function, call.args.as_slice()) {
        ("_+_", [accu, list]) if is_name(accu, name) => match &list.kind {
            Kind::List(elements) => match elements.as_slice() {
                [(element, false)] => Some((list, element)),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    }
}

/// Whether an expression is one that is read rather than computed: a variable, a field, an element, or a choice.
fn is_attribute(expr: &Expr) -> bool {
    is_plain_attribute(expr) || matches!(&expr.kind, Kind::Call(call) if &*call.function == "_?_:_")
}

fn is_plain_attribute(expr: &Expr) -> bool {
    match &expr.kind {
        Kind::Ident(_) | Kind::Select { .. } => true,
        Kind::Call(call) => matches!(&*call.function, "_[_]" | "_[?_]" | "_?._"),
        _ => false,
    }
}
