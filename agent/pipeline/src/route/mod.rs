//! Stage 5: method, path and status in, a route template out. Raw paths and queries end here.

mod names;
mod pattern;
mod segment;
mod suggest;
mod tree;

use std::sync::Arc;

use hashbrown::HashSet;
use kerntally_wire::TargetForm;

pub(crate) use names::RouteId;
pub use pattern::{PatternError, PatternSet};
pub use suggest::SuggestedPattern;

use crate::config::{RouteConfig, Unmatched};
use names::Names;
pub(crate) use tree::is_fold;
use tree::{Leaf, Tree};

/// Folded levels of one service and role that outlive it: far more than any interface has.
const MOST_FOLDS: usize = 1000;

/// What is asked about.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Question<'a> {
    pub(crate) target: TargetForm<'a>,
    pub(crate) target_cut: bool,
    pub(crate) status: Option<u16>,
    pub(crate) now_ns: u64,
}

impl Question<'_> {
    /// The path as patterns are held against; of a path that was cut nobody knows the end.
    fn whole_path(&self) -> Option<&str> {
        let path = self.target.path().filter(|_| !self.target_cut)?;
        std::str::from_utf8(path).ok()
    }

    /// Only an answer that says that the path exists may make a template, so that a scanner cannot.
    fn may_mint(&self) -> bool {
        !self.target_cut
            && self
                .status
                .is_some_and(|status| !(400..500).contains(&status))
    }
}

/// The answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// There is no route to speak of.
    Absent,
    /// The template of this number.
    Template(RouteId),
}

/// Where a template comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteSource {
    /// The configuration.
    Pattern,
    /// Learnt from paths.
    Learnt,
    /// The stand-in for what may not make a template.
    Wildcard,
}

/// A template with what it absorbed since the agent started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteUse {
    /// The template.
    pub template: Arc<str>,
    /// Where it comes from.
    pub source: RouteSource,
    /// Exchanges that took it.
    pub exchanges: u64,
}

/// The templates of one service and role.
#[derive(Debug)]
pub(crate) struct Routes {
    config: RouteConfig,
    /// Those of the patterns that were met, by their positions.
    patterns: Vec<Option<Box<Leaf>>>,
    wildcard: Leaf,
    asterisk: Leaf,
    tree: Tree,
    names: Names,
}

impl Routes {
    pub(crate) fn new(config: &RouteConfig) -> Self {
        Self::with_names(config, Names::default())
    }

    /// Takes another configuration over; what was learnt is forgotten.
    pub(crate) fn reload(&mut self, config: &RouteConfig) {
        *self = Self::with_names(config, std::mem::take(&mut self.names));
    }

    fn with_names(config: &RouteConfig, mut names: Names) -> Self {
        Self {
            patterns: Vec::new(),
            wildcard: Leaf::new("/**", &mut names),
            asterisk: Leaf::new("*", &mut names),
            tree: Tree::new(config.max_per_service),
            config: config.clone(),
            names,
        }
    }

    /// Whether an exchange is not to be tallied. A path that was cut may be another's beginning: it is not ignored.
    pub(crate) fn ignores(&self, question: &Question<'_>) -> bool {
        !self.config.ignore.is_empty()
            && question
                .whole_path()
                .is_some_and(|path| self.config.ignore.find(path).is_some())
    }

    /// The route of an exchange.
    pub(crate) fn route(&mut self, question: &Question<'_>) -> Route {
        let Some(path) = question.target.path() else {
            return self.without_path(question);
        };
        if !self.config.patterns.is_empty()
            && let Some(path) = question.whole_path()
            && let Some((position, template)) = self.config.patterns.find(path)
        {
            if position >= self.patterns.len() {
                self.patterns.resize(position + 1, None);
            }
            let names = &mut self.names;
            return self.patterns[position]
                .get_or_insert_with(|| Box::new(Leaf::new(template, names)))
                .taken(question);
        }
        match self.config.unmatched {
            Unmatched::Absent => Route::Absent,
            Unmatched::Wildcard => self.wildcard.taken(question),
            Unmatched::Heuristic => self.learnt(path, question),
        }
    }

    /// Text of a template: slow, asked once per series.
    pub(crate) fn text(&self, id: RouteId) -> Option<Arc<str>> {
        self.names.text(id)
    }

    /// Forgets templates that were last used before; numbers in `in_series` stay with their texts.
    pub(crate) fn expire(&mut self, used_before_ns: u64, mut in_series: HashSet<RouteId>) {
        self.tree.expire(used_before_ns);
        let patterns = self.patterns.iter().flatten().map(AsRef::as_ref);
        let fixed = patterns.chain([&self.wildcard, &self.asterisk]);
        in_series.extend(fixed.map(|leaf| leaf.id));
        self.tree.for_each(&mut |leaf| {
            in_series.insert(leaf.id);
        });
        self.names.retain(&in_series);
    }

    /// Number of learnt templates.
    pub(crate) fn learnt_len(&self) -> usize {
        self.tree.len()
    }

    /// Templates that absorbed something.
    pub(crate) fn uses(&self) -> Vec<RouteUse> {
        let mut uses = Vec::new();
        let mut push = |leaf: &Leaf, source| {
            if leaf.exchanges > 0 {
                let template = Arc::clone(&leaf.template);
                uses.push(RouteUse {
                    template,
                    source,
                    exchanges: leaf.exchanges,
                });
            }
        };
        self.patterns
            .iter()
            .flatten()
            .for_each(|leaf| push(leaf, RouteSource::Pattern));
        self.tree
            .for_each(&mut |leaf| push(leaf, RouteSource::Learnt));
        push(&self.asterisk, RouteSource::Learnt);
        push(&self.wildcard, RouteSource::Wildcard);
        uses
    }

    /// Levels of paths that were folded, as templates; at most [`MOST_FOLDS`].
    pub(crate) fn folds(&self) -> Vec<String> {
        let mut folds = self.tree.folds();
        folds.truncate(MOST_FOLDS);
        folds
    }

    /// Folds what was folded before; what cannot be a fold is passed over.
    pub(crate) fn restore<'a>(&mut self, folds: impl Iterator<Item = &'a String>) {
        for fold in folds.take(MOST_FOLDS) {
            self.tree.restore(fold, &mut self.names);
        }
    }

    /// Patterns for the configuration that say what was learnt.
    pub(crate) fn suggestions(&self) -> Vec<SuggestedPattern> {
        suggest::suggest(&self.uses())
    }

    fn learnt(&mut self, path: &[u8], question: &Question<'_>) -> Route {
        if !question.target_cut
            && let Some(leaf) = self.tree.find(path)
        {
            return leaf.taken(question);
        }
        let minted = if question.may_mint() {
            self.tree.mint(path, &mut self.names)
        } else {
            None
        };
        minted.unwrap_or(&mut self.wildcard).taken(question)
    }

    fn without_path(&mut self, question: &Question<'_>) -> Route {
        match (question.target, self.config.unmatched) {
            // A tunnel has no path; its target is an address.
            (TargetForm::Authority { .. }, _) | (_, Unmatched::Absent) => Route::Absent,
            (TargetForm::Asterisk, Unmatched::Heuristic) => self.asterisk.taken(question),
            _ => self.wildcard.taken(question),
        }
    }
}

impl Leaf {
    fn taken(&mut self, question: &Question<'_>) -> Route {
        self.last_used_ns = question.now_ns;
        self.exchanges += 1;
        Route::Template(self.id)
    }
}

#[cfg(test)]
mod tests;
