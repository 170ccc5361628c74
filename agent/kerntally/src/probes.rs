//! The probes users can switch, by name.

/// A probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Probe {
    pub(crate) name: &'static str,
    pub(crate) is_built: bool,
    pub(crate) purpose: &'static str,
}

/// All probes of the configuration.
pub(crate) const PROBES: [Probe; 5] = [
    Probe {
        name: "http1",
        is_built: true,
        purpose: "HTTP/1.0 and 1.1 in plain text",
    },
    Probe {
        name: "http2",
        is_built: false,
        purpose: "HTTP/2 and gRPC in plain text",
    },
    Probe {
        name: "tls-openssl",
        is_built: false,
        purpose: "HTTP inside OpenSSL",
    },
    Probe {
        name: "tls-gnutls",
        is_built: false,
        purpose: "HTTP inside GnuTLS",
    },
    Probe {
        name: "tls-go",
        is_built: false,
        purpose: "HTTP inside Go's crypto/tls",
    },
];

/// The probe with a name.
pub(crate) fn by_name(name: &str) -> Result<Probe, String> {
    PROBES
        .into_iter()
        .find(|probe| probe.name == name)
        .ok_or_else(|| {
            let names: Vec<_> = PROBES.iter().map(|probe| probe.name).collect();
            format!(
                "no such probe: {name}, expected one of {}",
                names.join(", ")
            )
        })
}

/// Probes to switch on or off; an empty list means all that are built.
pub(crate) fn selection(names: &[String], on: bool) -> Result<Vec<Probe>, String> {
    if names.is_empty() {
        return Ok(PROBES.into_iter().filter(|probe| probe.is_built).collect());
    }
    let mut selected = Vec::new();
    for name in names {
        let probe = by_name(name)?;
        if on && !probe.is_built {
            return Err(format!("probe {name} is not built in this version"));
        }
        selected.push(probe);
    }
    Ok(selected)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn enabling_by_hand_what_is_not_built_is_refused() {
        assert!(
            selection(&names(&["http2"]), true)
                .unwrap_err()
                .contains("not built")
        );
        assert!(selection(&names(&["http2"]), false).is_ok());
        assert!(
            selection(&names(&["http9"]), false)
                .unwrap_err()
                .contains("http9")
        );
        assert_eq!(selection(&[], true).unwrap().len(), 1);
    }
}
