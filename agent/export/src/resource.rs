//! From a workload and the node it runs on to the attributes of an OTLP resource.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

use kerntally_model::{ProcessKey, Workload};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value::Value},
    resource::v1::Resource,
};
use uuid::Uuid;

use crate::{VERSION, semconv::resource as names};

/// Namespace the semantic conventions give for name-based instance ids.
/// <https://opentelemetry.io/docs/specs/semconv/registry/attributes/service/>
pub const INSTANCE_NAMESPACE: Uuid = Uuid::from_u128(0x4d63009a_8d0f_11ee_aad7_4c796ed8e320);

/// Value of `telemetry.sdk.name`, `telemetry.distro.name` and the agent's own `service.name`.
pub const AGENT_NAME: &str = "kerntally";

/// Node ids and host names longer than this are no names; nothing longer is read.
const NAME_BYTES: u64 = 4096;

/// Where the host's files are, seen from the agent.
#[derive(Clone, Debug)]
pub struct HostRoots {
    /// The host's `/proc`.
    pub proc: PathBuf,
}

impl Default for HostRoots {
    fn default() -> Self {
        Self {
            proc: PathBuf::from("/proc"),
        }
    }
}

/// Which source gave the node its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeIdSource {
    /// `resource.node`, or the name of the Kubernetes node.
    Configured,
    /// `/etc/machine-id` of the host.
    MachineId,
    /// The kernel's boot id: series get new instance ids at every boot.
    BootId,
}

/// The node this agent runs on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// What tells it from other nodes; hashed into instance ids and never exported itself.
    pub id: String,
    /// Where the id comes from.
    pub source: NodeIdSource,
    /// Its `host.name`.
    pub host_name: Option<String>,
}

/// Why the node has no id.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Neither configured, nor a machine-id, nor a boot id.
    #[error(
        "no node id: `resource.node` is not set, no machine-id of 32 hex digits was found, and `{path}` could not be read"
    )]
    Missing {
        /// File of the boot id.
        path: PathBuf,
        /// What reading it said.
        source: io::Error,
    },
}

/// Why a list of resource attributes was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AttributesError {
    /// An item without `=` or with an empty key.
    #[error("resource attribute {position} is not `key=value`")]
    NotAPair {
        /// Position in the list, from 1.
        position: usize,
    },
    /// A value whose percent-encoding is not UTF-8.
    #[error("value of resource attribute `{key}` is not UTF-8 after percent-decoding")]
    NotText {
        /// Its key.
        key: String,
        /// Where it stops being text.
        source: std::str::Utf8Error,
    },
}

/// Whether streams of different nodes, and of different versions on one, have a name of their own. Those of single
/// processes always have: a collection says which these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Identity {
    /// `service.instance.id` is of the service, its version and the node.
    #[default]
    Node,
    /// There is no `service.instance.id`: whoever adds up the points takes care of who they are from. Delta points
    /// only, as the totals of two writers cannot be told from resets.
    None,
}

/// What the resources of all workloads of one node have in common.
#[derive(Clone, Debug)]
pub struct ResourceTemplate {
    node: Node,
    identity: Identity,
    base: Vec<(String, String)>,
}

impl ResourceTemplate {
    /// `base` lies under every workload's own attributes; its `service.*` are left out, later items win.
    pub fn new(
        node: Node,
        identity: Identity,
        base: impl IntoIterator<Item = (String, String)>,
    ) -> Self {
        let base = base
            .into_iter()
            .filter(|(key, _)| !key.starts_with(names::SERVICE_PREFIX))
            .collect();
        Self {
            node,
            identity,
            base,
        }
    }

    /// The resource of one workload, or of one of its processes, its attributes sorted by key.
    pub fn resource(&self, workload: &Workload, process: Option<ProcessKey>) -> Resource {
        let attribute = |(key, value): (String, String)| match process {
            Some(process) if key == names::PROCESS_PID => {
                attribute(key, Value::IntValue(process.tgid.into()))
            }
            _ => attribute(key, Value::StringValue(value)),
        };
        let attributes = self.attributes(workload, process);
        Resource {
            attributes: attributes.into_iter().map(attribute).collect(),
            ..Resource::default()
        }
    }

    /// The attributes of such a resource as text.
    pub fn attributes(
        &self,
        workload: &Workload,
        process: Option<ProcessKey>,
    ) -> BTreeMap<String, String> {
        let mut all = BTreeMap::new();
        if let Some(host) = &self.node.host_name {
            all.insert(names::HOST_NAME.to_owned(), host.clone());
        }
        all.extend(self.base.iter().cloned());
        all.extend(workload.attributes.iter().cloned());
        let optional = [
            (names::SERVICE_NAMESPACE, &workload.namespace),
            (names::SERVICE_VERSION, &workload.version),
            (names::DEPLOYMENT_ENVIRONMENT_NAME, &workload.environment),
        ];
        for (key, value) in optional {
            if let Some(value) = value {
                all.insert(key.to_owned(), value.clone());
            }
        }
        all.insert(names::SERVICE_NAME.to_owned(), workload.name.clone());
        if let Some(process) = process {
            all.insert(names::PROCESS_PID.to_owned(), process.tgid.to_string());
        }
        if self.identity == Identity::Node || process.is_some() {
            let instance = self.instance_id(&all, process).to_string();
            all.insert(names::SERVICE_INSTANCE_ID.to_owned(), instance);
        } else {
            all.remove(names::SERVICE_INSTANCE_ID);
        }
        all.extend(telemetry_attributes().map(|(key, value)| (key.to_owned(), value.to_owned())));
        all
    }

