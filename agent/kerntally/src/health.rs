//! `self.listen`: health and the agent's own metrics over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kerntally_export::selfmetrics::PROMETHEUS_CONTENT_TYPE;
use tokio::sync::{mpsc, oneshot};

use crate::shared::Shared;

/// How long a loop that rests may take to come round when it is asked to.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks the loop to renew its reading, which it answers.
pub(crate) type Look = oneshot::Sender<()>;

/// What is served: what the loop shows, renewed first where it rests.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    shared: Arc<Shared>,
    looks: mpsc::Sender<Look>,
}

impl Health {
    pub(crate) fn new(shared: Arc<Shared>, looks: mpsc::Sender<Look>) -> Self {
        Self { shared, looks }
    }

    /// Serves until the agent is gone. A port that is taken is a warning: nothing the agent tallies depends on it.
    pub(crate) async fn serve(self, listen: SocketAddr) {
        serve(listen, router(self)).await;
    }

    /// Has a loop that rests come round; one that does not is left alone.
    async fn renew(&self) {
        if !self.shared.is_resting() {
            return;
        }
        let round = async {
            let (look, done) = oneshot::channel();
            if self.looks.send(look).await.is_ok() {
                // Not answered: its pulse will tell.
                done.await.ok();
            }
        };
        tokio::time::timeout(PATIENCE, round).await.ok();
    }
}

async fn serve(listen: SocketAddr, router: Router) {
    let listener = match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%listen, %error, "cannot serve health and own metrics (self.listen)");
            return;
        }
    };
    if let Err(error) = axum::serve(listener, router).await {
        tracing::warn!(%error, "health and own metrics are no longer served");
    }
}

fn router(health: Health) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn healthz(State(health): State<Health>) -> Response {
    health.renew().await;
    verdict(health.shared.is_alive(), "the agent's loop has stopped")
}

async fn readyz(State(health): State<Health>) -> Response {
    verdict(health.shared.is_ready(), "the hooks are not attached yet")
}

fn verdict(good: bool, otherwise: &'static str) -> Response {
    if good {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}\n")).into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    health.renew().await;
    match health.shared.metrics_text() {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, PROMETHEUS_CONTENT_TYPE)], text).into_response(),
        Some(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        None => verdict(false, "the agent is starting or stopping"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    fn health(shared: &Arc<Shared>) -> (Health, mpsc::Receiver<Look>) {
        let (sender, looks) = mpsc::channel(1);
        (Health::new(Arc::clone(shared), sender), looks)
    }

    async fn status_of(address: SocketAddr, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text.split(' ').nth(1).unwrap().to_owned()
    }

    #[tokio::test]
    async fn readiness_follows_the_agent() {
        let shared = Arc::new(Shared::default());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let serving = tokio::spawn(axum::serve(listener, router(health(&shared).0)).into_future());
        assert_eq!(status_of(address, "/readyz").await, "503");
        shared.beat();
        shared.set_ready(true);
        assert_eq!(status_of(address, "/healthz").await, "200");
        assert_eq!(status_of(address, "/readyz").await, "200");
        assert_eq!(status_of(address, "/metrics").await, "503");
        assert_eq!(status_of(address, "/else").await, "404");
        serving.abort();
    }

    #[tokio::test]
    async fn a_loop_that_rests_is_asked_and_one_that_does_not_is_not() {
        let shared = Arc::new(Shared::default());
        let (health, mut looks) = health(&shared);
        health.renew().await;
        assert!(looks.try_recv().is_err());
        shared.set_resting(true);
        let asked = tokio::spawn(async move { health.renew().await });
        looks.recv().await.unwrap().send(()).unwrap();
        asked.await.unwrap();
    }

    #[tokio::test]
    async fn a_taken_port_ends_nothing() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let served = health(&Arc::default()).0.serve(address);
        tokio::time::timeout(Duration::from_secs(5), served)
            .await
            .unwrap();
    }
}
