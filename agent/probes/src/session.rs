//! The loaded kernel side while it runs.

use std::{
    os::fd::{AsFd, AsRawFd as _, BorrowedFd},
    sync::atomic::{Ordering, fence},
};

use aya::{
    Btf, Ebpf, EbpfLoader, VerifierLogLevel,
    maps::{HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf, Stack},
};
use kerntally_abi::{
    CELLS, COUNTERS, Control, Counter, FilterKey, Layout, TallyKey, TallyValue, change, decision,
    limits, resting, role,
};
use kerntally_machine::{Connection, Request};

use crate::{
    LoadError, btf,
    footprint::{self, MapMemory},
    kernel_run, layout, object,
    open::{self, OpenRequests},
    options::{Backend, BackendChoice, Options},
    preemption,
    programs::{self, Link, Tracepoints},
    record::{self, Record},
    returns,
    shared::SharedArray,
    tables::{self, Connections, Entry, Pipelined, Processes, Tally, UnixSockets},
    tally::{TallyDelta, TallyReader},
};

/// What a back end answered when it was really tried.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Which.
    pub backend: Backend,
    /// What its maps take when every program loaded and attached; otherwise what the kernel answered.
    pub result: Result<Vec<MapMemory>, String>,
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
    /// Instructions the verifier processed at load (0 before kernel 5.16).
    pub verified_insns: u32,
}

/// A type of the shared contract as aya wants to see it.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub(crate) struct Plain<T>(pub(crate) T);

// SAFETY: each is `repr(C)`, made of integers, with its padding spelled out and its size asserted.
unsafe impl aya::Pod for Plain<Layout> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Control> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Connection> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<Request> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<FilterKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<TallyKey> {}
// SAFETY: as above.
unsafe impl aya::Pod for Plain<TallyValue> {}

/// The loaded programs and maps. Dropping it detaches and frees everything.
pub struct Session {
    ebpf: Ebpf,
    ring: RingBuf<MapData>,
    counters: SharedArray,
    switches: SharedArray,
    tally: TallyReader,
    links: Vec<Link>,
    backend: Backend,
    tracepoints: Tracepoints,
    refused: Vec<(Backend, String)>,
    control: Control,
    /// Exchanges that were open when the probe was switched off, by role.
    switched_off: [u64; 2],
}

impl Session {
    /// Loads the programs and maps of the first usable back end, and attaches them to make sure; nothing
    /// is tallied before [`Session::attach`].
    pub fn load(options: &Options) -> Result<Self, LoadError> {
        let kernel = Kernel::read(options)?;
        let wanted: &[Backend] = match options.backend {
            BackendChoice::Auto => &Backend::ALL,
            BackendChoice::Only(ref backend) => std::slice::from_ref(backend),
        };
        let mut tried = Vec::new();
        for backend in wanted {
            if options.backend == BackendChoice::Auto
                && let Some(reason) = objection(*backend)
            {
                tried.push((*backend, reason));
                continue;
            }
            match Self::try_backend(options, &kernel, *backend) {
                Ok(mut session) => {
                    session.refused = tried;
                    return Ok(session);
                }
                Err(reason) => tried.push((*backend, reason)),
            }
        }
        Err(LoadError::NoBackend { tried })
    }

    fn try_backend(options: &Options, kernel: &Kernel, backend: Backend) -> Result<Self, String> {
        if backend == Backend::Kprobe {
            returns::clear_abandoned();
        }
        let mut ebpf = load_object(options, kernel, backend)?;
        for hook in programs::hooks(backend, kernel.tracepoints) {
            hook.load(&mut ebpf, &kernel.btf)?;
        }
        tables::load(&mut ebpf, &kernel.btf)?;
        let ring = ebpf
            .take_map("RING")
            .ok_or("map `RING` is not in the object")?;
        let ring = RingBuf::try_from(ring).map_err(|error| error.to_string())?;
        add_catch_all(&mut ebpf)?;
        let counters = share(&ebpf, "COUNTERS", CELLS as usize * cpu_numbers() as usize)?;
        let switches = share(&ebpf, "CONTROL", size_of::<Control>() / size_of::<u64>())?;
        let mut session = Self {
            ebpf,
            ring,
            counters,
            switches,
            tally: TallyReader::default(),
            links: Vec::new(),
            backend,
            tracepoints: kernel.tracepoints,
            refused: Vec::new(),
            control: Control::default(),
            switched_off: [0; 2],
        };
        session.fill_pool().map_err(|error| error.to_string())?;
        session.link()?;
        Ok(session)
    }

