//! What is counted, and how it is shown while it goes on.

use std::{
    collections::VecDeque,
    fmt::Write as _,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use indicatif::{ProgressBar, ProgressStyle};

use crate::complain;

/// What this run has done, and what those before it.
#[derive(Debug)]
pub(super) struct Books {
    pub(super) started: Instant,
    pub(super) requests: u64,
    pub(super) answered_before: u64,
    pub(super) dead_before: u64,
    answered: AtomicU64,
    dead: AtomicU64,
    calls: AtomicU64,
    again: AtomicU64,
    refused: AtomicU64,
    failed: AtomicU64,
    input_tokens: AtomicU64,
    output_tokens: AtomicU64,
    mood: Mutex<Mood>,
}

/// How it goes with the provider.
#[derive(Debug, Default)]
struct Mood {
    last_success: Option<Instant>,
    /// Since when nothing has succeeded and something has failed, and when and why that was last.
    failing: Option<Instant>,
    last_failure: Option<(Instant, String)>,
    /// What failed last, until it is told.
    news: Option<String>,
}

/// The counts at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Counts {
    pub(super) answered: u64,
    pub(super) dead: u64,
    pub(super) calls: u64,
    pub(super) again: u64,
    pub(super) refused: u64,
    pub(super) failed: u64,
    pub(super) input_tokens: u64,
    pub(super) output_tokens: u64,
}

impl Books {
    pub(super) fn new(requests: u64, answered_before: u64, dead_before: u64) -> Self {
        Self {
            started: Instant::now(),
            requests,
            answered_before,
            dead_before,
            answered: AtomicU64::new(0),
            dead: AtomicU64::new(0),
            calls: AtomicU64::new(0),
            again: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            input_tokens: AtomicU64::new(0),
            output_tokens: AtomicU64::new(0),
            mood: Mutex::default(),
        }
    }

    /// A line is in the output.
    pub(super) fn answered(&self) {
        self.answered.fetch_add(1, Relaxed);
    }

    /// A line is among the dead letters.
    pub(super) fn dead(&self) {
        self.dead.fetch_add(1, Relaxed);
    }

    /// A call is sent, the first of its line or another.
    pub(super) fn sent(&self, is_first: bool) {
        self.calls.fetch_add(1, Relaxed);
        if !is_first {
            self.again.fetch_add(1, Relaxed);
        }
    }

    /// The provider said 429.
    pub(super) fn refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }

    /// A call brought no answer for another reason.
    pub(super) fn failed(&self, cause: String) {
        self.failed.fetch_add(1, Relaxed);
        self.mood().fail(cause);
    }

    /// The provider has answered, or said that it never will.
    pub(super) fn succeeded(&self, input_tokens: u64, output_tokens: u64) {
        self.input_tokens.fetch_add(input_tokens, Relaxed);
        self.output_tokens.fetch_add(output_tokens, Relaxed);
        let mut mood = self.mood();
        mood.last_success = Some(Instant::now());
        mood.failing = None;
    }

    /// All tries of the layers with a line have failed; `since` is when it failed first. Whether
    /// others have succeeded since.
    pub(super) fn gave_up(&self, line: u64, reason: &str, since: Instant) -> bool {
        let mut mood = self.mood();
        mood.fail(reason.to_owned());
        mood.news = Some(format!("line {line}: {reason}"));
        mood.last_success.is_some_and(|last| last > since)
    }

    /// For how long nothing has succeeded while calls failed, and why they did. Waiting for a
    /// quota is no failure, however long it takes.
    pub(super) fn failing(&self) -> Option<(Duration, String)> {
        let mood = self.mood();
        let (at, cause) = mood.last_failure.as_ref()?;
        let since = mood.failing.filter(|_| at.elapsed() < RECENTLY)?;
        Some((since.elapsed(), cause.clone()))
    }

    fn news(&self) -> Option<String> {
        self.mood().news.take()
    }

    fn mood(&self) -> MutexGuard<'_, Mood> {
        self.mood.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many requests need nothing more, by this run and those before.
    pub(super) fn done(&self) -> u64 {
        let now = self.answered.load(Relaxed) + self.dead.load(Relaxed);
        now + self.answered_before + self.dead_before
    }

    pub(super) fn counts(&self) -> Counts {
        let read = |count: &AtomicU64| count.load(Relaxed);
        Counts {
            answered: read(&self.answered),
            dead: read(&self.dead),
            calls: read(&self.calls),
            again: read(&self.again),
            refused: read(&self.refused),
            failed: read(&self.failed),
            input_tokens: read(&self.input_tokens),
            output_tokens: read(&self.output_tokens),
        }
    }
}

impl Mood {
    fn fail(&mut self, cause: String) {
        let now = Instant::now();
        self.failing.get_or_insert(now);
        self.last_failure = Some((now, cause));
    }
}

