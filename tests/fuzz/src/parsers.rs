//! The parsers of user space.

use kerntally_wire::{
    ADDRESS_BYTES, Authority, RequestHead, TargetForm, TraceFormat, TraceFormats, Version,
};

use crate::ring::{Record, parse};

/// A request head: what is parsed lies in the input, and a longer input never says otherwise.
pub fn request(data: &[u8]) {
    let Ok(head) = RequestHead::parse(data) else {
        return;
    };
    assert!(!head.method.is_empty() && !head.target.is_empty());
    assert!(head.target.iter().all(|byte| *byte > b' '));
    for header in head.headers() {
        assert!(!header.name.is_empty() && !header.name.contains(&b':'));
        assert!(!header.value.contains(&b'\n'));
    }
    let host = head.host();
    let first = head.headers().find(|header| header.is(b"host"));
    assert_eq!(host, first.map(|header| header.value));
    for len in [data.len() / 2, data.len().saturating_sub(1)] {
        let Ok(part) = RequestHead::parse(&data[..len]) else {
            continue;
        };
        assert_eq!(part.method, head.method);
        assert!(head.target.starts_with(part.target));
        if part.version != Version::Cut {
            assert_eq!((part.version, part.target), (head.version, head.target));
        }
        assert!(
            part.headers()
                .zip(head.headers())
                .all(|(part, whole)| part == whole)
        );
    }
    TargetForm::parse(head.method, head.target);
}

/// A host with a port: lower case, bounded, and read back from what it is shown as.
pub fn authority(data: &[u8]) {
    let Ok(authority) = Authority::parse(data) else {
        return;
    };
    let text = authority.address.as_str();
    assert!(!text.is_empty() && text.len() <= ADDRESS_BYTES);
    assert_eq!(text, text.to_ascii_lowercase());
    assert_ne!(authority.port, Some(0));
    let shown = if text.contains(':') {
        format!("[{text}]")
    } else {
        text.to_owned()
    };
    assert_eq!(
        Authority::parse(shown.as_bytes()).map(|again| again.address),
        Ok(authority.address)
    );
}

/// A request target: no part of it holds a query, a fragment or credentials.
pub fn target(data: &[u8]) {
    let (method, data) = match data.split_first() {
        Some((b'C', rest)) => ("CONNECT", rest),
        Some((_, rest)) => ("GET", rest),
        None => return,
    };
    let form = TargetForm::parse(method, data);
    if let Some(path) = form.path() {
        assert!(path.starts_with(b"/"));
        assert!(!path.contains(&b'?') && !path.contains(&b'#'));
    }
    assert!(!form.authority().unwrap_or_default().contains(&b'@'));
}

/// Trace headers: no identifier is zero, no format depends on another, and nothing behind the head counts.
pub fn trace(data: &[u8]) {
    let all = TraceFormats::new(TraceFormat::ALL);
    let found = all.find(data);
    let first = TraceFormat::ALL
        .into_iter()
        .find_map(|format| TraceFormats::new([format]).find(data));
    assert_eq!(found, first);
    if let Some(found) = found {
        assert_ne!(found.trace_id, [0; 16]);
        assert_ne!(found.span_id, Some([0; 8]));
    }
    let mut head = b"GET / HTTP/1.1\r\n\r\n".to_vec();
    head.extend_from_slice(data);
    assert_eq!(all.find(&head), None, "what is a body");
}

/// A record of the ring: what it borrows lies within it.
pub fn record(data: &[u8]) {
    match parse(data) {
        Some(Record::Exchange(view)) => {
            assert!(view.head.len() <= data.len());
            let (local, remote) = (view.local(), view.remote());
            assert_eq!(local.is_some(), remote.is_some());
        }
        Some(Record::Process(view)) => assert!(view.comm().len() <= 3 * 16),
        None => {}
    }
}
