//! What both benches send.

use crate::support::Sample;

/// A name with the exchanges that are sent in turn.
pub(crate) type Case = (&'static str, Vec<Sample>);

/// The ordinary cases.
pub(crate) fn ordinary() -> Vec<Case> {
    vec![
        (
            "server, learnt route",
            vec![Sample::server("/users/17/posts?page=2", 200)],
        ),
        ("server, 200 series", two_hundred_series()),
        ("client", vec![Sample::client("/api/v1/items/9", 200)]),
    ]
}

/// Exchanges of 200 series: statuses by routes.
fn two_hundred_series() -> Vec<Sample> {
    let routes = [
        "/users/17/posts?page=2",
        "/healthz",
        "/cart/items",
        "/a/b/c/d",
        "/orders/9f8e7d6c",
    ];
    let of_status = |status| routes.map(|route| Sample::server(route, status));
    (200..240).flat_map(of_status).collect()
}
