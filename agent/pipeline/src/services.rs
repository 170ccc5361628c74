//! The services that are watched, each with what it has learnt, and the cache of verdicts.

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use kerntally_model::{ProcessKey, Role, Workload};

use crate::aggregate::{Hosts, INSTRUMENTS, Recipes, References, recipes};
use crate::attribute::{Candidate, ExcludeReason, ProcessSource, Processes, Rules, Verdict, other};
use crate::config::{Config, RouteConfig};
use crate::exemplar::{ErrorRate, ExemplarConfig};
use crate::memory::Memory;
use crate::route::Routes;

/// Verdicts that are remembered; all are dropped when there are more.
const VERDICTS: usize = 16_384;

/// Services and processes that may be left out by hand.
const SWITCHES: usize = 256;

/// Slot of the service that stands for what has no name or no room.
pub(crate) const OTHER: u32 = 0;

/// What the configuration says about one service.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Settings {
    pub(crate) routes: RouteConfig,
    pub(crate) exemplars: ExemplarConfig,
    pub(crate) per_service: usize,
    pub(crate) hosts: usize,
    /// Position in the configuration of the rule that they are of.
    rule: Option<usize>,
}

/// Streams by the place of their instruments.
pub(crate) type Streams = [Option<u32>; INSTRUMENTS.len()];

/// A watched service.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) workload: Arc<Workload>,
    pub(crate) settings: Arc<Settings>,
    pub(crate) server_routes: Routes,
    pub(crate) client_routes: Routes,
    pub(crate) hosts: Hosts,
    pub(crate) recipes: Recipes,
    /// Open streams of all processes together.
    pub(crate) streams: Streams,
    /// Open streams of single processes.
    pub(crate) own_streams: HashMap<ProcessKey, Streams>,
    /// Streams of recipes that are not in force any more.
    pub(crate) outdated: Vec<u32>,
    pub(crate) exchanges: [u64; 2],
    pub(crate) error_rates: [ErrorRate; 2],
    pub(crate) last_used_ns: u64,
    /// Configuration that the settings are of.
    epoch: u64,
}

/// A cached verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Watched, as part of the service in this slot.
    Watch(u32),
    /// Not watched.
    Exclude(ExcludeReason),
}

type VerdictKey = (ProcessKey, u16, Role);

/// Namespace, name, version and environment: processes that agree in them are one service.
type Identity = (String, Option<String>, Option<String>, Option<String>);

/// All services.
#[derive(Debug)]
pub(crate) struct Services {
    config: Arc<Config>,
    rules: Rules,
    processes: Processes,
    by_rule: Vec<Arc<Settings>>,
    default_settings: Arc<Settings>,
    limit: usize,
    epoch: u64,
    slots: Vec<Option<Service>>,
    by_identity: HashMap<Identity, u32>,
    verdicts: HashMap<VerdictKey, Standing>,
    memory: Memory,
    switched_off: BTreeSet<Whom>,
}

/// Whom a probe is switched for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Whom {
    /// All processes of a service, by its name.
    Service(String),
    /// One process, by its number.
    Process(u32),
}

impl Services {
    pub(crate) fn new(config: &Config, source: Box<dyn ProcessSource>) -> Self {
        let default_settings = Arc::new(settings(config, None));
        let stand_in = Service::new(Arc::new(other()), &default_settings, 0, config);
        Self {
            config: Arc::new(config.clone()),
            rules: Rules::new(config),
            processes: Processes::new(source),
            by_rule: by_rule(config),
            default_settings,
            limit: config.cardinality.services,
            epoch: 0,
            slots: vec![Some(stand_in)],
            by_identity: HashMap::new(),
            verdicts: HashMap::new(),
            switched_off: BTreeSet::new(),
            memory: Memory::default(),
        }
    }

    /// Takes a new configuration over; services keep what they have learnt unless their settings changed.
    pub(crate) fn reload(&mut self, config: &Config) {
        self.config = Arc::new(config.clone());
        self.rules = Rules::new(config);
        self.by_rule = by_rule(config);
        self.default_settings = Arc::new(settings(config, None));
        self.limit = config.cardinality.services;
        self.epoch += 1;
        self.verdicts.clear();
        let default_settings = Arc::clone(&self.default_settings);
        if let Some(stand_in) = &mut self.slots[OTHER as usize] {
            stand_in.apply(&default_settings, self.epoch, config);
        }
    }

    /// Standing of an exchange; the cached one if there is one.
    pub(crate) fn standing(&mut self, process: ProcessKey, port: u16, role: Role) -> Standing {
        let port = if self.rules.asks_for_port() { port } else { 0 };
        let key = (process, port, role);
        if let Some(standing) = self.verdicts.get(&key) {
            return *standing;
        }
        let standing = match self.verdict(process, port, role) {
            Verdict::Exclude(reason) => Standing::Exclude(reason),
            Verdict::Watch { workload, rule } => Standing::Watch(self.enter(workload, rule)),
        };
        if self.verdicts.len() >= VERDICTS {
            self.verdicts.clear();
        }
        self.verdicts.insert(key, standing);
        standing
    }

