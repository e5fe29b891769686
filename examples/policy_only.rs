//! The policies alone: no tower, no tokio, no clock. They are plain values that are told what
//! time it is, so a minute of traffic is tested in no time, and they serve any other runtime.
//!
//! Run it with `cargo run --example policy_only`; it needs no feature.

use std::time::Duration;

use tower_relay::{
    outcome::{Idempotency, Outcome, Verdict},
    policy::{
        Attempts, Cost, Decision, Quota, Reason, RetryBudget, RetryPolicy, Rng, Timestamp,
        TokenBucket,
    },
};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let documents = documents_in_a_minute()?;
    println!("40,000 output tokens a minute are {documents} answers of 800 tokens");
    assert_eq!(documents, 50);

    let wait = wait_after_a_throttle()?;
    println!("a server that says \"in 3 s\" is asked again after {wait:?}");
    assert!(wait >= Duration::from_secs(3) && wait <= Duration::from_millis(3_300));

    let reason = give_up_in_time()?;
    println!("with 2 s left for the call it is not waited for at all: {reason:?}");
    assert_eq!(reason, Reason::Deadline);
    Ok(())
}

/// Sends as soon as the bucket allows, for a minute of virtual time.
fn documents_in_a_minute() -> Result<u32, Box<dyn std::error::Error>> {
    let quota = Quota::builder()
        .requests_per_minute(100)
        .output_tokens_per_minute(40_000)
        .build()?;
    let cost = Cost::REQUEST.input_tokens(1_200).output_tokens(800);

    let start = Timestamp::ZERO;
    let mut bucket = TokenBucket::new(&quota, start);
    let mut sent = 0;
    loop {
        let ready = bucket.ready_at(&cost)?;
        if ready.since(start) >= Duration::from_secs(60) {
            return Ok(sent);
        }
        // Settled at once: the answer was as long as was reserved for it.
        let reservation = bucket.take(&cost, ready);
        bucket.settle(reservation, &cost, ready);
        sent += 1;
    }
}

/// How long a call waits when it was refused with a `retry-after` of 3 s.
fn wait_after_a_throttle() -> Result<Duration, Box<dyn std::error::Error>> {
    let now = Timestamp::ZERO;
    match decide(Attempts::new(now, None, Idempotency::Unknown), now) {
        Decision::Retry { at, .. } => Ok(at.since(now)),
        other => Err(format!("it should wait: {other:?}").into()),
    }
}

/// Why the same call is given up when its caller stops waiting sooner.
fn give_up_in_time() -> Result<Reason, Box<dyn std::error::Error>> {
    let now = Timestamp::ZERO;
    let deadline = now + Duration::from_secs(2);
    match decide(
        Attempts::new(now, Some(deadline), Idempotency::Unknown),
        now,
    ) {
        Decision::GiveUp(reason) => Ok(reason),
        other => Err(format!("it should give up: {other:?}").into()),
    }
}

fn decide(mut call: Attempts, now: Timestamp) -> Decision {
    let throttled = Outcome::new(Verdict::Throttled).after(Duration::from_secs(3));
    let (policy, mut budget) = (RetryPolicy::default(), RetryBudget::default());
    call.decide(&policy, &throttled, now, &mut budget, &mut Half)
}

/// Chance that always throws the middle, so that the outcome can be foretold.
struct Half;

impl Rng for Half {
    fn next_u64(&mut self) -> u64 {
        u64::MAX / 2
    }
}
