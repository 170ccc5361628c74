//! Points into requests below a size.

use opentelemetry_proto::tonic::metrics::v1::{Metric, ResourceMetrics, ScopeMetrics};
use prost::Message as _;

use super::point::OtlpPoint;
use crate::ExportMetricsServiceRequest;

/// What a message costs beside its content: a tag, and a length of at most five bytes, its own and each
/// parent's growing with it.
const FRAME_BYTES: usize = 16;

/// Fills requests point by point. Frames are repeated at the head of a request that continues them.
pub(super) struct Packing<'a> {
    limit: usize,
    /// Takes each request as soon as it is full, so that only one exists in parts at a time.
    done: &'a mut dyn FnMut(ExportMetricsServiceRequest),
    request: ExportMetricsServiceRequest,
    request_bytes: usize,
    resource: ResourceMetrics,
    metric: Metric,
    /// Whether the request's last resource, and its last metric, are the current ones.
    resource_open: bool,
    metric_open: bool,
}

impl<'a> Packing<'a> {
    pub(super) fn new(limit: usize, done: &'a mut dyn FnMut(ExportMetricsServiceRequest)) -> Self {
        Self {
            limit,
            done,
            request: ExportMetricsServiceRequest::default(),
            request_bytes: 0,
            resource: ResourceMetrics::default(),
            metric: Metric::default(),
            resource_open: false,
            metric_open: false,
        }
    }

    pub(super) fn begin_resource(&mut self, frame: ResourceMetrics) {
        self.resource = frame;
        self.resource_open = false;
        self.metric_open = false;
    }

    pub(super) fn begin_metric(&mut self, frame: Metric) {
        self.metric = frame;
        self.metric_open = false;
    }

    pub(super) fn push(&mut self, point: OtlpPoint) {
        let bytes = point.encoded_len() + FRAME_BYTES;
        if self.request_bytes > 0 && self.request_bytes + self.frame_bytes() + bytes > self.limit {
            self.close();
        }
        self.request_bytes += self.frame_bytes() + bytes;
        self.open_frames();
        let metric = self.open_scope().and_then(|scope| scope.metrics.last_mut());
        if let Some(data) = metric.and_then(|metric| metric.data.as_mut()) {
            point.append_to(data);
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

    fn close(&mut self) {
        (self.done)(std::mem::take(&mut self.request));
        self.request_bytes = 0;
        self.resource_open = false;
        self.metric_open = false;
    }

    pub(super) fn finish(mut self) {
        if self.request_bytes > 0 {
            self.close();
        }
    }
}
