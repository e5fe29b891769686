use proptest::prelude::*;

use super::*;
use crate::policy::{Quota, Timestamp, TokenBucket};

const MODEL: Option<&str> = Some("m");

fn usage(input: u64, output: u64) -> Usage {
    Usage::UNKNOWN.input_tokens(input).output_tokens(output)
}

fn teach(estimator: &mut Estimator, size: &CallSize, usage: &Usage, answers: usize) {
    for _ in 0..answers {
        let estimate = estimator.estimate(MODEL, size);
        estimator.learn(&estimate.lesson(), usage);
    }
}

fn input(estimator: &mut Estimator, tokens: u64) -> u64 {
    let estimate = estimator.estimate(MODEL, &CallSize::new(tokens, 0));
    estimate.cost().get(Unit::INPUT_TOKENS)
}

fn output(estimator: &mut Estimator, size: &CallSize) -> u64 {
    let estimate = estimator.estimate(MODEL, size);
    estimate.cost().get(Unit::OUTPUT_TOKENS)
}

#[test]
fn the_first_call_costs_what_it_says() {
    for size in [
        CallSize::new(1_000, 400),
        CallSize::new(1_000, 400).larger(),
        CallSize::new(100, 400).larger(),
        CallSize::new(1_000, 400).as_produced(),
        CallSize::new(0, 0),
        CallSize::new(u64::MAX, u64::MAX),
    ] {
        let estimate = Estimator::new().estimate(MODEL, &size);
        assert_eq!(*estimate.cost(), size.cost());
    }
}

#[test]
fn a_ratio_that_is_wrong_is_right_after_the_first_answer() {
    for (stated, real) in [(100, 1_000), (250, 1_000), (4_000, 1_000), (1_000, 1_000)] {
        let mut estimator = Estimator::new();
        teach(
            &mut estimator,
            &CallSize::new(stated, 0),
            &usage(real, 0),
            1,
        );
        assert_eq!(input(&mut estimator, stated), real, "{stated}");
        assert_eq!(input(&mut estimator, 3 * stated), 3 * real, "{stated}");
    }
}

#[test]
fn large_prompts_weigh_as_much_as_they_are_large() {
    let mut estimator = Estimator::new();
    teach(&mut estimator, &CallSize::new(100, 0), &usage(300, 0), 1);
    teach(
        &mut estimator,
        &CallSize::new(10_000, 0),
        &usage(10_000, 0),
        1,
    );
    let expected = 10_300.0 / 10_100.0;
    let ratio = estimator.learned(MODEL).input_ratio().expect("two answers");
    assert!((ratio - expected).abs() < 0.001, "{ratio}");
}

#[test]
fn each_model_has_its_own_ratio() {
    let mut estimator = Estimator::new();
    teach(&mut estimator, &CallSize::new(100, 0), &usage(300, 0), 9);
    let other = estimator.estimate(Some("other"), &CallSize::new(100, 0));
    assert_eq!(other.cost().get(Unit::INPUT_TOKENS), 100);
    assert_eq!(estimator.learned(Some("other")).input_ratio(), None);
}

#[test]
fn another_language_is_followed_within_some_hundred_answers() {
    let mut estimator = Estimator::new();
    let size = CallSize::new(1_000, 0);
    teach(&mut estimator, &size, &usage(1_000, 0), 5_000);
    teach(&mut estimator, &size, &usage(2_000, 0), 600);
    let tokens = input(&mut estimator, 1_000);
    assert!((1_880..=2_000).contains(&tokens), "{tokens}");
}

#[test]
fn the_whole_prompt_is_learned_from_where_a_cache_takes_part_off_the_charge() {
    let mut estimator = Estimator::new();
    let cached = usage(200, 0).prompt_tokens(1_000);
    teach(&mut estimator, &CallSize::new(500, 0), &cached, 1);
    assert_eq!(input(&mut estimator, 500), 1_000);
}

#[test]
fn a_limit_that_the_provider_reserves_is_never_lowered() {
    let (sum, larger) = (
        CallSize::new(100, 4_096),
        CallSize::new(100, 4_096).larger(),
    );
    for size in [sum, larger] {
        let mut estimator = Estimator::new();
        teach(&mut estimator, &size, &usage(100, 7), 500);
        assert_eq!(*estimator.estimate(MODEL, &size).cost(), size.cost());
        assert_eq!(estimator.learned(MODEL).kinds(), 0);
    }
    // What the larger of the two leaves for the answer follows the corrected input.
    let mut estimator = Estimator::new();
    teach(&mut estimator, &larger, &usage(1_000, 7), 1);
    let cost = *estimator.estimate(MODEL, &larger).cost();
    assert_eq!(cost.get(Unit::INPUT_TOKENS), 1_000);
    assert_eq!(cost.get(Unit::TOKENS), 4_096);
}

