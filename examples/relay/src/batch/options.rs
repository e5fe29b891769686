//! The command line.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use http::{HeaderValue, uri::PathAndQuery};
use serde::{Deserialize, Serialize};

use super::request;
use crate::config::fits_header;

/// Sends a file of requests, and writes a file of answers.
///
/// When each is sent is for the quotas of the configuration to say. A run that was cut is gone on
/// with by the same command.
#[derive(Args, Clone, Debug)]
#[command(
    after_long_help = AFTER,
    override_usage = "relay batch [OPTIONS] INPUT --output FILE\n       relay batch --generate N"
)]
pub(crate) struct Options {
    /// The requests; `-` is standard input
    #[arg(value_name = "INPUT", required_unless_present = "generate")]
    pub(super) input: Option<PathBuf>,
    /// Where the answers go; the same command goes on with what is there
    #[arg(long, short, value_name = "FILE", required_unless_present = "generate")]
    pub(super) output: Option<PathBuf>,
    /// The configuration, as of `relay serve`; without one a pretend provider makes answers up
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Lines are bodies alone, and all go to this path; without it they are in OpenAI's batch format
    #[arg(long, value_name = "PATH", value_parser = path)]
    pub(super) path: Option<PathAndQuery>,
    /// How answers are ordered; as they come is quickest
    #[arg(long, default_value_t = Order::Finished)]
    pub(super) order: Order,
    /// How many requests may be under way or wait for a quota at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) in_flight: u16,
    /// The class that a relay at base_url is to count the requests to, by `x-relay-class`; it is
    /// sent to whoever is there
    #[arg(long, value_name = "NAME", value_parser = class)]
    pub(super) class: Option<HeaderValue>,
    /// How long the provider may take for one answer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub(super) timeout: Duration,
    /// How long to go on while requests fail and none succeeds; quotas are waited for longer
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = time)]
    pub(super) patience: Duration,
    /// Print the summary as JSON, on standard output
    #[arg(long)]
    pub(super) json: bool,
    /// Print so many requests to try this with, and do nothing else
    #[arg(long, value_name = "N", conflicts_with_all = ["input", "output", "config", "path", "json", "class"], value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(super) generate: Option<u64>,
}

const AFTER: &str = "\
Input
  A line is one request, in OpenAI's batch format:
    {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {..}}
  Each has a custom_id of its own, and there are no other fields. With --path a line is a body
  alone, and its id is its number. Lines have at most 32 MiB. The whole file is checked, with
  eight bytes of memory for each line, before anything is sent.

Output
  A line is one answer; `id` is the line of the input that it answers:
    {\"id\": \"line-7\", \"custom_id\": \"a\",
     \"response\": {\"status_code\": 200, \"request_id\": .., \"body\": {..}}, \"error\": null}
  What can never succeed (the request is wrong, too large, or its model is denied to every key) is
  a line of FILE.dead instead, with an `error` and the `request`, to be mended and sent as another
  batch. FILE.state says which input they belong to, and is locked while a run writes.

After a kill
  The same command goes on with what is left. Every request comes to one line in the output or the
  dead letters, exactly once, however often the run was killed. The provider is asked at least
  once: again for what was under way. A line is written before it counts as done, so a kill of the
  process loses none. The disk is told to hold them every 5 s and at the end, so a power cut loses
  the last 5 s at most, and these are asked for again. Standard input is kept in FILE.stdin until
  all is done; go on with the same input once more, or name that file. An input that has changed
  is refused.

Order
  With `finished` no answer waits for another. With `input` it waits for those before it, four
  times --in-flight at most, and a request that cannot be answered for now ends the run.

Failures
  The layers of `relay serve` wait for quotas and try again; what they give up is tried again after
  1 s to 60 s. A request that fails five times so while others succeed is left for the next run.

Signals
  Ctrl-c and SIGTERM: what was sent is finished, the rest is left for the next run; the second one
  leaves all. SIGHUP, which comes when a terminal is closed, is ignored.

Exit codes
  0  every request was answered
  1  something failed on the way: a disk, a file, or every key was rejected
  2  the command line, the configuration or a file is wrong; nothing was sent
  3  all is done, some of it as dead letters
  4  some requests are left for the next run: interrupted, or they failed until it was given up";

/// In which order answers are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// As they come.
    Finished,
    /// As the requests stand in the input.
    Input,
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Finished => "finished",
            Self::Input => "input",
        })
    }
}

fn path(text: &str) -> Result<PathAndQuery, String> {
    request::path(text).map_err(|problem| format!("it {problem}, such as /v1/chat/completions"))
}

fn class(name: &str) -> Result<HeaderValue, &'static str> {
    let value = HeaderValue::from_str(name).ok();
    value
        .filter(|_| fits_header(name))
        .ok_or("it fits no header; use visible ASCII without blanks, such as batch")
}

fn time(text: &str) -> Result<Duration, &'static str> {
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| !time.is_zero())
        .ok_or("it is no time above zero; write a number and a unit, such as 90s or 10m")
}
