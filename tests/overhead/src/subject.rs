//! The servers whose cost is measured, as they come.

use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context as _, Result};
use kerntally_e2e::servers::{self, Server};
use tempfile::TempDir;

use crate::load::{Asked, Plan};
use crate::system;

/// A server, and what it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    NginxTiny,
    NginxFile,
    NginxProxy,
    Go,
    Node,
    Python,
}

/// A server that runs, with its files.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) pids: Vec<u32>,
    address: SocketAddr,
    path: &'static str,
    /// Exchanges that its side has for one request.
    pub(crate) exchanges: u64,
    _server: Server,
    _directory: TempDir,
}

impl Subject {
    pub(crate) const ALL: [Self; 6] = [
        Self::NginxTiny,
        Self::NginxFile,
        Self::NginxProxy,
        Self::Go,
        Self::Node,
        Self::Python,
    ];

    /// For people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NginxTiny => "nginx, tiny answer",
            Self::NginxFile => "nginx, file of 64 KiB",
            Self::NginxProxy => "nginx, proxying",
            Self::Go => "Go",
            Self::Node => "Node",
            Self::Python => "Python",
        }
    }

    /// Starts it and keeps it on one core.
    pub(crate) fn start(self, core: usize) -> Result<Running> {
        let directory = tempfile::tempdir()?;
        let place = directory.path();
        let (server, path, exchanges) = match self {
            Self::NginxTiny => (nginx(place)?, "/tiny", 1),
            Self::NginxFile => (nginx(place)?, "/file", 1),
            // The request of the front, as server and as client, and the one behind.
            Self::NginxProxy => (nginx(place)?, "/proxy", 3),
            Self::Go => (servers::go(place)?, "/ok", 1),
            Self::Node => (servers::node(place)?, "/ok", 1),
            Self::Python => (servers::python(place)?, "/ok", 1),
        };
        let pids = system::tree(server.pid())?;
        system::pin(&pids, core)?;
        Ok(Running {
            pids,
            address: server.address.parse().context("the server's address")?,
            path,
            exchanges,
            _server: server,
            _directory: directory,
        })
    }
}

impl Running {
    /// Load of this server: as much as it takes, or at a rate.
    pub(crate) fn plan(&self, rate: Option<f64>, millis: u64) -> Plan {
        Plan {
            addresses: vec![self.address],
            connections: if rate.is_some() { 64 } else { 16 },
            rate,
            warm_millis: (millis / 5).clamp(300, 1000),
            millis,
            asked: Asked::Path(self.path.to_owned()),
            clocks: self.pids.clone(),
        }
    }
}

/// One worker that answers from memory, from a file, and by asking itself once more.
fn nginx(directory: &Path) -> Result<Server> {
    use std::os::unix::fs::PermissionsExt as _;
    let address = servers::free_address()?;
    let here = directory.display();
    std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o755))?;
    std::fs::write(directory.join("file"), vec![b'z'; 64 * 1024])?;
    let configuration = format!(
        "daemon off; worker_processes 1; pid {here}/nginx.pid; error_log {here}/error.log;\n\
         events {{ worker_connections 4096; }}\n\
         http {{ access_log off; sendfile on; keepalive_requests 100000000;\n\
           client_body_temp_path {here}/body; proxy_temp_path {here}/proxy; fastcgi_temp_path {here}/fastcgi;\n\
           uwsgi_temp_path {here}/uwsgi; scgi_temp_path {here}/scgi;\n\
           upstream itself {{ server {address}; keepalive 64; keepalive_requests 100000000; }}\n\
           server {{ listen {address}; root {here};\n\
             location = /tiny {{ return 200 \"fine\\n\"; }}\n\
             location = /proxy {{ proxy_pass http://itself/tiny; proxy_http_version 1.1;\n\
               proxy_set_header Connection \"\"; }} }} }}\n"
    );
    servers::nginx_configured(directory, address, &configuration, Vec::new())
}
