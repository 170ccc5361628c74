//! What the tests need from the machine, in one place.

/// Debian packages that the tests want; what is missing is a test skipped by name, never a failure.
pub const DEBIAN: &[&str] = &[
    "apache2",
    "bpftool",
    "curl",
    "default-jdk-headless",
    "golang-go",
    "haproxy",
    "nghttp2-client",
    "nginx-light",
    "nodejs",
    "python3",
    "python3-venv",
    "util-linux",
    "wrk",
];
