//! `self.listen`: health and the agent's own metrics over HTTP.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use kerntally_export::selfmetrics::PROMETHEUS_CONTENT_TYPE;

use crate::shared::Shared;

/// Serves until the agent is gone. A port that is taken is a warning: nothing the agent tallies depends on it.
pub(crate) async fn serve(listen: SocketAddr, shared: Arc<Shared>) {
    let listener = match tokio::net::TcpListener::bind(listen).await {
        Ok(listener) => listener,
        Err(error) => {
            tracing::warn!(%listen, %error, "cannot serve health and own metrics (self.listen)");
            return;
        }
    };
    if let Err(error) = axum::serve(listener, router(shared)).await {
        tracing::warn!(%error, "health and own metrics are no longer served");
    }
}

fn router(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(shared)
}

async fn healthz(State(shared): State<Arc<Shared>>) -> Response {
    verdict(shared.is_alive(), "the agent's loop has stopped")
}

async fn readyz(State(shared): State<Arc<Shared>>) -> Response {
    verdict(shared.is_ready(), "the hooks are not attached yet")
}

fn verdict(good: bool, otherwise: &'static str) -> Response {
    if good {
        return "ok\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, format!("{otherwise}\n")).into_response()
}

async fn metrics(State(shared): State<Arc<Shared>>) -> Response {
    match shared.metrics_text() {
        Some(Ok(text)) => ([(header::CONTENT_TYPE, PROMETHEUS_CONTENT_TYPE)], text).into_response(),
        Some(Err(error)) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response()
        }
        None => verdict(false, "the agent is starting or stopping"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

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
        let serving =
            tokio::spawn(axum::serve(listener, router(Arc::clone(&shared))).into_future());
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
    async fn a_taken_port_ends_nothing() {
        let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = taken.local_addr().unwrap();
        let served = serve(address, Arc::new(Shared::default()));
        tokio::time::timeout(Duration::from_secs(5), served)
            .await
            .unwrap();
    }
}
