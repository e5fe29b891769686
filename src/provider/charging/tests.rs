use super::*;
use crate::policy::Unit;

const CACHED: TokenUsage = TokenUsage::UNKNOWN
    .input(1_000)
    .cached_input(600)
    .cache_write(50)
    .output(80);

const fn used(input: u64, output: u64) -> Usage {
    Usage::UNKNOWN.input_tokens(input).output_tokens(output)
}

/// The same with what the next prompt is estimated by.
const fn told(prompt: u64, input: u64, output: u64) -> Usage {
    used(input, output).prompt_tokens(prompt)
}

#[test]
fn cached_input_that_the_provider_exempts_is_not_charged() {
    let exempt = Charging::NEW.cached_input(CachedInput::Exempt);
    assert_eq!(Charging::NEW.settle(&CACHED), used(1_000, 80));
    assert_eq!(exempt.settle(&CACHED), told(1_000, 400, 80));
    let beside = exempt.cached_share(CachedShare::Beside);
    assert_eq!(beside.settle(&CACHED), told(1_650, 1_050, 80));
    let corrected = beside.output(Output::AsProduced);
    assert_eq!(corrected.settle(&CACHED), used(1_050, 80));
    let all = Charging::NEW.cached_share(CachedShare::Beside);
    assert_eq!(all.settle(&CACHED), used(1_650, 80));
}

#[test]
fn more_cached_than_input_is_none() {
    let absurd = TokenUsage::UNKNOWN.input(5).cached_input(u64::MAX);
    let exempt = Charging::NEW.cached_input(CachedInput::Exempt);
    assert_eq!(exempt.settle(&absurd).input(), Some(0));
    let beside = Charging::NEW.cached_share(CachedShare::Beside);
    assert_eq!(beside.settle(&absurd).input(), Some(u64::MAX));
}

#[test]
fn what_was_not_reported_is_not_settled() {
    let none = TokenUsage::UNKNOWN;
    assert_eq!(Charging::NEW.settle(&none), Usage::UNKNOWN);
    let half = Charging::NEW.settle(&none.output(7));
    assert_eq!((half.input(), half.output()), (None, Some(7)));
    let only_cached = Charging::NEW.settle(&none.cached_input(7));
    assert_eq!(only_cached, Usage::UNKNOWN);
}

#[test]
fn a_token_of_output_may_cost_five() {
    let dear = Charging::NEW.output_factor(5);
    assert_eq!(dear.settle(&CACHED).output(), Some(400));
    assert_eq!(
        dear.settle(&CACHED.output(u64::MAX)).output(),
        Some(u64::MAX)
    );
    let zero = Charging::NEW.output_factor(0);
    assert_eq!(zero.settle(&CACHED).output(), Some(80), "0 is taken for 1");
}

#[test]
fn the_larger_of_prompt_and_maximum_is_reserved_where_that_is_the_rule() {
    let larger = Charging::NEW.reservation(Reserved::Larger);
    for (input, limit, tokens) in [(100, 800, 800), (800, 100, 800), (5, 5, 5), (0, 0, 0)] {
        assert_eq!(larger.reserve(input, limit).get(Unit::TOKENS), tokens);
        let sum = Charging::NEW.reserve(input, limit).get(Unit::TOKENS);
        assert_eq!(sum, input + limit);
    }
    assert_eq!(larger.reserve(9, 9).get(Unit::REQUESTS), 1);
}

#[test]
fn an_answer_that_is_free_takes_nothing_before_or_after() {
    let free = Charging::NEW.output(Output::Free);
    assert_eq!(free.reserve(100, 800).get(Unit::OUTPUT_TOKENS), 0);
    assert_eq!(free.settle(&CACHED), used(1_000, 0));
    let unknown = free.settle(&TokenUsage::UNKNOWN);
    assert_eq!((unknown.input(), unknown.output()), (None, Some(0)));
}

#[test]
fn a_reservation_that_stands_is_not_settled() {
    let stands = Charging::NEW.settlement(Settlement::Stands);
    let prompt = Usage::UNKNOWN.prompt_tokens(1_000);
    assert_eq!(
        stands.settle(&CACHED),
        prompt,
        "there is something to learn"
    );
}

#[test]
fn a_failure_that_is_free_keeps_its_request() {
    assert_eq!(Charging::NEW.settle_failure(), Usage::UNKNOWN);
    let free = Charging::NEW.failures(Failures::Free);
    assert_eq!(free.settle_failure(), used(0, 0));
}
