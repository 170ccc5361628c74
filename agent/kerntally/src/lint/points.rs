//! Rules about the values of points: times, flags, counts, buckets, sums.

use kerntally_export::otlp::{
    AggregationTemporality, Data, DataPointFlags, Exemplar, ExponentialHistogramDataPoint,
    HistogramDataPoint, KeyValue, Metric, NumberDataPoint,
    exponential_histogram_data_point::Buckets, number_data_point,
};

use super::convention::Measures;
use super::{Lint, Rule, Subject, shown_value};

/// Buckets of a side.
const MAX_BUCKETS: usize = 160;

/// Scales that the data model allows.
const SCALES: std::ops::RangeInclusive<i32> = -10..=20;

/// Relative error that sums and bounds may have from rounding.
const ROUNDING: f64 = 1e-6;

/// Before 2001 a time was not in nanoseconds.
const FIRST_TIME: u64 = 1_000_000_000_000_000_000;

/// A point of any kind.
#[derive(Clone, Copy)]
pub(super) struct PointView<'a> {
    pub(super) attributes: &'a [KeyValue],
    pub(super) start: u64,
    pub(super) time: u64,
    pub(super) flags: u32,
    pub(super) exemplars: &'a [Exemplar],
    pub(super) data: PointData<'a>,
}

/// What it holds.
#[derive(Clone, Copy)]
pub(super) enum PointData<'a> {
    Number {
        point: &'a NumberDataPoint,
        is_sum: bool,
    },
    Explicit(&'a HistogramDataPoint),
    Exponential(&'a ExponentialHistogramDataPoint),
    Summary,
}

/// What histograms of both kinds have.
struct Distribution {
    count: u64,
    /// What the buckets hold, if there are any.
    total: Option<u128>,
    sum: Option<f64>,
    min: Option<f64>,
    max: Option<f64>,
    /// Lower bound of the first bucket that is not empty, and upper bound of the last.
    range: Option<(f64, f64)>,
}

/// Kind of data as findings say it.
pub(super) fn kind(metric: &Metric) -> &'static str {
    match &metric.data {
        None => "nothing",
        Some(Data::Gauge(_)) => "gauge",
        Some(Data::Sum(sum)) if sum.is_monotonic => "monotonic sum",
        Some(Data::Sum(_)) => "sum",
        Some(Data::Histogram(_)) => "histogram",
        Some(Data::ExponentialHistogram(_)) => "exponential histogram",
        Some(Data::Summary(_)) => "summary",
    }
}

/// Whether the kind of data has a temporality.
pub(super) fn has_temporality(metric: &Metric) -> bool {
    matches!(
        &metric.data,
        Some(Data::Sum(_) | Data::Histogram(_) | Data::ExponentialHistogram(_))
    )
}

/// The temporality as it was sent.
pub(super) fn temporality(metric: &Metric) -> i32 {
    match &metric.data {
        Some(Data::Sum(sum)) => sum.aggregation_temporality,
        Some(Data::Histogram(histogram)) => histogram.aggregation_temporality,
        Some(Data::ExponentialHistogram(histogram)) => histogram.aggregation_temporality,
        _ => 0,
    }
}

/// The points of a metric.
pub(super) fn views(metric: &Metric) -> Vec<PointView<'_>> {
    match &metric.data {
        None => Vec::new(),
        Some(Data::Gauge(gauge)) => numbers(&gauge.data_points, false),
        Some(Data::Sum(sum)) => numbers(&sum.data_points, true),
        Some(Data::Histogram(histogram)) => histogram.data_points.iter().map(explicit).collect(),
        Some(Data::ExponentialHistogram(histogram)) => {
            histogram.data_points.iter().map(exponential).collect()
        }
        Some(Data::Summary(summary)) => summary
            .data_points
            .iter()
            .map(|point| PointView {
                attributes: &point.attributes,
                start: point.start_time_unix_nano,
                time: point.time_unix_nano,
                flags: point.flags,
                exemplars: &[],
                data: PointData::Summary,
            })
            .collect(),
    }
}

