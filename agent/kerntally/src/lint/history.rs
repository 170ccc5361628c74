//! What earlier pushes said, within bounds, to judge later ones by.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::hash::{Hash, Hasher};

use kerntally_export::otlp::{AggregationTemporality, Exemplar, KeyValue, any_value};

use super::convention::Measures;
use super::points::{PointData, PointView};
use super::{Lint, Rule, Subject};

/// Series that are remembered; what later ones do over time is not judged.
const SERIES: usize = 500_000;

/// Attributes of instruments whose values are counted.
const ATTRIBUTES: usize = 100_000;

/// Memory of a run.
#[derive(Debug)]
pub(super) struct History {
    max_distinct: usize,
    /// Hashes of values by service, instrument and key; one more than allowed at most.
    distinct: HashMap<u64, HashSet<u64>>,
    series: HashMap<u64, Series>,
    in_push: HashSet<u64>,
    instruments: HashMap<u64, (&'static str, i32)>,
    /// Whether durations of a service had exemplars.
    durations: BTreeMap<(String, String), bool>,
}

#[derive(Debug)]
struct Series {
    start: u64,
    time: u64,
    count: f64,
    exemplars: Vec<u64>,
}

/// A hash that is the same within a run.
pub(super) fn hash_of(value: &(impl Hash + ?Sized)) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn hash_of_value(attribute: &KeyValue) -> u64 {
    use any_value::Value as Any;
    match attribute
        .value
        .as_ref()
        .and_then(|value| value.value.as_ref())
    {
        None => 0,
        Some(Any::StringValue(text)) => hash_of(text),
        Some(Any::IntValue(number)) => hash_of(number),
        Some(Any::BoolValue(truth)) => hash_of(truth),
        Some(Any::DoubleValue(number)) => hash_of(&number.to_bits()),
        Some(other) => hash_of(&format!("{other:?}")),
    }
}

fn hash_of_attributes(attributes: &[KeyValue]) -> u64 {
    let mut hashes: Vec<_> = attributes
        .iter()
        .map(|attribute| (attribute.key.as_str(), hash_of_value(attribute)))
        .collect();
    hashes.sort_unstable();
    hash_of(&hashes)
}

fn hash_of_exemplar(exemplar: &Exemplar) -> u64 {
    let value = super::exemplars::value(exemplar).map(f64::to_bits);
    hash_of(&(exemplar.time_unix_nano, value, &exemplar.trace_id))
}

impl History {
    pub(super) fn new(max_distinct: usize) -> Self {
        Self {
            max_distinct,
            distinct: HashMap::new(),
            series: HashMap::new(),
            in_push: HashSet::new(),
            instruments: HashMap::new(),
            durations: BTreeMap::new(),
        }
    }

    pub(super) fn end_push(&mut self) {
        self.in_push.clear();
    }

    /// Kind that the instrument had before, and whether its temporality was another.
    pub(super) fn instrument(
        &mut self,
        subject: &Subject<'_>,
        kind: &'static str,
    ) -> (Option<&'static str>, bool) {
        let temporality = super::points::temporality(subject.metric);
        let key = hash_of(&(subject.service, &subject.metric.name));
        if self.instruments.len() >= ATTRIBUTES && !self.instruments.contains_key(&key) {
            return (None, false);
        }
        let (kind_before, temporality_before) =
            *self.instruments.entry(key).or_insert((kind, temporality));
        let is_mixed = kind_before != kind;
        (
            is_mixed.then_some(kind_before),
            !is_mixed && temporality_before != temporality,
        )
    }

    /// Durations that had values and never an exemplar.
    pub(super) fn without_exemplars(&self) -> Vec<(String, String)> {
        self.durations
            .iter()
            .filter(|(_, had)| !**had)
            .map(|(place, _)| place.clone())
            .collect()
    }

