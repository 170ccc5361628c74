//! The connector that both protocols use: TCP, and TLS when the endpoint asks for it.

use std::{fmt, io, path::PathBuf, sync::Arc, time::Duration};

use hyper_rustls::{ConfigBuilderExt as _, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use rustls::{
    ClientConfig, RootCertStore,
    client::WantsClientCert,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};

use crate::endpoint::{OtlpSettings, Protocol, TlsSettings};

/// Time for one TCP connection, so that a retry still fits the time for a push.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Why TLS could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file.
    #[error("{what} `{path}` could not be read, expected PEM")]
    File {
        /// Which of the keys.
        what: TlsFile,
        /// The file.
        path: PathBuf,
        /// What reading it said.
        source: pem::Error,
    },
    /// A PEM file without what is needed.
    #[error("{what} `{path}` holds no certificate")]
    NoCertificate {
        /// Which of the keys.
        what: TlsFile,
        /// The file.
        path: PathBuf,
    },
    /// One of `tls.cert` and `tls.key` without the other.
    #[error("`tls.cert` and `tls.key` are only of use together")]
    HalfPair,
    /// The system has no authorities.
    #[error("the system's certificate authorities could not be read; `tls.ca` names a file")]
    SystemRoots {
        /// What reading them said.
        source: io::Error,
    },
    /// The files do not fit.
    #[error("TLS material was refused")]
    Refused {
        /// What the TLS library said.
        source: rustls::Error,
    },
}

/// A file of the TLS settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsFile {
    /// `tls.ca`
    Ca,
    /// `tls.cert`
    Cert,
    /// `tls.key`
    Key,
}

impl fmt::Display for TlsFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ca => "tls.ca",
            Self::Cert => "tls.cert",
            Self::Key => "tls.key",
        })
    }
}

pub(super) fn connector(
    settings: &OtlpSettings,
) -> Result<HttpsConnector<HttpConnector>, TlsError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let config = client_config(&settings.tls, settings.endpoint.is_tls())?;
    let builder = HttpsConnectorBuilder::new()
        .with_tls_config(config)
        .https_or_http();
    Ok(match settings.endpoint.protocol() {
        Protocol::Grpc => builder.enable_http2().wrap_connector(tcp),
        Protocol::HttpProtobuf | Protocol::HttpJson => builder.enable_http1().wrap_connector(tcp),
    })
}

/// Plain-text endpoints get a configuration that trusts nobody: it is never used.
fn client_config(tls: &TlsSettings, in_use: bool) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let refused = |source| TlsError::Refused { source };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(refused)?;
    if !in_use {
        return Ok(builder
            .with_root_certificates(RootCertStore::empty())
            .with_no_client_auth());
    }
    let builder = match &tls.ca {
        Some(path) => builder.with_root_certificates(read_roots(path)?),
        None => builder
            .with_native_roots()
            .map_err(|source| TlsError::SystemRoots { source })?,
    };
    with_client_auth(builder, tls)
}

fn with_client_auth(
    builder: rustls::ConfigBuilder<ClientConfig, WantsClientCert>,
    tls: &TlsSettings,
) -> Result<ClientConfig, TlsError> {
    match (&tls.cert, &tls.key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = read_certificates(TlsFile::Cert, cert)?;
            let file_error = |source| TlsError::File {
                what: TlsFile::Key,
                path: key.clone(),
                source,
            };
            let key = PrivateKeyDer::from_pem_file(key).map_err(file_error)?;
            builder
                .with_client_auth_cert(chain, key)
                .map_err(|source| TlsError::Refused { source })
        }
        _ => Err(TlsError::HalfPair),
    }
}

fn read_roots(path: &PathBuf) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in read_certificates(TlsFile::Ca, path)? {
        roots
            .add(certificate)
            .map_err(|source| TlsError::Refused { source })?;
    }
    Ok(roots)
}

fn read_certificates(
    what: TlsFile,
    path: &PathBuf,
) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let file_error = |source| TlsError::File {
        what,
        path: path.clone(),
        source,
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(file_error)?;
    if certificates.is_empty() {
        return Err(TlsError::NoCertificate {
            what,
            path: path.clone(),
        });
    }
    Ok(certificates)
}

#[cfg(test)]
mod tests;
