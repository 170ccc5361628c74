//! Listings of what the pipeline knows, for the commands that show it.

use std::sync::Arc;

use kerntally_model::{Role, Time, Workload};

use crate::Pipeline;
use crate::aggregate::{AttributeUse, Usage};
use crate::attribute::ExcludeReason;
use crate::ledger::row;
use crate::route::{RouteUse, SuggestedPattern};
use crate::services::{OTHER, Service, Standing};

/// A service for listings.
#[derive(Clone, Debug)]
pub struct ServiceRow {
    /// The service, with the source of its name.
    pub workload: Arc<Workload>,
    /// Processes that were seen under it and still run, ascending.
    pub pids: Vec<u32>,
    /// Exchanges as a server.
    pub server_exchanges: u64,
    /// Exchanges as a client.
    pub client_exchanges: u64,
    /// Templates learnt as a server.
    pub learnt_routes: usize,
    /// Use of its limit of series.
    pub usage: Usage,
    /// The limit.
    pub series_limit: usize,
}

/// A process that is not watched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExcludedRow {
    /// Its number.
    pub pid: u32,
    /// The server's port; 0 where no rule asks for it.
    pub port: u16,
    /// The side.
    pub role: Role,
    /// Why.
    pub reason: ExcludeReason,
}

/// Templates of a service.
#[derive(Clone, Debug)]
pub struct RouteRow {
    /// The service.
    pub workload: Arc<Workload>,
    /// The side.
    pub role: Role,
    /// The template with what it absorbed.
    pub route: RouteUse,
}

/// Patterns for the configuration of a service.
#[derive(Clone, Debug)]
pub struct SuggestionRow {
    /// The service.
    pub workload: Arc<Workload>,
    /// The side.
    pub role: Role,
    /// The patterns, the busiest first.
    pub patterns: Vec<SuggestedPattern>,
}

/// Series of a service against its limit.
#[derive(Clone, Debug)]
pub struct SeriesRow {
    /// The service.
    pub workload: Arc<Workload>,
    /// Use of the limit, what overflowed, and what was created within the last hour.
    pub usage: Usage,
    /// The limit.
    pub limit: usize,
    /// What it can have whatever the others do.
    pub guaranteed: usize,
    /// Exchanges that went to overflow series, by the name of the metric.
    pub overflowed: Vec<(String, u64)>,
    /// Attributes of its series, the one with the most values first.
    pub attributes: Vec<AttributeUse>,
    /// Server addresses of its clients that are told by name, and how many may be.
    pub hosts: (usize, usize),
}

/// What is limited.
#[derive(Clone, Debug)]
pub enum Limit {
    /// `cardinality.services`
    Services,
    /// `cardinality.total`
    Total,
    /// `cardinality.per_service` of this service.
    PerService(Arc<Workload>),
    /// `cardinality.hosts_per_service` of this service.
    Hosts(Arc<Workload>),
}

/// A limit that is nearly reached, or reached.
#[derive(Clone, Debug)]
pub struct Pressure {
    /// Which.
    pub limit: Limit,
    /// How many there are.
    pub used: usize,
    /// How many there may be.
    pub allowed: usize,
}

impl Limit {
    /// The reason in `kerntally.degraded`.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Services => "services_near_limit",
            Self::Total => "series_near_limit",
            Self::PerService(_) => "service_series_near_limit",
            Self::Hosts(_) => "hosts_near_limit",
        }
    }

    /// Its key in the configuration.
    pub const fn key(&self) -> &'static str {
        match self {
            Self::Services => "cardinality.services",
            Self::Total => "cardinality.total",
            Self::PerService(_) => "cardinality.per_service",
            Self::Hosts(_) => "cardinality.hosts_per_service",
        }
    }

    /// The service that it is about.
    pub fn workload(&self) -> Option<&Workload> {
        match self {
            Self::Services | Self::Total => None,
            Self::PerService(workload) | Self::Hosts(workload) => Some(workload),
        }
    }
}

impl Pipeline {
    /// Series of each service against its limit, the fullest first.
    pub fn series(&self, now: Time) -> Vec<SeriesRow> {
        let mut attributes = self.series.attribute_uses();
        let mut rows: Vec<SeriesRow> = self
            .services
            .iter()
            .filter(|(slot, service)| *slot != OTHER || service.exchanges != [0; 2])
            .map(|(slot, service)| SeriesRow {
                workload: Arc::clone(&service.workload),
                usage: self.series.usage(slot, now.monotonic_ns),
                limit: service.settings.per_service,
                guaranteed: match slot {
                    OTHER => 0,
                    _ => self.series.guaranteed().min(service.settings.per_service),
                },
                overflowed: self.series.overflows(slot),
                attributes: attributes.remove(&slot).unwrap_or_default(),
                hosts: (service.hosts.len(), service.settings.hosts),
            })
            .collect();
        rows.sort_by(|a, b| {
            let by_series = b.usage.series.cmp(&a.usage.series);
            by_series.then_with(|| a.workload.name.cmp(&b.workload.name))
        });
        rows
    }

