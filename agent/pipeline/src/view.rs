//! Views: what an operator wants to be emitted otherwise than the semantic conventions say.

use std::sync::Arc;

use kerntally_model::Instrument;
use wildmatch::WildMatch;

use crate::aggregate::{
    AttributeName, AttributeSet, INSTRUMENTS, STATUS_CLASS, Unit, instrument_name,
};

/// Bytes of a metric's name, as the specification of instruments bounds them.
const NAME_BYTES: usize = 255;

/// What a view makes of an instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewAggregation {
    /// Base-2 exponential buckets.
    Exponential,
    /// Given boundaries.
    Explicit,
    /// Nothing: exchanges are told in the ledger only.
    Drop,
}

/// A view as it is written.
#[derive(Clone, Debug, Default)]
pub struct ViewText<'a> {
    /// Glob of instruments; `None` is all.
    pub instrument: Option<&'a str>,
    /// Glob of `service.name`; `None` is all.
    pub service: Option<&'a str>,
    /// Name of the metric.
    pub name: Option<&'a str>,
    /// Its unit.
    pub unit: Option<&'a str>,
    /// Attributes left out.
    pub drop: Vec<&'a str>,
    /// Attributes with their new names.
    pub rename: Vec<(&'a str, &'a str)>,
    /// Kind of histogram.
    pub aggregation: Option<ViewAggregation>,
}

/// How some instruments of some services are emitted. Of the views that match, the first counts.
#[derive(Clone, Debug, PartialEq)]
pub struct View {
    instruments: Vec<Instrument>,
    service: Option<WildMatch>,
    pub(crate) name: Option<Arc<str>>,
    pub(crate) unit: Option<Unit>,
    pub(crate) drop: Vec<AttributeName>,
    pub(crate) rename: Renames,
    pub(crate) aggregation: Option<ViewAggregation>,
}

/// Names of attributes with what stands in their place.
pub(crate) type Renames = Arc<[(Arc<str>, Arc<str>)]>;

/// Why a view was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ViewError {
    /// It asks for nothing.
    #[error("view changes nothing, expected one of name, unit, attributes, aggregation")]
    Empty,
    /// Its glob matches no instrument.
    #[error("no instrument matches `{glob}`, expected some of {expected}")]
    NoInstrument {
        /// The glob.
        glob: String,
        /// What there is.
        expected: String,
    },
    /// A metric cannot have that name.
    #[error(
        "metric name `{0}` is malformed, expected a letter and then letters, digits, `_`, `.`, `-` and `/`, at most 255 bytes"
    )]
    Name(String),
    /// Several instruments would have one name.
    #[error(
        "metric name `{name}` would be emitted for {first} and for {second}, expected a name for one of them"
    )]
    SharedName {
        /// The name.
        name: String,
        /// One.
        first: &'static str,
        /// The other.
        second: &'static str,
    },
    /// Durations cannot be told in that unit.
    #[error("unknown unit `{0}`, expected s or ms, and none for what is not a duration")]
    Unit(String),
    /// None of its instruments has that attribute.
    #[error("no such attribute `{name}`, expected some of {expected}")]
    UnknownAttribute {
        /// Its name.
        name: String,
        /// What there is.
        expected: String,
        /// It stands in `rename`, not in `drop`.
        renamed: bool,
    },
    /// Two attributes would have one name.
    #[error(
        "attribute `{name}` cannot be renamed to `{to}`: another one has that name, or it is empty"
    )]
    Rename {
        /// The attribute.
        name: String,
        /// Its new name.
        to: String,
    },
    /// Only durations have histograms.
    #[error("{0} is not a histogram, expected drop or no aggregation")]
    NotAHistogram(&'static str),
}

impl ViewError {
    /// The key it is about, within the view.
    pub fn key(&self) -> &'static [&'static str] {
        match self {
            Self::Empty => &[],
            Self::NoInstrument { .. } => &["match", "instrument"],
            Self::Name(_) | Self::SharedName { .. } => &["name"],
            Self::Unit(_) => &["unit"],
            Self::UnknownAttribute { renamed: false, .. } => &["attributes", "drop"],
            Self::UnknownAttribute { renamed: true, .. } | Self::Rename { .. } => {
                &["attributes", "rename"]
            }
            Self::NotAHistogram(_) => &["aggregation"],
        }
    }
}

