//! The HTTP side: connections, the one route, and the way of a request through it.

use crate::{
    access::Caller,
    answer::{Answer, AnswerBody, MAX_DELTAS},
    clock::Clock,
    in_flight::InFlight,
    request::{self, Call},
    state::{Plan, Shared, Verdict},
    wire::{self, Format, Message, Problem},
};
use bytes::{Buf, Bytes};
use http::{HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use std::{sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// Connections at a time; further ones wait in the system's backlog.
const MAX_CONNECTIONS: usize = 4_096;

/// How long accepting pauses when the system refuses a connection, for example for lack of file
/// descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(5);

/// Serves until it is dropped, and its connections with it.
pub(crate) async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => match accepted {
                Ok((socket, _)) => drop(connections.spawn(connection(socket, Arc::clone(&shared)))),
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(socket: TcpStream, shared: Arc<Shared>) {
    // Without it pieces of a stream may be held back; failing to set it changes nothing else.
    let _ = socket.set_nodelay(true);
    let service = service_fn(move |request| respond(Arc::clone(&shared), request));
    // An error here is the client's end of the connection, which the counters know about.
    let _ = http1::Builder::new()
        .serve_connection(TokioIo::new(socket), service)
        .await;
}

/// Fails only if the request cannot be read to its end; such a call is not counted.
pub(crate) async fn respond<B: Body<Data: Buf>>(
    shared: Arc<Shared>,
    request: Request<B>,
) -> Result<Response<AnswerBody>, B::Error> {
    let (head, body) = request.into_parts();
    // Read first: a client that is still sending when it is refused may never see the answer.
    let body = request::read(body).await?;
    let jitter = shared.jitter();
    if !jitter.is_zero() {
        tokio::time::sleep(jitter).await;
    }
    Ok(answer(shared, &head, body).await.map(AnswerBody::new))
}

async fn answer(shared: Arc<Shared>, head: &Parts, body: Option<Bytes>) -> Response<Answer> {
    // A path where nothing is served has no format of its own.
    let format = Format::of(head.uri.path()).unwrap_or(Format::Anthropic);
    let caller = route(head, &shared);
    let reply = Reply {
        format,
        number: shared.next_id(),
        caller: caller.as_ref().ok().copied(),
        shared,
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(problem) => {
            reply.shared.reject(&problem);
            return reply.rejected(&problem);
        }
    };
    let call = body
        .ok_or(Problem::TooLarge)
        .and_then(|body| Call::parse(format, head, &body));
    match reply.shared.decide(caller, call) {
        Verdict::Rejected(problem) => reply.rejected(&problem),
        Verdict::Failed(problem, in_flight) => {
            reply.error(&problem, |bytes| Answer::whole(bytes, 0, in_flight))
        }
        Verdict::Answered(call, plan, in_flight) => reply.answered(call, plan, in_flight).await,
    }
}

/// What an answer says of the time, by the provider's clock.
pub(crate) fn date(clock: &Clock) -> HeaderValue {
    let date = clock.wall(clock.now());
    wire::value(httpdate::HttpDate::from(date))
}

fn route(head: &Parts, shared: &Shared) -> Result<Caller, Problem> {
    let format = Format::of(head.uri.path()).ok_or(Problem::NotFound)?;
    if head.method != Method::POST {
        return Err(Problem::Method);
    }
    let key = request::key(format, &head.headers).ok_or(Problem::MissingKey)?;
    shared.caller(key).ok_or(Problem::UnknownKey)
}

/// One answer in the making.
struct Reply {
    format: Format,
    shared: Arc<Shared>,
    /// Distinguishes this request and its message from all others.
    number: u64,
    /// Known by its key, whatever became of the call.
    caller: Option<Caller>,
}

impl Reply {
    fn rejected(&self, problem: &Problem) -> Response<Answer> {
        let mut response = self.error(problem, Answer::plain);
        let headers = response.headers_mut();
        match problem {
            Problem::Method => {
                headers.insert(header::ALLOW, HeaderValue::from_static("POST"));
            }
            Problem::Refused { wait, .. } => {
                self.format.hint(headers, *wait, self.shared.headers);
            }
            _ => {}
        }
        response
    }

    async fn answered(&self, call: Call, plan: Plan, mut in_flight: InFlight) -> Response<Answer> {
        in_flight.turn().await;
        let plan = plan.beginning(self.shared.clock.now());
        in_flight.begin(plan);
        let message = Message {
            format: self.format,
            number: self.number,
            created: self.shared.clock.unix_seconds(),
            model: call.model,
            tokens: call.tokens,
            output_tokens: plan.output_tokens,
            include_usage: call.include_usage,
            millis: u64::try_from((plan.due(plan.output_tokens) - plan.due(0)).as_millis())
                .unwrap_or(u64::MAX),
        };
        let (content, answer) = if call.stream {
            let answer = Answer::stream(message, plan, in_flight);
            (self.format.stream_content(), answer)
        } else {
            let left = self.generate(plan, &mut in_flight).await;
            (
                "application/json",
                Answer::whole(message.whole(), left, in_flight),
            )
        };
        let mut response = self.response(StatusCode::OK, content, answer);
        self.stamp(&mut response);
        response
    }

    /// Waits until the whole answer is there; tells how many of its tokens are not counted yet.
    async fn generate(&self, plan: Plan, in_flight: &mut InFlight) -> u64 {
        let all = plan.output_tokens;
        let step = match self.shared.charging.is_in_real_time() {
            true => all.div_ceil(MAX_DELTAS),
            false => all,
        };
        let mut counted = 0;
        loop {
            let next = (counted + step).min(all);
            tokio::time::sleep_until(self.shared.clock.instant(plan.due(next))).await;
            if next == all {
                return all - counted;
            }
            in_flight.produced(next - counted);
            counted = next;
        }
    }

    fn error(&self, problem: &Problem, body: impl FnOnce(Bytes) -> Answer) -> Response<Answer> {
        let answer = body(self.format.error(problem, &self.request_id()));
        let mut response = self.response(self.format.status(problem), "application/json", answer);
        self.format.name_error(response.headers_mut(), problem);
        if problem.tells_limits() {
            self.stamp(&mut response);
        }
        response
    }

    fn response(
        &self,
        status: StatusCode,
        content: &'static str,
        body: Answer,
    ) -> Response<Answer> {
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content));
        headers.insert(
            self.format.request_id_header(),
            wire::value(self.request_id()),
        );
        response
    }

    /// Adds the state of the quota.
    fn stamp(&self, response: &mut Response<Answer>) {
        if let Some(caller) = self.caller {
            let gauges = self.shared.gauges(caller);
            let headers = response.headers_mut();
            let style = self.shared.headers;
            wire::stamp(headers, style, self.format, &gauges, &self.shared.clock);
        }
    }

    fn request_id(&self) -> String {
        format!("req_{:016x}", self.number)
    }
}
