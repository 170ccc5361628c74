//! The steady state allocates nothing per exchange.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_pipeline::config::TemporalityPreference;
    use kerntally_pipeline::{Config, Outcome};

    use crate::support::{Sample, at, pipeline};

    #[test]
    fn a_known_series_costs_no_allocation() {
        let mut pipeline = pipeline(&Config::default());
        let samples = [
            Sample::server("/users/17/posts?page=2", 200),
            Sample::server("/healthz", 503),
            Sample::server("/unknown/thing", 404),
            Sample::client("/api/v1/items/9", 200),
            Sample::server("/a", 200)
                .with_head("GET /a HTTP/1.1\r\nb3: 00000000000000aa-00000000000000bb-1\r\n\r\n"),
            Sample::client("/", 200).with_head("GET / HTTP/1.1\r\n\r\n"),
            Sample {
                tgid: 3,
                ..Sample::server("/metrics", 200)
            },
        ];
        for sample in &samples {
            sample.send(&mut pipeline, at(1));
        }
        let allocations = allocation_counter::measure(|| {
            for _ in 0..100 {
                for sample in &samples {
                    assert_ne!(sample.send(&mut pipeline, at(2)), Outcome::RecordInvalid);
                }
            }
        });
        assert_eq!(allocations.count_total, 0);
    }

    #[test]
    fn an_overflowing_series_costs_no_allocation() {
        let mut config = Config::default();
        config.cardinality.per_service = 1;
        let mut pipeline = pipeline(&config);
        let sample = Sample::server("/a", 500);
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        sample.send(&mut pipeline, at(1));
        let allocations = allocation_counter::measure(|| {
            assert_eq!(sample.send(&mut pipeline, at(2)), Outcome::Tallied);
        });
        assert_eq!(allocations.count_total, 0);
    }

    #[test]
    fn explicit_histograms_cost_no_allocation_either() {
        let mut config = Config::default();
        config.histogram.is_explicit = true;
        let mut pipeline = pipeline(&config);
        let sample = Sample::server("/a", 200);
        sample.send(&mut pipeline, at(1));
        let allocations = allocation_counter::measure(|| {
            for _ in 0..100 {
                sample.send(&mut pipeline, at(2));
            }
        });
        assert_eq!(allocations.count_total, 0);
    }

    #[test]
    fn after_a_collection_a_series_is_copied_once() {
        for temporality in [
            TemporalityPreference::Cumulative,
            TemporalityPreference::Delta,
        ] {
            let mut pipeline = pipeline(&Config {
                temporality,
                ..Config::default()
            });
            let sample = Sample::server("/a", 200);
            sample.send(&mut pipeline, at(1));
            let collection = pipeline.collect(at(2));
            let allocations = allocation_counter::measure(|| {
                for _ in 0..100 {
                    sample.send(&mut pipeline, at(3));
                }
            });
            assert!(allocations.count_total <= 1, "{allocations:?}");
            drop(collection);
        }
    }

    /// A request that nobody would send twice: path, method, host and status of its own.
    fn hostile(number: u32) -> [Sample; 2] {
        let method: String = (0..6)
            .map(|place| char::from(b'A' + (number >> (4 * place) & 15) as u8))
            .collect();
        let head = format!(
            "{method} /p{number}/x{number}y HTTP/1.1\r\nHost: h{number}.example:{}\r\n\r\n",
            number % 60_000 + 1
        );
        let status = u16::try_from(200 + number % 400).unwrap();
        [
            Sample::server("/", status).with_head(&head),
            Sample::client("/", status).with_head(&head),
        ]
    }

    #[test]
    fn a_million_hostile_requests_take_no_more_memory_than_a_few_and_harm_nobody() {
        let mut config = Config::default();
        config.cardinality.per_service = 500;
        config.cardinality.hosts_per_service = 50;
        let mut pipeline = pipeline(&config);
        let neighbour = Sample {
            tgid: 2,
            ..Sample::server("/good", 200)
        };
        neighbour.send(&mut pipeline, at(1));
        let (few, all) = if cfg!(debug_assertions) {
            (20_000, 100_000)
        } else {
            (100_000, 1_000_000)
        };
        let mut send = |numbers: std::ops::Range<u32>| {
            for number in numbers {
                for sample in hostile(number) {
                    assert_eq!(sample.send(&mut pipeline, at(1)), Outcome::Tallied);
                }
            }
        };
        send(0..few);
        let memory = allocation_counter::measure(|| send(few..all));
        assert!(memory.bytes_max < 64 * 1024, "{memory:?}");
        assert!(memory.bytes_current < 16 * 1024, "{memory:?}");
        neighbour.send(&mut pipeline, at(1));
        let rows = pipeline.series(at(1));
        let row = |name: &str| rows.iter().find(|row| row.workload.name == name).unwrap();
        let (shop, cart) = (row("shop"), row("cart"));
        assert_eq!((shop.usage.series, shop.limit), (500, 500));
        assert_eq!((cart.usage.series, cart.usage.overflowed), (1, 0));
        let points = crate::support::server_points(&pipeline.peek(at(1)));
        let (_, point) = points.iter().find(|(name, _)| name == "cart").unwrap();
        assert_eq!(crate::support::count(point), 2);
    }
}
