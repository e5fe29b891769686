//! `relay serve`: a gateway in front of pools of keys. `relay batch`: a file of requests in, a file
//! of answers out. `relay demo`: what a provider's quota does to a batch, and what the layers make
//! of it.
#![allow(
    clippy::disallowed_methods,
    reason = "a program measures with the real clock"
)]

mod batch;
mod config;
mod demo;
mod headers;
mod serve;
mod signals;
mod upstream;

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, Subcommand, error::ErrorKind};
use tower_relay::error::BoxError;

/// Calls rate-limited APIs without being refused.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = false)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs a batch against an embedded provider with enforced quotas, blindly and through the
    /// layers, and compares what the provider has counted.
    Demo(demo::Options),
    /// Forwards requests to providers, each with a key of a pool in place of the caller's.
    Serve(serve::Options),
    Batch(batch::Options),
}

/// The run took place and found something wrong.
const FAILED: u8 = 1;
/// The command line or the configuration makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return no_run(&error),
    };
    let ended = match cli.command {
        Command::Demo(options) => run(async {
            let is_well = demo::run(&options).await?;
            Ok(if is_well { 0 } else { FAILED })
        }),
        Command::Batch(options) => run(batch::run(options)),
        Command::Serve(options) => match serve::Plan::new(options) {
            Ok(plan) => run(async { plan.run().await.map(|()| 0) }),
            Err(problem) => {
                fail(&problem);
                return ExitCode::from(USAGE);
            }
        },
    };
    match ended {
        Ok(code) => ExitCode::from(code),
        Err(error) if is_closed_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            fail(&error.to_string());
            let problem = error.downcast_ref::<batch::Problem>();
            let is_usage = problem.is_some_and(batch::Problem::is_usage);
            ExitCode::from(if is_usage { USAGE } else { FAILED })
        }
    }
}

/// Its exit code.
fn run(program: impl Future<Output = Result<u8, BoxError>>) -> Result<u8, BoxError> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    runtime.block_on(program)
}

/// Help and version as clap prints them; a mistake in one line.
fn no_run(error: &clap::Error) -> ExitCode {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion
    ) {
        // Nobody may be reading; that is no mistake.
        let _ = error.print();
        return ExitCode::SUCCESS;
    }
    complain(&one_line(&error.to_string()));
    ExitCode::from(USAGE)
}

/// The first paragraph of clap's message, in one line.
fn one_line(message: &str) -> String {
    let first = message.split("\n\n").next().unwrap_or(message);
    let words: Vec<_> = first.split_whitespace().collect();
    let line = words.join(" ");
    line.strip_prefix("error: ").unwrap_or(&line).to_owned()
}

/// One line on standard error, or in the log if that is JSON.
fn complain(problem: &str) {
    if serve::is_json() {
        match problem.strip_prefix("warning: ") {
            Some(warning) => tracing::warn!("{warning}"),
            None => tracing::info!("{problem}"),
        }
        return;
    }
    // If standard error is closed too there is nobody to tell.
    let _ = writeln!(io::stderr(), "relay: {problem}");
}

/// Why it does not go on.
fn fail(problem: &str) {
    match serve::is_json() {
        true => tracing::error!("{problem}"),
        false => complain(problem),
    }
}

/// Whether the reader of our output has gone, as in `relay demo | head -1`.
fn is_closed_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    let cause = error.downcast_ref::<io::Error>();
    cause.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mistake(arguments: &[&str]) -> String {
        let arguments = ["relay"].iter().chain(arguments);
        one_line(
            &Cli::try_parse_from(arguments)
                .expect_err("wrong")
                .to_string(),
        )
    }

    #[test]
    fn a_mistake_is_one_line_that_names_the_option_and_its_bounds() {
        assert_eq!(
            mistake(&["demo", "--workers", "0"]),
            "invalid value '0' for '--workers <WORKERS>': 0 is not in 1..=200"
        );
        assert_eq!(
            mistake(&["demo", "--time-scale", "fast"]),
            "invalid value 'fast' for '--time-scale <TIME_SCALE>': invalid digit found in string"
        );
        assert_eq!(
            mistake(&["demo", "--no-such"]),
            "unexpected argument '--no-such' found"
        );
        assert!(mistake(&[]).starts_with("'relay' requires a subcommand"));
    }

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }
}