fn numbers(points: &[NumberDataPoint], is_sum: bool) -> Vec<PointView<'_>> {
    points
        .iter()
        .map(|point| PointView {
            attributes: &point.attributes,
            start: point.start_time_unix_nano,
            time: point.time_unix_nano,
            flags: point.flags,
            exemplars: &point.exemplars,
            data: PointData::Number { point, is_sum },
        })
        .collect()
}

fn explicit(point: &HistogramDataPoint) -> PointView<'_> {
    PointView {
        attributes: &point.attributes,
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
        flags: point.flags,
        exemplars: &point.exemplars,
        data: PointData::Explicit(point),
    }
}

fn exponential(point: &ExponentialHistogramDataPoint) -> PointView<'_> {
    PointView {
        attributes: &point.attributes,
        start: point.start_time_unix_nano,
        time: point.time_unix_nano,
        flags: point.flags,
        exemplars: &point.exemplars,
        data: PointData::Exponential(point),
    }
}

impl PointView<'_> {
    /// The series ended.
    pub(super) fn is_ended(&self) -> bool {
        self.flags & DataPointFlags::NoRecordedValueMask as u32 != 0
    }

    pub(super) fn is_exponential(&self) -> bool {
        matches!(self.data, PointData::Exponential(_))
    }

    /// Values that went in; for sums the value.
    pub(super) fn count(&self) -> Option<f64> {
        #[expect(clippy::cast_precision_loss, reason = "compared only")]
        match self.data {
            PointData::Explicit(point) => Some(point.count as f64),
            PointData::Exponential(point) => Some(point.count as f64),
            PointData::Number { point, .. } => match point.value? {
                number_data_point::Value::AsDouble(value) => Some(value),
                number_data_point::Value::AsInt(value) => Some(value as f64),
            },
            PointData::Summary => None,
        }
    }

    /// Smallest and largest value, where they are known.
    pub(super) fn extremes(&self) -> (Option<f64>, Option<f64>) {
        match self.data {
            PointData::Explicit(point) => (point.min, point.max),
            PointData::Exponential(point) => (point.min, point.max),
            _ => (None, None),
        }
    }

    /// Its attributes as findings show them.
    pub(super) fn shown(&self) -> String {
        let pairs: Vec<String> = self
            .attributes
            .iter()
            .map(|attribute| {
                let value = shown_value(attribute.value.as_ref());
                format!("{}={}", attribute.key, value.replace("the integer ", ""))
            })
            .collect();
        if pairs.is_empty() {
            return "the series without attributes".to_owned();
        }
        pairs.join(" ")
    }

    fn has_values(&self) -> bool {
        match self.data {
            PointData::Explicit(point) => {
                point.count > 0 || point.bucket_counts.iter().any(|count| *count > 0)
            }
            PointData::Exponential(point) => point.count > 0 || !totals(point).is_empty(),
            PointData::Number { point, .. } => point.value.is_some(),
            PointData::Summary => false,
        }
    }
}

/// Counts of both sides that are not zero.
fn totals(point: &ExponentialHistogramDataPoint) -> Vec<u64> {
    let sides = [&point.positive, &point.negative].into_iter().flatten();
    sides
        .flat_map(|side| &side.bucket_counts)
        .copied()
        .filter(|count| *count > 0)
        .collect()
}

/// Upper bound of bucket `index` is the lower bound of the next.
pub(super) fn bound(index: i64, scale: i32) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "indexes are far below 2^52")]
    let index = index as f64;
    (index * (-f64::from(scale)).exp2()).exp2()
}

impl Lint {
    pub(super) fn values(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        self.times(subject, point);
        if point.flags & !(DataPointFlags::NoRecordedValueMask as u32) != 0 {
            let found = format!("{:#x}", point.flags);
            self.find(Rule::PointFlags, subject, Some(point), found);
        }
        if point.is_ended() {
            self.ended(subject, point);
            return;
        }
        match point.data {
            PointData::Number {
                point: number,
                is_sum,
            } => self.number(subject, point, number, is_sum),
            PointData::Explicit(histogram) => self.explicit(subject, point, histogram),
            PointData::Exponential(histogram) => self.exponential(subject, point, histogram),
            PointData::Summary => {}
        }
    }

