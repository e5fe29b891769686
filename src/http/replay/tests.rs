use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicU32, Ordering},
};

use http_body_util::{BodyExt, Full};
use proptest::prelude::*;

use super::*;

enum Step {
    Data(&'static [u8]),
    Trailers,
    Wait,
    Fail,
    Panic,
}

/// Plays its steps; `read` counts those it was asked for.
struct Script {
    steps: VecDeque<Step>,
    read: Arc<AtomicU32>,
}

impl Body for Script {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        let Some(step) = self.steps.pop_front() else {
            return Poll::Ready(None);
        };
        self.read.fetch_add(1, Ordering::Relaxed);
        Poll::Ready(Some(match step {
            Step::Data(data) => Ok(Frame::data(Bytes::from_static(data))),
            Step::Trailers => {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", 7.into());
                Ok(Frame::trailers(trailers))
            }
            Step::Wait => {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Step::Fail => Err("reset"),
            Step::Panic => panic!("the body is broken"),
        }))
    }

    fn size_hint(&self) -> SizeHint {
        let left = self.steps.iter().map(|step| match step {
            Step::Data(data) => data.len() as u64,
            _ => 0,
        });
        SizeHint::with_exact(left.sum())
    }
}

type Sent = Request<ReplayBody<Script>>;

fn request(bound: usize, steps: impl IntoIterator<Item = Step>) -> (Sent, Arc<AtomicU32>) {
    let read = Arc::new(AtomicU32::new(0));
    let body = Script {
        steps: steps.into_iter().collect(),
        read: Arc::clone(&read),
    };
    let request = Request::put("/x").header("x-a", "1").body(body);
    let request = request.expect("it is a valid request");
    (ReplayBuffer::new(bound).prepare(request), read)
}

fn copy(bound: usize, sent: &Sent) -> Option<Sent> {
    Replay::<Request<Script>>::copy(&ReplayBuffer::new(bound), sent)
}

fn can_replay(kept: &Sent) -> bool {
    Replay::<Request<Script>>::can_replay(&ReplayBuffer::default(), kept)
}

/// What one poll shows: data, trailers as `#`, the end as `.`, a failure as `!`, `~` for later.
fn poll(sent: &mut Sent) -> String {
    let mut cx = Context::from_waker(Waker::noop());
    match Pin::new(sent.body_mut()).poll_frame(&mut cx) {
        Poll::Pending => "~".into(),
        Poll::Ready(None) => ".".into(),
        Poll::Ready(Some(Err(_))) => "!".into(),
        Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
            Ok(data) => String::from_utf8(data.to_vec()).expect("a test's text"),
            Err(_) => "#".into(),
        },
    }
}

fn polls(sent: &mut Sent, many: usize) -> String {
    (0..many).map(|_| poll(sent)).collect()
}

const ABC: [Step; 3] = [Step::Data(b"a"), Step::Data(b"b"), Step::Data(b"c")];

#[test]
fn what_was_sent_is_sent_again_with_trailers_and_then_the_rest() {
    let (mut first, read) = request(1_000, ABC.into_iter().chain([Step::Trailers]));
    let mut second = copy(1_000, &first).expect("it is whole");
    assert_eq!(polls(&mut first, 2), "ab");
    assert!(can_replay(&second));
    drop(first);
    assert_eq!(second.body().size_hint().exact(), Some(3));
    assert_eq!(second.headers()["x-a"], "1");
    let mut third = copy(1_000, &second).expect("it is whole");
    assert_eq!(polls(&mut second, 1), "a");
    assert_eq!(read.load(Ordering::Relaxed), 2, "nothing is read ahead");
    assert_eq!(polls(&mut second, 4), "bc#.");
    assert!(second.body().is_end_stream());
    assert!(can_replay(&third));
    assert_eq!(polls(&mut third, 6), "abc#..");
}

#[test]
fn a_body_that_was_never_asked_for_is_untouched_however_long_it_is() {
    let (first, read) = request(0, ABC);
    let mut second = copy(0, &first).expect("it is whole");
    drop(first);
    assert!(can_replay(&second));
    assert_eq!(read.load(Ordering::Relaxed), 0);
    assert_eq!(polls(&mut second, 4), "abc.");
}

#[test]
fn a_body_that_sent_more_than_the_bound_is_sent_once() {
    const LONG: &[u8] = &[b'x'; 100];
    for (bound, can) in [(199, false), (200, true)] {
        let (mut first, _) = request(
            bound,
            [Step::Data(LONG), Step::Data(LONG), Step::Data(b"y")],
        );
        let second = copy(bound, &first).expect("it is whole");
        assert_eq!(polls(&mut first, 2).len(), 200);
        assert_eq!(can_replay(&second), can, "{bound}");
        assert_eq!(copy(bound, &first).is_some(), can);
        let kept = first.body().lock().sent.pieces.len();
        assert_eq!(kept, if can { 2 } else { 0 }, "what is of no use is freed");
        drop(second);
        assert_eq!(polls(&mut first, 2), "y.", "it goes on to its end");
    }
}

