//! The story: a batch of documents, accounts with a quota each, and six ways to send them.

mod load;
mod report;
mod stage;

use std::time::Duration;

use clap::{Args, builder::RangedU64ValueParser};
use tower::ServiceBuilder;
use tower_relay::{
    call::{FactsLayer, RequestLayer},
    error::BoxError,
    http::{Credential, Http},
    key_rotation::KeyRotationLayer,
    provider::JsonFacts,
    rate_limit::RateLimitLayer,
    retry::RetryLayer,
};

pub(crate) use self::report::counted;
use self::{
    load::{KEY_HEADER, Naive},
    report::{Report, Row, Setting, Way},
    stage::{Stage, introduction},
};

/// One worker takes this many times longer than the quota would, so it gets fewer documents.
const SEQUENTIAL_PART: usize = 20;

/// How long the naive worker sleeps after a failure, in provider time.
const NAIVE_SLEEP: Duration = Duration::from_secs(1);

/// More workers would need more file descriptors than a process usually has, 1,024: each takes a
/// connection, both ends of which are here. Ten accounts keep 230 of them busy.
const MOST_WORKERS: usize = 400;

/// What the demo can be told.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Options {
    /// Print one JSON object per row instead of the table
    #[arg(long)]
    json: bool,
    /// Seed of the provider's chance: how long each answer is
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many documents the batch has for each account
    #[arg(long, default_value_t = 800, value_parser = RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    documents: usize,
    /// How many workers send them at once, for each account; at most 400 for all together
    #[arg(long, default_value_t = 50, value_parser = RangedU64ValueParser::<usize>::new().range(1..=200))]
    workers: usize,
    /// How many times faster than real time the provider's clock runs
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    time_scale: u32,
}

impl Options {
    /// Provider time in real time.
    fn real(&self, span: Duration) -> Duration {
        span / self.time_scale
    }

    fn workers(&self, accounts: usize) -> usize {
        (accounts * self.workers).min(MOST_WORKERS)
    }

    /// The whole batch in so many accounts, by all workers.
    fn setting(&self, name: String, way: Way, accounts: usize) -> Setting {
        Setting {
            name,
            way,
            accounts,
            workers: self.workers(accounts),
            documents: accounts * self.documents,
            time_scale: self.time_scale,
        }
    }
}

/// Runs all rows and reports them; whether all books agree.
pub(crate) async fn run(options: &Options) -> Result<bool, BoxError> {
    let mut report = Report::new(options.json);
    report.print(&introduction(options))?;
    report.add(sequential(options).await?)?;
    report.add(blind(options, "one key", 1).await?)?;
    report.add(through_the_layers(options).await?)?;
    report.add(blind(options, "five keys", 5).await?)?;
    report.add(pooled(options, "pool of five", 5).await?)?;
    report.add(pooled(options, "pool of ten", 10).await?)?;
    report.finish()?;
    Ok(report.books_agree())
}

async fn sequential(options: &Options) -> Result<Row, BoxError> {
    let documents = options.documents.div_ceil(SEQUENTIAL_PART);
    let setting = Setting {
        name: "one key, sequential".to_owned(),
        way: Way::Sequential,
        accounts: 1,
        workers: 1,
        documents,
        time_scale: options.time_scale,
    };
    let stage = Stage::set(options, setting).await?;
    let naive = Naive::new(stage.client_with_keys()?, options.real(NAIVE_SLEEP));
    let load = stage.batch.send(naive.service()).await?;
    let row = stage.row(load).note(format!(
        "one worker, no layers, {} of the {} documents so that it ends in time",
        counted(documents as u64),
        counted(options.documents as u64),
    ));
    Ok(row)
}

async fn blind(options: &Options, keys: &str, accounts: usize) -> Result<Row, BoxError> {
    let name = format!("{keys}, {} workers, blind", options.workers(accounts));
    let stage = Stage::set(options, options.setting(name, Way::Blind, accounts)).await?;
    let naive = Naive::new(stage.client_with_keys()?, options.real(NAIVE_SLEEP));
    let load = stage.batch.send(naive.service()).await?;
    let turns = if accounts > 1 {
        ", each try with the next key"
    } else {
        ""
    };
    let row = stage.row(load).note(format!(
        "no layers; a worker whose call fails sleeps {} s and tries again{turns}, until answered",
        NAIVE_SLEEP.as_secs(),
    ));
    Ok(row)
}

async fn through_the_layers(options: &Options) -> Result<Row, BoxError> {
    let name = format!(
        "one key, {} workers, through the layers",
        options.workers(1)
    );
    let stage = Stage::set(options, options.setting(name, Way::Layers, 1)).await?;
    let service = ServiceBuilder::new()
        .layer(FactsLayer::new(JsonFacts::new()))
        .layer(RetryLayer::http().noted().assume_idempotent())
        .layer(RateLimitLayer::http(stage.quota()?).noted())
        .layer(RequestLayer)
        .service(stage.client_with_keys()?);
    let load = stage.batch.send(service).await?;
    let row = stage
        .row(load)
        .note("facts, retry and rate limit around the same client".to_owned());
    Ok(row)
}

async fn pooled(options: &Options, pool: &str, accounts: usize) -> Result<Row, BoxError> {
    let name = format!("{pool}, {} workers", options.workers(accounts));
    let stage = Stage::set(options, options.setting(name, Way::Layers, accounts)).await?;
    let keys = KeyRotationLayer::new(stage.pool()?)
        .protocol(Credential::header(Http, KEY_HEADER))
        .noted();
    let pool = keys.handle();
    let service = ServiceBuilder::new()
        .layer(FactsLayer::new(JsonFacts::new()))
        .layer(RetryLayer::http().noted().assume_idempotent())
        .layer(keys)
        .layer(RequestLayer)
        .service(stage.client());
    let load = stage.batch.send(service).await?;
    let row = stage.pooled_row(load, &pool).note(
        "facts, retry and key rotation around the same client; each key is an account of its own"
            .to_owned(),
    );
    Ok(row)
}
