//! The way of one line: tried until it is answered, can never be, or is left.

use std::{
    error::Error,
    fmt::Write as _,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::{Bytes, BytesMut};
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode,
    header::{CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, Full};
use serde::de::IgnoredAny;
use tokio::sync::{Semaphore, watch};
use tower_relay::{
    error::{BoxError, Rejected},
    key_rotation::ExposeSecret,
    outcome::{Hint, Outcome, Verdict},
    policy::pool::WhyNot,
    provider::{AnswerReader, Profile},
};

use super::{
    progress::Books,
    record::{self, Content, Failure},
    request::Item,
    wire::Trip,
    writer::Written,
};
use crate::{
    config::{self, Pattern},
    headers::CLASS,
    upstream::{Body, Stack, outcome_of},
};

/// The longest answer that is kept, in bytes.
const LONGEST_ANSWER: usize = 64 << 20;
/// How often the layers may fail with a line, while others succeed.
const ROUNDS: u32 = 5;
/// From one round to the next, doubling.
const SHORTEST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(60);

const ANTHROPIC_VERSION: HeaderName = HeaderName::from_static("anthropic-version");
/// What Anthropic's requests have to name; a scope's `headers` may say otherwise.
const FIRST_VERSION: HeaderValue = HeaderValue::from_static("2023-06-01");
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("tower-relay/", env!("CARGO_PKG_VERSION")));
/// Where providers name a request.
const REQUEST_IDS: [&str; 2] = ["x-request-id", "request-id"];

/// An upstream, and what is needed to read its answers.
pub(super) struct Upstream {
    pub(super) config: config::Upstream,
    pub(super) stack: Stack,
    pub(super) profile: Profile,
}

/// What all lines share.
pub(super) struct Sender {
    pub(super) upstreams: Vec<Upstream>,
    pub(super) books: Arc<Books>,
    /// Set when nothing more is to be sent.
    pub(super) drain: watch::Receiver<bool>,
    /// Places for lines that are under way or wait for a quota.
    pub(super) active: Semaphore,
    pub(super) timeout: Duration,
    /// The class that a relay behind it is told.
    pub(super) class: Option<HeaderValue>,
}

/// What is to be sent, with the line it stands in.
#[derive(Clone, Debug)]
pub(super) struct Task {
    pub(super) line: u64,
    pub(super) item: Item,
    pub(super) text: String,
}

/// What became of a line.
#[derive(Debug)]
pub(super) enum Fate {
    Written(Written),
    /// The next run has to do it, and why.
    Left(Option<String>),
    /// No line can be served until somebody changes something.
    Stop(String),
}

/// What became of one round.
enum Round {
    Ended(Fate),
    /// For a reason that passes, perhaps at a known time.
    Failed(String, Option<Duration>),
    /// It was not sent: a layer says when it may be.
    Later(String, Option<Duration>),
}

/// Which of `upstreams` serves `path`.
pub(super) fn find<'u>(
    upstreams: impl Iterator<Item = &'u config::Upstream>,
    path: &str,
) -> Option<usize> {
    let fits = upstreams
        .enumerate()
        .filter_map(|(place, upstream)| Some((Pattern::closest(&upstream.paths, path)?, place)));
    let (_, place) = fits.max_by_key(|(fit, _)| *fit)?;
    Some(place)
}

impl Sender {
    /// Sends a line until something is known of it.
    pub(super) async fn settle(&self, task: Task) -> Fate {
        let trip = Trip::new();
        let (mut rounds, mut first, mut wait) = (0, None, SHORTEST_WAIT);
        loop {
            let mut drain = self.drain.clone();
            let place = tokio::select! {
                biased;
                _ = drain.wait_for(|drain| *drain) => return Fate::Left(None),
                place = self.active.acquire() => place.expect("it is never closed"),
            };
            let (reason, after) = match self.round(&task, &trip).await {
                Round::Ended(fate) => return self.cleaned(fate),
                Round::Later(reason, after) => (self.hidden(reason), after),
                Round::Failed(reason, after) => {
                    let reason = self.hidden(reason);
                    let since = *first.get_or_insert_with(Instant::now);
                    rounds += u32::from(self.books.gave_up(task.line, &reason, since));
                    (reason, after)
                }
            };
            drop(place);
            if rounds >= ROUNDS {
                return Fate::Left(Some(reason));
            }
            // Those that failed together do not come back together.
            let spread = wait.mul_f64((task.line % 16) as f64 / 32.0);
            let pause = after.unwrap_or_default().max(wait) + spread;
            wait = (wait * 2).min(LONGEST_WAIT);
            tokio::select! {
                _ = drain.wait_for(|drain| *drain) => return Fate::Left(Some(reason)),
                () = tokio::time::sleep(pause) => {}
            }
        }
    }

