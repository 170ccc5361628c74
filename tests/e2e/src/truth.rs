//! What really happened, counted per group, and the comparison with what was exported.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::export::Series;

/// Which side of an exchange a process was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// It received the request.
    Server,
    /// It sent the request.
    Client,
}

/// What tells one exported series of a service from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Side.
    pub role: Role,
    /// Method, `_OTHER` if it is not a known one.
    pub method: String,
    /// Route template; on servers only. Not compared for CONNECT, whose target is no path.
    pub route: Option<String>,
    /// Status of the final response, if there was one.
    pub status: Option<u16>,
    /// What went wrong, in the contract's words.
    pub error_type: Option<String>,
    /// `1.0` or `1.1`.
    pub version: String,
}

impl Key {
    /// An exchange over HTTP/1.1 that was answered.
    pub fn answered(role: Role, method: &str, route: &str, status: u16) -> Self {
        let failed = match role {
            Role::Server => status >= 500,
            Role::Client => status >= 400,
        };
        Self {
            role,
            method: method.to_owned(),
            route: (role == Role::Server && method != "CONNECT").then(|| route.to_owned()),
            status: Some(status),
            error_type: failed.then(|| status.to_string()),
            version: "1.1".to_owned(),
        }
    }

    /// An exchange over HTTP/1.1 that got no final status.
    pub fn unanswered(role: Role, method: &str, route: &str, error_type: Option<&str>) -> Self {
        Self {
            role,
            method: method.to_owned(),
            route: (role == Role::Server).then(|| route.to_owned()),
            status: None,
            error_type: error_type.map(str::to_owned),
            version: "1.1".to_owned(),
        }
    }

    /// The same over HTTP/1.0.
    #[must_use]
    pub fn version_1_0(mut self) -> Self {
        "1.0".clone_into(&mut self.version);
        self
    }

    /// The same, but the response was cut short.
    #[must_use]
    pub fn truncated(mut self) -> Self {
        self.error_type = Some("truncated_response".to_owned());
        self
    }
}

/// Count and durations of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Group {
    /// Exchanges.
    pub count: u64,
    /// At least this much time, all together.
    pub sum_low_ns: u64,
    /// At most this much time, all together.
    pub sum_high_ns: u64,
    /// The shortest took at least this long.
    pub min_ns: u64,
    /// The longest took at most this long.
    pub max_ns: u64,
}

/// How far an exported duration may lie from the truth.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Share of the true value.
    pub relative: f64,
    /// On top, for each exchange.
    pub per_exchange: Duration,
    /// On top, once per group: scheduling of a busy machine, which hits single exchanges.
    pub once: Duration,
}

impl Tolerance {
    /// The promised bound: 1 % and 300 µs an exchange.
    pub const PROMISED: Self = Self {
        relative: 0.01,
        per_exchange: Duration::from_micros(300),
        once: Duration::ZERO,
    };
}

/// Exchanges of one service, grouped as they are exported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    groups: BTreeMap<Key, Group>,
}

impl Tally {
    /// Adds one exchange whose duration is known.
    pub fn add(&mut self, key: Key, took: Duration) {
        self.add_between(key, took, took);
    }

    /// Adds one exchange whose duration is known to lie between two bounds.
    pub fn add_between(&mut self, key: Key, low: Duration, high: Duration) {
        let (low, high) = (nanos(low), nanos(high));
        self.merge(
            key,
            Group {
                count: 1,
                sum_low_ns: low,
                sum_high_ns: high,
                min_ns: low,
                max_ns: high,
            },
        );
    }

    /// Adds a group counted elsewhere.
    pub fn merge(&mut self, key: Key, more: Group) {
        self.groups
            .entry(key)
            .and_modify(|group| {
                group.count += more.count;
                group.sum_low_ns += more.sum_low_ns;
                group.sum_high_ns += more.sum_high_ns;
                group.min_ns = group.min_ns.min(more.min_ns);
                group.max_ns = group.max_ns.max(more.max_ns);
            })
            .or_insert(more);
    }

    /// Adds all groups of another tally.
    pub fn absorb(&mut self, other: &Self) {
        for (key, group) in &other.groups {
            self.merge(key.clone(), *group);
        }
    }

    /// The groups in order.
    pub fn groups(&self) -> impl Iterator<Item = (&Key, &Group)> {
        self.groups.iter()
    }