    /// What the rules say, past the cache.
    pub(crate) fn verdict(&mut self, process: ProcessKey, port: u16, role: Role) -> Verdict {
        let facts = self.processes.facts(process);
        let candidate = Candidate {
            facts,
            pid: process.tgid,
            port,
        };
        let verdict = self.rules.verdict(&candidate, role);
        match &verdict {
            Verdict::Watch { workload, .. } if self.is_off(process, &workload.name) => {
                Verdict::Exclude(ExcludeReason::SwitchedOff)
            }
            Verdict::Watch { .. } | Verdict::Exclude(_) => verdict,
        }
    }

    fn is_off(&self, process: ProcessKey, service: &str) -> bool {
        self.switched_off.iter().any(|whom| match whom {
            Whom::Service(name) => name == service,
            Whom::Process(tgid) => *tgid == process.tgid,
        })
    }

    /// Leaves someone out, or takes them in again; false if there are too many already.
    pub(crate) fn switch(&mut self, whom: Whom, on: bool) -> bool {
        self.verdicts.clear();
        if on {
            self.switched_off.remove(&whom);
            return true;
        }
        if self.switched_off.len() >= SWITCHES {
            return false;
        }
        self.switched_off.insert(whom);
        true
    }

    pub(crate) fn switched_off(&self) -> impl Iterator<Item = &Whom> {
        self.switched_off.iter()
    }

    /// A process ended: another may get its number.
    pub(crate) fn exited(&mut self, process: ProcessKey, comm: &str) {
        self.switched_off.remove(&Whom::Process(process.tgid));
        self.processes.exited(process, comm);
    }

    pub(crate) fn processes(&mut self) -> &mut Processes {
        &mut self.processes
    }

    /// Forgets what was decided about a process.
    pub(crate) fn undecide(&mut self, process: ProcessKey) {
        self.verdicts.retain(|(key, _, _), _| *key != process);
    }

    /// What was learnt about services that are not there.
    pub(crate) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn memory_mut(&mut self) -> &mut Memory {
        &mut self.memory
    }

    pub(crate) fn service(&self, slot: u32) -> Option<&Service> {
        self.slots.get(slot as usize)?.as_ref()
    }

    pub(crate) fn service_mut(&mut self, slot: u32) -> Option<&mut Service> {
        self.slots.get_mut(slot as usize)?.as_mut()
    }

    /// Streams of processes that have no series any more: such processes are forgotten.
    pub(crate) fn take_unused(&mut self, is_used: impl Fn(u32) -> bool) -> Vec<u32> {
        let mut unused = Vec::new();
        for service in self.slots.iter_mut().flatten() {
            service.own_streams.retain(|_, streams| {
                let stays = streams.iter().flatten().any(|stream| is_used(*stream));
                if !stays {
                    unused.extend(streams.iter().flatten());
                }
                stays
            });
        }
        unused
    }

    /// Streams of recipes that are not in force any more.
    pub(crate) fn take_outdated(&mut self) -> Vec<u32> {
        let services = self.slots.iter_mut().flatten();
        services
            .flat_map(|service| service.outdated.drain(..))
            .collect()
    }

    /// Number of services, and how many there may be.
    pub(crate) fn usage(&self) -> (usize, usize) {
        (self.by_identity.len(), self.limit)
    }