/// Longer than breakers keep calls away.
const RECENTLY: Duration = Duration::from_secs(15 * 60);
/// After how long without a success it is said why.
const WORTH_SAYING: Duration = Duration::from_secs(3);
/// How often a bar is drawn.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// How often there is a line where there is no terminal.
const LINE: Duration = Duration::from_secs(10);
/// How often is said what fails.
const NEWS: Duration = Duration::from_secs(30);
/// Over how long the rate is taken.
const MEMORY: Duration = Duration::from_secs(30);

/// A bar on a terminal, a line from time to time elsewhere.
#[derive(Debug)]
pub(super) struct Progress {
    bar: ProgressBar,
    recent: VecDeque<(Instant, u64)>,
    line: Instant,
    news: Option<Instant>,
}

impl Progress {
    pub(super) fn new(books: &Books) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} {msg}")
            .expect("the template is right");
        let bar = ProgressBar::new(books.requests).with_style(style);
        bar.set_position(books.done());
        Self {
            bar,
            recent: VecDeque::new(),
            line: Instant::now(),
            news: None,
        }
    }

    /// A line above the bar.
    pub(super) fn say(&self, line: &str) {
        self.bar.suspend(|| complain(line));
    }

    /// Shows how far it is; `waiting` calls wait for a quota.
    pub(super) fn tick(&mut self, books: &Books, waiting: usize) {
        let (now, done) = (Instant::now(), books.done());
        self.recent.push_back((now, done));
        while self
            .recent
            .front()
            .is_some_and(|(then, _)| now.duration_since(*then) > MEMORY)
        {
            self.recent.pop_front();
        }
        let is_news_due = self
            .news
            .is_none_or(|told| now.duration_since(told) >= NEWS);
        if is_news_due {
            let failing = books.failing().filter(|(time, _)| *time >= WORTH_SAYING);
            let news = match (failing, books.news()) {
                (Some((time, cause)), _) => {
                    Some(format!("nothing has succeeded for {}: {cause}", span(time)))
                }
                (None, news) => news,
            };
            if let Some(news) = news {
                self.say(&format!("{news}; it is tried again"));
                self.news = Some(now);
            }
        }
        let shown = self.shown(books, done, waiting);
        if !self.bar.is_hidden() {
            self.bar.set_position(done);
            self.bar.set_message(shown);
        } else if now.duration_since(self.line) >= LINE {
            self.line = now;
            let all = counted(books.requests);
            complain(&format!("{} of {all} done, {shown}", counted(done)));
        }
    }

    fn shown(&self, books: &Books, done: u64, waiting: usize) -> String {
        let counts = books.counts();
        let rate = self.rate();
        let mut text = format!("{rate:.1}/s");
        if rate > 0.0 {
            let left = books.requests.saturating_sub(done) as f64 / rate;
            let _ = write!(text, ", {} left", span(Duration::from_secs_f64(left)));
        }
        let (input, output) = (counts.input_tokens, counts.output_tokens);
        let _ = write!(text, ", tokens {} in {} out", short(input), short(output));
        let _ = write!(text, ", {} refused", counted(counts.refused));
        for (count, what) in [
            (counts.again, "sent again"),
            (counts.dead, "dead"),
            (waiting as u64, "waiting"),
        ] {
            if count > 0 {
                let _ = write!(text, ", {} {what}", counted(count));
            }
        }
        text
    }

    /// Requests done per second, lately.
    fn rate(&self) -> f64 {
        let (Some((then, before)), Some((now, done))) = (self.recent.front(), self.recent.back())
        else {
            return 0.0;
        };
        let seconds = now.duration_since(*then).as_secs_f64();
        match seconds > 0.0 {
            true => (done - before) as f64 / seconds,
            false => 0.0,
        }
    }

    /// Takes the bar away.
    pub(super) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}

/// In whole seconds, as a person says it: 1m 5s.
pub(super) fn span(span: Duration) -> String {
    humantime::format_duration(Duration::from_secs(span.as_secs_f64().ceil() as u64)).to_string()
}

/// A number with commas: 1,200.
pub(super) fn counted(number: u64) -> String {
    crate::demo::counted(number)
}

/// A large number in three digits or so: 12.3k, 4.56M.
fn short(number: u64) -> String {
    match number {
        0..10_000 => counted(number),
        10_000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        _ => format!("{:.2}M", number as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_spans_are_short() {
        assert_eq!(short(9_999), "9,999");
        assert_eq!(short(12_345), "12.3k");
        assert_eq!(short(12_345_678), "12.35M");
        assert_eq!(span(Duration::from_millis(64_200)), "1m 5s");
        assert_eq!(span(Duration::ZERO), "0s");
    }

    #[test]
    fn a_line_that_fails_while_others_succeed_is_told_from_an_outage() {
        let books = Books::new(2, 0, 0);
        let since = Instant::now();
        assert!(!books.gave_up(1, "no", since));
        assert!(books.failing().is_some());
        books.succeeded(1, 1);
        assert!(books.failing().is_none());
        assert!(books.gave_up(1, "no", since));
        assert!(!books.gave_up(2, "no", Instant::now()));
    }
}
