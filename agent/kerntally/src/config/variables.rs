//! `KERNTALLY_*`: one environment variable for every scalar key, derived from the defaults themselves.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use serde_json::Value;

use super::node::{Node, Origin, SyntaxError};
use super::schema::Config;

const PREFIX: &str = "KERNTALLY_";

/// Variables with that prefix that are options of the command line, not keys.
const NOT_KEYS: [&str; 2] = ["KERNTALLY_CONFIG", "KERNTALLY_UNKNOWN_KEYS"];

/// Keys whose default is null and whose values are text even if they look like numbers.
const NULLABLE_TEXT: [&str; 8] = [
    "resource.node",
    "export.file",
    "export.otlp.tls.ca",
    "export.otlp.tls.cert",
    "export.otlp.tls.key",
    "kubernetes.node",
    "kubernetes.kubeconfig",
    "state.dir",
];

/// A key that a variable stands for.
#[derive(Clone, Debug)]
pub(crate) struct Key {
    pub(crate) path: Vec<String>,
    is_text: bool,
}

impl Key {
    /// Reads the variable's text; keys that hold text take it as it stands.
    pub(crate) fn parse(&self, text: &str, origin: &Origin) -> Result<Node, SyntaxError> {
        if self.is_text && text != "null" {
            return Ok(Node::scalar(text.into(), origin.clone()));
        }
        Node::parse_value(text, origin)
    }
}

/// The key a variable stands for.
pub(crate) fn key_of(variable: &str) -> Option<&'static Key> {
    table().get(variable)
}

/// Whether a variable looks like one of ours and is none. Kubernetes puts `NAME_SERVICE_HOST`,
/// `NAME_PORT_...` and the like into every pod beside a service called kerntally.
pub(crate) fn is_stray(variable: &str) -> bool {
    let Some(rest) = variable.strip_prefix(PREFIX) else {
        return false;
    };
    let by_kubernetes = rest == "PORT" || rest.starts_with("PORT_") || rest.contains("SERVICE_");
    !by_kubernetes && !NOT_KEYS.contains(&variable)
}

fn table() -> &'static BTreeMap<String, Key> {
    static TABLE: OnceLock<BTreeMap<String, Key>> = OnceLock::new();
    TABLE.get_or_init(|| {
        let mut table = BTreeMap::new();
        // The defaults are plain data: serialising them cannot fail.
        let defaults = serde_json::to_value(Config::default()).unwrap_or_default();
        collect(&defaults, &mut Vec::new(), &mut table);
        table
    })
}

fn collect(value: &Value, path: &mut Vec<String>, table: &mut BTreeMap<String, Key>) {
    match value {
        Value::Object(members) if !members.is_empty() => {
            for (key, member) in members {
                path.push(key.clone());
                collect(member, path, table);
                path.pop();
            }
        }
        leaf => {
            let dotted = path.join(".");
            let name = format!("{PREFIX}{}", dotted.replace(['.', '-'], "_").to_uppercase());
            let is_text = leaf.is_string() || NULLABLE_TEXT.contains(&dotted.as_str());
            table.insert(
                name,
                Key {
                    path: path.clone(),
                    is_text,
                },
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scalar_key_has_a_variable() {
        for (variable, path) in [
            ("KERNTALLY_EXPORT_INTERVAL", "export.interval"),
            ("KERNTALLY_EXPORT_OTLP_TLS_CA", "export.otlp.tls.ca"),
            ("KERNTALLY_PROBES_TLS_OPENSSL", "probes.tls-openssl"),
            ("KERNTALLY_HOOKS_HEAD_SLOTS", "hooks.head_slots"),
            ("KERNTALLY_SELF_LISTEN", "self.listen"),
            ("KERNTALLY_CONTROL_SOCKET", "control.socket"),
            ("KERNTALLY_LIMITS_CPU", "limits.cpu"),
        ] {
            assert_eq!(key_of(variable).unwrap().path.join("."), path);
        }
        assert!(key_of("KERNTALLY_NOPE").is_none());
    }

    #[test]
    fn service_variables_of_kubernetes_are_not_strays() {
        assert!(is_stray("KERNTALLY_EXPORT_INTERVALL"));
        assert!(!is_stray("KERNTALLY_SERVICE_HOST"));
        assert!(!is_stray("KERNTALLY_PORT_9469_TCP"));
        assert!(!is_stray("HOME"));
    }
}
