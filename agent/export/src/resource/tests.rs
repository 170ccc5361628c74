use std::{collections::BTreeSet, fs, path::Path};

use kerntally_model::ProcessKey;
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::{
    AttributesError, HostRoots, Identity, Node, NodeError, NodeIdSource, ResourceTemplate,
    instance_id, parse_attributes, read_node,
};
use crate::fixture::{node, workload};

const MACHINE_ID: &str = "0123456789ABCDEF0123456789abcdef";

fn write(root: &Path, file: &str, content: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, content).unwrap();
}

fn roots(root: &Path) -> HostRoots {
    HostRoots {
        proc: root.to_owned(),
    }
}

#[test]
fn takes_the_configured_id_first() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), "1/root/etc/machine-id", MACHINE_ID);
    let node = read_node(Some("node-a"), &roots(root.path())).unwrap();
    assert_eq!(
        (node.id.as_str(), node.source),
        ("node-a", NodeIdSource::Configured)
    );
}

#[test]
fn takes_the_hosts_machine_id_next() {
    let root = tempfile::tempdir().unwrap();
    write(
        root.path(),
        "1/root/etc/machine-id",
        &format!("{MACHINE_ID}\n"),
    );
    write(root.path(), "1/root/etc/hostname", "node-b\n");
    let node = read_node(Some("  "), &roots(root.path())).unwrap();
    assert_eq!(node.id, MACHINE_ID.to_ascii_lowercase());
    assert_eq!(node.source, NodeIdSource::MachineId);
    assert_eq!(node.host_name.as_deref(), Some("node-b"));
}

#[test]
fn falls_back_to_the_boot_id_when_the_machine_id_is_none() {
    for bad in [
        "",
        "uninitialized\n",
        "00000000000000000000000000000000\n",
        "0123",
    ] {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "1/root/etc/machine-id", bad);
        write(root.path(), "sys/kernel/random/boot_id", "5f0c-boot\n");
        let node = read_node(None, &roots(root.path())).unwrap();
        assert_eq!(
            (node.id.as_str(), node.source),
            ("5f0c-boot", NodeIdSource::BootId),
            "{bad:?}"
        );
    }
}

#[test]
fn names_the_file_when_there_is_no_id() {
    let root = tempfile::tempdir().unwrap();
    let NodeError::Missing { path, .. } = read_node(None, &roots(root.path())).unwrap_err();
    assert!(path.ends_with("sys/kernel/random/boot_id"));
}

#[test]
fn reads_the_kernels_host_name_within_the_hosts_own_namespace() {
    let root = tempfile::tempdir().unwrap();
    for process in ["1", "self"] {
        fs::create_dir_all(root.path().join(process).join("ns")).unwrap();
        let link = root.path().join(process).join("ns/uts");
        std::os::unix::fs::symlink("uts:[4026531838]", link).unwrap();
    }
    write(root.path(), "sys/kernel/hostname", "real\n");
    write(root.path(), "1/root/etc/hostname", "stale\n");
    let node = read_node(Some("id"), &roots(root.path())).unwrap();
    assert_eq!(node.host_name.as_deref(), Some("real"));
}

#[test]
fn tells_every_two_services_apart() {
    let mut service = workload("api");
    let mut ids = BTreeSet::new();
    let mut add = |node: &Node, service: &kerntally_model::Workload| {
        let template = ResourceTemplate::new(node.clone(), Identity::Node, []);
        let id = template.attributes(service, None)["service.instance.id"].clone();
        assert!(ids.insert(id.clone()), "{service:?} repeats {id}");
    };
    add(&node(), &service);
    add(
        &Node {
            id: "other".to_owned(),
            ..node()
        },
        &service,
    );
    service.version = Some("1".to_owned());
    add(&node(), &service);
    service.environment = service.version.take();
    add(&node(), &service);
    service.environment = None;
    service.namespace = None;
    add(&node(), &service);
    service.namespace = Some(String::new());
    add(&node(), &service);
}

