//! Putting a changed configuration in force while the agent runs.

use super::agent::Agent;
use super::timers::{Timers, ticking};
use crate::config::Loaded;
use crate::failure::Failure;
use crate::watch::FileWatch;

impl Agent {
    /// Puts a changed configuration in force, or leaves the old one.
    pub(super) async fn reload(&mut self, timers: &mut Timers, file: &mut FileWatch) {
        let outcome = match self.launch.load() {
            Ok(loaded) => self.apply(loaded, timers).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(()) => {
                self.reloads += 1;
                tracing::info!("configuration reloaded");
            }
            Err(error) => {
                self.reload_errors += 1;
                tracing::error!("configuration not reloaded, the old one stays in force: {error}");
            }
        }
        *file = FileWatch::new(self.loaded.file.clone());
        self.publish();
    }

    async fn apply(&mut self, loaded: Loaded, timers: &mut Timers) -> Result<(), Failure> {
        let (old, new) = (&self.loaded.config, &loaded.config);
        let fixed = [
            ("hooks", old.hooks != new.hooks),
            ("control", old.control != new.control),
            ("self", old.own != new.own),
            ("host", old.host != new.host),
            ("log", old.log != new.log),
            ("state", old.state != new.state),
        ];
        for (section, _) in fixed.iter().filter(|(_, changed)| *changed) {
            tracing::warn!("changes of `{section}` take effect at the next start");
        }
        let export_changed = old.export != new.export || old.resource != new.resource;
        let interval_changed = old.export.interval != new.export.interval;
        let switch = (old.probes != new.probes).then_some(new.probes.http1);
        if export_changed {
            self.outlets.reopen(&loaded).await?;
        }
        self.loaded = loaded;
        self.pipeline.reload(&self.loaded.pipeline);
        self.hooks.renew_filter()?;
        if export_changed {
            self.start_own_metrics();
        }
        if interval_changed {
            timers.collect = ticking(self.loaded.config.export.interval.0);
        }
        if let Some(on) = switch {
            self.switch(on)?;
        }
        for warning in &self.loaded.warnings {
            tracing::warn!("{warning}");
        }
        Ok(())
    }
}
