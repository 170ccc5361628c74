//! Templates learnt from paths: a tree of segments per service, in which crowded levels are folded.

use std::sync::Arc;

use hashbrown::HashMap;

use super::names::{Names, RouteId};
use super::segment::{Kind, Segment, segments};

/// Words that may stand side by side before the level becomes one parameter; less where few templates are
/// allowed, so that a level folds before they run out.
const FOLD_WORDS: usize = 32;

/// Segments of a template; what lies deeper is `/**`.
const DEPTH: usize = 12;

/// Stands for the words of a folded level.
const FOLDED: &str = "{param}";

/// Stands for all segments below [`DEPTH`].
pub(super) const DEEPER: &str = "**";

/// A template that is in use.
#[derive(Clone, Debug)]
pub(super) struct Leaf {
    pub(super) id: RouteId,
    pub(super) template: Arc<str>,
    pub(super) last_used_ns: u64,
    pub(super) exchanges: u64,
}

#[derive(Debug, Default)]
struct Node {
    /// A path ends here.
    leaf: Option<Leaf>,
    /// Paths go on beyond [`DEPTH`].
    deeper: Option<Leaf>,
    words: HashMap<Box<str>, Self>,
    values: [Option<Box<Self>>; Kind::COUNT],
    /// Set once and for good: stands for every word of this level.
    folded: Option<Box<Self>>,
}

/// The learnt templates of one service.
#[derive(Debug)]
pub(super) struct Tree {
    root: Node,
    leaves: usize,
    max_leaves: usize,
    fold_words: usize,
}

impl Tree {
    pub(super) fn new(max_leaves: usize) -> Self {
        Self {
            root: Node::default(),
            leaves: 0,
            max_leaves,
            fold_words: (max_leaves / 3).clamp(2, FOLD_WORDS),
        }
    }

    #[cfg(test)]
    pub(super) fn set_fold_words(&mut self, words: usize) {
        self.fold_words = words;
    }

    /// The template of a path, if it is known.
    pub(super) fn find(&mut self, path: &[u8]) -> Option<&mut Leaf> {
        let mut node = &mut self.root;
        for (depth, segment) in segments(path).enumerate() {
            if depth == DEPTH {
                return node.deeper.as_mut();
            }
            node = node.child(segment)?;
        }
        node.leaf.as_mut()
    }

    /// Makes the template of a path that is not known; `None` if there is no room.
    pub(super) fn mint(&mut self, path: &[u8], names: &mut Names) -> Option<&mut Leaf> {
        if self.leaves >= self.max_leaves {
            return None;
        }
        let mut template = String::new();
        let mut node = &mut self.root;
        let mut is_deeper = false;
        let mut folded = false;
        for (depth, segment) in segments(path).enumerate() {
            if depth == DEPTH {
                template.push('/');
                template.push_str(DEEPER);
                is_deeper = true;
                break;
            }
            if segment != Segment::Value(Kind::Key) {
                template.push('/');
            }
            folded |= node.fold_for(segment, self.fold_words, &mut template, names);
            node = node.child_or_new(segment, &mut template);
        }
        if template.is_empty() {
            template.push('/');
        }
        let place = if is_deeper {
            &mut node.deeper
        } else {
            &mut node.leaf
        };
        // Folding may have brought a template for this path along.
        place.get_or_insert_with(|| Leaf::new(&template, names));
        self.leaves = if folded {
            self.root.leaves()
        } else {
            self.leaves + 1
        };
        self.find(path)
    }

    /// Forgets templates that were last used before; what was folded stays folded.
    pub(super) fn expire(&mut self, used_before_ns: u64) {
        self.root.expire(used_before_ns);
        self.leaves = self.root.leaves();
    }

    /// Number of templates.
    pub(super) fn len(&self) -> usize {
        self.leaves
    }

    /// Levels that were folded, each as the template that its folding begins, in order.
    pub(super) fn folds(&self) -> Vec<String> {
        let mut folds = Vec::new();
        self.root.folds(&mut String::new(), &mut folds);
        folds.sort_unstable();
        folds
    }

