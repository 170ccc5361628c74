//! Which attributes made the series of a service as many as they are.

use hashbrown::HashMap;
use kerntally_model::AttributeValue;

use super::table::SeriesTable;

/// An attribute's part in the series of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttributeUse {
    /// Its name.
    pub name: String,
    /// Values that it has in live series.
    pub distinct: usize,
    /// The value that the most of them have.
    pub top_value: AttributeValue,
    /// How many have it.
    pub top_series: usize,
}

type Counts<'a> = HashMap<&'a str, HashMap<&'a AttributeValue, usize>>;

impl SeriesTable {
    /// Attributes of each workload's series, the one with the most values first.
    pub(crate) fn attribute_uses(&self) -> HashMap<u32, Vec<AttributeUse>> {
        let mut by_workload: HashMap<u32, Counts<'_>> = HashMap::new();
        for series in self.slots.iter().flatten() {
            let stream = &self.streams[series.key.stream as usize];
            let Some(stream) = stream else { continue };
            if series.key.is_overflow() {
                continue;
            }
            let counts = by_workload.entry(stream.workload).or_default();
            for (name, value) in series.attributes.iter() {
                *counts.entry(name).or_default().entry(value).or_default() += 1;
            }
        }
        by_workload
            .into_iter()
            .map(|(workload, counts)| (workload, uses(counts)))
            .collect()
    }

    /// Exchanges of each workload that went to overflow series, by the name of the metric.
    pub(crate) fn overflows(&self, workload: u32) -> Vec<(String, u64)> {
        let streams = self.streams.iter().flatten();
        let mut overflows: Vec<(String, u64)> = streams
            .filter(|stream| stream.workload == workload && stream.overflowed > 0)
            .map(|stream| (stream.recipe.metric_name().to_owned(), stream.overflowed))
            .collect();
        overflows.sort();
        overflows
    }
}

fn uses(counts: Counts<'_>) -> Vec<AttributeUse> {
    let mut uses: Vec<AttributeUse> = counts
        .into_iter()
        .filter_map(|(name, values)| {
            let distinct = values.len();
            let (value, series) = values
                .into_iter()
                .max_by(|a, b| a.1.cmp(&b.1).then_with(|| text(b.0).cmp(&text(a.0))))?;
            Some(AttributeUse {
                name: name.to_owned(),
                distinct,
                top_value: value.clone(),
                top_series: series,
            })
        })
        .collect();
    uses.sort_by(|a, b| {
        b.distinct
            .cmp(&a.distinct)
            .then_with(|| a.name.cmp(&b.name))
    });
    uses
}

/// For an order that does not depend on chance.
fn text(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => (**text).to_owned(),
        AttributeValue::Integer(number) => number.to_string(),
        AttributeValue::Boolean(boolean) => boolean.to_string(),
    }
}
