use std::cell::RefCell;

use http::{HeaderMap, Response};

use super::*;
use crate::{
    http::{Reported, UntilHead},
    key_rotation::{KeyPool, Scope, Source},
    outcome::Ending,
    protocol::AuthorizeFn,
};

fn pool(scope: Scope) -> KeyPool {
    let pool = KeyPool::builder().scope(scope).build();
    pool.expect("it is valid")
}

fn scope() -> Scope {
    Scope::new("org-a").key("a1", Source::value("sk-1"))
}

fn key() -> Key {
    of(&pool(scope()), "a1")
}

fn of(pool: &KeyPool, alias: &str) -> Key {
    pool.key(alias).expect("it was given").clone()
}

fn named(name: &'static str) -> Credential<UntilHead> {
    Credential::header(UntilHead, HeaderName::from_static(name))
}

fn authorize<P>(protocol: &P, request: &mut Request<()>, key: &Key)
where
    P: Protocol<Request<()>, Response<()>>,
{
    protocol.authorize(request, key);
}

/// The credentials in `headers`, by name.
fn credentials(headers: &HeaderMap) -> Vec<(&str, &str)> {
    let mut found: Vec<_> = headers
        .iter()
        .filter(|(name, _)| CREDENTIALS.contains(name) || name.as_str() == "x-own-key")
        .map(|(name, value)| (name.as_str(), value.to_str().expect("it is ASCII")))
        .collect();
    found.sort_unstable();
    found
}

#[test]
fn exactly_one_credential_is_sent_whatever_the_caller_has_set() {
    let key = key();
    let mut request = Request::new(());
    let headers = request.headers_mut();
    for name in CREDENTIALS {
        headers.append(name.clone(), HeaderValue::from_static("the caller's"));
        headers.append(name, HeaderValue::from_static("another"));
    }
    headers.append("x-own-key", HeaderValue::from_static("the caller's"));
    headers.append("x-own-key", HeaderValue::from_static("another"));
    let kept = HeaderValue::from_static("for the proxy");
    headers.append(header::PROXY_AUTHORIZATION, kept);
    let mut clone = request.clone();

    authorize(&named("x-own-key"), &mut request, &key);
    assert_eq!(credentials(request.headers()), [("x-own-key", "sk-1")]);
    assert!(request.headers()["x-own-key"].is_sensitive());
    assert_eq!(
        request.headers()[header::PROXY_AUTHORIZATION],
        "for the proxy"
    );

    clone.headers_mut().remove("x-own-key");
    for (protocol, expected) in [
        (named("x-api-key"), ("x-api-key", "sk-1")),
        (
            Credential::bearer(UntilHead),
            ("authorization", "Bearer sk-1"),
        ),
        (named("authorization"), ("authorization", "sk-1")),
        (named("api-key"), ("api-key", "sk-1")),
    ] {
        authorize(&protocol, &mut clone, &key);
        assert_eq!(credentials(clone.headers()), [expected]);
        assert!(clone.headers()[expected.0].is_sensitive());
        assert!(!format!("{clone:?}").contains("sk-1"));
        assert!(!format!("{protocol:?}").contains("sk-1"));
    }
}

#[test]
fn another_key_replaces_the_one_of_an_earlier_attempt() {
    let pool = pool(scope().key("a2", Source::value("sk-2")));
    let mut request = Request::new(());
    for (alias, expected) in [
        ("a1", "Bearer sk-1"),
        ("a2", "Bearer sk-2"),
        ("a1", "Bearer sk-1"),
    ] {
        let bearer = Credential::bearer(UntilHead);
        authorize(&bearer, &mut request, &of(&pool, alias));
        assert_eq!(
            credentials(request.headers()),
            [("authorization", expected)]
        );
    }
}

#[test]
fn an_attached_endpoint_directs_the_request_and_never_sets_the_credential() {
    let url = |host: &str| Endpoint::new(&format!("https://{host}/base")).expect("it is valid");
    let us = url("us.example").header("x-own-key", "the endpoint's");
    let scope = scope()
        .key("a2", Source::value("sk-2"))
        .attach(us.expect("it is valid"))
        .attach_to("a2", url("eu.example"));
    let pool = pool(scope);
    for (alias, uri, secret) in [
        ("a1", "https://us.example/base/v1", "sk-1"),
        ("a2", "https://eu.example/base/v1", "sk-2"),
    ] {
        let mut request = Request::get("http://placeholder/v1")
            .body(())
            .expect("valid");
        authorize(&named("x-own-key"), &mut request, &of(&pool, alias));
        assert_eq!(request.uri(), uri);
        assert_eq!(credentials(request.headers()), [("x-own-key", secret)]);
    }
}

