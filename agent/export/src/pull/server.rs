//! Serves the page over HTTP, to few at a time and none for long.

use std::{
    convert::Infallible,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use hyper::{
    body::{Body, Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
};

use super::{Pull, negotiate::Format, page::Page};

/// Connections at one time; more wait to be accepted.
const CONNECTIONS: usize = 16;

/// A connection is asked to end after this, and ended after [`GRACE`] more: no reader holds a collection for long.
const LIFE: Duration = Duration::from_mins(2);
const GRACE: Duration = Duration::from_secs(30);

/// After a failure to accept: most often there are no descriptors left.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until it is aborted.
pub async fn serve(listener: TcpListener, pull: Arc<Pull>) {
    let connections = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(permit) = Arc::clone(&connections).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let pull = Arc::clone(&pull);
                tokio::spawn(async move {
                    converse(stream, pull).await;
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::debug!(%error, "a scrape could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn converse(stream: TcpStream, pull: Arc<Pull>) {
    let service = service_fn(move |request| {
        let pull = Arc::clone(&pull);
        async move { Ok::<_, Infallible>(answer(&request, &pull).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let ended = match tokio::time::timeout(LIFE, connection.as_mut()).await {
        Ok(ended) => ended,
        Err(_elapsed) => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, connection).await {
                Ok(ended) => ended,
                Err(_elapsed) => return,
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a scrape ended early");
    }
}

async fn answer(request: &Request<Incoming>, pull: &Pull) -> Response<PageBody> {
    if request.uri().path() != "/metrics" {
        return plain(StatusCode::NOT_FOUND, "there is only /metrics\n");
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        return plain(StatusCode::METHOD_NOT_ALLOWED, "expected GET\n");
    }
    let Ok(permit) = Arc::clone(&pull.scrapes).try_acquire_owned() else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "too many scrapes\n");
    };
    let format = Format::accepted(&accepted(request, &header::ACCEPT));
    let gzip = accepts_gzip(&accepted(request, &header::ACCEPT_ENCODING));
    let exposed = pull.latest();
    let page = tokio::task::spawn_blocking(move || Page::new(exposed, format, gzip)).await;
    let Ok(page) = page else {
        return plain(StatusCode::INTERNAL_SERVER_ERROR, "no page\n");
    };
    let mut response = Response::new(PageBody {
        page: Some((page, permit)),
        text: None,
    });
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(format.content_type()),
    );
    if gzip {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<PageBody> {
    let mut response = Response::new(PageBody {
        page: None,
        text: Some(text),
    });
    *response.status_mut() = status;
    response
}

/// A list that may be spread over several headers.
fn accepted(request: &Request<Incoming>, name: &header::HeaderName) -> String {
    let values = request.headers().get_all(name).iter();
    let texts: Vec<_> = values.filter_map(|value| value.to_str().ok()).collect();
    texts.join(",")
}

fn accepts_gzip(list: &str) -> bool {
    list.split(',').any(|item| {
        let mut parts = item.split(';').map(str::trim);
        let named = parts
            .next()
            .is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        named && !parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"))
    })
}

/// The page chunk by chunk, written when the connection can take it, or a word.
struct PageBody {
    page: Option<(Page, OwnedSemaphorePermit)>,
    text: Option<&'static str>,
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let data = match &mut self.page {
            Some((page, _)) => page.chunk(),
            None => self
                .text
                .take()
                .map(|text| Bytes::from_static(text.as_bytes())),
        };
        if data.is_none() {
            self.page = None;
        }
        Poll::Ready(data.map(|data| Ok(Frame::data(data))))
    }
}

#[cfg(test)]
mod tests;
