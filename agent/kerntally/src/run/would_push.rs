//! What would be pushed now. Many series take their time to be written out: beside the loop.

use std::sync::Arc;

use kerntally_export::ExportMetricsServiceRequest;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::agent::Agent;
use crate::audit;
use crate::clock;
use crate::control::Answer;
use crate::output::with_schema;

impl Agent {
    /// Changes nothing: the next push is as if nobody had asked.
    pub(super) fn would_push(&mut self, reply: oneshot::Sender<Answer>) {
        self.drain();
        let snapshot = self.pipeline.peek(clock::now());
        let config = &self.loaded.config;
        let about = json!({
            "interval_seconds": config.export.interval.0.as_secs_f64(),
            "declared": audit::declared(config),
            "limits": {
                "per_service": config.cardinality.per_service,
                "total": config.cardinality.total,
            },
        });
        let (encoder, shared) = (self.outlets.encoder(), Arc::clone(&self.shared));
        tokio::task::spawn_blocking(move || {
            let mut requests = encoder.encode(&snapshot);
            requests.extend(shared.metrics_request());
            // The command may have gone away.
            drop(reply.send(answer(&requests, about)));
        });
    }
}

fn answer(requests: &[ExportMetricsServiceRequest], mut about: Value) -> Answer {
    match serde_json::to_value(requests) {
        Ok(requests) => {
            about["requests"] = requests;
            Answer::Ok(with_schema(&about))
        }
        Err(error) => Answer::Failed(error.to_string()),
    }
}
