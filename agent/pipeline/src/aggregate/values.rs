//! What the attributes of a point say: read off an exchange, told apart by numbers, written out once per series.

use std::borrow::Cow;
use std::sync::Arc;

use kerntally_model::{
    Attribute, AttributeValue, EndReason, Exchange, HttpVersion, Instrument, Role, Scheme,
};

use super::attributes::AttributeName as Name;
use super::recipe::Recipe;
use crate::config::StatusMode;

/// Numbers of classes of statuses have this bit, numbers of errors without a status the next: a status code
/// has three digits.
const CLASSES: u16 = 1 << 14;
const NAMED: u16 = 1 << 15;

/// A status as points tell it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum StatusKey {
    /// There is none, or it is not listed.
    Absent,
    /// The code.
    Code(u16),
    /// Its first digit.
    Class(u16),
}

impl StatusKey {
    /// A status by the service's mode.
    pub fn of(status: Option<u16>, mode: StatusMode) -> Self {
        match (status, mode) {
            (None, _) => Self::Absent,
            (Some(code), StatusMode::Code) => Self::Code(code),
            (Some(code), StatusMode::Class) => Self::Class(code / 100),
        }
    }

    /// A number of its own for each.
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Absent => 0,
            Self::Code(code) => code,
            Self::Class(class) => CLASSES | class,
        }
    }

    fn text(self) -> Option<String> {
        match self {
            Self::Absent => None,
            Self::Code(code) => Some(code.to_string()),
            Self::Class(class) => Some(format!("{class}xx")),
        }
    }
}

/// Why an exchange counts as failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKey {
    /// It does not, or the reason is not listed.
    Absent,
    /// Its status says so.
    Status(StatusKey),
    /// The client went away before the response.
    ClientDisconnected,
    /// The server closed without a response.
    NoResponse,
    /// The connection was reset before the response.
    ConnectionReset,
    /// The observed process ended.
    ProcessExit,
    /// The connection ended within the response.
    TruncatedResponse,
}

impl ErrorKey {
    /// Tells whether and how an exchange failed.
    pub fn of(exchange: &Exchange<'_>, mode: StatusMode) -> Self {
        let Some(status) = exchange.status else {
            return Self::without_status(exchange.role, exchange.end_reason);
        };
        let is_error = match exchange.role {
            Role::Server => status >= 500,
            Role::Client => status >= 400,
        };
        if is_error {
            return Self::Status(StatusKey::of(Some(status), mode));
        }
        if !exchange.complete && ends_connection(exchange.end_reason) {
            return Self::TruncatedResponse;
        }
        Self::Absent
    }

    /// A number of its own for each.
    pub(super) const fn number(self) -> u16 {
        match self {
            Self::Absent => 0,
            Self::Status(status) => status.number(),
            Self::ClientDisconnected => NAMED,
            Self::NoResponse => NAMED | 1,
            Self::ConnectionReset => NAMED | 2,
            Self::ProcessExit => NAMED | 3,
            Self::TruncatedResponse => NAMED | 4,
        }
    }

    fn without_status(role: Role, end: EndReason) -> Self {
        match (role, end) {
            (_, EndReason::Exit) => Self::ProcessExit,
            (Role::Server, EndReason::PeerClose | EndReason::Reset) => Self::ClientDisconnected,
            (Role::Client, EndReason::Reset) => Self::ConnectionReset,
            // This process gave up: whether that is an error, only it knows.
            (Role::Client, EndReason::LocalClose) => Self::Absent,
            _ => Self::NoResponse,
        }
    }

    fn text(self) -> Option<String> {
        Some(match self {
            Self::Absent => return None,
            Self::Status(status) => return status.text(),
            Self::ClientDisconnected => "client_disconnected".to_owned(),
            Self::NoResponse => "no_response".to_owned(),
            Self::ConnectionReset => "connection_reset".to_owned(),
            Self::ProcessExit => "process_exit".to_owned(),
            Self::TruncatedResponse => "truncated_response".to_owned(),
        })
    }
}

fn ends_connection(end: EndReason) -> bool {
    matches!(
        end,
        EndReason::LocalClose | EndReason::PeerClose | EndReason::Reset | EndReason::Exit
    )
}