#[test]
fn the_last_attempt_keeps_nothing() {
    let (mut only, _) = request(1_000, ABC);
    assert_eq!(polls(&mut only, 2), "ab");
    assert!(only.body().lock().sent.pieces.is_empty());

    let (mut first, _) = request(1_000, ABC);
    let mut last = copy(1_000, &first).expect("it is whole");
    assert_eq!(polls(&mut first, 2), "ab");
    assert!(can_replay(&last));
    drop(first);
    assert_eq!(polls(&mut last, 3), "abc");
    assert!(last.body().lock().sent.pieces.is_empty());
    assert_eq!(poll(&mut last), ".");
}

#[test]
fn an_attempt_that_is_over_goes_on_until_the_next_asks_for_the_body() {
    let (mut first, _) = request(1_000, ABC);
    let mut second = copy(1_000, &first).expect("it is whole");
    assert_eq!(poll(&mut first), "a");
    assert!(can_replay(&second));
    assert_eq!(poll(&mut first), "b", "its upload goes on");
    assert_eq!(poll(&mut second), "a");
    assert_eq!(polls(&mut first, 2), "!!", "it is cut off");
    assert_eq!(polls(&mut second, 3), "bc.");
}

#[test]
fn after_the_promise_to_replay_nothing_is_given_up_until_the_copy_is_dropped() {
    const LONG: &[u8] = &[b'x'; 100];
    let steps = || [Step::Data(LONG), Step::Data(LONG), Step::Data(LONG)];
    let (mut first, read) = request(150, steps());
    let mut second = copy(150, &first).expect("it is whole");
    assert_eq!(poll(&mut first).len(), 100);
    assert!(can_replay(&second));
    assert_eq!(poll(&mut first).len(), 100);
    assert_eq!(poll(&mut first), "~", "it waits rather than to send more");
    assert_eq!(read.load(Ordering::Relaxed), 2);
    assert_eq!(polls(&mut second, 3).len(), 300);
    assert_eq!(poll(&mut second), ".");

    let (mut first, _) = request(150, steps());
    let second = copy(150, &first).expect("it is whole");
    assert!(can_replay(&second));
    assert_eq!(polls(&mut first, 2).len(), 200);
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(first.body_mut()).poll_frame(&mut cx).is_pending());
    drop(second);
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    assert_eq!(polls(&mut first, 2), format!("{}.", "x".repeat(100)));
}

#[test]
fn an_attempt_that_never_asked_for_the_body_leaves_the_promise_to_the_next() {
    const LONG: &[u8] = &[b'x'; 100];
    let steps = [Step::Data(LONG), Step::Data(LONG), Step::Data(LONG)];
    let (mut first, _) = request(150, steps);
    let second = copy(150, &first).expect("it is whole");
    assert_eq!(poll(&mut first).len(), 100);
    assert!(can_replay(&second));
    let mut third = copy(150, &second).expect("it is whole");
    assert!(can_replay(&third));
    drop(second);
    assert_eq!(poll(&mut first).len(), 100);
    assert_eq!(poll(&mut first), "~");
    assert_eq!(polls(&mut third, 3).len(), 300);
}

#[derive(Default)]
struct Woken(AtomicU32);

impl std::task::Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

/// A body that never gets any further, and wakes nobody.
struct Stuck;

impl Body for Stuck {
    type Data = Bytes;
    type Error = &'static str;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, &'static str>>> {
        Poll::Pending
    }
}

#[test]
fn an_attempt_that_waits_for_the_body_hears_that_it_is_cut_off() {
    let first = ReplayBuffer::default().prepare(Request::new(Stuck));
    let second = Replay::<Request<Stuck>>::copy(&ReplayBuffer::default(), &first);
    let (mut first, mut second) = (first.into_body(), second.expect("whole").into_body());
    let woken = Arc::new(Woken::default());
    let waker = Waker::from(Arc::clone(&woken));
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(&mut first).poll_frame(&mut cx).is_pending());
    let mut quiet = Context::from_waker(Waker::noop());
    assert!(Pin::new(&mut second).poll_frame(&mut quiet).is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
    let polled = Pin::new(&mut first).poll_frame(&mut cx);
    let Poll::Ready(Some(Err(error))) = polled else {
        panic!("{polled:?}");
    };
    assert_eq!(
        error.to_string(),
        "the request's body cannot be sent: a later attempt sends the body now"
    );
}

