//! What the agent answers on its control socket.

use kerntally_model::ProcessKey;
use kerntally_pipeline::Whom;
use serde_json::{Value, json};

use super::agent::Agent;
use super::tail::Wanted;
use crate::control::{Answer, Request};
use crate::inspection::named_by;
use crate::ledger::role_name;
use crate::output::with_schema;
use crate::probes::{self, PROBES};
use crate::state::{keep_switches, switches_file};

impl Agent {
    /// Answers one request.
    pub(super) fn answer(&mut self, request: Request) -> Answer {
        match request {
            Request::Status {} => Answer::Ok(with_schema(&self.status())),
            Request::Ledger {} => self.ledger(),
            Request::Services {} => Answer::Ok(with_schema(&self.services())),
            Request::Series {} => self.series(),
            Request::Routes {} => self.routes(),
            Request::Traffic { watcher } => self.traffic(watcher),
            Request::Explain {
                tgid,
                start_ns,
                ports,
            } => self.explain(ProcessKey { tgid, start_ns }, &ports),
            Request::Tail {
                from,
                raw_path,
                service,
                status,
                slower_ns,
            } => self.tail(
                from,
                &Wanted {
                    raw_path,
                    service,
                    status,
                    slower_ns,
                },
            ),
            // The loop answers these: one changes its timers, the other is written out beside it.
            Request::Reload {} | Request::Snapshot {} => {
                Answer::Failed("not answered here".to_owned())
            }
            Request::Probes {} => Answer::Ok(with_schema(&self.probe_states())),
            Request::SwitchProbes {
                names,
                on,
                persist,
                service,
                pid,
            } => match service.map(Whom::Service).or(pid.map(Whom::Process)) {
                Some(whom) => self.switch_for(&names, on, whom),
                None => self.switch_probes(&names, on, persist),
            },
        }
    }

    fn ledger(&mut self) -> Answer {
        match self.accounts() {
            Ok(accounts) => Answer::Ok(with_schema(&accounts.to_json())),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    fn switch_probes(&mut self, names: &[String], on: bool, persist: bool) -> Answer {
        let selected = match probes::selection(names, on) {
            Ok(selected) => selected,
            Err(message) => return Answer::Refused(message),
        };
        let state = self.loaded.config.state.dir.clone();
        if persist && state.is_none() {
            let message = "--persist needs state.dir in the agent's configuration: the directory where switches are kept";
            return Answer::Refused(message.to_owned());
        }
        if selected.iter().any(|probe| probe.is_built)
            && let Err(error) = self.switch(on)
        {
            return Answer::Failed(error.to_string());
        }
        if let (true, Some(dir)) = (persist, state)
            && let Err(error) = keep_switches(&dir, selected.iter().map(|probe| probe.name), on)
        {
            let file = switches_file(&dir);
            let switched = format!("switched, and not kept in {}: {error}", file.display());
            return Answer::Failed(switched);
        }
        Answer::Ok(with_schema(&self.probe_states()))
    }

    /// What was decided about sockets is decided anew: the kernel side then leaves those alone that are left out.
    fn switch_for(&mut self, names: &[String], on: bool, whom: Whom) -> Answer {
        let selected = match probes::selection(names, on) {
            Ok(selected) => selected,
            Err(message) => return Answer::Refused(message),
        };
        if let Whom::Service(name) = &whom
            && !on
            && !self
                .pipeline
                .services()
                .iter()
                .any(|row| row.workload.name == *name)
        {
            let message =
                format!("no service {name}; kerntally services lists those that were seen");
            return Answer::Failed(message);
        }
        if !selected.iter().any(|probe| probe.is_built) {
            return Answer::Ok(with_schema(&self.probe_states()));
        }
        // What is in the ring ended before the switch.
        self.drain();
        if !self.pipeline.switch(whom, on) {
            let message = "too many services and processes are switched off by hand; discovery.exclude leaves out more";
            return Answer::Failed(message.to_owned());
        }
        match self.hooks.renew_filter() {
            Ok(()) => Answer::Ok(with_schema(&self.probe_states())),
            Err(error) => Answer::Failed(error.to_string()),
        }
    }

    fn probe_states(&self) -> Value {
        let states: Vec<_> = PROBES
            .iter()
            .map(|probe| {
                let state = match (probe.is_built, self.hooks.attached()) {
                    (false, _) => "not built",
                    (true, true) => "on",
                    (true, false) => "off",
                };
                json!({ "name": probe.name, "state": state, "purpose": probe.purpose })
            })
            .collect();
        let (mut services, mut pids) = (Vec::new(), Vec::new());
        for whom in self.pipeline.switched_off() {
            match whom {
                Whom::Service(name) => services.push(name),
                Whom::Process(pid) => pids.push(pid),
            }
        }
        json!({ "probes": states, "off_for": { "services": services, "pids": pids } })
    }

    fn services(&mut self) -> Value {
        self.drain();
        let services: Vec<_> = self
            .pipeline
            .services()
            .into_iter()
            .map(|row| {
                json!({
                    "name": row.workload.name,
                    "namespace": row.workload.namespace,
                    "version": row.workload.version,
                    "environment": row.workload.environment,
                    "named_by": named_by(row.workload.named_by),
                    "pids": row.pids,
                    "server_exchanges": row.server_exchanges,
                    "client_exchanges": row.client_exchanges,
                    "series": { "live": row.usage.series, "limit": row.series_limit, "overflowed": row.usage.overflowed },
                })
            })
            .collect();
        let excluded: Vec<_> = self
            .pipeline
            .excluded()
            .into_iter()
            .map(|row| {
                json!({
                    "pid": row.pid,
                    "port": row.port,
                    "role": role_name(row.role),
                    "reason": row.reason.to_string(),
                })
            })
            .collect();
        json!({ "services": services, "excluded": excluded })
    }

    fn status(&mut self) -> Value {
        self.drain();
        let backend = self.hooks.backend();
        let refused: Vec<_> = self
            .hooks
            .refused()
            .iter()
            .map(|(backend, reason)| json!({ "name": backend.name(), "reason": reason }))
            .collect();
        let usage = OwnUsage::read();
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "pid": std::process::id(),
            "uptime_seconds": self.started.elapsed().as_secs(),
            "ready": self.is_ready(),
            "backend": {
                "name": backend.name(),
                "blind_spots": backend.blind_spots(),
                "refused": refused,
            },
            "probes": self.probe_states()["probes"],
            "services": self.pipeline.services().len(),
            "series": self.pipeline.series_len(),
            "export": self.export_status(),
            "memory": { "resident_bytes": usage.resident_bytes, "map_bytes": self.hooks.map_bytes() },
            "programs": self.programs(),
            "cpu": { "seconds": usage.cpu_seconds },
            "degraded": self.degraded,
            "config": {
                "file": self.loaded.file,
                "reloads": self.reloads,
                "reload_errors": self.reload_errors,
                "warnings": self.loaded.warnings,
            },
        })
    }

