//! The type checker.

use std::collections::HashMap;
use std::sync::Arc;

use crate::ast::{Call, Expr, Fold, Id, Issue, Kind, Literal, Source};
use crate::decl::Env;
use crate::functions::{self, Overload};
use crate::parser::qualified;
use crate::types::{Type, named};
use crate::unify::Unifier;
use crate::validate;

/// What the checker found out about the nodes of a tree.
#[derive(Clone, Debug, Default)]
pub(crate) struct Checked {
    types: Vec<Type>,
    overloads: HashMap<Id, Vec<&'static str>>,
    /// Nodes that are a type as a value.
    constants: HashMap<Id, Type>,
}

impl Checked {
    /// The type of a node.
    pub(crate) fn ty(&self, id: Id) -> &Type {
        self.types.get(id).unwrap_or(&Type::Dyn)
    }

    /// The overloads that a call may mean; several when types are known only later.
    pub(crate) fn overloads(&self, id: Id) -> &[&'static str] {
        self.overloads.get(&id).map_or(&[], Vec::as_slice)
    }

    /// The type that a node is as a value.
    pub(crate) fn constant(&self, id: Id) -> Option<&Type> {
        self.constants.get(&id)
    }
}

/// Checks a tree and writes qualified names into it.
pub(crate) fn check(expr: &mut Expr, source: &Source, env: &Env) -> Result<Checked, Vec<Issue>> {
    let checked = Checked { types: vec![Type::Error; source.offsets.len()], ..Checked::default() };
    let mut checker =
        Checker { env, source, checked, unifier: Unifier::default(), scopes: Vec::new(), issues: Vec::new() };
    checker.check(expr);
    let Checker { mut checked, unifier, mut issues, .. } = checker;
    if issues.is_empty() {
        for ty in &mut checked.types {
            *ty = unifier.substitute(ty, true);
        }
        validate::validate(expr, source, &checked, &mut issues);
    }
    if issues.is_empty() { Ok(checked) } else { Err(issues) }
}

/// Most parts that a type may have: types of nested literals can grow without bound.
const HEAVIEST: usize = 2000;
/// Most issues that are told.
const MOST_ISSUES: usize = 100;

