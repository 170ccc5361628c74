//! Rules about the attributes of points: which may stand there, and what they may say.

use std::collections::HashSet;

use kerntally_export::otlp::{AnyValue, KeyValue, any_value::Value as Any};

use super::convention::{self, Convention, Form, METHODS, Need, OVERFLOW, Side};
use super::path::{Flaw, flaw};
use super::points::PointView;
use super::{Lint, Rule, Subject, shown, shown_value, text};

/// Longest value.
const VALUE_BYTES: usize = 1024;

/// Longest server address.
const ADDRESS_BYTES: usize = 64;

/// Longest name of a Unix socket.
const SOCKET_NAME_BYTES: usize = 108;

/// What `error.type` says without a status.
const WITHOUT_STATUS: [&str; 4] = [
    "client_disconnected",
    "no_response",
    "connection_reset",
    "process_exit",
];

/// What it says beside the status of a response that was cut short.
const TRUNCATED: &str = "truncated_response";

/// A status as a point has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status<'a> {
    Code(i64),
    Class(&'a str),
}

impl Status<'_> {
    /// Its hundreds.
    fn class(self) -> Option<i64> {
        match self {
            Self::Code(code) => Some(code / 100),
            Self::Class(class) => class.strip_suffix("xx")?.parse().ok(),
        }
    }

    fn text(self) -> String {
        match self {
            Self::Code(code) => code.to_string(),
            Self::Class(class) => class.to_owned(),
        }
    }
}

/// Keys that stand there more than once.
pub(super) fn repeated(attributes: &[KeyValue]) -> Vec<&str> {
    let mut seen = HashSet::new();
    attributes
        .iter()
        .map(|attribute| attribute.key.as_str())
        .filter(|key| !seen.insert(*key))
        .collect()
}

impl Lint {
    pub(super) fn attributes(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        let attributes = point.attributes;
        for key in repeated(attributes) {
            self.find_at(
                Rule::AttributeDuplicate,
                subject,
                Some(key),
                Some(point),
                "twice",
            );
        }
        for attribute in attributes {
            self.attribute(subject, point, attribute);
        }
        if attributes.iter().any(|attribute| attribute.key == OVERFLOW) {
            self.overflow(subject, point);
            return;
        }
        if let Some(convention) = subject.convention {
            self.missing(subject, point, convention);
            if convention.is_http && convention.measures != convention::Measures::Level {
                self.outcome(subject, point, convention.side);
            }
        }
    }

    fn attribute(&mut self, subject: &Subject<'_>, point: &PointView<'_>, attribute: &KeyValue) {
        let key = attribute.key.as_str();
        let mut find = |rule, found: String| {
            self.find_at(rule, subject, Some(key), Some(point), found);
        };
        let value = attribute.value.as_ref();
        let is_empty = match value.and_then(|value| value.value.as_ref()) {
            None => true,
            Some(Any::StringValue(text)) => text.is_empty(),
            Some(_) => false,
        };
        if key.is_empty() || is_empty {
            find(Rule::AttributeEmpty, "nothing".to_owned());
        }
        if text(attribute).is_some_and(|text| text.len() > VALUE_BYTES) {
            find(Rule::AttributeLength, shown_value(value));
        }
        if convention::is_unbounded(key) {
            find(Rule::AttributeUnbounded, shown_value(value));
            return;
        }
        if let Some(convention) = subject.convention {
            let listed = convention.attributes.iter().find(|(name, ..)| *name == key);
            match listed {
                None => self.not_listed(subject, point, key),
                Some((_, need, form)) => {
                    if *need == Need::OptIn {
                        find(Rule::AttributeOptIn, shown_value(value));
                    }
                    if !is_of(value, *form) {
                        find(Rule::AttributeType, shown_value(value));
                        return;
                    }
                }
            }
        }
        self.value(subject, point, attribute);
    }

