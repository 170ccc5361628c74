use super::{Compression, Endpoint, EndpointError, EndpointKind, Headers, OtlpSettings, Protocol};

use EndpointKind::{Base, Metrics};
use Protocol::{Grpc, HttpProtobuf};

fn parse(text: &str, kind: EndpointKind, protocol: Option<Protocol>) -> (Protocol, String) {
    let endpoint = Endpoint::parse(text, kind, protocol, false).unwrap();
    (endpoint.protocol(), endpoint.uri().to_string())
}

fn refuse(text: &str, protocol: Option<Protocol>) -> EndpointError {
    Endpoint::parse(text, Base, protocol, false).unwrap_err()
}

#[test]
fn pushes_by_grpc_to_the_same_node_by_default() {
    let settings = OtlpSettings::default();
    assert_eq!(settings.endpoint.to_string(), "http://localhost:4317");
    assert_eq!(settings.endpoint.protocol(), Grpc);
    assert_eq!(settings.compression, Compression::Gzip);
}

#[test]
fn finds_the_protocol_when_none_is_named() {
    assert_eq!(
        parse("http://c:4317", Base, None),
        (Grpc, "http://c:4317/".to_owned())
    );
    assert_eq!(parse("http://c:4318", Base, None).0, HttpProtobuf);
    assert_eq!(
        parse("http://c:9090/api/v1/otlp", Base, None).0,
        HttpProtobuf
    );
    assert_eq!(parse("http://c:4318", Base, Some(Grpc)).0, Grpc);
}

#[test]
fn appends_the_path_to_a_base_endpoint_alone() {
    let http = Some(HttpProtobuf);
    for (text, expected) in [
        ("http://c:4318", "http://c:4318/v1/metrics"),
        ("http://c:4318/", "http://c:4318/v1/metrics"),
        ("http://c/api/v1/otlp/", "http://c/api/v1/otlp/v1/metrics"),
        ("http://c/v1/metrics", "http://c/v1/metrics"),
        ("http://c/x?token=a", "http://c/x/v1/metrics?token=a"),
        ("https://[::1]:4318", "https://[::1]:4318/v1/metrics"),
    ] {
        assert_eq!(parse(text, Base, http).1, expected, "{text}");
    }
    assert_eq!(parse("http://c:1/own", Metrics, http).1, "http://c:1/own");
}

#[test]
fn takes_tls_without_a_scheme_unless_insecure() {
    assert!(
        Endpoint::parse("c:4317", Base, None, false)
            .unwrap()
            .is_tls()
    );
    assert!(
        !Endpoint::parse("c:4317", Base, None, true)
            .unwrap()
            .is_tls()
    );
    assert!(
        Endpoint::parse("HTTPS://c:4317", Base, None, true)
            .unwrap()
            .is_tls()
    );
}

#[test]
fn refuses_what_is_no_endpoint_and_says_why() {
    assert!(matches!(refuse(" ", None), EndpointError::Empty));
    assert!(matches!(
        refuse("unix:///run/c.sock", None),
        EndpointError::Scheme { .. }
    ));
    assert!(matches!(
        refuse("http://", None),
        EndpointError::NotAUrl { .. }
    ));
    assert!(matches!(
        refuse("http://a b", None),
        EndpointError::NotAUrl { .. }
    ));
    assert!(matches!(
        refuse("http://c:99999", None),
        EndpointError::Port
    ));
    assert!(matches!(refuse("http://[::1]:", None), EndpointError::Port));
    assert!(matches!(
        refuse("http://u:secret@c", None),
        EndpointError::Credentials
    ));
    assert!(matches!(
        refuse("http://c/x", Some(Grpc)),
        EndpointError::PathWithGrpc { .. }
    ));
    let text = refuse("ftp://c", None).to_string();
    assert_eq!(
        text,
        "endpoint scheme `ftp` is not supported, expected `http` or `https`"
    );
}

#[test]
fn shows_no_secret() {
    let endpoint = Endpoint::parse("http://c/x?token=secret", Base, None, false).unwrap();
    assert!(!format!("{endpoint} {endpoint:?}").contains("secret"));
    let headers = Headers::parse("authorization=Bearer%20secret").unwrap();
    assert_eq!(format!("{headers:?}"), "{\"authorization\"}");
    assert!(
        !refuse("http://u:secret@a b?token=secret", None)
            .to_string()
            .contains("secret")
    );
}

#[test]
fn reads_headers_and_refuses_bad_ones() {
    let headers = Headers::parse("Api-Key=a%20b,x=1").unwrap();
    let pairs: Vec<_> = headers
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_bytes()))
        .collect();
    assert_eq!(pairs, [("api-key", &b"a b"[..]), ("x", b"1")]);
    for (bad, position) in [("a=b,c", 2), ("a b=c", 1), ("a=b,c=%0a", 2)] {
        let error = Headers::parse(bad).unwrap_err();
        assert!(
            matches!(error, EndpointError::Header { position: at } if at == position),
            "{bad}"
        );
    }
}

#[test]
fn knows_the_names_of_protocols_and_compressions() {
    assert_eq!("grpc".parse::<Protocol>().unwrap(), Grpc);
    assert_eq!("http/protobuf".parse::<Protocol>().unwrap(), HttpProtobuf);
    assert_eq!("http/json".parse::<Protocol>().unwrap(), Protocol::HttpJson);
    assert!("http/xml".parse::<Protocol>().is_err());
    assert_eq!("none".parse::<Compression>().unwrap(), Compression::None);
    assert!("zstd".parse::<Compression>().is_err());
}