    /// Folds a level that was folded before, as [`Tree::folds`] told it.
    pub(super) fn restore(&mut self, fold: &str, names: &mut Names) {
        let Some(steps) = steps(fold) else {
            return;
        };
        let mut prefix = String::new();
        let mut node = &mut self.root;
        for step in steps {
            prefix.push_str(match step {
                Step::Segment(Segment::Value(Kind::Key)) => "",
                _ => "/",
            });
            node = match step {
                Step::Segment(segment) => node.child_or_new(segment, &mut prefix),
                Step::Folded => {
                    if node.folded.is_none() {
                        node.fold(self.fold_words);
                        node.rename_folded(&mut prefix, names);
                    }
                    prefix.push_str(FOLDED);
                    node.folded.get_or_insert_default()
                }
            };
        }
        self.leaves = self.root.leaves();
    }

    /// Calls `visit` for each template.
    pub(super) fn for_each(&self, visit: &mut dyn FnMut(&Leaf)) {
        self.root.for_each(visit);
    }
}

impl Node {
    fn child(&mut self, segment: Segment<'_>) -> Option<&mut Self> {
        match segment {
            Segment::Value(kind) => self.values[kind as usize].as_deref_mut(),
            Segment::Word(word) => match &mut self.folded {
                Some(folded) => Some(folded),
                None => self.words.get_mut(word),
            },
        }
    }

    fn child_or_new(&mut self, segment: Segment<'_>, template: &mut String) -> &mut Self {
        match segment {
            Segment::Value(kind) => {
                template.push_str(kind.parameter());
                self.values[kind as usize].get_or_insert_default()
            }
            Segment::Word(word) => {
                if let Some(folded) = &mut self.folded {
                    template.push_str(FOLDED);
                    return folded;
                }
                template.push_str(word);
                self.words.entry(word.into()).or_default()
            }
        }
    }

    /// Folds the words of this level if one more would be too many; `prefix` is the template up to here.
    fn fold_for(
        &mut self,
        next: Segment<'_>,
        bound: usize,
        prefix: &mut String,
        names: &mut Names,
    ) -> bool {
        let Segment::Word(word) = next else {
            return false;
        };
        let fits = self.words.len() < bound || self.words.contains_key(word);
        if self.folded.is_some() || fits {
            return false;
        }
        self.fold(bound);
        self.rename_folded(prefix, names);
        true
    }

    fn rename_folded(&mut self, prefix: &mut String, names: &mut Names) {
        if let Some(folded) = &mut self.folded {
            let len = prefix.len();
            prefix.push_str(FOLDED);
            folded.rename(prefix, names);
            prefix.truncate(len);
        }
    }

    fn fold(&mut self, bound: usize) {
        let mut folded = self.folded.take().unwrap_or_default();
        for (_, node) in self.words.drain() {
            folded.absorb(node, bound);
        }
        self.words.shrink_to_fit();
        self.folded = Some(folded);
    }

    /// Takes over another node's paths. The outcome is the same in whatever order nodes are taken over: a level
    /// is folded if it was in any of them, or if their words together are too many.
    fn absorb(&mut self, other: Self, bound: usize) {
        absorb_leaf(&mut self.leaf, other.leaf);
        absorb_leaf(&mut self.deeper, other.deeper);
        for (mine, theirs) in self.values.iter_mut().zip(other.values) {
            if let Some(theirs) = theirs {
                mine.get_or_insert_default().absorb(*theirs, bound);
            }
        }
        for (word, node) in other.words {
            self.words.entry(word).or_default().absorb(node, bound);
        }
        if let Some(folded) = other.folded {
            self.folded.get_or_insert_default().absorb(*folded, bound);
        }
        if self.words.len() > bound || (self.folded.is_some() && !self.words.is_empty()) {
            self.fold(bound);
        }
    }

    /// Gives the templates of this subtree the names that they have after folding.
    fn rename(&mut self, prefix: &mut String, names: &mut Names) {
        if let Some(leaf) = &mut self.leaf {
            leaf.rename(prefix, names);
        }
        let len = prefix.len();
        if let Some(leaf) = &mut self.deeper {
            prefix.push('/');
            prefix.push_str(DEEPER);
            leaf.rename(prefix, names);
            prefix.truncate(len);
        }
        let words = self.words.iter_mut().map(|(word, node)| (&**word, node));
        let values = Kind::ALL
            .iter()
            .zip(&mut self.values)
            .filter_map(|(kind, node)| Some((kind.parameter(), node.as_deref_mut()?)));
        let folded = self.folded.as_deref_mut().map(|node| (FOLDED, node));
        for (name, node) in words.chain(values).chain(folded) {
            if name != Kind::Key.parameter() {
                prefix.push('/');
            }
            prefix.push_str(name);
            node.rename(prefix, names);
            prefix.truncate(len);
        }
    }

