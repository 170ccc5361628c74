//! The reservoirs against what they promise.

use proptest::prelude::*;

use super::*;

fn candidate(number: u64, interest: Interest) -> Candidate {
    Candidate {
        trace_id: u128::from(number).to_be_bytes(),
        span_id: None,
        time_unix_ns: number,
        interest,
    }
}

/// Numbers of what is kept after these were offered, in order of time.
fn kept(seed: u64, room: usize, offers: impl IntoIterator<Item = (u64, Interest)>) -> Vec<u64> {
    let mut exemplars = Exemplars::default();
    let mut random = Random::seeded(seed);
    for (number, interest) in offers {
        let values = (1, || None);
        let place = Place::Among(room);
        exemplars.offer(candidate(number, interest), 5, place, &mut random, values);
    }
    numbers(&exemplars)
}

fn numbers(exemplars: &Exemplars) -> Vec<u64> {
    exemplars
        .to_model((0, u64::MAX), |_| 0.0)
        .iter()
        .map(|exemplar| exemplar.time_unix_ns)
        .collect()
}

#[test]
fn each_of_many_is_kept_as_often_as_another() {
    let (rounds, many) = (20_000, 20);
    let mut counts = vec![0u32; 20];
    for seed in 0..rounds {
        for number in kept(
            seed * 77,
            4,
            (0..many).map(|number| (number, Interest::Any)),
        ) {
            counts[usize::try_from(number).unwrap()] += 1;
        }
    }
    // 4000 each; the standard deviation is 57.
    assert!(
        counts.iter().all(|count| (3700..4300).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn errors_go_first_and_then_the_slow() {
    use Interest::{Any, Error, Slow};
    let offers = |errors: u64, slow: u64, any: u64| {
        let kinds = [
            (Any, any / 2),
            (Error, errors / 2),
            (Slow, slow),
            (Error, errors - errors / 2),
            (Any, any),
        ];
        let all: Vec<Interest> = kinds
            .iter()
            .flat_map(|(kind, count)| (0..*count).map(|_| *kind))
            .collect();
        all
    };
    for (errors, slow, any, expected) in [
        (10, 10, 10, [4, 0, 0]),
        (4, 5, 5, [4, 0, 0]),
        (3, 9, 9, [3, 1, 0]),
        (1, 1, 9, [1, 1, 2]),
        (0, 0, 9, [0, 0, 4]),
        (0, 2, 0, [0, 2, 0]),
    ] {
        for seed in 0..50 {
            let all = offers(errors, slow, any);
            let found = kept(seed, 4, (0..).zip(all.iter().copied()));
            let count = |kind| {
                let of_kind = |number: &&u64| all[usize::try_from(**number).unwrap()] == kind;
                found.iter().filter(of_kind).count()
            };
            assert_eq!([count(Error), count(Slow), count(Any)], expected);
        }
    }
}

#[test]
fn the_rest_stays_uniform_beside_an_error() {
    let mut counts = [0u32; 12];
    for seed in 0..10_000 {
        let offers = (0..12).map(|number| {
            (
                number,
                if number == 6 {
                    Interest::Error
                } else {
                    Interest::Any
                },
            )
        });
        for number in kept(seed * 31, 4, offers) {
            counts[usize::try_from(number).unwrap()] += 1;
        }
    }
    assert_eq!(counts[6], 10_000);
    let rest: Vec<u32> = counts
        .iter()
        .copied()
        .filter(|count| *count != 10_000)
        .collect();
    // Three of eleven; the standard deviation is 45.
    assert!(
        rest.iter().all(|count| (2500..2960).contains(count)),
        "{counts:?}"
    );
}

#[test]
fn buckets_have_one_place_each() {
    let mut exemplars = Exemplars::default();
    let mut random = Random::seeded(3);
    for number in 0..100u64 {
        let index = usize::try_from(number % 5).unwrap();
        let interest = if number == 42 {
            Interest::Error
        } else {
            Interest::Any
        };
        let place = Place::Bucket { index, of: 16 };
        exemplars.offer(
            candidate(number, interest),
            number,
            place,
            &mut random,
            (1, || None),
        );
    }
    let found = numbers(&exemplars);
    assert_eq!(found.len(), 5);
    let mut buckets: Vec<u64> = found.iter().map(|number| number % 5).collect();
    buckets.sort_unstable();
    assert_eq!(buckets, [0, 1, 2, 3, 4]);
    assert!(
        found.contains(&42),
        "an error goes before what else is in its bucket"
    );
}

#[test]
fn slow_is_what_exceeds_the_series_itself() {
    let mut exemplars = Exemplars::default();
    let mut random = Random::seeded(1);
    let mut offer = |number, duration_ns, values, p95| {
        let offered = candidate(number, Interest::ByDuration);
        let place = Place::Among(1);
        exemplars.offer(
            offered,
            duration_ns,
            place,
            &mut random,
            (values, || Some(p95)),
        );
        numbers(&exemplars)
    };
    assert_eq!(offer(1, 900, 1, 100), [1], "nobody knows yet what is slow");
    assert_eq!(offer(2, 101, 20, 100), [2], "slow");
    assert_eq!(
        offer(3, 100, 21, 0),
        [2],
        "not, and the bound is not asked for again so soon"
    );
    for number in 4..50 {
        assert_eq!(offer(number, 100, 39, 0), [2]);
    }
    let after_doubling = offer(50, 150, 40, 200);
    assert_eq!(after_doubling, [2], "no longer slow");
}

#[test]
fn handed_over_once_within_the_window() {
    let mut exemplars = Exemplars::default();
    let mut random = Random::seeded(1);
    for number in [70, 10, 90, 40] {
        let place = Place::Among(4);
        exemplars.offer(
            candidate(number, Interest::Any),
            1_500_000_000,
            place,
            &mut random,
            (1, || None),
        );
    }
    let found = exemplars.to_model((20, 80), |ns| {
        f64::from(u32::try_from(ns / 1_000_000).unwrap())
    });
    let times: Vec<u64> = found.iter().map(|exemplar| exemplar.time_unix_ns).collect();
    assert_eq!(times, [20, 40, 70, 80]);
    assert!(
        found
            .iter()
            .all(|exemplar| (exemplar.value - 1500.0).abs() < f64::EPSILON)
    );
    exemplars.clear();
    assert!(numbers(&exemplars).is_empty());
    assert!(exemplars.0.is_some(), "a busy series keeps its memory");
    exemplars.clear();
    assert!(exemplars.0.is_none(), "a quiet one gives it back");
}

proptest! {
    #[test]
    fn bounds_hold(
        room in 0usize..8, seed in any::<u64>(),
        offers in proptest::collection::vec((0u8..4, any::<u64>(), any::<u64>()), 0..100),
    ) {
        let mut exemplars = Exemplars::default();
        let mut random = Random::seeded(seed);
        let interests = [Interest::Any, Interest::ByDuration, Interest::Slow, Interest::Error];
        for (number, (kind, duration, p95)) in (0u64..).zip(&offers) {
            let offered = candidate(number, interests[usize::from(*kind)]);
            let values = (number + 1, || Some(*p95));
            exemplars.offer(offered, *duration, Place::Among(room), &mut random, values);
        }
        let found = numbers(&exemplars);
        prop_assert_eq!(found.len(), room.min(offers.len()));
        prop_assert!(found.is_sorted());
        let errors = offers.iter().filter(|(kind, ..)| *kind == 3).count();
        let kept_errors = found.iter().filter(|number| offers[usize::try_from(**number).unwrap()].0 == 3).count();
        prop_assert_eq!(kept_errors, errors.min(room));
    }
}
