//! Who an exchange belongs to, as resource attributes will say it.

/// Which rule of the contract's order gave a workload its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NameSource {
    /// The configuration's `services`.
    Configuration,
    /// The process's own `OTEL_SERVICE_NAME` or `OTEL_RESOURCE_ATTRIBUTES`.
    Environment,
    /// Its systemd unit.
    Unit,
    /// Its container's name.
    Container,
    /// What it runs: a jar, a module, a script.
    Program,
    /// Its executable.
    Executable,
    /// Nothing could be found out: the stand-in `_other`.
    Unknown,
}

/// A service on this node: processes with the same name, namespace, version and environment are one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Workload {
    /// `service.name`
    pub name: String,
    /// `service.namespace`
    pub namespace: Option<String>,
    /// `service.version`
    pub version: Option<String>,
    /// `deployment.environment.name`
    pub environment: Option<String>,
    /// Further resource attributes, sorted by key.
    pub attributes: Vec<(String, String)>,
    /// Which rule named it.
    pub named_by: NameSource,
}