/// The last to know a task, which has another attempt in it.
struct LastWaker(#[expect(dead_code, reason = "dropped with it")] Mutex<Option<Sent>>);

impl std::task::Wake for LastWaker {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn a_waker_is_dropped_outside_the_lock() {
    let (mut sent, _) = request(99, [Step::Wait, Step::Wait, Step::Data(b"a")]);
    let later = copy(99, &sent);
    let waker = Waker::from(Arc::new(LastWaker(Mutex::new(later))));
    let mut cx = Context::from_waker(&waker);
    assert!(Pin::new(sent.body_mut()).poll_frame(&mut cx).is_pending());
    drop(waker);
    assert_eq!(polls(&mut sent, 3), "~a.");
}

#[test]
fn a_body_that_failed_or_panicked_is_not_replayed() {
    let (mut first, _) = request(1_000, [Step::Data(b"a"), Step::Fail]);
    let mut second = copy(1_000, &first).expect("it is whole");
    assert_eq!(polls(&mut first, 3), "a!!");
    assert!(!can_replay(&second));
    assert_eq!(polls(&mut second, 2), "a!");

    let (mut first, _) = request(1_000, [Step::Data(b"a"), Step::Panic]);
    let second = copy(1_000, &first).expect("it is whole");
    assert_eq!(poll(&mut first), "a");
    assert!(catch_unwind(AssertUnwindSafe(|| poll(&mut first))).is_err());
    assert!(!can_replay(&second));
    assert_eq!(poll(&mut first), "!");
}

#[test]
fn endless_empty_pieces_do_not_pile_up() {
    let empty = std::iter::repeat_with(|| Step::Data(b"")).take(10_000);
    let (mut first, _) = request(6_400, empty);
    let second = copy(6_400, &first).expect("it is whole");
    for _ in 0..5_000 {
        poll(&mut first);
    }
    assert!(!can_replay(&second));
    assert!(first.body().lock().sent.pieces.is_empty());
}

#[tokio::test]
async fn a_known_size_stays_known_through_every_attempt() {
    let request = Request::new(Full::<Bytes>::from("four"));
    let first = ReplayBuffer::default().prepare(request);
    let second = Replay::<Request<Full<Bytes>>>::copy(&ReplayBuffer::default(), &first);
    let second = second.expect("it is whole").into_body();
    let mut first = first.into_body();
    assert_eq!(first.size_hint().exact(), Some(4));
    assert!(!first.is_end_stream());
    assert!(first.frame().await.is_some());
    assert_eq!(first.size_hint().exact(), Some(0));
    assert!(first.is_end_stream());
    assert_eq!(second.size_hint().exact(), Some(4));
    assert_eq!(second.collect().await.expect("whole").to_bytes(), "four");

    let empty = ReplayBuffer::default().prepare(Request::new(Full::<Bytes>::default()));
    assert!(empty.body().is_end_stream());
}

#[test]
fn it_is_send_and_sync_if_the_body_is_send() {
    fn check<T: Send + Sync + Unpin>() {}
    check::<ReplayBody<Full<Bytes>>>();
    check::<ReplayBody<http_body_util::combinators::UnsyncBoxBody<Bytes, BoxError>>>();
}

const TEXT: &[u8] = b"the quick brown fox jumps over the lazy dog and goes on";

proptest! {
    /// Random cuts, waits, and attempts that end after so many polls, some left alive: the last
    /// one gets every byte once.
    #[test]
    fn no_byte_is_lost_or_doubled(
        cuts in proptest::collection::vec(0..TEXT.len(), 0..12),
        waits in proptest::collection::vec(any::<bool>(), 16),
        attempts in proptest::collection::vec((0..16usize, any::<bool>(), 0..4usize), 0..5),
        bound in prop_oneof![Just(0usize), Just(300), Just(100_000)],
    ) {
        let mut cuts = cuts;
        cuts.extend([0, TEXT.len()]);
        cuts.sort_unstable();
        let mut steps = Vec::new();
        for (pair, wait) in cuts.windows(2).zip(waits.iter().cycle()) {
            if *wait {
                steps.push(Step::Wait);
            }
            steps.push(Step::Data(&TEXT[pair[0]..pair[1]]));
        }
        steps.push(Step::Trailers);
        let whole = format!("{}#.", std::str::from_utf8(TEXT).expect("it is text"));

        let (mut sent, _) = request(bound, steps);
        let mut alive = Vec::new();
        for (polled, stays, after) in attempts {
            let kept = copy(bound, &sent);
            let seen = polls(&mut sent, polled).replace('~', "");
            prop_assert!(whole.starts_with(seen.trim_end_matches('.')), "{seen}");
            let Some(kept) = kept else { break };
            if !can_replay(&kept) {
                break;
            }
            // The client may still be sending what it was given.
            polls(&mut sent, after);
            let old = std::mem::replace(&mut sent, kept);
            if stays {
                alive.push(old);
            }
        }
        let mut seen = String::new();
        let before = usize::try_from(sent.body().position).expect("small");
        for _ in 0..64 {
            for old in &mut alive {
                poll(old);
            }
            seen.push_str(&poll(&mut sent).replace('~', ""));
        }
        if before == 0 {
            prop_assert_eq!(seen.trim_end_matches('.'), whole.trim_end_matches('.'));
        } else {
            prop_assert!(whole.trim_end_matches('.').ends_with(seen.trim_end_matches('.')));
        }
    }
}