    /// Whether the values of an attribute became too many with this one.
    fn is_one_too_many(&mut self, subject: &Subject<'_>, attribute: &KeyValue) -> bool {
        let key = hash_of(&(subject.service, &subject.metric.name, &attribute.key));
        if self.distinct.len() >= ATTRIBUTES && !self.distinct.contains_key(&key) {
            return false;
        }
        let values = self.distinct.entry(key).or_default();
        values.len() <= self.max_distinct
            && values.insert(hash_of_value(attribute))
            && values.len() > self.max_distinct
    }

    fn note_exemplars(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        let is_duration = subject
            .convention
            .is_some_and(|convention| convention.measures == Measures::Durations);
        if !is_duration || point.is_ended() || point.count() == Some(0.0) {
            return;
        }
        let key = (subject.service.to_owned(), subject.metric.name.clone());
        if self.durations.len() < ATTRIBUTES || self.durations.contains_key(&key) {
            *self.durations.entry(key).or_default() |= !point.exemplars.is_empty();
        }
    }
}

impl Lint {
    pub(super) fn against_history(&mut self, subject: &Subject<'_>, point: &PointView<'_>) {
        self.history.note_exemplars(subject, point);
        if !subject.is_self_telemetry() {
            for attribute in point.attributes {
                if self.history.is_one_too_many(subject, attribute) {
                    let found = format!("more than {}", self.options.max_distinct);
                    let rule = Rule::CardinalityDistinct;
                    self.find_at(rule, subject, Some(&attribute.key), None, found);
                }
            }
        }
        let series = hash_of(&(
            subject.identity,
            &subject.metric.name,
            hash_of_attributes(point.attributes),
        ));
        if !self.history.in_push.insert(series) {
            self.find(Rule::SeriesDuplicate, subject, Some(point), "a second time");
            return;
        }
        self.over_time(subject, point, series);
    }

    /// Compares a point with the one before of its series.
    fn over_time(&mut self, subject: &Subject<'_>, point: &PointView<'_>, series: u64) {
        if matches!(
            point.data,
            PointData::Number { is_sum: false, .. } | PointData::Summary
        ) {
            return;
        }
        let exemplars: Vec<u64> = point.exemplars.iter().map(hash_of_exemplar).collect();
        let now = Series {
            start: point.start,
            time: point.time,
            count: point.count().unwrap_or_default(),
            exemplars,
        };
        if let Some(before) = self.history.series.get(&series) {
            let broken = broken(before, &now, point, subject);
            for (rule, found) in broken {
                self.find(rule, subject, Some(point), found);
            }
        } else if self.history.series.len() >= SERIES {
            return;
        }
        self.history.series.insert(series, now);
    }
}

fn broken(
    before: &Series,
    now: &Series,
    point: &PointView<'_>,
    subject: &Subject<'_>,
) -> Vec<(Rule, String)> {
    // The same point again is what at-least-once delivery looks like.
    if now.time == before.time && now.start == before.start {
        return Vec::new();
    }
    let mut broken = Vec::new();
    if now.time < before.time {
        let found = format!("{} after {}", now.time, before.time);
        return vec![(Rule::SeriesOrder, found)];
    }
    let overlaps = now.start < before.time && now.start != 0;
    let is_delta = subject.temporality == Some(AggregationTemporality::Delta);
    if overlaps && (is_delta || now.start != before.start) {
        let found = format!("a start of {} before {}", now.start, before.time);
        broken.push((Rule::SeriesOverlap, found));
    }
    let only_grows = !matches!(point.data, PointData::Number { .. })
        || super::points::kind(subject.metric) == "monotonic sum";
    if !is_delta
        && only_grows
        && now.start == before.start
        && !point.is_ended()
        && now.count < before.count
    {
        let found = format!("{} after {}", now.count, before.count);
        broken.push((Rule::SeriesDecrease, found));
    }
    if now
        .exemplars
        .iter()
        .any(|exemplar| before.exemplars.contains(exemplar))
    {
        broken.push((Rule::ExemplarRepeated, "one of the push before".to_owned()));
    }
    broken
}
