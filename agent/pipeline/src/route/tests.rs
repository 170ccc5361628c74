//! Tests of the whole stage.

use proptest::prelude::*;

use super::*;

fn question<'a>(method: &str, target: &'a str, status: Option<u16>) -> Question<'a> {
    Question {
        target: TargetForm::parse(method, target.as_bytes()),
        target_cut: false,
        status,
        now_ns: 1,
    }
}

fn get(routes: &mut Routes, target: &str, status: u16) -> String {
    template(routes, &question("GET", target, Some(status)))
}

fn template(routes: &mut Routes, question: &Question<'_>) -> String {
    match routes.route(question) {
        Route::Absent => "absent".to_owned(),
        Route::Template(id) => routes.text(id).unwrap().to_string(),
    }
}

fn heuristic() -> Routes {
    Routes::new(&RouteConfig::default())
}

#[test]
fn values_become_parameters() {
    let mut routes = heuristic();
    assert_eq!(get(&mut routes, "/", 200), "/");
    assert_eq!(
        get(&mut routes, "/users/42/posts?page=2", 200),
        "/users/{id}/posts"
    );
    assert_eq!(
        get(&mut routes, "http://h/users/43/posts", 200),
        "/users/{id}/posts"
    );
    assert_eq!(get(&mut routes, "/a//b/", 302), "/a/b");
    assert_eq!(get(&mut routes, "/broken", 500), "/broken");
}

#[test]
fn scanners_mint_nothing() {
    let mut routes = heuristic();
    assert_eq!(get(&mut routes, "/admin", 404), "/**");
    assert_eq!(
        template(&mut routes, &question("GET", "/admin", None)),
        "/**"
    );
    let cut = Question {
        target_cut: true,
        ..question("GET", "/admin", Some(200))
    };
    assert_eq!(template(&mut routes, &cut), "/**");
    assert_eq!(routes.learnt_len(), 0);
    assert_eq!(get(&mut routes, "/admin", 200), "/admin");
    assert_eq!(get(&mut routes, "/admin", 404), "/admin");
}

#[test]
fn a_crowded_level_folds_for_good() {
    let mut routes = heuristic();
    for word in words(40) {
        get(&mut routes, &format!("/people/{word}/photo"), 200);
    }
    assert_eq!(
        get(&mut routes, "/people/anyone/photo", 404),
        "/people/{param}/photo"
    );
    assert_eq!(
        get(&mut routes, "/people/7/photo", 200),
        "/people/{id}/photo"
    );
    assert_eq!(routes.learnt_len(), 2);
    routes.expire(u64::MAX, HashSet::new());
    assert_eq!(routes.learnt_len(), 0);
    assert_eq!(
        get(&mut routes, "/people/anyone/photo", 200),
        "/people/{param}/photo"
    );
}

#[test]
fn a_full_service_uses_what_it_has() {
    let config = RouteConfig {
        max_per_service: 2,
        ..RouteConfig::default()
    };
    let mut routes = Routes::new(&config);
    assert_eq!(get(&mut routes, "/a", 200), "/a");
    assert_eq!(get(&mut routes, "/a/b", 200), "/a/b");
    assert_eq!(get(&mut routes, "/c/d", 200), "/**");
    assert_eq!(get(&mut routes, "/a", 200), "/a");
}

#[test]
fn idle_templates_give_their_place_back() {
    let mut routes = heuristic();
    let old = Question {
        now_ns: 10,
        ..question("GET", "/old/1", Some(200))
    };
    let new = Question {
        now_ns: 20,
        ..question("GET", "/new", Some(200))
    };
    let id = |route: Route| match route {
        Route::Template(id) => id,
        Route::Absent => panic!("no template"),
    };
    let first = id(routes.route(&old));
    routes.route(&new);
    routes.expire(15, HashSet::from([first]));
    assert_eq!(routes.learnt_len(), 1);
    assert_eq!(
        id(routes.route(&old)),
        first,
        "a series still has the number"
    );
    routes.expire(15, HashSet::new());
    assert_ne!(
        id(routes.route(&old)),
        first,
        "a number is never used for another template"
    );
}

#[test]
fn the_same_text_has_the_same_number() {
    let config = RouteConfig {
        patterns: PatternSet::parse(["/users/{id}"]).unwrap(),
        ..RouteConfig::default()
    };
    let mut routes = Routes::new(&config);
    let by_pattern = match routes.route(&question("GET", "/users/5", Some(200))) {
        Route::Template(id) => id,
        Route::Absent => panic!("no template"),
    };
    routes.reload(&RouteConfig::default());
    let learnt = match routes.route(&question("GET", "/users/5/", Some(200))) {
        Route::Template(id) => id,
        Route::Absent => panic!("no template"),
    };
    assert_eq!(learnt, by_pattern);
    assert_eq!(routes.text(learnt).as_deref(), Some("/users/{id}"));
}

