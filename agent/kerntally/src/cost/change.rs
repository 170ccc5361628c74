//! What-ifs: what would be sent if an attribute came or went, or the interval changed.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::{ATTRIBUTE_BYTES, Bill, Load, Pushes, Series, Terms, hash_of};
use crate::config::Span;

/// One what-if.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// An attribute with so many values on every series of watched services.
    Attribute { key: String, values: u64 },
    /// An attribute that is not listed any more.
    Drop { key: String },
    /// Another time between pushes.
    Interval(Span),
}

impl Change {
    /// Parses `attr=KEY:VALUES`, `drop=KEY` or `interval=TIME`.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let expected = "expected attr=KEY:VALUES, drop=KEY or interval=TIME";
        let (kind, rest) = text.split_once('=').ok_or(expected)?;
        match kind {
            "attr" => {
                let (key, values) = rest.rsplit_once(':').ok_or(expected)?;
                let values: u64 = values
                    .parse()
                    .map_err(|_error| "expected a number of values behind the colon")?;
                if key.is_empty() || !(1..=1_000_000).contains(&values) {
                    return Err("expected a key and 1 to 1000000 values".to_owned());
                }
                Ok(Self::Attribute {
                    key: key.to_owned(),
                    values,
                })
            }
            "drop" if !rest.is_empty() => Ok(Self::Drop {
                key: rest.to_owned(),
            }),
            "interval" => {
                let span = Span::parse(rest).filter(|span| !span.0.is_zero());
                let span = span.ok_or("expected a time such as interval=30s")?;
                Ok(Self::Interval(span))
            }
            _ => Err(expected.to_owned()),
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attribute { key, values } => write!(formatter, "attr={key}:{values}"),
            Self::Drop { key } => write!(formatter, "drop={key}"),
            Self::Interval(span) => write!(formatter, "interval={span}"),
        }
    }
}

/// Series of one instrument of one service.
#[derive(Default)]
struct Group<'a> {
    series: Vec<&'a Series>,
}

impl Pushes {
    /// What would be sent after a change, every value of a new attribute meeting every series: the most it
    /// can come to. `limit` is what a service may have.
    pub(crate) fn after(
        &self,
        change: &Change,
        interval_seconds: f64,
        terms: &Terms,
        limit: Option<u64>,
    ) -> Bill {
        let now = self.bill(interval_seconds, terms);
        match change {
            Change::Interval(span) => Bill::of(now.node, span.0.as_secs_f64(), terms, Vec::new()),
            Change::Attribute { key, values } => {
                self.with(key, *values, &now, interval_seconds, terms, limit)
            }
            Change::Drop { key } => self.with(key, 1, &now, interval_seconds, terms, limit),
        }
    }

    /// Each set of attributes without `key`, `values` times.
    fn with(
        &self,
        key: &str,
        values: u64,
        now: &Bill,
        interval_seconds: f64,
        terms: &Terms,
        limit: Option<u64>,
    ) -> Bill {
        let mut groups: HashMap<usize, Group<'_>> = HashMap::new();
        for series in self.live(interval_seconds) {
            groups.entry(series.stream).or_default().series.push(series);
        }
        let mut node = Load::default();
        let mut of_service: BTreeMap<&str, u64> = BTreeMap::new();
        let mut sets_of_service: HashMap<&str, Load> = HashMap::new();
        for (stream, group) in &groups {
            let stream = &self.streams[*stream];
            let (counted, fixed) = group.changed(key, values, stream.is_self_telemetry());
            node.add(&fixed);
            *of_service.entry(&stream.service).or_default() += counted.points;
            sets_of_service
                .entry(&stream.service)
                .or_default()
                .add(&counted);
        }
        let mut capped = Vec::new();
        for (service, points) in of_service {
            let mut load = sets_of_service[service];
            if let Some(limit) = limit.filter(|limit| points > *limit) {
                load.scale(limit, points);
                capped.push(service.to_owned());
            }
            node.add(&load);
        }
        node.grow(now, key, values);
        Bill::of(node, interval_seconds, terms, capped)
    }
}

impl Group<'_> {
    /// What the group would hold: what counts against the service's limit, and what does not.
    fn changed(&self, key: &str, values: u64, is_self: bool) -> (Load, Load) {
        let (mut counted, mut fixed) = (Load::default(), Load::default());
        let mut sets = HashSet::new();
        for series in &self.series {
            if is_self || series.is_overflow {
                fixed.add_series(series, 1);
                continue;
            }
            let rest: Vec<_> = series
                .attributes
                .iter()
                .filter(|(name, _)| name != key)
                .collect();
            if sets.insert(hash_of(&rest)) {
                counted.add_series(series, values);
            }
        }
        (counted, fixed)
    }
}

impl Load {
    fn add_series(&mut self, series: &Series, times: u64) {
        self.points = self.points.saturating_add(times);
        self.series = self
            .series
            .saturating_add(series.weight.saturating_mul(times));
        self.custom_metrics = self
            .custom_metrics
            .saturating_add(series.custom_metrics.saturating_mul(times));
    }

    fn add(&mut self, other: &Self) {
        self.points = self.points.saturating_add(other.points);
        self.series = self.series.saturating_add(other.series);
        self.custom_metrics = self.custom_metrics.saturating_add(other.custom_metrics);
    }

    /// Cuts to `part` of `whole`.
    fn scale(&mut self, part: u64, whole: u64) {
        for value in [&mut self.points, &mut self.series, &mut self.custom_metrics] {
            let scaled = u128::from(*value) * u128::from(part) / u128::from(whole.max(1));
            *value = u64::try_from(scaled).unwrap_or(u64::MAX);
        }
    }

    /// Bytes grow with the points, and each point by the attribute. Dropping one frees about as much.
    #[expect(clippy::cast_precision_loss, reason = "an estimate")]
    fn grow(&mut self, now: &Bill, key: &str, values: u64) {
        let points = self.points as f64;
        let times = points / (now.node.points.max(1) as f64);
        let attribute = if values > 1 {
            points * (key.len() as f64 + ATTRIBUTE_BYTES)
        } else {
            0.0
        };
        let plain = now.node.bytes_per_push.max(1.0);
        let ratio = now.node.compressed_bytes_per_push / plain;
        self.bytes_per_push = now.node.bytes_per_push * times + attribute;
        self.compressed_bytes_per_push = self.bytes_per_push * ratio;
    }
}
