//! What was learnt about services that are not there at the moment.

use std::collections::{BTreeMap, BTreeSet};

use kerntally_model::{Role, Workload};

use crate::learnt::LearntRoutes;
use crate::route::{Routes, is_fold};
use crate::services::Service;

/// Services and sides that are remembered; those that come when there is no room are not.
const MOST_ENTRIES: usize = 4096;

type Key = (String, Option<String>, Role);

/// Folded levels by service and side. Versions share them: what an interface looks like outlives a release.
#[derive(Clone, Debug, Default)]
pub(crate) struct Memory(BTreeMap<Key, BTreeSet<String>>);

impl Memory {
    /// Takes a service's folds in.
    pub(crate) fn remember(&mut self, service: &Service) {
        let sides = [
            (Role::Server, &service.server_routes),
            (Role::Client, &service.client_routes),
        ];
        for (role, routes) in sides {
            self.add(key(&service.workload, role), routes.folds());
        }
    }

    /// Folds what is remembered of a service and side.
    pub(crate) fn recall(&self, workload: &Workload, role: Role, routes: &mut Routes) {
        if let Some(folds) = self.0.get(&key(workload, role)) {
            routes.restore(folds.iter());
        }
    }

    /// Takes rows in. Returns how many folds could not be.
    pub(crate) fn restore(&mut self, rows: Vec<LearntRoutes>) -> usize {
        let mut refused = 0;
        for row in rows {
            let all = row.folds.len();
            let folds: Vec<String> = row.folds.into_iter().filter(|fold| is_fold(fold)).collect();
            refused += all - folds.len();
            refused += self.add((row.name, row.namespace, row.role), folds);
        }
        refused
    }

    /// All rows, sorted.
    pub(crate) fn into_rows(self) -> Vec<LearntRoutes> {
        let rows = self.0.into_iter();
        rows.map(|((name, namespace, role), folds)| LearntRoutes {
            name,
            namespace,
            role,
            folds: folds.into_iter().collect(),
        })
        .collect()
    }

    /// Returns how many had no room.
    fn add(&mut self, key: Key, folds: Vec<String>) -> usize {
        if folds.is_empty() {
            return 0;
        }
        if self.0.len() >= MOST_ENTRIES && !self.0.contains_key(&key) {
            return folds.len();
        }
        self.0.entry(key).or_default().extend(folds);
        0
    }
}

fn key(workload: &Workload, role: Role) -> Key {
    (workload.name.clone(), workload.namespace.clone(), role)
}
