//! What a call is charged by each provider's rule, and when.

use crate::in_process::{ASK, Ask, MINUTE, all_charged, builder, charged, per_minute, start};
use embedded_provider::{
    ChargingRule::{
        self, Anthropic, Azure, Bedrock, Fixed, Gemini, Generic, Groq, Mistral, OpenAi,
    },
    Faults, Latency, Limits, Provider,
};
use http_body_util::BodyExt;
use std::time::Duration;

const SECOND: Duration = Duration::from_secs(1);

/// A second until the first token, and then one each second.
const SLOW: Latency = Latency {
    first_token: SECOND,
    per_token: SECOND,
};

/// Estimated 100, really 120 of which 40 are cached, at most 50 out and really 10.
const CALL: Ask = Ask {
    input: 120,
    cached: 40,
    ..ASK
};

fn slow(rule: ChargingRule) -> Provider {
    start(builder(per_minute(1_000)).charging(rule).latency(SLOW))
}

#[tokio::test(start_paused = true)]
async fn each_rule_has_its_price_at_admission_and_at_the_end() {
    for (rule, at_admission, at_end) in [
        (Fixed, [120.0, 50.0, 170.0], [120.0, 50.0, 170.0]),
        (Generic, [120.0, 50.0, 170.0], [120.0, 10.0, 130.0]),
        (Mistral, [120.0, 50.0, 170.0], [120.0, 10.0, 130.0]),
        (Anthropic, [80.0, 0.0, 80.0], [80.0, 10.0, 90.0]),
        (OpenAi, [100.0, 50.0, 100.0], [100.0, 50.0, 100.0]),
        (Azure, [100.0, 50.0, 150.0], [100.0, 50.0, 150.0]),
        (Gemini, [120.0, 0.0, 120.0], [120.0, 0.0, 120.0]),
        (Bedrock, [80.0, 50.0, 130.0], [80.0, 50.0, 130.0]),
        (Groq, [120.0, 50.0, 170.0], [80.0, 10.0, 90.0]),
    ] {
        let provider = slow(rule);
        let stream = Ask {
            stream: true,
            ..CALL
        };
        let body = stream.open(&provider).await.into_body();
        assert_eq!(all_charged(&provider), at_admission, "{rule:?}");
        body.collect().await.expect("a stream");
        assert_eq!(all_charged(&provider), at_end, "{rule:?}, streamed");
        CALL.send(&provider).await;
        let twice = at_end.map(|tokens| 2.0 * tokens);
        assert_eq!(all_charged(&provider), twice, "{rule:?}, in one piece");
        let counters = provider.counters();
        let counted = [
            counters.input_tokens_charged,
            counters.output_tokens_charged,
        ];
        assert_eq!(counted.map(|tokens| tokens as f64), twice[..2], "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn openai_charges_the_larger_of_prompt_and_maximum_and_its_refusals_take_what_is_left() {
    let provider = slow(OpenAi);
    let long = Ask { max: 300, ..ASK };
    long.send(&provider).await;
    assert_eq!(charged(&provider, "tokens"), 300.0);

    let limits = Limits {
        requests_per_minute: Some(2),
        ..per_minute(250)
    };
    for (rule, after) in [(OpenAi, 429), (Azure, 200)] {
        let provider = start(builder(limits).charging(rule));
        let small = Ask {
            estimated: 1,
            max: 1,
            ..ASK
        };
        assert_eq!(small.status(&provider).await, 200);
        let large = Ask { max: 250, ..ASK };
        assert_eq!(large.status(&provider).await, 429);
        assert_eq!(small.status(&provider).await, after, "{rule:?}");
        if rule == OpenAi {
            let (_, headers, _) = large.send(&provider).await;
            assert_eq!(
                headers["retry-after"], "60",
                "what it took is not promised to it"
            );
        }
        tokio::time::advance(MINUTE).await;
        assert_eq!(small.status(&provider).await, 200, "nothing is owed");
    }
}

#[tokio::test(start_paused = true)]
async fn anthropic_counts_output_as_it_is_produced_and_asks_only_for_some_that_is_left() {
    let limits = Limits {
        output_tokens_per_minute: Some(60),
        burst: SECOND,
        ..Limits::default()
    };
    for stream in [true, false] {
        let provider = start(builder(limits).charging(Anthropic).latency(Latency {
            first_token: SECOND,
            per_token: SECOND / 10,
        }));
        let many = Ask {
            max: 100_000,
            output: 24,
            stream,
            ..ASK
        };
        let answer = tokio::spawn({
            let provider = provider.clone();
            async move { many.status(&provider).await }
        });
        tokio::time::sleep(Duration::from_millis(3_050)).await;
        assert_eq!(charged(&provider, "output"), 20.0, "in two seconds");
        let another = Ask {
            max: 1,
            output: 1,
            ..ASK
        };
        assert_eq!(
            another.status(&provider).await,
            429,
            "one held and two refilled, 20 used"
        );
        assert_eq!(
            answer.await.expect("no panic"),
            200,
            "what has begun goes on"
        );
        assert_eq!(charged(&provider, "output"), 24.0);
        tokio::time::sleep(24 * SECOND).await;
        assert_eq!(another.status(&provider).await, 200, "the debt is paid");
    }
}

#[tokio::test(start_paused = true)]
async fn anthropic_refuses_where_no_output_is_left_at_all() {
    let limits = Limits {
        output_tokens_per_minute: Some(60),
        burst: SECOND,
        ..Limits::default()
    };
    let provider = start(builder(limits).charging(Anthropic));
    let one = Ask { output: 1, ..ASK };
    assert_eq!(one.status(&provider).await, 200);
    assert_eq!(
        one.status(&provider).await,
        429,
        "nothing is owed, and nothing is left"
    );
}

#[tokio::test(start_paused = true)]
async fn anthropic_estimates_the_input_until_the_answer_begins() {
    let limits = Limits {
        input_tokens_per_minute: Some(100),
        burst: MINUTE,
        ..Limits::default()
    };
    let provider = start(builder(limits).charging(Anthropic));
    let cached = Ask {
        input: 110,
        cached: 90,
        written: 5,
        ..ASK
    };
    assert_eq!(cached.status(&provider).await, 200);
    assert_eq!(charged(&provider, "input"), 20.0, "what is written counts");
    assert_eq!(ASK.status(&provider).await, 429, "the estimate has to fit");
}

#[tokio::test(start_paused = true)]
async fn bedrock_settles_output_five_times_over_and_into_debt() {
    let limits = Limits {
        tokens_per_minute: Some(600),
        burst: 15 * SECOND,
        ..Limits::default()
    };
    let provider = start(builder(limits).charging(Bedrock));
    let call = Ask {
        path: "/model/m/converse",
        output: 50,
        written: 20,
        ..ASK
    };
    assert_eq!(call.status(&provider).await, 200);
    assert_eq!(charged(&provider, "tokens"), 350.0);
    let books = provider.books("org-a").expect("a configured scope");
    assert_eq!(books.dimensions[0].1.deepest_debt, 200.0);
    assert_eq!(books.dimensions[0].1.overshoot(), 200.0);
    tokio::time::advance(20 * SECOND).await;
    assert_eq!(call.status(&provider).await, 429, "200 were owed");
    tokio::time::advance(15 * SECOND).await;
    assert_eq!(call.status(&provider).await, 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_admits_the_next() {
    let limits = per_minute(220);
    for (rule, second) in [(Fixed, 429), (Azure, 429), (Generic, 200), (Groq, 200)] {
        let provider = start(builder(limits).charging(rule));
        let call = Ask {
            estimated: 50,
            input: 50,
            max: 100,
            ..ASK
        };
        assert_eq!(call.status(&provider).await, 200);
        assert_eq!(call.status(&provider).await, second, "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_client_that_goes_away_pays_for_what_was_produced() {
    for stream in [true, false] {
        for (rule, output) in [
            (Generic, 4.0),
            (Anthropic, 4.0),
            (Bedrock, 20.0),
            (Fixed, 50.0),
        ] {
            let provider = slow(rule);
            let call = Ask { stream, ..ASK };
            let answer = tokio::spawn({
                let provider = provider.clone();
                async move { call.send(&provider).await }
            });
            tokio::time::sleep(Duration::from_millis(5_500)).await;
            answer.abort();
            answer.await.expect_err("it was aborted");
            let counters = provider.counters();
            assert_eq!((counters.in_flight, counters.disconnected), (0, 1));
            assert_eq!(charged(&provider, "output"), output, "{rule:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_fault_of_the_provider_is_free_at_anthropic_alone() {
    let faults = Faults {
        server_error_share: 1.0,
        ..Faults::default()
    };
    for (rule, kept) in [(Anthropic, 0.0), (OpenAi, 100.0), (Generic, 150.0)] {
        let provider = start(builder(per_minute(1_000)).charging(rule).faults(faults));
        assert_eq!(ASK.status(&provider).await, 500);
        assert_eq!(charged(&provider, "tokens"), kept, "{rule:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_judged_over_the_window_that_is_set() {
    let limits = Limits {
        requests_per_minute: Some(60),
        requests_window: Some(10 * SECOND),
        requests_per_day: Some(15),
        ..Limits::default()
    };
    let provider = start(builder(limits).charging(Azure));
    let admitted = async |tries: u32| {
        let mut admitted = 0;
        for _ in 0..tries {
            admitted += u32::from(ASK.status(&provider).await == 200);
        }
        admitted
    };
    assert_eq!(admitted(20).await, 10, "a sixth of the minute at once");
    tokio::time::advance(Duration::from_millis(9_990)).await;
    assert_eq!(admitted(1).await, 0);
    tokio::time::advance(Duration::from_millis(10)).await;
    assert_eq!(admitted(20).await, 5, "all that the day has left");
    tokio::time::advance(MINUTE).await;
    let (status, headers, _) = ASK.send(&provider).await;
    assert_eq!(status, 429);
    assert_eq!(headers["retry-after"], (24 * 3600 - 70).to_string());
    tokio::time::advance(24 * 60 * MINUTE - 70 * SECOND).await;
    assert_eq!(admitted(20).await, 10);
}

#[tokio::test(start_paused = true)]
async fn answers_from_before_a_reset_settle_nothing_after_it() {
    let provider = slow(Generic);
    let stream = Ask {
        stream: true,
        ..ASK
    };
    let body = stream.open(&provider).await.into_body();
    provider.reset_counters();
    body.collect().await.expect("a stream");
    assert_eq!(all_charged(&provider), [0.0; 3]);
    let counters = provider.counters();
    assert_eq!(counters.output_tokens_charged, 0);
    assert_eq!(counters.output_tokens_produced, 0);
}
