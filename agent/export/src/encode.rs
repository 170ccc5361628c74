//! From a snapshot to OTLP requests: one resource a workload, split by points below a size.

mod batch;
mod json;
mod packing;
mod point;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use kerntally_model::{Instrument, InstrumentSnapshot, MetricName, ProcessKey, Snapshot, Workload};
use opentelemetry_proto::tonic::{
    common::v1::InstrumentationScope,
    metrics::v1::{Metric, ResourceMetrics, ScopeMetrics, metric::Data},
    resource::v1::Resource,
};
use prost::Message as _;

use crate::{ExportMetricsServiceRequest, VERSION, resource::ResourceTemplate, semconv};
pub use batch::Batch;
pub(crate) use json::json;
use packing::Packing;
use point::Kind;

/// Default size limit of a request before compression: below the 4 MiB many gRPC servers accept at most.
pub const MAX_REQUEST_BYTES: usize = 3 * 1024 * 1024;

/// Encodes the snapshots of one node, one after the other.
#[derive(Debug)]
pub struct Encoder {
    resources: ResourceTemplate,
    max_request_bytes: usize,
    /// Of the snapshot before: the end of a series must be of the kind that its values were.
    kinds: Mutex<HashMap<MetricKey, Kind>>,
}

/// A request in protobuf, encoded once: what is sent again is the same bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Payload {
    pub(crate) bytes: Bytes,
    pub(crate) points: u64,
}

/// A metric of a workload, or of one of its processes.
type MetricKey = (
    Arc<Workload>,
    Option<ProcessKey>,
    Instrument,
    Option<MetricName>,
);

impl Encoder {
    /// A request never exceeds `max_request_bytes` unless a single point does.
    pub fn new(resources: ResourceTemplate, max_request_bytes: usize) -> Self {
        Self {
            resources,
            max_request_bytes,
            kinds: Mutex::default(),
        }
    }

    /// Requests that together hold every point once; none for a snapshot without points.
    pub fn encode(&self, snapshot: &Snapshot) -> Vec<ExportMetricsServiceRequest> {
        let mut requests = Vec::new();
        self.each(snapshot, self.max_request_bytes, &mut |request| {
            requests.push(request);
        });
        requests
    }

    #[cfg(test)]
    pub(crate) fn payloads(&self, snapshot: &Snapshot) -> Vec<Payload> {
        self.encode(snapshot).iter().map(Payload::from).collect()
    }

    /// Hands out requests below `max_request_bytes` one after the other: no other is in memory meanwhile.
    pub fn each(
        &self,
        snapshot: &Snapshot,
        max_request_bytes: usize,
        take: &mut dyn FnMut(ExportMetricsServiceRequest),
    ) {
        let mut kinds = self.kinds(snapshot).into_iter();
        let mut packing = Packing::new(max_request_bytes, take);
        for workload in &snapshot.workloads {
            let resource = self
                .resources
                .resource(&workload.workload, workload.process);
            packing.begin_resource(resource_frame(resource));
            for (instrument, kind) in workload.instruments.iter().zip(&mut kinds) {
                pack(instrument, kind, &mut packing);
            }
        }
        packing.finish();
    }

    /// Of every metric, in the snapshot's order. Told before anything is handed out: whoever takes it may take
    /// long, and the next snapshot must not wait.
    fn kinds(&self, snapshot: &Snapshot) -> Vec<Kind> {
        let mut known = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut kinds, mut now) = (Vec::new(), HashMap::new());
        for workload in &snapshot.workloads {
            for instrument in &workload.instruments {
                let key = (
                    Arc::clone(&workload.workload),
                    workload.process,
                    instrument.instrument,
                    instrument.renamed.clone(),
                );
                let kind = kind_of(instrument, known.get(&key).copied());
                kinds.push(kind);
                now.insert(key, kind);
            }
        }
        *known = now;
        kinds
    }
}

impl From<&ExportMetricsServiceRequest> for Payload {
    fn from(request: &ExportMetricsServiceRequest) -> Self {
        Self {
            bytes: request.encode_to_vec().into(),
            points: points_in(request),
        }
    }
}

/// A metric is of the kind of its values; of ends alone, of the kind it was before.
fn kind_of(instrument: &InstrumentSnapshot, before: Option<Kind>) -> Kind {
    let mut values = instrument.points.iter().map(|point| &point.value);
    values
        .find_map(Kind::of)
        .or(before)
        .unwrap_or_else(|| Kind::usual(instrument.instrument))
}

fn pack(instrument: &InstrumentSnapshot, kind: Kind, packing: &mut Packing<'_>) {
    packing.begin_metric(metric_frame(instrument, kind));
    for point in &instrument.points {
        packing.push(kind.point(point));
    }
}

/// Number of data points in a request.
pub fn points_in(request: &ExportMetricsServiceRequest) -> u64 {
    let metrics = request
        .resource_metrics
        .iter()
        .flat_map(|resource| &resource.scope_metrics)
        .flat_map(|scope| &scope.metrics);
    metrics
        .map(|metric| metric.data.as_ref().map_or(0, points_of))
        .sum()
}

fn points_of(data: &Data) -> u64 {
    let points = match data {
        Data::Gauge(gauge) => gauge.data_points.len(),
        Data::Sum(sum) => sum.data_points.len(),
        Data::Histogram(histogram) => histogram.data_points.len(),
        Data::ExponentialHistogram(histogram) => histogram.data_points.len(),
        Data::Summary(summary) => summary.data_points.len(),
    };
    points as u64
}

fn resource_frame(resource: Resource) -> ResourceMetrics {
    let scope = InstrumentationScope {
        name: semconv::SCOPE_NAME.to_owned(),
        version: VERSION.to_owned(),
        ..InstrumentationScope::default()
    };
    ResourceMetrics {
        resource: Some(resource),
        scope_metrics: vec![ScopeMetrics {
            scope: Some(scope),
            metrics: Vec::new(),
            schema_url: semconv::SCHEMA_URL.to_owned(),
        }],
        schema_url: semconv::SCHEMA_URL.to_owned(),
    }
}

fn metric_frame(instrument: &InstrumentSnapshot, kind: Kind) -> Metric {
    let convention = semconv::metric::declaration(instrument.instrument);
    let (name, unit) = match &instrument.renamed {
        Some(renamed) => (renamed.name.as_ref(), renamed.unit.as_ref()),
        None => (convention.name, convention.unit),
    };
    Metric {
        name: name.to_owned(),
        description: convention.description.to_owned(),
        unit: unit.to_owned(),
        metadata: Vec::new(),
        data: Some(kind.data(instrument.temporality)),
    }
}

#[cfg(test)]
mod tests;