    /// Whether nothing was counted.
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }

    /// Exchanges in all groups.
    pub fn total(&self) -> u64 {
        self.groups.values().map(|group| group.count).sum()
    }

    /// Exchanges of one side.
    pub fn of_role(&self, role: Role) -> u64 {
        self.groups
            .iter()
            .filter(|(key, _)| key.role == role)
            .map(|(_, group)| group.count)
            .sum()
    }

    /// Counts per (method, status, version): what both ends of an undisturbed conversation agree on.
    pub fn as_seen_by_both(&self) -> BTreeMap<(String, Option<u16>, String), u64> {
        let mut counts = BTreeMap::new();
        for (key, group) in &self.groups {
            *counts
                .entry((key.method.clone(), key.status, key.version.clone()))
                .or_insert(0) += group.count;
        }
        counts
    }

    /// Every difference between the truth and the exported series of the same service; counts must be equal.
    pub fn count_differences(&self, exported: &[Series]) -> Vec<String> {
        let mut counts: BTreeMap<Key, u64> = BTreeMap::new();
        for series in exported {
            *counts.entry(series.key()).or_insert(0) += series.count;
        }
        let mut differences = Vec::new();
        for (key, group) in &self.groups {
            let found = counts.remove(key).unwrap_or(0);
            if found != group.count {
                differences.push(format!(
                    "{}: {} sent, {found} exported",
                    show(key),
                    group.count
                ));
            }
        }
        for (key, found) in counts.into_iter().filter(|(_, found)| *found > 0) {
            differences.push(format!("{}: none sent, {found} exported", show(&key)));
        }
        differences
    }

    /// Every group whose exported sum, minimum, maximum or buckets lie outside the truth.
    pub fn duration_differences(&self, exported: &[Series], tolerance: Tolerance) -> Vec<String> {
        let mut differences = Vec::new();
        for (key, group) in &self.groups {
            let matching: Vec<_> = exported
                .iter()
                .filter(|series| series.key() == *key)
                .collect();
            if matching.iter().map(|series| series.count).sum::<u64>() != group.count {
                continue;
            }
            let sum: f64 = matching.iter().map(|series| series.sum).sum();
            let bounds = widened(group.sum_low_ns, group.sum_high_ns, group.count, tolerance);
            if !bounds.contains(&sum) {
                differences.push(format!("{}: sum {sum:.6} s outside {bounds:?}", show(key)));
            }
            let single = widened(group.min_ns, group.max_ns, 1, tolerance);
            for series in matching {
                differences.extend(
                    series
                        .outside(&single)
                        .map(|what| format!("{}: {what}", show(key))),
                );
            }
        }
        differences
    }
}

fn widened(
    low_ns: u64,
    high_ns: u64,
    count: u64,
    tolerance: Tolerance,
) -> std::ops::RangeInclusive<f64> {
    let slack = tolerance.per_exchange.as_secs_f64() * as_f64(count) + tolerance.once.as_secs_f64();
    let low = as_f64(low_ns) / 1e9 * (1.0 - tolerance.relative) - slack;
    let high = as_f64(high_ns) / 1e9 * (1.0 + tolerance.relative) + slack;
    low.max(0.0)..=high
}

fn show(key: &Key) -> String {
    let role = if key.role == Role::Server {
        "server"
    } else {
        "client"
    };
    let status = key
        .status
        .map_or_else(|| "no status".to_owned(), |status| status.to_string());
    let route = key.route.as_deref().unwrap_or("");
    let error = key.error_type.as_deref().unwrap_or("-");
    format!(
        "{role} {} {route} {status} error={error} v{}",
        key.method, key.version
    )
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[expect(
    clippy::cast_precision_loss,
    reason = "durations and counts of a test fit 53 bits"
)]
pub(crate) fn as_f64(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::export::Series;

    fn series(status: u16, count: u64, seconds: f64) -> Series {
        Series {
            role: Role::Server,
            method: "GET".to_owned(),
            route: Some("/a".to_owned()),
            status: Some(status),
            version: "1.1".to_owned(),
            count,
            sum: seconds,
            min: Some(seconds),
            max: Some(seconds),
            ..Series::default()
        }
    }

    #[test]
    fn names_a_count_that_differs_and_a_series_nobody_sent() {
        let mut truth = Tally::default();
        truth.add(
            Key::answered(Role::Server, "GET", "/a", 200),
            Duration::from_millis(5),
        );
        assert!(truth.count_differences(&[series(200, 1, 0.005)]).is_empty());
        assert_eq!(truth.count_differences(&[series(200, 2, 0.005)]).len(), 1);
        assert_eq!(
            truth
                .count_differences(&[series(200, 1, 0.005), series(204, 1, 0.1)])
                .len(),
            1
        );
        assert_eq!(truth.count_differences(&[]).len(), 1);
    }

    #[test]
    fn names_a_sum_outside_the_tolerance() {
        let mut truth = Tally::default();
        truth.add(
            Key::answered(Role::Server, "GET", "/a", 200),
            Duration::from_millis(100),
        );
        let differences =
            |seconds| truth.duration_differences(&[series(200, 1, seconds)], Tolerance::PROMISED);
        assert!(differences(0.1012).is_empty());
        assert!(!differences(0.1015).is_empty());
        assert!(!differences(0.0985).is_empty());
    }
}