#[test]
fn output_that_is_counted_later_is_the_quantile_once_enough_answers_are_known() {
    let mut estimator = Estimator::safety(0.9).expect("it is valid");
    let size = CallSize::new(100, 4_096).as_produced();
    teach(&mut estimator, &size, &usage(100, 15), 8);
    assert_eq!(output(&mut estimator, &size), 4_096);
    teach(&mut estimator, &size, &usage(100, 15), 1);
    assert_eq!(output(&mut estimator, &size), 15);
    let short = CallSize::new(100, 9).as_produced();
    assert_eq!(output(&mut estimator, &short), 9, "no answer is longer");
}

#[test]
fn garbage_teaches_nothing_absurd() {
    let size = CallSize::new(1_000, 4_096).as_produced();
    let mut estimator = Estimator::new();
    teach(&mut estimator, &size, &usage(1_000, 15), 300);
    let (input_before, output_before) = (1_000, 15);
    let garbage = [
        usage(u64::MAX, u64::MAX),
        usage(0, 0),
        Usage::UNKNOWN,
        Usage::UNKNOWN.prompt_tokens(u64::MAX),
    ];
    for answer in garbage {
        teach(&mut estimator, &size, &answer, 1);
    }
    assert_eq!(estimator.learned(MODEL).answers(), 303, "one told nothing");
    let tokens = input(&mut estimator, 1_000);
    assert!((input_before..1_200).contains(&tokens), "{tokens}");
    assert_eq!(output(&mut estimator, &size), output_before);

    // Where there is nothing else, all is bounded still.
    let mut estimator = Estimator::new();
    teach(&mut estimator, &size, &garbage[0], 100);
    assert_eq!(input(&mut estimator, 1_000), 32_000);
    assert_eq!(output(&mut estimator, &size), 4_096);
    teach(&mut estimator, &CallSize::new(0, 0), &garbage[0], 100);
    assert_eq!(input(&mut estimator, u64::MAX), u64::MAX);
    let mut estimator = Estimator::new();
    teach(
        &mut estimator,
        &CallSize::new(u64::MAX, 0),
        &usage(0, 0),
        100,
    );
    assert_eq!(input(&mut estimator, 3_200), 100);
    assert_eq!(input(&mut estimator, 1), 1, "a prompt is not free");
}

#[test]
fn invented_models_take_bounded_memory_and_leave_the_ones_in_use() {
    let mut estimator = Estimator::new();
    let size = CallSize::new(1_000, 64).as_produced();
    for n in 0..2_000 {
        teach(&mut estimator, &size, &usage(3_000, 9), 1);
        let invented = estimator.estimate(Some(&format!("invented-{n}")), &size);
        estimator.learn(&invented.lesson(), &usage(1, 1));
        assert!(estimator.ratios.len() <= OutputEstimator::MOST_KINDS);
        assert!(estimator.learned(None).kinds() <= OutputEstimator::MOST_KINDS);
    }
    assert_eq!(input(&mut estimator, 1_000), 3_000);
    assert_eq!(estimator.learned(MODEL).answers(), 4_000);
}

#[test]
fn only_what_is_guessed_is_cut_to_what_fits() {
    let unit = |unit, cost, capacity| CostTooLarge::new(unit, cost, capacity);
    let mut estimator = Estimator::new();
    teach(&mut estimator, &CallSize::new(100, 0), &usage(200, 0), 50);
    // 200 expected, 100 stated.
    let size = CallSize::new(100, 4_096).as_produced();
    let mut estimate = estimator.estimate(MODEL, &size);
    assert!(estimate.cut(&unit(Unit::TOKENS, 4_296, 1_000)));
    let expected = Cost::REQUEST.input_tokens(200).output_tokens(800);
    assert_eq!(*estimate.cost(), expected, "the answer first");
    assert!(estimate.cut(&unit(Unit::TOKENS, 1_000, 150)));
    assert_eq!(*estimate.cost(), Cost::REQUEST.input_tokens(150));
    assert!(estimate.cut(&unit(Unit::INPUT_TOKENS, 150, 60)));
    assert_eq!(*estimate.cost(), Cost::REQUEST.input_tokens(100));
    assert!(!estimate.cut(&unit(Unit::INPUT_TOKENS, 100, 60)));
    assert!(!estimate.cut(&unit(Unit::REQUESTS, 1, 0)));

    let mut reserved = estimator.estimate(MODEL, &CallSize::new(100, 4_096));
    assert!(!reserved.cut(&unit(Unit::OUTPUT_TOKENS, 4_096, 1_000)));
    assert_eq!(reserved.cost().get(Unit::OUTPUT_TOKENS), 4_096);
}

