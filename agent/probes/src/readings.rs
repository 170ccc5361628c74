//! What a running kernel side tells when it is asked. In: its tables, its counters, and the kernel's account of
//! both. Out: numbers.

use std::os::fd::{AsFd as _, AsRawFd as _};

use kerntally_abi::{CELLS, COUNTERS, Counter, role};

use crate::{
    LoadError, MapMemory, OpenRequests, Session, footprint,
    kernel::cpu_numbers,
    kernel_run, open,
    session::map_fd,
    tables::{self, Connections, Entry, Pipelined, Processes},
};

/// Totals of the kernel side's counters, over all CPUs, since load.
#[derive(Clone, Debug)]
pub struct CounterValues([u64; CELLS as usize]);

impl CounterValues {
    /// Value of one counter.
    pub fn value(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
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
    /// Instructions the verifier processed at load (0 before kernel 5.16).
    pub verified_insns: u32,
}

impl Session {
    /// Totals of the kernel side's counters.
    pub fn counters(&self) -> CounterValues {
        let mut totals = [0; CELLS as usize];
        // What ends an exchange is read before what begins one, so that none can seem to end unseen.
        for counter in COUNTERS.iter().rev() {
            let cell = *counter as usize;
            let cells = (cell..).step_by(CELLS as usize);
            totals[cell] = cells
                .take(cpu_numbers() as usize)
                .map(|index| self.counters.load(index))
                .sum();
        }
        totals[Counter::SkippedRuns as usize] = self.skipped_runs();
        totals[Counter::ProbeOffServer as usize] += self.switched_off[usize::from(role::SERVER)];
        totals[Counter::ProbeOffClient as usize] += self.switched_off[usize::from(role::CLIENT)];
        CounterValues(totals)
    }

    /// Exchanges open in the kernel, as (server, client), by walking the connection table.
    pub fn open(&self) -> Result<(u64, u64), LoadError> {
        let mut open = [0; 2];
        tables::walk::<Connections>(&self.ebpf, |entry| {
            let connection = entry.value;
            open[usize::from(connection.role & 1)] += u64::from(connection.waiting());
        })?;
        Ok((
            open[usize::from(role::SERVER)],
            open[usize::from(role::CLIENT)],
        ))
    }

    /// Requests that servers have not answered yet, by walking the connection table.
    pub fn open_requests(&self) -> Result<Vec<OpenRequests>, LoadError> {
        let mut stored = std::collections::HashMap::new();
        tables::walk::<Pipelined>(&self.ebpf, |entry| {
            stored.insert(entry.key, entry.value);
        })?;
        let mut open = open::Counts::default();
        tables::walk::<Connections>(&self.ebpf, |entry| {
            let Entry { key, value } = entry;
            open.add(&value, |sequence| {
                stored.get(&[key, u64::from(sequence)]).copied()
            });
        })?;
        let mut starts = std::collections::HashMap::new();
        if !open.is_empty() {
            tables::walk::<Processes>(&self.ebpf, |entry| {
                let Entry { key, value } = entry;
                starts.insert(key, value[0]);
            })?;
        }
        Ok(open.finish(|tgid| starts.get(&tgid).copied().unwrap_or(0)))
    }

    /// Runs that the kernel skipped, of all loaded programs.
    fn skipped_runs(&self) -> u64 {
        let programs = self.ebpf.programs();
        let loaded = programs.filter_map(|(_, program)| program.fd().ok());
        loaded
            .filter_map(|fd| kernel_run::skipped(fd.as_fd()).ok())
            .sum()
    }

    /// Run statistics of the loaded programs.
    pub fn program_stats(&self) -> Vec<ProgramStat> {
        self.ebpf
            .programs()
            .filter_map(|(name, program)| {
                let info = program.info().ok()?;
                Some(ProgramStat {
                    name: name.to_owned(),
                    run_time_ns: u64::try_from(info.run_time().as_nanos()).unwrap_or(u64::MAX),
                    run_count: info.run_count(),
                    verified_insns: info.verified_instruction_count().unwrap_or(0),
                })
            })
            .collect()
    }

    /// Kernel memory of each map, as the kernel accounts for it.
    pub fn map_memory(&self) -> Vec<MapMemory> {
        let ring = self.ring.as_raw_fd();
        let maps = self.ebpf.maps();
        let others = maps.filter_map(|(name, map)| Some((name, map_fd(map)?.as_raw_fd())));
        [("RING", ring)]
            .into_iter()
            .chain(others)
            .filter_map(|(name, fd)| footprint::of_map(name, fd))
            .collect()
    }

    /// Bytes of kernel memory that the maps lock.
    pub fn map_bytes(&self) -> u64 {
        self.map_memory().iter().map(|map| map.bytes).sum()
    }
}
