//! Role-based access control as plain functions: an index of roles and bindings, and the decision over it.
//!
//! The rules are those of `k8s.io/kubernetes/plugin/pkg/auth/authorizer/rbac` and `rbac/v1` evaluation helpers.

use crate::request::{RequestInfo, UserInfo};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

/// `rbac.authorization.k8s.io/v1` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// API groups; `*` is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub api_groups: Vec<Box<str>>,
    /// Resources, or `resource/subresource`, `*/subresource`, `*`.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub resources: Vec<Box<str>>,
    /// Names the rule is limited to; empty is all.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub resource_names: Vec<Box<str>>,
    /// Paths that name no resource; a trailing `*` stands for any rest.
    #[serde(rename = "nonResourceURLs", skip_serializing_if = "Vec::is_empty", deserialize_with = "list")]
    pub non_resource_urls: Vec<Box<str>>,
    /// Verbs; `*` is all.
    #[serde(deserialize_with = "list")]
    pub verbs: Vec<Box<str>>,
}

fn list<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<str>>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// What a request wants to do, as rules see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish<'a> {
    /// Something with a resource.
    Resource {
        /// Verb.
        verb: &'a str,
        /// API group, empty for core.
        group: &'a str,
        /// Plural name.
        resource: &'a str,
        /// Subresource, or empty.
        subresource: &'a str,
        /// Namespace, empty for the whole cluster.
        namespace: &'a str,
        /// Name, or empty.
        name: &'a str,
        /// The field selector of a list, a watch or the deletion of a collection, or empty.
        fields: &'a str,
    },
    /// Something with a path.
    Path {
        /// Lower-case method.
        verb: &'a str,
        /// The path.
        path: &'a str,
    },
}

impl<'a> From<&'a RequestInfo> for Wish<'a> {
    fn from(info: &'a RequestInfo) -> Self {
        if info.is_resource {
            Wish::Resource {
                verb: &info.verb,
                group: &info.group,
                resource: &info.resource,
                subresource: &info.subresource,
                namespace: &info.namespace,
                name: &info.name,
                fields: &info.fields,
            }
        } else {
            Wish::Path { verb: &info.verb, path: &info.path }
        }
    }
}

fn has(set: &[Box<str>], wanted: &str) -> bool {
    set.iter().any(|s| **s == *"*" || **s == *wanted)
}

impl Rule {
    /// The rules that allow everything there is.
    pub fn everything() -> [Rule; 2] {
        let all = || vec!["*".into()];
        [
            Rule { api_groups: all(), resources: all(), verbs: all(), ..Rule::default() },
            Rule { non_resource_urls: all(), verbs: all(), ..Rule::default() },
        ]
    }

    /// Whether the rule allows the wish.
    pub fn allows(&self, wish: &Wish<'_>) -> bool {
        match *wish {
            Wish::Resource { verb, group, resource, subresource, name, .. } => {
                has(&self.verbs, verb)
                    && has(&self.api_groups, group)
                    && self.covers_resource(resource, subresource)
                    && (self.resource_names.is_empty() || self.resource_names.iter().any(|n| **n == *name))
            }
            Wish::Path { verb, path } => has(&self.verbs, verb) && self.covers_path(path),
        }
    }

    fn covers_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|r| match (r.split_once('/'), subresource) {
            (None, "") => **r == *"*" || **r == *resource,
            (None, _) => **r == *"*",
            (Some(_), "") => false,
            (Some((main, sub)), _) => (main == "*" || main == resource) && sub == subresource,
        })
    }

    fn covers_path(&self, path: &str) -> bool {
        self.non_resource_urls.iter().any(|url| match url.strip_suffix('*') {
            Some(prefix) => path.starts_with(prefix.trim_end_matches('*')),
            None => **url == *path,
        })
    }
}

/// Who a binding is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A user.
    User(Box<str>),
    /// A group.
    Group(Box<str>),
    /// A service account, by namespace and name.
    Account(Box<str>, Box<str>),
}

impl Subject {
    /// The subject as requests name it: a service account is the user of its name.
    fn key(&self) -> Subject {
        match self {
            Subject::Account(namespace, name) => {
                Subject::User(format!("system:serviceaccount:{namespace}:{name}").into())
            }
            other => other.clone(),
        }
    }

    fn is(&self, user: &UserInfo) -> bool {
        match self.key() {
            Subject::Group(group) => user.in_group(&group),
            Subject::User(name) | Subject::Account(_, name) => *name == *user.name,
        }
    }
}

impl std::fmt::Display for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Subject::User(name) => write!(f, "User {name:?}"),
            Subject::Group(name) => write!(f, "Group {name:?}"),
            Subject::Account(namespace, name) => write!(f, "ServiceAccount \"{name}/{namespace}\""),
        }
    }
}

/// A RoleBinding, or a ClusterRoleBinding where `namespace` is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Binding {
    /// Namespace, empty for a ClusterRoleBinding.
    pub namespace: Box<str>,
    /// Name.
    pub name: Box<str>,
    /// Whether the role is a ClusterRole.
    pub cluster_role: bool,
    /// Name of the role.
    pub role: Box<str>,
    /// Who is bound.
    pub subjects: Vec<Subject>,
}

type Key = (Box<str>, Box<str>);

/// The roles and bindings of a cluster, indexed by subject; kept up one change at a time.
#[derive(Debug, Default)]
pub struct Policy {
    roles: HashMap<Key, Arc<[Rule]>>,
    bindings: BTreeMap<Key, Binding>,
    /// Bindings by namespace and subject.
    by_subject: HashMap<(Box<str>, Subject), BTreeSet<Box<str>>>,
}