    fn times(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        if point.time < FIRST_TIME {
            let found = point.time.to_string();
            self.find(Rule::PointTime, subject, Some(point), found);
            return;
        }
        if point.start == 0 {
            if has_temporality(subject.metric) {
                self.find(Rule::PointStart, subject, Some(point), "none");
            }
        } else if point.start < FIRST_TIME {
            let found = point.start.to_string();
            self.find(Rule::PointTime, subject, Some(point), found);
        } else if point.start > point.time {
            let found = format!("{} after {}", point.start, point.time);
            self.find(Rule::PointWindow, subject, Some(point), found);
        }
    }

    fn ended(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        if point.has_values() {
            self.find(Rule::PointEnded, subject, Some(point), "values beside it");
        } else if subject.temporality == Some(AggregationTemporality::Delta) {
            self.find(Rule::PointEnded, subject, Some(point), "on a delta point");
        }
    }

    fn number(
        &mut self,
        subject: &Subject<'_>,
        view: &PointView<'_>,
        point: &NumberDataPoint,
        is_sum: bool,
    ) {
        let found = match point.value {
            None => "no value".to_owned(),
            Some(number_data_point::Value::AsDouble(value)) if !value.is_finite() => {
                value.to_string()
            }
            _ => {
                let is_level = subject
                    .convention
                    .is_some_and(|convention| convention.measures == Measures::Level);
                match view.count() {
                    Some(value) if value < 0.0 && is_sum && is_level => value.to_string(),
                    _ => return,
                }
            }
        };
        self.find(Rule::PointValue, subject, Some(view), found);
    }

    fn exponential(
        &mut self,
        subject: &Subject<'_>,
        view: &PointView<'_>,
        point: &ExponentialHistogramDataPoint,
    ) {
        let total: u128 = totals(point)
            .into_iter()
            .map(u128::from)
            .sum::<u128>()
            .saturating_add(point.zero_count.into());
        if !SCALES.contains(&point.scale) {
            let found = point.scale.to_string();
            self.find(Rule::HistogramScale, subject, Some(view), found);
        }
        let sides = [&point.positive, &point.negative].into_iter().flatten();
        if let Some(many) = sides
            .map(|side| side.bucket_counts.len())
            .find(|length| *length > MAX_BUCKETS)
        {
            let found = many.to_string();
            self.find(Rule::HistogramBuckets, subject, Some(view), found);
        }
        let has_negative = point
            .negative
            .iter()
            .flat_map(|side| &side.bucket_counts)
            .any(|count| *count > 0);
        if has_negative && measures_amounts(subject) {
            self.find(Rule::HistogramNegative, subject, Some(view), "some");
        }
        let range = if has_negative {
            None
        } else {
            point
                .positive
                .as_ref()
                .and_then(|side| range(side, point.scale, point.zero_count))
        };
        let extremes = [point.sum, point.min, point.max];
        let distribution = Distribution::new(point.count, Some(total), extremes, range);
        self.distribution(subject, view, &distribution);
    }

    fn explicit(
        &mut self,
        subject: &Subject<'_>,
        view: &PointView<'_>,
        point: &HistogramDataPoint,
    ) {
        let (bounds, counts) = (&point.explicit_bounds, &point.bucket_counts);
        let is_bare = bounds.is_empty() && counts.is_empty();
        let ascends = bounds.windows(2).all(|pair| pair[0] < pair[1]);
        let are_finite = bounds.iter().all(|bound| bound.is_finite());
        if !is_bare && (!ascends || !are_finite || counts.len() != bounds.len() + 1) {
            let found = format!("{} buckets over {bounds:?}", counts.len());
            self.find(Rule::HistogramBounds, subject, Some(view), found);
        }
        let total = || counts.iter().copied().map(u128::from).sum();
        let (extremes, range) = (
            [point.sum, point.min, point.max],
            explicit_range(bounds, counts),
        );
        let total = (!is_bare).then(total);
        let distribution = Distribution::new(point.count, total, extremes, range);
        self.distribution(subject, view, &distribution);
    }

