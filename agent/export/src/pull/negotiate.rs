//! Which form of the page a scraper prefers of those there are.
//! <https://prometheus.io/docs/instrumenting/content_negotiation/>

/// A form of the page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    /// Delimited messages with native histograms.
    Protobuf,
    /// `OpenMetrics` text 1.0.
    OpenMetrics,
    /// Prometheus text 0.0.4.
    Text,
}

impl Format {
    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Protobuf => {
                "application/vnd.google.protobuf; proto=io.prometheus.client.MetricFamily; encoding=delimited"
            }
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
            Self::Text => "text/plain; version=0.0.4; charset=utf-8",
        }
    }

    /// The form with the highest weight in an `Accept` header; of equals, the one that tells most. Whoever asks
    /// for none of them gets plain text.
    pub(super) fn accepted(accept: &str) -> Self {
        let mut best: Option<(f32, Self)> = None;
        for range in accept.split(',') {
            let Some((weight, format)) = range_of(range) else {
                continue;
            };
            if best.is_none_or(|(heaviest, before)| {
                weight > heaviest || (weight >= heaviest && format.tells() > before.tells())
            }) {
                best = Some((weight, format));
            }
        }
        best.map_or(Self::Text, |(_, format)| format)
    }

    fn tells(self) -> u8 {
        match self {
            Self::Protobuf => 2,
            Self::OpenMetrics => 1,
            Self::Text => 0,
        }
    }
}

/// Weight and form of one media range, if it is one of ours and not refused.
fn range_of(range: &str) -> Option<(f32, Format)> {
    let mut parts = range.split(';').map(str::trim);
    let media = parts.next()?.to_ascii_lowercase();
    let (mut weight, mut is_family, mut is_delimited) = (1.0, false, false);
    for (name, value) in parts.filter_map(|part| part.split_once('=')) {
        let value = value.trim().trim_matches('"');
        match name.trim().to_ascii_lowercase().as_str() {
            "q" => weight = value.parse().unwrap_or(0.0),
            "proto" => is_family = value == "io.prometheus.client.MetricFamily",
            "encoding" => is_delimited = value == "delimited",
            _ => {}
        }
    }
    let format = match media.as_str() {
        "application/vnd.google.protobuf" if is_family && is_delimited => Format::Protobuf,
        "application/openmetrics-text" => Format::OpenMetrics,
        "text/plain" | "text/*" | "*/*" => Format::Text,
        _ => return None,
    };
    (weight > 0.0).then_some((weight, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_heaviest_range_it_knows() {
        for (accept, format) in [
            ("", Format::Text),
            ("*/*", Format::Text),
            ("text/html, */*;q=0.1", Format::Text),
            (
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
                 text/plain;version=1.0.0;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
                Format::OpenMetrics,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,\
                 application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;q=0.3",
                Format::Protobuf,
            ),
            (
                "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=text",
                Format::Text,
            ),
            (
                "application/openmetrics-text, text/plain",
                Format::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0, text/plain", Format::Text),
            ("application/openmetrics-text;q=x,;;,=", Format::Text),
        ] {
            assert_eq!(Format::accepted(accept), format, "{accept}");
        }
    }
}
