//! From a snapshot to OTLP requests: one resource a workload, split by points below a size.

use kerntally_model::{
    Attribute, AttributeValue, ExponentialHistogram, Instrument, InstrumentSnapshot, Point,
    PointValue, Snapshot, WorkloadSnapshot,
};
use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value::Value},
    metrics::v1::{
        AggregationTemporality, DataPointFlags, ExponentialHistogram as OtlpHistogram,
        ExponentialHistogramDataPoint, Metric, ResourceMetrics, ScopeMetrics,
        exponential_histogram_data_point::Buckets, metric::Data,
    },
};
use prost::Message as _;

use crate::{ExportMetricsServiceRequest, VERSION, resource::ResourceTemplate, semconv};

/// Default size limit of a request before compression: below the 4 MiB many gRPC servers accept at most.
pub const MAX_REQUEST_BYTES: usize = 3 * 1024 * 1024;

/// What a message costs beside its content: a tag, and a length of at most five bytes, its own and each
/// parent's growing with it.
const FRAME_BYTES: usize = 16;

/// Encodes snapshots of one node.
#[derive(Clone, Debug)]
pub struct Encoder {
    resources: ResourceTemplate,
    max_request_bytes: usize,
}

impl Encoder {
    /// A request never exceeds `max_request_bytes` unless a single point does.
    pub fn new(resources: ResourceTemplate, max_request_bytes: usize) -> Self {
        Self {
            resources,
            max_request_bytes,
        }
    }

    /// Requests that together hold every point once; none for a snapshot without points.
    pub fn encode(&self, snapshot: &Snapshot) -> Vec<ExportMetricsServiceRequest> {
        let mut packing = Packing::new(self.max_request_bytes);
        for workload in &snapshot.workloads {
            self.pack(workload, &mut packing);
        }
        packing.finish()
    }