    fn distribution(
        &mut self,
        subject: &Subject<'_>,
        view: &PointView<'_>,
        distribution: &Distribution,
    ) {
        if let Some(found) = distribution.count_flaw() {
            self.find(Rule::HistogramCount, subject, Some(view), found);
        }
        if let Some(found) = distribution.extremes_flaw() {
            self.find(Rule::HistogramMinMax, subject, Some(view), found);
        }
        if let Some(found) = distribution.sum_flaw(measures_amounts(subject)) {
            self.find(Rule::HistogramSum, subject, Some(view), found);
        }
    }
}

fn measures_amounts(subject: &Subject<'_>) -> bool {
    subject
        .convention
        .is_some_and(|convention| convention.measures != Measures::Level)
}

/// Bounds of what is in the buckets.
fn range(side: &Buckets, scale: i32, zeros: u64) -> Option<(f64, f64)> {
    let counts = &side.bucket_counts;
    let first = counts.iter().position(|count| *count > 0)?;
    let last = counts.iter().rposition(|count| *count > 0)?;
    let index = |at: usize| i64::from(side.offset) + i64::try_from(at).unwrap_or(i64::MAX / 2);
    let lower = if zeros > 0 {
        0.0
    } else {
        bound(index(first), scale)
    };
    Some((lower, bound(index(last) + 1, scale)))
}

fn explicit_range(bounds: &[f64], counts: &[u64]) -> Option<(f64, f64)> {
    let first = counts.iter().position(|count| *count > 0)?;
    let last = counts.iter().rposition(|count| *count > 0)?;
    let lower = match first.checked_sub(1) {
        Some(below) => *bounds.get(below)?,
        None => f64::NEG_INFINITY,
    };
    Some((lower, bounds.get(last).copied().unwrap_or(f64::INFINITY)))
}

impl Distribution {
    fn new(
        count: u64,
        total: Option<u128>,
        [sum, min, max]: [Option<f64>; 3],
        range: Option<(f64, f64)>,
    ) -> Self {
        Self {
            count,
            total,
            sum,
            min,
            max,
            range,
        }
    }

    fn count_flaw(&self) -> Option<String> {
        let total = self.total?;
        (total != u128::from(self.count))
            .then(|| format!("a count of {} over buckets of {total}", self.count))
    }

    fn extremes_flaw(&self) -> Option<String> {
        let (min, max) = (self.min, self.max);
        if [min, max].iter().flatten().any(|value| !value.is_finite()) {
            return Some(format!("{min:?} and {max:?}"));
        }
        if let (Some(min), Some(max)) = (min, max)
            && min > max
        {
            return Some(format!("a min of {min} above a max of {max}"));
        }
        let (lower, upper) = self.range.filter(|_| self.count > 0)?;
        if let Some(min) = min
            && min < lower - lower.abs() * ROUNDING
        {
            return Some(format!("a min of {min} below the first bucket, {lower}"));
        }
        let max = max.filter(|max| *max > upper + upper.abs() * ROUNDING)?;
        Some(format!("a max of {max} above the last bucket, {upper}"))
    }

    fn sum_flaw(&self, is_amount: bool) -> Option<String> {
        let sum = self.sum?;
        if !sum.is_finite() || (is_amount && sum < 0.0) {
            return Some(sum.to_string());
        }
        if self.count == 0 {
            return (sum != 0.0).then(|| format!("{sum} without values"));
        }
        #[expect(clippy::cast_precision_loss, reason = "compared with a margin")]
        let count = self.count as f64;
        let margin = |value: f64| value.abs() * ROUNDING + f64::MIN_POSITIVE;
        if let Some(least) = self.min.map(|min| min * count)
            && sum < least - margin(least)
        {
            return Some(format!("{sum}, less than count times min, {least}"));
        }
        let most = self.max.map(|max| max * count)?;
        (sum > most + margin(most)).then(|| format!("{sum}, more than count times max, {most}"))
    }
}
