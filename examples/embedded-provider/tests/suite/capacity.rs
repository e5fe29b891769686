//! How many calls are served at once, and the line of those who wait.

use crate::client::{CHAT_PATH, open, post, prompt, provider, request, send, start};
use embedded_provider::{Capacity, Latency, Limits};
use futures_of::all;
use std::time::Duration;
use tokio::time::Instant;

const SECOND: Duration = Duration::from_secs(1);

/// Waits for several calls at once, without another dependency.
mod futures_of {
    use std::future::Future;

    pub(super) async fn all<F>(calls: impl IntoIterator<Item = F>) -> Vec<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        let tasks: Vec<_> = calls.into_iter().map(tokio::spawn).collect();
        let mut outputs = Vec::new();
        for task in tasks {
            outputs.push(task.await.expect("no panic"));
        }
        outputs
    }
}

const fn of(at_once: u64, queue: u64) -> Option<Capacity> {
    Some(Capacity { at_once, queue })
}

#[tokio::test(start_paused = true)]
async fn so_many_are_served_so_many_wait_and_the_others_are_turned_away() {
    let one_second = Latency {
        first_token: SECOND,
        ..Latency::default()
    };
    let builder = provider(Limits::default()).latency(one_second);
    let provider = start(builder.capacity(of(2, 3).expect("one"))).await;
    let began = Instant::now();
    let calls = (0..7).map(|_| {
        let provider = provider.clone();
        async move {
            let answer = send(&provider, post("key-a", &prompt(1, false))).await;
            (answer.status.as_u16(), began.elapsed().as_secs())
        }
    });
    let mut answers = all(calls).await;
    answers.sort_unstable();
    let served = [(200, 1), (200, 1), (200, 2), (200, 2), (200, 3)];
    assert_eq!(answers, [&served[..], &[(529, 0), (529, 0)]].concat());
    let counters = provider.counters();
    assert_eq!((counters.answered, counters.overloaded), (5, 2));
    assert_eq!(
        counters.requests_charged, 5,
        "who is turned away pays nothing"
    );

    // All at once, and then one at a time, also for those who are waiting.
    provider.set_capacity(of(1, 0)).expect("a valid capacity");
    let first = open(&provider, post("key-a", &prompt(20, true))).await;
    assert_eq!(first.status(), 200);
    let body = prompt(1, false).to_string();
    let chat = send(&provider, request("POST", CHAT_PATH, "key-a", body)).await;
    assert_eq!(chat.status, 503);
    drop(first);
    while provider.counters().in_flight > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(
        send(&provider, post("key-a", &prompt(1, false)))
            .await
            .status,
        200
    );
    provider.set_capacity(None).expect("no capacity is valid");
    let calls = (0..20).map(|_| {
        let provider = provider.clone();
        async move {
            send(&provider, post("key-a", &prompt(1, false)))
                .await
                .status
        }
    });
    assert!(all(calls).await.into_iter().all(|status| status == 200));

    let error = provider
        .set_capacity(of(0, 5))
        .expect_err("it serves nobody");
    assert_eq!(error.field(), "at_once");
}