impl Policy {
    /// Puts a role; a ClusterRole has an empty namespace.
    pub fn put_role(&mut self, namespace: &str, name: &str, rules: Vec<Rule>) {
        self.roles.insert((namespace.into(), name.into()), rules.into());
    }

    /// Takes a role away.
    pub fn remove_role(&mut self, namespace: &str, name: &str) {
        self.roles.remove(&(namespace.into(), name.into()));
    }

    /// Rules of a role.
    pub fn role(&self, namespace: &str, name: &str) -> Option<&Arc<[Rule]>> {
        self.roles.get(&(namespace.into(), name.into()))
    }

    /// Puts a binding in the place of one of its name.
    pub fn put_binding(&mut self, binding: Binding) {
        self.remove_binding(&binding.namespace.clone(), &binding.name.clone());
        for subject in &binding.subjects {
            let key = (binding.namespace.clone(), subject.key());
            self.by_subject.entry(key).or_default().insert(binding.name.clone());
        }
        self.bindings.insert((binding.namespace.clone(), binding.name.clone()), binding);
    }

    /// Takes a binding away.
    pub fn remove_binding(&mut self, namespace: &str, name: &str) {
        let Some(old) = self.bindings.remove(&(namespace.into(), name.into())) else { return };
        for subject in old.subjects {
            let key = (old.namespace.clone(), subject.key());
            if let Some(names) = self.by_subject.get_mut(&key) {
                names.remove(&old.name);
                if names.is_empty() {
                    self.by_subject.remove(&key);
                }
            }
        }
    }

    /// Visits the rules that bind a user in a namespace (empty: only those for the whole cluster). A binding to a role that is
    /// not there is visited as an error.
    fn visit<B>(
        &self,
        user: &UserInfo,
        namespace: &str,
        mut each: impl FnMut(Result<(&Binding, &Rule), String>) -> ControlFlow<B>,
    ) -> Option<B> {
        let scopes: &[&str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for scope in scopes {
            let mut names = BTreeSet::new();
            let subjects = std::iter::once(Subject::User(user.name.as_str().into()))
                .chain(user.groups.iter().map(|g| Subject::Group(g.as_str().into())));
            for subject in subjects {
                if let Some(found) = self.by_subject.get(&((*scope).into(), subject)) {
                    names.extend(found.iter());
                }
            }
            for name in names {
                let Some(binding) = self.bindings.get(&((*scope).into(), name.clone())) else { continue };
                let role_namespace = if binding.cluster_role { "" } else { scope };
                let Some(rules) = self.role(role_namespace, &binding.role) else {
                    let kind = if binding.cluster_role { "clusterrole" } else { "role" };
                    let why = format!("{kind}.rbac.authorization.k8s.io \"{}\" not found", binding.role);
                    if let ControlFlow::Break(out) = each(Err(why)) {
                        return Some(out);
                    }
                    continue;
                };
                for rule in rules.iter() {
                    if let ControlFlow::Break(out) = each(Ok((binding, rule))) {
                        return Some(out);
                    }
                }
            }
        }
        None
    }

    /// Decides: the reason it is allowed, or why it may be missing (often nothing: no rule said yes).
    pub fn decide(&self, user: &UserInfo, wish: &Wish<'_>) -> Result<String, String> {
        if user.in_group(MASTERS) {
            return Ok(String::new());
        }
        let namespace = if let Wish::Resource { namespace, .. } = wish { namespace } else { "" };
        let mut missing = Vec::new();
        let allowed = self.visit(user, namespace, |found| match found {
            Ok((binding, rule)) if rule.allows(wish) => ControlFlow::Break(allowed_by(binding, user)),
            Ok(_) => ControlFlow::Continue(()),
            Err(why) => {
                missing.push(why);
                ControlFlow::Continue(())
            }
        });
        if let Some(reason) = allowed {
            return Ok(reason);
        }
        Err(match missing.as_slice() {
            [] => String::new(),
            [one] => format!("RBAC: {one}"),
            many => format!("RBAC: [{}]", many.join(", ")),
        })
    }

    /// All rules that bind a user in a namespace, and what could not be resolved.
    pub fn rules_for(&self, user: &UserInfo, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut errors) = (Vec::new(), Vec::new());
        if user.in_group(MASTERS) {
            rules.extend(Rule::everything());
        }
        self.visit(user, namespace, |found| {
            match found {
                Ok((_, rule)) => rules.push(rule.clone()),
                Err(why) => errors.push(why),
            }
            ControlFlow::<()>::Continue(())
        });
        (rules, errors)
    }
}

/// Members may do everything, whatever the bindings say.
pub(super) const MASTERS: &str = "system:masters";

/// Why, for people: the binding, its role, and the first of its subjects that the user is.
fn allowed_by(binding: &Binding, user: &UserInfo) -> String {
    let role = if binding.cluster_role { "ClusterRole" } else { "Role" };
    let (kind, name) = match (&*binding.namespace, &binding.name) {
        ("", name) => ("ClusterRoleBinding", name.to_string()),
        (namespace, name) => ("RoleBinding", format!("{name}/{namespace}")),
    };
    let subject = binding.subjects.iter().find(|subject| subject.is(user));
    let to = subject.map(|subject| format!(" to {subject}")).unwrap_or_default();
    format!("RBAC: allowed by {kind} {name:?} of {role} {:?}{to}", binding.role)
}