    fn not_listed(&mut self, subject: &Subject<'_>, point: &PointView<'_>, key: &str) {
        let renamed = &self.options.declared.renamed;
        if renamed.iter().any(|known| known == key) {
            return;
        }
        match convention::attribute_successor(key) {
            Some(successor) => {
                let found = format!("`{key}`, which became `{successor}`");
                self.find_at(
                    Rule::AttributeDeprecated,
                    subject,
                    Some(key),
                    Some(point),
                    found,
                );
            }
            None => {
                self.find_at(
                    Rule::AttributeUnexpected,
                    subject,
                    Some(key),
                    Some(point),
                    shown(key),
                );
            }
        }
    }

    /// What a known attribute may say.
    fn value(&mut self, subject: &Subject<'_>, point: &PointView<'_>, attribute: &KeyValue) {
        let broken = match attribute.key.as_str() {
            "http.route" | "url.template" => self.route_flaw(attribute),
            // The rest of the rules are those of the conventions' own instruments.
            _ if subject.convention.is_none() => None,
            "http.request.method" => text(attribute)
                .filter(|method| !self.is_known_method(method))
                .map(|_| Rule::MethodUnknown),
            "http.response.status_code" => integer(attribute)
                .filter(|code| !(100..=599).contains(code))
                .map(|_| Rule::StatusUnknown),
            "http.response.status_class" => match text(attribute) {
                Some("1xx" | "2xx" | "3xx" | "4xx" | "5xx") => Some(Rule::StatusClass),
                _ => Some(Rule::StatusUnknown),
            },
            "url.scheme" => text(attribute)
                .filter(|scheme| !["http", "https"].contains(scheme))
                .map(|_| Rule::SchemeUnknown),
            "network.protocol.version" => text(attribute)
                .filter(|version| !["0.9", "1.0", "1.1", "2", "3"].contains(version))
                .map(|_| Rule::ProtocolVersion),
            "server.port" => integer(attribute)
                .filter(|port| !(1..=65_535).contains(port))
                .map(|_| Rule::ServerPort),
            "server.address" => text(attribute)
                .filter(|address| !is_address(address))
                .map(|_| Rule::ServerAddress),
            _ => None,
        };
        if let Some(rule) = broken {
            let found = shown_value(attribute.value.as_ref());
            self.find_at(rule, subject, Some(&attribute.key), Some(point), found);
        }
    }

    fn route_flaw(&self, attribute: &KeyValue) -> Option<Rule> {
        let route = text(attribute)?;
        let is_declared = self
            .options
            .declared
            .patterns
            .iter()
            .any(|pattern| pattern == route);
        match flaw(route)? {
            Flaw::Query => Some(Rule::RouteQuery),
            Flaw::Value(_) => (!is_declared).then_some(Rule::RouteRaw),
        }
    }

    fn is_known_method(&self, method: &str) -> bool {
        METHODS.contains(&method)
            || self
                .options
                .declared
                .methods
                .iter()
                .any(|known| known == method)
    }

    fn overflow(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        let is_true = point
            .attributes
            .iter()
            .filter(|attribute| attribute.key == OVERFLOW)
            .filter_map(|attribute| attribute.value.as_ref()?.value.as_ref())
            .all(|value| *value == Any::BoolValue(true));
        if point.attributes.len() != 1 || !is_true {
            self.find(Rule::OverflowForm, subject, Some(point), point.shown());
        }
    }

    fn missing(&mut self, subject: &Subject<'_>, point: &PointView<'_>, convention: &Convention) {
        for (key, need, _) in convention.attributes {
            let is_there = point
                .attributes
                .iter()
                .any(|attribute| attribute.key == *key);
            let is_wanted =
                *need == Need::Required && self.options.declared.wants(convention.name, key);
            // Unix sockets have none.
            let cannot_be = *key == "server.port" && is_of_socket(point.attributes);
            if is_wanted && !is_there && !cannot_be {
                self.find_at(
                    Rule::AttributeMissing,
                    subject,
                    Some(key),
                    Some(point),
                    "none",
                );
            }
        }
    }

