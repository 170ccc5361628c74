//! Where a task may be preempted inside a program.
//!
//! Until it goes on, the kernel skips that program for every other task of the processor
//! (`bpf_prog_get_recursion_context`, `kernel/bpf/trampoline.c`), so figures would not be exact. Programs of
//! kprobes and of perf's tracepoints run with preemption off (`trace_call_bpf`, `kernel/trace/bpf_trace.c`).

use std::{fs, path::Path};

use aya::util::KernelVersion;

/// From here on raw tracepoints leave preemption on (a46023d5616e, "tracing: Guard `__DECLARE_TRACE()` use of
/// `__DO_TRACE_CALL()` with SRCU-fast"), and x86 knows no other models than `full` and `lazy` (7dadeaa6e851,
/// "sched: Further restrict the preemption modes").
const ALWAYS: KernelVersion = KernelVersion::new(7, 0, 0);

/// Where kernels whose model is chosen at boot show it, the one in use in brackets; needs debugfs.
const MODEL: &str = "/sys/kernel/debug/sched/preempt";

/// Whether programs of raw tracepoints may be preempted.
pub(crate) fn of_raw_tracepoints() -> bool {
    KernelVersion::current().is_ok_and(|version| version >= ALWAYS)
}

/// Why programs of trampolines (fentry, fexit) may be preempted; `None` if they are not.
pub(crate) fn of_trampolines() -> Option<String> {
    if of_raw_tracepoints() {
        return Some(reason("this kernel preempts programs of trampolines"));
    }
    let build = fs::read_to_string("/proc/version").unwrap_or_default();
    let model = fs::read_to_string(Path::new(MODEL)).ok();
    by_model(&build, model.as_deref())
}

/// `build` is the text of `/proc/version`, `model` that of [`MODEL`].
fn by_model(build: &str, model: Option<&str>) -> Option<String> {
    let word = build
        .split_whitespace()
        .find(|word| word.starts_with("PREEMPT"))?;
    if word != "PREEMPT_DYNAMIC" {
        return Some(reason(&format!("this kernel is built with {word}")));
    }
    let Some(model) = model else {
        return Some(reason(&format!(
            "this kernel chooses its preemption model at boot, and {MODEL} does not tell which it is"
        )));
    };
    let used = model.split(['(', ')']).nth(1).unwrap_or(model.trim());
    if matches!(used, "none" | "voluntary") {
        return None;
    }
    Some(reason(&format!(
        "this kernel's preemption model is `{used}`"
    )))
}

fn reason(cause: &str) -> String {
    format!("{cause}: calls of other tasks would be skipped meanwhile")
}

#[cfg(test)]
mod tests {
    use super::by_model;

    const DYNAMIC: &str = "Linux version 6.12.0 (gcc) #1 SMP PREEMPT_DYNAMIC Debian 6.12.0-1";

    #[test]
    fn kernels_without_preemption_are_safe() {
        let plain = "Linux version 5.10.0 (gcc) #1 SMP Debian 5.10.0-1";
        assert_eq!(by_model(plain, None), None);
        for model in ["none (voluntary) full", "(none) voluntary full lazy\n"] {
            assert_eq!(by_model(DYNAMIC, Some(model)), None);
        }
    }

    #[test]
    fn what_preempts_or_may_is_named() {
        for (build, model, named) in [
            (DYNAMIC, Some("none voluntary (full)"), "`full`"),
            (DYNAMIC, Some("none voluntary full (lazy)"), "`lazy`"),
            (DYNAMIC, None, "does not tell"),
            (
                "Linux version 6.1.0 #1 SMP PREEMPT Thu",
                None,
                "with PREEMPT:",
            ),
            (
                "Linux version 6.1.0 #1 SMP PREEMPT_RT Thu",
                None,
                "PREEMPT_RT",
            ),
        ] {
            let reason = by_model(build, model).unwrap_or_default();
            assert!(reason.contains(named), "{reason}");
        }
    }
}
