//! Calls that wait: the rate they are delivered at, what one costs, and many callers at once.
//!
//! `cargo bench -p tower-relay-benches --bench waiting`
#![allow(
    clippy::disallowed_methods,
    reason = "a bench measures with the real clock"
)]

use std::{
    convert::Infallible,
    future::Future,
    hint::black_box,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use futures::stream::{FuturesUnordered, StreamExt};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_relay::{policy::Quota, rate_limit::RateLimitLayer};
use tower_relay_benches::{Bare, ample, call, request};

fn main() {
    delivered();
    waiters();
    contended();
}

/// Real time, a thousand callers, burst 1.
fn delivered() {
    println!("rate delivered with 1,000 callers waiting, burst 1, over two seconds (must 98 %)");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    for rate in [50, 500, 5_000, 20_000] {
        let (share, worst) = runtime.block_on(deliver(rate));
        println!(
            "  {rate:>6} per second: {:.2} % of the rate; most sent above rate x window: {worst:.2}",
            100.0 * share
        );
    }
}

/// The share of the rate that was delivered, and by how many sends the fullest window exceeds
/// what the rate and the slack allow, burst included.
async fn deliver(rate: u64) -> (f64, f64) {
    let sent = Arc::new(Mutex::new(Vec::new()));
    let service = {
        let sent = Arc::clone(&sent);
        service_fn(move |_: ()| {
            sent.lock().expect("not poisoned").push(Instant::now());
            std::future::ready(Ok::<_, Infallible>(()))
        })
    };
    let service = RateLimitLayer::per_second(rate).layer(service);
    let until = Instant::now() + Duration::from_secs(2);
    let callers = (0..1_000).map(|_| {
        let service = service.clone();
        tokio::spawn(async move {
            while Instant::now() < until {
                let call = service.clone().oneshot(());
                let left = until.saturating_duration_since(Instant::now());
                let _ = tokio::time::timeout(left, call).await;
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("it ends");
    }
    let mut sent = std::mem::take(&mut *sent.lock().expect("not poisoned"));
    sent.sort();
    let (first, last) = (sent[0], sent[sent.len() - 1]);
    let elapsed = last.duration_since(first).as_secs_f64();
    let share = (sent.len() - 1) as f64 / (elapsed * rate as f64);
    let slack = 0.005;
    // The fullest window ends at a send: keep the best beginning so far.
    let mut worst = f64::NEG_INFINITY;
    let mut best = f64::INFINITY;
    for (count, at) in sent.iter().enumerate() {
        let allowed = at.duration_since(first).as_secs_f64() * rate as f64;
        best = best.min(count as f64 - allowed);
        worst = worst.max((count + 1) as f64 - allowed - best);
    }
    (share, worst - 1.0 - rate as f64 * slack)
}

fn waiters() {
    println!("\narrival, grant and cancellation with many waiters, per call");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let _context = runtime.enter();
    for waiters in [1_000_usize, 10_000, 100_000] {
        let quota = Quota::builder()
            .requests_per_hour(1)
            .build()
            .expect("valid");
        let layer = RateLimitLayer::new(quota).max_waiting(waiters);
        let handle = layer.handle();
        let mut service = layer.layer(Bare);
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = Box::pin(service.call(()));
        assert!(first.as_mut().poll(&mut cx).is_ready());

        let mut calls: Vec<Pin<Box<_>>> = Vec::with_capacity(waiters);
        let start = Instant::now();
        let queued = allocation_counter::measure(|| {
            for _ in 0..waiters {
                calls.push(Box::pin(service.call(())));
            }
        });
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut cx).is_pending());
        }
        let arrival = start.elapsed() / waiters as u32;
        let future = size_of_val(&*calls[0]);
        let entry = queued.bytes_current as usize / waiters - future;

        // Half are cancelled from the middle outwards, the others granted at once.
        let half = waiters / 2;
        let start = Instant::now();
        calls.drain(half / 2..half / 2 + half);
        let cancel = start.elapsed() / half as u32;
        let start = Instant::now();
        handle.set_quota(&ample());
        for call in &mut calls {
            assert!(call.as_mut().poll(&mut cx).is_ready());
        }
        let grant = start.elapsed() / (waiters - half) as u32;
        println!(
            "  {waiters:>7} waiters: arrival {arrival:?}, cancel {cancel:?}, grant {grant:?}; \
             queue entry {entry} bytes with the room it grows into, timer {} in a future of {future}",
            size_of::<tokio::time::Sleep>()
        );
    }
    polls();
}

/// How often a waiting call is polled until it is granted, and in which order.
fn polls() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .build()
        .expect("a runtime");
    let polls = AtomicUsize::new(0);
    let granted = runtime.block_on(async {
        let service = RateLimitLayer::per_second(2_000).layer(Bare);
        let mut calls: FuturesUnordered<_> = (0..2_000)
            .map(|n| {
                let mut call = Box::pin(service.clone().oneshot(()));
                let polls = &polls;
                async move {
                    let call = std::future::poll_fn(|cx| -> Poll<_> {
                        polls.fetch_add(1, Ordering::Relaxed);
                        call.as_mut().poll(cx)
                    });
                    drop(black_box(call.await));
                    n
                }
            })
            .collect();
        let mut granted = Vec::new();
        while let Some(n) = calls.next().await {
            granted.push(n);
        }
        granted
    });
    println!(
        "  2,000 waiters in one task: {:.2} polls each, {} overtaken (must 3, none)",
        polls.load(Ordering::Relaxed) as f64 / granted.len() as f64,
        granted.windows(2).filter(|pair| pair[0] > pair[1]).count()
    );
}

fn contended() {
    println!("\n64 tasks on 2 workers sharing one rate limit, against a bare service");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_time()
        .build()
        .expect("a runtime");
    let limited = RateLimitLayer::http(ample()).layer(Bare);
    let bare = runtime.block_on(storm(Bare));
    let shared = runtime.block_on(storm(limited));
    println!("  bare {bare:.1}, rate limit {shared:.1} million calls per second");
}

async fn storm<S, B>(service: S) -> f64
where
    S: Service<tower_relay_benches::Request, Response = http::Response<B>> + Clone + Send + 'static,
    B: http_body::Body,
{
    const CALLS: usize = 20_000;
    let start = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let mut service = service.clone();
            tokio::spawn(async move {
                for n in 0..CALLS {
                    call(&mut service, request(false));
                    if n % 100 == 0 {
                        tokio::task::yield_now().await;
                    }
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("it ends");
    }
    (64 * CALLS) as f64 / start.elapsed().as_secs_f64() / 1e6
}