    /// Once through the layers, which try several times themselves.
    async fn round(&self, task: &Task, trip: &Trip) -> Round {
        let path = task.item.path.path();
        let configs = self.upstreams.iter().map(|upstream| &upstream.config);
        let Some(place) = find(configs, path) else {
            let problem = format!("no upstream serves {path}");
            return Round::Ended(Fate::Stop(problem));
        };
        let upstream = &self.upstreams[place];
        let mut drain = self.drain.clone();
        let call = upstream
            .stack
            .call(call(upstream, &task.item, trip, self.class.as_ref()));
        let answer = tokio::select! {
            biased;
            answer = call => answer,
            // What waits is left, what was sent is waited for.
            () = async {
                let _ = drain.wait_for(|drain| *drain).await;
                trip.is_idle().await;
            } => return Round::Ended(Fate::Left(None)),
        };
        match answer {
            Ok(response) => self.read(task, upstream, response).await,
            Err(error) => refused(task, &error),
        }
    }

    async fn read(&self, task: &Task, upstream: &Upstream, response: Response<Body>) -> Round {
        let outcome = outcome_of(&response);
        let (head, body) = response.into_parts();
        let body = match tokio::time::timeout(self.timeout, whole(body)).await {
            Ok(Ok(Some(body))) => body,
            Ok(Ok(None)) => {
                let message = format!("the answer is longer than {} MiB", LONGEST_ANSWER >> 20);
                return dead(task, None, "answer_too_long", &message);
            }
            Ok(Err(error)) => {
                let problem = format!("the answer broke off: {}", causes(&*error));
                return Round::Failed(problem, None);
            }
            Err(_) => {
                let problem = format!("the answer took longer than {:?}", self.timeout);
                return Round::Failed(problem, None);
            }
        };
        let mut reader = AnswerReader::new(&upstream.profile, &head.headers);
        let request_id = REQUEST_IDS.iter().find_map(|name| head.headers.get(*name));
        let response = record::Response {
            status_code: head.status.as_u16(),
            request_id: request_id.and_then(|id| id.to_str().ok()),
            body: Content::of(&body),
        };
        let mut outcome = outcome;
        if head.status.is_success() {
            reader.feed(&body, SystemTime::now);
            reader.finish(SystemTime::now);
            outcome = reader.answer().failure().unwrap_or(Outcome::SUCCESS);
            if outcome.is_success() && serde_json::from_slice::<IgnoredAny>(&body).is_err() {
                return Round::Failed("the answer is no JSON".to_owned(), None);
            }
        }
        let status = head.status;
        match outcome.verdict() {
            Verdict::Success if status.is_success() => {
                let usage = reader.answer().usage();
                self.books.succeeded(
                    usage.input_tokens().unwrap_or_default(),
                    usage.output_tokens().unwrap_or_default(),
                );
                let line = record::answered(task.line, &task.item.id, response);
                Round::Ended(Fate::Written(Written::Answer(line)))
            }
            Verdict::Success | Verdict::CallerFault | Verdict::ModelDenied | Verdict::Region => {
                self.books.succeeded(0, 0);
                let message = format!("the provider answered {status}");
                dead(task, Some(response), code(&outcome, status), &message)
            }
            _ => {
                let after = match outcome.hint() {
                    Some(Hint::After(wait)) => Some(wait),
                    _ => None,
                };
                Round::Failed(format!("the provider answered {status}"), after)
            }
        }
    }