    fn folds(&self, prefix: &mut String, folds: &mut Vec<String>) {
        let words = self.words.iter().map(|(word, node)| (&**word, node));
        let values = Kind::ALL
            .iter()
            .zip(&self.values)
            .filter_map(|(kind, node)| Some((kind.parameter(), node.as_deref()?)));
        let folded = self.folded.as_deref().map(|node| (FOLDED, node));
        for (name, node) in words.chain(values).chain(folded) {
            let len = prefix.len();
            if name != Kind::Key.parameter() {
                prefix.push('/');
            }
            prefix.push_str(name);
            if name == FOLDED {
                folds.push(prefix.clone());
            }
            node.folds(prefix, folds);
            prefix.truncate(len);
        }
    }

    fn expire(&mut self, used_before_ns: u64) {
        for place in [&mut self.leaf, &mut self.deeper] {
            place.take_if(|leaf| leaf.last_used_ns < used_before_ns);
        }
        self.words.retain(|_, node| {
            node.expire(used_before_ns);
            !node.is_empty()
        });
        for place in &mut self.values {
            if let Some(node) = place {
                node.expire(used_before_ns);
            }
            place.take_if(|node| node.is_empty());
        }
        if let Some(node) = &mut self.folded {
            node.expire(used_before_ns);
        }
    }

    /// A folded level is something to remember even when nothing is left below it.
    fn is_empty(&self) -> bool {
        self.leaf.is_none()
            && self.deeper.is_none()
            && self.folded.is_none()
            && self.words.is_empty()
            && self.values.iter().all(Option::is_none)
    }

    fn leaves(&self) -> usize {
        let mut leaves = 0;
        self.for_each(&mut |_| leaves += 1);
        leaves
    }

    fn for_each(&self, visit: &mut dyn FnMut(&Leaf)) {
        self.leaf.iter().chain(&self.deeper).for_each(&mut *visit);
        let values = self
            .values
            .iter()
            .chain([&self.folded])
            .flatten()
            .map(|node| &**node);
        for node in self.words.values().chain(values) {
            node.for_each(visit);
        }
    }
}

impl Leaf {
    pub(super) fn new(template: &str, names: &mut Names) -> Self {
        let (id, template) = names.intern(template);
        Self {
            id,
            template,
            last_used_ns: 0,
            exchanges: 0,
        }
    }

    fn rename(&mut self, template: &str, names: &mut Names) {
        (self.id, self.template) = names.intern(template);
    }
}

/// Whether a text can be what [`Tree::folds`] told.
pub(crate) fn is_fold(text: &str) -> bool {
    steps(text).is_some()
}

/// A segment of a template of a fold.
enum Step<'a> {
    Segment(Segment<'a>),
    Folded,
}

/// Reads a template of a fold; what cannot be one is refused, so that no raw path comes in by this way.
fn steps(fold: &str) -> Option<Vec<Step<'_>>> {
    let path = fold.strip_prefix('/')?;
    let mut steps = Vec::new();
    for text in path.split('/') {
        let (text, has_key) = match text.strip_suffix(Kind::Key.parameter()) {
            Some(word) => (word, true),
            None => (text, false),
        };
        steps.push(match Kind::with_parameter(text) {
            _ if text == FOLDED => Step::Folded,
            Some(kind) => Step::Segment(Segment::Value(kind)),
            None => Step::Segment(word(text)?),
        });
        if has_key {
            steps.push(Step::Segment(Segment::Value(Kind::Key)));
        }
    }
    let is_fold = matches!(steps.last(), Some(Step::Folded)) && steps.len() <= DEPTH;
    is_fold.then_some(steps)
}

/// A segment that is nothing but a word.
fn word(text: &str) -> Option<Segment<'_>> {
    let mut found = segments(text.as_bytes());
    let word = found
        .next()
        .filter(|segment| *segment == Segment::Word(text))?;
    found.next().is_none().then_some(word)
}

fn absorb_leaf(mine: &mut Option<Leaf>, theirs: Option<Leaf>) {
    match (&mut *mine, theirs) {
        (Some(mine), Some(theirs)) => {
            mine.last_used_ns = mine.last_used_ns.max(theirs.last_used_ns);
            mine.exchanges += theirs.exchanges;
        }
        (None, Some(theirs)) => *mine = Some(theirs),
        (_, None) => {}
    }
}
