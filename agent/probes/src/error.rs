//! Why the kernel side could not be brought up.

use crate::options::Backend;

/// Loading or attaching failed.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The binary was built without its BPF programs.
    #[error("this binary was built without its BPF programs; build it with `cargo xtask build`")]
    NotBuilt,
    /// The kernel has no type information.
    #[error("kernel type information (BTF) is not available at /sys/kernel/btf/vmlinux: {0}")]
    NoBtf(String),
    /// A privilege is missing.
    #[error("the kernel refuses to load BPF programs: missing {}", .missing.join(", "))]
    NotPermitted {
        /// Names of the missing capabilities.
        missing: Vec<&'static str>,
    },
    /// No back end could be attached.
    #[error("no usable hook back end: {}", .tried.iter().map(|(backend, reason)| format!("{}: {reason}", backend.name())).collect::<Vec<_>>().join("; "))]
    NoBackend {
        /// Each back end with what the kernel answered.
        tried: Vec<(Backend, String)>,
    },
    /// An operation on loaded programs or maps failed.
    #[error("{operation}: {reason}")]
    Operation {
        /// What was attempted.
        operation: &'static str,
        /// What came back.
        reason: String,
    },
}

/// An operation on the loaded kernel side that failed.
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
