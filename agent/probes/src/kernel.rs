//! What is known of the running kernel, and the object as it is loaded into it.

use std::{
    cell::Cell,
    collections::HashSet,
    panic::resume_unwind,
    thread::{self, ScopedJoinHandle},
};

use aya::{Btf, Ebpf, EbpfLoader, VerifierLogLevel, maps::HashMap};
use kerntally_abi::{CELLS, Layout, TallyKey, TallyValue, limits, role};

use crate::{
    LoadError, btf,
    error::chain,
    layout,
    object::Object,
    options::{Backend, Options},
    preemption,
    programs::{self, Tracepoints, Ways},
    returns,
    session::{Plain, map_fd},
    shared::SharedArray,
    tables,
};

/// What is known of the running kernel; large, and dropped once the programs are loaded.
pub(crate) struct Kernel {
    pub(crate) btf: Btf,
    pub(crate) shape: Shape,
    /// The loader of the first back end that is tried.
    loader: Cell<Option<EbpfLoader<'static>>>,
}

impl Kernel {
    /// Reads the kernel's own types. A loader reads them too, even one that will be given them: so it is made here,
    /// beside the other reader.
    pub(crate) fn read(options: &Options) -> Result<Self, LoadError> {
        let (btf, shape, loader) = thread::scope(|scope| {
            let beside = thread::Builder::new().spawn_scoped(scope, Btf::from_sys_fs);
            let shape = Shape::read(options);
            let loader = EbpfLoader::new();
            // Without a thread this one does its part.
            let btf = beside.map_or_else(|_| Ok(Btf::from_sys_fs()), ScopedJoinHandle::join);
            (btf, shape, loader)
        });
        let btf = btf.unwrap_or_else(|panic| resume_unwind(panic));
        let btf = btf.map_err(|error| LoadError::NoBtf(error.to_string()))?;
        Ok(Self {
            btf,
            shape: shape?,
            loader: Cell::new(Some(loader)),
        })
    }

    fn loader(&self) -> EbpfLoader<'static> {
        self.loader.take().unwrap_or_default()
    }
}

/// What the kernel's own types tell.
pub(crate) struct Shape {
    layout: Layout,
    modern: bool,
    pub(crate) ways: Ways,
}

impl Shape {
    fn read(options: &Options) -> Result<Self, LoadError> {
        let path = "/sys/kernel/btf/vmlinux";
        let bytes = std::fs::read(path).map_err(|error| LoadError::NoBtf(error.to_string()))?;
        let no_btf = |error: btf::BtfError| LoadError::NoBtf(error.to_string());
        let types = btf::Btf::parse(&bytes).map_err(no_btf)?;
        let layout = layout::read(&types, options).map_err(no_btf)?;
        let modern = layout::is_modern(&types);
        let events = preemption::of_raw_tracepoints()
            && returns::has_trace_events()
            && layout::has_trace_events(&types);
        let witnessed = modern
            && types.has_struct("trace_event_raw_sock_msg_length")
            && preemption::of_trampolines().is_some();
        let tracepoints = if modern && events {
            Tracepoints::Events
        } else if modern && layout::has_raw_cookies(&types) {
            Tracepoints::RawByCookie
        } else {
            Tracepoints::Raw
        };
        Ok(Self {
            layout,
            modern,
            ways: Ways {
                tracepoints,
                witnessed,
            },
        })
    }
}

/// Opens the object for this kernel, with maps of the size that is asked for.
pub(crate) fn load_object(
    options: &Options,
    kernel: &Kernel,
    backend: Backend,
) -> Result<Ebpf, String> {
    let hooks = programs::hooks(backend, kernel.shape.ways).map(|hook| hook.program);
    let wanted: HashSet<_> = hooks.chain(tables::programs()).collect();
    let object = Object::with(kernel.shape.modern, |name| wanted.contains(name))
        .map_err(|error| error.to_string())?;
    let witnessed = kernel.shape.ways.witnessed && backend == Backend::Fexit;
    let layout = Plain(Layout {
        witnessed: witnessed.into(),
        ..kernel.shape.layout
    });
    let default = if kernel.shape.modern {
        limits::CONNECTIONS
    } else {
        limits::CONNECTIONS_PREALLOCATED
    };
    let calls = match backend {
        Backend::Kprobe => limits::CALLING_TASKS,
        Backend::Fexit if witnessed => limits::CALLING_TASKS,
        _ => 1,
    };
    let mut loader: EbpfLoader<'_> = kernel.loader();
    loader
        .btf(Some(&kernel.btf))
        // A refusal is explained in a line; without it the kernel's first answer would be lost, because a
        // second try with a log of level 0 is refused as invalid.
        .verifier_log_level(VerifierLogLevel::STATS)
        .override_global("LAYOUT", &layout, true)
        .map_max_entries("RING", options.ring_bytes)
        // The first is nobody's.
        .map_max_entries("HEADS", options.head_slots.saturating_add(1))
        .map_max_entries("FREE_HEADS", options.head_slots)
        .map_max_entries("TALLY", options.tally_keys.saturating_add(2))
        .map_max_entries("COUNTERS", CELLS * cpu_numbers())
        .map_max_entries("CALLS", calls)
        .map_max_entries("CONNECTIONS", options.connections.unwrap_or(default));
    loader.load(object.bytes()).map_err(|error| chain(&error))
}

/// Makes the distributions that take what finds no key of its own.
pub(crate) fn add_catch_all(ebpf: &mut Ebpf) -> Result<(), String> {
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
pub(crate) fn share(ebpf: &Ebpf, name: &str, words: usize) -> Result<SharedArray, String> {
    let map = ebpf
        .map(name)
        .and_then(map_fd)
        .ok_or_else(|| format!("map `{name}` is not in the object"))?;
    SharedArray::map(map, words).map_err(|error| format!("mapping of `{name}`: {error}"))
}

/// One more than the highest number a CPU of this machine can have; 0 if the kernel does not say.
pub(crate) fn cpu_numbers() -> u32 {
    static NUMBERS: std::sync::LazyLock<u32> = std::sync::LazyLock::new(|| {
        let ranges =
            std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let last = ranges.trim().rsplit(['-', ',']).next();
        last.and_then(|last| last.parse().ok())
            .map_or(0, |last: u32| last.saturating_add(1))
    });
    *NUMBERS
}
