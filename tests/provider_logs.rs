//! What the layer that reads responses logs: that one failed after its head, and nothing of it.
#![cfg(feature = "full")]
#![allow(
    clippy::disallowed_methods,
    reason = "the support of tests reads the clock"
)]

#[path = "provider/support.rs"]
mod support;

use std::{
    io,
    sync::{Arc, Mutex},
};

use tower::{Layer, ServiceExt};
use tower_relay::provider::{Profile, ProviderLayer};

use support::{Client, Step, data, events, json, read, request};

/// In every body, and part of nothing else.
const MARK: &str = "Zq7Xw9";

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0
            .lock()
            .expect("not poisoned")
            .extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_fails_after_its_head_is_logged_once_and_nothing_of_its_text() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing_subscriber::filter::LevelFilter::TRACE)
        .with_ansi(false)
        .with_writer(move || writer.clone())
        .finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let text = data("event: content_block_delta\ndata: {\"text\":\"Zq7Xw9\"}\n\n");
    let broken = [text.clone(), text.clone(), Step::Fail, text];
    let client = Client::new([
        events(broken),
        json(500, "{\"error\":{\"message\":\"Zq7Xw9\"}}"),
        json(200, "{\"text\":\"Zq7Xw9\",\"usage\":{}}"),
    ]);
    let service = ProviderLayer::new(Profile::generic()).layer(client);
    for _ in 0..3 {
        let response = service.clone().oneshot(request("{}")).await;
        let body = response.expect("an answer").into_body();
        let shown = format!("{body:?}");
        assert!(!shown.contains(MARK), "{shown}");
        assert!(read(body).await.contains(MARK));
    }
    let log = String::from_utf8(log.0.lock().expect("not poisoned").clone()).expect("text");
    let failed = "an answer failed after its head layer=\"provider\" error.type=\"server_fault\"";
    assert_eq!(log.matches(failed).count(), 1, "{log}");
    assert!(log.contains("DEBUG"));
    assert!(!log.contains(MARK), "{log}");
}
