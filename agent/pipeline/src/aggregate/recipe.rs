//! How one instrument of one service is recorded: resolved once per service, from the configuration and its views.

use std::sync::Arc;

use kerntally_model::{Instrument, MetricName, Temporality};

use super::attributes::{AttributeSet, INSTRUMENTS, instrument_name, place};
use super::unit::{Part, Unit, boundaries_in};
use super::value::Value;
use crate::attribute::OTHER_SERVICE;
use crate::config::{Config, HistogramKind, ServiceRule, StatusMode, TemporalityPreference};
use crate::exemplar::Candidate;
use crate::view::{Renames, View, ViewAggregation};

/// Recipes of a service, by the place of the instrument; `None` where it emits none.
pub(crate) type Recipes = [Option<Arc<Recipe>>; INSTRUMENTS.len()];

/// How one instrument of one service is recorded.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Recipe {
    pub(crate) instrument: Instrument,
    pub(crate) listed: AttributeSet,
    pub(crate) status: StatusMode,
    pub(crate) temporality: Temporality,
    pub(crate) unit: Unit,
    pub(crate) name: Option<MetricName>,
    /// Names of the semantic conventions with what stands in their place.
    pub(crate) renames: Renames,
    /// Each process of the service has series of its own.
    pub(crate) per_process: bool,
    aggregation: Aggregation,
}

#[derive(Clone, Debug, PartialEq)]
enum Aggregation {
    Exponential,
    /// Boundaries in the recipe's unit.
    Explicit(Arc<[f64]>),
    UpDown,
}

/// What is recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measured<'a> {
    /// One exchange.
    Exchange {
        duration_ns: u64,
        /// What it may leave behind as an exemplar, and how many of these the series keeps.
        exemplar: Option<(Candidate, usize)>,
    },
    /// Durations that were counted elsewhere.
    Part(&'a Part<'a>),
    /// So many more are open.
    Open(i64),
}

impl Measured<'_> {
    /// Exchanges that it stands for.
    pub(crate) fn exchanges(&self) -> u64 {
        match self {
            Self::Exchange { .. } => 1,
            Self::Part(part) => part.total(),
            Self::Open(_) => 0,
        }
    }
}

/// Recipes of a service by its rule and its name.
pub(crate) fn recipes(config: &Config, rule: Option<&ServiceRule>, service: &str) -> Recipes {
    let mut recipes = Recipes::default();
    for instrument in INSTRUMENTS {
        recipes[place(instrument)] = resolve(config, rule, service, instrument).map(Arc::new);
    }
    recipes
}

fn resolve(
    config: &Config,
    rule: Option<&ServiceRule>,
    service: &str,
    instrument: Instrument,
) -> Option<Recipe> {
    let lists = rule.and_then(|rule| rule.allow.as_ref());
    let mut listed = lists.unwrap_or(&config.attributes).of(instrument)?;
    let kind = rule.and_then(|rule| rule.histogram.as_ref());
    let kind = kind.unwrap_or(&config.histogram);
    let view = config
        .views
        .iter()
        .find(|view| view.matches(instrument, service));
    let aggregation = view.and_then(|view| view.aggregation);
    if aggregation == Some(ViewAggregation::Drop) {
        return None;
    }
    let dropped = view.into_iter().flat_map(|view| &view.drop);
    for name in dropped {
        listed = listed.without(*name);
    }
    let unit = view.and_then(|view| view.unit).unwrap_or_default();
    Some(Recipe {
        instrument,
        listed,
        status: rule.and_then(|rule| rule.status).unwrap_or(config.status),
        temporality: temporality(instrument, config.temporality),
        unit,
        name: view.and_then(|view| metric_name(view, instrument, unit)),
        renames: view
            .map(|view| Arc::clone(&view.rename))
            .unwrap_or_default(),
        // The stand-in is for what is not known: no process is told there.
        per_process: config.per_process && service != OTHER_SERVICE,
        aggregation: kind_of(instrument, aggregation, kind, unit),
    })
}

/// What goes up and down is cumulative whatever is preferred: its differences are of no use to anyone.
fn temporality(instrument: Instrument, preference: TemporalityPreference) -> Temporality {
    match (instrument, preference) {
        (Instrument::HttpServerActiveRequests, _) | (_, TemporalityPreference::Cumulative) => {
            Temporality::Cumulative
        }
        (_, TemporalityPreference::Delta | TemporalityPreference::LowMemory) => Temporality::Delta,
    }
}

fn metric_name(view: &View, instrument: Instrument, unit: Unit) -> Option<MetricName> {
    let is_duration = instrument != Instrument::HttpServerActiveRequests;
    if view.name.is_none() && !(is_duration && view.unit.is_some()) {
        return None;
    }
    let name = view.name.clone();
    Some(MetricName {
        name: name.unwrap_or_else(|| instrument_name(instrument).into()),
        unit: if is_duration {
            unit.symbol().into()
        } else {
            "{request}".into()
        },
    })
}

fn kind_of(
    instrument: Instrument,
    by_view: Option<ViewAggregation>,
    kind: &HistogramKind,
    unit: Unit,
) -> Aggregation {
    if instrument == Instrument::HttpServerActiveRequests {
        return Aggregation::UpDown;
    }
    let is_explicit = match by_view {
        Some(aggregation) => aggregation == ViewAggregation::Explicit,
        None => kind.is_explicit,
    };
    if is_explicit {
        Aggregation::Explicit(boundaries_in(&kind.boundaries, unit))
    } else {
        Aggregation::Exponential
    }
}

impl Recipe {
    /// Name of the metric.
    pub(super) fn metric_name(&self) -> &str {
        match &self.name {
            Some(name) => &name.name,
            None => instrument_name(self.instrument),
        }
    }

    /// Nothing recorded yet.
    pub(super) fn empty(&self) -> Value {
        match &self.aggregation {
            Aggregation::Exponential => Value::exponential(),
            Aggregation::Explicit(boundaries) => Value::explicit(boundaries),
            Aggregation::UpDown => Value::UpDown(0),
        }
    }
}
