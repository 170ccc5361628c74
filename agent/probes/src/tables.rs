//! The tables of the BPF programs, each with its map, the program that shows it, and what its entries are.

use std::os::fd::AsFd as _;

use aya::{
    Btf, Ebpf,
    programs::{Iter, RawTracePoint},
};
use kerntally_abi::{TallyKey, TallyValue};
use kerntally_machine::{Connection, Request};

use crate::{
    LoadError,
    error::{chain, operation},
    kernel_run,
    loading::{Load, Programs},
    session::{Plain, map_fd},
    walk,
};

/// Program that is loaded to be run: it ends one exchange, or a Unix socket that is gone.
pub(crate) const SWEEP: &str = "sweep";
/// Program that is loaded to be run: it changes one entry.
const CHANGE: &str = "change_entry";

/// A table, by its entries' type.
pub(crate) trait Table {
    /// What a walk gives of each entry.
    type Entry: Copy;
    /// Name of the map.
    const MAP: &'static str;
    /// Name of the program.
    const PROGRAM: &'static str;
}

macro_rules! table {
    ($(#[$doc:meta])* $name:ident: $key:ty, $value:ty, $map:literal, $program:literal) => {
        $(#[$doc])*
        pub(crate) enum $name {}

        impl Table for $name {
            type Entry = Entry<$key, $value>;
            const MAP: &'static str = $map;
            const PROGRAM: &'static str = $program;
        }
    };
}

/// Key and value as they lie side by side.
#[derive(Clone, Copy)]
#[repr(C, packed)]
pub(crate) struct Entry<K, V> {
    pub(crate) key: K,
    pub(crate) value: V,
}

table!(
    /// Sockets that speak HTTP/1, by address.
    Connections: u64, Connection, "CONNECTIONS", "walk_connections"
);
table!(
    /// Requests beyond the two in their connection's entry, by socket and sequence number.
    Pipelined: [u64; 2], Request, "PIPELINED", "walk_pipelined"
);
table!(
    /// The fallback tally.
    Tally: TallyKey, TallyValue, "TALLY", "walk_tally"
);
table!(
    /// Inode numbers of Unix sockets, by address.
    UnixSockets: u64, u64, "UNIX_SOCKETS", "walk_unix_sockets"
);
table!(
    /// Start and exit of processes, by thread group.
    Processes: u32, [u64; 2], "PROCESSES", "walk_processes"
);

/// Programs that are run.
const RUN: [&str; 2] = [SWEEP, CHANGE];
/// Programs that show a table.
const WALKS: [&str; 5] = [
    Connections::PROGRAM,
    Pipelined::PROGRAM,
    Tally::PROGRAM,
    UnixSockets::PROGRAM,
    Processes::PROGRAM,
];

/// All programs of this module.
pub(crate) fn programs() -> impl Iterator<Item = &'static str> {
    RUN.into_iter().chain(WALKS)
}

/// The loads of the programs that are run on demand.
pub(crate) fn loads<'object>(
    programs: &mut Programs<'object>,
    btf: &'object Btf,
) -> Result<Vec<Load<'object>>, String> {
    let mut loads = Vec::new();
    for name in RUN {
        let program = programs.take(name)?;
        loads.push(Box::new(move || {
            <&mut RawTracePoint>::try_from(program)
                .and_then(RawTracePoint::load)
                .map_err(|error| format!("load of `{name}`: {}", chain(&error)))
        }) as Load<'object>);
    }
    for name in WALKS {
        let program = programs.take(name)?;
        loads.push(Box::new(move || {
            <&mut Iter>::try_from(program)
                .and_then(|it| it.load("bpf_map_elem", btf))
                .map_err(|error| format!("load of `{name}`: {}", chain(&error)))
        }));
    }
    Ok(loads)
}

/// Hands every entry of a table to `sink`.
pub(crate) fn walk<T: Table>(ebpf: &Ebpf, mut sink: impl FnMut(T::Entry)) -> Result<(), LoadError> {
    let failed = |reason: &dyn std::fmt::Display| operation("walk a table", reason);
    let missing = || failed(&T::MAP);
    let map = ebpf.map(T::MAP).and_then(map_fd).ok_or_else(missing)?;
    let program = ebpf.program(T::PROGRAM).ok_or_else(missing)?;
    let program = program.fd().map_err(|error| failed(&error))?;
    walk::walk(program.as_fd(), map, size_of::<T::Entry>(), |bytes| {
        // SAFETY: as long as an entry, which is made of integers, at any alignment.
        sink(unsafe { bytes.as_ptr().cast::<T::Entry>().read_unaligned() });
    })
    .map_err(|error| failed(&error))
}

/// Changes one entry, see [`kerntally_abi::change`]; whether that could be done.
pub(crate) fn change(ebpf: &Ebpf, what: u64, key: [u64; 3], value: u32) -> Result<bool, LoadError> {
    let arguments = [what, key[0], key[1], key[2], u64::from(value)];
    run(ebpf, CHANGE, &arguments).map(|answer| answer == 1)
}

/// Runs a program that was loaded for it.
pub(crate) fn run(ebpf: &Ebpf, name: &'static str, arguments: &[u64]) -> Result<u32, LoadError> {
    let program = ebpf
        .program(name)
        .ok_or_else(|| operation("run a program", name))?;
    let program = program
        .fd()
        .map_err(|error| operation("run a program", error))?;
    kernel_run::run(program.as_fd(), arguments).map_err(|error| operation("run a program", error))
}

/// The three words of a key, the rest of them zero.
pub(crate) fn words<K: Copy>(key: K) -> [u64; 3]
where
    Plain<K>: aya::Pod,
{
    const { assert!(size_of::<K>() <= size_of::<[u64; 3]>()) };
    let mut words = [0; 3];
    // SAFETY: a key is made of integers, and no longer than the words.
    unsafe { (&raw mut words).cast::<K>().write_unaligned(key) };
    words
}
