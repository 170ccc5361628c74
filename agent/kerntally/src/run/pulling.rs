//! `export.prometheus.listen`: the latest collection, for whoever scrapes it.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context;
use kerntally_export::pull::{self, Pull};
use kerntally_export::resource::ResourceTemplate;
use kerntally_pipeline::Collection;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::failure::Failure;

/// A server of the pull; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Pulling {
    listen: SocketAddr,
    pull: Arc<Pull>,
    server: JoinHandle<()>,
}

impl Pulling {
    /// Listens. Within a runtime.
    pub(crate) fn listen(listen: SocketAddr, resources: ResourceTemplate) -> Result<Self, Failure> {
        let listener = bind(listen)
            .with_context(|| format!("cannot listen on {listen} (export.prometheus.listen)"))?;
        let pull = Arc::new(Pull::new(resources));
        let server = tokio::spawn(pull::serve(listener, Arc::clone(&pull)));
        Ok(Self {
            listen,
            pull,
            server,
        })
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.listen
    }

    /// Shows a collection once it is written out, which is done beside the loop.
    pub(crate) fn publish(
        &self,
        resources: ResourceTemplate,
        collection: &Arc<Collection>,
    ) -> JoinHandle<()> {
        let (pull, collection) = (Arc::clone(&self.pull), Arc::clone(collection));
        tokio::task::spawn_blocking(move || pull.publish(resources, collection))
    }
}

impl Drop for Pulling {
    fn drop(&mut self) {
        self.server.abort();
    }
}

fn bind(listen: SocketAddr) -> std::io::Result<TcpListener> {
    let listener = std::net::TcpListener::bind(listen)?;
    listener.set_nonblocking(true)?;
    TcpListener::from_std(listener)
}
