//! A guard that writes down what it hears, and a body that plays a script.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use tower_relay::{
    http::Report,
    outcome::{Completeness, Ending, Outcome, Usage, Verdict},
    protocol::Guard,
};

/// What a guard was told; `Released` is a drop without a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Heard {
    Released,
    Finished(Ending),
}

/// A guard that writes down what happens to it.
pub(crate) struct Recorder<'a> {
    heard: &'a RefCell<Vec<Heard>>,
    armed: Cell<bool>,
}

impl<'a> Recorder<'a> {
    pub(crate) fn new(heard: &'a RefCell<Vec<Heard>>) -> Self {
        let armed = Cell::new(true);
        Self { heard, armed }
    }
}

impl Guard for Recorder<'_> {
    fn finish(self, ending: Ending) {
        self.armed.set(false);
        self.heard.borrow_mut().push(Heard::Finished(ending));
    }
}

impl Drop for Recorder<'_> {
    fn drop(&mut self) {
        if self.armed.get() {
            self.heard.borrow_mut().push(Heard::Released);
        }
    }
}

pub(crate) enum Step {
    Data(&'static str),
    Trailers,
    Wait,
    Fail,
    Panic,
}

/// A body that plays its script and, if asked, reports what it has played.
pub(crate) struct Script {
    steps: VecDeque<Step>,
    /// Whether `is_end_stream` admits the end before it is polled.
    pub(crate) foresees: bool,
    seen: u64,
    end: Completeness,
    failure: Option<Outcome>,
}

pub(crate) fn script(steps: impl IntoIterator<Item = Step>) -> Script {
    Script {
        steps: steps.into_iter().collect(),
        foresees: false,
        seen: 0,
        end: Completeness::Partial,
        failure: None,
    }
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let this = &mut *self;
        let Some(step) = this.steps.pop_front() else {
            return Poll::Ready(None);
        };
        let frame = match step {
            Step::Data(data) => {
                this.seen += 10;
                match data {
                    "[done]" => this.end = Completeness::Complete,
                    "[error]" => this.failure = Some(Outcome::new(Verdict::Overloaded)),
                    _ => {}
                }
                Ok(Frame::data(Bytes::from_static(data.as_bytes())))
            }
            Step::Trailers => Ok(Frame::trailers(HeaderMap::new())),
            Step::Fail => Err("reset"),
            Step::Wait => return Poll::Pending,
            Step::Panic => panic!("the body is broken"),
        };
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.foresees && self.steps.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(77)
    }
}

impl Report for Script {
    fn report(&self) -> Ending {
        let usage = Usage::UNKNOWN.input_tokens(3).output_tokens(self.seen);
        let ending = match self.end {
            Completeness::Complete => Ending::complete(usage),
            _ => Ending::partial(usage),
        };
        match self.failure {
            Some(failure) => ending.failed(failure),
            None => ending,
        }
    }
}
