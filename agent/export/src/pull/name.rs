//! Names and units of OpenTelemetry as Prometheus has them.
//! <https://opentelemetry.io/docs/specs/otel/compatibility/prometheus_and_openmetrics/>

use kerntally_model::AttributeValue;

/// A metric's name: letters, digits and single underscores, the unit at its end.
pub(super) fn metric(name: &str, unit: Option<&str>) -> String {
    let name = clean(name, true);
    match unit {
        Some(unit) if name != unit && !name.ends_with(&format!("_{unit}")) => {
            format!("{name}_{unit}")
        }
        _ => name,
    }
}

/// A label's name.
pub(super) fn label(name: &str) -> String {
    clean(name, false)
}

/// A unit of UCUM as a word; `None` for what has none, such as `{request}`.
pub(super) fn unit(ucum: &str) -> Option<String> {
    let (of, per) = match ucum.split_once('/') {
        Some((of, per)) => (of, Some(per)),
        None => (ucum, None),
    };
    let of = word(of);
    match per.and_then(per_word) {
        Some(per) => Some(match of {
            Some(of) => format!("{of}_per_{per}"),
            None => format!("per_{per}"),
        }),
        None => of,
    }
}

/// The value of an attribute as a label has it.
pub(super) fn value(value: &AttributeValue) -> String {
    match value {
        AttributeValue::Text(text) => text.as_ref().to_owned(),
        AttributeValue::Integer(integer) => integer.to_string(),
        AttributeValue::Boolean(boolean) => boolean.to_string(),
    }
}

fn clean(name: &str, colons: bool) -> String {
    let mut clean = String::with_capacity(name.len() + 1);
    if name.starts_with(|first: char| first.is_ascii_digit()) {
        clean.push('_');
    }
    for char in name.chars() {
        let allowed = char.is_ascii_alphanumeric() || (colons && char == ':');
        if allowed {
            clean.push(char);
        } else if !clean.ends_with('_') {
            clean.push('_');
        }
    }
    clean
}

fn word(ucum: &str) -> Option<String> {
    let word = match ucum {
        "s" => "seconds",
        "ms" => "milliseconds",
        "us" => "microseconds",
        "ns" => "nanoseconds",
        "min" => "minutes",
        "h" => "hours",
        "d" => "days",
        "By" => "bytes",
        "KiBy" => "kibibytes",
        "MiBy" => "mebibytes",
        "GiBy" => "gibibytes",
        "%" => "percent",
        "" | "1" => return None,
        other if other.starts_with('{') => return None,
        other => return Some(clean(other, false)),
    };
    Some(word.to_owned())
}

fn per_word(ucum: &str) -> Option<String> {
    let word = match ucum {
        "s" => "second",
        "min" => "minute",
        "h" => "hour",
        "d" => "day",
        "" => return None,
        other => return Some(clean(other, false)),
    };
    Some(word.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_end_in_their_unit_once() {
        for (name, ucum, expected) in [
            (
                "http.server.request.duration",
                "s",
                "http_server_request_duration_seconds",
            ),
            (
                "http.server.active_requests",
                "{request}",
                "http_server_active_requests",
            ),
            ("legacy_latency_seconds", "s", "legacy_latency_seconds"),
            ("latency", "ms", "latency_milliseconds"),
            ("1st..odd--name", "By/s", "_1st_odd_name_bytes_per_second"),
            ("job:rate", "1", "job:rate"),
        ] {
            assert_eq!(metric(name, unit(ucum).as_deref()), expected);
        }
        assert_eq!(
            label("http.response.status_code"),
            "http_response_status_code"
        );
        assert_eq!(label("a:b"), "a_b");
    }
}
