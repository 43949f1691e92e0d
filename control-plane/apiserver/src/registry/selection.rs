//! Which objects a list or a watch is about.

use skep_api::{FieldSelector, LabelSelector, Object, Resource, Status};

#[derive(Clone, Debug, PartialEq, Eq)]
enum Field {
    Name,
    Namespace,
    /// Index among the resource's selectable fields.
    At(usize),
}

/// Whether a kind has no rule of its own for fields: then upstream's common one holds, in its words.
fn common(row: &Resource) -> bool {
    row.selectable_fields.is_empty() && row.custom.is_none()
}

fn unknown_field(row: &Resource, path: &str) -> Status {
    Status::bad_request(if common(row) {
        format!("{path:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"")
    } else {
        format!("field label not supported: {path}")
    })
}

/// A label and a field selector, ready to be matched.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: Vec<(Field, String, bool)>,
}

impl Selection {
    /// Reads the two texts; 400 for what is no selector or names a field that cannot be selected by.
    pub fn parse(row: &Resource, labels: &str, fields: &str) -> Result<Self, Status> {
        let labels = LabelSelector::parse(labels).map_err(|e| Status::bad_request(e.to_string()))?;
        let parsed = FieldSelector::parse(fields).map_err(|e| Status::bad_request(e.0))?;
        let fields = parsed
            .0
            .into_iter()
            .map(|requirement| {
                let field = match requirement.path.as_str() {
                    "metadata.name" => Field::Name,
                    "metadata.namespace" if row.namespaced() || common(row) => Field::Namespace,
                    path => row
                        .selectable_fields
                        .iter()
                        .position(|known| known == path)
                        .map(Field::At)
                        .ok_or_else(|| unknown_field(row, path))?,
                };
                Ok((field, requirement.value, requirement.negate))
            })
            .collect::<Result<_, Status>>()?;
        Ok(Selection { labels, fields })
    }

    /// Only the object of this name.
    pub fn named(mut self, name: &str) -> Self {
        self.fields.push((Field::Name, name.to_owned(), false));
        self
    }

    /// Whether everything matches.
    pub fn is_everything(&self) -> bool {
        self.labels.is_everything() && self.fields.is_empty()
    }

    /// Whether an object matches.
    pub fn matches(&self, object: &Object) -> bool {
        self.fields.iter().all(|(field, value, negate)| {
            let text = match field {
                Field::Name => &*object.meta().name,
                Field::Namespace => &*object.meta().namespace,
                Field::At(index) => object.fields().get(*index).map_or("", |text| text),
            };
            (text == value) != *negate
        }) && self.labels.matches(&object.meta().labels)
    }
}
