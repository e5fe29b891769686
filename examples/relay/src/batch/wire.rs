//! The client as a batch sees it: each call counted, bounded in time, and known to be under way.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use http::{Response, StatusCode};
use tokio::sync::watch;
use tower::Service;
use tower_relay::error::BoxError;

use super::{progress::Books, send::causes};
use crate::upstream::{Call, Carried, HttpClient};

/// What is known of the calls of one line. It travels in the request's extensions, because only
/// the client sees when a call leaves the queue.
#[derive(Clone, Debug)]
pub(super) struct Trip {
    under_way: Arc<watch::Sender<usize>>,
    has_left: Arc<AtomicBool>,
}

impl Trip {
    pub(super) fn new() -> Self {
        Self {
            under_way: Arc::new(watch::Sender::new(0)),
            has_left: Arc::default(),
        }
    }

    /// Returns when nothing of it is at the provider.
    pub(super) async fn is_idle(&self) {
        let mut under_way = self.under_way.subscribe();
        // It cannot fail while `self` has the sender.
        let _ = under_way.wait_for(|calls| *calls == 0).await;
    }

    fn depart(&self, books: &Books) -> UnderWay {
        books.sent(!self.has_left.swap(true, Relaxed));
        self.under_way.send_modify(|calls| *calls += 1);
        UnderWay(self.clone())
    }
}

struct UnderWay(Trip);

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.send_modify(|calls| *calls -= 1);
    }
}

/// The client.
#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) client: HttpClient,
    pub(super) books: Arc<Books>,
    /// From the call to the head of its answer.
    pub(super) timeout: Duration,
}

impl Service<Call> for Wire {
    type Response = Response<Carried>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Carried>, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.client.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, call: Call) -> Self::Future {
        let trip = call.extensions().get::<Trip>().cloned();
        let under_way = trip.map(|trip| trip.depart(&self.books));
        let (books, timeout) = (Arc::clone(&self.books), self.timeout);
        let answer = self.client.call(call);
        Box::pin(async move {
            let _under_way = under_way;
            let answer = match tokio::time::timeout(timeout, answer).await {
                Ok(answer) => answer.map_err(BoxError::from),
                Err(_) => Err(format!("no answer within {timeout:?}").into()),
            };
            match answer.as_ref().map(Response::status) {
                Ok(status) if status.is_success() => {}
                Ok(StatusCode::TOO_MANY_REQUESTS) => books.refused(),
                Ok(status) => books.failed(format!("the provider answered {status}")),
                Err(error) => books.failed(causes(&**error)),
            }
            answer
        })
    }
}
