//! The story: a batch of documents, one key with a quota, and three ways to send them.

mod load;
mod report;

use std::{io, time::Duration};

use clap::Args;
use embedded_provider::{Latency, Limits, Provider, Scope};
use indicatif::{ProgressBar, ProgressStyle};
use tower::ServiceBuilder;
use tower_relay::{
    call::{FactsLayer, RequestLayer},
    error::BoxError,
    policy::{InvalidConfig, Quota},
    provider::JsonFacts,
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

use self::{
    load::{Batch, Client, Load, Naive, upstream},
    report::{Report, Row, counted},
};

/// Size of a prompt and longest answer, in tokens.
const PROMPT_TOKENS: usize = 1_200;
const MAX_TOKENS: u64 = 800;

/// Per minute. Output binds: 500 documents a minute, where requests would allow 600 and input
/// tokens 666.
const REQUESTS: u64 = 600;
const INPUT_TOKENS: u64 = 800_000;
const OUTPUT_TOKENS: u64 = 400_000;
/// Half a second of rate is what the provider tolerates at once. The limiter does not make use of
/// it: it is there for what the network and the timers add.
const BURST: Duration = Duration::from_millis(500);

/// An answer of mean length takes 2.8 s, so 50 workers could do twice what the quota allows.
const LATENCY: Latency = Latency {
    first_token: Duration::from_millis(600),
    per_token: Duration::from_millis(5),
};

/// One worker takes this many times longer than the quota would, so it gets fewer documents.
const SEQUENTIAL_PART: usize = 20;

/// How long the naive worker sleeps after a failure, in provider time.
const NAIVE_SLEEP: Duration = Duration::from_secs(1);

const SCOPE: &str = "org-a";
const KEY: &str = "demo-key-1";

/// What the demo can be told. More workers would need more file descriptors than a process
/// usually has: each takes a connection, both ends of which are here.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Print one JSON object per row instead of the table
    #[arg(long)]
    json: bool,
    /// Seed of the provider's chance: how long each answer is
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many documents the batch has
    #[arg(long, default_value_t = 1_000, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    documents: usize,
    /// How many workers send them at once
    #[arg(long, default_value_t = 50, value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=200))]
    workers: usize,
    /// How many times faster than real time the provider's clock runs
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    time_scale: u32,
}

impl Options {
    /// Provider time in real time.
    fn real(&self, span: Duration) -> Duration {
        span / self.time_scale
    }
}

/// Runs all rows and reports them; whether all books agree.
pub(crate) async fn run(options: &Options) -> Result<bool, BoxError> {
    let mut report = Report::new(options.json);
    report.print(&introduction(options))?;
    report.add(sequential(options).await?)?;
    report.add(blind(options).await?)?;
    report.add(through_the_layers(options).await?)?;
    report.finish()?;
    Ok(report.books_agree())
}

fn introduction(options: &Options) -> String {
    format!(
        "{} documents (prompt {} tokens, max_tokens {MAX_TOKENS}) against an embedded provider.\n\
         Its one key has {REQUESTS} requests, {} input and {} output tokens per minute, and a \
         burst of {} s.\nOutput tokens bind: at most {:.2} documents per second.\n\
         The provider's clock runs {} times faster than yours; every time and every rate below is \
         the provider's.",
        counted(options.documents as u64),
        counted(PROMPT_TOKENS as u64),
        counted(INPUT_TOKENS),
        counted(OUTPUT_TOKENS),
        BURST.as_secs_f64(),
        OUTPUT_TOKENS as f64 / MAX_TOKENS as f64 / 60.0,
        options.time_scale,
    )
}

async fn sequential(options: &Options) -> Result<Row, BoxError> {
    let documents = options.documents.div_ceil(SEQUENTIAL_PART);
    let stage = Stage::set(options, "one key, sequential", documents, 1).await?;
    let naive = Naive::new(stage.client(), options.real(NAIVE_SLEEP));
    let load = stage.batch.send(naive.service()).await?;
    let row = stage.row(load).note(format!(
        "one worker, no layers, {} of the {} documents so that it ends in time",
        counted(documents as u64),
        counted(options.documents as u64),
    ));
    Ok(row)
}

