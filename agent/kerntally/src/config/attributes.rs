//! The attributes each instrument may carry, and those it carries unless told otherwise.

use std::collections::BTreeMap;

/// An instrument with its attributes.
struct Allowed {
    instrument: &'static str,
    default: &'static [&'static str],
    opt_in: &'static [&'static str],
    /// Emitted only when the configuration lists it.
    on_demand: bool,
    /// This version emits it. Nothing yet tells stage 6 which requests are open.
    is_built: bool,
}

const TABLE: [Allowed; 5] = [
    Allowed {
        instrument: "http.server.request.duration",
        default: &[
            "http.request.method",
            "http.route",
            "http.response.status_code",
            "url.scheme",
            "error.type",
            "network.protocol.version",
        ],
        opt_in: &[],
        on_demand: false,
        is_built: true,
    },
    Allowed {
        instrument: "http.client.request.duration",
        default: &[
            "http.request.method",
            "http.response.status_code",
            "server.address",
            "server.port",
            "error.type",
            "network.protocol.version",
        ],
        opt_in: &["url.template", "url.scheme"],
        on_demand: false,
        is_built: true,
    },
    Allowed {
        instrument: "rpc.server.call.duration",
        default: &[
            "rpc.system.name",
            "rpc.method",
            "rpc.response.status_code",
            "error.type",
        ],
        opt_in: &[],
        on_demand: true,
        is_built: false,
    },
    Allowed {
        instrument: "rpc.client.call.duration",
        default: &[
            "rpc.system.name",
            "rpc.method",
            "rpc.response.status_code",
            "error.type",
        ],
        opt_in: &[],
        on_demand: true,
        is_built: false,
    },
    Allowed {
        instrument: "http.server.active_requests",
        default: &["http.request.method", "url.scheme"],
        opt_in: &[],
        on_demand: true,
        is_built: true,
    },
];

/// The allow-lists in force when the configuration names none.
pub(crate) fn defaults() -> BTreeMap<String, Vec<String>> {
    TABLE
        .iter()
        .filter(|allowed| !allowed.on_demand)
        .map(|allowed| {
            let names = allowed
                .default
                .iter()
                .map(|name| (*name).to_owned())
                .collect();
            (allowed.instrument.to_owned(), names)
        })
        .collect()
}

/// Whether such an instrument exists.
pub(crate) fn is_instrument(name: &str) -> bool {
    TABLE.iter().any(|allowed| allowed.instrument == name)
}

/// Whether this version emits the instrument.
pub(crate) fn is_built(instrument: &str) -> bool {
    TABLE
        .iter()
        .any(|allowed| allowed.instrument == instrument && allowed.is_built)
}

/// Attributes an instrument may carry.
pub(crate) fn known(instrument: &str) -> Vec<&'static str> {
    TABLE
        .iter()
        .filter(|allowed| allowed.instrument == instrument)
        .flat_map(|allowed| allowed.default.iter().chain(allowed.opt_in).copied())
        .collect()
}

/// All instruments, for messages.
pub(crate) fn instruments() -> Vec<&'static str> {
    TABLE.iter().map(|allowed| allowed.instrument).collect()
}
