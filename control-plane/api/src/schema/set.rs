//! The table of types that everything driven by schemas reads.

use crate::custom::Guide;
use crate::resource::Str;
use std::borrow::Cow;
use std::sync::Arc;

/// A set of types. The built-in one is static: it costs no heap, and no start-up time.
#[derive(Debug)]
pub struct Schemas {
    /// Sorted by name.
    types: Cow<'static, [Type]>,
    /// Elements of lists and maps, named by their index.
    nodes: Cow<'static, [Node]>,
    /// What [`Doc`] points into.
    docs: Str,
    /// What is known of a custom resource beyond its types; its root type is the first.
    guide: Option<Arc<Guide>>,
}

/// A part of [`Schemas`]' text: a description, only needed by OpenAPI documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Doc {
    /// Offset in bytes.
    pub start: u32,
    /// Length in bytes.
    pub len: u32,
}

/// A named type.
#[derive(Clone, Debug)]
pub struct Type {
    /// `io.k8s.api.core.v1.PodSpec`.
    pub name: Str,
    /// Its description.
    pub doc: Doc,
    /// What its values are. [`Node::Struct`] of the type itself says: a structure of [`fields`](Self::fields).
    pub shape: Node,
    /// Fields, sorted by name.
    pub fields: Cow<'static, [Field]>,
    /// Whether server-side apply owns it as a whole (`x-kubernetes-map-type: atomic`).
    pub atomic: bool,
    /// Whether fields stay that are not among [`fields`](Self::fields) (`x-kubernetes-preserve-unknown-fields`).
    pub open: bool,
    /// `x-kubernetes-unions` as JSON text, where there is one.
    pub unions: Option<Str>,
}

/// A field of a structure.
#[derive(Clone, Debug)]
pub struct Field {
    /// As in JSON.
    pub name: Str,
    /// Its description.
    pub doc: Doc,
    /// What its values are.
    pub node: Node,
    /// Listed as required: it has no `omitempty`, and so is never dropped for being empty.
    pub required: bool,
    /// Not a pointer in Go: a zero scalar is the same as none.
    pub value: bool,
    /// The default that decoding fills in, as JSON text.
    pub default: Option<Str>,
    /// What Go writes where nothing else stands, as JSON text: the zero value of a field that is neither a
    /// pointer nor left out when empty.
    pub zero: Option<Str>,
    /// Whether OpenAPI version 3 shows the default. Those that only the server knows of are filled in unsaid.
    pub published: bool,
    /// How strategic merge patch treats it.
    pub merge: Merge,
    /// What Go calls its type, where that is a name of its own: `v1.Protocol`. Messages say it.
    pub go: Option<Str>,
    /// The structure, embedded in its type in Go, that it is of; it stands in the paths of messages.
    pub inline: Option<Str>,
    /// Whether server-side apply owns the fields of the structure here, though elsewhere it owns that as a whole.
    pub granular: bool,
}

/// How strategic merge patch treats a field (`x-kubernetes-patch-strategy`, `-merge-key`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merge {
    /// Lists merge instead of being replaced.
    pub merge: bool,
    /// Field that tells the elements of a merged list apart; `None` for a list of scalars.
    pub key: Option<Str>,
    /// `$retainKeys` may clear what a patch does not name.
    pub retain_keys: bool,
    /// Replaced as a whole, structure or not.
    pub replace: bool,
}

/// How server-side apply sees a list (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// One value with one owner.
    #[default]
    Atomic,
    /// Scalars, each with its owner.
    Set,
    /// Elements told apart by these fields.
    Map(Cow<'static, [Str]>),
}

/// What the values of a field, element or type are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// Any JSON value, owned as a whole.
    Any,
    /// Any JSON value, of which objects are owned field by field.
    Deduced,
    /// Any JSON object (`RawExtension`, `FieldsV1`).
    Free,
    /// A string.
    String,
    /// Bytes as base64.
    Bytes,
    /// A number of 32 bits.
    Int32,
    /// A number of 64 bits.
    Int64,
    /// A floating point number.
    Number,
    /// A boolean.
    Bool,
    /// An instant to the second (`metav1.Time`).
    Time,
    /// An instant to the microsecond (`metav1.MicroTime`).
    MicroTime,
    /// `resource.Quantity`.
    Quantity,
    /// `intstr.IntOrString`.
    IntOrString,
    /// A list of the node of that index.
    List(u32, ListType),
    /// A map from strings to the node of that index; whether it is owned as a whole.
    Map(u32, bool),
    /// The type of that index.
    Struct(u32),
}

/// A node within its set: what all functions on schemas take.
#[derive(Clone, Copy, Debug)]
pub struct Schema<'a> {
    set: &'a Schemas,
    node: &'a Node,
    granular: bool,
}

