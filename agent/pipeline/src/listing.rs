//! Listings of what the pipeline knows, for the commands that show it.

use std::sync::Arc;

use kerntally_model::{Role, Workload};

use crate::Pipeline;
use crate::aggregate::Usage;
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

impl Pipeline {
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
            usage: self.series.usage(slot),
            series_limit: service.settings.per_service,
        }
    }
}