    /// Limits that are used to four fifths or more.
    pub fn pressures(&self, now: Time) -> Vec<Pressure> {
        let mut pressures = Vec::new();
        let mut check = |limit: Limit, used: usize, allowed: usize| {
            if used > 0 && used.saturating_mul(5) >= allowed.saturating_mul(4) {
                pressures.push(Pressure {
                    limit,
                    used,
                    allowed,
                });
            }
        };
        let (services, allowed) = self.services.usage();
        check(Limit::Services, services, allowed);
        check(Limit::Total, self.series.counted(), self.series.total());
        for (slot, service) in self.services.iter() {
            let workload = || Arc::clone(&service.workload);
            let usage = self.series.usage(slot, now.monotonic_ns);
            check(
                Limit::PerService(workload()),
                usage.series,
                service.settings.per_service,
            );
            check(
                Limit::Hosts(workload()),
                service.hosts.len(),
                service.settings.hosts,
            );
        }
        pressures
    }

    /// Services that were seen, by name.
    pub fn services(&self) -> Vec<ServiceRow> {
        let mut rows: Vec<ServiceRow> = self
            .services
            .iter()
            .filter(|(slot, service)| *slot != OTHER || service.exchanges != [0; 2])
            .map(|(slot, service)| self.service_row(slot, service))
            .collect();
        rows.sort_by(|a, b| a.workload.name.cmp(&b.workload.name));
        rows
    }

    /// Processes that were seen and are not watched, by number.
    pub fn excluded(&self) -> Vec<ExcludedRow> {
        let mut rows: Vec<ExcludedRow> = self
            .services
            .standings()
            .filter_map(|(process, port, role, standing)| match standing {
                Standing::Exclude(reason) => Some(ExcludedRow {
                    pid: process.tgid,
                    port,
                    role,
                    reason,
                }),
                Standing::Watch(_) => None,
            })
            .collect();
        rows.sort_by_key(|row| (row.pid, row.port, row.role));
        rows
    }

    /// Templates in use, by service and template.
    pub fn routes(&self) -> Vec<RouteRow> {
        let mut rows = Vec::new();
        for (_, service) in self.services.iter() {
            for (role, routes) in [
                (Role::Server, &service.server_routes),
                (Role::Client, &service.client_routes),
            ] {
                let workload = &service.workload;
                rows.extend(routes.uses().into_iter().map(|route| RouteRow {
                    workload: Arc::clone(workload),
                    role,
                    route,
                }));
            }
        }
        rows.sort_by(|a, b| {
            (&a.workload.name, a.role, &a.route.template).cmp(&(
                &b.workload.name,
                b.role,
                &b.route.template,
            ))
        });
        rows
    }

    /// Patterns that say what was learnt about each service, by service.
    pub fn suggested_routes(&self) -> Vec<SuggestionRow> {
        let mut rows = Vec::new();
        for (_, service) in self.services.iter() {
            for (role, routes) in [
                (Role::Server, &service.server_routes),
                (Role::Client, &service.client_routes),
            ] {
                let patterns = routes.suggestions();
                if !patterns.is_empty() {
                    rows.push(SuggestionRow {
                        workload: Arc::clone(&service.workload),
                        role,
                        patterns,
                    });
                }
            }
        }
        rows.sort_by(|a, b| (&a.workload.name, a.role).cmp(&(&b.workload.name, b.role)));
        rows
    }

    fn service_row(&self, slot: u32, service: &Service) -> ServiceRow {
        let mut pids: Vec<u32> = self
            .services
            .standings()
            .filter(|(_, _, _, standing)| *standing == Standing::Watch(slot))
            .map(|(process, _, _, _)| process.tgid)
            .collect();
        pids.sort_unstable();
        pids.dedup();
        ServiceRow {
            workload: Arc::clone(&service.workload),
            pids,
            server_exchanges: service.exchanges[row(Role::Server)],
            client_exchanges: service.exchanges[row(Role::Client)],
            learnt_routes: service.server_routes.learnt_len(),
            usage: self.series.usage(slot, self.latest_ns),
            series_limit: service.settings.per_service,
        }
    }
}
