use std::time::Duration;

use super::*;
use crate::policy::{CostTooLarge, Reading, Unit};

#[test]
fn a_refusal_that_can_never_pass_has_no_hint() {
    let error: BoxError = Rejected::CostTooLarge(CostTooLarge::new(Unit::REQUESTS, 5, 2)).into();
    let outcome = Protocol::<(), ()>::classify(&Plain, Err(&error));
    assert_eq!(outcome.verdict(), Verdict::RefusedLocally);
    assert_eq!(outcome.hint(), None);
    assert_eq!(outcome.effect(), Effect::None);
}

#[test]
fn an_unknown_error_may_have_had_an_effect() {
    let outcome = Protocol::<(), ()>::classify(&Plain, Err(&"broken pipe".into()));
    assert_eq!(outcome.verdict(), Verdict::ServerFault);
    assert_eq!(outcome.effect(), Effect::Possible);
}

#[test]
fn an_adaptor_replaces_one_answer_and_passes_on_the_rest() {
    let protocol =
        AssumeIdempotent::new(CostFn::new(Plain, |n: &u64| Cost::REQUEST.input_tokens(*n)));
    let as_protocol: &dyn Fn(&u64) -> Cost = &|n| Protocol::<u64, ()>::cost(&protocol, n);
    assert_eq!(as_protocol(&9), Cost::REQUEST.input_tokens(9));
    assert_eq!(
        Protocol::<u64, ()>::idempotency(&protocol, &9),
        Idempotency::Idempotent
    );
}

struct Ask {
    model: Option<String>,
    token: String,
}

#[cfg(feature = "key-rotation")]
fn pool() -> crate::key_rotation::KeyPool {
    use crate::key_rotation::{KeyPool, Scope, Source};

    let scope = Scope::new("org-a").key("a1", Source::value("sk-1"));
    let pool = KeyPool::builder().scope(scope).build();
    pool.expect("it is valid")
}

fn check_model(protocol: &impl Protocol<Ask, ()>, expected: Option<&str>) {
    let ask = Ask {
        model: Some("large-1".into()),
        token: String::new(),
    };
    assert_eq!(protocol.model(&ask), expected);
    assert_eq!(ask.token, "");
}

#[test]
fn every_adaptor_passes_the_model_on() {
    let protocol = || ModelFn::new(Plain, |ask: &Ask| ask.model.as_deref());
    let large = Some("large-1");
    check_model(&Plain, None);
    check_model(&protocol(), large);
    check_model(&CostFn::new(protocol(), |_: &Ask| Cost::REQUEST), large);
    let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
    check_model(&ClassifyFn::new(protocol(), classify), large);
    check_model(&DeadlineFn::new(protocol(), |_: &Ask| None), large);
    check_model(&AssumeIdempotent::new(protocol()), large);
    check_model(&ModelFn::new(protocol(), |_: &Ask| None), None);
    check_model(&ModelFn::new(Plain, |_: &Ask| Some("fixed")), Some("fixed"));
    #[cfg(feature = "key-rotation")]
    check_model(&AuthorizeFn::new(protocol(), |_: &mut Ask, _| {}), large);
}

#[test]
fn every_adaptor_passes_the_affinity_and_the_class_on() {
    fn check(protocol: &impl Protocol<Ask, ()>) {
        let ask = Ask {
            model: Some("large-1".into()),
            token: String::new(),
        };
        assert_eq!(protocol.affinity(&ask), Some(7));
        assert_eq!(protocol.class(&ask), Some("large-1"));
    }

    let protocol = || {
        let protocol = AffinityFn::new(Plain, |_: &Ask| Some(7));
        ClassFn::new(protocol, |ask: &Ask| ask.model.as_deref())
    };
    check(&protocol());
    check(&AffinityFn::new(protocol(), |_: &Ask| Some(7)));
    check(&CostFn::new(protocol(), |_: &Ask| Cost::REQUEST));
    let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
    check(&ClassifyFn::new(protocol(), classify));
    check(&DeadlineFn::new(protocol(), |_: &Ask| None));
    check(&ModelFn::new(protocol(), |_: &Ask| None));
    check(&AssumeIdempotent::new(protocol()));
    #[cfg(feature = "key-rotation")]
    check(&AuthorizeFn::new(protocol(), |_: &mut Ask, _| {}));
    #[cfg(all(feature = "http", feature = "key-rotation"))]
    {
        let get = http::Request::new(());
        let protocol = AffinityFn::new(Plain, |_: &http::Request<()>| Some(7));
        let protocol = ClassFn::new(protocol, |_: &http::Request<()>| Some("batch"));
        let bearer = crate::http::Credential::bearer(protocol);
        assert_eq!(Protocol::<_, ()>::affinity(&bearer, &get), Some(7));
        assert_eq!(Protocol::<_, ()>::class(&bearer, &get), Some("batch"));
    }
}

/// Knows the size of its requests.
struct Sizing;

impl<Req, Res> Protocol<Req, Res> for Sizing {
    type Response<G: Guard> = Res;

    fn hold<G: Guard>(&self, response: Res, _: G) -> Res {
        response
    }

    fn size(&self, _: &Req) -> Option<CallSize> {
        Some(CallSize::new(3, 5))
    }
}

