//! Which programs a back end consists of, and how each is loaded, attached and detached.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Btf, Ebpf,
    programs::{
        FEntry, FExit, KProbe, Program, ProgramError, RawTracePoint, TracePoint,
        fentry::FEntryLinkId, fexit::FExitLinkId, kprobe::KProbeLinkId,
        raw_trace_point::RawTracePointLinkId, trace_point::TracePointLinkId,
    },
    sys::SyscallError,
};

use aya_obj::btf::BtfKind;
use kerntally_abi::direction;

use crate::{
    kernel_run::attach_raw_tracepoint,
    loading::{Load, Programs},
    options::Backend,
    returns::ReturnHook,
};

/// A program and the place it is attached to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hook {
    /// Name of the program in the object.
    pub(crate) program: &'static str,
    /// Kernel function or tracepoint.
    pub(crate) target: &'static str,
    kind: Kind,
    /// Kernels without the target do not need it.
    optional: bool,
}

/// How a program comes to be run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Fexit,
    Fentry,
    Kprobe,
    Kretprobe,
    RawTracepoint,
    /// One of several that the program tells apart by this cookie.
    RawByCookie(u64),
    /// A tracepoint through perf, of this category.
    TraceEvent(&'static str),
}

impl Kind {
    /// Loads a program. Only trampolines are bound to their `target`.
    fn load(self, program: &mut Program, target: &str, btf: &Btf) -> Result<(), ProgramError> {
        match self {
            Self::Fexit => <&mut FExit>::try_from(program).and_then(|it| it.load(target, btf)),
            Self::Fentry => <&mut FEntry>::try_from(program).and_then(|it| it.load(target, btf)),
            Self::Kprobe | Self::Kretprobe => {
                <&mut KProbe>::try_from(program).and_then(KProbe::load)
            }
            Self::RawTracepoint | Self::RawByCookie(_) => {
                <&mut RawTracePoint>::try_from(program).and_then(RawTracePoint::load)
            }
            Self::TraceEvent(_) => <&mut TracePoint>::try_from(program).and_then(TracePoint::load),
        }
    }

    /// Whether some kernels attach it only once.
    const fn is_traced(self) -> bool {
        matches!(self, Self::Fexit | Self::Fentry)
    }

    /// Takes what is traced out of the kernel.
    fn unload(self, program: &mut Program) -> Result<(), ProgramError> {
        match self {
            Self::Fexit => <&mut FExit>::try_from(program).and_then(FExit::unload),
            Self::Fentry => <&mut FEntry>::try_from(program).and_then(FEntry::unload),
            _ => Ok(()),
        }
    }
}

/// How programs are attached to tracepoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tracepoints {
    /// Directly: the cheapest, where the kernel runs such programs to their end.
    Raw,
    /// Likewise, one program at those that tell the same of different directions: the kernel gives it the cookies of its
    /// links.
    RawByCookie,
    /// Through perf, whose callbacks are not preempted.
    Events,
}

/// How a kernel's hooks are to be used.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ways {
    pub(crate) tracepoints: Tracepoints,
    /// Whether the kernel may skip programs of trampolines, and has tracepoints that take what it skips.
    pub(crate) witnessed: bool,
}

const fn fexit(program: &'static str, target: &'static str, optional: bool) -> Hook {
    Hook {
        program,
        target,
        kind: Kind::Fexit,
        optional,
    }
}

const fn kprobe(program: &'static str, target: &'static str, optional: bool) -> Hook {
    Hook {
        program,
        target,
        kind: Kind::Kprobe,
        optional,
    }
}

const fn kretprobe(program: &'static str, target: &'static str, optional: bool) -> Hook {
    Hook {
        program,
        target,
        kind: Kind::Kretprobe,
        optional,
    }
}

const fn tracepoint(name: &'static str) -> Hook {
    raw(name, name)
}

const fn raw(program: &'static str, target: &'static str) -> Hook {
    Hook {
        program,
        target,
        kind: Kind::RawTracepoint,
        optional: false,
    }
}

const fn by_cookie(program: &'static str, target: &'static str, cookie: u8) -> Hook {
    Hook {
        program,
        target,
        kind: Kind::RawByCookie(cookie as u64),
        optional: false,
    }
}

const fn event(program: &'static str, category: &'static str, target: &'static str) -> Hook {
    Hook {
        program,
        target,
        kind: Kind::TraceEvent(category),
        optional: false,
    }
}