async fn blind(options: &Options) -> Result<Row, BoxError> {
    let workers = options.workers;
    let name = format!("one key, {workers} workers, blind");
    let stage = Stage::set(options, &name, options.documents, workers).await?;
    let naive = Naive::new(stage.client(), options.real(NAIVE_SLEEP));
    let load = stage.batch.send(naive.service()).await?;
    let row = stage.row(load).note(format!(
        "no layers; a worker whose call fails sleeps {} s and tries again, until answered",
        NAIVE_SLEEP.as_secs(),
    ));
    Ok(row)
}

async fn through_the_layers(options: &Options) -> Result<Row, BoxError> {
    let workers = options.workers;
    let name = format!("one key, {workers} workers, through the layers");
    let stage = Stage::set(options, &name, options.documents, workers).await?;
    let service = ServiceBuilder::new()
        .layer(FactsLayer::new(JsonFacts::new()))
        .layer(RetryLayer::http().noted().assume_idempotent())
        .layer(RateLimitLayer::http(quota(options.time_scale)?).noted())
        .layer(RequestLayer)
        .service(stage.client());
    let load = stage.batch.send(service).await?;
    let row = stage
        .row(load)
        .note("facts, retry and rate limit around the same client".to_owned());
    Ok(row)
}

/// The provider's quota as the limiter sees it: in real time, so as many times larger as the
/// provider's minutes are shorter.
fn quota(time_scale: u32) -> Result<Quota, InvalidConfig> {
    let scale = u64::from(time_scale);
    Quota::builder()
        .requests_per_minute(REQUESTS * scale)
        .input_tokens_per_minute(INPUT_TOKENS * scale)
        .output_tokens_per_minute(OUTPUT_TOKENS * scale)
        .build()
}

/// What one row takes place on: a provider of its own, and the batch to be sent to it.
struct Stage {
    name: String,
    provider: Provider,
    batch: Batch,
    time_scale: u32,
}

impl Stage {
    async fn set(
        options: &Options,
        name: &str,
        documents: usize,
        workers: usize,
    ) -> io::Result<Self> {
        let limits = Limits {
            requests_per_minute: Some(REQUESTS),
            input_tokens_per_minute: Some(INPUT_TOKENS),
            output_tokens_per_minute: Some(OUTPUT_TOKENS),
            burst: BURST,
            ..Limits::default()
        };
        let provider = Provider::builder()
            .seed(options.seed)
            .time_scale(options.time_scale.into())
            .latency(LATENCY)
            .scope(Scope::new(SCOPE, [KEY], limits))
            .start()
            .await?;
        let batch = Batch {
            url: provider.url(),
            key: KEY,
            documents,
            workers,
            prompt_tokens: PROMPT_TOKENS,
            max_tokens: MAX_TOKENS,
            progress: progress(options.json, name, documents),
            books: Default::default(),
        };
        Ok(Self {
            name: name.to_owned(),
            provider,
            batch,
            time_scale: options.time_scale,
        })
    }

    fn client(&self) -> impl Client {
        upstream(self.batch.workers, self.batch.books.clone())
    }

    /// What the provider has counted, beside the client's own books.
    fn row(&self, load: Load) -> Row {
        self.batch.progress.finish();
        Row::new(
            &self.name,
            self.time_scale,
            self.batch.documents,
            &load,
            &self.provider.counters(),
            self.provider.quota_used_share(SCOPE).unwrap_or(0.0),
        )
    }
}

/// A bar on standard error, where that is a terminal and nobody wants JSON.
fn progress(json: bool, name: &str, documents: usize) -> ProgressBar {
    if json {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{prefix:38} {wide_bar} {pos}/{len} {msg}")
        .expect("the template is right");
    ProgressBar::new(documents as u64)
        .with_style(style)
        .with_prefix(name.to_owned())
}
