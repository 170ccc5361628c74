//! Tells paths that went out as they came from templates. Independent of what makes the templates.

/// Why a route is no template.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A query string or a fragment hangs on.
    Query,
    /// A segment is a value.
    Value(&'static str),
}

/// What is wrong with a route, if something is.
pub(super) fn flaw(route: &str) -> Option<Flaw> {
    if route.contains(['?', '#']) && !is_expression(route) {
        return Some(Flaw::Query);
    }
    let path = match route.split_once("://") {
        // The authority of an absolute template is no path.
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => route,
    };
    path.split('/').find_map(value).map(Flaw::Value)
}

/// Frameworks that route by regular expressions name the route by one, and `?` belongs to its syntax.
fn is_expression(route: &str) -> bool {
    route.contains("(?") || route.contains('\\') || route.starts_with('^')
}

/// What kind of value a segment is; `None` for words and parameters.
fn value(segment: &str) -> Option<&'static str> {
    if segment.is_empty() || segment.contains(['{', '}', '<', '>', '*', '[', '(', '\\', '$', '^']) {
        return None;
    }
    if segment.starts_with(':') {
        return None;
    }
    let bytes = segment.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let is_hex = |text: &[u8]| text.iter().all(u8::is_ascii_hexdigit);
    let is_number = digits > 0
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_digit() || b"-_.,:+~".contains(byte));
    if is_number {
        return Some("a number or a date");
    }
    if is_uuid(bytes) {
        return Some("a UUID");
    }
    let hex = bytes.strip_prefix(b"0x").unwrap_or(bytes);
    if is_hex(hex) && (hex.len() >= 16 || (digits > 0 && hex.len() >= 7)) {
        return Some("a hexadecimal id");
    }
    if segment.contains('%') && has_escape(bytes) {
        return Some("an encoded value");
    }
    if let Some((user, domain)) = segment.split_once('@')
        && !user.is_empty()
        && domain.contains('.')
    {
        return Some("an e-mail address");
    }
    let is_long = bytes.len() > 64 || (bytes.len() >= 20 && digits * 5 >= bytes.len());
    is_long.then_some("a long token")
}

fn is_uuid(bytes: &[u8]) -> bool {
    bytes.len() == 36
        && bytes.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

fn has_escape(bytes: &[u8]) -> bool {
    bytes
        .windows(3)
        .any(|three| three[0] == b'%' && three[1..].iter().all(u8::is_ascii_hexdigit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_paths_are_told() {
        for route in [
            "/users/123",
            "/users/123/orders",
            "/a/550e8400-e29b-41d4-a716-446655440000",
            "/blobs/9f86d081884c7d659a2feaa0c55ad015",
            "/commit/1a2b3c4",
            "/daily/2024-01-31",
            "/u/jane@example.com",
            "/q/a%20b",
            "/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9x0x1x2x3x4x5x6x7x8x9",
            "https://api.example.com/users/42",
        ] {
            assert!(matches!(flaw(route), Some(Flaw::Value(_))), "{route}");
        }
        for route in ["/users?id=1", "/search/{term}?q=x", "/a#b"] {
            assert_eq!(flaw(route), Some(Flaw::Query), "{route}");
        }
    }

    #[test]
    fn templates_are_left_alone() {
        for route in [
            "/",
            "/**",
            "*",
            "/users/{id}",
            "/api/v1/users/{user_id}/orders/{order-id}",
            "/files/{path...}",
            "users/:id",
            "/users/<int:id>",
            "^users/(?P<id>[0-9]+)/?$",
            "/oauth2/callback",
            "/facade/decade",
            "/.well-known/openid-configuration",
            "https://api.example.com:8443/users/{id}",
            "/v2.1/things",
            "/a-rather-long-name-of-an-interface-without-digits",
            "",
        ] {
            assert_eq!(flaw(route), None, "{route}");
        }
    }
}
