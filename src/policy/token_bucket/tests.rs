mod changes;
mod grants;
mod invariants;
mod readings;
mod settlements;
mod windows;

use super::*;
use crate::policy::QuotaBuilder;

const START: Timestamp = Timestamp::from_nanos(1_000_000_000_000);
const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(86_400);
const IMAGES: Unit = Unit::custom(0, "images");

fn bucket(quota: QuotaBuilder) -> TokenBucket {
    TokenBucket::new(&quota.build().expect("a valid quota"), START)
}

fn ready(bucket: &TokenBucket, cost: &Cost) -> Timestamp {
    bucket.ready_at(cost).expect("it fits the quota")
}

/// Takes `cost` at the first instant it is affordable from `now` on.
fn take_when_ready(bucket: &mut TokenBucket, cost: &Cost, now: Timestamp) -> Timestamp {
    let at = ready(bucket, cost).max(now);
    assert!(bucket.is_ready(cost, at), "ready_at and is_ready agree");
    drop(bucket.take(cost, at));
    at
}