#[test]
fn every_adaptor_passes_the_size_on_but_the_one_of_costs() {
    fn size(protocol: &impl Protocol<Ask, ()>) -> Option<CallSize> {
        let ask = Ask {
            model: None,
            token: String::new(),
        };
        protocol.size(&ask)
    }

    let known = Some(CallSize::new(3, 5));
    assert_eq!(size(&Plain), None);
    assert_eq!(size(&Sizing), known);
    assert_eq!(size(&CostFn::new(Sizing, |_: &Ask| Cost::REQUEST)), None);
    let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
    assert_eq!(size(&ClassifyFn::new(Sizing, classify)), known);
    assert_eq!(size(&DeadlineFn::new(Sizing, |_: &Ask| None)), known);
    assert_eq!(size(&ModelFn::new(Sizing, |_: &Ask| None)), known);
    assert_eq!(size(&AffinityFn::new(Sizing, |_: &Ask| None)), known);
    assert_eq!(size(&ClassFn::new(Sizing, |_: &Ask| None)), known);
    assert_eq!(size(&AssumeIdempotent::new(Sizing)), known);
    #[cfg(feature = "key-rotation")]
    assert_eq!(size(&AuthorizeFn::new(Sizing, |_: &mut Ask, _| {})), known);
    #[cfg(all(feature = "http", feature = "key-rotation"))]
    {
        let bearer = crate::http::Credential::bearer(Sizing);
        let request = http::Request::new(());
        assert_eq!(Protocol::<_, ()>::size(&bearer, &request), known);
    }
    let noted = crate::call::Noted::new(Sizing);
    let facts = crate::call::Facts::of_size(CallSize::new(7, 9));
    let call = crate::call::Call::new((), facts);
    let of_facts = Protocol::<_, ()>::size(&noted, &call);
    assert_eq!(of_facts, Some(CallSize::new(7, 9)));
    let facts = crate::call::Facts::new(Cost::REQUEST);
    let call = crate::call::Call::new((), facts);
    assert_eq!(Protocol::<_, ()>::size(&noted, &call), None, "as the cost");
}

/// Shows what is left of requests: as much as the response says.
struct Left;

impl<Req> Protocol<Req, u64> for Left {
    type Response<G: Guard> = u64;

    fn hold<G: Guard>(&self, left: u64, _: G) -> u64 {
        left
    }

    fn readings(&self, left: &u64) -> Readings {
        Readings::NONE.with(left_of(*left))
    }
}

fn left_of(left: u64) -> Reading {
    Reading::new(Unit::REQUESTS, Duration::from_secs(60)).remaining(left)
}

#[test]
fn every_adaptor_passes_the_readings_on() {
    fn check(protocol: &impl Protocol<Ask, u64>) {
        assert_eq!(protocol.readings(&7), Readings::NONE.with(left_of(7)));
    }

    check(&Left);
    check(&CostFn::new(Left, |_: &Ask| Cost::REQUEST));
    let classify = |_: Result<&u64, &BoxError>| Outcome::SUCCESS;
    check(&ClassifyFn::new(Left, classify));
    check(&DeadlineFn::new(Left, |_: &Ask| None));
    check(&ModelFn::new(Left, |ask: &Ask| ask.model.as_deref()));
    check(&AssumeIdempotent::new(Left));
    #[cfg(feature = "key-rotation")]
    check(&AuthorizeFn::new(Left, |_: &mut Ask, _| {}));
    #[cfg(all(feature = "http", feature = "key-rotation"))]
    {
        let bearer = crate::http::Credential::bearer(Left);
        let shown = Protocol::<http::Request<()>, u64>::readings(&bearer, &7);
        assert_eq!(shown, Readings::NONE.with(left_of(7)));
    }
    let noted = crate::call::Noted::new(Left);
    let shown = Protocol::<crate::call::Call<Ask>, u64>::readings(&noted, &7);
    assert_eq!(shown, Readings::NONE.with(left_of(7)));
    let nothing = Protocol::<Ask, u64>::readings(&Plain, &7);
    assert!(nothing.is_empty());
}

#[cfg(feature = "key-rotation")]
#[test]
fn every_adaptor_passes_the_key_on() {
    fn check(protocol: &impl Protocol<Ask, ()>) {
        let mut ask = Ask {
            model: None,
            token: String::new(),
        };
        for key in pool().keys() {
            protocol.authorize(&mut ask, key);
        }
        assert_eq!(ask.token, "a1");
    }

    let write = |ask: &mut Ask, key: &Key| ask.token.push_str(key.alias());
    let protocol = || AuthorizeFn::new(Plain, write);
    check(&protocol());
    check(&CostFn::new(protocol(), |_: &Ask| Cost::REQUEST));
    let classify = |_: Result<&(), &BoxError>| Outcome::SUCCESS;
    check(&ClassifyFn::new(protocol(), classify));
    check(&DeadlineFn::new(protocol(), |_: &Ask| None));
    check(&ModelFn::new(protocol(), |ask: &Ask| ask.model.as_deref()));
    check(&AssumeIdempotent::new(protocol()));
    check(&AuthorizeFn::new(
        AuthorizeFn::new(Plain, |_: &mut Ask, _| unreachable!("it is replaced")),
        write,
    ));
}
