//! Numbers of templates: the same text has the same number for as long as anything refers to it.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

/// Number of a template within its service and role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct RouteId(pub(crate) u32);

/// Numbers start behind 0, which stands for no route in the keys of series.
#[derive(Debug, Default)]
pub(super) struct Names {
    ids: HashMap<Arc<str>, RouteId>,
    last: u32,
}

impl Names {
    /// Number and shared text of a template.
    pub(super) fn intern(&mut self, template: &str) -> (RouteId, Arc<str>) {
        if let Some((text, id)) = self.ids.get_key_value(template) {
            return (*id, Arc::clone(text));
        }
        self.last = self.last.wrapping_add(1).max(1);
        let text: Arc<str> = template.into();
        self.ids.insert(Arc::clone(&text), RouteId(self.last));
        (RouteId(self.last), text)
    }

    /// Text of a number.
    pub(super) fn text(&self, id: RouteId) -> Option<Arc<str>> {
        let named = self.ids.iter().find(|(_, named)| **named == id);
        named.map(|(text, _)| Arc::clone(text))
    }

    /// Forgets templates that nothing refers to.
    pub(super) fn retain(&mut self, referred: &HashSet<RouteId>) {
        self.ids.retain(|_, id| referred.contains(id));
    }
}
