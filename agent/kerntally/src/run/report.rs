//! What the agent says about itself: to the threads beside its loop, to collectors, to people.

use std::sync::Arc;
use std::time::Duration;

use kerntally_export::selfmetrics::{
    RoleReading, SelfIdentity, SelfMetrics, SelfSource, ServiceSeries,
};
use kerntally_pipeline::ROLES;

use super::agent::Agent;
use super::outlets::Display;
use crate::clock;
use crate::ledger::{Account, Accounts, role_name};
use crate::output;
use crate::shared::Shared;

impl Agent {
    /// Shows the latest state to the threads beside the loop.
    pub(super) fn publish(&mut self) {
        self.shared.beat();
        self.shared.set_ready(self.is_ready());
        let accounts = match self.hooks.accounts(&self.pipeline, false) {
            Ok(accounts) => accounts,
            Err(error) => {
                tracing::error!(%error, "the kernel's counters cannot be read");
                return;
            }
        };
        self.degraded = self.degradations(&accounts);
        self.open = accounts.roles.iter().map(|account| account.open).sum();
        let roles = ROLES
            .iter()
            .zip(&accounts.roles)
            .map(|(role, account)| RoleReading {
                role: role_name(*role),
                seen: account.seen,
                open: account.open,
                cut: self.pipeline.cut(*role),
                outcomes: account.outcomes.clone(),
            })
            .collect();
        self.shared.update(|reading| {
            reading.roles = roles;
            reading.blind = accounts.blind.into_iter().collect();
            reading.degraded.clone_from(&self.degraded);
            reading.backend = Some(self.hooks.backend().name());
            reading.export = self.outlets.export_stats();
            reading.file = self.outlets.file_stats();
            reading.config_reloads = self.reloads;
            reading.config_reload_errors = self.reload_errors;
        });
    }

    /// Walks all services: at collections only.
    pub(super) fn publish_series(&self) {
        let series = self
            .pipeline
            .services()
            .into_iter()
            .map(|row| ServiceSeries {
                service: row.workload.name.clone(),
                live: row.usage.series as u64,
                limit: row.series_limit as u64,
            })
            .collect();
        self.shared.update(|reading| reading.series = series);
    }

    fn degradations(&mut self, accounts: &Accounts) -> Vec<&'static str> {
        let lost: u64 = accounts.roles.iter().map(Account::lost).sum();
        let skipped = accounts.blind.get("skipped_runs").copied().unwrap_or(0);
        let reasons = [
            ("names_unreadable", self.names_unreadable),
            ("probe_off", !self.hooks.attached()),
            (
                "export_failing",
                self.outlets
                    .export_stats()
                    .is_some_and(|stats| stats.failing),
            ),
            (
                "file_failing",
                self.outlets.file_stats().is_some_and(|stats| stats.failing),
            ),
            ("state_failing", self.learnt.is_failing()),
            ("exchanges_lost", lost > self.lost_before),
            ("runs_skipped", skipped > self.skipped_before),
        ];
        self.lost_before = lost;
        self.skipped_before = skipped;
        let pressures = self.pipeline.pressures(clock::now());
        reasons
            .into_iter()
            .filter(|(_, holds)| *holds)
            .map(|(reason, _)| reason)
            .chain(self.pressed.update(&pressures))
            .collect()
    }

    pub(super) fn start_own_metrics(&self) {
        let identity = SelfIdentity {
            service_name: self
                .loaded
                .own_service_name
                .clone()
                .unwrap_or_else(|| kerntally_export::resource::AGENT_NAME.to_owned()),
            node: self.outlets.node().clone(),
            base: self
                .loaded
                .config
                .resource
                .attributes
                .clone()
                .into_iter()
                .collect(),
        };
        let interval = self.loaded.config.export.interval.0;
        let push = self
            .outlets
            .exporter()
            .map(|exporter| (exporter.as_ref(), interval));
        let source: Arc<dyn SelfSource> = Arc::<Shared>::clone(&self.shared);
        let metrics = match SelfMetrics::new(&identity, &source, push) {
            Ok(metrics) => Some(metrics),
            Err(error) => {
                tracing::warn!(%error, "the agent's own metrics are not available");
                None
            }
        };
        if let Some(previous) = self.shared.replace_metrics(metrics) {
            tokio::spawn(end_metrics(previous, Duration::from_secs(5)));
        }
    }

    /// One sentence about what runs, what it cannot see, and where its measurements go.
    pub(super) fn announce(&self) {
        let backend = self.hooks.backend();
        let tallying = if self.hooks.attached() {
            "tallying HTTP/1"
        } else {
            "loaded, probe http1 off,"
        };
        output::note(&format!(
            "kerntally {}: {tallying} through {} hooks, which cannot see everything ({}); {}",
            env!("CARGO_PKG_VERSION"),
            backend.name(),
            backend.blind_spots().join("; "),
            self.destinations(),
        ));
        for (refused, reason) in self.hooks.refused() {
            tracing::info!(
                backend = refused.name(),
                reason,
                "back end refused by the kernel"
            );
        }
    }

    fn destinations(&self) -> String {
        let mut places = Vec::new();
        if let Some(exporter) = self.outlets.exporter() {
            places.push(format!("to {}", exporter.endpoint()));
        }
        if let Some(path) = &self.loaded.config.export.file {
            places.push(match path.to_str() {
                Some("-") => "to standard output".to_owned(),
                _ => format!("to {}", path.display()),
            });
        }
        if self.outlets.display() != Display::Nothing {
            places.push("to this console".to_owned());
        }
        if let Some(address) = self.outlets.pull_address() {
            places.push(format!("to http://{address}/metrics"));
        }
        if places.is_empty() {
            return "measurements go nowhere but the control socket".to_owned();
        }
        let interval = self.loaded.config.export.interval;
        format!("measurements go {} every {interval}", places.join(" and "))
    }
}

/// Pushes the agent's own metrics one last time; a collector that does not answer is not waited for.
pub(super) async fn end_metrics(metrics: SelfMetrics, patience: Duration) {
    match tokio::time::timeout(patience, metrics.shutdown()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::debug!(%error, "the agent's own metrics were not pushed at the end");
        }
        Err(_elapsed) => tracing::debug!("the agent's own metrics were not pushed in time"),
    }
}
