//! The agent's own health through OpenTelemetry's SDK: pushed beside the points of the services, and as
//! text for `/metrics`.

mod instruments;
mod push;
mod reading;

use std::{
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use opentelemetry::{InstrumentationScope, KeyValue, metrics::MeterProvider as _};
use opentelemetry_otlp::ExporterBuildError;
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    metrics::{
        InstrumentKind, ManualReader, MeterProviderBuilder, Pipeline, SdkMeterProvider,
        Temporality, data::ResourceMetrics, reader::MetricReader,
    },
};
use prometheus::{Encoder as _, Registry, TextEncoder};

use crate::{
    ExportMetricsServiceRequest, VERSION,
    push::{Exporter, SetupError, TlsError},
    resource::{AGENT_NAME, Node, instance_id, telemetry_attributes},
    semconv,
};

pub(crate) use instruments::{COUNTERS, GAUGES, SEEN, SelfInstrument};
pub use reading::{Reading, RoleReading, SelfSource, ServiceSeries};

/// Content type of [`SelfMetrics::prometheus_text`].
pub const PROMETHEUS_CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

/// Name of the instrumentation scope of everything the agent says about itself.
const SCOPE_NAME: &str = "kerntally/self";

/// Why the agent's own telemetry could not be set up or read.
#[derive(Debug, thiserror::Error)]
pub enum SelfError {
    /// The exporter.
    #[error("exporter of the agent's own metrics could not be built")]
    Exporter {
        /// What the SDK said.
        #[from]
        source: ExporterBuildError,
    },
    /// Its connection.
    #[error(transparent)]
    Setup(#[from] SetupError),
    /// TLS files.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The SDK itself.
    #[error("the agent's own metrics are not available")]
    Sdk {
        /// What the SDK said.
        #[from]
        source: OTelSdkError,
    },
    /// The text format.
    #[error("the agent's own metrics have no text form")]
    Text {
        /// What the encoder said.
        #[from]
        source: prometheus::Error,
    },
    /// The thread that ends the SDK.
    #[error("the agent's own metrics did not end")]
    Join {
        /// What the runtime said.
        #[from]
        source: tokio::task::JoinError,
    },
}

/// Who the agent is, as its own resource says it.
#[derive(Clone, Debug)]
pub struct SelfIdentity {
    /// `OTEL_SERVICE_NAME`, else `kerntally`.
    pub service_name: String,
    /// The node it runs on.
    pub node: Node,
    /// Base attributes, as for the services.
    pub base: Vec<(String, String)>,
}

/// The agent's own instruments, registered and readable.
///
/// Each way out has a provider of its own: readers of one provider write into each other's collections, and
/// the ledger would not close when two collect at once.
#[derive(Debug)]
pub struct SelfMetrics {
    registry: Registry,
    by_hand: Mutex<SharedReader>,
    providers: Vec<SdkMeterProvider>,
}

/// A reader that is asked by hand, shared with its provider.
#[derive(Clone, Debug)]
struct SharedReader(Arc<ManualReader>);

impl SelfMetrics {
    /// Registers all instruments on `source`. With an exporter they are pushed every `interval` to its
    /// endpoint; must then be called within a tokio runtime.
    pub fn new(
        identity: &SelfIdentity,
        source: &Arc<dyn SelfSource>,
        push: Option<(&Exporter, Duration)>,
    ) -> Result<Self, SelfError> {
        let registry = Registry::new();
        let prometheus = opentelemetry_prometheus::exporter()
            .with_registry(registry.clone())
            .scope_info_enabled(false)
            .build()?;
        let reader = SharedReader(Arc::new(ManualReader::builder().build()));
        let provider = || SdkMeterProvider::builder().with_resource(resource(identity));
        let mut builders = vec![
            provider().with_reader(prometheus),
            provider().with_reader(reader.clone()),
        ];
        if let Some((exporter, interval)) = push {
            builders.push(provider().with_reader(push::reader(exporter, interval)?));
        }
        let providers = builders
            .into_iter()
            .map(|builder| registered(builder, source));
        Ok(Self {
            registry,
            by_hand: Mutex::new(reader),
            providers: providers.collect(),
        })
    }

    /// What is pushed, as a request: for the export file.
    pub fn request(&self) -> Result<ExportMetricsServiceRequest, SelfError> {
        let mut metrics = ResourceMetrics::default();
        let reader = self.by_hand.lock().unwrap_or_else(PoisonError::into_inner);
        reader.collect(&mut metrics)?;
        Ok(ExportMetricsServiceRequest::from(&metrics))
    }

    /// The body of `/metrics`.
    pub fn prometheus_text(&self) -> Result<String, SelfError> {
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// Pushes one last time and ends. The SDK blocks while it does: on a thread of its own.
    pub async fn shutdown(self) -> Result<(), SelfError> {
        let end = move || {
            self.providers
                .iter()
                .try_for_each(SdkMeterProvider::shutdown)
        };
        Ok(tokio::task::spawn_blocking(end).await??)
    }
}

impl MetricReader for SharedReader {
    fn register_pipeline(&self, pipeline: Weak<Pipeline>) {
        self.0.register_pipeline(pipeline);
    }

    fn collect(&self, metrics: &mut ResourceMetrics) -> OTelSdkResult {
        self.0.collect(metrics)
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.0.shutdown_with_timeout(timeout)
    }

    fn temporality(&self, _kind: InstrumentKind) -> Temporality {
        Temporality::Cumulative
    }
}

fn registered(builder: MeterProviderBuilder, source: &Arc<dyn SelfSource>) -> SdkMeterProvider {
    let provider = builder.build();
    let scope = InstrumentationScope::builder(SCOPE_NAME)
        .with_version(VERSION)
        .with_schema_url(semconv::SCHEMA_URL)
        .build();
    instruments::register(&provider.meter_with_scope(scope), source);
    provider
}

fn resource(identity: &SelfIdentity) -> Resource {
    use semconv::resource as names;

    let name = identity.service_name.as_str();
    let instance = instance_id(
        &identity.node.id,
        [None, Some(name), Some(VERSION), None],
        None,
    )
    .to_string();
    let base = identity
        .base
        .iter()
        .filter(|(key, _)| !key.starts_with(names::SERVICE_PREFIX));
    let host = identity
        .node
        .host_name
        .iter()
        .map(|host| KeyValue::new(names::HOST_NAME, host.clone()));
    let own = telemetry_attributes().map(|(key, value)| KeyValue::new(key, value));
    Resource::builder_empty()
        .with_attributes(host)
        .with_attributes(base.map(|(key, value)| KeyValue::new(key.clone(), value.clone())))
        .with_attributes(own)
        .with_attribute(KeyValue::new(names::SERVICE_VERSION, VERSION))
        .with_attribute(KeyValue::new(names::SERVICE_INSTANCE_ID, instance))
        .with_attribute(KeyValue::new(names::SERVICE_NAME, name.to_owned()))
        .with_schema_url([], semconv::SCHEMA_URL)
        .build()
}

impl Default for SelfIdentity {
    /// Named as the agent, on a node without a name: for tests and for a host that tells nothing.
    fn default() -> Self {
        let node = Node {
            id: String::new(),
            source: crate::resource::NodeIdSource::Configured,
            host_name: None,
        };
        Self {
            service_name: AGENT_NAME.to_owned(),
            node,
            base: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests;
