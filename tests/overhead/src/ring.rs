//! How full the agent's ring buffer is, read from the pages that the agent itself has mapped.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, Result};

const PAGE: u64 = 4096;
/// Often enough to see a ring that fills between two looks of its reader.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Where a process has the two positions of a ring buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Positions {
    consumer: u64,
    producer: u64,
    capacity: u64,
}

/// Watches a ring until it is asked for the most it held.
#[derive(Debug)]
pub(crate) struct Watch {
    most: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    capacity: u64,
}

impl Watch {
    /// Watches the ring of a process.
    pub(crate) fn start(pid: u32) -> Result<Self> {
        let maps = std::fs::read_to_string(format!("/proc/{pid}/maps"))?;
        let positions = positions(&maps).context("no ring buffer is mapped")?;
        let memory = File::open(format!("/proc/{pid}/mem"))?;
        let most = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let (into, stop) = (Arc::clone(&most), Arc::clone(&ended));
        let thread = std::thread::spawn(move || {
            while !stop.load(Ordering::Relaxed) {
                if let Some(held) = held(&memory, positions) {
                    into.fetch_max(held, Ordering::Relaxed);
                }
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Self {
            most,
            ended,
            thread: Some(thread),
            capacity: positions.capacity,
        })
    }

    /// The most it held, as a share of its size.
    #[expect(clippy::cast_precision_loss, reason = "a share for people")]
    pub(crate) fn most(&self) -> f64 {
        self.most.load(Ordering::Relaxed) as f64 / self.capacity as f64
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It has nothing to fail at.
            thread.join().ok();
        }
    }
}

fn held(memory: &File, positions: Positions) -> Option<u64> {
    let read = |at| {
        let mut bytes = [0; 8];
        memory.read_exact_at(&mut bytes, at).ok()?;
        Some(u64::from_ne_bytes(bytes))
    };
    // The consumer first: the other way round it could pass what was read of the producer.
    let consumer = read(positions.consumer)?;
    Some(read(positions.producer)?.saturating_sub(consumer))
}

/// The consumer's page is mapped writable at offset 0, the producer's and the data twice, read-only, after it.
fn positions(maps: &str) -> Option<Positions> {
    let lines: Vec<Vec<&str>> = maps
        .lines()
        .filter(|line| line.contains("bpf-map"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let find = |rights: &str, offset: &str| {
        let line = lines
            .iter()
            .find(|line| line[1] == rights && line[2] == offset)?;
        let (from, to) = line[0].split_once('-')?;
        let parse = |text| u64::from_str_radix(text, 16).ok();
        Some((parse(from)?, parse(to)?))
    };
    let (consumer, _) = find("rw-s", "00000000")?;
    let (producer, end) = find("r--s", "00001000")?;
    Some(Positions {
        consumer,
        producer,
        capacity: (end - producer - PAGE) / 2,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_two_mappings_of_a_ring_are_found() {
        let maps = "7f0000000000-7f0000001000 rw-s 00000000 00:0e 13 anon_inode:bpf-map\n\
            7f0000100000-7f0000501000 r--s 00001000 00:0e 13 anon_inode:bpf-map\n\
            7f0000600000-7f0000601000 r--p 00000000 00:0e 14 /lib/x.so\n";
        let found = positions(maps).unwrap();
        assert_eq!(found.consumer, 0x7f00_0000_0000);
        assert_eq!(found.producer, 0x7f00_0010_0000);
        assert_eq!(found.capacity, 2 * 1024 * 1024);
        assert_eq!(positions(""), None);
    }
}
