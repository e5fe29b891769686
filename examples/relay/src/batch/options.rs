//! The command line.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use http::uri::PathAndQuery;
use serde::{Deserialize, Serialize};

use super::request;

/// Answers a file of requests, each once
///
/// Reads a file of requests, a line of JSON each, and writes a file of answers, a line each. The
/// quotas of the configuration decide when each is sent; what fails for a reason that passes is
/// sent again.
#[derive(Args, Clone, Debug)]
#[command(after_long_help = AFTER)]
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
    /// How answers are ordered: as they come, which is quickest, or as the input is
    #[arg(long, default_value_t = Order::Finished)]
    pub(super) order: Order,
    /// How many requests may be under way or wait for a quota at once
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub(super) in_flight: u16,
    /// How long the provider may take for one answer
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = time)]
    pub(super) timeout: Duration,
    /// How long to go on while nothing succeeds; then what is left is left for the next run
    #[arg(long, value_name = "TIME", default_value = "4h", value_parser = time)]
    pub(super) patience: Duration,
    /// Print the summary as JSON, on standard output
    #[arg(long)]
    pub(super) json: bool,
    /// Print so many requests to try this with, and do nothing else
    #[arg(long, value_name = "N", conflicts_with_all = ["input", "output", "config", "path", "json"], value_parser = clap::value_parser!(u64).range(1..=100_000_000))]
    pub(super) generate: Option<u64>,
}

const AFTER: &str = "\
Input:
  A line is {\"custom_id\": \"a\", \"method\": \"POST\", \"url\": \"/v1/chat/completions\", \"body\": {..}}, \
OpenAI's batch format, each with a custom_id of its own; or, with --path, a body alone, whose id is \
the number of its line. The whole file is checked before anything is sent. A line has at most 32 MiB.

Output:
  A line is {\"id\": \"line-7\", \"custom_id\": \"a\", \"response\": {\"status_code\": 200, \
\"request_id\": .., \"body\": {..}}, \"error\": null}. What can never succeed (the request is wrong, \
too large, or its model is denied to every key) is a line of FILE.dead instead, with an `error` and \
the `request`. FILE.state says which input they belong to.

After a kill:
  The same command goes on with what is left. Each request has one line in the output or the dead \
letters, however often the run was killed; the provider may be asked twice for those that were \
under way. A line is in the file before it is counted as done, and a kill of the process loses none. \
The disk is told to hold them every 5 s and at the end: a power cut loses at most those 5 s, which are \
asked for again. Standard input is kept in FILE.stdin until all is done; go on with the same standard \
input, or with that file.
  With --order input answers wait for those before them, at most four times --in-flight.

Signals:
  Ctrl-c and SIGTERM finish what was sent and leave the rest for the next run; a second one \
leaves all. SIGHUP, which comes when a terminal is closed, is ignored.

Exit codes:
  0  every request was answered
  1  something failed on the way: a disk, a file, or every key is rejected
  2  the command line, the configuration or the input is wrong; nothing was sent
  3  all done, some of it as dead letters
  4  some requests are left for the next run: interrupted, or the provider never recovered";

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

fn time(text: &str) -> Result<Duration, &'static str> {
    let time = humantime::parse_duration(text).ok();
    time.filter(|time| !time.is_zero())
        .ok_or("it is no time above zero; write a number and a unit, such as 90s or 10m")
}