    /// Runs are zeros unless `kernel.bpf_stats_enabled` is 1, instructions before kernel 5.16.
    fn programs(&self) -> Vec<Value> {
        let stats = self.hooks.program_stats().into_iter();
        stats
            .map(|program| {
                json!({
                    "name": program.name,
                    "run_count": program.run_count,
                    "run_time_ns": program.run_time_ns,
                    "verified_instructions": program.verified_insns,
                })
            })
            .collect()
    }

    fn export_status(&self) -> Value {
        let otlp = self.outlets.exporter().map(|exporter| {
            let stats = exporter.stats();
            json!({
                "endpoint": exporter.endpoint().to_string(),
                "failing": stats.failing,
                "last_error": stats.last_error,
                "pushes_ok": stats.pushes_ok,
                "pushes_failed": stats.pushes_failed,
                "points_sent": stats.points_sent,
                "points_rejected": stats.points_rejected,
                "points_dropped": stats.points_dropped,
                "points_held": stats.points_held,
                "last_remark": stats.last_remark,
            })
        });
        let file = self.outlets.file_stats().map(|stats| {
            json!({
                "path": self.loaded.config.export.file,
                "lines": stats.lines,
                "dropped": stats.dropped,
                "rotations": stats.rotations,
                "failing": stats.failing,
                "last_error": stats.last_error,
            })
        });
        let pull = self
            .outlets
            .pull_address()
            .map(|address| json!({ "listen": address }));
        json!({
            "interval": self.loaded.config.export.interval,
            "skipped": self.outlets.skipped(),
            "otlp": otlp,
            "file": file,
            "prometheus": pull,
        })
    }
}

/// What the agent itself takes.
#[derive(Debug, Default)]
struct OwnUsage {
    resident_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
}

impl OwnUsage {
    fn read() -> Self {
        let Ok(stat) = procfs::process::Process::myself().and_then(|own| own.stat()) else {
            return Self::default();
        };
        #[expect(clippy::cast_precision_loss, reason = "shown with two digits")]
        let cpu = (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64;
        Self {
            resident_bytes: Some(stat.rss * procfs::page_size()),
            cpu_seconds: Some((cpu * 100.0).round() / 100.0),
        }
    }
}
