//! What is worth keeping beyond the agent's life: levels of paths that were folded, per service and side.

use kerntally_model::Role;

use crate::Pipeline;
use crate::services::OTHER;

/// What was learnt about one service's paths.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LearntRoutes {
    /// `service.name`
    pub name: String,
    /// `service.namespace`
    pub namespace: Option<String>,
    /// The side.
    pub role: Role,
    /// Folded levels, as templates.
    pub folds: Vec<String>,
}

impl Pipeline {
    /// What was learnt so far, of services that are no longer seen too; sorted.
    pub fn learnt_routes(&self) -> Vec<LearntRoutes> {
        let mut memory = self.services.memory().clone();
        for (slot, service) in self.services.iter() {
            if slot != OTHER {
                memory.remember(service);
            }
        }
        memory.into_rows()
    }

    /// Takes over what was learnt in an earlier life: services fold it when they are first seen. Best before the first
    /// exchange. Returns how many folds cannot be taken over.
    pub fn restore_routes(&mut self, rows: Vec<LearntRoutes>) -> usize {
        self.services.memory_mut().restore(rows)
    }
}
