//! Rules of a definition: names, versions, subresources, columns, selectable fields and conversion.

use super::old::{Options, schema, versions};
use super::schema::Checker;
use crate::custom::rules::Compiler;
use crate::custom::{Kind, Structural, dotted_path, rules_of_structure, validate_defaults};
use crate::field::{FieldError, Path};
use crate::names::{dns1035_label, dns1123_subdomain};
use crate::validation::{At, Errors, IMMUTABLE};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value};

/// Versions of ConversionReview that are known, sorted.
pub(super) const REVIEWS: &[&str] = &["v1", "v1beta1"];
/// Most selectable fields that a version may have.
const SELECTABLE_MAX: usize = 8;
/// Types of columns, sorted.
const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
/// Formats of columns, sorted.
const COLUMN_FORMATS: &[&str] =
    &["byte", "date", "date-time", "double", "float", "int32", "int64", "password"];
const APPROVED: &str = "api-approved.kubernetes.io";
/// Keywords that a root schema may have beside a status subresource, and how upstream calls them.
const AT_ROOT: &[(&str, &str)] = &[
    ("description", "Description"),
    ("type", "Type"),
    ("format", "Format"),
    ("title", "Title"),
    ("maximum", "Maximum"),
    ("exclusiveMaximum", "ExclusiveMaximum"),
    ("minimum", "Minimum"),
    ("exclusiveMinimum", "ExclusiveMinimum"),
    ("maxLength", "MaxLength"),
    ("minLength", "MinLength"),
    ("pattern", "Pattern"),
    ("maxItems", "MaxItems"),
    ("minItems", "MinItems"),
    ("uniqueItems", "UniqueItems"),
    ("multipleOf", "MultipleOf"),
    ("required", "Required"),
    ("items", "Items"),
    ("properties", "Properties"),
    ("externalDocs", "ExternalDocs"),
    ("example", "Example"),
    ("x-kubernetes-preserve-unknown-fields", "XPreserveUnknownFields"),
    ("x-kubernetes-validations", "XValidations"),
];

/// Errors of the name of a new definition: it follows from what is defined.
pub(super) fn validate_name(object: &Value) -> Vec<FieldError> {
    let root = At::root(object);
    let spec = root.get("spec");
    let wanted = format!("{}.{}", spec.get("names").get("plural").text(), spec.get("group").text());
    let metadata = root.get("metadata");
    let name = metadata.get("name");
    // That there is none is said elsewhere.
    if name.text().is_empty() || name.text() == wanted {
        return Vec::new();
    }
    let why = "must be spec.names.plural+\".\"+spec.group";
    vec![FieldError::invalid(name.path(), name.text().into(), why)]
}

/// Errors of a definition, new or changed.
pub(super) fn validate(object: &Value, old: Option<&Value>, compiler: &dyn Compiler) -> Vec<FieldError> {
    let options = old.map_or_else(Options::create, Options::update);
    let root = At::root(object);
    let spec = root.get("spec");
    let mut errors = Errors::new();
    let mut checker = Spec { options, compiler, object, old };
    checker.spec(&mut errors, &spec);
    if let Some(old) = old {
        let before = At::root(old);
        let before = before.get("spec");
        let fixed = checker.options.fixed_names;
        let (names, names_before) = (spec.get("names"), before.get("names"));
        for (now, was, always) in [
            (spec.get("scope"), before.get("scope"), false),
            (names.get("kind"), names_before.get("kind"), false),
            (spec.get("group"), before.get("group"), true),
            (names.get("plural"), names_before.get("plural"), true),
        ] {
            if (fixed || always) && now.text() != was.text() {
                errors.push(FieldError::invalid(now.path(), now.text().into(), IMMUTABLE));
            }
        }
    }
    errors.extend(validate_status(&root));
    stored_versions(&mut errors, object, &root);
    approval(&mut errors, object, old);
    let preserved =
        |object: &Value| object.pointer("/spec/preserveUnknownFields") == Some(&Value::Bool(true));
    if preserved(object) && !old.is_some_and(preserved) {
        let why = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead";
        errors.invalid(&spec.get("preserveUnknownFields"), why);
    }
    errors.done()
}

