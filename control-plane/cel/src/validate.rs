//! What is wrong with an expression beyond its types: literals that a function refuses, lists of mixed types.

use crate::ast::{Expr, Id, Issue, Kind, Literal, Source};
use crate::check::Checked;
use crate::types::Type;
use crate::value::{pattern, time};

/// Looks at a tree whose types agree.
pub(crate) fn validate(expr: &Expr, source: &Source, checked: &Checked, issues: &mut Vec<Issue>) {
    Validator { source, checked, issues }.visit(expr, false);
}

struct Validator<'v> {
    source: &'v Source,
    checked: &'v Checked,
    issues: &'v mut Vec<Issue>,
}

impl Validator<'_> {
    fn issue(&mut self, id: Id, message: String) {
        if self.issues.len() < 100 {
            let offset = self.source.offsets.get(id).copied().unwrap_or_default() as usize;
            self.issues.push(Issue { offset, message });
        }
    }

    /// `mixed` says that lists may be of mixed types here: among what is formatted.
    fn visit(&mut self, expr: &Expr, mixed: bool) {
        match &expr.kind {
            Kind::Literal(_) | Kind::Ident(_) => {}
            Kind::Select { operand, .. } => self.visit(operand, mixed),
            Kind::Call(call) => {
                let mixed = mixed || &*call.function == "format";
                for arg in call.target.as_deref().into_iter().chain(&call.args) {
                    self.visit(arg, mixed);
                }
                if let Some(Expr { id, kind: Kind::Literal(literal), .. }) = call.args.first() {
                    self.literal(*id, &call.function, literal);
                }
            }
            Kind::List(list) => {
                for (element, _) in list {
                    self.visit(element, mixed);
                }
                if !mixed {
                    self.alike(list.iter().map(|(element, optional)| (element, *optional)));
                }
            }
            Kind::Map(entries) => {
                for entry in entries {
                    self.visit(&entry.key, mixed);
                    self.visit(&entry.value, mixed);
                }
                if !mixed {
                    self.alike(entries.iter().map(|entry| (&entry.key, false)));
                    self.alike(entries.iter().map(|entry| (&entry.value, entry.optional)));
                }
            }
            Kind::Struct { fields, .. } => fields.iter().for_each(|(_, value)| self.visit(value, mixed)),
            Kind::Fold(fold) => {
                for part in [&fold.range, &fold.init, &fold.condition, &fold.step, &fold.result] {
                    self.visit(part, mixed);
                }
            }
        }
    }

    fn literal(&mut self, id: Id, function: &str, literal: &Literal) {
        let fine = match (function, literal) {
            ("matches", Literal::String(text)) => pattern::compile(text).is_ok(),
            ("duration", Literal::String(text)) => time::parse_duration(text).is_some(),
            ("timestamp", Literal::String(text)) => time::parse_timestamp(text).is_some(),
            ("timestamp", Literal::Int(seconds)) => time::from_seconds(*seconds).is_some(),
            _ => true,
        };
        if !fine {
            self.issue(id, format!("invalid {function} argument"));
        }
    }

    fn alike<'x>(&mut self, elements: impl Iterator<Item = (&'x Expr, bool)>) {
        let mut first: Option<Type> = None;
        for (element, optional) in elements {
            let ty = match self.checked.ty(element.id) {
                Type::Optional(inner) if optional => (**inner).clone(),
                ty => ty.clone(),
            };
            match &first {
                None => first = Some(ty),
                Some(first) if *first != ty => {
                    let message = format!("expected type '{first}' but found '{ty}'");
                    self.issue(element.id, message);
                    return;
                }
                Some(_) => {}
            }
        }
    }
}
