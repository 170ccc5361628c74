//! Which back ends a kernel can be used with. In: what the loader is asked for. Out: a report of each, really tried.

use crate::{
    LoadError, MapMemory, Session,
    kernel::Kernel,
    options::{Backend, Options},
    preemption,
};

/// What a back end answered when it was really tried.
#[derive(Clone, Debug)]
pub struct BackendReport {
    /// Which.
    pub backend: Backend,
    /// What its maps take when every program loaded and attached; otherwise what the kernel answered.
    pub result: Result<Vec<MapMemory>, String>,
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
    if kernel.shape.ways.witnessed {
        return Ok(memory);
    }
    preemption_of(backend).map_or(Ok(memory), Err)
}

/// What speaks against a back end, whether or not it would load and attach.
pub(crate) fn objection(backend: Backend) -> Option<String> {
    // The kernel's symbols are millions of bytes to read.
    preemption_of(backend).or_else(|| unsafe_trampoline_of(backend))
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