#[test]
fn forms_without_a_path_are_answered() {
    let mut routes = heuristic();
    assert_eq!(
        template(&mut routes, &question("OPTIONS", "*", Some(200))),
        "*"
    );
    assert_eq!(
        template(&mut routes, &question("CONNECT", "h:443", Some(200))),
        "absent"
    );
    assert_eq!(
        template(&mut routes, &question("GET", "nonsense", Some(200))),
        "/**"
    );
}

#[test]
fn patterns_go_first_and_the_rest_is_as_configured() {
    let config = |unmatched| RouteConfig {
        patterns: PatternSet::parse(["/users/{name}", "/static/{file...}"]).unwrap(),
        ignore: PatternSet::parse(["/healthz"]).unwrap(),
        unmatched,
        max_per_service: 100,
    };
    for (unmatched, other, options) in [
        (Unmatched::Heuristic, "/other/{id}", "*"),
        (Unmatched::Wildcard, "/**", "/**"),
        (Unmatched::Absent, "absent", "absent"),
    ] {
        let mut routes = Routes::new(&config(unmatched));
        assert_eq!(get(&mut routes, "/users/ann?x", 404), "/users/{name}");
        assert_eq!(
            get(&mut routes, "/static/js/app.js", 200),
            "/static/{file...}"
        );
        assert!(routes.ignores(&question("GET", "/healthz?verbose", Some(200))));
        assert!(!routes.ignores(&question("GET", "/health", Some(200))));
        assert!(!routes.ignores(&Question {
            target_cut: true,
            ..question("GET", "/healthz", None)
        }));
        assert_eq!(get(&mut routes, "/other/5", 200), other);
        assert_eq!(
            template(&mut routes, &question("OPTIONS", "*", Some(200))),
            options
        );
    }
}

#[test]
fn uses_are_counted() {
    let mut routes = heuristic();
    for word in words(40) {
        get(&mut routes, &format!("/{word}"), 200);
    }
    get(&mut routes, "/nothing/here", 404);
    let uses = routes.uses();
    assert_eq!(uses.iter().map(|used| used.exchanges).sum::<u64>(), 41);
    assert!(
        uses.iter()
            .any(|used| &*used.template == "/{param}" && used.exchanges == 40)
    );
    assert!(
        uses.iter()
            .any(|used| used.source == RouteSource::Wildcard && used.exchanges == 1)
    );
}

fn words(count: usize) -> impl Iterator<Item = String> {
    (0..count).map(|number| {
        let letter = |digit: usize| char::from(b'g' + u8::try_from(digit % 16).unwrap());
        [letter(number), letter(number / 16), letter(number / 256)]
            .iter()
            .collect()
    })
}

proptest! {
    #[test]
    fn templates_are_bounded_and_hold_no_query(
        paths in proptest::collection::vec(("(/[a-z0-9%.]{0,12}){1,15}", "[a-z=&]{0,9}"), 1..300),
    ) {
        let config = RouteConfig { max_per_service: 20, ..RouteConfig::default() };
        let mut routes = Routes::new(&config);
        for (path, query) in &paths {
            let found = get(&mut routes, &format!("{path}?{query}SECRET"), 200);
            prop_assert!(!found.contains('?') && !found.contains("SECRET"));
            prop_assert!(found.len() <= 13 * 41);
            prop_assert!(routes.learnt_len() <= 20);
        }
        prop_assert_eq!(routes.learnt_len(), routes.tree_leaves());
    }

    #[test]
    fn order_does_not_matter(
        paths in proptest::collection::vec("/[g-k]{1,2}(/[g-z]{1,2}){0,2}", 1..200), seed in any::<u64>(),
    ) {
        let config = RouteConfig { max_per_service: 100_000, ..RouteConfig::default() };
        let mut shuffled = paths.clone();
        shuffled.sort_by_key(|path| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (seed, path).hash(&mut hasher);
            hasher.finish()
        });
        let (mut one, mut other) = (Routes::with_fold_words(&config, 4), Routes::with_fold_words(&config, 4));
        for path in &paths {
            get(&mut one, path, 200);
        }
        for path in &shuffled {
            get(&mut other, path, 200);
        }
        for path in &paths {
            prop_assert_eq!(get(&mut one, path, 404), get(&mut other, path, 404));
        }
        prop_assert_eq!(one.learnt_len(), other.learnt_len());
        prop_assert_eq!(one.learnt_len(), one.tree_leaves());
    }
}

impl Routes {
    fn tree_leaves(&self) -> usize {
        let mut leaves = 0;
        self.tree.for_each(&mut |_| leaves += 1);
        leaves
    }

    fn with_fold_words(config: &RouteConfig, fold_words: usize) -> Self {
        let mut routes = Self::new(config);
        routes.tree.set_fold_words(fold_words);
        routes
    }
}
