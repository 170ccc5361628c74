//! The operator's templates: literal segments, `{name}` and a last `{rest...}`; the most specific wins.

use std::fmt;
use std::sync::Arc;

/// Why a pattern was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternError {
    /// It does not begin with a slash.
    #[error("route pattern `{0}` does not begin with `/`")]
    NoSlash(String),
    /// It holds a query or a fragment.
    #[error("route pattern `{0}` holds `?` or `#`, expected a path only")]
    Query(String),
    /// Its parameters are not well formed.
    #[error(
        "route pattern `{0}` is malformed, expected whole segments like `{{name}}` and at most a last `{{rest...}}`"
    )]
    Malformed(String),
    /// It matches the same paths as another.
    #[error("route pattern `{pattern}` conflicts with `{other}`")]
    Conflict {
        /// The later one.
        pattern: String,
        /// The earlier one.
        other: String,
    },
}

/// Patterns that a path can be held against without allocating. Copies share them: every service has one.
#[derive(Clone, Default)]
pub struct PatternSet(Arc<Patterns>);

#[derive(Default)]
struct Patterns {
    templates: Vec<Arc<str>>,
    router: matchit::Router<usize>,
}

impl PatternSet {
    /// Parses patterns; two that match the same paths are an error.
    pub fn parse<'a>(patterns: impl IntoIterator<Item = &'a str>) -> Result<Self, PatternError> {
        let mut set = Patterns::default();
        let mut rests = Vec::new();
        for pattern in patterns {
            let syntax = set.insert(pattern)?;
            if let Some((directory, _)) = syntax.split_once("{*") {
                rests.push((directory.to_owned(), set.templates.len() - 1));
            }
        }
        for (directory, position) in rests {
            // `{rest...}` stands for nothing too; where a pattern of its own has that path, that one goes before.
            let _taken = set.router.insert(directory, position).is_err();
        }
        Ok(Self(Arc::new(set)))
    }

    /// Position and text of the pattern that matches a path.
    pub fn find(&self, path: &str) -> Option<(usize, &Arc<str>)> {
        let position = *self.0.router.at(path).ok()?.value;
        Some((position, self.0.templates.get(position)?))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.templates.is_empty()
    }
}

impl Patterns {
    /// Adds a pattern; returns it in the router's syntax.
    fn insert(&mut self, pattern: &str) -> Result<String, PatternError> {
        let syntax = router_syntax(pattern)?;
        let position = self.templates.len();
        self.router
            .insert(syntax.as_str(), position)
            .map_err(|error| match error {
                matchit::InsertError::Conflict { .. } => PatternError::Conflict {
                    pattern: pattern.to_owned(),
                    other: self.conflicting(pattern),
                },
                _ => PatternError::Malformed(pattern.to_owned()),
            })?;
        self.templates.push(pattern.into());
        Ok(syntax)
    }

    /// The earlier pattern with the same shape.
    fn conflicting(&self, pattern: &str) -> String {
        let shape = |text: &str| -> Vec<String> { text.split('/').map(segment_shape).collect() };
        let wanted = shape(pattern);
        let same = self
            .templates
            .iter()
            .find(|template| shape(template) == wanted);
        same.map_or_else(
            || "an earlier pattern".to_owned(),
            |template| (**template).to_owned(),
        )
    }
}

impl PartialEq for PatternSet {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.0.templates == other.0.templates
    }
}

impl Eq for PatternSet {}

impl fmt::Debug for PatternSet {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_list().entries(&self.0.templates).finish()
    }
}

/// Rewrites a pattern for the router, in which a last parameter is `{*rest}`.
fn router_syntax(pattern: &str) -> Result<String, PatternError> {
    if !pattern.starts_with('/') {
        return Err(PatternError::NoSlash(pattern.to_owned()));
    }
    if pattern.contains(['?', '#']) {
        return Err(PatternError::Query(pattern.to_owned()));
    }
    let malformed = || PatternError::Malformed(pattern.to_owned());
    let segments: Vec<&str> = pattern[1..].split('/').collect();
    let mut syntax = String::with_capacity(pattern.len());
    for (position, segment) in segments.iter().enumerate() {
        syntax.push('/');
        let Some(name) = segment
            .strip_prefix('{')
            .and_then(|rest| rest.strip_suffix('}'))
        else {
            if segment.contains(['{', '}']) {
                return Err(malformed());
            }
            syntax.push_str(segment);
            continue;
        };
        let rest = name.strip_suffix("...");
        let name = rest.unwrap_or(name);
        let is_last = position + 1 == segments.len();
        let is_name = name
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
        if name.is_empty() || !is_name || (rest.is_some() && !is_last) {
            return Err(malformed());
        }
        syntax.push_str(if rest.is_some() { "{*" } else { "{" });
        syntax.push_str(name);
        syntax.push('}');
    }
    Ok(syntax)
}

fn segment_shape(segment: &str) -> String {
    if segment.starts_with('{') {
        return if segment.ends_with("...}") {
            "{...}"
        } else {
            "{}"
        }
        .to_owned();
    }
    segment.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find<'a>(set: &'a PatternSet, path: &str) -> Option<&'a str> {
        set.find(path).map(|(_, template)| &**template)
    }

    #[test]
    fn the_most_specific_wins() {
        let set = PatternSet::parse([
            "/users/{id}",
            "/users/me",
            "/users/{id}/posts/{post}",
            "/files/{path...}",
            "/",
        ])
        .unwrap();
        assert_eq!(find(&set, "/users/7"), Some("/users/{id}"));
        assert_eq!(find(&set, "/users/me"), Some("/users/me"));
        assert_eq!(
            find(&set, "/users/me/posts/1"),
            Some("/users/{id}/posts/{post}")
        );
        assert_eq!(find(&set, "/files/a/b"), Some("/files/{path...}"));
        assert_eq!(find(&set, "/files/"), Some("/files/{path...}"));
        assert_eq!(find(&set, "/"), Some("/"));
        assert_eq!(find(&set, "/users"), None);
        assert_eq!(find(&set, "/users/7/"), None);
    }

    #[test]
    fn a_pattern_of_its_own_goes_before_an_empty_rest() {
        for patterns in [["/f/{rest...}", "/f/"], ["/f/", "/f/{rest...}"]] {
            let set = PatternSet::parse(patterns).unwrap();
            assert_eq!(find(&set, "/f/"), Some("/f/"), "{patterns:?}");
            assert_eq!(find(&set, "/f/x"), Some("/f/{rest...}"));
        }
    }

    #[test]
    fn refuses_what_it_cannot_match() {
        let refused = |pattern: &str| PatternSet::parse([pattern]).unwrap_err();
        assert_eq!(refused("users"), PatternError::NoSlash("users".to_owned()));
        assert_eq!(refused("/a?b"), PatternError::Query("/a?b".to_owned()));
        for pattern in [
            "/{a",
            "/a}",
            "/x{a}",
            "/{}",
            "/{a...}/b",
            "/{a b}",
            "/{*a}",
            "/{...}",
        ] {
            assert_eq!(
                refused(pattern),
                PatternError::Malformed(pattern.to_owned())
            );
        }
        assert_eq!(
            PatternSet::parse(["/a/{b}", "/a/{c}"]).unwrap_err(),
            PatternError::Conflict {
                pattern: "/a/{c}".to_owned(),
                other: "/a/{b}".to_owned()
            }
        );
    }
}
