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
#[derive(Clone, Debug, PartialEq, Eq)]
struct Positions {
    /// One of them is the consumer's: other maps that the process writes to look the same from outside.
    consumers: Vec<u64>,
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
        let capacity = positions.capacity;
        let thread = std::thread::spawn(move || {
            let mut look = Look::new(positions);
            while !stop.load(Ordering::Relaxed) {
                // The process may be gone, and what it held with it.
                look.take(|at| word(&memory, at));
                into.store(look.most(), Ordering::Relaxed);
                std::thread::sleep(LOOK_EVERY);
            }
        });
        Ok(Self {
            most,
            ended,
            thread: Some(thread),
            capacity,
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

/// What was seen of a ring so far.
#[derive(Debug)]
struct Look {
    producer: u64,
    capacity: u64,
    /// Pages that may be the consumer's, and the most the ring held if it is.
    consumers: Vec<(u64, u64)>,
}

impl Look {
    fn new(positions: Positions) -> Self {
        Self {
            producer: positions.producer,
            capacity: positions.capacity,
            consumers: positions.consumers.into_iter().map(|at| (at, 0)).collect(),
        }
    }

    /// Looks once. What is ahead of the producer, or further behind it than a ring and what may be taken out between two
    /// readings, is no consumer.
    fn take(&mut self, read: impl Fn(u64) -> Option<u64>) -> Option<()> {
        // The consumers first: the other way round one could pass what was read of the producer.
        let consumed: Option<Vec<u64>> = self.consumers.iter().map(|(at, _)| read(*at)).collect();
        let produced = read(self.producer)?;
        let mut consumed = consumed?.into_iter();
        let capacity = self.capacity;
        self.consumers.retain_mut(|(_, most)| {
            let held = consumed.next().and_then(|at| produced.checked_sub(at));
            let held = held.filter(|held| *held <= 2 * capacity);
            *most = held.map_or(0, |held| held.min(capacity)).max(*most);
            held.is_some()
        });
        Some(())
    }

    /// The most the ring held, in bytes; of several pages the one that says least, as long as little has passed.
    fn most(&self) -> u64 {
        let most = self.consumers.iter().map(|(_, most)| *most).min();
        most.unwrap_or(self.capacity)
    }
}

fn word(memory: &File, at: u64) -> Option<u64> {
    let mut bytes = [0; 8];
    memory.read_exact_at(&mut bytes, at).ok()?;
    Some(u64::from_ne_bytes(bytes))
}

/// The consumer's page is mapped writable at offset 0, the producer's and the data twice, read-only, after it.
fn positions(maps: &str) -> Option<Positions> {
    let lines: Vec<Vec<&str>> = maps
        .lines()
        .filter(|line| line.contains("bpf-map"))
        .map(|line| line.split_whitespace().collect())
        .collect();
    let find = |rights: &str, offset: &str| {
        let ranges = lines
            .iter()
            .filter(|line| line[1] == rights && line[2] == offset)
            .filter_map(|line| {
                let (from, to) = line[0].split_once('-')?;
                let parse = |text| u64::from_str_radix(text, 16).ok();
                Some((parse(from)?, parse(to)?))
            });
        ranges.collect::<Vec<_>>()
    };
    let writable = find("rw-s", "00000000").into_iter();
    let consumers: Vec<u64> = writable
        .filter(|(from, to)| to - from == PAGE)
        .map(|(from, _)| from)
        .collect();
    let (producer, end) = find("r--s", "00001000").first().copied()?;
    Some(Positions {
        consumers: (!consumers.is_empty()).then_some(consumers)?,
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
            7f0000600000-7f0000601000 rw-s 00000000 00:0e 13 anon_inode:bpf-map\n\
            7f0000700000-7f0000704000 rw-s 00000000 00:0e 13 anon_inode:bpf-map\n\
            7f0000800000-7f0000801000 r--p 00000000 00:0e 14 /lib/x.so\n";
        let found = positions(maps).unwrap();
        assert_eq!(found.consumers, [0x7f00_0000_0000, 0x7f00_0060_0000]);
        assert_eq!(found.producer, 0x7f00_0010_0000);
        assert_eq!(found.capacity, 2 * 1024 * 1024);
        assert_eq!(positions(""), None);
    }

    #[test]
    fn the_consumer_is_the_page_that_keeps_up() {
        let mut look = Look::new(Positions {
            consumers: vec![1, 2, 3],
            producer: 9,
            capacity: 1000,
        });
        // One of a ring that is read, one of a count that hardly moves, one of a clock.
        for (consumed, produced) in [(0, 100), (4000, 4600), (9000, 9100)] {
            look.take(|at| {
                Some(match at {
                    1 => consumed,
                    2 => 7,
                    3 => 1 << 40,
                    _ => produced,
                })
            });
        }
        assert_eq!(look.consumers, [(1, 600)]);
        assert_eq!(look.most(), 600);
    }
}
