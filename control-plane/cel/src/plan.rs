//! What is known of an expression before it runs: which nodes are constant, what is called, how it is charged.

use std::collections::HashMap;
use std::sync::Arc;

use skep_api::custom::Pattern;

use crate::ast::{Call, Expr, Id, Kind, Literal};
use crate::call::{self, Native};
use crate::check::Checked;
use crate::cost::actual::{self, Rule};
use crate::types::Type;
use crate::value::{Entries, Failure, Key, Map, Meter, Value, pattern};

/// A call, made out beforehand.
pub(crate) struct Planned {
    pub(crate) native: Option<Native>,
    pub(crate) rule: Rule,
    /// The pattern of a regular expression that is a literal.
    pub(crate) pattern: Option<Pattern>,
    /// Whether a constant list is looked through, which costs nothing.
    pub(crate) member: bool,
}

/// All calls and constants of an expression.
#[derive(Default)]
pub(crate) struct Plan {
    calls: HashMap<Id, Planned>,
    constants: HashMap<Id, Value<'static>>,
}

/// Functions whose result over a constant is one.
const CONVERSIONS: &[&str] =
    &["bool", "bytes", "double", "duration", "dyn", "int", "string", "timestamp", "type", "uint"];

impl Plan {
    /// Plans a checked expression.
    ///
    /// # Errors
    /// When a conversion of a constant fails, or a pattern is none.
    pub(crate) fn new(expr: &Expr, checked: &Checked) -> Result<Self, Failure> {
        let mut plan = Plan::default();
        plan.visit(expr, checked)?;
        Ok(plan)
    }

    pub(crate) fn call(&self, id: Id) -> Option<&Planned> {
        self.calls.get(&id)
    }

    pub(crate) fn constant(&self, id: Id) -> Option<&Value<'static>> {
        self.constants.get(&id)
    }

    fn is_constant(&self, expr: &Expr) -> bool {
        self.constants.contains_key(&expr.id)
    }

    fn visit(&mut self, expr: &Expr, checked: &Checked) -> Result<(), Failure> {
        match &expr.kind {
            Kind::Literal(literal) => {
                self.constants.insert(expr.id, Value::literal(literal));
            }
            Kind::Ident(_) => {
                if let Some(ty) = checked.constant(expr.id) {
                    self.constants.insert(expr.id, Value::Type(ty.name().into()));
                }
            }
            Kind::Select { operand, .. } => self.visit(operand, checked)?,
            Kind::Call(call) => self.call_node(expr.id, call, checked)?,
            Kind::List(list) => {
                for (element, _) in list {
                    self.visit(element, checked)?;
                }
                if list.iter().all(|(element, optional)| !optional && self.is_constant(element)) {
                    let items =
                        list.iter().filter_map(|(element, _)| self.constants.get(&element.id).cloned());
                    let items: Vec<Value<'static>> = items.collect();
                    self.constants.insert(expr.id, Value::list(items));
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    self.visit(&entry.key, checked)?;
                    self.visit(&entry.value, checked)?;
                }
                let mut made: Entries<'static> = Entries::new();
                for entry in entries.iter().filter(|entry| !entry.optional) {
                    let (key, value) =
                        (self.constants.get(&entry.key.id), self.constants.get(&entry.value.id));
                    let found: Option<(Key, _)> = key
                        .zip(value)
                        .and_then(|(key, value)| Some((key.key()?, (key.clone(), value.clone()))));
                    if let Some((at, both)) = found {
                        made.insert(at, both);
                    }
                }
                // Fewer where something is no constant or stands twice, which is found when it runs.
                if made.len() == entries.len() {
                    self.constants.insert(expr.id, Value::Map(Map::Made(Arc::new(made))));
                }
            }
            Kind::Struct { fields, .. } => {
                for (_, value) in fields {
                    self.visit(value, checked)?;
                }
            }
            Kind::Fold(fold) => {
                for part in [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result] {
                    self.visit(part, checked)?;
                }
            }
        }
        Ok(())
    }

    fn call_node(&mut self, id: Id, call: &Call, checked: &Checked) -> Result<(), Failure> {
        for arg in call.target.as_deref().into_iter().chain(&call.args) {
            self.visit(arg, checked)?;
        }
        let overload = match checked.overloads(id) {
            [one] => *one,
            _ => "",
        };
        let native = call::find(&call.function);
        let mut planned =
            Planned { native, rule: actual::rule(&call.function, overload), pattern: None, member: false };
        if matches!(&*call.function, "matches" | "find" | "findAll") {
            let expression = call.args.get(usize::from(call.target.is_none()));
            if let Some(Expr { kind: Kind::Literal(Literal::String(text)), .. }) = expression {
                planned.pattern = Some(pattern::compile(text).map_err(Failure::new)?);
            }
        }
        if let (Some(native), [arg]) = (native, call.args.as_slice())
            && call.target.is_none()
            && CONVERSIONS.contains(&&*call.function)
            && let Some(constant) = self.constants.get(&arg.id)
        {
            let value = native(&Meter::new(), std::slice::from_ref(constant))?;
            self.constants.insert(id, value);
        }
        if overload == "in_list"
            && let [_, list] = call.args.as_slice()
            && let Some(Value::List(list)) = self.constants.get(&list.id)
        {
            let simple = |value: &Value<'_>| {
                matches!(
                    value,
                    Value::Bool(_)
                        | Value::Int(_)
                        | Value::Uint(_)
                        | Value::Double(_)
                        | Value::String(_)
                        | Value::Null
                )
            };
            planned.member = list.iter().all(|item| item.is_ok_and(|item| simple(&item)));
            if list.is_empty() {
                self.constants.insert(id, Value::Bool(false));
            }
        }
        self.calls.insert(id, planned);
        Ok(())
    }
}

/// Nothing of a type that can be summed.
pub(crate) fn zero(ty: &Type) -> Value<'static> {
    match ty {
        Type::Uint => Value::Uint(0),
        Type::Double => Value::Double(0.0),
        Type::Duration => Value::Duration(0),
        _ => Value::Int(0),
    }
}
