//! What was learnt about routes outlives services and agents.

mod support;

#[cfg(test)]
mod tests {
    use kerntally_model::Role;
    use kerntally_pipeline::{Config, LearntRoutes, Pipeline};

    use crate::support::{Sample, at, pipeline, server_points, text};

    fn crowd(pipeline: &mut Pipeline) {
        for number in 0..40u8 {
            let word = format!(
                "{}{}",
                char::from(b'g' + number % 16),
                char::from(b'g' + number / 16)
            );
            Sample::server(&format!("/people/{word}"), 200).send(pipeline, at(1));
        }
    }

    fn row(folds: &[&str]) -> LearntRoutes {
        LearntRoutes {
            name: "shop".to_owned(),
            namespace: None,
            role: Role::Server,
            folds: folds.iter().map(|fold| (*fold).to_owned()).collect(),
        }
    }

    #[test]
    fn folds_are_told_and_taken_over() {
        let mut first = pipeline(&Config::default());
        crowd(&mut first);
        let learnt = first.learnt_routes();
        assert_eq!(learnt, [row(&["/people/{param}"])]);
        let mut second = pipeline(&Config::default());
        assert_eq!(second.restore_routes(learnt.clone()), 0);
        assert_eq!(
            second.learnt_routes(),
            learnt,
            "kept before the service is seen"
        );
        Sample::server("/people/ann", 200).send(&mut second, at(1));
        let points = server_points(&second.peek(at(2)));
        assert!(text(&points[0].1.attributes).contains("http.route=/people/{param}"));
        assert_eq!(second.learnt_routes(), learnt);
    }

    #[test]
    fn a_service_that_comes_back_remembers() {
        let mut pipeline = pipeline(&Config::default());
        crowd(&mut pipeline);
        for seconds in [10, 2000, 4000] {
            let collection = pipeline.collect(at(seconds));
            pipeline.accepted(collection.generation);
        }
        assert!(pipeline.services().is_empty(), "forgotten");
        Sample::server("/people/ann", 200).send(&mut pipeline, at(5000));
        let points = server_points(&pipeline.peek(at(5001)));
        assert!(text(&points[0].1.attributes).contains("http.route=/people/{param}"));
    }

    #[test]
    fn what_cannot_be_a_fold_is_counted() {
        let mut pipeline = pipeline(&Config::default());
        let refused = pipeline.restore_routes(vec![row(&["/a/{param}", "/a/4711", "/?q=SECRET"])]);
        assert_eq!(refused, 2);
        assert_eq!(pipeline.learnt_routes(), [row(&["/a/{param}"])]);
    }
}