#[test]
fn joins_fields_so_that_none_reads_as_another() {
    let ids = [
        instance_id("n", [Some("a;1:b"), Some("c"), None, None], None),
        instance_id("n", [Some("a"), Some("b;1:c"), None, None], None),
        instance_id("n", [Some("a"), Some("b"), Some("c"), None], None),
        instance_id("n", [None, Some("-"), None, None], None),
        instance_id("n;-", [Some("-"), None, None, None], None),
    ];
    assert_eq!(ids.iter().collect::<BTreeSet<_>>().len(), ids.len());
}

#[test]
fn gives_the_same_instance_id_for_ever() {
    // Streams of running installations would break off if this ever changed.
    let id = instance_id("node", [Some("shop"), Some("api"), None, None], None);
    assert_eq!(id.to_string(), "a7a3db1d-88f6-5047-b640-877465c14f52");
    assert_eq!(id.get_version_num(), 5);
}

#[test]
fn tells_every_two_processes_apart() {
    let key = |tgid, start_ns| Some(ProcessKey { tgid, start_ns });
    let processes = [
        None,
        key(1, 1),
        key(1, 2),
        key(2, 1),
        key(11, 1),
        key(1, 11),
    ];
    for identity in [Identity::Node, Identity::None] {
        let template = ResourceTemplate::new(node(), identity, []);
        let id = |process| {
            let attributes = template.attributes(&workload("api"), process);
            attributes.get("service.instance.id").cloned()
        };
        let ids: BTreeSet<_> = processes.into_iter().map(id).collect();
        assert_eq!(ids.len(), processes.len(), "{identity:?}");
    }
}

#[test]
fn numbers_of_processes_are_integers() {
    let process = ProcessKey {
        tgid: 4711,
        start_ns: 1,
    };
    let resource = crate::fixture::template().resource(&workload("api"), Some(process));
    let pid = resource
        .attributes
        .iter()
        .find(|attribute| attribute.key == "process.pid");
    let value = pid.and_then(|pid| pid.value.clone()?.value);
    assert_eq!(value, Some(Value::IntValue(4711)));
    assert!(resource.attributes.is_sorted_by_key(|found| &found.key));
    let of_all = crate::fixture::template().attributes(&workload("api"), None);
    assert!(!of_all.contains_key("process.pid"));
}

#[test]
fn leaves_service_names_out_of_the_base_and_lets_the_workload_win() {
    let base = parse_attributes("service.name=x,service.instance.id=y,team=a,region=eu%2Dwest");
    let template = ResourceTemplate::new(node(), Identity::Node, base.unwrap());
    let mut service = workload("api");
    service.attributes = vec![("team".to_owned(), "b".to_owned())];
    let attributes = template.attributes(&service, None);
    assert_eq!(attributes["service.name"], "api");
    assert_ne!(attributes["service.instance.id"], "y");
    assert_eq!(attributes["team"], "b");
    assert_eq!(attributes["region"], "eu-west");
    assert_eq!(attributes["host.name"], "node-1");
}

#[test]
fn without_an_identity_the_nodes_write_one_stream() {
    let of = |id: &str| {
        let node = Node {
            id: id.to_owned(),
            host_name: None,
            ..node()
        };
        ResourceTemplate::new(node, Identity::None, []).attributes(&workload("api"), None)
    };
    assert_eq!(of("a"), of("b"));
    assert!(!of("a").contains_key("service.instance.id"));
}

#[test]
fn is_its_own_sdk() {
    let attributes = crate::fixture::template().attributes(&workload("api"), None);
    assert_eq!(attributes["telemetry.sdk.name"], "kerntally");
    assert_eq!(attributes["telemetry.distro.name"], "kerntally");
}

#[test]
fn refuses_a_list_with_a_bad_item() {
    let not_a_pair = |position| AttributesError::NotAPair { position };
    assert_eq!(parse_attributes("a=b,c").unwrap_err(), not_a_pair(2));
    assert_eq!(parse_attributes("=b").unwrap_err(), not_a_pair(1));
    assert!(matches!(
        parse_attributes("a=%ff"),
        Err(AttributesError::NotText { .. })
    ));
    assert_eq!(parse_attributes("").unwrap(), []);
    assert_eq!(
        parse_attributes("a = b , ").unwrap(),
        [("a".to_owned(), "b".to_owned())]
    );
}
