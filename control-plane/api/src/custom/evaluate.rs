//! Where rules of a schema are evaluated, with which old value, and what becomes of their answers.

use super::correlate::{Items, Keyed, Pair};
use super::numbers::Num;
use super::rules::{BUDGET, Compiled, Compiler, EvalError, Input, MESSAGE_MAX, Message, Old};
use super::structural::{Additional, Kind, Rule, Structural};
use crate::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeMap;

/// The rules of a schema, compiled: what lies at a node and below. Nodes without rules are left out.
#[derive(Debug, Default)]
pub struct Rules {
    here: Vec<Ready>,
    /// Why the rules here could not be compiled at all.
    broken: Option<String>,
    /// Whether the node is the root of a resource.
    root: bool,
    properties: BTreeMap<String, Rules>,
    additional: Option<Box<Rules>>,
    items: Option<Box<Rules>>,
    all_of: Vec<Rules>,
}

#[derive(Debug)]
struct Ready {
    rule: Rule,
    compiled: Compiled,
    /// The path of the field at fault below the node; empty for the node itself.
    path: String,
}

/// What was said of an object.
#[derive(Debug, Default)]
pub struct Verdict {
    /// What is wrong.
    pub errors: Vec<FieldError>,
    /// What is wrong as it was before, and so let through.
    pub warnings: Vec<String>,
}

impl Rules {
    /// Compiles all rules of a schema; none where it has none. `root` says that it is the schema of a resource.
    pub fn compile(compiler: &dyn Compiler, schema: &Structural, root: bool) -> Option<Self> {
        if schema.has_rules() { Rules::node(compiler, schema, schema, root) } else { None }
    }

    /// `checks` is `node`, or a schema of its `allOf`.
    fn node(compiler: &dyn Compiler, checks: &Structural, node: &Structural, root: bool) -> Option<Self> {
        let (compiled, broken) = if checks.rules.is_empty() {
            (Vec::new(), None)
        } else {
            match compiler.compile(node, &checks.rules, root) {
                Ok(compiled) => (compiled, None),
                Err(why) => (Vec::new(), Some(why)),
            }
        };
        let ready = |(rule, compiled): (&Rule, Compiled)| Ready {
            path: super::field_path(&rule.field_path, node)
                .map(|found| found.path.to_string())
                .unwrap_or_default(),
            rule: rule.clone(),
            compiled,
        };
        let below = |checks: Option<&Structural>, node: Option<&Structural>| {
            let (checks, node) = (checks?, node?);
            Rules::node(compiler, checks, node, node.embedded).map(Box::new)
        };
        let mut properties = BTreeMap::new();
        for (name, checks) in &checks.properties {
            if let Some(rules) = below(Some(checks), node.properties.get(name)) {
                properties.insert(name.clone(), *rules);
            }
        }
        let found = Rules {
            here: checks.rules.iter().zip(compiled).map(ready).collect(),
            broken,
            root,
            properties,
            additional: below(further(checks), further(node)),
            items: below(checks.items.as_deref(), node.items.as_deref()),
            all_of: checks
                .limits
                .all_of
                .iter()
                .filter_map(|checks| Rules::node(compiler, checks, node, root))
                .collect(),
        };
        (!found.is_empty()).then_some(found)
    }

    fn is_empty(&self) -> bool {
        self.here.is_empty()
            && self.broken.is_none()
            && self.properties.is_empty()
            && self.additional.is_none()
            && self.items.is_none()
            && self.all_of.is_empty()
    }

    /// Evaluates all rules on a value of `schema`, which they were compiled from. `old` is the value it comes from.
    pub fn evaluate(&self, schema: &Structural, value: &Value, old: Option<&Value>) -> Verdict {
        let mut run = Run { budget: BUDGET, verdict: Verdict::default() };
        let pair = old.map(|old| Pair { schema, new: value, old });
        // Where the budget ends, an error says so.
        let _ = run.node(self, schema, value, old, &Path::default(), Ratchet { here: pair, above: None });
        run.verdict
    }

    /// Evaluates all rules on a value at a place, within a budget of cost units, and lets nothing through. Returns what
    /// is left of the budget; `None` where it was used up.
    pub(super) fn evaluate_fresh(
        &self,
        schema: &Structural,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
        budget: u64,
    ) -> (Vec<FieldError>, Option<u64>) {
        let mut run = Run { budget, verdict: Verdict::default() };
        let ended = run.node(self, schema, value, old, path, Ratchet::default());
        (run.verdict.errors, ended.is_ok().then_some(run.budget))
    }
}

