//! The loaded kernel side while it runs.

use std::os::fd::{AsFd, BorrowedFd};

use kerntally_abi::{Counter, FilterKey, CELLS};

use crate::{Backend, LoadError, Options, Record};

/// What a back end answered when it was really tried.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Which.
    pub backend: Backend,
    /// `Ok` when every program loaded and attached; otherwise what the kernel answered.
    pub result: Result<(), String>,
}

/// Totals of the kernel side's counters, over all CPUs, since load.
#[derive(Clone, Debug)]
pub struct CounterValues([u64; CELLS as usize]);

impl CounterValues {
    /// Value of one counter.
    pub fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

/// Whether exchanges of a [`FilterKey`] are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Watch.
    Watch,
    /// Do not look at such sockets until the filter's generation changes.
    Exclude,
}

/// Run statistics of one loaded program (zero unless `kernel.bpf_stats_enabled` is 1).
#[derive(Clone, Debug)]
pub struct ProgramStat {
    /// Program name.
    pub name: String,
    /// Nanoseconds spent in it.
    pub run_time_ns: u64,
    /// Times it ran.
    pub run_count: u64,
    /// Times the kernel skipped it because it was already running on that CPU.
    pub recursion_misses: u64,
    /// Instructions the verifier processed at load (0 before kernel 5.16).
    pub verified_insns: u32,
}

/// The loaded programs and maps. Dropping it detaches and frees everything.
#[derive(Debug)]
pub struct Session {}

impl Session {
    /// Loads the programs and maps of the first usable back end. Nothing is attached yet.
    pub fn load(_options: &Options) -> Result<Self, LoadError> {
        Err(LoadError::NotBuilt)
    }
    /// The back end in use.
    pub fn backend(&self) -> Backend {
        unreachable!()
    }
    /// Back ends that `auto` tried before this one, with what the kernel answered.
    pub fn refused(&self) -> &[(Backend, String)] {
        unreachable!()
    }
    /// Attaches the hooks of the `http1` probe; what was open before is forgotten.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        unreachable!()
    }
    /// Stops tallying at once, then detaches the hooks. Open exchanges are counted as `probe_was_off`.
    pub fn detach(&mut self) -> Result<(), LoadError> {
        unreachable!()
    }
    /// Whether the hooks are attached.
    pub fn attached(&self) -> bool {
        unreachable!()
    }
    /// Hands every record in the ring to `sink`; returns how many there were.
    pub fn drain(&mut self, _sink: impl FnMut(Record<'_>)) -> usize {
        unreachable!()
    }
    /// Totals of the kernel side's counters.
    pub fn counters(&self) -> Result<CounterValues, LoadError> {
        unreachable!()
    }
    /// Exchanges open in the kernel, as (server, client), by walking the connection table.
    pub fn open(&self) -> Result<(u64, u64), LoadError> {
        unreachable!()
    }
    /// Writes one filter decision.
    pub fn decide(&mut self, _key: FilterKey, _decision: Decision) -> Result<(), LoadError> {
        unreachable!()
    }
    /// Forgets all decisions about a process that is gone or has replaced its program.
    pub fn forget(&mut self, _tgid: u32) -> Result<(), LoadError> {
        unreachable!()
    }
    /// Starts a new filter generation: every socket is asked about again at its next head.
    pub fn renew_filter(&mut self) -> Result<(), LoadError> {
        unreachable!()
    }
    /// Finishes exchanges whose end no hook sees (Unix sockets that are gone, exchanges open for longer
    /// than `open_max_ns`); call about once a second.
    pub fn sweep(&mut self, _now_ns: u64, _open_max_ns: u64) -> Result<(), LoadError> {
        unreachable!()
    }
    /// Run statistics of the loaded programs.
    pub fn program_stats(&self) -> Vec<ProgramStat> {
        unreachable!()
    }
    /// Bytes of kernel memory locked by the maps.
    pub fn map_bytes(&self) -> u64 {
        unreachable!()
    }
}

impl AsFd for Session {
    /// Readable when the ring asks to be drained.
    fn as_fd(&self) -> BorrowedFd<'_> {
        unreachable!()
    }
}

/// Really tries every back end, detaching again at once; for `check`.
pub fn survey(_options: &Options) -> Result<Vec<BackendReport>, LoadError> {
    Err(LoadError::NotBuilt)
}
