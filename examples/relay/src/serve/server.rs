//! The listening side: connections, and how it ends.

use std::{
    convert::Infallible,
    io,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    time::{MissedTickBehavior, interval},
};

use super::{gateway, history, routes::Routes, watch::Watch};
use crate::{
    config::Limits,
    signals::{Signals, Told},
};

/// How long to wait for others to give back what the system has run out of.
const PAUSE: Duration = Duration::from_millis(100);
/// Connections beyond those allowed that are told so; more are closed without a word.
const TURNED_AWAY: usize = 100;
/// How long these may take to hear it.
const TURNED_AWAY_WITHIN: Duration = Duration::from_secs(5);
/// A caller whose end of an HTTP/2 connection is gone is found out so soon.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// What hyper itself needs for a head.
const LEAST_BUFFER: usize = 8_192;

/// Serves until a signal says otherwise, then lets the calls in flight end; whether all did.
/// `reload` is called when the configuration is to be read again.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Arc<Routes>,
    signals: &mut Signals,
    mut watch: Watch,
    reload: impl Fn(),
) -> bool {
    let connections = GracefulShutdown::new();
    let open = Arc::new(());
    let mut seconds = interval(history::EVERY);
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connect(stream, &routes, &connections, &open),
                Err(error) => pause_for(&error).await,
            },
            _ = seconds.tick() => routes.sample(),
            () = watch.changed() => reload(),
            told = signals.next() => match told {
                Told::Reload => {
                    watch.read();
                    reload();
                }
                Told::End => break,
            },
        }
    }
    drop(listener);
    let drain = routes.now().front().drain;
    crate::complain(&format!(
        "stopping: what is in flight has {}, or until the next signal",
        humantime::format_duration(drain)
    ));
    tokio::select! {
        () = connections.shutdown() => true,
        () = tokio::time::sleep(drain) => false,
        () = signals.end() => false,
    }
}

/// HTTP/1.1, or HTTP/2 from who begins with its preface. `open` is held by every connection.
fn connect(
    stream: TcpStream,
    routes: &Arc<Routes>,
    connections: &GracefulShutdown,
    open: &Arc<()>,
) {
    let limits = routes.now().front().limits;
    let counted = Arc::clone(open);
    let beyond = (Arc::strong_count(open) - 1).saturating_sub(limits.connections);
    if beyond > TURNED_AWAY {
        return;
    }
    // A stream of tokens must not wait for more to fill a packet.
    let _ = stream.set_nodelay(true);
    let has_asked = Arc::new(AtomicBool::new(false));
    let (routes, asks) = (Arc::clone(routes), Arc::clone(&has_asked));
    let service = service_fn(move |request| {
        asks.store(true, Relaxed);
        let routes = Arc::clone(&routes);
        async move {
            Ok::<_, Infallible>(match beyond {
                0 => gateway::answer(&routes, request).await,
                _ => gateway::busy(&request, limits.connections),
            })
        }
    });
    let builder = builder(&limits, beyond > 0);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    // A caller that goes away, or that is cut off because the answer broke off, is no event.
    let connection = connections.watch(connection.into_owned());
    tokio::spawn(async move {
        let _counted = counted;
        let mut connection = pin!(connection);
        if beyond > 0 {
            let _ = tokio::time::timeout(TURNED_AWAY_WITHIN, connection).await;
            return;
        }
        // Who says nothing, or only half of the preface, is in no version yet that had a timeout.
        let ended = tokio::time::timeout(limits.head_time, &mut connection).await;
        if ended.is_err() && has_asked.load(Relaxed) {
            let _ = connection.await;
        }
    });
}

/// The bounds of hyper are wider than ours, so that who is a little beyond ours is told so in a
/// provider's words.
fn builder(limits: &Limits, is_last: bool) -> auto::Builder<TokioExecutor> {
    let head = (limits.header_kib << 10) + limits.uri_bytes;
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_headers(2 * limits.headers)
        .max_buf_size((2 * head).max(LEAST_BUFFER))
        .keep_alive(!is_last);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(2 * head).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(PING_INTERVAL));
    builder
}

async fn pause_for(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let is_the_callers = [ConnectionAborted, ConnectionReset, Interrupted].contains(&error.kind());
    if !is_the_callers {
        crate::complain(&format!("cannot accept connections for now: {error}"));
        tokio::time::sleep(PAUSE).await;
    }
}
