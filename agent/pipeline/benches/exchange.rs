//! Cost of one exchange from the kernel's record to its series, in the steady state.

fn main() {}
