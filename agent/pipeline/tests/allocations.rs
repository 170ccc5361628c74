//! The steady state allocates nothing per exchange.

mod support;

#[cfg(test)]
mod tests {
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
}