    /// The back end in use.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Back ends that `auto` tried before this one, with what the kernel answered.
    pub fn refused(&self) -> &[(Backend, String)] {
        &self.refused
    }

    /// Attaches the hooks of the `http1` probe and begins to tally; what was open before is forgotten.
    pub fn attach(&mut self) -> Result<(), LoadError> {
        if self.control.enabled == 1 {
            return Ok(());
        }
        self.link()
            .map_err(|reason| operation("attach hooks", reason))?;
        self.control.attachment = self.control.attachment.wrapping_add(1);
        self.control.attached_ns = monotonic_ns();
        self.control.enabled = 1;
        self.write_control();
        Ok(())
    }

    /// Stops tallying at once, then detaches the hooks. Open exchanges are counted as `probe_was_off`.
    pub fn detach(&mut self) -> Result<(), LoadError> {
        if self.control.enabled == 0 && self.links.is_empty() {
            return Ok(());
        }
        self.control.enabled = 0;
        self.write_control();
        for link in std::mem::take(&mut self.links).into_iter().rev() {
            link.detach(&mut self.ebpf)
                .map_err(|reason| operation("detach hooks", reason))?;
        }
        self.forget_connections()
    }

    /// Whether exchanges are tallied.
    pub fn attached(&self) -> bool {
        self.control.enabled == 1
    }