/// Errors of the status.
pub(super) fn validate_status(root: &At<'_, '_>) -> Vec<FieldError> {
    let mut errors = Errors::new();
    let status = root.get("status");
    names(&mut errors, &status.get("acceptedNames"));
    errors.done()
}

fn stored_versions(errors: &mut Errors, object: &Value, root: &At<'_, '_>) {
    let status = root.get("status");
    let stored = status.get("storedVersions");
    if stored.is_empty() {
        let why = "must have at least one stored version";
        return errors.push(FieldError::invalid(stored.path(), Value::Null, why));
    }
    let name = |version: &Value| version.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    let storage = versions(object).find(|v| v.get("storage") == Some(&Value::Bool(true))).map(name);
    if let Some(storage) = storage.filter(|storage| stored.texts().all(|v| v != storage)) {
        errors.invalid(&stored, format!("must have the storage version {storage}"));
    }
    for item in stored.items() {
        let version = item.text();
        if versions(object).all(|v| name(v) != version) {
            errors.invalid(
                &item,
                format!(
                    "missing from spec.versions; {version} was previously a storage version, and must remain in \
                     spec.versions until a storage migration ensures no data remains persisted in {version} and \
                     removes {version} from status.storedVersions"
                ),
            );
        }
    }
}

/// Groups of the community say where their API was approved.
fn approval(errors: &mut Errors, object: &Value, old: Option<&Value>) {
    let group = object.pointer("/spec/group").and_then(Value::as_str).unwrap_or_default();
    let community =
        ["k8s.io", "kubernetes.io"].iter().any(|g| group == *g || group.ends_with(&format!(".{g}")));
    if !community {
        return;
    }
    let annotation = |object: &Value| {
        let annotations = object.pointer("/metadata/annotations");
        annotations.and_then(|a| a.get(APPROVED)).and_then(Value::as_str).unwrap_or_default().to_owned()
    };
    let state = |text: &str| match text {
        "" => 0,
        text if text.starts_with("unapproved") => 1,
        text => {
            let host = text.split_once("://").filter(|(scheme, _)| !scheme.is_empty()).map(|(_, rest)| rest);
            let host = host.and_then(|rest| rest.split(['/', '?', '#']).next()).unwrap_or_default();
            if host.is_empty() { 3 } else { 2 }
        }
    };
    let text = annotation(object);
    if old.is_some_and(|old| state(&annotation(old)) == state(&text)) {
        return;
    }
    let path = Path::new("metadata").child("annotations").key(APPROVED);
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let must = format!("protected groups must have approval annotation {APPROVED:?}");
    match state(&text) {
        0 => errors.push(FieldError::required(path, format!("{must}, {see}"))),
        3 => {
            let why = format!("{must} with either a URL or a reason starting with \"unapproved\", {see}");
            errors.push(FieldError::invalid(path, text.into(), why));
        }
        _ => {}
    }
}

/// Text joined as upstream joins what is wrong with a name.
fn label(errors: &mut Errors, at: &At<'_, '_>) {
    let wrong = dns1035_label(at.text(), false);
    if !wrong.is_empty() {
        errors.push(FieldError::invalid(at.path(), at.text().into(), wrong.join(",")));
    }
}

fn names(errors: &mut Errors, at: &At<'_, '_>) {
    for key in ["plural", "singular"] {
        let name = at.get(key);
        if !name.text().is_empty() {
            label(errors, &name);
        }
    }
    for key in ["kind", "listKind"] {
        let kind = at.get(key);
        let wrong = dns1035_label(&kind.text().to_lowercase(), false);
        if !kind.text().is_empty() && !wrong.is_empty() {
            errors.invalid(
                &kind,
                format!("may have mixed case, but should otherwise match: {}", wrong.join(",")),
            );
        }
    }
    for name in at.get("shortNames").items() {
        label(errors, &name);
    }
    let (kind, list) = (at.get("kind"), at.get("listKind"));
    if !kind.text().is_empty() && kind.text() == list.text() {
        errors.invalid(&list, "kind and listKind may not be the same");
    }
    for name in at.get("categories").items() {
        label(errors, &name);
    }
}