impl Schemas {
    /// A set of parts. `types` need not be sorted, since nodes name them by index: [`Schemas::get`] looks
    /// through them one by one unless they are.
    pub fn new(types: Vec<Type>, nodes: Vec<Node>, docs: String) -> Self {
        Schemas { types: types.into(), nodes: nodes.into(), docs: docs.into(), guide: None }
    }

    /// The set of a custom resource. Its objects are checked and defaulted by the guide.
    pub(crate) fn custom(types: Vec<Type>, nodes: Vec<Node>, guide: Arc<Guide>) -> Self {
        Schemas { guide: Some(guide), ..Schemas::new(types, nodes, String::new()) }
    }

    /// What is known of the custom resource that the set is of; none for built-in kinds.
    pub fn guide(&self) -> Option<&Guide> {
        self.guide.as_deref()
    }

    /// The types of the built-in kinds.
    pub fn builtin() -> &'static Schemas {
        &super::builtin::SCHEMAS
    }

    /// A set that lies in the binary; `types` are sorted by name.
    pub(crate) const fn fixed(types: &'static [Type], nodes: &'static [Node], docs: &'static str) -> Self {
        let (types, nodes) = (Cow::Borrowed(types), Cow::Borrowed(nodes));
        Schemas { types, nodes, docs: Cow::Borrowed(docs), guide: None }
    }

    /// The type of that name.
    pub fn get(&self, name: &str) -> Option<Schema<'_>> {
        let found = match self.types.binary_search_by(|t| (*t.name).cmp(name)) {
            Ok(at) => self.types.get(at),
            Err(_) => self.types.iter().find(|t| t.name == name),
        };
        found.map(|t| Schema { set: self, node: &t.shape, granular: false })
    }

    /// All types.
    pub fn types(&self) -> &[Type] {
        &self.types
    }

    /// The named type of an index in [`Node::Struct`].
    pub fn type_at(&self, index: u32) -> Option<&Type> {
        self.types.get(index as usize)
    }

    /// The node of an index in [`Node::List`] or [`Node::Map`].
    pub fn node_at(&self, index: u32) -> Option<&Node> {
        self.nodes.get(index as usize)
    }

    /// The text of a description.
    pub fn doc(&self, doc: Doc) -> &str {
        let start = doc.start as usize;
        self.docs.get(start..start + doc.len as usize).unwrap_or_default()
    }
}

impl<'a> Schema<'a> {
    /// What values are. A named type that is no structure shows as what it stands for.
    pub fn node(self) -> &'a Node {
        match self.node {
            Node::Struct(index) => self.set.type_at(*index).map_or(self.node, |t| &t.shape),
            node => node,
        }
    }

    /// The set it belongs to.
    pub fn set(self) -> &'a Schemas {
        self.set
    }

    /// The structure's type, if it is one.
    pub fn structure(self) -> Option<&'a Type> {
        match self.node() {
            Node::Struct(index) => self.set.type_at(*index),
            _ => None,
        }
    }

    /// Whether server-side apply owns it as a whole, if it is a structure.
    pub fn atomic(self) -> bool {
        !self.granular && self.structure().is_some_and(|t| t.atomic)
    }

    /// The field of a structure, and what its values are.
    pub fn field(self, name: &str) -> Option<(&'a Field, Schema<'a>)> {
        let fields = &self.structure()?.fields;
        let at = fields.binary_search_by(|f| (*f.name).cmp(name)).ok()?;
        fields.get(at).map(|f| (f, self.of(f)))
    }

    /// What the values of fields are that have no name in the schema; none where there are no such fields.
    pub fn further(self) -> Option<Schema<'a>> {
        let further = match self.node() {
            Node::Deduced => true,
            Node::Struct(_) => self.structure().is_some_and(|t| t.open),
            _ => false,
        };
        further.then_some(Schema { set: self.set, node: &Node::Deduced, granular: false })
    }

    /// The schema of a field of this set.
    pub fn of(self, field: &'a Field) -> Schema<'a> {
        Schema { set: self.set, node: &field.node, granular: field.granular }
    }

    /// What the elements of a list, or the values of a map, are.
    pub fn element(self) -> Option<Schema<'a>> {
        match self.node() {
            Node::List(index, _) | Node::Map(index, _) => {
                self.set.node_at(*index).map(|node| Schema { set: self.set, node, granular: false })
            }
            _ => None,
        }
    }

    /// How server-side apply sees the list; atomic for what is none.
    pub fn list_type(self) -> &'a ListType {
        match self.node() {
            Node::List(_, list) => list,
            _ => &ListType::Atomic,
        }
    }

    /// The schema of a dotted path below this one (`spec.template.spec.containers[].name` with `[]` left
    /// out: lists and maps are stepped through).
    pub fn at(self, path: &str) -> Option<Schema<'a>> {
        let mut here = self;
        for name in path.split('.') {
            while let Some(element) = here.element() {
                here = element;
            }
            here = here.field(name)?.1;
        }
        Some(here)
    }
}
