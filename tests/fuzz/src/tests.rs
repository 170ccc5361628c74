//! The checked-in inputs, without a fuzzer.

use std::path::Path;

type Target = fn(&[u8]);

const TARGETS: [(&str, Target); 7] = [
    ("authority", crate::authority),
    ("exchange", crate::exchange),
    ("machine", crate::machine),
    ("record", crate::record),
    ("request", crate::request),
    ("target", crate::target),
    ("trace", crate::trace),
];

#[test]
fn the_corpora_hold() {
    let corpora = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    for (name, target) in TARGETS {
        let inputs: Vec<_> = std::fs::read_dir(corpora.join(name))
            .unwrap()
            .map(|entry| std::fs::read(entry.unwrap().path()).unwrap())
            .collect();
        assert!(inputs.len() >= 3, "{name}");
        for input in inputs {
            for len in 0..=input.len() {
                target(&input[..len]);
            }
        }
    }
}