#[test]
fn guards_stay_small() {
    assert!(
        size_of::<Option<Lesson>>() <= 16,
        "{}",
        size_of::<Option<Lesson>>()
    );
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
fn lengths_that_drift_exceed_their_estimates_hardly_more_often() {
    let mut estimator = Estimator::new();
    let size = CallSize::new(100, 1 << 20).as_produced();
    let mut chance = noise(3);
    let mut exceeded = 0;
    for call in 0..20_000 {
        // Ten times as long at the end, over 20,000 calls.
        let scale = 10_f64.powf(f64::from(call) / 20_000.0);
        let tokens = (scale * 50.0 / (1.0 - chance()).powf(0.5)) as u64;
        let estimate = estimator.estimate(MODEL, &size);
        exceeded += u32::from(tokens > estimate.cost().get(Unit::OUTPUT_TOKENS));
        estimator.learn(&estimate.lesson(), &usage(100, tokens));
    }
    let exceeded = f64::from(exceeded) / 20_000.0;
    assert!(exceeded <= 0.06, "{exceeded}");
}

proptest! {
    #[test]
    fn estimates_are_bounded_whatever_the_answers_say(
        answers in proptest::collection::vec((any::<u64>(), any::<u64>(), any::<u64>()), 0..200),
        (stated, limit) in (any::<u64>(), any::<u64>()),
        rule in 0_u8..3,
    ) {
        let of = |input, limit| match rule {
            0 => CallSize::new(input, limit),
            1 => CallSize::new(input, limit).larger(),
            _ => CallSize::new(input, limit).as_produced(),
        };
        let mut estimator = Estimator::new();
        for (estimated, input, output) in answers {
            let estimate = estimator.estimate(MODEL, &of(estimated, output));
            estimator.learn(&estimate.lesson(), &usage(input, output));
        }
        if let Some(ratio) = estimator.learned(MODEL).input_ratio() {
            prop_assert!((1.0 / 32.0..=32.0).contains(&ratio), "{ratio}");
        }
        let estimate = estimator.estimate(MODEL, &of(stated, limit));
        prop_assert!(estimate.cost().get(Unit::OUTPUT_TOKENS) <= limit);
        prop_assert!((estimate.cost().get(Unit::INPUT_TOKENS) == 0) == (stated == 0));
    }

    #[test]
    fn what_is_guessed_fits_the_bucket_or_the_request_itself_does_not(
        (stated, limit) in (0_u64..5_000, 0_u64..5_000),
        (real, answers) in (0_u64..100_000, 0_usize..40),
        (input, output, tokens) in (1_u64..4_000, 1_u64..4_000, 1_u64..4_000),
    ) {
        let quota = Quota::builder()
            .input_tokens_per_minute(1_000_000)
            .output_tokens_per_minute(1_000_000)
            .tokens_per_minute(1_000_000)
            .burst(Unit::INPUT_TOKENS, input)
            .burst(Unit::OUTPUT_TOKENS, output)
            .burst(Unit::TOKENS, tokens);
        let bucket = TokenBucket::new(&quota.build().expect("valid"), Timestamp::ZERO);
        let size = CallSize::new(stated, limit).as_produced();
        let mut estimator = Estimator::safety(0.5).expect("valid");
        teach(&mut estimator, &size, &usage(real, limit / 2), answers);
        let mut estimate = estimator.estimate(MODEL, &size);
        let mut steps = 0;
        while let Err(too_large) = bucket.ready_at(estimate.cost()) {
            if !estimate.cut(&too_large) {
                // Even the least that it may be is too much.
                prop_assert!(bucket.ready_at(&estimate.least).is_err());
                break;
            }
            steps += 1;
            prop_assert!(steps <= 4);
        }
    }
}
