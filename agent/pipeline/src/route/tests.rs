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

#[test]
fn folds_outlive_the_service() {
    let mut routes = heuristic();
    for word in words(40) {
        get(&mut routes, &format!("/people/{word}/photos/{word}"), 200);
        get(&mut routes, &format!("/odata/People(5)/{word}"), 200);
    }
    get(&mut routes, "/people/7/photo", 200);
    let folds = routes.folds();
    assert_eq!(
        folds,
        [
            "/odata/People({key})/{param}",
            "/people/{param}",
            "/people/{param}/photos/{param}"
        ]
    );
    let mut next = heuristic();
    next.restore(folds.iter());
    assert_eq!(next.learnt_len(), 0);
    assert_eq!(next.folds(), folds);
    for path in [
        "/people/ann/photos/me",
        "/odata/People(9)/age",
        "/people/ann/other",
    ] {
        assert_eq!(
            get(&mut next, path, 200),
            get(&mut routes, path, 200),
            "{path}"
        );
    }
    let mut late = heuristic();
    assert_eq!(
        get(&mut late, "/people/ann/photos/me", 200),
        "/people/ann/photos/me"
    );
    late.restore(folds.iter());
    assert_eq!(
        get(&mut late, "/people/ann/photos/me", 404),
        "/people/{param}/photos/{param}"
    );
    assert_eq!(late.learnt_len(), late.tree_leaves());
}

#[test]
fn what_is_no_fold_is_refused() {
    for text in [
        "",
        "/",
        "people/{param}",
        "/people",
        "/people/{id}",
        "/people/{param}/x",
        "/a//{param}",
        "/4711/{param}",
        "/a b/{param}",
        "/a?token=SECRET/{param}",
        "/{param}/ann@example.org/{param}",
        "/{nonsense}/{param}",
        "/a;b/{param}",
        "/a(5)/{param}",
        "/a/a/a/a/a/a/a/a/a/a/a/a/{param}",
    ] {
        assert!(!is_fold(text), "{text}");
    }
    for text in [
        "/{param}",
        "/a/{uuid}/{param}",
        "/A({key})/{param}",
        "/{param}/b/{param}",
    ] {
        assert!(is_fold(text), "{text}");
    }
}

#[test]
fn suggestions_are_patterns_for_the_configuration() {
    let mut routes = heuristic();
    for (path, times) in [
        ("/users/5", 3),
        ("/users/123e4567-e89b-12d3-a456-426614174000", 9),
        ("/users/5/posts/6", 2),
        ("/a/b/c/d/e/f/g/h/i/j/k/l/m", 1),
        ("/Orders(5)", 7),
        ("/", 4),
    ] {
        for _ in 0..times {
            get(&mut routes, path, 200);
        }
    }
    get(&mut routes, "/nothing", 404);
    routes.route(&question("OPTIONS", "*", Some(200)));
    let suggested: Vec<(String, u64)> = routes
        .suggestions()
        .into_iter()
        .map(|suggested| (suggested.pattern, suggested.exchanges))
        .collect();
    let expected = [
        ("/users/{uuid}", 12),
        ("/", 4),
        ("/users/{id}/posts/{id2}", 2),
        ("/a/b/c/d/e/f/g/h/i/j/k/l/{rest...}", 1),
    ];
    assert_eq!(
        suggested,
        expected.map(|(text, count)| (text.to_owned(), count))
    );
}

/// Share of the corpus, in percent, that must come out right.
const RIGHT_PERCENT: usize = 97;

#[test]
fn the_corpus_comes_out_right() {
    let corpus = include_str!("corpus.txt");
    let (mut rows, mut wrong) = (0, Vec::new());
    for section in corpus.split("\n## ").skip(1) {
        let (title, lines) = section.split_once('\n').unwrap();
        let status = if title.contains("404") { 404 } else { 200 };
        let lines: Vec<(&str, &str)> = lines
            .lines()
            .filter_map(|line| line.split_once('\t'))
            .collect();
        let mut together = heuristic();
        if title.contains("together") {
            for (path, _) in &lines {
                get(&mut together, path, status);
            }
        }
        for (path, expected) in lines {
            let found = if title.contains("together") {
                get(&mut together, path, status)
            } else {
                get(&mut heuristic(), path, status)
            };
            rows += 1;
            if found != expected {
                wrong.push(format!("{title}: {path} gave {found}, not {expected}"));
            }
        }
    }
    let right = rows - wrong.len();
    println!("{right} of {rows} paths gave the template they must give");
    assert!(rows >= 150);
    assert!(right * 100 >= rows * RIGHT_PERCENT, "{}", wrong.join("\n"));
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
    fn nodes_that_see_the_same_paths_converge(
        seen in proptest::collection::vec(
            (0..3usize, "(/([g-k]{1,2}|[g-z]{2}|[0-9]{1,4}|[A-C]\\([0-9]\\)|%20|[g-i]{2}-[0-9]{4})){1,4}",
             prop_oneof![9 => Just(200u16), 1 => Just(404)]),
            1..300,
        ),
        seed in any::<u64>(),
    ) {
        let config = RouteConfig { max_per_service: 100_000, ..RouteConfig::default() };
        let mut shuffled = seen.clone();
        shuffled.sort_by_key(|path| {
            use std::hash::{DefaultHasher, Hash, Hasher};
            let mut hasher = DefaultHasher::new();
            (seed, path).hash(&mut hasher);
            hasher.finish()
        });
        let node = |seen: &[(usize, String, u16)]| {
            let mut services: Vec<Routes> =
                (0..3).map(|_| Routes::with_fold_words(&config, 4)).collect();
            for (service, path, status) in seen {
                get(&mut services[*service], path, *status);
            }
            services
        };
        let (mut one, mut other) = (node(&seen), node(&shuffled));
        for (service, path, _) in &seen {
            let found = get(&mut one[*service], path, 404);
            prop_assert_eq!(&found, &get(&mut other[*service], path, 404));
            prop_assert!(found.starts_with('/'));
        }
        for (one, other) in one.iter().zip(&other) {
            prop_assert_eq!(one.learnt_len(), other.learnt_len());
            prop_assert_eq!(one.learnt_len(), one.tree_leaves());
            prop_assert_eq!(one.folds(), other.folds());
        }
    }

    #[test]
    fn what_was_restored_gives_the_same_templates(
        paths in proptest::collection::vec("(/([g-z]{1,2}|[0-9]{2}|[A-C]\\([0-9]\\))){1,4}", 1..200),
    ) {
        let config = RouteConfig { max_per_service: 100_000, ..RouteConfig::default() };
        let mut before = Routes::with_fold_words(&config, 4);
        for path in &paths {
            get(&mut before, path, 200);
        }
        let folds = before.folds();
        prop_assert!(folds.iter().all(|fold| is_fold(fold)));
        let mut after = Routes::with_fold_words(&config, 4);
        after.restore(folds.iter());
        for path in &paths {
            prop_assert_eq!(get(&mut after, path, 200), get(&mut before, path, 200));
        }
        prop_assert_eq!(after.folds(), folds);
    }

    #[test]
    fn suggestions_are_always_accepted(
        paths in proptest::collection::vec("(/([a-c]|[0-9]{2}|[A-C]\\([0-9]\\)|%20|a@b.cd)){0,14}", 1..60),
    ) {
        let mut routes = heuristic();
        for path in &paths {
            get(&mut routes, path, 200);
        }
        let suggested = routes.suggestions();
        let set = PatternSet::parse(suggested.iter().map(|suggested| &*suggested.pattern));
        prop_assert!(set.is_ok(), "{:?} of {:?}", set, suggested);
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
