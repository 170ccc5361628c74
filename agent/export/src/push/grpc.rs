//! OTLP over gRPC.

use std::{error::Error as _, time::Duration};

use bytes::{BufMut as _, Bytes};
use http::uri::PathAndQuery;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceResponse;
use prost::Message as _;
use tonic::{
    Code, Request, Status,
    client::Grpc,
    codec::{Codec, CompressionEncoding, DecodeBuf, Decoder, EncodeBuf, Encoder},
    metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap},
    transport::Channel,
};
use tonic_types::StatusExt as _;

use super::{
    Accepted, PushError, RESPONSE_BYTES, Refusal, Retry, SetupError, innermost, printable,
    transport, user_agent,
};
use crate::{
    encode::Payload,
    endpoint::{Compression, Headers, OtlpSettings},
};

/// A connection that went silent is found dead within this and [`KEEP_ALIVE_TIMEOUT`].
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(10);

/// How much longer than a push others may use the channel.
const SHARED_TIMEOUT_SLACK: Duration = Duration::from_secs(1);

/// How tonic's own refusal of a long answer begins; as a status from the collector its code may be retried.
const TOO_LARGE: &str = "Error, decoded message length too large";

/// <https://github.com/open-telemetry/opentelemetry-proto/blob/main/opentelemetry/proto/collector/metrics/v1/metrics_service.proto>
const EXPORT: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

#[derive(Debug)]
pub(super) struct GrpcTransport {
    channel: Channel,
    client: Grpc<Channel>,
    metadata: MetadataMap,
}

impl GrpcTransport {
    pub(super) fn new(settings: &OtlpSettings) -> Result<Self, SetupError> {
        let endpoint_error = |source| SetupError::Endpoint {
            endpoint: settings.endpoint.to_string(),
            source,
        };
        let channel = Channel::builder(settings.endpoint.uri().clone())
            .user_agent(user_agent())
            .map_err(endpoint_error)?
            // A push has its own timer, which must be the first; this one is for whom the channel is shared with.
            .timeout(settings.timeout + SHARED_TIMEOUT_SLACK)
            .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
            .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
            .connect_with_connector_lazy(transport::connector(settings)?);
        // Servers may answer compressed whatever they were sent: not to accept it fails good pushes.
        let client = Grpc::new(channel.clone())
            .accept_compressed(CompressionEncoding::Gzip)
            .max_decoding_message_size(RESPONSE_BYTES);
        let client = match settings.compression {
            Compression::Gzip => client.send_compressed(CompressionEncoding::Gzip),
            Compression::None => client,
        };
        Ok(Self {
            channel,
            client,
            metadata: metadata(&settings.headers)?,
        })
    }

    pub(super) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(super) async fn send(&self, payload: &Payload) -> Result<Accepted, Refusal> {
        let mut request = Request::new(payload.bytes.clone());
        *request.metadata_mut() = self.metadata.clone();
        match self.export(request).await {
            Ok(response) => Ok(response.into()),
            Err(status) => Err(refusal(&status)),
        }
    }

    async fn export(
        &self,
        request: Request<Bytes>,
    ) -> Result<ExportMetricsServiceResponse, Status> {
        let mut client = self.client.clone();
        // A failure to connect is a status of its own only when it comes out of the call.
        let ready = client.ready().await;
        ready.map_err(|error| Status::from_error(error.into()))?;
        let path = PathAndQuery::from_static(EXPORT);
        Ok(client.unary(request, path, ExportCodec).await?.into_inner())
    }
}

/// Sends requests that are encoded already.
#[derive(Clone, Copy, Debug)]
struct ExportCodec;

impl Codec for ExportCodec {
    type Encode = Bytes;
    type Decode = ExportMetricsServiceResponse;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        *self
    }

    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for ExportCodec {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for ExportCodec {
    type Item = ExportMetricsServiceResponse;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Self::Item>, Status> {
        let response = ExportMetricsServiceResponse::decode(from);
        response
            .map(Some)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

pub(crate) fn metadata(headers: &Headers) -> Result<MetadataMap, SetupError> {
    let mut metadata = MetadataMap::new();
    for (name, value) in headers.iter() {
        let key = AsciiMetadataKey::from_bytes(name.as_str().as_bytes()).ok();
        let value = AsciiMetadataValue::try_from(value.as_bytes()).ok();
        let Some((key, value)) = key.zip(value) else {
            return Err(SetupError::Header {
                name: name.to_string(),
            });
        };
        metadata.append(key, value);
    }
    Ok(metadata)
}

fn refusal(status: &Status) -> Refusal {
    // The collector's own statuses have no source: with one, the transport failed.
    if let Some(source) = status.source() {
        let reason = innermost(source);
        return Refusal {
            error: PushError::Connection { reason },
            retry: Retry::Backoff,
        };
    }
    if status.code() == Code::OutOfRange && status.message().starts_with(TOO_LARGE) {
        return Refusal {
            error: PushError::ResponseTooLarge,
            retry: Retry::Never,
        };
    }
    let error = PushError::Grpc {
        code: format!("{:?}", status.code()),
        message: printable(status.message()),
    };
    let wish = status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay);
    Refusal {
        error,
        retry: retry_of(status.code(), wish),
    }
}

/// <https://opentelemetry.io/docs/specs/otlp/#failures>
fn retry_of(code: Code, wish: Option<Duration>) -> Retry {
    match (code, wish) {
        (
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss
            | Code::ResourceExhausted,
            Some(wish),
        ) => Retry::After(wish),
        (
            Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            | Code::OutOfRange
            | Code::Unavailable
            | Code::DataLoss,
            None,
        ) => Retry::Backoff,
        _ => Retry::Never,
    }
}
