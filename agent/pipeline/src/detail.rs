//! What a series is told apart by, read off one exchange.

use kerntally_model::{Exchange, Role, Scheme, Time};
use kerntally_wire::{Address, Authority, TargetForm};

use crate::aggregate::{
    AttributeName, AttributeSet, ErrorKey, Facts, Methods, Recipe, StatusKey, Values,
};
use crate::route::{Question, Route, RouteId};
use crate::services::Service;

/// Numbers of what had to be interned; 0 is absent.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Detail {
    pub(crate) route: u32,
    pub(crate) address: u32,
    pub(crate) port: u16,
}

/// Routes an exchange and interns its server address; `None` if its route is ignored.
pub(crate) fn detail(
    service: &mut Service,
    exchange: &Exchange<'_>,
    listed: AttributeSet,
    now: Time,
) -> Option<Detail> {
    let mut detail = Detail::default();
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
        && let Route::Template(id) = routes.route(&question)
    {
        detail.route = id.0;
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
        if wants_port {
            self.port = port;
        }
        if wants_address {
            let limit = service.settings.hosts;
            self.address = service
                .hosts
                .intern(address.as_str(), limit, now.monotonic_ns);
        }
    }

    /// Values of a new series.
    pub(crate) fn values(
        &self,
        service: &Service,
        role: Role,
        facts: &Facts,
        method: Option<u16>,
        methods: &Methods,
    ) -> Values {
        let routes = match role {
            Role::Server => &service.server_routes,
            Role::Client => &service.client_routes,
        };
        Values {
            method: method.map(|method| methods.name(method)),
            route: routes.text(RouteId(self.route)),
            address: (self.address != 0).then(|| service.hosts.name(self.address)),
            port: (self.port != 0).then_some(self.port),
            status: facts.status,
            error: facts.error,
            version: facts.version,
            scheme: facts.scheme,
        }
    }
}

/// Host and port that a client asked for: of the target, of `Host`, else of the connection. Unix sockets have no port.
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
    if let Some(name) = exchange.peer_name {
        return Some((Address::from_socket_name(name)?, 0));
    }
    exchange
        .peer
        .map(|peer| (Address::from_ip(peer.ip()), peer.port()))
}

/// What a recipe wants to know that needs no interning.
pub(crate) fn facts(exchange: &Exchange<'_>, recipe: &Recipe) -> Facts {
    let (listed, mode) = (recipe.listed, recipe.status);
    Facts {
        status: if listed.contains(AttributeName::StatusCode) {
            StatusKey::of(exchange.status, mode)
        } else {
            StatusKey::Absent
        },
        error: if listed.contains(AttributeName::ErrorType) {
            ErrorKey::of(exchange, mode)
        } else {
            ErrorKey::Absent
        },
        version: listed
            .contains(AttributeName::ProtocolVersion)
            .then_some(exchange.version),
        scheme: listed
            .contains(AttributeName::Scheme)
            .then_some(exchange.scheme),
    }
}
