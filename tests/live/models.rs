//! Keys that may not use every model.

use embedded_provider::{Denial, Limits, Provider, Scope};
use futures::future::join_all;
use http_body_util::BodyExt;
use serde_json::Value;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::{BoxError, Rejected},
    http::stack,
    key_rotation::{self, KeyPool, KeyPoolBuilder, KeyRotationHandle, Source},
    policy::{Reason, pool::WhyNot},
};

use crate::judge::{Format, Request, client};

const KEYS: [&str; 3] = ["secret-a1", "secret-a2", "secret-b1"];

async fn provider() -> Provider {
    let scope = |name, keys: &[&str]| Scope::new(name, keys.to_vec(), Limits::default());
    Provider::builder()
        .scope(scope("org-a", &KEYS[..2]))
        .scope(scope("org-b", &KEYS[2..]))
        .start()
        .await
        .expect("it starts")
}

fn pool() -> KeyPool {
    let scope_a = key_rotation::Scope::new("org-a")
        .key("a1", Source::value(KEYS[0]))
        .key("a2", Source::value(KEYS[1]));
    let scope_b = key_rotation::Scope::new("org-b").key("b1", Source::value(KEYS[2]));
    [scope_a, scope_b]
        .into_iter()
        .fold(KeyPool::builder(), KeyPoolBuilder::scope)
        .build()
        .expect("a valid pool")
}

/// Every way of a denial: its status in each format.
const CASES: [(Format, Denial, u16); 4] = [
    (Format::Messages, Denial::NotFound, 404),
    (Format::Messages, Denial::Forbidden, 403),
    (Format::Chat, Denial::NotFound, 404),
    (Format::Chat, Denial::Forbidden, 403),
];

async fn send<S, B>(service: &S, request: Request) -> Result<(u16, Value), BoxError>
where
    S: Service<Request, Response = http::Response<B>, Error = BoxError> + Clone,
    B: http_body::Body<Error: std::fmt::Debug>,
{
    let response = service.clone().oneshot(request).await?;
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.expect("a body");
    let body = serde_json::from_slice(&body.to_bytes()).expect("a JSON body");
    Ok((status, body))
}

fn denied(handle: &KeyRotationHandle) -> Vec<(String, Vec<String>)> {
    let scopes = handle.scopes();
    let keys = scopes.iter().flat_map(|scope| scope.keys());
    keys.map(|key| (key.alias().into(), key.denied().map(Into::into).collect()))
        .collect()
}

#[tokio::test]
async fn a_denied_model_takes_a_key_out_for_that_model_alone() {
    for (format, denial, _) in CASES {
        let provider = provider().await;
        provider
            .deny_model_to_key(KEYS[0], "large", denial)
            .expect("a known key");
        let stack = stack(pool(), format.profile());
        let (handle, retries) = (stack.handle(), stack.retry_handle());
        let service = stack.layer(client());
        for _ in 0..12 {
            for model in ["large", "small"] {
                let request = format.request(&provider.url(), model, false);
                let (status, body) = send(&service, request).await.expect("an answer");
                assert_eq!((status, &body["model"]), (200, &model.into()));
            }
        }
        let [a1, a2, b1] = KEYS.map(|key| provider.key_counters(key).expect("a known key"));
        assert_eq!(a1.denied, 1, "{format:?} {denial:?}");
        assert!(a1.answered >= 3, "small ones are served by a1: {a1:?}");
        assert_eq!((a2.denied, b1.denied), (0, 0));
        assert_eq!(a1.answered + a2.answered + b1.answered, 24);
        assert_eq!(retries.snapshot().retries(), 0);
        assert_eq!(retries.snapshot().waited_out(), 1);
        let none = || Vec::<String>::new();
        let expected = [
            ("a1".into(), vec!["large".into()]),
            ("a2".into(), none()),
            ("b1".into(), none()),
        ];
        assert_eq!(denied(&handle), expected);

        // Whoever allows it says so, and the key is tried again.
        provider
            .allow_model_to_key(KEYS[0], "large")
            .expect("a known key");
        handle.enable("a1").expect("a known key");
        for _ in 0..6 {
            let request = format.request(&provider.url(), "large", false);
            let (status, _) = send(&service, request).await.expect("an answer");
            assert_eq!(status, 200);
        }
        let again = provider.key_counters(KEYS[0]).expect("a known key");
        assert!(again.answered > a1.answered);
        assert_eq!(again.denied, 1);
    }
}

#[tokio::test]
async fn a_model_that_no_key_may_use_is_refused_as_the_server_refuses_it_then_by_us() {
    for (format, denial, status) in CASES {
        let provider = provider().await;
        for key in KEYS {
            provider
                .deny_model_to_key(key, "large", denial)
                .expect("a known key");
        }
        let stack = stack(pool(), format.profile());
        let retries = stack.retry_handle();
        let service = stack.layer(client());
        let call = |model| send(&service, format.request(&provider.url(), model, false));

        let (found, body) = call("large").await.expect("the answer as it was");
        assert_eq!(found, status, "{format:?} {denial:?}");
        let message = body["error"]["message"].as_str().expect("a message");
        assert!(message.contains("large"), "{message}");
        assert_eq!(provider.counters().denied, 3, "each key was asked once");

        let error = call("large").await.expect_err("nobody is left");
        let Some(Rejected::NobodyCanServe(nobody)) = Rejected::find(&*error) else {
            panic!("{error:?}");
        };
        let whys: Vec<_> = nobody.keys().map(|(_, why)| why).collect();
        assert_eq!(whys, [WhyNot::ModelDenied; 3]);
        assert_eq!(provider.counters().calls, 3, "nobody was asked again");
        let snapshot = retries.snapshot();
        assert_eq!((snapshot.retries(), snapshot.waited_out()), (0, 2));
        assert_eq!(snapshot.given_up(Reason::Final), 2);

        assert_eq!(call("small").await.expect("an answer").0, 200);
    }
}

#[tokio::test]
async fn many_calls_of_a_denied_model_at_once_ask_each_key_no_more_than_once_each() {
    const CALLS: u64 = 20;
    let provider = provider().await;
    for key in KEYS {
        provider
            .deny_model_to_key(key, "large", Denial::Forbidden)
            .expect("a known key");
    }
    let stack = stack(pool(), Format::Chat.profile());
    let handle = stack.handle();
    let service = stack.layer(client());
    let request = || Format::Chat.request(&provider.url(), "large", false);
    let calls = (0..CALLS).map(|_| send(&service, request()));
    for answer in join_all(calls).await {
        match answer {
            Ok((status, _)) => assert_eq!(status, 403),
            Err(error) => assert!(matches!(
                Rejected::find(&*error),
                Some(Rejected::NobodyCanServe(_))
            )),
        }
    }
    for key in KEYS {
        let asked = provider.key_counters(key).expect("a known key").denied;
        assert!((1..=CALLS).contains(&asked), "{asked} times");
    }
    let snapshot = handle.snapshot();
    assert_eq!(snapshot.admitted(), provider.counters().denied);
    assert_eq!((snapshot.active(), snapshot.waiting()), (0, 0));
}