    /// Hands every record in the ring to `sink`; returns how many there were.
    pub fn drain(&mut self, mut sink: impl FnMut(Record<'_>)) -> usize {
        let mut count = 0;
        while let Some(item) = self.ring.next() {
            if let Some(record) = record::parse(&item) {
                sink(record);
            }
            count += 1;
        }
        count
    }

    /// Hands over what the kernel side tallied itself since the last call, because the ring was full. What a
    /// thread group that has `ended` left behind gives its place back.
    pub fn tallied(
        &mut self,
        ended: impl Fn(u32) -> bool,
        mut sink: impl FnMut(TallyDelta),
    ) -> Result<(), LoadError> {
        let mut idle = Vec::new();
        tables::walk::<Tally>(&self.ebpf, |entry| {
            let Entry { key, value } = entry;
            match self.tally.read(key, &value) {
                Some(delta) => sink(delta),
                None if key.tgid != 0 && ended(key.tgid) => idle.push(key),
                None => {}
            }
        })?;
        for key in idle {
            self.tally.forget(&key);
            // Gone already is what is wanted.
            let _gone = tables::change(&self.ebpf, change::FORGET_TALLY, tables::words(key), 0)?;
        }
        Ok(())
    }

    /// Says whether the next record is to wake whoever waits for [`Session::as_fd`], because no timer drains the ring.
    /// What was put into it before the kernel side knew has to be drained once more.
    pub fn rest(&mut self, rests: bool) {
        self.control.resting = match (rests, self.backend.sees_unix_release()) {
            (false, _) => 0,
            (true, true) => resting::RECORDS,
            (true, false) => resting::RECORDS | resting::UNIX,
        };
        self.write_control();
        // Nothing of the ring may be read before this is written.
        fence(Ordering::SeqCst);
    }

    /// Whether there are sockets whose end only [`Session::sweep`] finds.
    pub fn must_sweep(&self) -> Result<bool, LoadError> {
        if self.control.enabled == 0 || self.backend.sees_unix_release() {
            return Ok(false);
        }
        let sockets: HashMap<_, u64, u64> = HashMap::try_from(self.map("UNIX_SOCKETS")?)
            .map_err(|error| operation("open Unix sockets", error))?;
        Ok(sockets.keys().next().is_some())
    }

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

    /// Writes one filter decision.
    pub fn decide(&self, key: FilterKey, decision: Decision) -> Result<(), LoadError> {
        let value = match decision {
            Decision::Watch => decision::WATCH,
            Decision::Exclude => decision::EXCLUDE,
        };
        if tables::change(&self.ebpf, change::DECIDE, tables::words(key), value)? {
            Ok(())
        } else {
            Err(operation("write the filter", "there is no room"))
        }
    }

    /// Forgets all decisions about a process that is gone or has replaced its program.
    pub fn forget(&mut self, tgid: u32) -> Result<(), LoadError> {
        self.forget_decisions(|key| key.tgid == tgid)
    }

    /// Makes sockets that were met undecided ask about the decisions that have been written since: a new
    /// generation of the filter, with everything in it.
    pub fn apply_decisions(&mut self) {
        self.control.filter_generation = self.control.filter_generation.wrapping_add(1);
        self.write_control();
    }

    /// Starts a new filter generation: every socket is asked about again at its next head, by decisions
    /// that are still to be written.
    pub fn renew_filter(&mut self) -> Result<(), LoadError> {
        self.forget_decisions(|_key| true)?;
        self.apply_decisions();
        Ok(())
    }

    fn forget_decisions(&self, which: impl Fn(&FilterKey) -> bool) -> Result<(), LoadError> {
        let filter: HashMap<_, Plain<FilterKey>, u32> = HashMap::try_from(self.map("FILTER")?)
            .map_err(|error| operation("open the filter", error))?;
        let keys: Vec<_> = filter
            .keys()
            .filter_map(Result::ok)
            .filter(|key| which(&key.0))
            .collect();
        for Plain(key) in keys {
            let words = tables::words(key);
            // Gone already is what is wanted.
            let _gone = tables::change(&self.ebpf, change::FORGET_DECISION, words, 0)?;
        }
        Ok(())
    }

    /// Finishes exchanges whose end no hook sees: Unix sockets that are gone. Call about once a second.
    pub fn sweep(&mut self) -> Result<(), LoadError> {
        if self.control.enabled == 0 || self.backend.sees_unix_release() {
            return Ok(());
        }
        let mut sockets = Vec::new();
        tables::walk::<UnixSockets>(&self.ebpf, |entry| {
            sockets.push([entry.key, entry.value, 0]);
        })?;
        self.run_sweep(&sockets)
    }

    /// Ends exchanges that began before `before_ns` (nanoseconds of `CLOCK_MONOTONIC`) and are still open,
    /// timed to their last byte so far. Walks the whole connection table: call it rarely.
    pub fn cut(&mut self, before_ns: u64) -> Result<(), LoadError> {
        let mut old = Vec::new();
        tables::walk::<Connections>(&self.ebpf, |entry| {
            let Entry { key, value } = entry;
            if value.oldest_ns().is_some_and(|start| start < before_ns) {
                old.push([key, 0, 1]);
            }
        })?;
        self.run_sweep(&old)
    }

    /// Runs the sweep once for each set of arguments.
    fn run_sweep(&self, runs: &[[u64; 3]]) -> Result<(), LoadError> {
        for arguments in runs {
            let _ended = tables::run(&self.ebpf, tables::SWEEP, arguments)?;
        }
        Ok(())
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

    fn link(&mut self) -> Result<(), String> {
        if !self.links.is_empty() {
            return Ok(());
        }
        for hook in programs::hooks(self.backend, self.tracepoints) {
            if hook.is_loaded(&self.ebpf) {
                self.links.push(hook.attach(&mut self.ebpf)?);
            }
        }
        Ok(())
    }

    /// Puts every slot of the head pool on its free list, and none in the hands of a CPU.
    fn fill_pool(&mut self) -> Result<(), LoadError> {
        self.empty_spares()?;
        let map = self
            .ebpf
            .map_mut("FREE_HEADS")
            .ok_or_else(|| operation("open the head pool", "not in the object"))?;
        let mut free: Stack<_, u32> =
            Stack::try_from(map).map_err(|error| operation("open the head pool", error))?;
        while free.pop(0).is_ok() {}
        for slot in 0..free.capacity() {
            free.push(slot, 0)
                .map_err(|error| operation("fill the head pool", error))?;
        }
        Ok(())
    }

    fn empty_spares(&mut self) -> Result<(), LoadError> {
        let map = self
            .ebpf
            .map_mut("SPARE_HEAD")
            .ok_or_else(|| operation("open the spare heads", "not in the object"))?;
        let mut spare: PerCpuArray<_, u64> =
            PerCpuArray::try_from(map).map_err(|error| operation("open the spare heads", error))?;
        let cpus = aya::util::nr_cpus().map_err(|(what, error)| operation(what, error))?;
        let none = PerCpuValues::try_from(vec![0; cpus])
            .map_err(|error| operation("empty the spare heads", error))?;
        spare
            .set(0, none, 0)
            .map_err(|error| operation("empty the spare heads", error))
    }

    /// Counts what is open and empties the tables; the hooks must be gone.
    fn forget_connections(&mut self) -> Result<(), LoadError> {
        let (server, client) = self.open()?;
        self.switched_off[usize::from(role::SERVER)] += server;
        self.switched_off[usize::from(role::CLIENT)] += client;
        self.clear::<u64, Plain<Connection>>("CONNECTIONS")?;
        self.clear::<[u64; 2], Plain<Request>>("PIPELINED")?;
        self.clear::<u64, u64>("UNIX_SOCKETS")?;
        self.clear::<u32, [u64; 4]>("CALLS")?;
        self.fill_pool()
    }

    fn clear<K: aya::Pod, V: aya::Pod>(&mut self, name: &'static str) -> Result<(), LoadError> {
        let map = self
            .ebpf
            .map_mut(name)
            .ok_or_else(|| operation("open a map", name))?;
        let mut map: HashMap<_, K, V> =
            HashMap::try_from(map).map_err(|error| operation("open a map", error))?;
        let keys: Vec<K> = map.keys().filter_map(Result::ok).collect();
        for key in keys {
            map.remove(&key)
                .map_err(|error| operation("clear a map", error))?;
        }
        Ok(())
    }

    /// Who reads the switch that is written last sees the others.
    fn write_control(&self) {
        let Control {
            attached_ns,
            enabled,
            attachment,
            filter_generation,
            resting,
        } = self.control;
        let word = |low: u32, high: u32| u64::from(high) << 32 | u64::from(low);
        self.switches.store(0, attached_ns);
        self.switches.store(2, word(filter_generation, resting));
        self.switches.store(1, word(enabled, attachment));
    }

    fn map(&self, name: &'static str) -> Result<&aya::maps::Map, LoadError> {
        self.ebpf
            .map(name)
            .ok_or_else(|| operation("open a map", name))
    }
}

impl std::fmt::Debug for Session {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Session")
            .field("backend", &self.backend)
            .finish_non_exhaustive()
    }
}

impl AsFd for Session {
    /// Readable when the ring asks to be drained.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ring.as_fd()
    }
}