    /// All services with their slots.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Service)> {
        (0..)
            .zip(&self.slots)
            .filter_map(|(slot, service)| Some((slot, service.as_ref()?)))
    }

    /// Verdicts in the cache.
    pub(crate) fn standings(&self) -> impl Iterator<Item = (ProcessKey, u16, Role, Standing)> + '_ {
        self.verdicts
            .iter()
            .map(|((process, port, role), standing)| (*process, *port, *role, *standing))
    }

    /// Forgets what was last used before: templates, addresses, services without series, and processes that
    /// ended. Returns the slots that became free.
    pub(crate) fn expire(
        &mut self,
        used_before_ns: u64,
        mut referred: HashMap<u32, References>,
    ) -> Vec<u32> {
        let mut freed = Vec::new();
        for (slot, place) in (0..).zip(&mut self.slots) {
            let Some(service) = place else { continue };
            let referred = referred.remove(&slot);
            let has_series = referred.is_some();
            let References {
                server_routes,
                client_routes,
                addresses,
            } = referred.unwrap_or_default();
            service.server_routes.expire(used_before_ns, server_routes);
            service.client_routes.expire(used_before_ns, client_routes);
            service.hosts.expire(used_before_ns, &addresses);
            if slot != OTHER && service.last_used_ns < used_before_ns && !has_series {
                self.memory.remember(service);
                *place = None;
                freed.push(slot);
            }
        }
        if !freed.is_empty() {
            self.by_identity.retain(|_, slot| !freed.contains(slot));
            self.verdicts.clear();
        }
        if self.processes.on_collection() {
            let processes = &self.processes;
            self.verdicts
                .retain(|(process, _, _), _| processes.is_known(*process));
        }
        freed
    }

    /// Slot of a workload; [`OTHER`] if nothing is known of it or there is no room.
    fn enter(&mut self, workload: Workload, rule: Option<usize>) -> u32 {
        if workload.name == crate::attribute::OTHER_SERVICE {
            return OTHER;
        }
        let settings = rule
            .and_then(|rule| self.by_rule.get(rule))
            .unwrap_or(&self.default_settings);
        let settings = Arc::clone(settings);
        let identity = identity(&workload);
        if let Some(slot) = self.by_identity.get(&identity).copied() {
            let (epoch, config) = (self.epoch, Arc::clone(&self.config));
            if let Some(service) = self.service_mut(slot) {
                service.apply(&settings, epoch, &config);
            }
            return slot;
        }
        if self.by_identity.len() >= self.limit {
            return OTHER;
        }
        let mut service = Service::new(Arc::new(workload), &settings, self.epoch, &self.config);
        service.recall(&self.memory);
        let slot = self.free_slot();
        self.slots[slot as usize] = Some(service);
        self.by_identity.insert(identity, slot);
        slot
    }

    fn free_slot(&mut self) -> u32 {
        let free = (0..)
            .zip(&self.slots)
            .find(|(_, service)| service.is_none());
        if let Some((slot, _)) = free {
            return slot;
        }
        self.slots.push(None);
        u32::try_from(self.slots.len() - 1).unwrap_or(OTHER)
    }
}

impl Service {
    fn new(workload: Arc<Workload>, settings: &Arc<Settings>, epoch: u64, config: &Config) -> Self {
        Self {
            recipes: settings.recipes(config, &workload.name),
            streams: [None; INSTRUMENTS.len()],
            own_streams: HashMap::new(),
            outdated: Vec::new(),
            workload,
            server_routes: Routes::new(&settings.routes),
            client_routes: Routes::new(&settings.routes),
            hosts: Hosts::new(),
            exchanges: [0; 2],
            error_rates: [ErrorRate::default(); 2],
            last_used_ns: 0,
            settings: Arc::clone(settings),
            epoch,
        }
    }

    fn recall(&mut self, memory: &Memory) {
        memory.recall(&self.workload, Role::Server, &mut self.server_routes);
        memory.recall(&self.workload, Role::Client, &mut self.client_routes);
    }

    /// Of the rules that name the same service, the first to be used since the last reload counts.
    fn apply(&mut self, settings: &Arc<Settings>, epoch: u64, config: &Config) {
        if self.epoch == epoch {
            return;
        }
        self.epoch = epoch;
        if self.settings.routes != settings.routes {
            self.server_routes.reload(&settings.routes);
            self.client_routes.reload(&settings.routes);
        }
        self.settings = Arc::clone(settings);
        let recipes = settings.recipes(config, &self.workload.name);
        let own = self.own_streams.values_mut();
        for streams in own.chain([&mut self.streams]) {
            let changes = self.recipes.iter().zip(&recipes).zip(streams);
            for ((old, new), stream) in changes {
                if old != new {
                    self.outdated.extend(stream.take());
                }
            }
        }
        self.recipes = recipes;
    }
}

impl Settings {
    fn recipes(&self, config: &Config, service: &str) -> Recipes {
        let rule = self.rule.and_then(|rule| config.services.get(rule));
        recipes(config, rule, service)
    }
}

fn identity(workload: &Workload) -> Identity {
    (
        workload.name.clone(),
        workload.namespace.clone(),
        workload.version.clone(),
        workload.environment.clone(),
    )
}

fn by_rule(config: &Config) -> Vec<Arc<Settings>> {
    (0..config.services.len())
        .map(|rule| Arc::new(settings(config, Some(rule))))
        .collect()
}

fn settings(config: &Config, position: Option<usize>) -> Settings {
    let rule = position.and_then(|rule| config.services.get(rule));
    Settings {
        routes: rule
            .and_then(|rule| rule.routes.clone())
            .unwrap_or_else(|| config.routes.clone()),
        exemplars: rule
            .and_then(|rule| rule.exemplars)
            .unwrap_or(config.exemplars),
        per_service: rule
            .and_then(|rule| rule.per_service)
            .unwrap_or(config.cardinality.per_service),
        hosts: rule
            .and_then(|rule| rule.hosts_per_service)
            .unwrap_or(config.cardinality.hosts_per_service),
        rule: position,
    }
}
