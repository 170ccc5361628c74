//! Interned values of attributes: methods and server addresses.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

/// Stands for what is not known or has no room.
const OTHER: &str = "_OTHER";

/// Methods of RFC 9110, PATCH and QUERY.
const KNOWN_METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "QUERY",
];

/// Methods that are told by name; the first is `_OTHER`.
#[derive(Debug)]
pub(crate) struct Methods {
    /// Names that were ever known: a number keeps its name.
    names: Vec<Arc<str>>,
    /// Which of them are known now.
    known: Vec<bool>,
}

impl Methods {
    /// Those listed, or those of the semantic conventions if none are.
    pub(crate) fn new(listed: &[String]) -> Self {
        let mut methods = Self {
            names: vec![OTHER.into()],
            known: vec![false],
        };
        methods.reload(listed);
        methods
    }

    /// Replaces the list.
    pub(crate) fn reload(&mut self, listed: &[String]) {
        let listed: Vec<&str> = if listed.is_empty() {
            KNOWN_METHODS.to_vec()
        } else {
            listed.iter().map(String::as_str).collect()
        };
        for name in &listed {
            // A number has to fit the key of a series, which has it plus one.
            let is_room = self.names.len() + 1 < usize::from(u16::MAX);
            if is_room && !self.names.iter().any(|known| **known == **name) {
                self.names.push((*name).into());
            }
        }
        self.known = self
            .names
            .iter()
            .map(|name| listed.contains(&&**name))
            .collect();
    }

    /// Number of a method; methods are told apart by case.
    pub(crate) fn id(&self, method: &str) -> u16 {
        let found = self
            .names
            .iter()
            .zip(&self.known)
            .position(|(name, known)| *known && **name == *method);
        found
            .and_then(|position| u16::try_from(position).ok())
            .unwrap_or(0)
    }

    /// Name of a number.
    pub(crate) fn name(&self, id: u16) -> Arc<str> {
        Arc::clone(self.names.get(usize::from(id)).unwrap_or(&self.names[0]))
    }
}

/// Number of `_OTHER` among [`Hosts`].
const OTHER_HOST: u32 = 1;

/// Server addresses of one workload's clients.
#[derive(Debug)]
pub(crate) struct Hosts {
    by_name: HashMap<Arc<str>, Host>,
    last_id: u32,
    other: Arc<str>,
}

#[derive(Debug)]
struct Host {
    id: u32,
    last_used_ns: u64,
}

impl Hosts {
    pub(crate) fn new() -> Self {
        Self {
            by_name: HashMap::new(),
            last_id: OTHER_HOST,
            other: OTHER.into(),
        }
    }

    /// Number of an address: that of `_OTHER` if there are already `limit` others. Numbers are never used again,
    /// so no series can be taken for one of a newer address.
    pub(crate) fn intern(&mut self, name: &str, limit: usize, now_ns: u64) -> u32 {
        if let Some(host) = self.by_name.get_mut(name) {
            host.last_used_ns = now_ns;
            return host.id;
        }
        if self.by_name.len() >= limit || self.last_id == u32::MAX {
            return OTHER_HOST;
        }
        self.last_id += 1;
        let host = Host {
            id: self.last_id,
            last_used_ns: now_ns,
        };
        self.by_name.insert(name.into(), host);
        self.last_id
    }

    /// Name of a number: slow, asked once per series.
    pub(crate) fn name(&self, id: u32) -> Arc<str> {
        let named = self.by_name.iter().find(|(_, host)| host.id == id);
        Arc::clone(named.map_or(&self.other, |(name, _)| name))
    }

    /// Number of addresses.
    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// Forgets addresses that were last used before and are in no series.
    pub(crate) fn expire(&mut self, used_before_ns: u64, in_series: &HashSet<u32>) {
        self.by_name
            .retain(|_, host| host.last_used_ns >= used_before_ns || in_series.contains(&host.id));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_methods_are_other() {
        let methods = Methods::new(&[]);
        for name in KNOWN_METHODS {
            assert_eq!(&*methods.name(methods.id(name)), name);
        }
        for name in ["get", "PROPFIND", ""] {
            assert_eq!(&*methods.name(methods.id(name)), OTHER);
        }
    }

    #[test]
    fn a_list_of_methods_replaces_the_known_ones() {
        let methods = Methods::new(&["PURGE".to_owned()]);
        assert_eq!(&*methods.name(methods.id("PURGE")), "PURGE");
        assert_eq!(&*methods.name(methods.id("GET")), OTHER);
    }

    #[test]
    fn numbers_keep_their_names_when_the_list_changes() {
        let mut methods = Methods::new(&[]);
        let get = methods.id("GET");
        methods.reload(&["PURGE".to_owned()]);
        assert_eq!(methods.id("GET"), 0);
        assert_eq!(&*methods.name(get), "GET");
        methods.reload(&[]);
        assert_eq!(methods.id("GET"), get);
    }

    #[test]
    fn addresses_past_the_limit_are_other() {
        let mut hosts = Hosts::new();
        let a = hosts.intern("a", 2, 10);
        let b = hosts.intern("b", 2, 20);
        assert_ne!(a, b);
        assert_eq!(hosts.intern("c", 2, 30), OTHER_HOST);
        assert_eq!(&*hosts.name(OTHER_HOST), OTHER);
        assert_eq!(hosts.intern("a", 2, 15), a);
        hosts.expire(18, &HashSet::from([a]));
        assert_eq!(hosts.intern("c", 1, 40), OTHER_HOST);
        hosts.expire(18, &HashSet::new());
        let c = hosts.intern("c", 2, 40);
        assert_eq!(&*hosts.name(c), "c");
        assert!(c != a && c != b);
    }
}
