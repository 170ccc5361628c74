//! Pushes the agent's own metrics over the connection that the services' points take.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{
    MetricExporter, WithExportConfig as _, WithHttpConfig as _, WithTonicConfig as _,
};
use opentelemetry_sdk::metrics::PeriodicReader;
use tokio::runtime::Handle;

use super::SelfError;
use crate::{
    encode::Payload,
    endpoint::{Compression, OtlpSettings, Protocol},
    push::{Exporter, HttpTransport},
};

/// The SDK's exporters read the standard variables for what is not set: everything is set.
pub(super) fn reader(
    exporter: &Exporter,
    interval: Duration,
) -> Result<PeriodicReader<MetricExporter>, SelfError> {
    let settings = exporter.settings();
    let exporter = match exporter.channel() {
        Some(channel) => over_grpc(channel, settings)?,
        None => over_http(settings)?,
    };
    Ok(PeriodicReader::builder(exporter)
        .with_interval(interval)
        .build())
}

fn over_grpc(
    channel: tonic::transport::Channel,
    settings: &OtlpSettings,
) -> Result<MetricExporter, SelfError> {
    let builder = MetricExporter::builder()
        .with_tonic()
        .with_channel(channel)
        .with_metadata(crate::push::metadata(&settings.headers)?)
        .with_timeout(settings.timeout);
    // The SDK accepts compressed answers only when it compresses itself, and servers that answer compressed
    // fail it otherwise: its few points may as well be compressed always.
    Ok(builder
        .with_compression(opentelemetry_otlp::Compression::Gzip)
        .build()?)
}

fn over_http(settings: &OtlpSettings) -> Result<MetricExporter, SelfError> {
    let client = RuntimeClient {
        transport: HttpTransport::new(settings)?,
        runtime: Handle::current(),
    };
    let builder = MetricExporter::builder()
        .with_http()
        .with_http_client(client)
        .with_endpoint(settings.endpoint.uri().to_string())
        .with_timeout(settings.timeout);
    // What becomes JSON is compressed after that.
    let is_json = settings.endpoint.protocol() == Protocol::HttpJson;
    Ok(match settings.compression {
        _ if is_json => builder,
        Compression::Gzip => builder.with_compression(opentelemetry_otlp::Compression::Gzip),
        Compression::None => builder,
    }
    .build()?)
}

/// Runs requests on the agent's runtime: the SDK's thread has none.
#[derive(Debug)]
struct RuntimeClient {
    transport: HttpTransport,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for RuntimeClient {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let transport = self.transport.clone();
        let is_json = transport.is_json();
        let exchange = async move {
            let request = if is_json {
                let payload = Payload {
                    bytes: request.into_body(),
                    points: 0,
                };
                transport.request(transport.body(&payload)?)
            } else {
                request
            };
            transport.exchange(request).await
        };
        let answer = self
            .runtime
            .spawn(exchange)
            .await?
            .map_err(|refusal| refusal.error)?;
        // The SDK reads protobuf only.
        let body = if is_json { Bytes::new() } else { answer.body };
        let mut response = Response::new(body);
        *response.status_mut() = answer.status;
        *response.headers_mut() = answer.headers;
        Ok(response)
    }
}
