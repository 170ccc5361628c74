//! Stage 7: a snapshot goes in; OTLP by gRPC or HTTP, OTLP lines in a file, a page for
//! Prometheus and a table on the terminal come out.
//!
//! This is the only crate that knows OpenTelemetry's own crates; the agent's own health leaves through their SDK.
#![forbid(unsafe_code)]

pub mod catalogue;
#[cfg(test)]
mod collector;
pub mod console;
pub mod encode;
pub mod endpoint;
pub mod file;
#[cfg(test)]
mod fixture;
pub mod measure;
pub mod otlpjson;
pub mod pull;
pub mod push;
pub mod resource;
pub mod selfmetrics;
pub mod semconv;

pub use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;

/// The messages inside a request, for those who look into them.
pub mod otlp {
    pub use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
    pub use opentelemetry_proto::tonic::metrics::v1::{
        AggregationTemporality, DataPointFlags, Exemplar, ExponentialHistogramDataPoint,
        HistogramDataPoint, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, exemplar,
        exponential_histogram_data_point, metric::Data, number_data_point,
    };
    pub use opentelemetry_proto::tonic::resource::v1::Resource;
}

/// Version of the agent, as resources, scopes and the user agent say it.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
