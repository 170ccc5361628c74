//! What the agent needs before it touches the kernel: privileges, named when they are missing.

use procfs::FromRead;

/// A capability the agent uses, with what for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Capability {
    bit: u8,
    /// Name as documentation has it.
    pub(crate) name: &'static str,
    /// What it is needed for.
    pub(crate) purpose: &'static str,
    required: bool,
}

/// `CAP_SYS_ADMIN` stands for the two that were split from it.
const SYS_ADMIN: u8 = 21;
const BPF: u8 = 39;
const PERFMON: u8 = 38;

const NEEDED: [Capability; 4] = [
    Capability {
        bit: BPF,
        name: "CAP_BPF",
        purpose: "load programs and create maps",
        required: true,
    },
    Capability {
        bit: PERFMON,
        name: "CAP_PERFMON",
        purpose: "attach tracing programs",
        required: true,
    },
    Capability {
        bit: 19,
        name: "CAP_SYS_PTRACE",
        purpose: "read the names of other users' processes",
        required: false,
    },
    Capability {
        bit: 2,
        name: "CAP_DAC_READ_SEARCH",
        purpose: "read /proc of other users' processes",
        required: false,
    },
];

/// What this process may do.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Privileges {
    effective: u64,
}

impl Privileges {
    /// Those of this process.
    pub(crate) fn of_this_process() -> std::io::Result<Self> {
        let text = std::fs::read("/proc/self/status")?;
        let status =
            procfs::process::Status::from_read(text.as_slice()).map_err(std::io::Error::other)?;
        Ok(Self {
            effective: status.capeff,
        })
    }

    #[cfg(test)]
    fn with(effective: u64) -> Self {
        Self { effective }
    }

    fn has(self, capability: &Capability) -> bool {
        let bit = |number: u8| self.effective & (1 << number) != 0;
        let by_admin = matches!(capability.bit, BPF | PERFMON) && bit(SYS_ADMIN);
        bit(capability.bit) || by_admin
    }

    /// Capabilities without which nothing works.
    pub(crate) fn missing(self) -> Vec<Capability> {
        NEEDED
            .into_iter()
            .filter(|needed| needed.required && !self.has(needed))
            .collect()
    }

    /// Capabilities without which names of other users' processes stay unknown.
    pub(crate) fn desirable(self) -> Vec<Capability> {
        NEEDED
            .into_iter()
            .filter(|needed| !needed.required && !self.has(needed))
            .collect()
    }
}

/// One sentence that names what is missing and the command that grants it.
pub(crate) fn advice(missing: &[Capability]) -> String {
    let names: Vec<&str> = missing.iter().map(|capability| capability.name).collect();
    format!(
        "missing {}; run it as root (sudo kerntally run), or grant them: {}",
        names.join(", "),
        grant()
    )
}

fn grant() -> String {
    let names: Vec<String> = NEEDED
        .iter()
        .map(|needed| needed.name.to_lowercase())
        .collect();
    let binary = std::env::current_exe().map_or_else(
        |_| "kerntally".to_owned(),
        |path| path.display().to_string(),
    );
    format!("sudo setcap {}+ep {binary}", names.join(","))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(capabilities: &[Capability]) -> Vec<&'static str> {
        capabilities
            .iter()
            .map(|capability| capability.name)
            .collect()
    }

    #[test]
    fn names_what_is_missing() {
        let none = Privileges::with(0);
        assert_eq!(names(&none.missing()), ["CAP_BPF", "CAP_PERFMON"]);
        assert_eq!(
            names(&none.desirable()),
            ["CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH"]
        );
        let only_bpf = Privileges::with(1 << BPF);
        assert_eq!(names(&only_bpf.missing()), ["CAP_PERFMON"]);
    }

    #[test]
    fn the_old_capability_covers_both_halves() {
        assert!(Privileges::with(1 << SYS_ADMIN).missing().is_empty());
        assert!(Privileges::with(u64::MAX).desirable().is_empty());
    }

    #[test]
    fn advice_is_a_command() {
        let text = advice(&Privileges::with(0).missing());
        assert!(text.contains("missing CAP_BPF, CAP_PERFMON"), "{text}");
        assert!(text.contains("sudo setcap cap_bpf,cap_perfmon"), "{text}");
    }
}
