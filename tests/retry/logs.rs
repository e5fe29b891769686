//! What is logged.

use std::{
    fmt::{Debug, Write},
    sync::{Arc, Mutex},
};

use tower::{Layer, ServiceExt};
use tower_relay::outcome::Verdict;
use tracing::{
    Event, Level, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use super::world::*;

/// Writes down the fields of every event.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<String>>>);

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("a string takes all");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tower_relay")
    }

    fn event(&self, event: &Event<'_>) {
        assert_eq!(*event.metadata().level(), Level::DEBUG);
        let mut line = Line(String::new());
        event.record(&mut line);
        self.0.lock().unwrap().push(line.0);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(start_paused = true)]
async fn a_retry_and_its_end_are_logged_and_a_final_answer_is_no_news() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let server = Server::new([
        say(Verdict::CallerFault),
        hinted(Verdict::Throttled, 3 * SECOND),
        hinted(Verdict::Throttled, 200 * SECOND),
    ]);
    let retry = layer(exact()).layer(server);
    // Another test's thread may have met an event first, when nobody was interested in any.
    tracing::callsite::rebuild_interest_cache();
    let _ = retry.clone().oneshot(Ask::default()).await.unwrap();
    assert_eq!(*lines.0.lock().unwrap(), Vec::<String>::new());
    tracing::callsite::rebuild_interest_cache();
    let _ = retry.oneshot(Ask::default()).await.unwrap();
    let lines = lines.0.lock().unwrap();
    assert_eq!(
        *lines,
        [
            " message=sending again after a wait layer=\"retry\" error.type=\"throttled\" wait=3s http.request.resend_count=1 free=false",
            " message=giving up layer=\"retry\" error.type=\"throttled\" retry_after=200s reason=\"hint_too_long\"",
        ]
    );
}
