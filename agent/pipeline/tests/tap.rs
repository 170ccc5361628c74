//! Watching exchanges as they pass.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_pipeline::{Config, Pipeline};

    use super::support::{Sample, at, pipeline};

    fn paths(pipeline: &mut Pipeline, from: u64) -> (Vec<Option<String>>, u64) {
        let (passed, missed) = pipeline.tap().since(from);
        (passed.map(|passed| passed.path.clone()).collect(), missed)
    }

    #[test]
    fn nothing_is_kept_while_nobody_watches() {
        let mut pipeline = pipeline(&Config::default());
        Sample::server("/a", 200).send(&mut pipeline, at(1));
        assert_eq!(pipeline.tap().next(), 0);
        pipeline.tap().open(false);
        Sample::server("/a", 200).send(&mut pipeline, at(2));
        Sample::client("/a", 503).send(&mut pipeline, at(3));
        assert_eq!(pipeline.tap().next(), 2);
        assert_eq!(paths(&mut pipeline, 0), (vec![None, None], 0));
        pipeline.tap().close();
        Sample::server("/a", 200).send(&mut pipeline, at(4));
        assert_eq!(pipeline.tap().next(), 2);
        assert_eq!(paths(&mut pipeline, 0), (Vec::new(), 2));
    }

    #[test]
    fn an_exchange_is_told_as_its_series_is() {
        let mut pipeline = pipeline(&Config::default());
        pipeline.tap().open(false);
        Sample::server("/users/17?token=SECRET", 200).send(&mut pipeline, at(1));
        let (mut passed, _) = pipeline.tap().since(0);
        let passed = passed.next().unwrap();
        assert_eq!(passed.workload.name, "shop");
        assert_eq!((passed.status, passed.duration_ns), (Some(200), 5_000_000));
        let text = format!("{passed:?}");
        assert!(text.contains("/users/{id}"), "{text}");
        assert!(
            !text.contains("SECRET") && !text.contains("/users/17"),
            "{text}"
        );
    }

    #[test]
    fn paths_are_kept_only_when_asked_for_and_never_with_their_query() {
        let mut pipeline = pipeline(&Config::default());
        pipeline.tap().open(true);
        Sample::server("/users/17?token=SECRET", 200).send(&mut pipeline, at(1));
        Sample::server(&format!("/{}", "x".repeat(900)), 404).send(&mut pipeline, at(2));
        let (paths, _) = paths(&mut pipeline, 0);
        assert_eq!(paths[0].as_deref(), Some("/users/17"));
        assert_eq!(paths[1].as_ref().unwrap().len(), 256);
    }

    #[test]
    fn what_is_kept_is_bounded_and_what_was_missed_is_counted() {
        let mut pipeline = pipeline(&Config::default());
        pipeline.tap().open(false);
        for _ in 0..5000 {
            Sample::server("/a", 200).send(&mut pipeline, at(1));
        }
        assert_eq!(pipeline.tap().next(), 5000);
        let (kept, missed) = paths(&mut pipeline, 100);
        assert_eq!((kept.len(), missed), (4096, 804));
        assert_eq!(paths(&mut pipeline, 4999).0.len(), 1);
        assert_eq!(paths(&mut pipeline, 9999), (Vec::new(), 0));
    }
}
