//! A page in chunks: what is not sent yet is not written yet.

use std::{io::Write as _, sync::Arc};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use prost::{Message as _, encoding::encode_varint};

use super::{
    Exposed,
    family::{BATCH, Family, Series, families, series},
    negotiate::Format,
    protobuf,
    text::Text,
};

/// A chunk is sent once it is this long; of a page, no more is in memory.
const CHUNK_BYTES: usize = 64 * 1024;

/// Writes the page of one collection.
pub(super) struct Page {
    exposed: Arc<Exposed>,
    format: Format,
    families: Vec<Family>,
    /// Length of each family's message, which protobuf wants beforehand.
    lengths: Vec<usize>,
    next: Cursor,
    gzip: Option<GzEncoder<Vec<u8>>>,
    done: bool,
}

/// Where writing goes on: a family, one of its places, and a point there.
#[derive(Clone, Copy, Debug, Default)]
struct Cursor {
    family: usize,
    place: usize,
    point: usize,
}

impl Page {
    /// Walks the whole collection for protobuf: on a thread that may.
    pub(super) fn new(exposed: Arc<Exposed>, format: Format, gzip: bool) -> Self {
        let families = families(&exposed);
        let lengths = match format {
            Format::Protobuf => families
                .iter()
                .map(|family| length(&exposed, family))
                .collect(),
            Format::OpenMetrics | Format::Text => Vec::new(),
        };
        Self {
            exposed,
            format,
            families,
            lengths,
            next: Cursor::default(),
            gzip: gzip.then(|| GzEncoder::new(Vec::new(), Compression::fast())),
            done: false,
        }
    }

    /// The next part; `None` at the end.
    pub(super) fn chunk(&mut self) -> Option<Bytes> {
        while !self.done {
            let plain = self.plain();
            let chunk = match &mut self.gzip {
                None => plain,
                Some(gzip) => {
                    // A vector takes everything.
                    gzip.write_all(&plain).ok()?;
                    if self.done {
                        gzip.try_finish().ok()?;
                    }
                    std::mem::take(gzip.get_mut())
                }
            };
            if !chunk.is_empty() {
                return Some(chunk.into());
            }
        }
        None
    }

    fn plain(&mut self) -> Vec<u8> {
        let mut chunk = Vec::with_capacity(CHUNK_BYTES + CHUNK_BYTES / 4);
        while chunk.len() < CHUNK_BYTES && !self.done {
            if self.next.family < self.families.len() {
                self.next = self.write(self.next, &mut chunk);
            } else {
                if let Some(text) = self.text() {
                    chunk.extend_from_slice(text.end().as_bytes());
                }
                self.done = true;
            }
        }
        chunk
    }

    /// A batch of series, below the family's head if it is the first; where to go on.
    fn write(&self, at: Cursor, chunk: &mut Vec<u8>) -> Cursor {
        let next_family = Cursor {
            family: at.family + 1,
            ..Cursor::default()
        };
        let Some(family) = self.families.get(at.family) else {
            return next_family;
        };
        let Some(place) = family.places.get(at.place) else {
            return next_family;
        };
        let Some(series) = series(&self.exposed, family.kind, *place, at.point) else {
            return Cursor {
                place: at.place + 1,
                point: 0,
                ..at
            };
        };
        if at.place == 0 && at.point == 0 {
            self.write_head(at.family, family, chunk);
        }
        self.write_series(family, &series, chunk);
        Cursor {
            point: at.point + BATCH,
            ..at
        }
    }

    fn write_head(&self, number: usize, family: &Family, chunk: &mut Vec<u8>) {
        if let Some(writer) = self.text() {
            let mut text = String::new();
            writer.head(family, &mut text);
            chunk.extend_from_slice(text.as_bytes());
            return;
        }
        let length = self.lengths.get(number).copied().unwrap_or_default();
        encode_varint(length as u64, chunk);
        chunk.extend_from_slice(&protobuf::head(family).encode_to_vec());
    }

    fn write_series(&self, family: &Family, series: &[Series<'_>], chunk: &mut Vec<u8>) {
        let Some(writer) = self.text() else {
            for series in series {
                chunk.extend_from_slice(&protobuf::member(series).encode_to_vec());
            }
            return;
        };
        let mut text = String::new();
        for series in series {
            writer.series(family, series, &mut text);
        }
        chunk.extend_from_slice(text.as_bytes());
    }

    fn text(&self) -> Option<Text> {
        match self.format {
            Format::Protobuf => None,
            Format::OpenMetrics => Some(Text { open_metrics: true }),
            Format::Text => Some(Text {
                open_metrics: false,
            }),
        }
    }
}

fn length(exposed: &Exposed, family: &Family) -> usize {
    let places = family.places.iter();
    let batches = places.flat_map(|place| {
        let starts = (0..).step_by(BATCH);
        starts.map_while(|from| series(exposed, family.kind, *place, from))
    });
    let bytes: usize = batches
        .flatten()
        .map(|series| protobuf::member(&series).encoded_len())
        .sum();
    protobuf::head(family).encoded_len() + bytes
}