/// Data hooks of fexit. The `sendpage` operations went in 6.5.
const FEXIT: &[Hook] = &[
    fexit("fexit_inet_sendmsg", "inet_sendmsg", false),
    fexit("fexit_inet_recvmsg", "inet_recvmsg", false),
    fexit("fexit_inet6_sendmsg", "inet6_sendmsg", true),
    fexit("fexit_inet6_recvmsg", "inet6_recvmsg", true),
    fexit("fexit_unix_stream_sendmsg", "unix_stream_sendmsg", false),
    fexit("fexit_unix_stream_recvmsg", "unix_stream_recvmsg", false),
    fexit("fexit_inet_sendpage", "inet_sendpage", true),
    fexit("fexit_unix_stream_sendpage", "unix_stream_sendpage", true),
];

/// The last moment of a Unix socket.
const RELEASE: &[Hook] = &[Hook {
    program: "fentry_unix_release",
    target: "unix_release",
    kind: Kind::Fentry,
    optional: false,
}];

/// The same where the kernel preempts programs of fentry, and skips them for others meanwhile.
const RELEASE_UNSKIPPED: &[Hook] = &[kprobe("kprobe_unix_release", "unix_release", false)];

/// Tracepoints that take what was skipped of [`FEXIT`]: they must be there before it.
const fn witnesses(tracepoints: Tracepoints) -> &'static [Hook] {
    const RAW: &[Hook] = &[
        raw("witness_send_length", "sock_send_length"),
        raw("witness_recv_length", "sock_recv_length"),
    ];
    const EVENTS: &[Hook] = &[
        event("event_witness_send", "sock", "sock_send_length"),
        event("event_witness_recv", "sock", "sock_recv_length"),
    ];
    match tracepoints {
        Tracepoints::Raw | Tracepoints::RawByCookie => RAW,
        Tracepoints::Events => EVENTS,
    }
}

const SOCK_TRACEPOINT: &[Hook] = &[
    tracepoint("sock_send_length"),
    tracepoint("sock_recv_length"),
];

const SOCK_BY_COOKIE: &[Hook] = &[
    by_cookie("sock_length", "sock_send_length", direction::EGRESS),
    by_cookie("sock_length", "sock_recv_length", direction::INGRESS),
];

const SOCK_EVENTS: &[Hook] = &[
    event("event_sock_send_length", "sock", "sock_send_length"),
    event("event_sock_recv_length", "sock", "sock_recv_length"),
];

/// Data hooks of kprobe: returns first, so that no entry waits for a return that nobody sees.
const KPROBE: &[Hook] = &[
    kretprobe("kretprobe_inet_sendmsg", "inet_sendmsg", false),
    kretprobe("kretprobe_inet_recvmsg", "inet_recvmsg", false),
    kretprobe("kretprobe_inet6_sendmsg", "inet6_sendmsg", true),
    kretprobe("kretprobe_inet6_recvmsg", "inet6_recvmsg", true),
    kretprobe(
        "kretprobe_unix_stream_sendmsg",
        "unix_stream_sendmsg",
        false,
    ),
    kretprobe(
        "kretprobe_unix_stream_recvmsg",
        "unix_stream_recvmsg",
        false,
    ),
    kretprobe("kretprobe_inet_sendpage", "inet_sendpage", true),
    kretprobe(
        "kretprobe_unix_stream_sendpage",
        "unix_stream_sendpage",
        true,
    ),
    kprobe("kprobe_unix_release", "unix_release", false),
    kprobe("kprobe_inet_sendmsg", "inet_sendmsg", false),
    kprobe("kprobe_inet_recvmsg", "inet_recvmsg", false),
    kprobe("kprobe_inet6_sendmsg", "inet6_sendmsg", true),
    kprobe("kprobe_inet6_recvmsg", "inet6_recvmsg", true),
    kprobe("kprobe_unix_stream_sendmsg", "unix_stream_sendmsg", false),
    kprobe("kprobe_unix_stream_recvmsg", "unix_stream_recvmsg", false),
    kprobe("kprobe_inet_sendpage", "inet_sendpage", true),
    kprobe("kprobe_unix_stream_sendpage", "unix_stream_sendpage", true),
];

const SYSCALL: &[Hook] = &[tracepoint("sys_exit")];

const SYSCALL_EVENTS: &[Hook] = &[event("event_sys_exit", "raw_syscalls", "sys_exit")];

/// The lives of sockets and processes, for every back end.
const LIFECYCLE: &[Hook] = &[
    tracepoint("inet_sock_set_state"),
    tracepoint("tcp_destroy_sock"),
    tracepoint("sched_process_exec"),
    tracepoint("sched_process_exit"),
];

