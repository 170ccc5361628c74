//! Programs on their way into the kernel. In: the object's programs, and what to do with each. Out: all of them loaded, or
//! the first refusal.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    thread,
};

use aya::{Ebpf, programs::Program};

/// Programs that are loaded at the same time at most: the verifier takes a processor for each.
const AT_ONCE: usize = 4;

/// Loads one program, or says why the kernel refused it.
pub(crate) type Load<'object> = Box<dyn FnOnce() -> Result<(), String> + Send + 'object>;

/// The programs of an object that nobody has taken yet.
pub(crate) struct Programs<'object>(HashMap<&'object str, &'object mut Program>);

impl<'object> Programs<'object> {
    /// All of them.
    pub(crate) fn of(ebpf: &'object mut Ebpf) -> Self {
        Self(ebpf.programs_mut().collect())
    }

    /// The one of this name.
    pub(crate) fn take(&mut self, name: &str) -> Result<&'object mut Program, String> {
        self.0
            .remove(name)
            .ok_or_else(|| format!("program `{name}` is not in the object"))
    }
}

/// Does all loads, several at a time. Nothing is begun after a refusal; of several the answer is that of the first load.
pub(crate) fn load(loads: Vec<Load<'_>>) -> Result<(), String> {
    let workers = thread::available_parallelism().map_or(1, |cores| cores.get().min(AT_ONCE));
    let queue = Mutex::new(loads.into_iter().enumerate());
    let refusals = Mutex::new(BTreeMap::new());
    let work = || {
        while let Some((place, load)) = next(&queue, &refusals) {
            if let Err(refusal) = load() {
                held(&refusals).insert(place, refusal);
            }
        }
    };
    thread::scope(|scope| {
        for _ in 1..workers {
            // Without a thread the others, or this one, do its part.
            let _alone = thread::Builder::new().spawn_scoped(scope, work);
        }
        work();
    });
    let refusals = refusals
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner);
    refusals.into_values().next().map_or(Ok(()), Err)
}

/// What comes next, as long as nothing was refused.
fn next<T>(
    queue: &Mutex<impl Iterator<Item = T>>,
    refusals: &Mutex<BTreeMap<usize, String>>,
) -> Option<T> {
    let mut queue = held(queue);
    if held(refusals).is_empty() {
        queue.next()
    } else {
        None
    }
}

/// What the lock guards; a panic while it is held ends the agent anyway.
fn held<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[test]
    fn every_load_is_done_once() {
        let done = AtomicUsize::new(0);
        let loads = (0..100).map(|_| -> Load<'_> {
            Box::new(|| {
                done.fetch_add(1, Ordering::Relaxed);
                Ok(())
            })
        });
        assert_eq!(load(loads.collect()), Ok(()));
        assert_eq!(done.into_inner(), 100);
    }

    #[test]
    fn the_first_refusal_in_order_is_told_and_nothing_is_begun_after_it() {
        let done = AtomicUsize::new(0);
        let done = &done;
        let loads = (0..1000).map(|place| -> Load<'_> {
            Box::new(move || {
                done.fetch_add(1, Ordering::Relaxed);
                if place >= 3 {
                    return Err(format!("load {place}"));
                }
                Ok(())
            })
        });
        assert_eq!(load(loads.collect()), Err("load 3".to_owned()));
        assert!(done.load(Ordering::Relaxed) <= 3 + AT_ONCE);
    }
}
