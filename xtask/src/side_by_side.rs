//! Several pieces of work at a time, each with what came of it, in the order of the pieces.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Does `work` for every piece, by up to `workers` threads.
pub(crate) fn side_by_side<T: Sync, R: Send>(
    pieces: &[T],
    workers: usize,
    work: impl Fn(&T) -> R + Sync,
) -> Vec<R> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..workers.clamp(1, pieces.len().max(1)) {
            scope.spawn(|| {
                loop {
                    let place = next.fetch_add(1, Ordering::Relaxed);
                    let Some(piece) = pieces.get(place) else {
                        return;
                    };
                    let result = work(piece);
                    done.lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((place, result));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(place, _)| *place);
    done.into_iter().map(|(_, result)| result).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_the_order_of_the_pieces() {
        let pieces: Vec<u32> = (0..100).collect();
        for workers in [0, 1, 3] {
            let doubled = side_by_side(&pieces, workers, |piece| piece * 2);
            assert!(doubled.iter().copied().eq((0..100).map(|piece| piece * 2)));
        }
        assert!(side_by_side(&[0; 0], 2, |_| ()).is_empty());
    }
}
