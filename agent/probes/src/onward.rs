//! The program that data hooks jump to, instead of each having its own copy of what follows a call: the verifier
//! looks at it once. In: a back end. Out: the program, loaded and put where the hooks find it.

use aya::{Btf, Ebpf, maps::ProgramArray};

use crate::{
    error::chain,
    loading::{Load, Programs},
    options::Backend,
    programs::{Kind, Tracepoints, Ways},
};

/// The map in which hooks find it, at index 0.
const MAP: &str = "SHARED";

/// A program that is attached to nothing.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shared {
    /// Its name in the object.
    pub(crate) program: &'static str,
    kind: Kind,
}

impl Shared {
    /// What the data hooks of a back end share, if anything: trampolines cannot jump to a program of another function,
    /// and a single hook need not.
    pub(crate) fn of(backend: Backend, ways: Ways) -> Option<Self> {
        let by_tracepoints = match ways.tracepoints {
            Tracepoints::Raw => ("shared_by_raw", Kind::RawTracepoint),
            Tracepoints::Events => ("shared_by_events", Kind::TraceEvent("sock")),
        };
        let (program, kind) = match backend {
            Backend::SockTracepoint => by_tracepoints,
            // Its witnesses are tracepoints.
            Backend::Fexit if ways.witnessed => by_tracepoints,
            Backend::Kprobe => ("shared_by_returns", Kind::Kretprobe),
            Backend::Fexit | Backend::Syscall => return None,
        };
        Some(Self { program, kind })
    }

    /// Its load.
    pub(crate) fn load<'object>(
        self,
        programs: &mut Programs<'object>,
        btf: &'object Btf,
    ) -> Result<Load<'object>, String> {
        let program = programs.take(self.program)?;
        Ok(Box::new(move || {
            self.kind
                .load(program, self.program, btf)
                .map_err(|error| format!("load of `{}`: {}", self.program, chain(&error)))
        }))
    }

    /// Puts the loaded program where the hooks find it, until the map is gone.
    pub(crate) fn put(self, ebpf: &mut Ebpf) -> Result<(), String> {
        let absent = || format!("program `{}` is not in the object", self.program);
        let program = ebpf.program(self.program).ok_or_else(absent)?;
        let fd = program.fd().map_err(|error| chain(&error))?;
        let fd = fd.try_clone().map_err(|error| error.to_string())?;
        let map = ebpf
            .map_mut(MAP)
            .ok_or_else(|| format!("map `{MAP}` is not in the object"))?;
        ProgramArray::try_from(map)
            .and_then(|mut array| array.set(0, &fd, 0))
            .map_err(|error| chain(&error))
    }
}
