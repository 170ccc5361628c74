//! `kerntally run`: from the command line to a running agent, and back.

mod agent;
mod answers;
mod destinations;
mod hooks;
mod learnt;
mod listings;
mod outlets;
mod pressure;
mod pulling;
mod pushing;
mod reload;
mod report;
mod rest;
mod tail;
mod timers;
mod would_push;
mod writing;

use std::path::Path;
use std::time::Duration;

use kerntally_probes::LoadError;

use crate::cli::{Global, Run};
use crate::config::{self, Loaded, Setting, Sources};
use crate::failure::Failure;
use crate::lock::{self, Lock, LockError};
use crate::preflight::{self, Privileges};
use crate::{crash, logging, output};

use agent::Agent;

/// A thread for what takes long waits so long for the next collection's: one that ended before would be a wake-up for
/// itself, and one more to start.
const KEEP_THREADS: Duration = Duration::from_hours(1);

/// What `run` was started with; a reload starts from it again.
#[derive(Clone, Debug)]
pub(crate) struct Launch {
    sources: Sources,
    arguments: Run,
}

impl Launch {
    fn new(global: &Global, arguments: &Run) -> Self {
        let mut sources = config::sources(global, &arguments.settings.set);
        if let Some(interval) = &arguments.interval {
            sources.settings.push(Setting {
                key: "export.interval".to_owned(),
                value: interval.clone(),
                flag: "--interval".to_owned(),
            });
        }
        Self {
            sources,
            arguments: arguments.clone(),
        }
    }

    fn load(&self) -> Result<Loaded, Failure> {
        let mut loaded = config::load(&self.sources)?;
        destinations::choose(&mut loaded.config.export, &self.arguments)?;
        if loaded.config.export.otlp.is_none() {
            loaded.otlp = None;
        }
        Ok(loaded)
    }
}

/// Runs the agent until it is told to stop.
pub(crate) fn run(global: &Global, arguments: &Run) -> Result<(), Failure> {
    crash::end_on_panic();
    let launch = Launch::new(global, arguments);
    let loaded = launch.load()?;
    logging::start(&loaded.config.log, global);
    for warning in &loaded.warnings {
        tracing::warn!("{warning}");
    }
    let unreadable = check_privileges()?;
    let _lock = take_lock(&loaded)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .thread_keep_alive(KEEP_THREADS)
        .thread_name("kerntally-io")
        .enable_all()
        .build()?;
    let result = runtime.block_on(async {
        let agent = Agent::start(launch, loaded, unreadable)?;
        // The whole agent is in it: it does not belong on the stack.
        Box::pin(agent.run()).await
    });
    // A push that is still under way must not hold up the end.
    runtime.shutdown_timeout(Duration::from_millis(500));
    result
}

/// Refuses to start without what nothing works without; says whether other users' processes stay unnamed.
fn check_privileges() -> Result<bool, Failure> {
    let privileges = Privileges::of_this_process()?;
    let missing = privileges.missing();
    if !missing.is_empty() {
        return Err(Failure::refused(preflight::advice(&missing)));
    }
    let desirable = privileges.desirable();
    for capability in &desirable {
        tracing::warn!("missing {}: cannot {}", capability.name, capability.purpose);
    }
    Ok(!desirable.is_empty())
}

fn take_lock(loaded: &Loaded) -> Result<Option<Lock>, Failure> {
    if !loaded.config.hooks.exclusive {
        return Ok(None);
    }
    let waiting = |holder: &str| {
        output::note(&format!(
            "kerntally: another agent is running (pid {holder}); waiting up to {} s for it to stop",
            lock::PATIENCE.as_secs()
        ));
    };
    match Lock::acquire(Path::new(lock::PATH), lock::PATIENCE, waiting) {
        Ok(lock) => Ok(Some(lock)),
        Err(error @ (LockError::Held { .. } | LockError::Unusable { .. })) => {
            Err(Failure::Refused(error.into()))
        }
    }
}

impl From<LoadError> for Failure {
    fn from(error: LoadError) -> Self {
        match error {
            LoadError::NotBuilt | LoadError::Operation { .. } => Self::Failed(error.into()),
            LoadError::NoBtf(_) | LoadError::NotPermitted { .. } | LoadError::NoBackend { .. } => {
                Self::Refused(error.into())
            }
        }
    }
}