/// Really tries every back end, detaching again at once; for `check`.
pub fn survey(options: &Options) -> Result<Vec<BackendReport>, LoadError> {
    let kernel = Kernel::read(options)?;
    let reports = Backend::ALL
        .iter()
        .map(|backend| {
            let result = survey_one(options, &kernel, *backend);
            BackendReport {
                backend: *backend,
                result,
            }
        })
        .collect();
    Ok(reports)
}

fn survey_one(
    options: &Options,
    kernel: &Kernel,
    backend: Backend,
) -> Result<Vec<MapMemory>, String> {
    unsafe_trampoline_of(backend).map_or(Ok(()), Err)?;
    let memory = Session::try_backend(options, kernel, backend)?.map_memory();
    preemption_of(backend).map_or(Ok(memory), Err)
}

/// What is known of the running kernel; large, and dropped once the programs are loaded.
struct Kernel {
    btf: Btf,
    layout: Layout,
    modern: bool,
    tracepoints: Tracepoints,
}

impl Kernel {
    fn read(options: &Options) -> Result<Self, LoadError> {
        let path = "/sys/kernel/btf/vmlinux";
        let bytes = std::fs::read(path).map_err(|error| LoadError::NoBtf(error.to_string()))?;
        let no_btf = |error: btf::BtfError| LoadError::NoBtf(error.to_string());
        let names = btf::Names::of(&bytes).map_err(no_btf)?;
        let types = btf::Btf::parse(&bytes).map_err(no_btf)?;
        let layout = layout::read(&types, &names, options).map_err(no_btf)?;
        let modern = layout::is_modern(&types);
        let events = preemption::of_raw_tracepoints()
            && returns::has_trace_events()
            && layout::has_trace_events(&types, &names);
        let tracepoints = if modern && events {
            Tracepoints::Events
        } else {
            Tracepoints::Raw
        };
        drop(types);
        let btf = Btf::from_sys_fs().map_err(|error| LoadError::NoBtf(error.to_string()))?;
        Ok(Self {
            btf,
            layout,
            modern,
            tracepoints,
        })
    }
}

/// What speaks against a back end, whether or not it would load and attach.
fn objection(backend: Backend) -> Option<String> {
    unsafe_trampoline_of(backend).or_else(|| preemption_of(backend))
}