    /// Status and error belong together.
    fn outcome(&mut self, subject: &Subject<'_>, point: &PointView<'_>, side: Side) {
        let find = |key: &str| {
            point
                .attributes
                .iter()
                .find(|attribute| attribute.key == key)
        };
        let code = find("http.response.status_code").and_then(integer);
        let class = find("http.response.status_class").and_then(text);
        let status = code.map(Status::Code).or(class.map(Status::Class));
        let error = find("error.type").and_then(text);
        let declared = &self.options.declared;
        let name = subject.metric.name.as_str();
        let is_code_wanted = declared.wants(name, "http.response.status_code");
        let is_error_wanted = declared.wants(name, "error.type");
        let Some(status) = status else {
            // A client that gave up has neither; only it knows whether that is an error.
            match error {
                None if side == Side::Server && is_code_wanted && is_error_wanted => {
                    self.find(Rule::StatusMissing, subject, Some(point), "neither");
                }
                Some(error) if is_code_wanted && !WITHOUT_STATUS.contains(&error) => {
                    self.error_at(Rule::ErrorTypeUnknown, subject, point, error);
                }
                _ => {}
            }
            return;
        };
        let is_error = match (side, status.class()) {
            (_, None) => return,
            (Side::Server, Some(class)) => class >= 5,
            (Side::Client, Some(class)) => class >= 4,
        };
        match error {
            None if is_error && is_error_wanted => {
                let found = format!("none beside {}", status.text());
                self.error_at(Rule::ErrorTypeMissing, subject, point, &found);
            }
            Some(error) if is_error && error != status.text() && error != TRUNCATED => {
                self.error_at(Rule::ErrorTypeMismatch, subject, point, error);
            }
            Some(error) if !is_error && error != TRUNCATED => {
                self.error_at(Rule::ErrorTypeUnexpected, subject, point, error);
            }
            _ => {}
        }
    }

    fn error_at(&mut self, rule: Rule, subject: &Subject<'_>, point: &PointView<'_>, found: &str) {
        self.find_at(rule, subject, Some("error.type"), Some(point), shown(found));
    }
}

fn is_of(value: Option<&AnyValue>, form: Form) -> bool {
    matches!(
        (value.and_then(|value| value.value.as_ref()), form),
        (Some(Any::StringValue(_)), Form::Text)
            | (Some(Any::IntValue(_)), Form::Integer)
            | (Some(Any::BoolValue(_)), Form::Boolean)
    )
}

fn integer(attribute: &KeyValue) -> Option<i64> {
    match attribute.value.as_ref()?.value.as_ref()? {
        Any::IntValue(number) => Some(*number),
        _ => None,
    }
}

/// `_OTHER` stands for the addresses past the limit; the name of a Unix socket is as it was bound.
fn is_address(address: &str) -> bool {
    if address == "_OTHER" {
        return true;
    }
    if is_socket_name(address) {
        return address.len() <= SOCKET_NAME_BYTES && !address.contains(char::is_control);
    }
    let is_plain = address.len() <= ADDRESS_BYTES
        && !address.contains("://")
        && !address.contains(|letter: char| letter.is_whitespace() || letter.is_control());
    // One colon parts a port; two or more are an IPv6 address.
    let has_port = address.matches(':').count() == 1;
    let is_bracketed = address.starts_with('[');
    is_plain
        && !(address.contains(|letter: char| letter.is_ascii_uppercase())
            || has_port
            || is_bracketed)
}

/// Whether the server is asked by the name of a Unix socket.
fn is_of_socket(attributes: &[KeyValue]) -> bool {
    let mut addresses = attributes
        .iter()
        .filter(|attribute| attribute.key == "server.address");
    addresses.any(|address| text(address).is_some_and(is_socket_name))
}

/// A path, or an abstract name as the kernel shows it.
fn is_socket_name(address: &str) -> bool {
    address.starts_with(['/', '@'])
}