struct Spec<'a> {
    options: Options,
    compiler: &'a dyn Compiler,
    object: &'a Value,
    old: Option<&'a Value>,
}

/// What all versions have in common, which upstream holds apart.
fn shared<'v>(spec: &At<'v, '_>, key: &str) -> Option<Option<&'v Value>> {
    let part = |version: &At<'v, '_>| version.get(key).value();
    let list = spec.get("versions");
    let mut each = list.items().map(|version| part(&version));
    let first = each.next()?;
    let same = each.all(|other| crate::validation::same(other, first));
    same.then_some(first)
}

impl Spec<'_> {
    fn spec(&mut self, errors: &mut Errors, spec: &At<'_, '_>) {
        let group = spec.get("group");
        let wrong = dns1123_subdomain(group.text(), false);
        if group.text().is_empty() {
            errors.required(&group, "");
        } else if !wrong.is_empty() {
            errors.invalid(&group, wrong.join(","));
        } else if !group.text().contains('.') {
            errors.invalid(&group, "should be a domain with at least one dot");
        }
        errors.one_of(&spec.get("scope"), &["Cluster", "Namespaced"]);
        let preserve = spec.get("preserveUnknownFields").is_true();
        if !preserve {
            self.options.structural = true;
        }
        let list = spec.get("versions");
        for (at, version) in list.items().enumerate() {
            let none = version.value().is_none_or(|version| schema(version).is_none());
            let path = list.path().index(at).child("schema").child("openAPIV3Schema");
            if none && self.options.schema_required {
                errors.push(FieldError::required(path, ""));
            } else if none && !preserve && version.get("served").is_true() {
                errors.push(FieldError::required(path, "because otherwise all fields are pruned"));
            }
        }
        if preserve
            && versions(self.object).filter_map(schema).any(|tree| super::old::has(tree, &has_default))
        {
            self.options.structural = true;
            let why = "must be false in order to use defaults in the schema";
            errors.push(FieldError::invalid(spec.get("preserveUnknownFields").path(), true.into(), why));
        }
        let hoisted = ["schema", "subresources", "additionalPrinterColumns", "selectableFields"]
            .map(|key| (key, shared(spec, key)));
        let common = |key: &str| hoisted.iter().find(|row| row.0 == key).and_then(|row| row.1);
        if let Some(first) = list.items().next() {
            // Upstream's internal form has the first one's name by itself, too.
            let name = first.get("name");
            let at = spec.get("version");
            if !name.text().is_empty() {
                label(errors, &at.with_value(name.value()));
            }
        }
        for version in list.items() {
            let name = version.get("name");
            label(errors, &name);
            let apart = |key: &str| common(key).is_none();
            self.version(errors, &version, &apart);
        }
        let mut seen = Vec::new();
        let unique = list.items().all(|version| {
            let name = version.get("name").text().to_owned();
            let new = !seen.contains(&name);
            seen.push(name);
            new
        });
        if !unique {
            errors.invalid(&list, "must contain unique version names");
        }
        if list.items().filter(|version| version.get("storage").is_true()).count() != 1 {
            errors.invalid(&list, "must have exactly one version marked as storage version");
        }
        let all = spec.get("names");
        for key in ["plural", "singular", "kind", "listKind"] {
            let name = all.get(key);
            if name.text().is_empty() {
                errors.required(&name, "");
            }
        }
        names(errors, &all);
        if let Some(Some(common)) = common("schema") {
            let status = list.items().any(|version| version.get("subresources").get("status").present());
            let first = list.items().next().map(|v| v.get("name").text().to_owned()).unwrap_or_default();
            self.schema(errors, common, &first, status, &spec.get("validation").path());
        }
        if let Some(common) = common("subresources") {
            subresources(errors, &spec.get("subresources").with_value(common));
        }
        if let Some(common) = common("additionalPrinterColumns") {
            columns(errors, &spec.get("additionalPrinterColumns").with_value(common));
        }
        if let Some(Some(fields)) = common("selectableFields") {
            let tree = common("schema").flatten();
            let at = spec.get("selectableFields");
            self.selectable(errors, &at.with_value(Some(fields)), tree, "");
        }
        self.conversion(errors, &spec.get("conversion"), preserve);
    }

    /// What a version has for itself.
    fn version(&self, errors: &mut Errors, version: &At<'_, '_>, apart: &dyn Fn(&str) -> bool) {
        let warning = version.get("deprecationWarning");
        for why in wrong_warning(version.get("deprecated").is_true(), warning.value().and_then(Value::as_str))
        {
            errors.invalid(&warning, why);
        }
        let name = version.get("name").text();
        if let Some(tree) = version.get("schema").value().filter(|_| apart("schema")) {
            let status = version.get("subresources").get("status").present();
            self.schema(errors, tree, name, status, &version.get("schema").path());
        }
        if apart("subresources") {
            subresources(errors, &version.get("subresources"));
        }
        if apart("additionalPrinterColumns") {
            columns(errors, &version.get("additionalPrinterColumns"));
        }
        if apart("selectableFields") && !version.get("selectableFields").is_empty() {
            self.selectable(errors, &version.get("selectableFields"), version.get("schema").value(), name);
        }
    }

    /// A schema; `tree` is what is around `openAPIV3Schema`.
    fn schema(&self, errors: &mut Errors, tree: &Value, version: &str, status: bool, path: &Path) {
        let Some(tree) = tree.get("openAPIV3Schema").filter(|schema| !schema.is_null()) else { return };
        let place = path.child("openAPIV3Schema");
        let mut found = Vec::new();
        if status {
            found.extend(root_beside_status(tree, &place));
        }
        if tree.get("nullable") == Some(&Value::Bool(true)) {
            found.push(FieldError::forbidden(place.child("nullable"), "nullable cannot be true at the root"));
        }
        let (mut structural, mut unsupported) = (None, None);
        if self.options.structural {
            match Structural::parse(tree) {
                Err(why) => unsupported = Some(FieldError::invalid(&place, "".into(), why.to_string())),
                Ok(parsed) => {
                    let mut wrong = rules_of_structure(&place, &parsed);
                    if wrong.is_empty() {
                        let pruned = self.options.pruned_defaults;
                        wrong = validate_defaults(&place, &parsed, self.compiler, pruned);
                    }
                    if wrong.is_empty() {
                        structural = Some(parsed);
                    }
                    found.extend(wrong);
                }
            }
        }
        let unchanged = self.old.is_some_and(|old| {
            let before = versions(old).find(|v| v.get("name").and_then(Value::as_str) == Some(version));
            before.and_then(schema) == Some(tree)
        });
        let mut checker = Checker {
            options: &self.options,
            compiler: self.compiler,
            unchanged,
            total: super::cost::Total::default(),
        };
        let more = checker.root(tree, structural.as_ref(), &place);
        found.extend(more.schema);
        found.extend(more.rules);
        if found.is_empty() {
            found.extend(unsupported);
        }
        found.extend(checker.total.errors(&place));
        errors.extend(found);
    }

    fn selectable(&self, errors: &mut Errors, at: &At<'_, '_>, tree: Option<&Value>, version: &str) {
        let tree = tree.and_then(|tree| tree.get("openAPIV3Schema")).filter(|schema| !schema.is_null());
        let Some(schema) = tree.and_then(|tree| Structural::parse(tree).ok()) else {
            let why = "may only be set when validations.schema is included";
            return errors.push(FieldError::invalid(at.path(), "".into(), why));
        };
        let mut seen: Vec<String> = Vec::new();
        for field in at.items() {
            let path = field.get("jsonPath");
            if path.text().is_empty() {
                errors.required(&path, "");
                continue;
            }
            let found = match dotted_path(path.text(), &schema) {
                Ok(found) => found,
                Err(why) => {
                    errors.invalid(&path, format!("is an invalid path: {why}"));
                    continue;
                }
            };
            if found.first == "metadata" {
                errors.invalid(&path, "must not point to fields in metadata");
            }
            let good =
                found.schema.is_some_and(|s| matches!(s.kind, Kind::String | Kind::Boolean | Kind::Integer));
            if !good {
                let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.";
                errors.invalid(&path, why);
            }
            let name = found.path.to_string();
            if seen.contains(&name) {
                errors.duplicate(&path);
            } else {
                seen.push(name);
            }
        }
        if seen.len() > SELECTABLE_MAX && !self.had_too_many(at, version) {
            errors.push(FieldError::too_many(at.path(), seen.len(), SELECTABLE_MAX));
        }
    }

    /// Whether there were too many before, and they are the same.
    fn had_too_many(&self, at: &At<'_, '_>, version: &str) -> bool {
        let before = self.old.into_iter().flat_map(versions);
        let mut before =
            before.filter(|v| version.is_empty() || v.get("name").and_then(Value::as_str) == Some(version));
        before.any(|v| {
            let fields = v.get("selectableFields");
            fields.and_then(Value::as_array).is_some_and(|list| list.len() > SELECTABLE_MAX)
                && fields == at.value()
        })
    }

    fn conversion(&self, errors: &mut Errors, at: &At<'_, '_>, preserve: bool) {
        if !at.present() {
            return;
        }
        let strategy = at.get("strategy");
        if preserve && strategy.text() != "None" {
            errors.invalid(&strategy, "must be None if spec.preserveUnknownFields is true");
        }
        errors.one_of(&strategy, &["None", "Webhook"]);
        let webhook = at.get("webhook");
        // Upstream's internal form has both beside the strategy.
        let (given_client, given_reviews) =
            (webhook.get("clientConfig"), webhook.get("conversionReviewVersions"));
        let (client, reviews) = (at.get("webhookClientConfig"), at.get("conversionReviewVersions"));
        let client = client.with_value(given_client.value());
        let reviews = reviews.with_value(given_reviews.value());
        if strategy.text() == "Webhook" {
            if client.present() {
                super::super::admission::client(errors, &client);
                let bundle = client.get("caBundle");
                if self.options.certificates && !bundle.text().is_empty() && !is_bundle(bundle.text()) {
                    let why = "unable to load root certificates: unable to parse bytes as PEM block";
                    errors.invalid(&bundle, why);
                }
            } else {
                errors.required(&client, "required when strategy is set to Webhook");
            }
            self.reviews(errors, &reviews);
        } else {
            let why = "should not be set when strategy is not set to Webhook";
            if client.present() {
                errors.forbidden(&client, why);
            }
            if !reviews.is_empty() {
                errors.forbidden(&reviews, why);
            }
        }
    }

    fn reviews(&self, errors: &mut Errors, at: &At<'_, '_>) {
        if at.is_empty() {
            return errors.required(at, "");
        }
        let mut seen = Vec::new();
        for version in at.items() {
            if seen.contains(&version.text()) {
                errors.invalid(&version, "duplicate version");
                continue;
            }
            seen.push(version.text());
            errors.text(&version, dns1035_label(version.text(), false));
        }
        if self.options.known_reviews && !seen.iter().any(|version| REVIEWS.contains(version)) {
            errors.invalid(at, format!("must include at least one of {}", REVIEWS.join(", ")));
        }
    }
}

