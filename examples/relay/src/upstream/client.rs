//! The client towards the providers.
//!
//! Over HTTP/1.1 there are as many connections as calls need. An HTTP/2 connection carries as many
//! calls as its server allows, and those beyond would wait in a queue that no layer knows of: so
//! where HTTP/2 is spoken there are several connections, none with more calls than it carries.

use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use tower_relay::error::BoxError;
use tower_service::Service;

use super::late::{Part, TimedOut};
use crate::config::{BaseUrl, Http2, Upstream};

/// Shorter than the idle times of the load balancers that providers stand behind.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);
/// A connection of HTTP/2 whose other end is gone is found out so soon.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// What may be under way of one answer. With room for as much of each in the whole connection, one
/// whose reader is slow holds up no other.
const STREAM_WINDOW: u32 = 256 << 10;
const LARGEST_WINDOW: u32 = (1 << 31) - 1;

/// Connections to the hosts of one upstream.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    lanes: Arc<Mutex<Vec<Lane>>>,
    http2: Http2,
    connect: Duration,
    /// Whether any of its hosts is called over TLS.
    is_tls: bool,
}

fn bases(config: &Upstream) -> impl Iterator<Item = &BaseUrl> {
    let scopes = config.scopes.iter();
    scopes.map(|scope| scope.base_url.as_ref().unwrap_or(&config.base_url))
}

/// One client, which has one connection to a host if HTTP/2 is spoken on it.
#[derive(Clone, Debug)]
struct Lane {
    client: Connections,
    /// One for each call in flight, and this one.
    in_flight: Arc<()>,
}

type Connections = legacy::Client<Connector, Full<Bytes>>;

impl HttpClient {
    pub(crate) fn new(config: &Upstream) -> Self {
        Self {
            lanes: Arc::default(),
            http2: config.http2,
            connect: config.timeouts.connect,
            is_tls: bases(config).any(BaseUrl::is_tls),
        }
    }

    /// The first connection that can carry another call, and its place there.
    fn lane(&self) -> Lane {
        let mut lanes = self.lanes.lock().unwrap_or_else(PoisonError::into_inner);
        let has_room = |lane: &&Lane| {
            !self.http2.is_enabled || Arc::strong_count(&lane.in_flight) <= self.http2.streams
        };
        if let Some(lane) = lanes.iter().find(has_room) {
            return lane.clone();
        }
        lanes.push(Lane {
            client: self.connections(),
            in_flight: Arc::default(),
        });
        lanes[lanes.len() - 1].clone()
    }

    fn connections(&self) -> Connections {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        http.enforce_http(false);
        let connector = HttpsConnectorBuilder::new()
            .with_webpki_roots()
            .https_or_http()
            .enable_http1();
        let connector = match self.http2.is_enabled {
            true => connector.enable_http2().wrap_connector(http),
            false => connector.wrap_connector(http),
        };
        let mut client = legacy::Client::builder(TokioExecutor::new());
        client
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_timer(TokioTimer::new())
            .timer(TokioTimer::new());
        if self.http2.is_enabled {
            let streams = u32::try_from(self.http2.streams).unwrap_or(u32::MAX);
            let window = STREAM_WINDOW.saturating_mul(streams).min(LARGEST_WINDOW);
            client
                // TLS agrees on the version; without it both ends have to know.
                .http2_only(!self.is_tls)
                .http2_initial_stream_window_size(STREAM_WINDOW)
                .http2_initial_connection_window_size(window)
                .http2_keep_alive_interval(PING_INTERVAL);
        }
        client.build(Connector {
            inner: connector,
            limit: self.connect,
        })
    }
}

impl Service<Request<Full<Bytes>>> for HttpClient {
    type Response = Response<Carried>;
    type Error = legacy::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let Lane { client, in_flight } = self.lane();
        Box::pin(async move {
            let response = client.request(request).await?;
            Ok(response.map(|body| Carried { body, in_flight }))
        })
    }
}

/// An answer's body, which keeps its place on the connection to its end.
#[derive(Debug)]
pub(crate) struct Carried {
    body: Incoming,
    #[expect(dead_code, reason = "it is counted as long as it is here")]
    in_flight: Arc<()>,
}

impl Body for Carried {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Connects within a time: name, TCP and TLS together.
#[derive(Clone, Debug)]
struct Connector {
    inner: HttpsConnector<HttpConnector>,
    limit: Duration,
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, host: Uri) -> Self::Future {
        let (connection, limit) = (self.inner.call(host), self.limit);
        Box::pin(async move {
            let connected = tokio::time::timeout(limit, connection).await;
            connected.unwrap_or_else(|_| Err(TimedOut::new(Part::Connect, limit).into()))
        })
    }
}
