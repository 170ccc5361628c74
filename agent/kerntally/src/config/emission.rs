//! What stage 6 is told of the configuration: attributes, kinds of histograms, views, temporality.

use std::collections::BTreeMap;

use kerntally_model::Instrument;
use kerntally_pipeline::aggregate::{AttributeSet, instrument_name};
use kerntally_pipeline::config as pipeline;
use kerntally_pipeline::view::{View, ViewAggregation, ViewText};

use super::node::Step;
use super::schema::{
    Histogram, HistogramType, Temporality, View as ViewKeys, ViewAggregation as AggregationKey,
};
use super::stages::{StageError, key};

/// Allow-lists; what `lists` does not name is as in `general`.
pub(super) fn allow_lists(
    path: &[Step],
    lists: &BTreeMap<String, Vec<String>>,
    general: pipeline::AllowLists,
) -> Result<pipeline::AllowLists, StageError> {
    let listed = |instrument: Instrument| {
        let name = instrument_name(instrument);
        let Some(listed) = lists.get(name) else {
            return Ok(None);
        };
        let path = || path.iter().cloned().chain([key(name)]).collect();
        AttributeSet::parse(instrument, listed.iter().map(String::as_str))
            .map(Some)
            .map_err(|error| StageError::new(path(), &error))
    };
    Ok(pipeline::AllowLists {
        server: listed(Instrument::HttpServerRequestDuration)?.unwrap_or(general.server),
        client: listed(Instrument::HttpClientRequestDuration)?.unwrap_or(general.client),
        active: listed(Instrument::HttpServerActiveRequests)?.or(general.active),
    })
}

/// Kind of histograms. Boundaries have been checked.
pub(super) fn histogram(histogram: &Histogram) -> pipeline::HistogramKind {
    let default = pipeline::HistogramKind::default();
    pipeline::HistogramKind {
        is_explicit: histogram.r#type == HistogramType::Explicit,
        boundaries: match &histogram.boundaries {
            Some(boundaries) => boundaries.as_slice().into(),
            None => default.boundaries,
        },
    }
}

/// Views, each by itself and all together.
pub(super) fn views(views: &[ViewKeys]) -> Result<Vec<View>, StageError> {
    let at = |index: usize, keys: &[&str]| {
        let path = [key("views"), Step::Index(index)].into_iter();
        path.chain(keys.iter().map(|name| key(name))).collect()
    };
    let parsed = views.iter().enumerate().map(|(index, view)| {
        View::parse(&text(view)).map_err(|error| StageError::new(at(index, error.key()), &error))
    });
    let views: Vec<View> = parsed.collect::<Result<_, _>>()?;
    View::check_names(&views)
        .map_err(|(index, error)| StageError::new(at(index, error.key()), &error))?;
    Ok(views)
}

fn text(view: &ViewKeys) -> ViewText<'_> {
    let attributes = &view.attributes;
    let renames = attributes.rename.iter();
    ViewText {
        instrument: view.r#match.instrument.as_deref(),
        service: view.r#match.service.as_deref(),
        name: view.name.as_deref(),
        unit: view.unit.as_deref(),
        drop: attributes.drop.iter().map(String::as_str).collect(),
        rename: renames
            .map(|(from, to)| (from.as_str(), to.as_str()))
            .collect(),
        aggregation: view.aggregation.map(|aggregation| match aggregation {
            AggregationKey::Exponential => ViewAggregation::Exponential,
            AggregationKey::Explicit => ViewAggregation::Explicit,
            AggregationKey::Drop => ViewAggregation::Drop,
        }),
    }
}

/// What points cover.
pub(super) fn temporality(temporality: Temporality) -> pipeline::TemporalityPreference {
    match temporality {
        Temporality::Cumulative => pipeline::TemporalityPreference::Cumulative,
        Temporality::Delta => pipeline::TemporalityPreference::Delta,
        Temporality::LowMemory => pipeline::TemporalityPreference::LowMemory,
    }
}