/// Why the back end is not even to be tried.
fn unsafe_trampoline_of(backend: Backend) -> Option<String> {
    let reason = (backend == Backend::Fexit).then(unsafe_trampoline)?;
    reason.map(str::to_owned)
}

/// Why the back end would not be exact.
fn preemption_of(backend: Backend) -> Option<String> {
    (backend == Backend::Fexit).then(preemption::of_trampolines)?
}

fn load_object(options: &Options, kernel: &Kernel, backend: Backend) -> Result<Ebpf, String> {
    let object = object::object(kernel.modern).map_err(|error| error.to_string())?;
    let layout = Plain(kernel.layout);
    let default = if kernel.modern {
        limits::CONNECTIONS
    } else {
        limits::CONNECTIONS_PREALLOCATED
    };
    let calls = match backend {
        Backend::Kprobe => limits::CALLING_TASKS,
        _ => 1,
    };
    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(&kernel.btf))
        // A refusal is explained in a line; without it the kernel's first answer would be lost, because a
        // second try with a log of level 0 is refused as invalid.
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("LAYOUT", &layout, true)
        .map_max_entries("RING", options.ring_bytes)
        .map_max_entries("HEADS", options.head_slots)
        .map_max_entries("FREE_HEADS", options.head_slots)
        .map_max_entries("TALLY", options.tally_keys.saturating_add(2))
        .map_max_entries("COUNTERS", CELLS * cpu_numbers())
        .map_max_entries("CALLS", calls)
        .map_max_entries("CONNECTIONS", options.connections.unwrap_or(default));
    loader.load(object).map_err(|error| chain(&error))
}

/// Makes the distributions that take what finds no key of its own.
fn add_catch_all(ebpf: &mut Ebpf) -> Result<(), String> {
    let map = ebpf
        .map_mut("TALLY")
        .ok_or("map `TALLY` is not in the object")?;
    let mut tally: HashMap<_, Plain<TallyKey>, Plain<TallyValue>> =
        HashMap::try_from(map).map_err(|error| chain(&error))?;
    for role in [role::SERVER, role::CLIENT] {
        tally
            .insert(Plain(TallyKey::catch_all(role)), Plain(TallyValue::ZERO), 0)
            .map_err(|error| chain(&error))?;
    }
    Ok(())
}

/// Maps an array of the programs.
fn share(ebpf: &Ebpf, name: &str, words: usize) -> Result<SharedArray, String> {
    let map = ebpf
        .map(name)
        .and_then(map_fd)
        .ok_or_else(|| format!("map `{name}` is not in the object"))?;
    SharedArray::map(map, words).map_err(|error| format!("mapping of `{name}`: {error}"))
}

/// One more than the highest number a CPU of this machine can have; 0 if the kernel does not say.
fn cpu_numbers() -> u32 {
    static NUMBERS: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let ranges =
            std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let last = ranges.trim().rsplit(['-', ',']).next();
        last.and_then(|last| last.parse().ok())
            .map_or(0, |last: u32| last.saturating_add(1))
    });
    *NUMBERS
}

/// Trampolines of kernels without this function crash when programs come and go under load
/// (fixed by e21aa341785c, "bpf: Fix fexit trampoline", 5.12 and stable kernels).
fn unsafe_trampoline() -> Option<&'static str> {
    let symbols = std::fs::read_to_string("/proc/kallsyms").unwrap_or_default();
    let safe = symbols
        .lines()
        .any(|line| line.ends_with(" __bpf_tramp_image_put_rcu"));
    if safe {
        None
    } else {
        Some("this kernel's trampolines are not safe to detach")
    }
}

pub(crate) fn operation(operation: &'static str, reason: impl std::fmt::Display) -> LoadError {
    LoadError::Operation {
        operation,
        reason: reason.to_string(),
    }
}

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        let more = inner.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        source = inner.source();
    }
    text
}

pub(crate) fn map_fd(map: &aya::maps::Map) -> Option<BorrowedFd<'_>> {
    use aya::maps::Map;
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::Stack(data)
    | Map::RingBuf(data)) = map
    else {
        return None;
    };
    Some(data.fd().as_fd())
}

fn monotonic_ns() -> u64 {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a timespec of ours.
    let failed = unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    if failed != 0 {
        return 0;
    }
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}