/// Values of one new series; those that are `None` or not listed are left out.
#[derive(Clone, Debug)]
pub(crate) struct Values {
    /// `http.request.method`
    pub(crate) method: Option<Arc<str>>,
    /// `http.route` or `url.template`, by instrument.
    pub(crate) route: Option<Arc<str>>,
    /// `server.address`
    pub(crate) address: Option<Arc<str>>,
    /// `server.port`
    pub(crate) port: Option<u16>,
    /// `http.response.status_code` or its class.
    pub(crate) status: StatusKey,
    /// `error.type`
    pub(crate) error: ErrorKey,
    /// `network.protocol.version`
    pub(crate) version: Option<HttpVersion>,
    /// `url.scheme`
    pub(crate) scheme: Option<Scheme>,
}

impl Values {
    /// The attributes by the names of a recipe, sorted by key.
    pub(crate) fn into_attributes(self, recipe: &Recipe) -> Arc<[Attribute]> {
        let mut attributes = self.by_convention(recipe.instrument);
        if !recipe.renames.is_empty() {
            for (key, _) in &mut attributes {
                let renamed = recipe.renames.iter().find(|(from, _)| **from == **key);
                if let Some((_, to)) = renamed {
                    *key = Cow::Owned((**to).to_owned());
                }
            }
            attributes.sort_by(|a, b| a.0.cmp(&b.0));
        }
        attributes.into()
    }

    /// The attributes by the names of the semantic conventions, sorted by key.
    fn by_convention(self, instrument: Instrument) -> Vec<Attribute> {
        let text = |text: &str| AttributeValue::Text(text.into());
        let mut attributes: Vec<Attribute> = Vec::with_capacity(8);
        let mut push = |key: &'static str, value: Option<AttributeValue>| {
            attributes.extend(value.map(|value| (Cow::Borrowed(key), value)));
        };
        push(
            Name::ErrorType.text(),
            self.error.text().map(|error| text(&error)),
        );
        push(
            Name::RequestMethod.text(),
            self.method.map(AttributeValue::Text),
        );
        match self.status {
            StatusKey::Absent => {}
            StatusKey::Code(code) => {
                push(
                    Name::StatusCode.text(),
                    Some(AttributeValue::Integer(code.into())),
                );
            }
            StatusKey::Class(_) => {
                push(STATUS_CLASS, self.status.text().map(|class| text(&class)));
            }
        }
        let route = self.route.map(AttributeValue::Text);
        let (route, template) = match instrument {
            Instrument::HttpClientRequestDuration => (None, route),
            Instrument::HttpServerRequestDuration | Instrument::HttpServerActiveRequests => {
                (route, None)
            }
        };
        push(Name::Route.text(), route);
        push(
            Name::ProtocolVersion.text(),
            self.version.map(|version| text(version_text(version))),
        );
        push(
            Name::ServerAddress.text(),
            self.address.map(AttributeValue::Text),
        );
        push(
            Name::ServerPort.text(),
            self.port.map(|port| AttributeValue::Integer(port.into())),
        );
        push(
            Name::Scheme.text(),
            self.scheme.map(|scheme| text(scheme_text(scheme))),
        );
        push(Name::UrlTemplate.text(), template);
        attributes
    }
}

/// Stands in place of the status code in class mode.
pub const STATUS_CLASS: &str = "http.response.status_class";

/// The one attribute of overflow series.
pub(super) fn overflow() -> Arc<[Attribute]> {
    Arc::new([(
        Cow::Borrowed("otel.metric.overflow"),
        AttributeValue::Boolean(true),
    )])
}

fn version_text(version: HttpVersion) -> &'static str {
    match version {
        HttpVersion::Http10 => "1.0",
        HttpVersion::Http11 => "1.1",
    }
}

fn scheme_text(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Http => "http",
        Scheme::Https => "https",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attributes_are_sorted_by_key() {
        let values = Values {
            method: Some("GET".into()),
            route: Some("/a".into()),
            address: Some("h".into()),
            port: Some(80),
            status: StatusKey::Code(500),
            error: ErrorKey::Status(StatusKey::Code(500)),
            version: Some(HttpVersion::Http11),
            scheme: Some(Scheme::Http),
        };
        for instrument in [
            Instrument::HttpServerRequestDuration,
            Instrument::HttpClientRequestDuration,
        ] {
            for status in [StatusKey::Code(500), StatusKey::Class(5)] {
                let attributes = Values {
                    status,
                    ..values.clone()
                }
                .by_convention(instrument);
                assert_eq!(attributes.len(), 8);
                assert!(attributes.is_sorted_by(|a, b| a.0 <= b.0));
            }
        }
    }
}
