//! How large requests are on the wire.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use prost::Message as _;

use crate::ExportMetricsServiceRequest;

/// Bytes of a request, as Protobuf encodes it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireSize {
    /// Before compression.
    pub plain: u64,
    /// After gzip, as pushes are compressed by default.
    pub gzip: u64,
}

/// Measures one request.
pub fn wire_size(request: &ExportMetricsServiceRequest) -> WireSize {
    let bytes = request.encode_to_vec();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // A vector takes everything.
    let gzip = encoder
        .write_all(&bytes)
        .and_then(|()| encoder.finish())
        .map_or(bytes.len(), |compressed| compressed.len());
    WireSize {
        plain: bytes.len() as u64,
        gzip: gzip as u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encode::Encoder;
    use crate::fixture;

    #[test]
    fn requests_are_measured_as_they_are_sent() {
        assert_eq!(wire_size(&ExportMetricsServiceRequest::default()).plain, 0);
        let encoder = Encoder::new(fixture::template(), usize::MAX);
        for request in encoder.encode(&fixture::snapshot()) {
            let size = wire_size(&request);
            assert_eq!(size.plain, request.encoded_len() as u64);
            assert!(size.gzip > 20 && size.gzip < size.plain, "{size:?}");
        }
    }
}