    fn instance_id(
        &self,
        attributes: &BTreeMap<String, String>,
        process: Option<ProcessKey>,
    ) -> Uuid {
        let service = [
            names::SERVICE_NAMESPACE,
            names::SERVICE_NAME,
            names::SERVICE_VERSION,
            names::DEPLOYMENT_ENVIRONMENT_NAME,
        ]
        .map(|key| attributes.get(key).map(String::as_str));
        instance_id(&self.node.id, service, process)
    }
}

/// Finds the node's id and name: what is configured, else the host's machine-id, else the boot id.
pub fn read_node(configured: Option<&str>, roots: &HostRoots) -> Result<Node, NodeError> {
    let host_name = read_host_name(roots);
    if let Some(id) = configured.map(str::trim).filter(|id| !id.is_empty()) {
        return Ok(Node {
            id: id.to_owned(),
            source: NodeIdSource::Configured,
            host_name,
        });
    }
    if let Some(id) = machine_id_files(roots)
        .iter()
        .find_map(|path| read_machine_id(path))
    {
        return Ok(Node {
            id,
            source: NodeIdSource::MachineId,
            host_name,
        });
    }
    let path = roots.proc.join("sys/kernel/random/boot_id");
    match read_name(&path) {
        Ok(id) => Ok(Node {
            id,
            source: NodeIdSource::BootId,
            host_name,
        }),
        Err(source) => Err(NodeError::Missing { path, source }),
    }
}

/// Reads a list as `OTEL_RESOURCE_ATTRIBUTES` has it: `key=value,key=value`, values percent-encoded.
/// One bad item makes the whole list invalid, as the specification wants.
/// <https://opentelemetry.io/docs/specs/otel/resource/sdk/#specifying-resource-information-via-an-environment-variable>
pub fn parse_attributes(list: &str) -> Result<Vec<(String, String)>, AttributesError> {
    let items = list.split(',').map(str::trim).enumerate();
    items
        .filter(|(_, item)| !item.is_empty())
        .map(|(index, item)| {
            let (key, value) = item
                .split_once('=')
                .map(|(key, value)| (key.trim(), value.trim()))
                .filter(|(key, _)| !key.is_empty())
                .ok_or(AttributesError::NotAPair {
                    position: index + 1,
                })?;
            let not_text = |source| AttributesError::NotText {
                key: key.to_owned(),
                source,
            };
            let value = percent_encoding::percent_decode_str(value)
                .decode_utf8()
                .map_err(not_text)?;
            Ok((key.to_owned(), value.into_owned()))
        })
        .collect()
}

/// What every resource says about who made the telemetry.
pub(crate) fn telemetry_attributes() -> [(&'static str, &'static str); 5] {
    [
        (names::TELEMETRY_SDK_NAME, AGENT_NAME),
        (names::TELEMETRY_SDK_LANGUAGE, "rust"),
        (names::TELEMETRY_SDK_VERSION, VERSION),
        (names::TELEMETRY_DISTRO_NAME, AGENT_NAME),
        (names::TELEMETRY_DISTRO_VERSION, VERSION),
    ]
}

/// Name-based id of the node id and of namespace, name, version and environment, and of a process by its number and
/// start. Each field carries its length, so that no two different tuples ever read the same.
pub(crate) fn instance_id(
    node_id: &str,
    service: [Option<&str>; 4],
    process: Option<ProcessKey>,
) -> Uuid {
    let mut joined = String::new();
    let process = process.map(|process| [process.tgid.to_string(), process.start_ns.to_string()]);
    let process = process.iter().flatten().map(|field| Some(field.as_str()));
    for field in [Some(node_id)].into_iter().chain(service).chain(process) {
        match field {
            Some(text) => joined.extend([&text.len().to_string(), ":", text, ";"]),
            None => joined.push_str("-;"),
        }
    }
    Uuid::new_v5(&INSTANCE_NAMESPACE, joined.as_bytes())
}

fn attribute(key: String, value: Value) -> KeyValue {
    KeyValue {
        key,
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

/// The host's own root first: in a container `/etc` is the image's.
fn machine_id_files(roots: &HostRoots) -> Vec<PathBuf> {
    let host = roots.proc.join("1/root");
    let mut files = vec![
        host.join("etc/machine-id"),
        host.join("var/lib/dbus/machine-id"),
    ];
    if roots.proc == Path::new("/proc") {
        files.push(PathBuf::from("/etc/machine-id"));
    }
    files
}

/// 32 hex digits, not all zero; anything else (empty, `uninitialized`) is no id.
fn read_machine_id(path: &Path) -> Option<String> {
    let id = read_name(path).ok()?.to_ascii_lowercase();
    let hex = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    (hex && id.bytes().any(|byte| byte != b'0')).then_some(id)
}

/// The kernel answers with the reader's own UTS namespace, which in a pod is the pod's name: then the
/// host's file is right.
fn read_host_name(roots: &HostRoots) -> Option<String> {
    let namespace = |process: &str| fs::read_link(roots.proc.join(process).join("ns/uts")).ok();
    let ours = namespace("self");
    let path = if ours.is_some() && ours == namespace("1") {
        roots.proc.join("sys/kernel/hostname")
    } else {
        roots.proc.join("1/root/etc/hostname")
    };
    read_name(&path).ok()
}

fn read_name(path: &Path) -> io::Result<String> {
    use io::Read as _;

    let mut text = String::new();
    fs::File::open(path)?
        .take(NAME_BYTES)
        .read_to_string(&mut text)?;
    let name = text.trim();
    if name.is_empty() {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "file is empty"));
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests;
