//! From the command line to the end.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use embedded_provider::Provider as Embedded;
use tokio::net::TcpListener;
use tower_relay::error::BoxError;

use super::{
    logs::{self, LogFormat},
    ramps::{self, Saver},
    routes::Routes,
    server,
    watch::Watch,
};
use crate::{
    complain,
    config::{Config, Pattern, Upstream},
    signals::Signals,
    upstream::pretend,
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The configuration; without one a pretend provider is served
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to listen, in place of what the configuration says
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// How to log; how much is for RUST_LOG to say: info, or debug for a line a request
    #[arg(long, value_enum, value_name = "FORMAT", default_value_t)]
    log_format: LogFormat,
}

/// What is to be served, read and found right.
#[derive(Debug)]
pub(crate) struct Plan {
    options: Options,
    /// The file and what it says.
    configured: Option<(PathBuf, Config)>,
    /// Of that file since before it was read.
    watch: Watch,
}

impl Plan {
    /// # Errors
    ///
    /// What is wrong with the configuration or the environment, in one line.
    pub(crate) fn new(options: Options) -> Result<Self, String> {
        logs::begin(options.log_format)?;
        let watch = Watch::of(options.config.as_deref());
        let configured = match options.config.clone() {
            Some(path) => {
                let loaded = Config::load(&path);
                let mut config = loaded.map_err(|problem| problem.to_string())?;
                let listen = options.listen.unwrap_or(config.listen);
                config.front.allows(listen)?;
                ramps::resume(&mut config)?;
                Some((path, config))
            }
            None => None,
        };
        Ok(Self {
            options,
            configured,
            watch,
        })
    }

    /// Serves until it is told to stop.
    pub(crate) async fn run(self) -> Result<(), BoxError> {
        let mut signals = Signals::new()?;
        let (path, provider, config) = match self.configured {
            Some((path, config)) => (Some(path), None, config),
            None => {
                let (provider, config) = pretend::start(1).await?;
                (None, Some(provider), config)
            }
        };
        let (listener, listen) = bind(self.options.listen.unwrap_or(config.listen)).await?;
        if let Some(path) = &path {
            warn_of_readers(path, &config);
        }
        for upstream in &config.upstreams {
            complain(&shown(upstream));
        }
        if !listen.ip().is_loopback() && config.front.is_unprotected && path.is_some() {
            complain(&format!(
                "warning: {listen} is open to other machines, and whoever reaches it spends \
                 these keys"
            ));
        }
        complain(&format!("listening on http://{listen}"));
        if let Some(provider) = &provider {
            complain(&introduction(provider, listen));
        }

        let (configured, state) = (config.listen, config.state.clone());
        let routes = Arc::new(Routes::new(config));
        let saver = state
            .clone()
            .map(|state| Saver::start(state, Arc::clone(&routes)));
        let reload = || match &path {
            Some(path) => reload(path, &state, configured, listen, &routes),
            None => complain("nothing to reload: there is no configuration"),
        };
        let watch = self.watch;
        let served = server::serve(listener, Arc::clone(&routes), &mut signals, watch, reload);
        let is_drained = served.await;
        if let Some(saver) = saver {
            saver.end().await;
        }
        complain(match is_drained {
            true => "stopped",
            false => "stopped, with calls still in flight",
        });
        Ok(())
    }
}

async fn bind(listen: SocketAddr) -> Result<(TcpListener, SocketAddr), BoxError> {
    let bound = async {
        let listener = TcpListener::bind(listen).await?;
        let listen = listener.local_addr()?;
        Ok::<_, io::Error>((listener, listen))
    };
    let bound = bound.await;
    bound.map_err(|error| format!("cannot listen on {listen}: {error}; use --listen").into())
}

/// `state` is where the relay keeps it, `configured` where to listen by the old configuration, `listen`
/// where the relay does.
fn reload(
    path: &Path,
    state: &Option<PathBuf>,
    configured: SocketAddr,
    listen: SocketAddr,
    routes: &Routes,
) {
    let config = Config::load(path).map_err(|problem| problem.to_string());
    let config = config.and_then(|config| config.front.allows(listen).map(|()| config));
    let config = config.and_then(|mut config| {
        if config.state != *state {
            complain("warning: a new `state` takes a restart; the rest is reloaded");
            config.state.clone_from(state);
        }
        // For ramps that are new; those that stay know more.
        ramps::resume(&mut config).map(|()| config)
    });
    let config = match config {
        Ok(config) => config,
        Err(problem) => {
            complain(&format!(
                "not reloaded, the old configuration stays: {problem}"
            ));
            return;
        }
    };
    if config.listen != configured {
        complain("warning: a new `listen` takes a restart; the rest is reloaded");
    }
    warn_of_readers(path, &config);
    let lines: Vec<String> = config.upstreams.iter().map(shown).collect();
    routes.reload(config);
    for line in lines {
        complain(&line);
    }
    complain("reloaded");
}

/// How to try it.
fn introduction(provider: &Embedded, listen: SocketAddr) -> String {
    format!(
        "no --config: this is a pretend provider at {}, which makes its answers up and enforces \
         quotas. Try\n  curl http://{listen}/v1/messages -H 'content-type: application/json' \
         -d '{{\"model\":\"some-model\",\"max_tokens\":60,\
         \"messages\":[{{\"role\":\"user\",\"content\":\"Hello!\"}}]}}'",
        provider.url()
    )
}

/// How many keys a line names.
const MOST_NAMED: usize = 12;

fn shown(upstream: &Upstream) -> String {
    let mut left = MOST_NAMED;
    let scopes = upstream.scopes.iter().map(|scope| {
        let named = scope.keys.len().min(left);
        left -= named;
        let mut aliases: Vec<_> = scope.keys[..named]
            .iter()
            .map(|key| key.alias.clone())
            .collect();
        if named < scope.keys.len() {
            aliases.push(format!("{} more", scope.keys.len() - named));
        }
        format!("{} ({})", scope.name, aliases.join(", "))
    });
    let scopes: Vec<_> = scopes.take(MOST_NAMED).collect();
    let paths: Vec<_> = upstream.paths.iter().map(Pattern::to_string).collect();
    let paths = match paths.is_empty() {
        true => "all paths".to_owned(),
        false => paths.join(" "),
    };
    let keys = upstream.scopes.iter().map(|scope| scope.keys.len()).sum();
    format!(
        "upstream {}: {} at {} for {paths}; {}, {}: {}",
        upstream.name,
        upstream.provider.name,
        upstream.base_url,
        counted(upstream.scopes.len(), "scope"),
        counted(keys, "key"),
        scopes.join(", "),
    )
}

fn counted(count: usize, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// Secrets in a file that everybody may read are none.
#[cfg(unix)]
fn warn_of_readers(path: &Path, config: &Config) {
    use std::os::unix::fs::PermissionsExt;
    const OTHERS_READ: u32 = 0o004;

    let mode = std::fs::metadata(path).map_or(0, |file| file.permissions().mode());
    if config.has_literal_keys() && mode & OTHERS_READ != 0 {
        complain(&format!(
            "warning: {} has keys in it and every user may read it; use env or file, or chmod 600",
            path.display()
        ));
    }
}

#[cfg(not(unix))]
fn warn_of_readers(_: &Path, _: &Config) {}
