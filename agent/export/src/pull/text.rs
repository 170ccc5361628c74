//! The page as text: `OpenMetrics` 1.0 with exemplars, or Prometheus 0.0.4 without.
//! <https://prometheus.io/docs/specs/om/open_metrics_spec/>

use std::fmt::Write as _;

use kerntally_model::{Exemplar, PointValue};

use super::{
    buckets::{self, Bucket},
    family::{Family, Label, Series, Type, Value},
};

/// Writes one of the two texts. Writing to a string cannot fail.
#[derive(Clone, Copy, Debug)]
pub(super) struct Text {
    pub(super) open_metrics: bool,
}

impl Text {
    /// What stands above the series of a family.
    pub(super) fn head(self, family: &Family, into: &mut String) {
        let kind = match (family.kind, self.open_metrics) {
            (Type::Histogram, _) => "histogram",
            (Type::Info, true) => "info",
            (Type::Gauge, _) | (Type::Info, false) => "gauge",
        };
        let name = self.family_name(family);
        lines(into, format_args!("# TYPE {name} {kind}\n"));
        if let Some(unit) = family.unit.as_ref().filter(|_| self.open_metrics) {
            lines(into, format_args!("# UNIT {name} {unit}\n"));
        }
        lines(into, format_args!("# HELP {name} {}\n", family.help));
    }

    /// All lines of one series.
    pub(super) fn series(self, family: &Family, series: &Series<'_>, into: &mut String) {
        let labels = render(&series.labels);
        match &series.value {
            Value::Number(number) => {
                let name = match family.kind {
                    Type::Info => format!("{}_info", family.name),
                    Type::Gauge | Type::Histogram => family.name.clone(),
                };
                lines(into, format_args!("{name}{{{labels}}} {number}\n"));
            }
            Value::Histogram {
                point,
                shift,
                exemplars,
            } => {
                let (buckets, count, sum) = match &point.value {
                    PointValue::Exponential(histogram) => (
                        buckets::exponential(histogram, *shift),
                        histogram.count,
                        histogram.sum,
                    ),
                    PointValue::Explicit(histogram) => {
                        (buckets::explicit(histogram), histogram.count, histogram.sum)
                    }
                    PointValue::UpDown(_) | PointValue::NoRecordedValue => return,
                };
                let name = &family.name;
                self.buckets(name, &labels, &buckets, exemplars, into);
                lines(into, format_args!("{name}_count{{{labels}}} {count}\n"));
                lines(into, format_args!("{name}_sum{{{labels}}} {sum}\n"));
            }
        }
    }

    /// What ends the page.
    pub(super) fn end(self) -> &'static str {
        if self.open_metrics { "# EOF\n" } else { "" }
    }

    fn family_name(self, family: &Family) -> String {
        match family.kind {
            // The sample's name only: this text has no such type.
            Type::Info if !self.open_metrics => format!("{}_info", family.name),
            _ => family.name.clone(),
        }
    }

    fn buckets(
        self,
        name: &str,
        labels: &str,
        buckets: &[Bucket],
        exemplars: &[Exemplar],
        into: &mut String,
    ) {
        let mut above = f64::NEG_INFINITY;
        for (bound, count) in buckets {
            // Most of the page is these lines: copied, not formatted.
            for part in [
                name,
                "_bucket{",
                labels,
                ",le=\"",
                &bound_text(*bound),
                "\"} ",
            ] {
                into.push_str(part);
            }
            into.push_str(&count.to_string());
            if self.open_metrics {
                // One a bucket; they are in the order of time.
                let latest = exemplars
                    .iter()
                    .rfind(|exemplar| exemplar.value > above && exemplar.value <= *bound);
                if let Some(exemplar) = latest {
                    exemplar_text(exemplar, into);
                }
            }
            into.push('\n');
            above = *bound;
        }
    }
}

fn exemplar_text(exemplar: &Exemplar, into: &mut String) {
    into.push_str(" # {");
    let labels = render(&exemplar_labels(exemplar));
    let (seconds, millis) = (
        exemplar.time_unix_ns / 1_000_000_000,
        exemplar.time_unix_ns / 1_000_000 % 1000,
    );
    lines(
        into,
        format_args!("{labels}}} {} {seconds}.{millis:03}", exemplar.value),
    );
}

/// The trace, and the span where it is known.
pub(super) fn exemplar_labels(exemplar: &Exemplar) -> Vec<Label> {
    let trace = ("trace_id".to_owned(), hex(&exemplar.trace_id));
    let span = exemplar.span_id.map(|id| ("span_id".to_owned(), hex(&id)));
    [trace].into_iter().chain(span).collect()
}

fn hex(id: &[u8]) -> String {
    id.iter().fold(String::new(), |mut text, byte| {
        lines(&mut text, format_args!("{byte:02x}"));
        text
    })
}

fn render(labels: &[Label]) -> String {
    let mut text = String::new();
    for (name, value) in labels {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(name);
        text.push_str("=\"");
        for char in value.chars() {
            match char {
                '\\' => text.push_str("\\\\"),
                '"' => text.push_str("\\\""),
                '\n' => text.push_str("\\n"),
                other => text.push(other),
            }
        }
        text.push('"');
    }
    text
}

/// Whole numbers have a point too: bounds are compared as text.
fn bound_text(bound: f64) -> String {
    if bound.is_infinite() {
        return "+Inf".to_owned();
    }
    format!("{bound:?}")
}

fn lines(into: &mut String, text: std::fmt::Arguments<'_>) {
    // A string takes everything.
    if into.write_fmt(text).is_err() {
        debug_assert!(false, "a string refused text");
    }
}