/// The same where raw tracepoints are preempted. The lives of sockets are hooked both ways: what a softirq
/// does while a program that perf runs is under way only the raw ones see.
const LIFECYCLE_EVENTS: &[Hook] = &[
    tracepoint("inet_sock_set_state"),
    tracepoint("tcp_destroy_sock"),
    event("event_sock_set_state", "sock", "inet_sock_set_state"),
    event("event_destroy_sock", "tcp", "tcp_destroy_sock"),
    event("event_process_exec", "sched", "sched_process_exec"),
    event("event_process_exit", "sched", "sched_process_exit"),
];

/// The link that keeps a hook in place.
#[derive(Debug)]
pub(crate) enum Link {
    Fexit(&'static str, FExitLinkId),
    Fentry(&'static str, FEntryLinkId),
    Kprobe(&'static str, KProbeLinkId),
    Return(ReturnHook),
    RawTracepoint(&'static str, RawTracePointLinkId),
    /// Lives as long as its descriptor.
    RawByCookie(OwnedFd),
    TraceEvent(&'static str, TracePointLinkId),
}

/// The hooks of a back end: lives first, so that no close is missed once data is seen.
pub(crate) fn hooks(
    backend: Backend,
    Ways {
        tracepoints,
        witnessed,
    }: Ways,
) -> impl Iterator<Item = &'static Hook> {
    let data = match (backend, tracepoints) {
        (Backend::Fexit, _) => FEXIT,
        (Backend::SockTracepoint, Tracepoints::Raw) => SOCK_TRACEPOINT,
        (Backend::SockTracepoint, Tracepoints::RawByCookie) => SOCK_BY_COOKIE,
        (Backend::SockTracepoint, Tracepoints::Events) => SOCK_EVENTS,
        (Backend::Kprobe, _) => KPROBE,
        (Backend::Syscall, Tracepoints::Raw | Tracepoints::RawByCookie) => SYSCALL,
        (Backend::Syscall, Tracepoints::Events) => SYSCALL_EVENTS,
    };
    let lives = match tracepoints {
        Tracepoints::Raw | Tracepoints::RawByCookie => LIFECYCLE,
        Tracepoints::Events => LIFECYCLE_EVENTS,
    };
    let (witnesses, release): (&[Hook], _) = match backend {
        Backend::Fexit if witnessed => (witnesses(tracepoints), RELEASE_UNSKIPPED),
        Backend::Fexit => (&[], RELEASE),
        _ => (&[], &[] as &[Hook]),
    };
    // Links are undone from the last to the first: no call is marked once nobody looks for the mark.
    lives.iter().chain(witnesses).chain(data).chain(release)
}

/// The loads of the hooks' programs, each once.
pub(crate) fn loads<'object>(
    programs: &mut Programs<'object>,
    hooks: impl Iterator<Item = &'static Hook>,
    btf: &'object Btf,
) -> Result<Vec<Load<'object>>, String> {
    let mut known = HashSet::new();
    hooks
        .filter(|hook| known.insert(hook.program))
        .map(|hook| {
            let program = programs.take(hook.program)?;
            Ok(Box::new(|| hook.load(program, btf)) as Load<'object>)
        })
        .collect()
}

/// The second loads of those programs that some kernels attach only once.
pub(crate) fn reloads<'object>(
    programs: &mut Programs<'object>,
    hooks: impl Iterator<Item = &'static Hook>,
    btf: &'object Btf,
) -> Result<Vec<Load<'object>>, String> {
    hooks
        .filter(|hook| hook.kind.is_traced())
        .map(|hook| {
            let program = programs.take(hook.program)?;
            Ok(Box::new(|| hook.reload(program, btf)) as Load<'object>)
        })
        .collect()
}

impl Hook {
    /// Loads the program, unless the kernel lacks an optional target.
    fn load(&self, program: &mut Program, btf: &Btf) -> Result<(), String> {
        if self.optional
            && btf
                .id_by_type_name_kind(self.target, BtfKind::Func)
                .is_err()
        {
            return Ok(());
        }
        let loaded = self.kind.load(program, self.target, btf);
        loaded.map_err(|error| self.explain("load", &error))
    }

    /// Whether it is loaded.
    pub(crate) fn is_loaded(&self, ebpf: &Ebpf) -> bool {
        ebpf.program(self.program)
            .is_some_and(|program| program.fd().is_ok())
    }

    /// Attaches the loaded program; `None` if the kernel wants it loaded again first.
    ///
    /// Kernels before 5.13 attach a program of fexit or fentry once and then answer that there is no such
    /// target (f3a95075549e, "bpf: Allow trampoline re-attach").
    pub(crate) fn attach(&self, ebpf: &mut Ebpf) -> Result<Option<Link>, String> {
        match self.try_attach(ebpf) {
            Err(error) if self.kind.is_traced() && is_absent(&error) => Ok(None),
            Err(error) => Err(self.explain("attach", &error)),
            Ok(link) => Ok(Some(link)),
        }
    }

    fn try_attach(&self, ebpf: &mut Ebpf) -> Result<Link, ProgramError> {
        let program = self.program_mut(ebpf)?;
        match self.kind {
            Kind::Fexit => <&mut FExit>::try_from(program)
                .and_then(FExit::attach)
                .map(|id| Link::Fexit(self.program, id)),
            Kind::Fentry => <&mut FEntry>::try_from(program)
                .and_then(FEntry::attach)
                .map(|id| Link::Fentry(self.program, id)),
            Kind::Kprobe => <&mut KProbe>::try_from(program)
                .and_then(|it| it.attach(self.target, 0))
                .map(|id| Link::Kprobe(self.program, id)),
            Kind::Kretprobe => match ReturnHook::attach(program.fd()?.as_fd(), self.target) {
                Ok(hook) => Ok(Link::Return(hook)),
                // Without tracefs there is room for fewer calls at a time.
                Err(_) => <&mut KProbe>::try_from(program)
                    .and_then(|it| it.attach(self.target, 0))
                    .map(|id| Link::Kprobe(self.program, id)),
            },
            Kind::RawTracepoint => <&mut RawTracePoint>::try_from(program)
                .and_then(|it| it.attach(self.target))
                .map(|id| Link::RawTracepoint(self.program, id)),
            Kind::RawByCookie(cookie) => {
                let link = attach_raw_tracepoint(program.fd()?.as_fd(), self.target, cookie);
                let call = "bpf_raw_tracepoint_open";
                link.map(Link::RawByCookie)
                    .map_err(|io_error| SyscallError { call, io_error }.into())
            }
            Kind::TraceEvent(category) => <&mut TracePoint>::try_from(program)
                .and_then(|it| it.attach(category, self.target))
                .map(|id| Link::TraceEvent(self.program, id)),
        }
    }

    /// Loads the program again, if it was loaded.
    fn reload(&self, program: &mut Program, btf: &Btf) -> Result<(), String> {
        if program.fd().is_err() {
            return Ok(());
        }
        self.kind
            .unload(program)
            .and_then(|()| self.kind.load(program, self.target, btf))
            .map_err(|error| self.explain("second load", &error))
    }

    fn program_mut<'ebpf>(
        &self,
        ebpf: &'ebpf mut Ebpf,
    ) -> Result<&'ebpf mut Program, ProgramError> {
        ebpf.program_mut(self.program)
            .ok_or(ProgramError::NotLoaded)
    }