fn has_default(schema: &Value) -> bool {
    schema.get("default").is_some_and(|default| !default.is_null())
}

/// Whether base64 text holds certificates.
pub(super) fn is_bundle(text: &str) -> bool {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    let Ok(bytes) = STANDARD.decode(text) else { return false };
    let text = String::from_utf8_lossy(&bytes);
    let inside = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).map(|(inside, _)| inside);
    let packed = inside.map(|inside| inside.split_ascii_whitespace().collect::<String>());
    packed.is_some_and(|inside| !inside.is_empty() && STANDARD.decode(inside).is_ok())
}

fn wrong_warning(deprecated: bool, warning: Option<&str>) -> Vec<String> {
    let Some(warning) = warning else { return Vec::new() };
    if !deprecated {
        return vec!["can only be set for deprecated versions".into()];
    }
    let mut wrong = Vec::new();
    if warning.len() > 256 {
        wrong.push("must be <= 256 characters long".into());
    }
    if warning.is_empty() {
        wrong.push("must not be an empty string".into());
    }
    let odd = warning.char_indices().find(|(_, c)| c.is_control() || (c.is_whitespace() && *c != ' '));
    if let Some((at, _)) = odd {
        wrong.push(format!(
            "must only contain printable UTF-8 characters; non-printable character found at index {at}"
        ));
    }
    wrong
}

