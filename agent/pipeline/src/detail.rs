//! What a series is told apart by, read off one exchange.

use std::sync::Arc;

use kerntally_model::{Exchange, Instrument, Role, Scheme, Time};
use kerntally_wire::{Address, Authority, TargetForm};

use crate::aggregate::{AttributeName, AttributeSet, ErrorKey, SeriesKey, StatusKey, Values};
use crate::config::StatusMode;
use crate::route::{Question, Route, RouteId};
use crate::services::{OTHER, Service};

/// What had to be interned.
pub(crate) struct Detail {
    pub(crate) route: Option<(RouteId, Arc<str>)>,
    pub(crate) address: Option<(u32, Arc<str>)>,
    pub(crate) port: Option<u16>,
}

/// Routes an exchange and interns its server address; `None` if its route is ignored.
pub(crate) fn detail(
    service: &mut Service,
    exchange: &Exchange<'_>,
    listed: AttributeSet,
    now: Time,
) -> Option<Detail> {
    let mut detail = Detail {
        route: None,
        address: None,
        port: None,
    };
    if exchange.degraded {
        return Some(detail);
    }
    let target = TargetForm::parse(exchange.method, exchange.target.bytes);
    let question = Question {
        target,
        target_cut: exchange.target.cut,
        status: exchange.status,
        now_ns: now.monotonic_ns,
    };
    let (routes, name) = match exchange.role {
        Role::Server => (&mut service.server_routes, AttributeName::Route),
        Role::Client => (&mut service.client_routes, AttributeName::UrlTemplate),
    };
    if routes.ignores(&question) {
        return None;
    }
    if listed.contains(name)
        && let Route::Template(id, template) = routes.route(&question)
    {
        detail.route = Some((id, template));
    }
    detail.add_address(service, exchange, &target, listed, now);
    Some(detail)
}

impl Detail {
    fn add_address(
        &mut self,
        service: &mut Service,
        exchange: &Exchange<'_>,
        target: &TargetForm<'_>,
        listed: AttributeSet,
        now: Time,
    ) {
        let wants_address = listed.contains(AttributeName::ServerAddress);
        let wants_port = listed.contains(AttributeName::ServerPort);
        if !wants_address && !wants_port {
            return;
        }
        let Some((address, port)) = server_address(exchange, target) else {
            return;
        };
        self.port = wants_port.then_some(port);
        if wants_address {
            let limit = service.settings.hosts;
            let (id, name) = service
                .hosts
                .intern(address.as_str(), limit, now.monotonic_ns);
            self.address = Some((id, Arc::clone(name)));
        }
    }
}

/// Host and port that a client asked for: of the target, of `Host`, else of the connection.
fn server_address(exchange: &Exchange<'_>, target: &TargetForm<'_>) -> Option<(Address, u16)> {
    let named = target
        .authority()
        .or(exchange.host)
        .and_then(|bytes| Authority::parse(bytes).ok());
    if let Some(authority) = named {
        let default = match exchange.scheme {
            Scheme::Http => 80,
            Scheme::Https => 443,
        };
        return Some((authority.address, authority.port.unwrap_or(default)));
    }
    exchange
        .peer
        .map(|peer| (Address::from_ip(peer.ip()), peer.port()))
}

/// Key and values of the series, without what the caller adds.
pub(crate) fn described(
    exchange: &Exchange<'_>,
    listed: AttributeSet,
    mode: StatusMode,
    detail: &Detail,
) -> (SeriesKey, Values) {
    let status = if listed.contains(AttributeName::StatusCode) {
        StatusKey::of(exchange.status, mode)
    } else {
        StatusKey::Absent
    };
    let error = if listed.contains(AttributeName::ErrorType) {
        ErrorKey::of(exchange, mode)
    } else {
        ErrorKey::Absent
    };
    let version = listed
        .contains(AttributeName::ProtocolVersion)
        .then_some(exchange.version);
    let scheme = listed
        .contains(AttributeName::Scheme)
        .then_some(exchange.scheme);
    let port = detail.port;
    let key = SeriesKey {
        workload: OTHER,
        instrument: Instrument::HttpServerRequestDuration,
        overflow: false,
        method: 0,
        route: detail.route.as_ref().map_or(0, |(id, _)| id.0),
        address: detail.address.as_ref().map_or(0, |(id, _)| *id),
        port,
        status,
        error,
        version,
        scheme,
    };
    let values = Values {
        method: None,
        route: None,
        address: None,
        port,
        status,
        error,
        version,
        scheme,
    };
    (key, values)
}