    fn pack(&self, workload: &WorkloadSnapshot, packing: &mut Packing) {
        let frame = resource_frame(self.resources.resource(&workload.workload));
        packing.begin_resource(frame);
        for instrument in &workload.instruments {
            packing.begin_metric(metric_frame(instrument));
            for point in &instrument.points {
                packing.push(data_point(point));
            }
        }
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

/// Fills requests point by point. Frames are repeated at the head of a request that continues them.
struct Packing {
    limit: usize,
    done: Vec<ExportMetricsServiceRequest>,
    request: ExportMetricsServiceRequest,
    request_bytes: usize,
    resource: ResourceMetrics,
    metric: Metric,
    /// Whether the request's last resource, and its last metric, are the current ones.
    resource_open: bool,
    metric_open: bool,
}

impl Packing {
    fn new(limit: usize) -> Self {
        Self {
            limit,
            done: Vec::new(),
            request: ExportMetricsServiceRequest::default(),
            request_bytes: 0,
            resource: ResourceMetrics::default(),
            metric: Metric::default(),
            resource_open: false,
            metric_open: false,
        }
    }

    fn begin_resource(&mut self, frame: ResourceMetrics) {
        self.resource = frame;
        self.resource_open = false;
        self.metric_open = false;
    }

    fn begin_metric(&mut self, frame: Metric) {
        self.metric = frame;
        self.metric_open = false;
    }

    fn push(&mut self, point: ExponentialHistogramDataPoint) {
        let bytes = point.encoded_len() + FRAME_BYTES;
        if self.request_bytes > 0 && self.request_bytes + self.frame_bytes() + bytes > self.limit {
            self.close();
        }
        self.request_bytes += self.frame_bytes() + bytes;
        self.open_frames();
        if let Some(points) = self.open_points() {
            points.push(point);
        }
    }

    /// What the frames that are still to be opened will take.
    fn frame_bytes(&self) -> usize {
        let resource = if self.resource_open {
            0
        } else {
            self.resource.encoded_len() + 2 * FRAME_BYTES
        };
        let metric = if self.metric_open {
            0
        } else {
            self.metric.encoded_len() + 2 * FRAME_BYTES
        };
        resource + metric
    }

    fn open_frames(&mut self) {
        if !self.resource_open {
            self.request.resource_metrics.push(self.resource.clone());
            self.resource_open = true;
        }
        if !self.metric_open {
            let metric = self.metric.clone();
            if let Some(scope) = self.open_scope() {
                scope.metrics.push(metric);
            }
            self.metric_open = true;
        }
    }

    fn open_scope(&mut self) -> Option<&mut ScopeMetrics> {
        self.request
            .resource_metrics
            .last_mut()?
            .scope_metrics
            .last_mut()
    }

    fn open_points(&mut self) -> Option<&mut Vec<ExponentialHistogramDataPoint>> {
        match self.open_scope()?.metrics.last_mut()?.data.as_mut()? {
            Data::ExponentialHistogram(histogram) => Some(&mut histogram.data_points),
            _ => None,
        }
    }

    fn close(&mut self) {
        self.done.push(std::mem::take(&mut self.request));
        self.request_bytes = 0;
        self.resource_open = false;
        self.metric_open = false;
    }

    fn finish(mut self) -> Vec<ExportMetricsServiceRequest> {
        if self.request_bytes > 0 {
            self.close();
        }
        self.done
    }
}

fn resource_frame(resource: opentelemetry_proto::tonic::resource::v1::Resource) -> ResourceMetrics {
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

fn metric_frame(instrument: &InstrumentSnapshot) -> Metric {
    let (name, description) = match instrument.instrument {
        Instrument::HttpServerRequestDuration => (
            semconv::metric::HTTP_SERVER_REQUEST_DURATION,
            semconv::metric::HTTP_SERVER_REQUEST_DURATION_TEXT,
        ),
        Instrument::HttpClientRequestDuration => (
            semconv::metric::HTTP_CLIENT_REQUEST_DURATION,
            semconv::metric::HTTP_CLIENT_REQUEST_DURATION_TEXT,
        ),
    };
    Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: semconv::metric::SECONDS.to_owned(),
        metadata: Vec::new(),
        data: Some(Data::ExponentialHistogram(OtlpHistogram {
            data_points: Vec::new(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        })),
    }
}

fn data_point(point: &Point) -> ExponentialHistogramDataPoint {
    let frame = ExponentialHistogramDataPoint {
        attributes: point.attributes.iter().map(key_value).collect(),
        start_time_unix_nano: point.start_unix_ns,
        time_unix_nano: point.time_unix_ns,
        ..ExponentialHistogramDataPoint::default()
    };
    match &point.value {
        PointValue::Exponential(histogram) => with_values(frame, histogram),
        PointValue::NoRecordedValue => ExponentialHistogramDataPoint {
            flags: DataPointFlags::NoRecordedValueMask as u32,
            ..frame
        },
    }
}

fn with_values(
    frame: ExponentialHistogramDataPoint,
    histogram: &ExponentialHistogram,
) -> ExponentialHistogramDataPoint {
    ExponentialHistogramDataPoint {
        count: histogram.count,
        sum: Some(histogram.sum),
        scale: histogram.scale,
        zero_count: histogram.zero_count,
        positive: Some(Buckets {
            offset: histogram.offset,
            bucket_counts: histogram.buckets.clone(),
        }),
        min: histogram.min,
        max: histogram.max,
        ..frame
    }
}

fn key_value((key, value): &Attribute) -> KeyValue {
    let value = match value {
        AttributeValue::Text(text) => Value::StringValue(text.as_ref().to_owned()),
        AttributeValue::Integer(integer) => Value::IntValue(*integer),
        AttributeValue::Boolean(boolean) => Value::BoolValue(*boolean),
    };
    KeyValue {
        key: (*key).to_owned(),
        value: Some(AnyValue { value: Some(value) }),
        ..KeyValue::default()
    }
}

#[cfg(test)]
mod tests;
