//! Rules about exemplars: they stand for measurements that their point has counted.

use kerntally_export::otlp::{
    Exemplar, ExponentialHistogramDataPoint, HistogramDataPoint, exemplar,
};

use super::convention::Side;
use super::points::{PointData, PointView};
use super::{Lint, Rule, Subject};

/// How far from a boundary a value may be off for having been computed by logarithms.
const ROUNDING: f64 = 1e-9;

impl Lint {
    pub(super) fn exemplars(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        let mut before = 0;
        for exemplar in point.exemplars {
            if exemplar.time_unix_nano < before {
                let found = format!("{} after {before}", exemplar.time_unix_nano);
                self.find(Rule::ExemplarOrder, subject, Some(point), found);
            }
            before = exemplar.time_unix_nano;
            self.exemplar(subject, point, exemplar);
        }
    }

    fn exemplar(&mut self, subject: &Subject<'_>, point: &PointView<'_>, exemplar: &Exemplar) {
        let time = exemplar.time_unix_nano;
        if time < point.start || time > point.time {
            let found = format!("{time} outside {} to {}", point.start, point.time);
            self.find(Rule::ExemplarWindow, subject, Some(point), found);
        }
        match value(exemplar) {
            Some(value) if value.is_finite() => {
                if !is_within(value, point) {
                    let found = value.to_string();
                    self.find(Rule::ExemplarBucket, subject, Some(point), found);
                }
            }
            Some(value) => {
                let found = value.to_string();
                self.find(Rule::ExemplarValue, subject, Some(point), found);
            }
            None => self.find(Rule::ExemplarValue, subject, Some(point), "none"),
        }
        self.ids(subject, point, exemplar);
        if subject.is_own_scope && !exemplar.filtered_attributes.is_empty() {
            let found = exemplar.filtered_attributes.len().to_string();
            self.find(Rule::ExemplarAttributes, subject, Some(point), found);
        }
    }

    fn ids(&mut self, subject: &Subject<'_>, point: &PointView<'_>, exemplar: &Exemplar) {
        let trace = &exemplar.trace_id;
        // Without a trace id it leads nowhere, and kerntally's all have one.
        let may_lack = !subject.is_own_scope;
        if !(is_id(trace, 16) || (may_lack && trace.is_empty())) {
            let found = shown(trace);
            self.find(Rule::ExemplarTrace, subject, Some(point), found);
        }
        let span = &exemplar.span_id;
        let is_own_server = subject.is_own_scope
            && subject
                .convention
                .is_some_and(|convention| convention.side == Side::Server);
        if !span.is_empty() && (is_own_server || !is_id(span, 8)) {
            let found = shown(span);
            self.find(Rule::ExemplarSpan, subject, Some(point), found);
        }
    }
}

/// The measurement.
pub(super) fn value(exemplar: &Exemplar) -> Option<f64> {
    #[expect(clippy::cast_precision_loss, reason = "compared only")]
    match exemplar.value? {
        exemplar::Value::AsDouble(value) => Some(value),
        exemplar::Value::AsInt(value) => Some(value as f64),
    }
}

fn is_id(bytes: &[u8], length: usize) -> bool {
    bytes.len() == length && bytes.iter().any(|byte| *byte != 0)
}

fn shown(id: &[u8]) -> String {
    if id.is_empty() {
        return "none".to_owned();
    }
    let bytes: Vec<_> = id
        .iter()
        .take(32)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    bytes.concat()
}

/// Whether the point counted such a value.
fn is_within(value: f64, point: &PointView<'_>) -> bool {
    let (min, max) = point.extremes();
    let slack = value.abs() * ROUNDING;
    if min.is_some_and(|min| value < min - slack) || max.is_some_and(|max| value > max + slack) {
        return false;
    }
    match point.data {
        PointData::Explicit(histogram) => is_in_explicit(value, histogram),
        PointData::Exponential(histogram) => is_in_exponential(value, histogram),
        _ => true,
    }
}

fn is_in_explicit(value: f64, point: &HistogramDataPoint) -> bool {
    if point.bucket_counts.is_empty() {
        return true;
    }
    let bucket = point
        .explicit_bounds
        .partition_point(|bound| *bound < value);
    point
        .bucket_counts
        .get(bucket)
        .is_some_and(|count| *count > 0)
}

fn is_in_exponential(value: f64, point: &ExponentialHistogramDataPoint) -> bool {
    if value.abs() <= point.zero_threshold {
        return point.zero_count > 0;
    }
    let side = if value > 0.0 {
        &point.positive
    } else {
        &point.negative
    };
    let Some(side) = side else { return false };
    let value = value.abs();
    // Next to a boundary either bucket may have it.
    [value * (1.0 - ROUNDING), value * (1.0 + ROUNDING)]
        .into_iter()
        .filter_map(|value| {
            let at = index(value, point.scale) - i64::from(side.offset);
            side.bucket_counts.get(usize::try_from(at).ok()?)
        })
        .any(|count| *count > 0)
}

/// Index of the bucket of a positive value.
#[expect(
    clippy::cast_possible_truncation,
    reason = "logarithms of doubles times at most 2^20 fit easily"
)]
fn index(value: f64, scale: i32) -> i64 {
    (value.log2() * f64::from(scale).exp2()).ceil() as i64 - 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_hold_their_upper_bound() {
        assert_eq!(index(1.0, 0), -1);
        assert_eq!(index(2.0, 0), 0);
        assert_eq!(index(2.1, 0), 1);
        assert_eq!(index(2.0, 3), 7);
        assert_eq!(index(4.0, -1), 0);
        assert_eq!(index(0.05, 3), -35);
    }
}
