//! The kernel side while the agent runs: switching it, reading it, telling it whom to leave alone.

use std::collections::HashSet;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use kerntally_abi::{Counter, FilterKey, TALLY_OFFSET, TALLY_SCALE, process_event};
use kerntally_model::{ProcessKey, Scheme, Time};
use kerntally_pipeline::aggregate::Part;
use kerntally_pipeline::{ActiveRequests, Outcome, Pipeline, ProcessNews, stitch};
use kerntally_probes::{
    Backend, Decision, LoadError, Options, ProcessView, ProgramStat, Record, Session, TallyDelta,
};

use crate::ledger::{Accounts, Sources};

/// The loaded programs, with what was decided about processes.
#[derive(Debug)]
pub(crate) struct Hooks {
    session: Session,
    /// Processes with decisions in the kernel: most processes that end have none.
    decided: HashSet<u32>,
    /// What was switched off before the agent began to stop.
    off_before_stop: Option<[u64; 2]>,
}

/// What a drain left to be told to the kernel.
#[derive(Debug, Default)]
struct Orders {
    exclude: HashSet<FilterKey>,
    forget: HashSet<u32>,
}

impl Hooks {
    pub(crate) fn load(options: &Options) -> Result<Self, LoadError> {
        let session = Session::load(options)?;
        kerntally_probes::return_free_memory();
        Ok(Self {
            session,
            decided: HashSet::new(),
            off_before_stop: None,
        })
    }

    pub(crate) fn backend(&self) -> Backend {
        self.session.backend()
    }

    pub(crate) fn refused(&self) -> &[(Backend, String)] {
        self.session.refused()
    }

    pub(crate) fn attached(&self) -> bool {
        self.session.attached()
    }

    pub(crate) fn map_bytes(&self) -> u64 {
        self.session.map_bytes()
    }

    /// What each loaded program cost so far, where the kernel keeps count.
    pub(crate) fn program_stats(&self) -> Vec<ProgramStat> {
        self.session.program_stats()
    }

    /// A descriptor that becomes readable when the ring asks to be drained.
    pub(crate) fn ring_fd(&self) -> std::io::Result<OwnedFd> {
        self.session.as_fd().try_clone_to_owned()
    }

    /// Switches the tallying. Detaching waits for the kernel, up to a second: meanwhile other tasks go on.
    pub(crate) fn switch(&mut self, on: bool) -> Result<(), LoadError> {
        let session = &mut self.session;
        tokio::task::block_in_place(|| {
            if on {
                session.attach()
            } else {
                session.detach()
            }
        })
    }

    /// The last detaching: what it finds open was in flight.
    pub(crate) fn stop(&mut self) -> Result<(), LoadError> {
        let counters = self.session.counters();
        self.off_before_stop = Some(
            [Counter::ProbeOffServer, Counter::ProbeOffClient]
                .map(|counter| counters.value(counter)),
        );
        self.switch(false)
    }

    /// Takes every record out of the ring and through the pipeline; returns how many there were.
    pub(crate) fn drain(&mut self, pipeline: &mut Pipeline, now: Time) -> usize {
        let mut orders = Orders::default();
        let count = self.session.drain(|record| match record {
            Record::Exchange(view) => {
                let exchange = stitch::exchange(&stitch::Input {
                    record: &view.record,
                    end: view.end,
                    local: view.local(),
                    remote: view.remote(),
                    head: view.head,
                    peer_name: view.peer_name,
                });
                let outcome = pipeline.on_exchange(&exchange, now);
                if matches!(outcome, Outcome::Excluded | Outcome::Unidentified) {
                    orders.exclude.insert(FilterKey {
                        tgid: view.record.tgid,
                        port: exchange.server_port(),
                        role: view.record.role,
                        reserved: 0,
                    });
                }
            }
            Record::Process(view) => {
                if let Some(news) = take_in(pipeline, &view)
                    && news != ProcessNews::FirstSeen
                {
                    orders.forget.insert(view.record.tgid);
                }
            }
        });
        self.carry_out(&orders);
        count
    }

    /// Says whether the next record is to wake the loop.
    pub(crate) fn rest(&mut self, rests: bool) {
        self.session.rest(rests);
    }

    /// Whether only a sweep may find the end of what is open.
    pub(crate) fn must_sweep(&self) -> bool {
        self.session.must_sweep().unwrap_or(true)
    }