    /// What is written, without a secret that a provider has repeated.
    fn cleaned(&self, fate: Fate) -> Fate {
        match fate {
            Fate::Written(Written::Answer(line)) => {
                Fate::Written(Written::Answer(self.hidden(line)))
            }
            Fate::Written(Written::Dead(line)) => Fate::Written(Written::Dead(self.hidden(line))),
            Fate::Left(reason) => Fate::Left(reason.map(|reason| self.hidden(reason))),
            Fate::Stop(reason) => Fate::Stop(self.hidden(reason)),
        }
    }

    fn hidden(&self, mut text: String) -> String {
        let upstreams = self.upstreams.iter();
        let scopes = upstreams.flat_map(|upstream| &upstream.config.scopes);
        for key in scopes.flat_map(|scope| &scope.keys) {
            let secret = key.secret.expose_secret();
            if secret.len() >= SHORTEST_SECRET && text.contains(secret) {
                text = text.replace(secret, "[key]");
            }
        }
        text
    }
}

/// All of a body; `None` if it is too long.
async fn whole(mut body: Body) -> Result<Option<Bytes>, BoxError> {
    let mut all = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame?.into_data() else {
            continue;
        };
        if all.len() + data.len() > LONGEST_ANSWER {
            return Ok(None);
        }
        all.extend_from_slice(&data);
    }
    Ok(Some(all.freeze()))
}

/// What is shorter may well be a word of an answer.
const SHORTEST_SECRET: usize = 8;

fn call(
    upstream: &Upstream,
    item: &Item,
    trip: &Trip,
    class: Option<&HeaderValue>,
) -> Request<Full<Bytes>> {
    let mut call = Request::new(Full::from(item.body.clone()));
    *call.method_mut() = Method::POST;
    *call.uri_mut() = item.path.clone().into();
    let headers = call.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, AGENT);
    if let Some(class) = class {
        headers.insert(CLASS, class.clone());
    }
    if upstream.config.provider.name == "anthropic" {
        headers.insert(ANTHROPIC_VERSION, FIRST_VERSION);
    }
    call.extensions_mut().insert(trip.clone());
    call
}

/// A call that was not answered.
fn refused(task: &Task, error: &BoxError) -> Round {
    let Some(rejected) = Rejected::find(&**error) else {
        return Round::Failed(causes(&**error), None);
    };
    match rejected {
        Rejected::CostTooLarge(_) => dead(task, None, "too_large", &rejected.to_string()),
        Rejected::NobodyCanServe(nobody) => {
            let is_the_lines = |why: WhyNot| {
                matches!(why, WhyNot::ModelDenied | WhyNot::Region | WhyNot::TooLarge)
            };
            let text = rejected.to_string();
            if nobody.keys().all(|(_, why)| is_the_lines(why)) {
                let is_size = nobody.keys().all(|(_, why)| why == WhyNot::TooLarge);
                let code = if is_size { "too_large" } else { "denied" };
                dead(task, None, code, &text)
            } else if nobody.keys().any(|(_, why)| is_the_lines(why)) {
                // A key that is out might serve it, and others may be served meanwhile.
                Round::Ended(Fate::Left(Some(text)))
            } else {
                Round::Ended(Fate::Stop(text))
            }
        }
        _ => Round::Later(rejected.to_string(), rejected.retry_after()),
    }
}

fn dead(task: &Task, response: Option<record::Response<'_>>, code: &str, message: &str) -> Round {
    let failure = Failure { code, message };
    let line = record::dead(task.line, &task.item.id, response, failure, &task.text);
    Round::Ended(Fate::Written(Written::Dead(line)))
}

fn code(outcome: &Outcome, status: StatusCode) -> &'static str {
    match outcome.verdict() {
        Verdict::ModelDenied | Verdict::Region => "denied",
        _ if status == StatusCode::PAYLOAD_TOO_LARGE => "too_large",
        _ => "refused",
    }
}

/// An error with what caused it; hyper's name neither headers nor bodies.
pub(super) fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(error) = next {
        let _ = write!(text, ": {error}");
        next = error.source();
    }
    text
}
