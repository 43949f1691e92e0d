//! Expressions of built-in kinds: what they may name, as `k8s.io/apiserver/pkg/admission/plugin/cel` and
//! `k8s.io/dynamic-resource-allocation/cel` declare it.

use std::collections::BTreeMap;
use std::sync::Arc;

use skep_api::expressions::{About, Expression, Wanted};

use crate::decl::{Decl, Env, Field, ListKind, MAX_REQUEST_BYTES, Object, Scalar, Shape};
use crate::program::{CompileError, Program};
use crate::types::{Kube, Type};

/// What a declared field holds.
#[derive(Clone, Copy)]
enum Part {
    Any,
    Bool,
    Int,
    Text,
    Time,
    Quantity,
    ListOf(&'static Part),
    MapOf(&'static Part),
    Object(&'static str, &'static [(&'static str, Part)]),
}

use Part::{Any, Bool, Int, ListOf, MapOf, Text, Time};

const KIND: Part =
    Part::Object("kubernetes.GroupVersionKind", &[("group", Text), ("version", Text), ("kind", Text)]);
const RESOURCE: Part = Part::Object(
    "kubernetes.GroupVersionResource",
    &[("group", Text), ("version", Text), ("resource", Text)],
);
const USER: Part = Part::Object(
    "kubernetes.UserInfo",
    &[("username", Text), ("uid", Text), ("groups", ListOf(&Text)), ("extra", MapOf(&ListOf(&Text)))],
);
const REQUEST: Part = Part::Object(
    "kubernetes.AdmissionRequest",
    &[
        ("kind", KIND),
        ("resource", RESOURCE),
        ("subResource", Text),
        ("requestKind", KIND),
        ("requestResource", RESOURCE),
        ("requestSubResource", Text),
        ("name", Text),
        ("namespace", Text),
        ("operation", Text),
        ("userInfo", USER),
        ("dryRun", Bool),
        ("options", Any),
    ],
);
const METADATA: Part = Part::Object(
    "kubernetes.NamespaceMetadata",
    &[
        ("name", Text),
        ("generateName", Text),
        ("namespace", Text),
        ("labels", MapOf(&Text)),
        ("annotations", MapOf(&Text)),
        ("UID", Text),
        ("creationTimestamp", Time),
        ("deletionGracePeriodSeconds", Int),
        ("deletionTimestamp", Time),
        ("generation", Int),
        ("resourceVersion", Text),
        ("finalizers", ListOf(&Text)),
    ],
);
const NAMESPACE: Part = Part::Object(
    "kubernetes.Namespace",
    &[
        ("metadata", METADATA),
        ("spec", Part::Object("kubernetes.NamespaceSpec", &[("finalizers", ListOf(&Text))])),
        ("status", Part::Object("kubernetes.NamespaceStatus", &[("phase", Text)])),
    ],
);
const DEVICE: Part = Part::Object(
    "kubernetes.DRADevice",
    &[
        ("driver", Text),
        ("attributes", MapOf(&MapOf(&Any))),
        ("capacity", MapOf(&MapOf(&Part::Quantity))),
        ("allowMultipleAllocations", Bool),
    ],
);
/// What asks the authorizer. That library is not there: what names it is not looked at.
const AUTHORIZER: &str = "authorizer";

fn decl(part: Part) -> Arc<Decl> {
    let make = |ty, shape| {
        Arc::new(Decl { ty, max_elements: MAX_REQUEST_BYTES, min_size: 1, nullable: false, shape })
    };
    let scalar = |ty, scalar| make(ty, Shape::Scalar(scalar));
    match part {
        Any => Decl::any(),
        Bool => scalar(Type::Bool, Scalar::Bool),
        Int => scalar(Type::Int, Scalar::Int),
        Text => scalar(Type::String, Scalar::String),
        Time => scalar(Type::Timestamp, Scalar::DateTime),
        Part::Quantity => make(Type::Kube(Kube::Quantity), Shape::Any),
        ListOf(part) => {
            let element = decl(*part);
            make(Type::list(element.ty.clone()), Shape::List(element, ListKind::Atomic))
        }
        MapOf(part) => {
            let value = decl(*part);
            make(Type::map(Type::String, value.ty.clone()), Shape::Map(value))
        }
        Part::Object(name, fields) => {
            object(name, fields.iter().map(|(name, part)| ((*name).to_owned(), decl(*part))))
        }
    }
}

fn object(name: &str, fields: impl Iterator<Item = (String, Arc<Decl>)>) -> Arc<Decl> {
    let mut object = Object { name: name.to_owned(), fields: BTreeMap::new(), by_json: BTreeMap::new() };
    for (name, decl) in fields {
        let name: Arc<str> = name.into();
        object.by_json.insert(name.clone(), (Some(name.clone()), decl.clone()));
        object.fields.insert(name.clone(), Field { json: name, decl });
    }
    let object = Arc::new(object);
    Arc::new(Decl {
        ty: Type::Object(object.clone()),
        max_elements: MAX_REQUEST_BYTES,
        min_size: 2,
        nullable: false,
        shape: Shape::Object(object),
    })
}

/// The variables of an environment.
fn env(about: &About) -> Env {
    let (params, variables) = match about {
        About::Device => return Env::new().with("device", decl(DEVICE)),
        About::Request { params, variables } => (*params, variables),
    };
    let mut env = Env::new()
        .with("namespaceObject", decl(NAMESPACE))
        .with("object", Decl::any())
        .with("oldObject", Decl::any())
        .with("request", decl(REQUEST));
    if params {
        env = env.with("params", Decl::any());
    }
    let Some(variables) = variables else { return env };
    // Each sees those before it; one that has no meaning is of a type that nobody knows.
    let mut declared: Vec<(String, Arc<Decl>)> = Vec::new();
    for (name, text) in variables.iter() {
        let before = env.clone().with("variables", object("kubernetes.variables", declared.iter().cloned()));
        let found = Program::compile(text, &before, None).ok().map(|program| program.ty().clone());
        let ty = found.unwrap_or(Type::Dyn);
        let value =
            Decl { ty, max_elements: MAX_REQUEST_BYTES, min_size: 1, nullable: true, shape: Shape::Any };
        declared.push((name.clone(), Arc::new(value)));
    }
    env.with("variables", object("kubernetes.variables", declared.into_iter()))
}

/// Why an expression has no meaning where it stands; nothing where it has, or where that cannot be told.
pub(crate) fn problem(expression: &Expression) -> Option<String> {
    let names_authorizer = |text: &str| text.contains(AUTHORIZER);
    let through = match &expression.about {
        About::Request { variables: Some(variables), .. } => {
            variables.iter().any(|(_, text)| names_authorizer(text))
        }
        _ => false,
    };
    if through || names_authorizer(&expression.text) {
        return None;
    }
    match Program::compile(&expression.text, &env(&expression.about), None) {
        Err(CompileError::Issues(issues)) => Some(format!("compilation failed: {issues}")),
        Err(CompileError::Constant(why)) => Some(format!("program instantiation failed: {why}")),
        Err(CompileError::Type { wanted, .. }) => Some(format!("must evaluate to {wanted}")),
        Ok(program) => wrong_type(expression, program.ty()),
    }
}

fn wrong_type(expression: &Expression, found: &Type) -> Option<String> {
    let wanted = match expression.wanted {
        Wanted::Any => return None,
        Wanted::Bool => vec![Type::Bool],
        Wanted::Text => vec![Type::String],
        Wanted::TextOrNull => vec![Type::String, Type::Null],
    };
    if wanted.contains(found) {
        return None;
    }
    let names: Vec<&str> = wanted.iter().map(Type::name).collect();
    match (&expression.about, &names[..]) {
        (About::Device, _) if matches!(found, Type::Dyn) => None,
        (About::Device, [one]) => Some(format!("must evaluate to {one} or the unknown type, not {found}")),
        (_, [one]) => Some(format!("must evaluate to {one}")),
        (_, several) => Some(format!("must evaluate to one of [{}]", several.join(" "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(variables: Option<&[(&str, &str)]>) -> About {
        let owned =
            |all: &[(&str, &str)]| all.iter().map(|(n, e)| ((*n).to_owned(), (*e).to_owned())).collect();
        About::Request { params: false, variables: variables.map(owned) }
    }

    fn said(text: &str, about: About, wanted: Wanted) -> String {
        let path = skep_api::Path::default();
        problem(&Expression { path, text: text.to_owned(), about, wanted }).unwrap_or_default()
    }

    #[test]
    fn what_expressions_may_name() {
        let own: &[(&str, &str)] = &[("own", "object.metadata.name"), ("twice", "variables.own + 'x'")];
        for (text, about, wanted, expected) in [
            ("request.namespace == 'd' && object.x > 1", request(None), Wanted::Bool, ""),
            ("request.userInfo.extra['a'][0].startsWith('b')", request(None), Wanted::Bool, ""),
            ("namespaceObject.metadata.labels.a == 'b'", request(None), Wanted::Bool, ""),
            (
                "request.bogus",
                request(None),
                Wanted::Bool,
                "compilation failed: ERROR: <input>:1:8: undefined field 'bogus'",
            ),
            (
                "params.x == 1",
                request(None),
                Wanted::Bool,
                "compilation failed: ERROR: <input>:1:1: undeclared reference",
            ),
            ("object.x", request(None), Wanted::Bool, "must evaluate to bool"),
            ("1", request(None), Wanted::TextOrNull, "must evaluate to one of [string null_type]"),
            (
                "variables.own",
                request(None),
                Wanted::Any,
                "compilation failed: ERROR: <input>:1:1: undeclared reference",
            ),
            ("variables.twice.size() > 1", request(Some(own)), Wanted::Bool, ""),
            (
                "variables.other",
                request(Some(own)),
                Wanted::Any,
                "compilation failed: ERROR: <input>:1:10: undefined field",
            ),
            ("authorizer.group('').resource('pods').check('get').allowed()", request(None), Wanted::Bool, ""),
            ("device.driver == 'x' && device.attributes['x'].cores > 1", About::Device, Wanted::Bool, ""),
            ("device.capacity['x'].m.isGreaterThan(quantity('1'))", About::Device, Wanted::Bool, ""),
            (
                "device.driver",
                About::Device,
                Wanted::Bool,
                "must evaluate to bool or the unknown type, not string",
            ),
        ] {
            let found = said(text, about, wanted);
            assert!(
                found.starts_with(expected) && found.is_empty() == expected.is_empty(),
                "{text}: {found}"
            );
        }
    }
}
