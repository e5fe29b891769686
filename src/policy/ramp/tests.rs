use proptest::prelude::*;

use super::*;
use crate::policy::{Cost, Quota, Readings, TokenBucket};

const START: Timestamp = Timestamp::from_nanos(7_777_777_777);
const MINUTE: Duration = Duration::from_secs(60);
const WINDOW: Duration = Duration::from_secs(900);
const TOKENS: Unit = Unit::INPUT_TOKENS;
/// A minute.
const FLOOR: u64 = 6_000;

fn quota(ramp: Ramp) -> Quota {
    let quota = Quota::builder().ramp(TOKENS, ramp).build();
    quota.expect("it is valid")
}

fn bucket(ramp: Ramp) -> TokenBucket {
    TokenBucket::new(&quota(ramp), START)
}

fn ramp() -> Ramp {
    Ramp::above_per_minute(FLOOR)
}

fn allowed(bucket: &TokenBucket, now: Timestamp) -> f64 {
    bucket.ramp(TOKENS, now).expect("it has one").allowed()
}

/// Takes whatever it may until `end`.
fn saturate(bucket: &mut TokenBucket, size: u64, from: Timestamp, end: Timestamp) -> u64 {
    let cost = Cost::ZERO.input_tokens(size);
    let (mut now, mut sent) = (from, 0);
    loop {
        now = bucket.ready_at(&cost).expect("it fits").max(now);
        if now >= end {
            return sent;
        }
        drop(bucket.take(&cost, now));
        sent += size;
    }
}

#[test]
fn it_keeps_to_the_floor_until_more_was_used_for_long_enough_and_then_grows_a_third_a_window() {
    let mut bucket = bucket(ramp());
    let mut now = START;
    let mut rates = Vec::new();
    for _ in 0..20 {
        let end = now + WINDOW / 2;
        saturate(&mut bucket, 10, now, end);
        now = end;
        rates.push(allowed(&bucket, now) / 100.0);
    }
    assert!(rates[2] < 1.0, "{rates:?}");
    let growth = (rates[19] / rates[9]).powf(0.2);
    assert!((1.28..1.314).contains(&growth), "{growth} {rates:?}");
}

#[test]
fn idle_time_lowers_it_again_and_a_lull_is_remembered() {
    let mut bucket = bucket(ramp());
    let grown = START + 10 * WINDOW;
    saturate(&mut bucket, 10, START, grown);
    let high = allowed(&bucket, grown);
    assert!(high > 300.0, "{high}");
    // A minute's lull: nothing was used that a minute could be compared with a window later.
    let back = grown + MINUTE;
    saturate(&mut bucket, 10, back, back + (WINDOW - MINUTE / 2));
    let late = back + (WINDOW - MINUTE / 2);
    assert!(allowed(&bucket, late) < 100.0, "{}", allowed(&bucket, late));
    saturate(
        &mut bucket,
        10,
        back + (WINDOW - MINUTE / 2),
        back + WINDOW + 3 * MINUTE,
    );
    let late = back + WINDOW + 3 * MINUTE;
    assert!(allowed(&bucket, late) > high, "{}", allowed(&bucket, late));
    // An hour without anything.
    let later = back + WINDOW + 63 * MINUTE;
    drop(bucket.take(&Cost::ZERO.input_tokens(1), later));
    assert!(allowed(&bucket, later) < 100.0);
}

#[test]
fn a_restart_with_what_was_saved_goes_on_and_one_without_begins_at_the_floor() {
    let mut bucket = bucket(ramp());
    let end = START + 10 * WINDOW;
    saturate(&mut bucket, 10, START, end);
    let before = allowed(&bucket, end);
    let state = bucket
        .ramp(TOKENS, end)
        .expect("it has one")
        .state()
        .clone();
    let (step, used) = (state.step(), state.used().to_vec());
    assert!(used.len() <= 760, "{}", used.len());
    let resumed = |age| {
        let state = RampState::new(step, used.clone());
        let mut resumed = TokenBucket::new(&quota(ramp().resume(state, age)), START);
        drop(resumed.take(&Cost::ZERO.input_tokens(10), START));
        allowed(&resumed, START)
    };
    let soon = resumed(Duration::from_secs(4));
    assert!((0.97..=1.01).contains(&(soon / before)), "{soon} {before}");
    assert!(resumed(WINDOW) < 100.0, "nothing was sent for a window");
    assert!(resumed(Duration::MAX) < 100.0);
}

