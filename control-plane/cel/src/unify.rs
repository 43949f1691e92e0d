//! Which types agree, and what that says of those not yet known.

use std::sync::Arc;

use crate::types::{Kube, Type};

/// What is known of type variables.
#[derive(Default)]
pub(crate) struct Unifier {
    known: Vec<Option<Type>>,
    /// What variables were before they changed, to go back to when an attempt fails.
    trail: Vec<(u32, Option<Type>)>,
}

impl Unifier {
    /// A variable of which nothing is known.
    pub(crate) fn fresh(&mut self) -> Type {
        self.known.push(None);
        Type::Param(self.known.len() as u32 - 1)
    }

    fn bound(&self, number: u32) -> Option<&Type> {
        self.known.get(number as usize).and_then(Option::as_ref)
    }

    fn bind(&mut self, number: u32, ty: Type) {
        if let Some(slot) = self.known.get_mut(number as usize) {
            self.trail.push((number, slot.replace(ty)));
        }
    }

    /// Parts that a type has once variables are replaced; counting stops past `most`.
    pub(crate) fn weight(&self, ty: &Type, most: usize) -> usize {
        let (mut count, mut rest) = (0, vec![ty]);
        while let Some(ty) = rest.pop() {
            count += 1;
            if count > most {
                break;
            }
            rest.extend(self.shallow(ty).parts().into_iter().flatten());
        }
        count
    }

    /// What a variable stands for, if anything is known of it.
    fn shallow<'t>(&'t self, mut ty: &'t Type) -> &'t Type {
        while let Type::Param(number) = ty {
            match self.bound(*number) {
                Some(next) => ty = next,
                None => break,
            }
        }
        ty
    }

    /// A type with its variables replaced; those unknown become dynamic if so wanted.
    pub(crate) fn substitute(&self, ty: &Type, to_dyn: bool) -> Type {
        match self.shallow(ty) {
            Type::Param(_) if to_dyn => Type::Dyn,
            Type::List(one) => Type::list(self.substitute(one, to_dyn)),
            Type::Optional(one) => Type::optional(self.substitute(one, to_dyn)),
            Type::Type(one) => Type::Type(Arc::new(self.substitute(one, to_dyn))),
            Type::Map(both) => Type::map(self.substitute(&both.0, to_dyn), self.substitute(&both.1, to_dyn)),
            other => other.clone(),
        }
    }

    /// Whether a value of the first type may be used as the second; remembers what that says of variables.
    pub(crate) fn assignable(&mut self, a: &Type, b: &Type) -> bool {
        self.attempt(|unifier| unifier.fits(a, b))
    }

    /// [`Self::assignable`] for lists of types.
    pub(crate) fn assignable_all(&mut self, a: &[Type], b: &[Type]) -> bool {
        a.len() == b.len() && self.attempt(|unifier| a.iter().zip(b).all(|(a, b)| unifier.fits(a, b)))
    }

    fn attempt(&mut self, run: impl FnOnce(&mut Self) -> bool) -> bool {
        self.trail.clear();
        let fine = run(self);
        if !fine {
            while let Some((number, before)) = self.trail.pop() {
                if let Some(slot) = self.known.get_mut(number as usize) {
                    *slot = before;
                }
            }
        }
        fine
    }

    fn fits(&mut self, a: &Type, b: &Type) -> bool {
        if matches!(b, Type::Param(_)) {
            let (valid, known) = self.substitutes(a, b);
            if valid || known {
                return valid;
            }
        }
        if matches!(a, Type::Param(_)) {
            return self.substitutes(b, a).0;
        }
        let wild = |ty: &Type| matches!(ty, Type::Dyn | Type::Error);
        if wild(a) || wild(b) {
            return true;
        }
        match (a, b) {
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(a), Type::List(b)) | (Type::Optional(a), Type::Optional(b)) => self.fits(a, b),
            (Type::Map(a), Type::Map(b)) => self.fits(&a.0, &b.0) && self.fits(&a.1, &b.1),
            (a, b) => a == b,
        }
    }

    /// Whether `ty` may stand for the variable, and whether something was known of it before.
    fn substitutes(&mut self, ty: &Type, variable: &Type) -> (bool, bool) {
        let Type::Param(number) = *variable else { return (false, false) };
        if ty == variable {
            return (true, true);
        }
        if let Some(known) = self.bound(number).cloned() {
            if known == *ty {
                return (true, true);
            }
            if !self.fits(ty, &known) {
                return (false, true);
            }
            let general = Self::most_general(ty.clone(), known);
            if self.absent(number, &general) {
                self.bind(number, general);
            }
            return (true, true);
        }
        if !self.absent(number, ty) {
            return (false, false);
        }
        self.bind(number, ty.clone());
        (true, false)
    }

    /// Whether a variable does not occur in a type.
    fn absent(&self, number: u32, ty: &Type) -> bool {
        let mut ty = ty;
        while let Type::Param(one) = ty {
            if *one == number {
                return false;
            }
            match self.bound(*one) {
                Some(next) => ty = next,
                None => return true,
            }
        }
        ty.parts().into_iter().flatten().all(|part| self.absent(number, part))
    }

    /// The more general of two types that agree.
    pub(crate) fn most_general(a: Type, b: Type) -> Type {
        if less_specific(&a, &b) { a } else { b }
    }
}

fn less_specific(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Dyn | Type::Param(_), _) => true,
        (_, Type::Dyn | Type::Param(_)) => false,
        (Type::Optional(a), Type::Optional(b)) | (Type::List(a), Type::List(b)) => less_specific(a, b),
        (Type::Map(a), Type::Map(b)) => less_specific(&a.0, &b.0) && less_specific(&a.1, &b.1),
        (Type::Type(_), Type::Type(_)) => true,
        (a, b) => a == b,
    }
}

/// What `null` may stand for.
fn nullable(ty: &Type) -> bool {
    matches!(
        ty,
        Type::Null
            | Type::Optional(_)
            | Type::Object(_)
            | Type::Duration
            | Type::Timestamp
            | Type::Kube(Kube::Quantity | Kube::Url | Kube::Ip | Kube::Cidr | Kube::Format | Kube::Semver)
    )
}
