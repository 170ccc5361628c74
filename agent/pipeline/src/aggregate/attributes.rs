//! Instruments and their attributes: which may stand in the points, and which do.

use kerntally_model::Instrument;

/// Instruments that there are, in the order of tables by instrument.
pub const INSTRUMENTS: [Instrument; 3] = [
    Instrument::HttpServerRequestDuration,
    Instrument::HttpClientRequestDuration,
    Instrument::HttpServerActiveRequests,
];

/// Position of an instrument in tables by instrument.
pub(crate) const fn place(instrument: Instrument) -> usize {
    match instrument {
        Instrument::HttpServerRequestDuration => 0,
        Instrument::HttpClientRequestDuration => 1,
        Instrument::HttpServerActiveRequests => 2,
    }
}

/// Name of an instrument by the semantic conventions.
pub const fn instrument_name(instrument: Instrument) -> &'static str {
    match instrument {
        Instrument::HttpServerRequestDuration => "http.server.request.duration",
        Instrument::HttpClientRequestDuration => "http.client.request.duration",
        Instrument::HttpServerActiveRequests => "http.server.active_requests",
    }
}

/// Attributes that points of the HTTP instruments can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum AttributeName {
    /// `http.request.method`
    RequestMethod,
    /// `http.route`
    Route,
    /// `http.response.status_code`, or its class in its place.
    StatusCode,
    /// `url.scheme`
    Scheme,
    /// `error.type`
    ErrorType,
    /// `network.protocol.version`
    ProtocolVersion,
    /// `server.address`
    ServerAddress,
    /// `server.port`
    ServerPort,
    /// `url.template`
    UrlTemplate,
}

use AttributeName as Name;

const SERVER: &[Name] = &[
    Name::RequestMethod,
    Name::Route,
    Name::StatusCode,
    Name::Scheme,
    Name::ErrorType,
    Name::ProtocolVersion,
];

const CLIENT: &[Name] = &[
    Name::RequestMethod,
    Name::StatusCode,
    Name::ServerAddress,
    Name::ServerPort,
    Name::ErrorType,
    Name::ProtocolVersion,
];

const ACTIVE: &[Name] = &[Name::RequestMethod, Name::Scheme];

const CLIENT_OPT_IN: &[Name] = &[Name::UrlTemplate, Name::Scheme];

impl AttributeName {
    /// Name by the semantic conventions.
    pub const fn text(self) -> &'static str {
        match self {
            Self::RequestMethod => "http.request.method",
            Self::Route => "http.route",
            Self::StatusCode => "http.response.status_code",
            Self::Scheme => "url.scheme",
            Self::ErrorType => "error.type",
            Self::ProtocolVersion => "network.protocol.version",
            Self::ServerAddress => "server.address",
            Self::ServerPort => "server.port",
            Self::UrlTemplate => "url.template",
        }
    }
}

/// A name that is not among those an instrument can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown attribute `{name}`, expected one of {expected}")]
pub struct UnknownAttribute {
    /// The name.
    pub name: String,
    /// Those it can have.
    pub expected: String,
}

/// The allow-list of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AttributeSet(u16);

impl AttributeSet {
    /// What is listed unless configured.
    pub fn default_of(instrument: Instrument) -> Self {
        Self::of(standing(instrument))
    }

    /// Everything that the instrument can have.
    pub fn possible(instrument: Instrument) -> Self {
        Self(Self::of(standing(instrument)).0 | Self::of(opt_in(instrument)).0)
    }

    /// Parses a list of names.
    pub fn parse<'a>(
        instrument: Instrument,
        names: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, UnknownAttribute> {
        let possible = || standing(instrument).iter().chain(opt_in(instrument));
        let mut set = Self(0);
        for name in names {
            let known = possible().find(|known| known.text() == name);
            let known = known.ok_or_else(|| UnknownAttribute {
                name: name.to_owned(),
                expected: possible()
                    .map(|known| known.text())
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
            set.0 |= known.bit();
        }
        Ok(set)
    }

    /// Whether an attribute is listed.
    pub fn contains(self, name: AttributeName) -> bool {
        self.0 & name.bit() != 0
    }

    /// The set less one attribute.
    #[must_use]
    pub fn without(self, name: AttributeName) -> Self {
        Self(self.0 & !name.bit())
    }

    fn of(names: &[Name]) -> Self {
        Self(names.iter().fold(0, |bits, name| bits | name.bit()))
    }
}

const fn standing(instrument: Instrument) -> &'static [Name] {
    match instrument {
        Instrument::HttpServerRequestDuration => SERVER,
        Instrument::HttpClientRequestDuration => CLIENT,
        Instrument::HttpServerActiveRequests => ACTIVE,
    }
}

const fn opt_in(instrument: Instrument) -> &'static [Name] {
    match instrument {
        Instrument::HttpClientRequestDuration => CLIENT_OPT_IN,
        Instrument::HttpServerRequestDuration | Instrument::HttpServerActiveRequests => &[],
    }
}

impl AttributeName {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::RequestMethod,
        Self::Route,
        Self::StatusCode,
        Self::Scheme,
        Self::ErrorType,
        Self::ProtocolVersion,
        Self::ServerAddress,
        Self::ServerPort,
        Self::UrlTemplate,
    ];

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_checked_per_instrument() {
        let server = Instrument::HttpServerRequestDuration;
        let client = Instrument::HttpClientRequestDuration;
        let set = AttributeSet::parse(client, ["url.template", "error.type"]).unwrap();
        assert!(set.contains(Name::UrlTemplate) && set.contains(Name::ErrorType));
        assert!(!set.contains(Name::RequestMethod));
        let error = AttributeSet::parse(server, ["server.address"]).unwrap_err();
        assert!(error.to_string().starts_with(
            "unknown attribute `server.address`, expected one of http.request.method"
        ));
        assert!(AttributeSet::parse(client, ["http.rout"]).is_err());
        assert_eq!(
            AttributeSet::parse(server, SERVER.iter().map(|name| name.text())),
            Ok(AttributeSet::default_of(server))
        );
    }
}