#[test]
fn a_refusal_for_growth_holds_it_once_and_lets_it_go_a_window_later() {
    let mut bucket = bucket(ramp());
    let cost = Cost::ZERO.input_tokens(10);
    let calls = [(); 4].map(|()| bucket.take(&cost, START));
    let free = allowed(&bucket, START);
    let now = START + MINUTE;
    let heard = calls
        .iter()
        .filter(|call| bucket.observe(call, &Readings::NONE.of_ramp_refusal(), now));
    assert_eq!(heard.count(), 1);
    let ratio = allowed(&bucket, now) / free;
    assert!((0.74..0.76).contains(&ratio), "{ratio}");
    let held = bucket.ramp(TOKENS, now).expect("it has one");
    assert_eq!(held.held_until(), Some(now + WINDOW));
    assert_eq!(held.state().used(), [0], "it was not used");
    drop(bucket.take(&cost, now + (WINDOW - MINUTE)));
    let late = now + (WINDOW - MINUTE);
    assert!(allowed(&bucket, late) < 80.0);
    drop(bucket.take(&cost, now + WINDOW + MINUTE));
    let late = now + WINDOW + MINUTE;
    assert_eq!(
        bucket.ramp(TOKENS, late).expect("it has one").held_until(),
        None
    );
    assert!(allowed(&bucket, late) > 0.99 * free);
}

#[test]
fn a_refusal_for_the_rate_was_not_used_and_holds_nothing() {
    let mut bucket = bucket(ramp());
    let call = bucket.take(&Cost::ZERO.input_tokens(10), START);
    bucket.observe(&call, &Readings::NONE.of_refusal(), START);
    let after = bucket.ramp(TOKENS, START).expect("it has one");
    assert_eq!((after.state().used(), after.held_until()), (&[0][..], None));
}

#[test]
fn what_cannot_work_is_one_clear_error() {
    let state = RampState::new(Duration::from_secs(1), []);
    for (ramp, problem) in [
        (
            Ramp::above_per_minute(0),
            "ramp: from 0 input tokens a minute",
        ),
        (
            Ramp::above_per_minute(u64::MAX),
            "ramp: 18446744073709551615 input tokens a minute",
        ),
        (ramp().percent(0), "ramp: growth of 0 %"),
        (ramp().percent(901), "ramp: growth of 901 %"),
        (ramp().window(Duration::ZERO), "ramp: a window of 0ns"),
        (ramp().window(Duration::MAX), "ramp: a window of"),
        (
            ramp().resume(state, MINUTE),
            "ramp: what was saved is of another window",
        ),
    ] {
        let error = Quota::builder().ramp(TOKENS, ramp).build();
        let error = error.expect_err("it cannot work").to_string();
        assert!(error.starts_with(problem), "{error}");
    }
    let twice = Quota::builder().ramp(TOKENS, ramp()).ramp(TOKENS, ramp());
    let error = twice.build().expect_err("it cannot work").to_string();
    assert_eq!(
        error,
        "ramp: the growth of input tokens is bounded twice; keep one of the two"
    );
}

#[test]
fn the_largest_numbers_overflow_nothing() {
    let mut bucket = bucket(Ramp::above_per_minute(60_000_000_000).percent(900));
    let huge = Cost::ZERO.input_tokens(u64::MAX);
    drop(bucket.take(&huge, START));
    let end = bucket.ready_at(&huge).expect("it fits");
    assert!(end.since(START) > 365 * 24 * 60 * MINUTE);
    drop(bucket.take(&huge, end));
    for now in [Timestamp::ZERO, START, end, Timestamp::MAX] {
        assert!(allowed(&bucket, now) > 0.0 && allowed(&bucket, now).is_finite());
        let refused = bucket.take(&Cost::ZERO.input_tokens(1), now);
        bucket.observe(&refused, &Readings::NONE.of_ramp_refusal(), now);
    }
}

/// Servers that punish growth, each as strict as its kind can be.
mod servers {
    use super::*;

    /// When something was sent, and how much until then.
    pub(super) type Sent = Vec<(f64, f64)>;

    fn until(sent: &Sent, at: f64) -> f64 {
        let place = sent.partition_point(|(sent, _)| *sent <= at);
        place.checked_sub(1).map_or(0.0, |last| sent[last].1)
    }