    fn explain(&self, operation: &str, error: &dyn std::error::Error) -> String {
        let mut text = format!(
            "{operation} of `{}` at `{}`: {error}",
            self.program, self.target
        );
        let mut source = error.source();
        while let Some(inner) = source {
            text.push_str(": ");
            text.push_str(&inner.to_string());
            source = inner.source();
        }
        text
    }
}

/// Whether the kernel answered that there is no such thing.
fn is_absent(error: &ProgramError) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(io) = inner.downcast_ref::<std::io::Error>() {
            return io.kind() == std::io::ErrorKind::NotFound;
        }
        source = inner.source();
    }
    false
}

impl Link {
    /// Takes the hook away.
    pub(crate) fn detach(self, ebpf: &mut Ebpf) -> Result<(), String> {
        match self {
            Self::Fexit(name, id) => detach::<FExit>(ebpf, name, |it| it.detach(id)),
            Self::Fentry(name, id) => detach::<FEntry>(ebpf, name, |it| it.detach(id)),
            Self::Kprobe(name, id) => detach::<KProbe>(ebpf, name, |it| it.detach(id)),
            Self::Return(hook) => hook
                .detach()
                .map_err(|error| format!("detach of a return: {error}")),
            Self::RawTracepoint(name, id) => {
                detach::<RawTracePoint>(ebpf, name, |it| it.detach(id))
            }
            Self::RawByCookie(link) => {
                drop(link);
                Ok(())
            }
            Self::TraceEvent(name, id) => detach::<TracePoint>(ebpf, name, |it| it.detach(id)),
        }
    }
}

fn detach<'a, P: 'a>(
    ebpf: &'a mut Ebpf,
    name: &str,
    detach: impl FnOnce(&'a mut P) -> Result<(), ProgramError>,
) -> Result<(), String>
where
    &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
{
    let program = ebpf
        .program_mut(name)
        .ok_or_else(|| format!("program `{name}` is gone"))?;
    <&mut P>::try_from(program)
        .and_then(detach)
        .map_err(|error| format!("detach of `{name}`: {error}"))
}
