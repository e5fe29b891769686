//! No secret is shown by anything, not even a prefix.

use std::{
    fmt::{Debug, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex},
};

use futures::poll;
use tower::{Layer, Service, ServiceExt};
use tower_relay::{
    error::BoxError,
    key_rotation::{ExposeSecret, KeyPool, KeyRotationLayer, Scope, Source},
    outcome::Verdict,
    testing::Reply,
};
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};

use crate::support::*;

/// Writes down every event of ours at every level.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<String>>);

impl Visit for Lines {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0.lock().expect("no panic"), " {field}={value:?}").expect("it takes all");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn event(&self, event: &Event<'_>) {
        let level = event.metadata().level();
        write!(self.0.lock().expect("no panic"), "\n{level}").expect("it takes all");
        event.record(&mut self.clone());
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Three characters in a row that nothing else contains.
const SECRET: &str = "qzx-vvq-zzj-1";

fn is_clean(text: &str) -> bool {
    let mut parts = (0..SECRET.len() - 2).map(|at| &SECRET[at..at + 3]);
    parts.all(|part| !text.contains(part))
}

fn keys() -> KeyPool {
    let secret = |n: u32| Source::value(format!("{SECRET}{n}"));
    let org = |name: &'static str, n: u32| {
        let scope = Scope::new(name).quota(per_second(1));
        scope.key(format!("{name}1"), secret(n))
    };
    pool([org("a", 0), org("b", 1), org("c", 2)])
}

/// What an error shows, with all that caused it.
fn shown(error: &BoxError) -> String {
    let mut text = format!("{error} {error:?} {error:#?}");
    let mut next = error.source();
    while let Some(error) = next {
        write!(text, " {error} {error:?}").expect("it takes all");
        next = error.source();
    }
    text
}

#[tokio::test(start_paused = true)]
async fn nothing_that_is_shown_or_logged_contains_a_secret() {
    let lines = Lines::default();
    let _guard = tracing::subscriber::set_default(lines.clone());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (server, log) = server(|ask| match ask.id {
        1 => hinted(ask, Verdict::Throttled, MINUTE),
        2 => fail(Verdict::KeyRejected, None),
        3 => fail(Verdict::ModelDenied, None),
        4 => fail(Verdict::Exhausted, None),
        5 => fail(Verdict::ServerFault, None),
        6 => Reply::never(),
        _ => Reply::now(Answer {
            secret: String::new(),
            outcome: tower_relay::outcome::Outcome::SUCCESS,
            annotated: None,
        }),
    });
    let told = Arc::clone(&seen);
    let keys = keys();
    let layer = KeyRotationLayer::new(keys.clone())
        .rate_limit(per_second(1_000))
        .concurrency(Fixed::of(100))
        .max_wait(10 * MINUTE)
        .on_transition(move |transition| {
            let text = format!("{transition:?}");
            told.lock().expect("no panic").push(text);
        })
        .protocol(Holding);
    let service = layer.layer(server);
    let handle = layer.handle();
    let mut texts = vec![
        format!("{layer:?} {layer:#?} {service:?} {handle:?} {keys:?} {keys:#?}"),
        format!("{:?} {:?}", keys.keys().collect::<Vec<_>>(), keys.key("a1")),
        format!(
            "{:?}",
            KeyPool::builder().scope(Scope::new("x").key("x1", Source::value(SECRET)))
        ),
    ];
    let retry = retry(3);
    for id in 0..8 {
        for model in ["large", "small"] {
            let ask = Ask::numbered(id).model(model).within(5 * MINUTE);
            let mut call = Box::pin(service.clone().call(ask));
            texts.push(format!("{call:?}"));
            let polled = poll!(call.as_mut());
            texts.push(format!("{call:?}"));
            match polled {
                std::task::Poll::Ready(Ok((answer, guard))) => {
                    texts.push(format!("{guard:?} {:?}", answer.annotated));
                }
                std::task::Poll::Ready(Err(error)) => texts.push(shown(&error)),
                std::task::Poll::Pending if id != 6 => match within(call).await {
                    Ok((answer, guard)) => texts.push(format!("{guard:?} {:?}", answer.annotated)),
                    Err(error) => texts.push(shown(&error)),
                },
                std::task::Poll::Pending => {}
            }
        }
        let (scopes, snapshot) = (handle.scopes(), handle.snapshot());
        texts.push(format!("{scopes:?} {scopes:#?} {snapshot:?}"));
        handle.reopen("a").expect("it is there");
        handle.enable("a1").expect("it is there");
    }
    drop(retry);
    for alias in ["a1", "b1", "c1"] {
        handle.disable(alias).expect("it is there");
    }
    let error = within(service.clone().oneshot(Ask::default())).await;
    texts.push(shown(&error.expect_err("nobody can")));
    texts.push(format!("{:?}", handle.disable(SECRET).map_err(drop)));
    texts.push(format!("{:?}", handle.reload(keys.clone())));
    texts.extend(seen.lock().expect("no panic").iter().cloned());
    texts.push(lines.0.lock().expect("no panic").clone());

    // The check finds what it looks for, and the run was one.
    let secrets: Vec<_> = log
        .seen()
        .iter()
        .map(|(_, ask)| ask.secret.clone())
        .collect();
    assert!(
        secrets
            .iter()
            .all(|secret| secret.starts_with(SECRET) && !is_clean(secret))
    );
    let logged = texts.last().expect("there are some");
    for word in ["resting", "rejected", "may not use a model", "exhausted"] {
        assert!(logged.contains(word), "`{word}` in {logged}");
    }
    for text in texts {
        assert!(is_clean(&text), "{text}");
    }
}

#[test]
fn a_panic_in_authorize_shows_no_secret_and_a_later_call_none_either() {
    let layer = KeyRotationLayer::new(keys()).authorize(|_: &mut u32, key| {
        assert_eq!(key.secret().expose_secret().len(), 1, "key {key:?}");
    });
    let mut service = layer.layer(tower::service_fn(async |n: u32| Ok::<_, BoxError>(n)));
    let panic = catch_unwind(AssertUnwindSafe(|| drop(service.call(1)))).expect_err("it panics");
    let text = panic.downcast_ref::<String>().expect("it has a message");
    assert!(text.contains("a1"), "{text}");
    assert!(is_clean(text), "{text}");
    assert!(is_clean(&format!("{service:?} {:?}", layer.handle())));
    assert_idle(&layer.handle());
}

#[test]
fn a_pool_that_cannot_be_built_says_so_without_a_secret() {
    let secret = || Source::value(SECRET);
    let spaced = Source::value(format!("{SECRET} {SECRET}"));
    for scopes in [
        vec![Scope::new("a").key("a1", secret()).key("a2", secret())],
        vec![Scope::new("a").key("a1", spaced)],
        vec![Scope::new("a").key("a1", Source::env(SECRET))],
        vec![Scope::new("a").key("a1", secret()).key("a1", secret())],
    ] {
        let builder = scopes
            .into_iter()
            .fold(KeyPool::builder(), |builder, scope| builder.scope(scope));
        let error = builder.build().expect_err("it is wrong");
        assert!(is_clean(&format!("{error} {error:?}")), "{error:?}");
    }
}
