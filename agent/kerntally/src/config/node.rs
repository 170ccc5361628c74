//! YAML as a tree that remembers where each value came from, so that every error can name its place.

use std::fmt;
use std::path::Path;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;
use serde_saphyr::{Spanned, options};

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Line of the configuration file, from 1.
    Line(u64),
    /// An environment variable.
    Variable(String),
    /// A command line option, as typed.
    Flag(String),
}

impl Origin {
    /// `file:line`, the variable, or the option.
    pub(crate) fn place(&self, file: &Path) -> String {
        match self {
            Self::Line(line) => format!("{}:{line}", file.display()),
            Self::Variable(text) | Self::Flag(text) => text.clone(),
        }
    }
}

/// A value and its origin.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) origin: Origin,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    Scalar(Value),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

#[derive(Clone, Debug)]
struct Entry {
    key: String,
    key_origin: Origin,
    node: Node,
}

/// The text is not YAML.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SyntaxError {
    /// Line from 1, if known.
    pub(crate) line: Option<u64>,
    /// What the parser says.
    pub(crate) message: String,
}

/// One step of a path into the tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Key(String),
    Index(usize),
}

impl Node {
    /// An empty map, as an absent file is.
    pub(crate) fn empty() -> Self {
        Self {
            origin: Origin::Line(1),
            kind: Kind::Map(Vec::new()),
        }
    }

    /// Parses a document; an empty one is an empty map.
    pub(crate) fn parse(text: &str) -> Result<Self, SyntaxError> {
        // Snippets of the file stay out of messages: it may hold credentials.
        let options = options! { strict_booleans: true, with_snippet: false };
        let node: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| SyntaxError {
                line: error.location().map(|location| location.line()),
                message: strip_position(&error.to_string()),
            })?;
        Ok(match node.kind {
            Kind::Scalar(Value::Null) => Self::empty(),
            _ => node,
        })
    }

    /// Parses one value, as `--set` and variables carry them.
    pub(crate) fn parse_value(text: &str, origin: &Origin) -> Result<Self, SyntaxError> {
        if text.trim().is_empty() {
            return Ok(Self::scalar(Value::Null, origin.clone()));
        }
        let options = options! { strict_booleans: true, with_snippet: false };
        let node: Self =
            serde_saphyr::from_str_with_options(text, options).map_err(|error| SyntaxError {
                line: None,
                message: strip_position(&error.to_string()),
            })?;
        Ok(node.with_origin(origin))
    }

    /// A single value.
    pub(crate) fn scalar(value: Value, origin: Origin) -> Self {
        Self {
            origin,
            kind: Kind::Scalar(value),
        }
    }

    /// A list or map of texts made from an already parsed value.
    pub(crate) fn from_json(value: Value, origin: &Origin) -> Self {
        let kind = match value {
            Value::Array(items) => Kind::List(
                items
                    .into_iter()
                    .map(|item| Self::from_json(item, origin))
                    .collect(),
            ),
            Value::Object(members) => Kind::Map(
                members
                    .into_iter()
                    .map(|(key, value)| Entry {
                        key,
                        key_origin: origin.clone(),
                        node: Self::from_json(value, origin),
                    })
                    .collect(),
            ),
            scalar => Kind::Scalar(scalar),
        };
        Self {
            origin: origin.clone(),
            kind,
        }
    }

    /// Puts a value at a path of keys, replacing what is there and making maps on the way.
    pub(crate) fn set(&mut self, path: &[&str], value: Self) {
        let Some((first, rest)) = path.split_first() else {
            *self = value;
            return;
        };
        if !matches!(self.kind, Kind::Map(_)) {
            self.kind = Kind::Map(Vec::new());
        }
        let Kind::Map(entries) = &mut self.kind else {
            return;
        };
        let at = entries
            .iter()
            .position(|entry| entry.key == *first)
            .unwrap_or_else(|| {
                let origin = value.origin.clone();
                let node = Self {
                    origin: origin.clone(),
                    kind: Kind::Map(Vec::new()),
                };
                entries.push(Entry {
                    key: (*first).to_owned(),
                    key_origin: origin,
                    node,
                });
                entries.len() - 1
            });
        entries[at].key_origin = value.origin.clone();
        entries[at].node.set(rest, value);
    }

    /// The node at a path of keys.
    pub(crate) fn at(&self, path: &[&str]) -> Option<&Self> {
        path.iter()
            .try_fold(self, |node, key| node.child(&Step::Key((*key).to_owned())))
    }

    /// Where it was written.
    pub(crate) fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether it is written as `null`.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.kind, Kind::Scalar(Value::Null))
    }

    /// Origin of the deepest part of a path that exists.
    pub(crate) fn locate(&self, path: &[Step]) -> &Origin {
        let mut origin = &self.origin;
        let mut node = self;
        for step in path {
            match node.child(step) {
                Some(child) => {
                    origin = node.key_origin(step).unwrap_or(&child.origin);
                    node = child;
                }
                None => break,
            }
        }
        origin
    }

    /// The plain value, for typed reading.
    pub(crate) fn to_json(&self) -> Value {
        match &self.kind {
            Kind::Scalar(value) => value.clone(),
            Kind::List(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            Kind::Map(entries) => Value::Object(
                entries
                    .iter()
                    .map(|entry| (entry.key.clone(), entry.node.to_json()))
                    .collect(),
            ),
        }
    }

    fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.kind, step) {
            (Kind::Map(entries), Step::Key(key)) => entries
                .iter()
                .find(|entry| entry.key == *key)
                .map(|entry| &entry.node),
            (Kind::List(items), Step::Index(index)) => items.get(*index),
            _ => None,
        }
    }

    fn key_origin(&self, step: &Step) -> Option<&Origin> {
        match (&self.kind, step) {
            (Kind::Map(entries), Step::Key(key)) => entries
                .iter()
                .find(|entry| entry.key == *key)
                .map(|entry| &entry.key_origin),
            _ => None,
        }
    }

    fn with_origin(self, origin: &Origin) -> Self {
        Self::from_json(self.to_json(), origin)
    }
}

