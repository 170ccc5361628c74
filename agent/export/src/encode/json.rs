//! A request in the JSON mapping, as receivers really read it.

use crate::ExportMetricsServiceRequest;

/// Numbers that an ended point does not have. Null is as good as absent by the mapping of protobuf, but the
/// collector's reader wants a number or nothing.
const ABSENT: [&str; 4] = [
    "\"sum\":null,",
    "\"min\":null,",
    "\"max\":null,",
    ",\"max\":null",
];

/// One line without its end. Within a string these patterns would have their quotes escaped, so that none is cut.
pub(crate) fn json(request: &ExportMetricsServiceRequest) -> serde_json::Result<Vec<u8>> {
    let mut text = serde_json::to_string(request)?;
    for absent in ABSENT {
        if text.contains(absent) {
            text = text.replace(absent, "");
        }
    }
    Ok(text.into_bytes())
}

#[cfg(test)]
mod tests {
    use kerntally_model::{Instrument, PointValue, Snapshot};

    use super::json;
    use crate::{
        ExportMetricsServiceRequest,
        encode::{Encoder, MAX_REQUEST_BYTES},
        fixture::{histogram, measured, point, server_points, template, text, workload},
    };

    #[test]
    fn leaves_out_numbers_that_are_not_there_and_nothing_else() {
        let tricky = vec![text("a", "\"sum\":null,\"max\":null,")];
        let ended = vec![
            point(tricky, PointValue::Exponential(histogram())),
            point(Vec::new(), PointValue::NoRecordedValue),
        ];
        let mut workload = server_points(workload("api"), ended);
        workload.instruments.push(measured(
            Instrument::HttpServerActiveRequests,
            vec![point(Vec::new(), PointValue::NoRecordedValue)],
        ));
        let snapshot = Snapshot {
            workloads: vec![workload],
        };
        let requests = Encoder::new(template(), MAX_REQUEST_BYTES).encode(&snapshot);
        let line = json(&requests[0]).unwrap();
        let read: ExportMetricsServiceRequest = serde_json::from_slice(&line).unwrap();
        assert_eq!(read, requests[0]);
        let line = String::from_utf8(line).unwrap();
        for number in ["sum", "min", "max"] {
            assert!(!line.contains(&format!("\"{number}\":null")), "{line}");
        }
    }
}
