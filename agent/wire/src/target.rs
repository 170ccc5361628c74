//! The four forms of a request target (RFC 9112, section 3.2).

/// A request target by its form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TargetForm<'a> {
    /// `/path?query`, the ordinary form.
    Origin {
        /// Path without the query.
        path: &'a [u8],
    },
    /// `http://authority/path?query`, as sent to proxies.
    Absolute {
        /// Host and port, user information cut off; goes before the `Host` header.
        authority: &'a [u8],
        /// Path without the query; `/` where it is empty.
        path: &'a [u8],
    },
    /// `host:port`, of CONNECT.
    Authority {
        /// Host and port.
        authority: &'a [u8],
    },
    /// `*`, of OPTIONS.
    Asterisk,
    /// None of the four.
    Other,
}

impl<'a> TargetForm<'a> {
    /// Tells the form of a target; the query and the fragment are left out of every part.
    pub fn parse(method: &str, target: &'a [u8]) -> Self {
        if method == "CONNECT" {
            return Self::Authority {
                authority: without_user_information(target),
            };
        }
        match target {
            b"*" => Self::Asterisk,
            [b'/', ..] => Self::Origin {
                path: split_path(target),
            },
            _ => absolute(target).unwrap_or(Self::Other),
        }
    }

    /// Path, if the form has one.
    pub fn path(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Origin { path } | Self::Absolute { path, .. } => Some(path),
            Self::Authority { .. } | Self::Asterisk | Self::Other => None,
        }
    }

    /// Host and port, if the form has them.
    pub fn authority(&self) -> Option<&'a [u8]> {
        match *self {
            Self::Absolute { authority, .. } | Self::Authority { authority } => Some(authority),
            Self::Origin { .. } | Self::Asterisk | Self::Other => None,
        }
    }
}

/// What precedes the query and the fragment.
pub fn split_path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#'));
    &target[..end.unwrap_or(target.len())]
}

fn absolute(target: &[u8]) -> Option<TargetForm<'_>> {
    let colon = target.iter().position(|byte| *byte == b':')?;
    let (scheme, rest) = target.split_at(colon);
    if !scheme.eq_ignore_ascii_case(b"http") && !scheme.eq_ignore_ascii_case(b"https") {
        return None;
    }
    let rest = rest.strip_prefix(b"://")?;
    let end = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?' | b'#'))
        .unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    let path = split_path(tail);
    Some(TargetForm::Absolute {
        authority: without_user_information(authority),
        path: if path.is_empty() { b"/" } else { path },
    })
}

/// Credentials may precede the host: they are never kept.
fn without_user_information(authority: &[u8]) -> &[u8] {
    match authority.iter().rposition(|byte| *byte == b'@') {
        Some(at) => &authority[at + 1..],
        None => authority,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn tells_the_forms_apart() {
        let origin = TargetForm::parse("GET", b"/a/b?token=secret#f");
        assert_eq!(origin, TargetForm::Origin { path: b"/a/b" });
        let absolute = TargetForm::parse("GET", b"HTTP://user:pw@Example.org:81/x?y");
        assert_eq!(
            absolute,
            TargetForm::Absolute {
                authority: b"Example.org:81",
                path: b"/x"
            }
        );
        let bare = TargetForm::parse("GET", b"http://h?q=1");
        assert_eq!(
            bare,
            TargetForm::Absolute {
                authority: b"h",
                path: b"/"
            }
        );
        let connect = TargetForm::parse("CONNECT", b"h:443");
        assert_eq!(
            connect,
            TargetForm::Authority {
                authority: b"h:443"
            }
        );
        assert_eq!(TargetForm::parse("OPTIONS", b"*"), TargetForm::Asterisk);
        assert_eq!(TargetForm::parse("GET", b"index.html"), TargetForm::Other);
        assert_eq!(TargetForm::parse("GET", b"ftp://h/x"), TargetForm::Other);
    }

    proptest! {
        #[test]
        fn no_part_holds_a_query(method in "[A-Z]{1,8}", target in proptest::collection::vec(any::<u8>(), 0..80)) {
            let form = TargetForm::parse(&method, &target);
            if let Some(path) = form.path() {
                prop_assert!(!path.contains(&b'?') && !path.contains(&b'#'));
                prop_assert!(path.starts_with(b"/"));
            }
            let authority = form.authority().unwrap_or_default();
            prop_assert!(!authority.contains(&b'@'));
        }
    }
}