/// What may stand in a root schema of which the schema of the status is cut out.
fn root_beside_status(tree: &Value, path: &Path) -> Option<FieldError> {
    let empty = Map::new();
    let map = tree.as_object().unwrap_or(&empty);
    let says_something = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        _ => true,
    };
    if let Some(kind) =
        map.get("type").and_then(Value::as_str).filter(|kind| !kind.is_empty() && *kind != "object")
    {
        let why = "only \"object\" is allowed as the type at the root of the schema if the status subresource is enabled";
        return Some(FieldError::invalid(path.child("type"), kind.into(), why));
    }
    let odd = map.iter().any(|(key, value)| says_something(value) && AT_ROOT.iter().all(|row| row.0 != key));
    odd.then(|| {
        let names: Vec<&str> = AT_ROOT.iter().map(|row| row.1).collect();
        let why = format!(
            "only [{}] fields are allowed at the root of the schema if the status subresource is enabled",
            names.join(" ")
        );
        FieldError::invalid(path, tree.clone(), why)
    })
}

/// A simple JSON path.
fn simple_path(errors: &mut Errors, path: &Path, text: &str) -> bool {
    if text.starts_with('.') {
        return true;
    }
    errors.push(FieldError::invalid(path, text.into(), "must be a simple json path starting with ."));
    false
}