struct Checker<'e> {
    env: &'e Env,
    source: &'e Source,
    checked: Checked,
    unifier: Unifier,
    scopes: Vec<(Arc<str>, Type)>,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, id: Id, message: String) {
        if self.issues.len() < MOST_ISSUES {
            let offset = self.source.offsets.get(id).copied().unwrap_or_default() as usize;
            self.issues.push(Issue { offset, message });
        }
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
    }

    fn set(&mut self, id: Id, ty: Type) {
        let ty = if self.unifier.weight(&ty, HEAVIEST) > HEAVIEST {
            self.issue(id, "type is too complex".to_owned());
            Type::Error
        } else {
            ty
        };
        if let Some(slot) = self.checked.types.get_mut(id) {
            *slot = ty;
        }
    }

    fn ty(&self, expr: &Expr) -> Type {
        self.checked.ty(expr.id).clone()
    }

    fn check(&mut self, expr: &mut Expr) {
        let id = expr.id;
        match &mut expr.kind {
            Kind::Literal(literal) => {
                let ty = literal_type(literal);
                self.set(id, ty);
            }
            Kind::Ident(name) => {
                let name = name.clone();
                if !self.resolve(id, &name) {
                    self.undeclared(id, &name);
                    self.set(id, Type::Error);
                }
            }
            Kind::Select { .. } => self.select(expr),
            Kind::Call(call) => self.call(id, call),
            Kind::List(list) => self.list(id, list),
            Kind::Map(_) => self.map(expr),
            Kind::Struct { name, fields } => {
                let name = name.clone();
                for (_, value) in fields {
                    self.check(value);
                }
                self.undeclared(id, &name);
                self.set(id, Type::Error);
            }
            Kind::Fold(fold) => self.fold(id, fold),
        }
    }

    /// Takes a name for a variable or a type.
    fn resolve(&mut self, id: Id, name: &str) -> bool {
        let local = self.scopes.iter().rev().find(|(one, _)| **one == *name).map(|(_, ty)| ty.clone());
        if let Some(ty) = local.or_else(|| self.env.variable(name).map(|variable| variable.ty.clone())) {
            self.set(id, ty);
            return true;
        }
        let Some(ty) = named(name) else { return false };
        self.checked.constants.insert(id, ty.clone());
        self.set(id, Type::Type(Arc::new(ty)));
        true
    }

    fn select(&mut self, expr: &mut Expr) {
        let (id, name) = (expr.id, qualified(expr));
        if let Some(name) = name.filter(|name| named(name).is_some() && self.resolve(id, name)) {
            expr.kind = Kind::Ident(name.into());
            return;
        }
        let Kind::Select { operand, field, test } = &mut expr.kind else { return };
        self.check(operand);
        let mut ty = self.field(id, operand, field, false);
        if *test {
            ty = Type::Bool;
        }
        let ty = self.unifier.substitute(&ty, false);
        self.set(id, ty);
    }

    /// The type of a field of what is selected from.
    fn field(&mut self, id: Id, operand: &Expr, field: &str, optional: bool) -> Type {
        let ty = self.unifier.substitute(&self.ty(operand), false);
        let (target, is_optional) = match &ty {
            Type::Optional(inner) => ((**inner).clone(), true),
            _ => (ty, false),
        };
        let result = match &target {
            Type::Map(both) => both.1.clone(),
            Type::Object(object) => match object.field(field) {
                Some(found) => found.decl.ty.clone(),
                None => {
                    self.issue(id, format!("undefined field '{field}'"));
                    Type::Error
                }
            },
            Type::Kube(kube) if !matches!(kube, crate::types::Kube::Ip | crate::types::Kube::Cidr) => {
                self.issue(id, format!("undefined field '{field}'"));
                Type::Error
            }
            Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, &target);
                Type::Dyn
            }
            Type::Dyn | Type::Error => Type::Dyn,
            other => {
                self.issue(id, format!("type '{other}' does not support field selection"));
                Type::Dyn
            }
        };
        if optional || is_optional { Type::optional(result) } else { result }
    }

    fn call(&mut self, id: Id, call: &mut Call) {
        if &*call.function == "_?._" && call.target.is_none() {
            if let [operand, field] = call.args.as_mut_slice() {
                self.check(operand);
                if let Kind::Literal(Literal::String(name)) = &field.kind {
                    let ty = self.field(id, operand, name, true);
                    let ty = self.unifier.substitute(&ty, false);
                    self.set(id, ty);
                    self.set(field.id, Type::String);
                    self.checked.overloads.insert(id, vec!["select_optional_field"]);
                }
            }
            return;
        }
        for arg in &mut call.args {
            self.check(arg);
        }
        if let Some(target) = &mut call.target {
            let name = qualified(target).map(|prefix| format!("{prefix}.{}", call.function));
            if let Some(name) = name.filter(|name| functions::lookup(name).is_some()) {
                call.function = name.into();
                call.target = None;
            } else {
                self.check(target);
            }
        }
        let Some(overloads) = functions::lookup(&call.function) else {
            let name = call.function.clone();
            self.undeclared(id, &name);
            self.set(id, Type::Error);
            return;
        };
        self.resolve_overload(id, call, overloads);
    }

    fn resolve_overload(&mut self, id: Id, call: &Call, overloads: &'static [Overload]) {
        let member = call.target.is_some();
        let args: Vec<Type> =
            call.target.as_deref().into_iter().chain(&call.args).map(|arg| self.ty(arg)).collect();
        if matches!(&*call.function, "_&&_" | "_||_") {
            let mut fine = true;
            for (arg, ty) in call.args.iter().zip(&args) {
                if !self.unifier.assignable(ty, &Type::Bool) {
                    let found = self.unifier.substitute(ty, true);
                    self.issue(arg.id, format!("expected type 'bool' but found '{found}'"));
                    fine = false;
                }
            }
            self.checked.overloads.insert(id, overloads.iter().map(|one| one.id).collect());
            self.set(id, if fine { Type::Bool } else { Type::Error });
            return;
        }
        let mut found: Option<Type> = None;
        let mut ids = Vec::new();
        for overload in overloads.iter().filter(|one| one.member == member) {
            let fresh: Vec<Type> = (0..overload.params).map(|_| self.unifier.fresh()).collect();
            let candidates: Vec<Type> = overload.args.iter().map(|arg| instantiate(arg, &fresh)).collect();
            if !self.unifier.assignable_all(&args, &candidates) {
                continue;
            }
            ids.push(overload.id);
            let result = self.unifier.substitute(&instantiate(&overload.result, &fresh), false);
            found = Some(match found {
                None => result,
                Some(before) if !before.is_dyn() && result != before => Type::Dyn,
                Some(before) => before,
            });
        }
        let Some(ty) = found else {
            let mut args = args.iter().map(|arg| self.unifier.substitute(arg, true).to_string());
            let target = if member {
                args.next().map(|one| format!("{one}.")).unwrap_or_default()
            } else {
                String::new()
            };
            let args: Vec<String> = args.collect();
            let signature = format!("{target}({})", args.join(", "));
            self.issue(
                id,
                format!("found no matching overload for '{}' applied to '{signature}'", call.function),
            );
            self.set(id, Type::Error);
            return;
        };
        self.checked.overloads.insert(id, ids);
        self.set(id, ty);
    }

    fn optional_inner(&mut self, expr: &Expr, ty: Type) -> Type {
        match ty {
            Type::Optional(inner) => (*inner).clone(),
            ty => {
                if !ty.is_dyn() {
                    self.issue(expr.id, format!("expected type 'optional_type({ty})' but found '{ty}'"));
                }
                ty
            }
        }
    }

    /// The more general of two types that agree; dynamic where they do not.
    fn join(&mut self, before: Option<Type>, ty: Type) -> Type {
        match before {
            None => ty,
            Some(before) if self.unifier.assignable(&before, &ty) => Unifier::most_general(before, ty),
            Some(_) => Type::Dyn,
        }
    }

    fn list(&mut self, id: Id, list: &mut [(Expr, bool)]) {
        let mut element = None;
        for (expr, optional) in list {
            self.check(expr);
            let mut ty = self.ty(expr);
            if *optional {
                ty = self.optional_inner(expr, ty);
            }
            element = Some(self.join(element, ty));
        }
        let element = element.unwrap_or_else(|| self.unifier.fresh());
        self.set(id, Type::list(element));
    }

    fn map(&mut self, expr: &mut Expr) {
        let Kind::Map(entries) = &mut expr.kind else { return };
        let (mut key, mut value) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let ty = self.ty(&entry.key);
            key = Some(self.join(key, ty));
            self.check(&mut entry.value);
            let mut ty = self.ty(&entry.value);
            if entry.optional {
                ty = self.optional_inner(&entry.value, ty);
            }
            value = Some(self.join(value, ty));
        }
        let key = key.unwrap_or_else(|| self.unifier.fresh());
        let value = value.unwrap_or_else(|| self.unifier.fresh());
        self.set(expr.id, Type::map(key, value));
    }

    fn fold(&mut self, id: Id, fold: &mut Fold) {
        self.check(&mut fold.range);
        self.check(&mut fold.init);
        let range = self.unifier.substitute(&self.ty(&fold.range), false);
        let accu = self.ty(&fold.init);
        let two = fold.var2.is_some();
        let (first, second) = match &range {
            Type::List(element) if two => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Dyn),
            Type::Map(both) => (both.0.clone(), both.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, &range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.issue(fold.range.id, message);
                (Type::Error, Type::Error)
            }
        };
        let outer = self.scopes.len();
        self.scopes.push((fold.accu.clone(), accu.clone()));
        self.scopes.push((fold.var.clone(), first));
        if let Some(var2) = &fold.var2 {
            self.scopes.push((var2.clone(), second));
        }
        self.check(&mut fold.condition);
        self.assert(&fold.condition, &Type::Bool);
        self.check(&mut fold.step);
        self.assert(&fold.step, &accu);
        self.scopes.truncate(outer + 1);
        self.check(&mut fold.result);
        self.scopes.truncate(outer);
        let ty = self.unifier.substitute(&self.ty(&fold.result), false);
        self.set(id, ty);
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let ty = self.ty(expr);
        if !self.unifier.assignable(wanted, &ty) {
            let (wanted, ty) = (self.unifier.substitute(wanted, false), self.unifier.substitute(&ty, false));
            self.issue(expr.id, format!("expected type '{wanted}' but found '{ty}'"));
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}

fn instantiate(ty: &Type, fresh: &[Type]) -> Type {
    match ty {
        Type::Param(number) => fresh.get(*number as usize).cloned().unwrap_or(Type::Dyn),
        Type::List(one) => Type::list(instantiate(one, fresh)),
        Type::Optional(one) => Type::optional(instantiate(one, fresh)),
        Type::Type(one) => Type::Type(Arc::new(instantiate(one, fresh))),
        Type::Map(both) => Type::map(instantiate(&both.0, fresh), instantiate(&both.1, fresh)),
        other => other.clone(),
    }
}