/// `a.b[2].c`, as messages show it.
pub(crate) fn dotted(path: &[Step]) -> String {
    let mut text = String::new();
    for step in path {
        match step {
            Step::Index(index) => {
                text.push('[');
                text.push_str(&index.to_string());
                text.push(']');
            }
            Step::Key(key) if text.is_empty() => text.push_str(key),
            Step::Key(key) => {
                text.push('.');
                text.push_str(key);
            }
        }
    }
    text
}

/// The parser prefixes its message with the position, which the caller states itself.
fn strip_position(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    let body = match line.strip_prefix("line ") {
        Some(rest) => rest.split_once(": ").map_or(line, |(_, body)| body),
        None => line,
    };
    body.split(", set DuplicateKeyPolicy")
        .next()
        .unwrap_or(body)
        .to_owned()
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Kind>::deserialize(deserializer)?;
        Ok(Self {
            origin: Origin::Line(spanned.referenced.line()),
            kind: spanned.value,
        })
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(KindVisitor)
    }
}

struct KindVisitor;

impl<'de> Visitor<'de> for KindVisitor {
    type Value = Kind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a YAML value")
    }

    fn visit_unit<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Kind, E> {
        Ok(Kind::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Kind, D::Error> {
        Kind::deserialize(deserializer)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Kind, E> {
        match serde_json::Number::from_f64(value) {
            Some(number) => Ok(Kind::Scalar(Value::Number(number))),
            None => Err(E::custom("not a finite number")),
        }
    }

    fn visit_str<E>(self, value: &str) -> Result<Kind, E> {
        Ok(Kind::Scalar(value.into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Kind::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Kind, A::Error> {
        let mut entries = Vec::new();
        while let Some((key, node)) = access.next_entry::<Spanned<String>, Node>()? {
            let key_origin = Origin::Line(key.referenced.line());
            entries.push(Entry {
                key: key.value,
                key_origin,
                node,
            });
        }
        Ok(Kind::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(keys: &[&str]) -> Vec<Step> {
        keys.iter()
            .map(|key| Step::Key((*key).to_owned()))
            .collect()
    }

    #[test]
    fn every_value_knows_its_line() {
        let node = Node::parse("a: 1\nb:\n  c:\n    - x\n    - y\n").unwrap();
        assert_eq!(node.locate(&path(&["a"])), &Origin::Line(1));
        assert_eq!(node.locate(&path(&["b", "c"])), &Origin::Line(3));
        let mut item = path(&["b", "c"]);
        item.push(Step::Index(1));
        assert_eq!(node.locate(&item), &Origin::Line(5));
    }

    #[test]
    fn syntax_errors_name_the_line_and_quote_nothing() {
        let error = Node::parse("a: 1\nsecret: [hunter2\n").unwrap_err();
        assert_eq!(error.line, Some(2));
        assert!(!error.message.contains("hunter2"), "{error}");
        assert_eq!(Node::parse("a: 1\na: 2\n").unwrap_err().line, Some(2));
    }

    #[test]
    fn empty_documents_are_empty_maps() {
        assert_eq!(Node::parse("").unwrap().to_json(), serde_json::json!({}));
        assert_eq!(
            Node::parse("# nothing\n").unwrap().to_json(),
            serde_json::json!({})
        );
    }

    #[test]
    fn setting_replaces_and_takes_the_new_origin() {
        let mut node = Node::parse("a:\n  b: 1\n").unwrap();
        let origin = Origin::Variable("KERNTALLY_A_B".to_owned());
        node.set(&["a", "b"], Node::parse_value("[2]", &origin).unwrap());
        node.set(&["x", "y"], Node::parse_value("off", &origin).unwrap());
        assert_eq!(
            node.to_json(),
            serde_json::json!({"a": {"b": [2]}, "x": {"y": "off"}})
        );
        assert_eq!(node.locate(&path(&["a", "b"])), &origin);
    }
}
