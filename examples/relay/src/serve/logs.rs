//! What goes to standard error while the relay runs.

use std::{env, io, sync::OnceLock};

use clap::ValueEnum;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// An object a line
    Json,
}

static FORMAT: OnceLock<LogFormat> = OnceLock::new();

/// Whether all that is said goes into the log as JSON.
pub(crate) fn is_json() -> bool {
    FORMAT.get() == Some(&LogFormat::Json)
}

/// Logs from now on, as much as `RUST_LOG` says, or changes of state alone.
///
/// # Errors
///
/// If `RUST_LOG` makes no sense.
pub(super) fn begin(format: LogFormat) -> Result<(), String> {
    let targets = match env::var("RUST_LOG") {
        Ok(wanted) if !wanted.trim().is_empty() => wanted.parse().map_err(|_| {
            "RUST_LOG is no list of levels; write it like info or relay=debug,tower_relay=info"
                .to_owned()
        })?,
        _ => Targets::new().with_default(LevelFilter::INFO),
    };
    let layer = fmt::layer().with_writer(io::stderr);
    let registry = tracing_subscriber::registry().with(targets);
    // There is one program, which begins once.
    let _ = match format {
        LogFormat::Text => registry.with(layer.with_ansi(false)).try_init(),
        LogFormat::Json => registry
            .with(layer.json().flatten_event(true).with_current_span(false))
            .try_init(),
    };
    let _ = FORMAT.set(format);
    Ok(())
}
