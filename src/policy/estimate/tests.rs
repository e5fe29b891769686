use proptest::prelude::*;

use super::*;

fn estimator(share: f64) -> OutputEstimator {
    OutputEstimator::new(share).expect("it is valid")
}

fn kind() -> AnswerKind {
    AnswerKind::of(Some("m"), 100)
}

/// A fixed sequence of numbers that look like chance.
fn noise(seed: u64) -> impl FnMut() -> f64 {
    let mut state = seed;
    move || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[test]
fn the_cap_is_the_estimate_until_enough_answers_are_known() {
    let mut estimator = estimator(0.95);
    for known in 0..19 {
        assert_eq!(estimator.estimate(kind(), 4_096), 4_096, "{known} answers");
        estimator.learn(kind(), 7);
    }
    assert_eq!(estimator.estimate(kind(), 4_096), 7);
}

#[test]
fn a_share_that_needs_more_answers_than_are_kept_is_refused() {
    for share in [f64::NAN, -1.0, 0.0, 0.49, 0.991, 1.0, f64::INFINITY] {
        assert!(OutputEstimator::new(share).is_err(), "{share}");
    }
    let mut high = estimator(0.99);
    for _ in 0..99 {
        high.learn(kind(), 3);
    }
    assert_eq!(high.estimate(kind(), 100), 3);
}

#[test]
fn the_stated_share_of_answers_stays_within_the_estimate() {
    for share in [0.5, 0.8, 0.95, 0.99] {
        for (name, length) in [
            ("even", (|u: f64| 1.0 + 1_500.0 * u) as fn(f64) -> f64),
            ("heavy-tailed", |u: f64| 50.0 / (1.0 - u).powf(0.8)),
            ("two kinds", |u: f64| if u < 0.9 { 20.0 } else { 3_000.0 }),
        ] {
            let mut estimator = estimator(share);
            let mut chance = noise(7);
            let mut exceeded = 0;
            for _ in 0..20_000 {
                let tokens = length(chance()) as u64;
                if tokens > estimator.estimate(kind(), u64::MAX) {
                    exceeded += 1;
                }
                estimator.learn(kind(), tokens);
            }
            let exceeded = f64::from(exceeded) / 20_000.0;
            assert!(
                exceeded <= 1.05 * (1.0 - share),
                "{share} {name}: {exceeded}"
            );
        }
    }
}

#[test]
fn an_estimate_is_at_most_an_eighth_too_long() {
    let mut estimator = estimator(0.9);
    for tokens in [1, 15, 16, 17, 100, 999, 12_345, 1_000_000] {
        for _ in 0..WINDOW {
            estimator.learn(kind(), tokens);
        }
        let estimate = estimator.estimate(kind(), u64::MAX);
        assert!(estimate >= tokens, "{tokens}: {estimate}");
        assert!(estimate <= tokens + tokens / 8, "{tokens}: {estimate}");
    }
}

#[test]
fn longer_answers_are_followed_within_a_few_dozen_calls() {
    let mut estimator = estimator(0.95);
    for _ in 0..10_000 {
        estimator.learn(kind(), 100);
    }
    let mut surprised = 0;
    while estimator.estimate(kind(), 4_096) < 2_000 {
        estimator.learn(kind(), 2_000);
        surprised += 1;
    }
    assert_eq!(surprised, 25, "one more than may exceed it");
}

#[test]
fn shorter_answers_are_believed_when_the_longer_ones_are_old() {
    let mut estimator = estimator(0.95);
    for _ in 0..WINDOW {
        estimator.learn(kind(), 2_000);
    }
    for _ in 0..WINDOW {
        estimator.learn(kind(), 10);
    }
    assert_eq!(estimator.estimate(kind(), 4_096), 10);
}

#[test]
fn kinds_are_models_and_sizes_of_prompts() {
    let of = |model, tokens| AnswerKind::of(model, tokens);
    assert_eq!(of(Some("a"), 1_100), of(Some("a"), 2_000));
    assert_ne!(of(Some("a"), 1_100), of(Some("a"), 9_000));
    assert_ne!(of(Some("a"), 1_100), of(Some("b"), 1_100));
    assert_ne!(of(None, 1_100), of(Some(""), 1_100));
    let mut estimator = estimator(0.5);
    for _ in 0..10 {
        estimator.learn(of(Some("a"), 1_100), 5);
    }
    assert_eq!(estimator.estimate(of(Some("b"), 1_100), 800), 800);
    assert_eq!(estimator.estimate(of(Some("a"), 1_100), 800), 5);
}

#[test]
fn invented_models_take_bounded_memory_and_leave_the_ones_in_use() {
    let mut estimator = estimator(0.5);
    for n in 0..10_000 {
        estimator.learn(kind(), 5);
        estimator.learn(AnswerKind::of(Some(&format!("invented-{n}")), 1), 9);
        assert!(estimator.kinds() <= OutputEstimator::MOST_KINDS);
    }
    assert_eq!(estimator.estimate(kind(), 800), 5);
}

#[test]
fn every_length_has_its_bucket() {
    assert_eq!(bucket(u64::MAX), bucket(1 << 24));
    assert_eq!(longest(u64::from(bucket(u64::MAX))), u64::MAX);
    for tokens in (0..5_000).chain([1 << 20, (1 << 23) - 1, 1 << 23]) {
        let this = u64::from(bucket(tokens));
        assert!(longest(this) >= tokens, "{tokens}");
        assert!(this == 0 || longest(this - 1) < tokens, "{tokens}");
    }
}

proptest! {
    #[test]
    fn an_estimate_never_exceeds_the_cap(
        answers in proptest::collection::vec(any::<u64>(), 0..600),
        limit: u64,
    ) {
        let mut estimator = estimator(0.8);
        for tokens in answers {
            estimator.learn(kind(), tokens);
            prop_assert!(estimator.estimate(kind(), limit) <= limit);
        }
    }
}
