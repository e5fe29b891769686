//! What the tests of all layers share: virtual time as whole numbers, and plain servers.
#![allow(dead_code, reason = "each group of tests uses some of it")]

use std::{future::Future, time::Duration};

use tokio::time::Instant;
use tower_relay::{
    protocol::{Guard, Protocol},
    testing::{Reply, Scripted},
};

pub(crate) fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Milliseconds, rounded to the nearest.
pub(crate) fn whole(time: Duration) -> u64 {
    u64::try_from((time + Duration::from_micros(500)).as_millis()).expect("tests are short")
}

/// What [`whole`] makes of each.
pub(crate) fn wholes(times: &[Duration]) -> Vec<u64> {
    times.iter().copied().map(whole).collect()
}

/// Milliseconds since `start`, rounded to the nearest.
pub(crate) fn since(start: Instant) -> u64 {
    whole(start.elapsed())
}

/// Lets every task run that can.
pub(crate) async fn settle() {
    for _ in 0..30 {
        tokio::task::yield_now().await;
    }
}

/// Paused time jumps to this only when nothing else is left to wait for.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    let ended = tokio::time::timeout(Duration::from_secs(86_400), future).await;
    ended.expect("nothing hangs")
}

/// A server that answers every request with itself, at once.
pub(crate) fn echo<Req: Clone>() -> Scripted<fn(&Req) -> Reply<Req>> {
    Scripted::new((|request| Reply::now(request.clone())) as fn(&Req) -> Reply<Req>)
}

/// Answers after so many milliseconds.
pub(crate) fn slow(time: u64) -> Scripted<impl Fn(&u32) -> Reply<u32> + Clone> {
    Scripted::new(move |n: &u32| Reply::after(ms(time), *n))
}

/// Hands the guard out with the response, to be settled by the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Holding;

impl<Req, Res> Protocol<Req, Res> for Holding {
    type Response<G: Guard> = (Res, G);

    fn hold<G: Guard>(&self, response: Res, guard: G) -> (Res, G) {
        (response, guard)
    }
}
