//! Workers, the client under them, and the books the client keeps for itself.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header::CONTENT_TYPE,
    uri::InvalidUri,
};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::TokioExecutor,
};
use indicatif::ProgressBar;
use serde::Deserialize;
use serde_json::json;
use tokio::task::JoinSet;
use tower::{Service, ServiceExt, service_fn};
use tower_relay::error::BoxError;

type Question = Request<Full<Bytes>>;

/// Where the provider looks for a key.
pub(super) const KEY_HEADER: HeaderName = HeaderName::from_static("x-api-key");

/// A service that answers questions, however it comes by the answer.
pub(super) trait Ask<B>:
    Service<Question, Response = Response<B>, Error: Into<BoxError>, Future: Send>
    + Clone
    + Send
    + 'static
{
}

impl<B, S> Ask<B> for S where
    S: Service<Question, Response = Response<B>, Error: Into<BoxError>, Future: Send>
        + Clone
        + Send
        + 'static
{
}

/// The client at the bottom of every row.
pub(super) trait Client: Ask<Incoming, Error = legacy::Error> + Sync {}

impl<S: Ask<Incoming, Error = legacy::Error> + Sync> Client for S {}

/// What the client has counted, without asking the provider.
#[derive(Debug, Default)]
pub(super) struct Books {
    calls: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
}

/// The books at the end of a row, and how long each document took.
#[derive(Debug)]
pub(super) struct Load {
    pub(super) calls: u64,
    pub(super) answered: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
    /// From the moment a worker takes a document to the last byte of its answer, waits and
    /// repetitions included; in real time, and of answered documents only.
    pub(super) latencies: Vec<Duration>,
    /// From the first question to the last answer, in real time.
    pub(super) elapsed: Duration,
    /// What became of the first document that was not answered.
    pub(super) problem: Option<String>,
}

/// A hyper client over HTTP and HTTPS that keeps connections and counts every call in `books`.
pub(super) fn upstream(connections: usize, books: Arc<Books>) -> impl Client {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    let client = legacy::Client::builder(TokioExecutor::new())
        .pool_max_idle_per_host(connections)
        .build(connector);
    service_fn(move |question: Question| {
        let books = Arc::clone(&books);
        let answer = client.request(question);
        async move {
            books.calls.fetch_add(1, Relaxed);
            let answer = answer.await;
            let kind = match answer.as_ref().map(Response::status) {
                Ok(StatusCode::OK) => &books.answered,
                Ok(StatusCode::TOO_MANY_REQUESTS) => &books.refused,
                _ => &books.failed,
            };
            kind.fetch_add(1, Relaxed);
            answer
        }
    })
}

/// A client that puts the next of `keys` into each call, and the first after the last.
pub(super) fn round_robin(client: impl Client, keys: Vec<HeaderValue>) -> impl Client {
    let turn = Arc::new(AtomicUsize::new(0));
    client.map_request(move |mut question: Question| {
        let key = keys[turn.fetch_add(1, Relaxed) % keys.len()].clone();
        question.headers_mut().insert(KEY_HEADER, key);
        question
    })
}

/// A worker's loop without layers: when a call fails, sleep and try again.
#[derive(Clone, Debug)]
pub(super) struct Naive<S> {
    client: S,
    sleep: Duration,
}

/// Nobody is refused this often by a quota, so something else is wrong.
const MOST_TRIES: usize = 1_000;

impl<S: Client> Naive<S> {
    pub(super) const fn new(client: S, sleep: Duration) -> Self {
        Self { client, sleep }
    }

    pub(super) fn service(self) -> impl Ask<Incoming> {
        service_fn(move |question| self.clone().ask(question))
    }

    async fn ask(self, question: Question) -> Result<Response<Incoming>, BoxError> {
        let mut answer = self.client.clone().oneshot(question.clone()).await;
        for _ in 1..MOST_TRIES {
            match answer {
                Ok(answer) if answer.status() == StatusCode::OK => return Ok(answer),
                _ => tokio::time::sleep(self.sleep).await,
            }
            answer = self.client.clone().oneshot(question.clone()).await;
        }
        Ok(answer?)
    }
}

/// The documents of a row and those who send them.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) url: String,
    pub(super) documents: usize,
    pub(super) workers: usize,
    pub(super) prompt_tokens: usize,
    pub(super) max_tokens: u64,
    pub(super) progress: ProgressBar,
    pub(super) books: Arc<Books>,
}