/// The schema of further fields.
fn further(schema: &Structural) -> Option<&Structural> {
    schema.additional.as_ref().and_then(Additional::schema)
}

/// The budget is used up; nothing more is evaluated.
struct Spent;

struct Run {
    budget: u64,
    verdict: Verdict,
}

/// What decides whether an error is let through: the pair of the node, or else of the nearest node above that has one.
#[derive(Clone, Copy, Default)]
struct Ratchet<'a> {
    here: Option<Pair<'a>>,
    above: Option<Pair<'a>>,
}

impl<'a> Ratchet<'a> {
    fn lets_through(&self) -> bool {
        self.here.or(self.above).is_some_and(|pair| pair.equal())
    }

    fn key(self, name: &str) -> Self {
        match self.here {
            None => self,
            // Both versions were brought to the same type before.
            Some(_) if self.above.is_none() && matches!(name, "apiVersion" | "kind") => Ratchet::default(),
            Some(pair) => Ratchet { here: pair.key(name), above: Some(pair) },
        }
    }

    fn index(self, items: Option<&Items<'a>>, at: usize) -> Self {
        match self.here {
            None => self,
            Some(pair) => Ratchet { here: items.and_then(|items| items.get(at)), above: Some(pair) },
        }
    }
}

impl Run {
    fn node(
        &mut self,
        rules: &Rules,
        schema: &Structural,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Spent> {
        if value.is_null() {
            return Ok(());
        }
        let old = old.filter(|old| !old.is_null());
        self.expressions(rules, schema, value, old, path, ratchet)?;
        for rules in &rules.all_of {
            let ratchet = Ratchet { here: None, above: ratchet.above };
            self.node(rules, schema, value, old, path, ratchet)?;
        }
        match value {
            Value::Array(list) => {
                let (Some(rules), Some(items)) = (&rules.items, schema.items.as_deref()) else {
                    return Ok(());
                };
                let before = old.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
                let keyed = Keyed::of(schema, before);
                let pairs = ratchet.here.map(|pair| pair.items());
                for (at, value) in list.iter().enumerate() {
                    let ratchet = ratchet.index(pairs.as_ref(), at);
                    self.node(rules, items, value, keyed.get(value), &path.index(at), ratchet)?;
                }
            }
            Value::Object(map) => {
                let before = |name: &str| old.and_then(|old| old.get(name));
                if let (Some(rules), Some(Additional::Schema(field))) =
                    (&rules.additional, &schema.additional)
                {
                    for (name, value) in map {
                        self.node(rules, field, value, before(name), &path.key(name), ratchet.key(name))?;
                    }
                }
                for (name, value) in map {
                    if let (Some(rules), Some(field)) =
                        (rules.properties.get(name), schema.properties.get(name))
                    {
                        self.node(rules, field, value, before(name), &path.child(name), ratchet.key(name))?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn invalid(&mut self, path: &Path, schema: &Structural, why: String) {
        self.verdict.errors.push(FieldError::invalid(shown(path), schema.kind.as_str().into(), why));
    }

    fn expressions(
        &mut self,
        rules: &Rules,
        schema: &Structural,
        value: &Value,
        old: Option<&Value>,
        path: &Path,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Spent> {
        if let Some(why) = &rules.broken {
            self.invalid(path, schema, format!("rule compiler initialization error: {why}"));
            return Ok(());
        }
        if rules.here.is_empty() {
            return Ok(());
        }
        if self.budget == 0 {
            return self.spent(path, schema);
        }
        for ready in &rules.here {
            let rule = &ready.rule;
            let condition = match &ready.compiled.rule {
                None => continue,
                Some(Ok(condition)) => condition,
                Some(Err(why)) => {
                    self.invalid(path, schema, format!("rule compile error: {why}"));
                    continue;
                }
            };
            let optional = rule.optional_old_self == Some(true);
            if ready.compiled.uses_old_self && old.is_none() && !optional {
                // There is nothing that it could speak of.
                continue;
            }
            let old = match (optional, old) {
                (true, old) => Old::Optional(old),
                (false, Some(old)) => Old::Value(old),
                (false, None) => Old::None,
            };
            let input = Input { node: schema, root: rules.root, this: value, old };
            let answer = condition.evaluate(&input);
            let Some(left) = self.budget.checked_sub(answer.cost) else { return self.spent(path, schema) };
            self.budget = left;
            let named = || name(rule);
            match answer.outcome {
                Ok(true) => {}
                Ok(false) => self.failed(ready, &input, path, ratchet)?,
                Err(EvalError::Overload(why)) => self.invalid(
                    path,
                    schema,
                    format!(
                        "'{why}': call arguments did not match a supported operator, function or macro signature \
                         for rule: {}",
                        named()
                    ),
                ),
                Err(EvalError::Limit(why)) => {
                    let message = format!(
                        "'{why}': no further validation rules will be run due to call cost exceeds limit for rule: {}",
                        named()
                    );
                    self.invalid(path, schema, message);
                    return Err(Spent);
                }
                Err(EvalError::Other(why)) => {
                    self.invalid(path, schema, format!("{why} evaluating rule: {}", named()));
                }
            }
        }
        Ok(())
    }

    fn spent(&mut self, path: &Path, schema: &Structural) -> Result<(), Spent> {
        let why =
            "validation failed due to running out of cost budget, no further validation rules will be run";
        self.invalid(path, schema, why.into());
        Err(Spent)
    }

    /// A rule that does not hold.
    fn failed(
        &mut self,
        ready: &Ready,
        input: &Input<'_>,
        path: &Path,
        ratchet: Ratchet<'_>,
    ) -> Result<(), Spent> {
        let rule = &ready.rule;
        let place = match (path.as_str(), ready.path.as_str()) {
            (_, "") => shown(path),
            (_, below) => path.child(below),
        };
        let through = !ready.compiled.uses_old_self && ratchet.lets_through();
        let mut detail = None;
        if let Some(Ok(message)) = &ready.compiled.message {
            match self.message(rule, message.as_ref(), input) {
                Ok(text) => detail = text,
                Err(why) => {
                    let kind = input.node.kind.as_str();
                    self.say(FieldError::invalid(place, kind.into(), why), through);
                    return Err(Spent);
                }
            }
        }
        let detail = detail.unwrap_or_else(|| match rule.message.as_str() {
            "" => format!("failed rule: {}", name(rule)),
            message => message.trim().to_owned(),
        });
        let scalar = !matches!(input.node.kind, Kind::Object | Kind::Array);
        let value = scalar.then(|| canonical(input.this));
        let error = match (rule.reason.as_deref(), value) {
            (Some("FieldValueForbidden"), _) => FieldError::forbidden(place, detail),
            (Some("FieldValueRequired"), _) => FieldError::required(place, detail),
            (Some("FieldValueDuplicate"), Some(value)) => FieldError::duplicate(place, value),
            (Some("FieldValueDuplicate"), None) => FieldError::duplicate_unshown(place),
            (_, Some(value)) => FieldError::invalid(place, value, detail),
            (_, None) => FieldError::invalid_unshown(place, detail),
        };
        self.say(error, through);
        Ok(())
    }

    fn say(&mut self, error: FieldError, through: bool) {
        if through {
            self.verdict.warnings.push(error.to_string());
        } else {
            self.verdict.errors.push(error);
        }
    }

    /// What a `messageExpression` says; none where it says nothing that can be shown. The error ends all.
    fn message(
        &mut self,
        rule: &Rule,
        message: &dyn Message,
        input: &Input<'_>,
    ) -> Result<Option<String>, String> {
        let answer = message.evaluate(input);
        let Some(left) = self.budget.checked_sub(answer.cost) else {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further \
                        validation rules will be run"
                .into());
        };
        match answer.outcome {
            Err(EvalError::Limit(_)) => Err(format!(
                "no further validation rules will be run due to call cost exceeds limit for messageExpression: {:?}",
                rule.message_expression
            )),
            Err(_) => {
                self.budget = left;
                Ok(None)
            }
            Ok(text) => {
                self.budget = left;
                let text = text.trim();
                let good = !text.is_empty() && text.len() <= MESSAGE_MAX && !text.contains('\n');
                Ok(good.then(|| text.to_owned()))
            }
        }
    }
}

/// How messages name a rule.
fn name(rule: &Rule) -> &str {
    if rule.message.is_empty() { rule.rule.trim() } else { rule.message.trim() }
}

/// A path as upstream shows it, which has none for the whole object.
fn shown(path: &Path) -> Path {
    if path.as_str().is_empty() { Path::from("<nil>") } else { path.clone() }
}

fn canonical(value: &Value) -> Value {
    match value {
        Value::Number(number) => Num::of(number).value(),
        other => other.clone(),
    }
}
