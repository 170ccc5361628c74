//! The collection put in order by metric: every form of the page wants all series of one name together.

use std::collections::BTreeMap;

use kerntally_model::{InstrumentSnapshot, Point, PointValue};

use super::{Exposed, SeriesId, buckets, name};
use crate::semconv::{self, resource as names};

/// Series that are put together at one time.
pub(super) const BATCH: usize = 64;

/// Name and value.
pub(super) type Label = (String, String);

/// What a metric is to Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Type {
    Gauge,
    Histogram,
    Info,
}

/// All series of one name.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) name: String,
    pub(super) help: &'static str,
    pub(super) unit: Option<String>,
    pub(super) kind: Type,
    /// Where its points are: workload and instrument.
    pub(super) places: Vec<(usize, usize)>,
}

/// One series to be written.
pub(super) struct Series<'a> {
    pub(super) labels: Vec<Label>,
    pub(super) value: Value<'a>,
}

/// What a series says.
pub(super) enum Value<'a> {
    /// An information, or a level.
    Number(i64),
    /// A distribution; how its unit compares to seconds, and its exemplars.
    Histogram {
        point: &'a Point,
        shift: i32,
        exemplars: &'a [kerntally_model::Exemplar],
    },
}

/// The families of a collection, by name; what names the workloads comes first.
pub(super) fn families(exposed: &Exposed) -> Vec<Family> {
    let mut families = BTreeMap::new();
    for (workload, snapshot) in exposed.workloads().iter().enumerate() {
        for (instrument, metric) in snapshot.instruments.iter().enumerate() {
            let Some(kind) = type_of(metric) else {
                continue;
            };
            let family = describe(metric, kind);
            let family: &mut Family = families.entry(family.name.clone()).or_insert(family);
            // A view may give one name to things that are not alike: the first stays.
            if family.kind == kind {
                family.places.push((workload, instrument));
            }
        }
    }
    let workloads = 0..exposed.workloads().len();
    let target = Family {
        name: "target".to_owned(),
        help: "Target metadata",
        unit: None,
        kind: Type::Info,
        places: workloads.map(|workload| (workload, 0)).collect(),
    };
    [target].into_iter().chain(families.into_values()).collect()
}

/// The series of a family in one place, from one point on and no more than a batch; `None` past the last.
pub(super) fn series(
    exposed: &Exposed,
    kind: Type,
    (workload, instrument): (usize, usize),
    from: usize,
) -> Option<Vec<Series<'_>>> {
    let workload = exposed.workloads().get(workload)?;
    let points: &[Point] = match kind {
        Type::Info if from > 0 => return None,
        Type::Info => &[],
        Type::Gauge | Type::Histogram => {
            let points = workload.instruments.get(instrument)?.points.get(from..)?;
            points
                .get(..points.len().min(BATCH))
                .filter(|batch| !batch.is_empty())?
        }
    };
    let mut resource = exposed
        .resources
        .attributes(&workload.workload, workload.process);
    let identity = identity(&mut resource);
    if kind == Type::Info {
        let labels = resource
            .into_iter()
            .map(|(key, value)| (name::label(&key), value));
        return Some(vec![Series {
            labels: joined(identity, labels),
            value: Value::Number(1),
        }]);
    }
    let metric = workload.instruments.get(instrument)?;
    let shift = buckets::shift(unit_of(metric));
    let shown = points.iter().filter_map(|point| {
        let value = match &point.value {
            PointValue::NoRecordedValue => return None,
            PointValue::UpDown(level) => Value::Number(*level),
            PointValue::Exponential(_) | PointValue::Explicit(_) => Value::Histogram {
                point,
                shift,
                exemplars: exposed.exemplars(SeriesId::new(workload, metric.instrument, point)),
            },
        };
        let labels = point
            .attributes
            .iter()
            .map(|(key, value)| (name::label(key), name::value(value)));
        Some(Series {
            labels: joined(identity.clone(), labels),
            value,
        })
    });
    Some(shown.collect())
}

fn describe(metric: &InstrumentSnapshot, kind: Type) -> Family {
    let convention = semconv::metric::declaration(metric.instrument);
    let plain = match &metric.renamed {
        Some(renamed) => renamed.name.as_ref(),
        None => convention.name,
    };
    let unit = name::unit(unit_of(metric));
    Family {
        name: name::metric(plain, unit.as_deref()),
        help: convention.description,
        unit,
        kind,
        places: Vec::new(),
    }
}

fn unit_of(metric: &InstrumentSnapshot) -> &str {
    match &metric.renamed {
        Some(renamed) => renamed.unit.as_ref(),
        None => semconv::metric::declaration(metric.instrument).unit,
    }
}

/// `None` for a metric of which only ends are left.
fn type_of(metric: &InstrumentSnapshot) -> Option<Type> {
    metric.points.iter().find_map(|point| match point.value {
        PointValue::Exponential(_) | PointValue::Explicit(_) => Some(Type::Histogram),
        PointValue::UpDown(_) => Some(Type::Gauge),
        PointValue::NoRecordedValue => None,
    })
}

/// `job` and `instance`, taken out of the resource's attributes.
fn identity(resource: &mut BTreeMap<String, String>) -> Vec<Label> {
    let name = resource.remove(names::SERVICE_NAME).unwrap_or_default();
    let job = match resource.remove(names::SERVICE_NAMESPACE) {
        Some(namespace) if !namespace.is_empty() => format!("{namespace}/{name}"),
        _ => name,
    };
    let instance = resource.remove(names::SERVICE_INSTANCE_ID);
    let job = ("job".to_owned(), job);
    let instance = instance.map(|instance| ("instance".to_owned(), instance));
    [job].into_iter().chain(instance).collect()
}

/// Labels that became alike by being cleaned are one, their values joined. The identity is not for them to say.
fn joined(identity: Vec<Label>, labels: impl Iterator<Item = Label>) -> Vec<Label> {
    let mut all = identity;
    let fixed = all.len();
    for (name, value) in labels.filter(|(_, value)| !value.is_empty()) {
        match all.iter_mut().position(|(known, _)| *known == name) {
            None => all.push((name, value)),
            Some(place) if place >= fixed => {
                all[place].1.push(';');
                all[place].1.push_str(&value);
            }
            Some(_) => all.push((format!("exported_{name}"), value)),
        }
    }
    all
}