impl Batch {
    /// Sends every document once through `service`.
    pub(super) async fn send<S, B>(&self, service: S) -> Result<Load, BoxError>
    where
        S: Ask<B>,
        B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
    {
        let documents = Arc::new(self.documents()?);
        let start = Instant::now();
        let mut workers = JoinSet::new();
        for _ in 0..self.workers.min(self.documents) {
            workers.spawn(worker(
                service.clone(),
                Arc::clone(&documents),
                Arc::clone(&self.books),
                self.progress.clone(),
            ));
        }
        let mut latencies = Vec::with_capacity(self.documents);
        let mut problem = None;
        while let Some(worker) = workers.join_next().await {
            let (answered, failure) = worker?;
            latencies.extend(answered);
            problem = problem.or(failure);
        }
        let elapsed = start.elapsed();
        let read = |count: &AtomicU64| count.load(Relaxed);
        Ok(Load {
            calls: read(&self.books.calls),
            answered: read(&self.books.answered),
            refused: read(&self.books.refused),
            failed: read(&self.books.failed),
            input_tokens: read(&self.books.input_tokens),
            output_tokens: read(&self.books.output_tokens),
            latencies,
            elapsed,
            problem,
        })
    }

    fn documents(&self) -> Result<Documents, InvalidUri> {
        let filler = "it was raining on the day the meter was read. ";
        let bytes = 4 * self.prompt_tokens;
        Ok(Documents {
            url: format!("{}/v1/messages", self.url).parse()?,
            filler: filler.repeat(bytes.div_ceil(filler.len())),
            bytes,
            max_tokens: self.max_tokens,
            count: self.documents,
            taken: AtomicUsize::new(0),
        })
    }
}

/// What is left of a batch.
#[derive(Debug)]
struct Documents {
    url: Uri,
    filler: String,
    /// The length of a prompt, of which four are a token: it is ASCII.
    bytes: usize,
    max_tokens: u64,
    count: usize,
    taken: AtomicUsize,
}

impl Documents {
    /// The question about the next document; `None` after the last.
    fn next(&self) -> Option<Question> {
        let number = self.taken.fetch_add(1, Relaxed);
        (number < self.count).then(|| self.question(number))
    }

    fn question(&self, number: usize) -> Question {
        let mut prompt = format!("Summarise document {number}: {}", self.filler);
        prompt.truncate(self.bytes);
        let body = json!({
            "model": "demo-model",
            "max_tokens": self.max_tokens,
            "messages": [{ "role": "user", "content": prompt }],
        });
        let mut question = Request::new(Full::from(body.to_string()));
        *question.method_mut() = Method::POST;
        *question.uri_mut() = self.url.clone();
        let json = HeaderValue::from_static("application/json");
        question.headers_mut().insert(CONTENT_TYPE, json);
        question
    }
}

/// Takes documents until there are none; how long the answered ones took, and what became of the
/// first that was not.
async fn worker<S, B>(
    service: S,
    documents: Arc<Documents>,
    books: Arc<Books>,
    progress: ProgressBar,
) -> (Vec<Duration>, Option<String>)
where
    S: Ask<B>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    let mut latencies = Vec::new();
    let mut problem = None;
    while let Some(question) = documents.next() {
        let start = Instant::now();
        match answer(service.clone(), question, &books).await {
            Ok(()) => latencies.push(start.elapsed()),
            Err(error) => problem = problem.or_else(|| Some(error.to_string())),
        }
        progress.inc(1);
        progress.set_message(format!("{} refused", books.refused.load(Relaxed)));
    }
    (latencies, problem)
}

/// Asks, reads the answer to its end and enters what it used.
async fn answer<S, B>(service: S, question: Question, books: &Books) -> Result<(), BoxError>
where
    S: Ask<B>,
    B: Body<Data: Send, Error: Into<BoxError>> + Send + 'static,
{
    #[derive(Deserialize)]
    struct Message {
        usage: Usage,
    }
    #[derive(Deserialize)]
    struct Usage {
        input_tokens: u64,
        output_tokens: u64,
    }

    let answer = service.oneshot(question).await.map_err(Into::into)?;
    let status = answer.status();
    let body = answer.into_body().collect().await.map_err(Into::into)?;
    if status != StatusCode::OK {
        return Err(format!("the provider answered {status}").into());
    }
    let Message { usage } = serde_json::from_slice(&body.to_bytes())?;
    books.input_tokens.fetch_add(usage.input_tokens, Relaxed);
    books.output_tokens.fetch_add(usage.output_tokens, Relaxed);
    Ok(())
}
