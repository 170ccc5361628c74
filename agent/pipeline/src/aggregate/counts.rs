//! Counts of buckets: 4 bytes each until one of them needs 8, which few ever do.

/// Counts in a row.
#[derive(Clone, Debug)]
pub(super) enum Counts {
    Narrow(Vec<u32>),
    Wide(Vec<u64>),
}

impl Default for Counts {
    fn default() -> Self {
        Self::Narrow(Vec::new())
    }
}

impl Counts {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Narrow(counts) => counts.len(),
            Self::Wide(counts) => counts.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let (narrow, wide) = match self {
            Self::Narrow(counts) => (&counts[..], &[][..]),
            Self::Wide(counts) => (&[][..], &counts[..]),
        };
        let narrow = narrow.iter().map(|count| u64::from(*count));
        narrow.chain(wide.iter().copied())
    }

    /// Adds one to a count.
    pub(super) fn increment(&mut self, position: usize) {
        if let Self::Narrow(counts) = self {
            let count = &mut counts[position];
            if *count < u32::MAX {
                *count += 1;
                return;
            }
        }
        self.add(position, 1);
    }

    /// Adds to a count.
    pub(super) fn add(&mut self, position: usize, more: u64) {
        match self {
            Self::Narrow(counts) => {
                let sum = u64::from(counts[position]).saturating_add(more);
                match u32::try_from(sum) {
                    Ok(sum) => counts[position] = sum,
                    Err(_) => self.add_wide(position, more),
                }
            }
            Self::Wide(counts) => counts[position] = counts[position].saturating_add(more),
        }
    }

    /// Makes room for `len` counts, `front` of them before those that there are; room is made for `room` at least.
    pub(super) fn extend(&mut self, len: usize, front: usize, room: usize) {
        match self {
            Self::Narrow(counts) => extend(counts, len, front, room),
            Self::Wide(counts) => extend(counts, len, front, room),
        }
    }

    /// Makes one of each two neighbours; the first is the second of its pair if `is_odd`.
    pub(super) fn merge_neighbours(&mut self, is_odd: bool) {
        let offset = usize::from(is_odd);
        for position in 0..self.len() {
            let count = self.take(position);
            self.add(usize::midpoint(position, offset), count);
        }
        let len = (self.len() + offset).div_ceil(2);
        match self {
            Self::Narrow(counts) => counts.truncate(len),
            Self::Wide(counts) => counts.truncate(len),
        }
    }

    fn take(&mut self, position: usize) -> u64 {
        match self {
            Self::Narrow(counts) => u64::from(std::mem::take(&mut counts[position])),
            Self::Wide(counts) => std::mem::take(&mut counts[position]),
        }
    }

    #[cold]
    fn add_wide(&mut self, position: usize, more: u64) {
        let mut wide: Vec<u64> = self.iter().collect();
        wide[position] = wide[position].saturating_add(more);
        *self = Self::Wide(wide);
    }
}

fn extend<N: Copy + Default>(counts: &mut Vec<N>, len: usize, front: usize, room: usize) {
    if len > counts.capacity() {
        counts.reserve_exact(room.max(len) - counts.len());
    }
    counts.resize(len, N::default());
    counts.rotate_right(front);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(counts: &Counts) -> Vec<u64> {
        counts.iter().collect()
    }

    #[test]
    fn a_count_beyond_four_bytes_widens_all() {
        let most = u64::from(u32::MAX);
        let mut counts = Counts::default();
        counts.extend(3, 0, 8);
        counts.add(0, 7);
        counts.add(1, most);
        assert!(matches!(counts, Counts::Narrow(_)));
        counts.increment(1);
        assert!(matches!(counts, Counts::Wide(_)));
        counts.increment(1);
        counts.add(2, u64::MAX);
        counts.add(2, 1);
        assert_eq!(of(&counts), [7, most + 2, u64::MAX]);
        counts.extend(4, 1, 8);
        assert_eq!(of(&counts), [0, 7, most + 2, u64::MAX]);
    }

    #[test]
    fn neighbours_that_are_too_much_together_are_widened() {
        let most = u64::from(u32::MAX);
        for is_odd in [false, true] {
            let mut counts = Counts::default();
            counts.extend(4, 0, 4);
            (0..4).for_each(|position| counts.add(position, most));
            counts.merge_neighbours(is_odd);
            let expected = if is_odd {
                vec![most, 2 * most, most]
            } else {
                vec![2 * most; 2]
            };
            assert_eq!(of(&counts), expected);
        }
    }
}
