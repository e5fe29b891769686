//! The client towards the providers.
//!
//! HTTP/1.1 alone, as many connections as calls need: over one HTTP/2 connection some hundred
//! calls would pass, and those beyond would wait in a queue that no layer knows of.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

pub(crate) type HttpClient = Client<HttpsConnector<HttpConnector>, Full<Bytes>>;

/// As the providers' own clients have it.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Shorter than the idle times of the load balancers that providers stand behind.
const IDLE_TIMEOUT: Duration = Duration::from_secs(50);

pub(crate) fn client() -> HttpClient {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    http.enforce_http(false);
    http.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let connector = HttpsConnectorBuilder::new()
        .with_webpki_roots()
        .https_or_http()
        .enable_http1()
        .wrap_connector(http);
    Client::builder(TokioExecutor::new())
        .pool_idle_timeout(IDLE_TIMEOUT)
        .pool_timer(TokioTimer::new())
        .build(connector)
}
