//! The bytes under the machine's eyes: up to a kilobyte of one direction's stream.

/// Meaningful bytes at most.
pub const WINDOW_BYTES: u32 = 1024;

/// Words in the buffer: twice the meaningful bytes, so that a copy of bounded length to a bounded offset
/// is within it whatever the two are (the verifier does not relate them), and two words of slack.
const WORDS: usize = 2 * WINDOW_BYTES as usize / 8 + 2;

/// Index mask that keeps every access inside without a comparison.
const INDEX: u32 = WINDOW_BYTES / 8 - 1;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const LINE_FEEDS: u64 = 0x0a0a_0a0a_0a0a_0a0a;

/// A buffer read by aligned words, which is what the BPF target can load in one instruction.
#[derive(Debug)]
#[repr(C)]
pub struct Window {
    /// The bytes, little-endian.
    pub words: [u64; WORDS],
}

impl Window {
    /// An empty buffer, for tests; in the kernel it lies in a map.
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// The byte at `position`.
    #[inline(always)]
    pub fn byte(&self, position: u32) -> u8 {
        let word = self.words[((position >> 3) & INDEX) as usize];
        (word >> ((position & 7) * 8)) as u8
    }

    /// The eight bytes from `position`, the first lowest.
    #[inline(always)]
    pub fn word(&self, position: u32) -> u64 {
        let index = ((position >> 3) & INDEX) as usize;
        let shift = (position & 7) * 8;
        let low = self.words[index] >> shift;
        // Two shifts: by 64 at once would be undefined when `shift` is 0.
        let high = (self.words[index + 1] << 1) << (63 - shift);
        low | high
    }

    /// Looks for a line feed in at most four words from `position`. Either its position, or the first
    /// position not looked at; both may lie past the meaningful bytes.
    #[inline(always)]
    pub fn line_feed(&self, position: u32) -> Result<u32, u32> {
        let mut base = position & !7;
        let mut hits = line_feeds(self.words[((base >> 3) & INDEX) as usize]);
        hits &= u64::MAX << ((position & 7) * 8);
        if hits == 0 {
            base += 8;
            hits = line_feeds(self.words[((base >> 3) & INDEX) as usize]);
            if hits == 0 {
                base += 8;
                hits = line_feeds(self.words[((base >> 3) & INDEX) as usize]);
                if hits == 0 {
                    base += 8;
                    hits = line_feeds(self.words[((base >> 3) & INDEX) as usize]);
                    if hits == 0 {
                        return Err(base + 8);
                    }
                }
            }
        }
        Ok(base + lowest_byte(hits))
    }
}

impl Default for Window {
    fn default() -> Self {
        Self::new()
    }
}

/// High bit of every byte that is a line feed, exactly: no carry crosses a byte, because a caller may
/// ignore the lowest hits.
#[inline(always)]
fn line_feeds(word: u64) -> u64 {
    let mixed = word ^ LINE_FEEDS;
    !(((mixed & !HIGHS) + !HIGHS) | mixed | !HIGHS)
}

/// High bit of the first byte that is a line feed; above it also of some that are none.
#[inline(always)]
pub(crate) fn first_line_feeds(word: u64) -> u64 {
    let mixed = word ^ LINE_FEEDS;
    mixed.wrapping_sub(ONES) & !mixed & HIGHS
}

/// Index of the lowest byte whose high bit is set; BPF has no count-trailing-zeros instruction.
#[inline(always)]
pub(crate) fn lowest_byte(hits: u64) -> u32 {
    let lowest = (hits & hits.wrapping_neg()) >> 7;
    let below = (lowest - 1) & ONES;
    (below.wrapping_mul(ONES) >> 56) as u32 & 7
}

/// `word` with its ASCII letters in lower case; other bytes may change too, so only compare with text
/// made of letters, `-` and `:`.
#[inline(always)]
pub(crate) const fn lower(word: u64) -> u64 {
    word | 0x2020_2020_2020_2020
}

/// Mask of the lowest `count` bytes.
#[inline(always)]
pub(crate) const fn low_bytes(count: u32) -> u64 {
    if count >= 8 {
        u64::MAX
    } else {
        (1u64 << (count * 8)) - 1
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn filled(bytes: &[u8]) -> Window {
        let mut window = Window::new();
        for (index, byte) in bytes.iter().enumerate() {
            window.words[index / 8] |= u64::from(*byte) << (index % 8 * 8);
        }
        window
    }

    proptest! {
        #[test]
        fn finds_the_first_line_feed(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\x0b'), any::<u8>()], 64..600), from in 0u32..40) {
            let window = filled(&bytes);
            let expected = bytes.iter().skip(from as usize).position(|byte| *byte == b'\n').map(|at| at as u32 + from);
            let mut position = from;
            let found = loop {
                if position as usize >= bytes.len() { break None; }
                match window.line_feed(position) {
                    Ok(at) => break Some(at),
                    Err(next) => { prop_assert!(next > position); position = next; }
                }
            };
            prop_assert_eq!(found, expected);
        }

        #[test]
        fn finds_the_first_line_feed_of_a_word(bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'\x0b'), any::<u8>()], 8)) {
            let word = u64::from_le_bytes(bytes[..].try_into().unwrap());
            let expected = bytes.iter().position(|byte| *byte == b'\n').map(|at| at as u32);
            let feeds = first_line_feeds(word);
            prop_assert_eq!((feeds != 0).then(|| lowest_byte(feeds)), expected);
        }

        #[test]
        fn reads_words_anywhere(bytes in proptest::collection::vec(any::<u8>(), 100), at in 0u32..90) {
            let window = filled(&bytes);
            let expected = u64::from_le_bytes(bytes[at as usize..at as usize + 8].try_into().unwrap());
            prop_assert_eq!(window.word(at), expected);
            prop_assert_eq!(window.byte(at), bytes[at as usize]);
        }
    }
}
