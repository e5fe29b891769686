//! What the tests of the rate limit share.

#[path = "../support/mod.rs"]
mod shared;

pub(crate) use self::shared::*;

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use tower_relay::{
    error::{BoxError, Rejected},
    policy::{Cost, Quota, QuotaBuilder, Unit},
};

/// The default slack of a quota.
pub(crate) const SLACK: Duration = Duration::from_millis(5);

pub(crate) fn built(builder: QuotaBuilder) -> Quota {
    builder.build().expect("the test's quota is valid")
}

pub(crate) fn per_second(requests: u64) -> Quota {
    built(Quota::builder().requests_per_second(requests))
}

/// One token of input per second, with this much burst.
pub(crate) fn tokens(per_minute: u64, burst: u64) -> QuotaBuilder {
    Quota::builder()
        .input_tokens_per_minute(per_minute)
        .burst(Unit::INPUT_TOKENS, burst)
}

pub(crate) fn input(tokens: u64) -> Cost {
    Cost::ZERO.input_tokens(tokens)
}

pub(crate) fn rejected(error: &BoxError) -> &Rejected {
    Rejected::find(&**error).expect("the limit refused")
}

pub(crate) fn retry_after<T: std::fmt::Debug>(result: Result<T, BoxError>) -> u64 {
    let error = result.expect_err("the limit refuses");
    whole(rejected(&error).retry_after().expect("it says when"))
}

/// Asserts `sends in any window w <= burst + rate x (w + slack)` over every window.
pub(crate) fn assert_envelope(sends: &[Duration], burst: u64, rate: u64, slack: Duration) {
    let credit = |at: Duration| i128::try_from(at.as_nanos()).expect("short") * i128::from(rate);
    let second = 1_000_000_000;
    let allowed = i128::from(burst) * second + credit(slack);
    let (mut lowest, mut worst) = (i128::MAX, i128::MIN);
    for (index, &at) in sends.iter().enumerate() {
        let before = i128::try_from(index).expect("few") * second - credit(at);
        lowest = lowest.min(before);
        worst = worst.max(before + second - lowest);
    }
    assert!(
        worst <= allowed,
        "some window has {} sends more than {burst} + {rate}/s x (w + {slack:?})",
        (worst - allowed) as f64 / second as f64,
    );
}

/// Counts how often a future is polled.
pub(crate) struct Counted<F> {
    future: Pin<Box<F>>,
    polls: usize,
}

impl<F> Counted<F> {
    pub(crate) fn new(future: F) -> Self {
        Self {
            future: Box::pin(future),
            polls: 0,
        }
    }
}

impl<F: Future> Future for Counted<F> {
    type Output = (F::Output, usize);

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polls += 1;
        let polls = self.polls;
        self.future.as_mut().poll(cx).map(|output| (output, polls))
    }
}

#[test]
fn the_envelope_is_checked_over_every_window() {
    let broken = |sends: &[u64]| {
        let sends: Vec<_> = sends.iter().copied().map(ms).collect();
        std::panic::catch_unwind(|| assert_envelope(&sends, 1, 10, ms(0))).is_err()
    };
    assert!(!broken(&[0, 100, 200, 1_000, 1_100]));
    assert!(broken(&[0, 100, 199]));
    assert!(broken(&[0, 500, 500]));
}
