//! What callers without a notion of quotas get out of five keys. Its figures are those of
//!
//!     cargo test --release -p relay --test serve -- --ignored --nocapture five_keys

use std::{sync::Arc, time::Duration};

use embedded_provider::{Latency, Limits, Provider, Scope};
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use serde_json::json;
use tokio::{sync::Mutex, time::Instant};

use crate::relay::Relay;

const KEYS: usize = 5;
const WORKERS: usize = 50;
const CALLS: usize = 1_000;
/// Of each key, per minute.
const REQUESTS: u64 = 200;
const OUTPUT_TOKENS: u64 = 120_000;

const LATENCY: Latency = Latency {
    first_token: Duration::from_millis(600),
    per_token: Duration::from_millis(5),
};

fn scope(number: usize) -> String {
    format!("org-{number}")
}

async fn provider() -> Provider {
    // Its burst, of a second, is what nobody tells.
    let limits = Limits {
        requests_per_minute: Some(REQUESTS),
        output_tokens_per_minute: Some(OUTPUT_TOKENS),
        ..Limits::default()
    };
    let scopes = (0..KEYS).map(|key| Scope::new(scope(key), [format!("secret-{key}")], limits));
    let provider = Provider::builder().latency(LATENCY);
    let provider = scopes.fold(provider, |provider, scope| provider.scope(scope));
    provider.start().await.expect("a port")
}

fn config(provider: &Provider) -> String {
    let mut config = format!(
        "[[upstream]]\nname = \"pretend\"\nprovider = \"anthropic\"\nbase_url = \"{}\"\n",
        provider.url()
    );
    for key in 0..KEYS {
        config += &format!(
            "[[upstream.scope]]\nname = \"{}\"\n\
             key = [{{ alias = \"k{key}\", value = \"secret-{key}\" }}]\n\
             [[upstream.scope.quota]]\nrequests_per_minute = {}\noutput_tokens_per_minute = {}\n",
            scope(key),
            REQUESTS,
            OUTPUT_TOKENS,
        );
    }
    config
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute, of a machine that does little else"]
async fn five_keys_answer_every_call_with_hardly_a_call_too_many_and_all_of_their_quota() {
    let provider = provider().await;
    let (relay, _file) = Relay::with(&config(&provider)).await;
    let url = relay.at("/v1/messages");
    let client = Client::builder(TokioExecutor::new()).build_http::<Full<bytes::Bytes>>();
    let left = Arc::new(Mutex::new(CALLS));
    let began = Instant::now();
    let workers: Vec<_> = (0..WORKERS)
        .map(|_| {
            let (client, left, url) = (client.clone(), Arc::clone(&left), url.clone());
            tokio::spawn(async move {
                let mut answered = 0;
                loop {
                    {
                        let mut left = left.lock().await;
                        if *left == 0 {
                            return answered;
                        }
                        *left -= 1;
                    }
                    let question = json!({
                        "model": "some-model",
                        "max_tokens": 300,
                        "messages": [{ "role": "user", "content": "Hello!" }],
                    });
                    let request = Request::post(&url)
                        .header("content-type", "application/json")
                        .body(Full::from(question.to_string()))
                        .expect("a request");
                    let response = client.request(request).await.expect("the relay answers");
                    let status = response.status();
                    response.into_body().collect().await.expect("it is whole");
                    answered += usize::from(status == StatusCode::OK);
                }
            })
        })
        .collect();
    let mut answered = 0;
    for worker in workers {
        answered += worker.await.expect("no panic");
    }
    let took = began.elapsed();
    let counters = provider.counters();
    let used = (0..KEYS).map(|key| provider.quota_used_share(&scope(key)).expect("its own"));
    let used = used.sum::<f64>() / KEYS as f64;
    let calls = counters.calls as f64 / answered as f64;
    println!(
        "{answered} of {CALLS} answered in {took:.1?}, {} calls upstream ({calls:.3} per answer), \
         {} refused, quota used {:.1} %",
        counters.calls,
        counters.refused,
        used * 100.0
    );
    assert_eq!(answered, CALLS);
    assert!(calls <= 1.02, "{counters:?}");
    assert!(used >= 0.97, "{used}");
}