    /// Takes in what the kernel side tallied itself while the ring was full.
    pub(crate) fn fold(&mut self, pipeline: &mut Pipeline, proc: &Path, now: Time) {
        // A number that was given to another process meanwhile only keeps its place for longer.
        let ended = |tgid: u32| !proc.join(tgid.to_string()).exists();
        let read = self
            .session
            .tallied(ended, |delta| fold(pipeline, &delta, now));
        if let Err(error) = read {
            tracing::warn!(%error, "what the kernel side tallied cannot be read");
        }
    }

    /// Tells the pipeline which requests are open. Walks the connection table.
    pub(crate) fn show_open(&self, pipeline: &mut Pipeline, now: Time) {
        let open = match self.session.open_requests() {
            Ok(open) => open,
            Err(error) => {
                tracing::warn!(%error, "open requests cannot be read");
                return;
            }
        };
        let active: Vec<_> = open
            .iter()
            .map(|open| ActiveRequests {
                process: ProcessKey {
                    tgid: open.tgid,
                    start_ns: open.process_start_ns,
                },
                port: open.server_port,
                method: open.method.text(),
                scheme: Scheme::Http,
                count: open.count,
            })
            .collect();
        pipeline.set_active(&active, now);
    }

    /// Ends what no hook sees the end of.
    pub(crate) fn sweep(&mut self) {
        if let Err(error) = self.session.sweep() {
            tracing::debug!(%error, "sweep failed");
        }
    }

    /// Ends what has been open since before `before_ns`.
    pub(crate) fn cut(&mut self, before_ns: u64) {
        if let Err(error) = self.session.cut(before_ns) {
            tracing::debug!(%error, "ending old exchanges failed");
        }
    }

    /// After a reload: every decision is taken anew.
    pub(crate) fn renew_filter(&mut self) -> Result<(), LoadError> {
        self.decided.clear();
        self.session.renew_filter()
    }

    /// The ledger now. Walking the kernel's open exchanges is dear, so only answers ask for it.
    pub(crate) fn accounts(
        &self,
        pipeline: &Pipeline,
        with_open: bool,
    ) -> Result<Accounts, LoadError> {
        let counters = self.session.counters();
        let open_kernel = if with_open {
            Some(self.session.open()?)
        } else {
            None
        };
        Ok(Accounts::of(&Sources {
            pipeline: pipeline.ledger(),
            kernel: &counters,
            open_kernel,
            off_before_stop: self.off_before_stop,
        }))
    }

    /// Records of excluded processes that come later cost only their way through the ring, so a decision
    /// that cannot be written is no failure.
    fn carry_out(&mut self, orders: &Orders) {
        for tgid in &orders.forget {
            if self.decided.remove(tgid)
                && let Err(error) = self.session.forget(*tgid)
            {
                tracing::debug!(%error, "cannot forget a decision");
            }
        }
        for key in &orders.exclude {
            self.decided.insert(key.tgid);
            if let Err(error) = self.session.decide(*key, Decision::Exclude) {
                tracing::debug!(%error, "cannot write a decision");
            }
        }
        // Their sockets were met before there was a decision, and would not ask again.
        if !orders.exclude.is_empty() {
            self.session.apply_decisions();
        }
    }
}

/// Tallies exchanges that the kernel side counted.
fn fold(pipeline: &mut Pipeline, delta: &TallyDelta, now: Time) {
    let alike = stitch::tallied(&delta.key);
    let count = delta.count();
    let (min_ns, max_ns) = delta.extremes_ns();
    let part = Part {
        scale: TALLY_SCALE,
        offset: TALLY_OFFSET,
        counts: delta.buckets.as_slice(),
        count,
        sum_ns: delta.sum_ns.into(),
        min_ns,
        max_ns,
    };
    let outcome = if delta.key.tgid == 0 {
        pipeline.on_unknown_part(alike.role, &part, now)
    } else {
        pipeline.on_part(&alike, &part, now)
    };
    pipeline.add_outcome(alike.role, outcome, count);
}

fn take_in(pipeline: &mut Pipeline, view: &ProcessView) -> Option<ProcessNews> {
    let news = match view.record.event {
        process_event::FIRST_SEEN => ProcessNews::FirstSeen,
        process_event::EXEC => ProcessNews::Exec,
        process_event::EXIT => ProcessNews::Exit,
        _ => return None,
    };
    let process = ProcessKey {
        tgid: view.record.tgid,
        start_ns: view.record.start_ns,
    };
    pipeline.on_process(process, news, &view.comm());
    Some(news)
}