impl View {
    /// Checks a view by itself.
    pub fn parse(text: &ViewText<'_>) -> Result<Self, ViewError> {
        let changes_attributes = !text.drop.is_empty() || !text.rename.is_empty();
        let renames = text.name.is_some() || text.unit.is_some();
        if !renames && !changes_attributes && text.aggregation.is_none() {
            return Err(ViewError::Empty);
        }
        let instruments = instruments(text.instrument)?;
        let drop = text
            .drop
            .iter()
            .map(|name| attribute(name, &instruments, false))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            service: text.service.map(WildMatch::new),
            name: name(text.name)?,
            unit: unit(text.unit, &instruments)?,
            rename: renames_of(text, &instruments)?,
            aggregation: aggregation(text.aggregation, &instruments)?,
            drop,
            instruments,
        })
    }

    /// Checks that no two instruments of a service can have one name, whatever the service. Returns the position
    /// of the view at fault too.
    pub fn check_names(views: &[Self]) -> Result<(), (usize, ViewError)> {
        for (position, view) in views.iter().enumerate() {
            let Some(name) = &view.name else { continue };
            if view.aggregation == Some(ViewAggregation::Drop) {
                continue;
            }
            let own = view.instruments[0];
            let by_convention = INSTRUMENTS
                .into_iter()
                .filter(|instrument| instrument_name(*instrument) == &**name);
            let by_views = views[..=position]
                .iter()
                .filter(|other| other.name.as_ref() == Some(name))
                .flat_map(|other| other.instruments.iter().copied());
            let other = by_convention
                .chain(by_views)
                .find(|instrument| *instrument != own);
            if let Some(other) = other {
                let error = ViewError::SharedName {
                    name: (**name).to_owned(),
                    first: instrument_name(own),
                    second: instrument_name(other),
                };
                return Err((position, error));
            }
        }
        Ok(())
    }

    /// Whether it is about an instrument of a service.
    pub(crate) fn matches(&self, instrument: Instrument, service: &str) -> bool {
        self.instruments.contains(&instrument)
            && self
                .service
                .as_ref()
                .is_none_or(|glob| glob.matches(service))
    }
}

fn instruments(glob: Option<&str>) -> Result<Vec<Instrument>, ViewError> {
    let Some(glob) = glob else {
        return Ok(INSTRUMENTS.to_vec());
    };
    let pattern = WildMatch::new(glob);
    let found: Vec<Instrument> = INSTRUMENTS
        .into_iter()
        .filter(|instrument| pattern.matches(instrument_name(*instrument)))
        .collect();
    if found.is_empty() {
        return Err(ViewError::NoInstrument {
            glob: glob.to_owned(),
            expected: INSTRUMENTS.map(instrument_name).join(", "),
        });
    }
    Ok(found)
}

fn name(name: Option<&str>) -> Result<Option<Arc<str>>, ViewError> {
    let Some(name) = name else { return Ok(None) };
    let is_name = name.len() <= NAME_BYTES
        && name.starts_with(|char: char| char.is_ascii_alphabetic())
        && name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_.-/".contains(&byte));
    if is_name {
        Ok(Some(name.into()))
    } else {
        Err(ViewError::Name(name.to_owned()))
    }
}

fn unit(symbol: Option<&str>, instruments: &[Instrument]) -> Result<Option<Unit>, ViewError> {
    let Some(symbol) = symbol else {
        return Ok(None);
    };
    let unit = Unit::from_symbol(symbol);
    // A glob may well match more than durations.
    if unit.is_none() || instruments == [Instrument::HttpServerActiveRequests] {
        return Err(ViewError::Unit(symbol.to_owned()));
    }
    Ok(unit)
}

/// The class of a status stands in its code's place and goes with it.
fn attribute(
    text: &str,
    instruments: &[Instrument],
    renamed: bool,
) -> Result<AttributeName, ViewError> {
    let has = |name: AttributeName| {
        instruments
            .iter()
            .any(|instrument| AttributeSet::possible(*instrument).contains(name))
    };
    let wanted = if text == STATUS_CLASS {
        AttributeName::StatusCode.text()
    } else {
        text
    };
    let possible = || AttributeName::ALL.into_iter().filter(|name| has(*name));
    let found = possible().find(|name| name.text() == wanted);
    found.ok_or_else(|| ViewError::UnknownAttribute {
        name: text.to_owned(),
        expected: possible()
            .map(AttributeName::text)
            .collect::<Vec<_>>()
            .join(", "),
        renamed,
    })
}

fn renames_of(text: &ViewText<'_>, instruments: &[Instrument]) -> Result<Renames, ViewError> {
    for (from, to) in &text.rename {
        attribute(from, instruments, true)?;
        let stays = |name: &str| {
            !text.drop.contains(&name) && !text.rename.iter().any(|(from, _)| *from == name)
        };
        let taken_by_other = AttributeName::ALL
            .map(AttributeName::text)
            .into_iter()
            .chain([STATUS_CLASS])
            .any(|name| name == *to && stays(name));
        let twice = text.rename.iter().filter(|(_, other)| other == to).count() > 1;
        if to.is_empty() || taken_by_other || twice || *to == "otel.metric.overflow" {
            return Err(ViewError::Rename {
                name: (*from).to_owned(),
                to: (*to).to_owned(),
            });
        }
    }
    let pairs = text.rename.iter();
    Ok(pairs
        .map(|(from, to)| ((*from).into(), (*to).into()))
        .collect())
}

fn aggregation(
    wanted: Option<ViewAggregation>,
    instruments: &[Instrument],
) -> Result<Option<ViewAggregation>, ViewError> {
    let is_histogram = matches!(
        wanted,
        Some(ViewAggregation::Exponential | ViewAggregation::Explicit)
    );
    // A glob may well match more than what has histograms.
    if is_histogram && instruments == [Instrument::HttpServerActiveRequests] {
        return Err(ViewError::NotAHistogram(instrument_name(instruments[0])));
    }
    Ok(wanted)
}
