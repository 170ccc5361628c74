use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, KeyUsagePurpose};
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
};
use tokio_rustls::TlsAcceptor;

use super::TlsError;
use crate::{
    collector::{GrpcCollector, HttpCollector},
    encode::{Encoder, MAX_REQUEST_BYTES},
    endpoint::{Endpoint, EndpointKind, OtlpSettings, Protocol, TlsSettings},
    fixture::{snapshot, template},
    push::{Exporter, PushError, PushOutcome, SetupError},
};

/// An authority with a server's and a client's certificate, as files.
struct Authority {
    directory: tempfile::TempDir,
}

impl Authority {
    fn new() -> Self {
        let authority = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        fs::write(authority.path("ca.pem"), issuer.pem()).unwrap();
        for (name, subject) in [("server", "127.0.0.1"), ("client", "kerntally")] {
            let key = KeyPair::generate().unwrap();
            let params = CertificateParams::new(vec![subject.to_owned()]).unwrap();
            let certificate = params.signed_by(&key, &issuer).unwrap();
            fs::write(authority.path(&format!("{name}.pem")), certificate.pem()).unwrap();
            fs::write(authority.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
        }
        authority
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots
            .add(CertificateDer::from_pem_file(self.path("ca.pem")).unwrap())
            .unwrap();
        roots
    }

    /// Takes TLS off, from clients with a certificate of this authority only, and passes on to `plain`.
    async fn terminate(&self, plain: SocketAddr) -> SocketAddr {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(
            Arc::new(self.roots()),
            Arc::clone(&provider),
        );
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_client_cert_verifier(verifier.build().unwrap())
            .with_single_cert(
                vec![CertificateDer::from_pem_file(self.path("server.pem")).unwrap()],
                PrivateKeyDer::from_pem_file(self.path("server.key")).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else {
                    continue;
                };
                let mut plain = TcpStream::connect(plain).await.unwrap();
                tokio::spawn(async move { copy_bidirectional(&mut stream, &mut plain).await });
            }
        });
        address
    }

    fn mutual(&self) -> TlsSettings {
        TlsSettings {
            ca: Some(self.path("ca.pem")),
            cert: Some(self.path("client.pem")),
            key: Some(self.path("client.key")),
            insecure: false,
        }
    }
}

fn exporter(address: &str, protocol: Protocol, tls: TlsSettings) -> Result<Exporter, SetupError> {
    let text = format!("https://{address}");
    Exporter::new(OtlpSettings {
        endpoint: Endpoint::parse(&text, EndpointKind::Base, Some(protocol), false).unwrap(),
        timeout: Duration::from_secs(2),
        tls,
        ..OtlpSettings::default()
    })
}

async fn push(address: SocketAddr, protocol: Protocol, tls: TlsSettings) -> PushOutcome {
    let payloads = Encoder::new(template(), MAX_REQUEST_BYTES).payloads(&snapshot());
    exporter(&address.to_string(), protocol, tls)
        .unwrap()
        .push(payloads.clone().into())
        .await
}

fn refuse(tls: TlsSettings) -> TlsError {
    match exporter("localhost:1", Protocol::HttpProtobuf, tls).unwrap_err() {
        SetupError::Tls(error) => error,
        other => panic!("unexpected {other:?}"),
    }
}

#[tokio::test]
async fn pushes_over_tls_with_a_certificate_of_its_own() {
    let authority = Authority::new();
    let grpc = GrpcCollector::default();
    let address = authority.terminate(grpc.serve().await).await;
    let outcome = push(address, Protocol::Grpc, authority.mutual()).await;
    assert!(outcome.accepted(), "{outcome:?}");
    assert_eq!(grpc.requests().len(), 1);

    let http = HttpCollector::default();
    let address = authority.terminate(http.serve().await).await;
    let outcome = push(address, Protocol::HttpProtobuf, authority.mutual()).await;
    assert!(outcome.accepted(), "{outcome:?}");
    assert_eq!(http.received().len(), 1);
}

#[tokio::test]
async fn trusts_no_collector_of_another_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let collector = HttpCollector::default();
    let address = theirs.terminate(collector.serve().await).await;
    for protocol in [Protocol::Grpc, Protocol::HttpProtobuf] {
        let outcome = push(address, protocol, ours.mutual()).await;
        let Some(PushError::Connection { reason }) = outcome.error else {
            panic!("{outcome:?}")
        };
        assert!(reason.contains("certificate"), "{reason}");
    }
    assert!(collector.received().is_empty());
}

#[tokio::test]
async fn a_collector_that_demands_a_certificate_gets_nothing_without() {
    let authority = Authority::new();
    let collector = HttpCollector::default();
    let address = authority.terminate(collector.serve().await).await;
    let tls = TlsSettings {
        cert: None,
        key: None,
        ..authority.mutual()
    };
    let outcome = push(address, Protocol::HttpProtobuf, tls).await;
    assert!(
        matches!(outcome.error, Some(PushError::Connection { .. })),
        "{outcome:?}"
    );
    assert!(collector.received().is_empty());
}

#[tokio::test]
async fn names_the_file_that_is_no_use() {
    let authority = Authority::new();
    let missing = TlsSettings {
        ca: Some(Path::new("/nonexistent.pem").to_owned()),
        ..TlsSettings::default()
    };
    let text = refuse(missing).to_string();
    assert_eq!(
        text,
        "tls.ca `/nonexistent.pem` could not be read, expected PEM"
    );
    fs::write(authority.path("empty.pem"), "no certificate here\n").unwrap();
    let empty = TlsSettings {
        ca: Some(authority.path("empty.pem")),
        ..TlsSettings::default()
    };
    assert!(matches!(refuse(empty), TlsError::NoCertificate { .. }));
    let half = TlsSettings {
        key: None,
        ..authority.mutual()
    };
    assert!(matches!(refuse(half), TlsError::HalfPair));
    let wrong = TlsSettings {
        key: Some(authority.path("server.key")),
        ..authority.mutual()
    };
    assert!(matches!(refuse(wrong), TlsError::Refused { .. }));
}
