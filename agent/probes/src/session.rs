//! The loaded kernel side while it runs.

use std::{
    os::fd::{AsFd, BorrowedFd},
    sync::atomic::{Ordering, fence},
};

use aya::{
    Btf, Ebpf,
    maps::{HashMap, MapData, PerCpuArray, PerCpuValues, RingBuf, Stack},
};
use kerntally_abi::{
    CELLS, Control, FilterKey, Layout, TallyKey, TallyValue, change, decision, resting, role,
};
use kerntally_machine::{Connection, Request};

use crate::{
    LoadError,
    error::operation,
    kernel::{Kernel, add_catch_all, cpu_numbers, load_object, share},
    loading::{self, Programs},
    options::{Backend, BackendChoice, Options},
    programs::{self, Hook, Link, Ways},
    record::{self, Record},
    returns,
    shared::SharedArray,
    survey::objection,
    tables::{self, Connections, Entry, Tally, UnixSockets},
    tally::{TallyDelta, TallyReader},
};

/// Whether exchanges of a [`FilterKey`] are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Watch.
    Watch,
    /// Do not look at such sockets until the filter's generation changes.
    Exclude,
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
    pub(crate) ebpf: Ebpf,
    pub(crate) ring: RingBuf<MapData>,
    pub(crate) counters: SharedArray,
    switches: SharedArray,
    tally: TallyReader,
    links: Vec<Link>,
    backend: Backend,
    ways: Ways,
    refused: Vec<(Backend, String)>,
    control: Control,
    /// Exchanges that were open when the probe was switched off, by role.
    pub(crate) switched_off: [u64; 2],
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

    pub(crate) fn try_backend(
        options: &Options,
        kernel: &Kernel,
        backend: Backend,
    ) -> Result<Self, String> {
        if backend == Backend::Kprobe {
            returns::clear_abandoned();
        }
        let mut ebpf = load_object(options, kernel, backend)?;
        let hooks = programs::hooks(backend, kernel.shape.ways);
        let mut programs = Programs::of(&mut ebpf);
        let mut loads = programs::loads(&mut programs, hooks, &kernel.btf)?;
        loads.extend(tables::loads(&mut programs, &kernel.btf)?);
        loading::load(loads)?;
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
            ways: kernel.shape.ways,
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

    fn link(&mut self) -> Result<(), String> {
        if !self.links.is_empty() {
            return Ok(());
        }
        for hook in programs::hooks(self.backend, self.ways) {
            if hook.is_loaded(&self.ebpf) {
                let link = self.link_of(hook)?;
                self.links.push(link);
            }
        }
        Ok(())
    }

    /// Attaches one hook. Where the kernel wants it loaded again, it wants that of all of its kind: they are loaded
    /// together, with the kernel's types read once.
    fn link_of(&mut self, hook: &'static Hook) -> Result<Link, String> {
        if let Some(link) = hook.attach(&mut self.ebpf)? {
            return Ok(link);
        }
        let btf = Btf::from_sys_fs().map_err(|error| error.to_string())?;
        let hooks = programs::hooks(self.backend, self.ways);
        let mut programs = Programs::of(&mut self.ebpf);
        loading::load(programs::reloads(&mut programs, hooks, &btf)?)?;
        drop(btf);
        crate::return_free_memory();
        hook.attach(&mut self.ebpf)?
            .ok_or_else(|| format!("attach of `{}`: refused after a second load", hook.program))
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

pub(crate) fn map_fd(map: &aya::maps::Map) -> Option<BorrowedFd<'_>> {
    use aya::maps::Map;
    let (Map::Array(data)
    | Map::HashMap(data)
    | Map::LruHashMap(data)
    | Map::PerCpuArray(data)
    | Map::ProgramArray(data)
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