#[test]
fn the_inner_protocol_authorizes_first_and_answers_all_else() {
    /// Writes down what it is asked.
    struct Asked(RefCell<Vec<&'static str>>);

    impl Asked {
        fn note(&self, what: &'static str) {
            self.0.borrow_mut().push(what);
        }
    }

    impl Protocol<Request<()>, u8> for Asked {
        type Response<G: Guard> = u8;

        fn hold<G: Guard>(&self, response: u8, guard: G) -> u8 {
            self.note("hold");
            guard.finish(Ending::UNKNOWN);
            response
        }

        fn cost(&self, _: &Request<()>) -> Cost {
            self.note("cost");
            Cost::REQUEST.input_tokens(7)
        }

        fn model<'a>(&self, request: &'a Request<()>) -> Option<&'a str> {
            self.note("model");
            Some(request.uri().path())
        }

        fn authorize(&self, request: &mut Request<()>, _: &Key) {
            self.note("authorize");
            let value = HeaderValue::from_static("the inner one's");
            request.headers_mut().insert(header::AUTHORIZATION, value);
        }

        fn deadline(&self, _: &Request<()>) -> Option<Instant> {
            self.note("deadline");
            None
        }

        fn idempotency(&self, _: &Request<()>) -> Idempotency {
            self.note("idempotency");
            Idempotency::Idempotent
        }

        fn resends(&self, _: &Request<()>) -> u32 {
            self.note("resends");
            3
        }

        fn set_resends(&self, _: &mut Request<()>, _: u32) {
            self.note("set_resends");
        }

        fn classify(&self, _: Result<&u8, &BoxError>) -> Outcome {
            self.note("classify");
            Outcome::SUCCESS
        }

        fn annotate(&self, _: &mut u8, _: Outcome) {
            self.note("annotate");
        }
    }

    struct Nothing;
    impl Guard for Nothing {
        fn finish(self, _: Ending) {}
    }

    let protocol = Credential::bearer(Asked(RefCell::default()));
    let mut request = Request::new(());
    assert_eq!(protocol.cost(&request), Cost::REQUEST.input_tokens(7));
    assert_eq!(protocol.model(&request), Some("/"));
    protocol.authorize(&mut request, &key());
    assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer sk-1");
    assert_eq!(protocol.deadline(&request), None);
    assert_eq!(protocol.idempotency(&request), Idempotency::Idempotent);
    assert_eq!(protocol.resends(&request), 3);
    protocol.set_resends(&mut request, 4);
    assert_eq!(protocol.classify(Ok(&1)), Outcome::SUCCESS);
    protocol.annotate(&mut 1, Outcome::SUCCESS);
    assert_eq!(protocol.hold(5, Nothing), 5);
    assert_eq!(
        *protocol.inner.0.borrow(),
        [
            "cost",
            "model",
            "authorize",
            "deadline",
            "idempotency",
            "resends",
            "set_resends",
            "classify",
            "annotate",
            "hold"
        ]
    );
}

#[test]
fn it_goes_around_any_protocol_and_any_body() {
    fn is<B, P: Protocol<Request<B>, Response<B>> + Clone + Send + Sync>(_: &P) {}
    type Body = http_body_util::Full<bytes::Bytes>;
    is::<Body, _>(&Credential::bearer(Http));
    is::<Body, _>(&Credential::bearer(crate::protocol::Plain));
    let sign = AuthorizeFn::new(Http, |_: &mut Request<Body>, _| {});
    is::<Body, _>(&Credential::bearer(sign));
    let _: Credential<Reported> = Credential::bearer(Reported);
}

#[test]
fn authorizing_allocates_nothing_but_what_a_key_keeps() {
    let at_run_time = HeaderName::try_from(String::from("x-own-key")).expect("it is valid");
    let endpoint = Endpoint::new("https://eu.example").expect("it is valid");
    for (header, protocol) in [
        ("authorization", Credential::bearer(UntilHead)),
        ("x-api-key", named("x-api-key")),
        ("x-own-key", Credential::header(UntilHead, at_run_time)),
    ] {
        for scope in [scope(), scope().attach(endpoint.clone())] {
            let key = of(&pool(scope), "a1");
            let count = || {
                let request = Request::post("https://api.example/v1/messages")
                    .header("accept", "application/json")
                    .header(header, "the caller's");
                let mut request = request.body(()).expect("it is a valid request");
                let run = || authorize(&protocol, &mut request, &key);
                allocation_counter::measure(run).count_total
            };
            assert!(count() > 0, "the value is made");
            assert_eq!([count(), count()], [0, 0], "{header}");
        }
    }
}
