//! Collectors on loopback that the tests push to: a real gRPC service, and a scripted HTTP one.

use std::{
    collections::VecDeque,
    io::Read as _,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use flate2::read::GzDecoder;
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
    metrics_service_server::{MetricsService, MetricsServiceServer},
};
use prost::Message as _;
use tokio::{
    io::{
        AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _,
        BufReader,
    },
    net::TcpListener,
};
use tonic::{
    Request, Response, Status,
    codec::CompressionEncoding,
    metadata::MetadataMap,
    transport::{Server, server::TcpIncoming},
};

type Answer = Result<ExportMetricsServiceResponse, Status>;

/// What a gRPC collector was sent, and what it shall answer: good answers once the script has run out.
#[derive(Clone, Default)]
pub(crate) struct GrpcCollector {
    pub(crate) received: Arc<Mutex<Vec<(MetadataMap, ExportMetricsServiceRequest)>>>,
    pub(crate) script: Arc<Mutex<VecDeque<Answer>>>,
}

#[tonic::async_trait]
impl MetricsService for GrpcCollector {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        let (metadata, _, message) = request.into_parts();
        self.received.lock().unwrap().push((metadata, message));
        let scripted = self.script.lock().unwrap().pop_front();
        scripted
            .unwrap_or_else(|| Ok(ExportMetricsServiceResponse::default()))
            .map(Response::new)
    }
}

impl GrpcCollector {
    /// Serves on a free port of loopback, answering compressed.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let service = MetricsServiceServer::new(self.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .send_compressed(CompressionEncoding::Gzip);
        let server = Server::builder().add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpIncoming::from(listener)));
        address
    }

    pub(crate) fn requests(&self) -> Vec<ExportMetricsServiceRequest> {
        self.received
            .lock()
            .unwrap()
            .iter()
            .map(|(_, request)| request.clone())
            .collect()
    }
}

/// What an HTTP collector was sent: heads, and bodies as they decode.
#[derive(Clone, Default)]
pub(crate) struct HttpCollector {
    pub(crate) heads: Arc<Mutex<Vec<String>>>,
    pub(crate) requests: Arc<Mutex<Vec<ExportMetricsServiceRequest>>>,
    /// Whole answers; a plain 200 once they have run out.
    pub(crate) script: Arc<Mutex<VecDeque<Vec<u8>>>>,
}

impl HttpCollector {
    /// Serves on a free port of loopback.
    pub(crate) async fn serve(&self) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let collector = self.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let collector = collector.clone();
                tokio::spawn(async move { collector.converse(stream).await });
            }
        });
        address
    }

    /// One request a connection.
    pub(crate) async fn converse(&self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut stream = BufReader::new(stream);
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                return;
            }
        }
        let head = head.to_ascii_lowercase();
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.unwrap().parse().unwrap()];
        stream.read_exact(&mut body).await.unwrap();
        if head.contains("content-encoding: gzip") {
            let mut plain = Vec::new();
            GzDecoder::new(body.as_slice())
                .read_to_end(&mut plain)
                .unwrap();
            body = plain;
        }
        let request = if head.contains("content-type: application/json\r\n") {
            serde_json::from_slice(&body).unwrap()
        } else {
            ExportMetricsServiceRequest::decode(body.as_slice()).unwrap()
        };
        self.heads.lock().unwrap().push(head);
        self.requests.lock().unwrap().push(request);
        let scripted = self.script.lock().unwrap().pop_front();
        let answer = scripted.unwrap_or_else(|| answer("200 OK", "", b""));
        // A client that had enough closes in the middle of a long answer.
        drop(stream.write_all(&answer).await);
        drop(stream.shutdown().await);
    }

    pub(crate) fn then(self, answer: Vec<u8>) -> Self {
        self.script.lock().unwrap().push_back(answer);
        self
    }

    pub(crate) fn received(&self) -> Vec<ExportMetricsServiceRequest> {
        self.requests.lock().unwrap().clone()
    }
}

/// An HTTP answer; `headers` with their line ends.
pub(crate) fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head = format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {length}\r\n{headers}\r\n"
    );
    [head.as_bytes(), body].concat()
}