fn subresources(errors: &mut Errors, at: &At<'_, '_>) {
    let scale = at.get("scale");
    if !scale.present() {
        return;
    }
    for (key, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = scale.get(key);
        if path.text().is_empty() {
            errors.required(&path, "");
        } else if simple_path(errors, &path.path(), path.text()) && !path.text().starts_with(below) {
            errors.invalid(&path, format!("should be a json path under {}", below.trim_end_matches('.')));
        }
    }
    let path = scale.get("labelSelectorPath");
    let text = path.text();
    if !text.is_empty()
        && simple_path(errors, &path.path(), text)
        && !text.starts_with(".spec.")
        && !text.starts_with(".status.")
    {
        errors.invalid(&path, "should be a json path under either .spec or .status");
    }
}

fn columns(errors: &mut Errors, at: &At<'_, '_>) {
    for column in at.items() {
        let name = column.get("name");
        if name.text().is_empty() {
            errors.required(&name, "");
        }
        let kind = column.get("type");
        let known = format!("must be one of {}", COLUMN_TYPES.join(","));
        if kind.text().is_empty() {
            errors.required(&kind, known);
        } else if !COLUMN_TYPES.contains(&kind.text()) {
            errors.invalid(&kind, known);
        }
        let format = column.get("format");
        if !format.text().is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
            errors.invalid(&format, format!("must be one of {}", COLUMN_FORMATS.join(",")));
        }
        let place = column.path().child("JSONPath");
        match column.get("jsonPath").text() {
            "" => errors.push(FieldError::required(place, "")),
            text => {
                simple_path(errors, &place, text);
            }
        }
    }
}
