//! The listening side: connections, and how it ends.

use std::{convert::Infallible, io, sync::Arc, time::Duration};

use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use tokio::net::{TcpListener, TcpStream};

use super::{gateway, routes::Routes};
use crate::signals::{Signals, Told};

/// How long what is in flight may go on after the end was asked for.
const DRAIN: Duration = Duration::from_secs(30);
/// How long to wait for others to give back what the system has run out of.
const PAUSE: Duration = Duration::from_millis(100);

/// Serves until a signal says otherwise, then lets the calls in flight end; whether all did.
/// `reload` is called when the configuration is to be read again.
pub(super) async fn serve(
    listener: TcpListener,
    routes: Arc<Routes>,
    signals: &mut Signals,
    reload: impl Fn(),
) -> bool {
    let connections = GracefulShutdown::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => connect(stream, &routes, &connections),
                Err(error) => pause_for(&error).await,
            },
            told = signals.next() => match told {
                Told::Reload => reload(),
                Told::End => break,
            },
        }
    }
    drop(listener);
    crate::complain(&format!(
        "stopping: what is in flight has {DRAIN:?}, or until the next signal"
    ));
    tokio::select! {
        () = connections.shutdown() => true,
        () = tokio::time::sleep(DRAIN) => false,
        () = signals.end() => false,
    }
}

fn connect(stream: TcpStream, routes: &Arc<Routes>, connections: &GracefulShutdown) {
    // A stream of tokens must not wait for more to fill a packet.
    let _ = stream.set_nodelay(true);
    let routes = Arc::clone(routes);
    let service = service_fn(move |request| {
        let routes = Arc::clone(&routes);
        async move { Ok::<_, Infallible>(gateway::answer(&routes, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .serve_connection(TokioIo::new(stream), service);
    // A caller that goes away, or that is cut off because the answer broke off, is no event.
    let connection = connections.watch(connection);
    tokio::spawn(async move { drop(connection.await) });
}

async fn pause_for(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    let is_the_callers = [ConnectionAborted, ConnectionReset, Interrupted].contains(&error.kind());
    if !is_the_callers {
        crate::complain(&format!("cannot accept connections for now: {error}"));
        tokio::time::sleep(PAUSE).await;
    }
}