    fn between(sent: &Sent, from: f64, to: f64) -> f64 {
        until(sent, to) - until(sent, from)
    }

    /// By how much what is compared exceeds what it may, at the worst; 1 is all that it may.
    pub(super) fn worst(sent: &Sent, from: f64, floor: f64, phase: f64) -> [f64; 3] {
        let window = WINDOW.as_secs_f64();
        let mut worst = [0.0_f64; 3];
        for &(at, _) in sent.iter().filter(|(at, _)| *at >= from) {
            let past = |length: f64, ago: f64| between(sent, at - ago - length, at - ago);
            let compare = |length: f64| {
                let most = (1.5 * past(length, window)).max(floor * length / 60.0);
                past(length, 0.0) / most
            };
            // The window of a server that begins them at instants that only it knows.
            let begin = ((at - phase) / window).floor() * window + phase;
            let before = between(sent, begin - window, begin);
            let most = (1.5 * before / 15.0).max(floor);
            let all = [compare(window), compare(60.0), past(60.0, 0.0) / most];
            for (worst, is) in worst.iter_mut().zip(all) {
                *worst = worst.max(is);
            }
        }
        worst
    }
}

#[test]
fn what_is_about_to_leave_the_window_is_not_counted_on() {
    // Ten times the floor for more than a window, nothing for nine tenths of one, and then all.
    let step = 2.5;
    let used: Vec<u64> = (0..744)
        .map(|step| if step < 420 { 2_500 } else { 0 })
        .collect();
    let mut sum = 0.0;
    let mut sent = servers::Sent::new();
    for (place, used) in used.iter().enumerate() {
        sum += *used as f64;
        sent.push(((place as f64 + 1.0) * step, sum));
    }
    let from = 744.0 * step;
    let state = RampState::new(Duration::from_millis(2_500), used);
    let mut bucket = bucket(ramp().resume(state, Duration::ZERO));
    let cost = Cost::ZERO.input_tokens(50);
    let mut now = START;
    while now < START + 5 * MINUTE {
        now = bucket.ready_at(&cost).expect("it fits").max(now);
        drop(bucket.take(&cost, now));
        sum += 50.0;
        sent.push((from + now.since(START).as_secs_f64(), sum));
    }
    for phase in 0..180 {
        let worst = servers::worst(&sent, from, FLOOR as f64, f64::from(phase) * 5.0);
        assert!(
            worst.iter().all(|worst| *worst <= 1.0),
            "{phase}: {worst:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn no_server_is_provoked_by_any_demand_with_idles_and_restarts(
        // How long a phase lasts, how much is wanted, and whether it begins with a restart.
        phases in prop::collection::vec(
            (1..2_400_u64, prop_oneof![Just(0.0), Just(1e9), 10.0..1_000.0_f64], 0..8_u8),
            1..14,
        ),
        sizes in (10..187_u64, 10..187_u64),
        phase in 0.0..900.0_f64,
    ) {
        let mut bucket = bucket(ramp());
        let mut now = START;
        let mut sent = servers::Sent::new();
        for (seconds, wanted, restart) in phases {
            if restart == 0 {
                bucket = TokenBucket::new(&quota(ramp()), now);
            } else if restart == 1 {
                let state = bucket.ramp(TOKENS, now).expect("it has one").state().clone();
                let age = Duration::from_secs(seconds % 40);
                now = now + age;
                bucket = TokenBucket::new(&quota(ramp().resume(state, age)), now);
            }
            let end = now + Duration::from_secs(seconds);
            loop {
                let size = if sent.len() % 3 == 0 { sizes.0 } else { sizes.1 };
                let cost = Cost::ZERO.input_tokens(size);
                let pause = Duration::from_secs_f64(size as f64 / wanted.max(1e-3));
                let at = bucket.ready_at(&cost).expect("it fits").max(now + pause);
                if at >= end || wanted <= 0.0 {
                    break;
                }
                now = at;
                drop(bucket.take(&cost, now));
                let before = sent.last().map_or(0.0, |(_, sum)| *sum);
                sent.push((now.since(START).as_secs_f64(), before + size as f64));
            }
            now = end;
        }
        let worst = servers::worst(&sent, 0.0, FLOOR as f64, phase);
        prop_assert!(worst.iter().all(|worst| *worst <= 1.0), "{worst:?}");
    }
}
