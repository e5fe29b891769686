//! Those at work: lines as they are sent, and what ends them.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tower_relay::{
    outcome::Idempotency,
    policy::{
        RetryPolicy,
        pool::{KeyState, ScopeState},
    },
};

use super::{
    options::{Options, Order},
    problem::Problem,
    progress::{Books, Progress, TICK, span},
    send::{Fate, Sender, Task, Upstream},
    wire::Wire,
    writer::{Ended, Place, Writer},
};
use crate::{
    config::Config,
    signals::{Signals, Told},
    upstream::{HttpClient, Stack},
};

/// As long as quotas may need: callers of a gateway go away, a batch does not.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);
/// Lines that are read and not yet written, for each that may be in flight.
const WINDOW: usize = 4;
/// What these lines may have together, in KiB.
const WINDOW_KIB: usize = 256 << 10;

/// Those at work, and what they share.
pub(super) struct Crew {
    sender: Arc<Sender>,
    books: Arc<Books>,
    drain: watch::Sender<bool>,
    lines: JoinSet<(u64, Option<Fate>)>,
    in_flight: usize,
    progress: Progress,
    order: Order,
    patience: Duration,
    /// Why lines are left, with their numbers; the first few.
    reasons: Vec<String>,
    /// What has been said of scopes and keys, and still holds.
    troubles: BTreeSet<String>,
    problem: Option<Problem>,
}

type Placed = Result<(Task, Place), Problem>;

impl Crew {
    pub(super) fn new(config: &Config, options: &Options, books: Arc<Books>) -> Self {
        let in_flight = usize::from(options.in_flight);
        let retry = RetryPolicy::builder().max_elapsed(Duration::MAX).build();
        let retry = retry.expect("it has attempts and time");
        let upstreams = config.upstreams.iter().map(|config| {
            let mut config = config.clone();
            config.max_wait = MAX_WAIT;
            config.max_waiting = config.max_waiting.max(in_flight);
            // What a line says is asked until it is answered: at least once.
            let often = Idempotency::Idempotent;
            let wire = Wire {
                client: HttpClient::new(&config),
                books: Arc::clone(&books),
                timeout: options.timeout,
            };
            Upstream {
                stack: Stack::new(&config, wire, often, retry),
                profile: config.provider.profile(),
                config,
            }
        });
        let (drain, draining) = watch::channel(false);
        let sender = Sender {
            upstreams: upstreams.collect(),
            books: Arc::clone(&books),
            drain: draining,
            active: Semaphore::new(in_flight),
            timeout: options.timeout,
            class: options.class.clone(),
        };
        Self {
            sender: Arc::new(sender),
            drain,
            lines: JoinSet::new(),
            in_flight,
            progress: Progress::new(&books),
            books,
            order: options.order,
            patience: options.patience,
            reasons: Vec::new(),
            troubles: BTreeSet::new(),
            problem: None,
        }
    }

    /// Sends what comes, until all is done or left; what went wrong.
    pub(super) async fn work(
        &mut self,
        tasks: mpsc::Receiver<Result<Task, Problem>>,
        writer: &Writer,
        signals: &mut Signals,
    ) -> Option<Problem> {
        let mut failed = writer.failed.clone();
        let mut tick = tokio::time::interval(TICK);
        let mut placed = self.placed(tasks);
        let (mut is_fed, mut turn) = (true, 0);
        while is_fed || !self.lines.is_empty() {
            tokio::select! {
                biased;
                told = signals.next() => match told {
                    Told::Reload => {}
                    Told::End if self.is_draining() => return self.problem.take(),
                    Told::End => {
                        self.progress.say(
                            "stopping: what was sent is waited for, until the next signal; the \
                             same command goes on with the rest",
                        );
                        self.drain();
                    }
                },
                // The writer says itself what it was.
                _ = failed.wait_for(|failed| *failed) => return None,
                _ = tick.tick() => self.tick(),
                Some(ended) = self.lines.join_next() => match ended {
                    Ok((_, None)) => {}
                    Ok((line, Some(fate))) => self.ended(line, fate),
                    Err(error) => self.stop(format!("a line was dropped: {error}")),
                },
                task = placed.recv(), if is_fed && !self.is_draining() => match task {
                    Some(Ok((task, place))) => {
                        self.begin(turn, task, place, writer);
                        turn += 1;
                    }
                    Some(Err(problem)) => {
                        self.problem = Some(problem);
                        self.drain();
                    }
                    None => is_fed = false,
                },
            }
            is_fed &= !self.is_draining();
        }
        self.problem.take()
    }

    /// Drops what is still under way, if it is not waited for, and with it the ways to the writer;
    /// why lines are left.
    pub(super) fn disband(self) -> Vec<String> {
        self.progress.finish();
        self.reasons
    }

    /// The tasks, as there are places for them.
    fn placed(&self, mut tasks: mpsc::Receiver<Result<Task, Problem>>) -> mpsc::Receiver<Placed> {
        let window = Arc::new(Semaphore::new(WINDOW * self.in_flight));
        let bytes = Arc::new(Semaphore::new(WINDOW_KIB));
        let (sender, receiver) = mpsc::channel(1);
        tokio::spawn(async move {
            const OPEN: &str = "they are never closed";
            loop {
                let place = Arc::clone(&window).acquire_owned().await.expect(OPEN);
                let placed = match tasks.recv().await {
                    None => return,
                    Some(Err(problem)) => Err(problem),
                    Some(Ok(task)) => {
                        let kib = 1 + task.text.len() / 1_024;
                        let kib = kib.min(WINDOW_KIB) as u32;
                        let room = Arc::clone(&bytes).acquire_many_owned(kib).await;
                        Ok((task, [place, room.expect(OPEN)]))
                    }
                };
                if sender.send(placed).await.is_err() {
                    return;
                }
            }
        });
        receiver
    }

    fn begin(&mut self, turn: u64, task: Task, place: Place, writer: &Writer) {
        let (sender, ended) = (Arc::clone(&self.sender), writer.sender());
        self.lines.spawn(async move {
            let line = task.line;
            let fate = sender.settle(task).await;
            if let Fate::Written(written) = fate {
                // If the writer has gone, it has said so.
                let _ = ended.send(Ended {
                    turn,
                    line: written,
                    place,
                });
                return (line, None);
            }
            (line, Some(fate))
        });
    }

    fn ended(&mut self, line: u64, fate: Fate) {
        match fate {
            Fate::Written(_) => {}
            Fate::Left(reason) => {
                if let Some(reason) = reason {
                    self.note(line, &reason);
                }
                // Nothing behind it could be written.
                if self.order == Order::Input && !self.is_draining() {
                    self.progress.say(&format!(
                        "stopping: with --order input nothing can be written behind line {line}, \
                         which fails"
                    ));
                    self.drain();
                }
            }
            Fate::Stop(reason) => self.stop(reason),
        }
    }

    fn note(&mut self, line: u64, reason: &str) {
        if self.reasons.len() < MOST_REASONS {
            self.reasons.push(format!("line {line}: {reason}"));
        }
    }

    fn tick(&mut self) {
        let waiting = self
            .sender
            .upstreams
            .iter()
            .map(|upstream| upstream.stack.keys().snapshot().waiting());
        self.progress.tick(&self.books, waiting.sum());
        let troubles = self.troubles();
        for trouble in troubles.difference(&self.troubles) {
            self.progress.say(trouble);
        }
        self.troubles = troubles;
        let failing = self.books.failing();
        if let (Some((_, cause)), false) = (
            failing.filter(|(time, _)| *time > self.patience),
            self.is_draining(),
        ) {
            let patience = span(self.patience);
            self.progress.say(&format!(
                "stopping: nothing has succeeded for {patience} (--patience): {cause}; the same \
                 command goes on"
            ));
            self.drain();
        }
    }

    /// Which scopes and keys are out for long, so that nobody wonders what is waited for.
    fn troubles(&self) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for upstream in &self.sender.upstreams {
            for scope in upstream.stack.keys().scopes() {
                let name = scope.name();
                match scope.state() {
                    ScopeState::Exhausted(_) | ScopeState::Probing => found.insert(format!(
                        "scope {name} has no credit left; others serve, or it is waited for"
                    )),
                    ScopeState::Region => {
                        found.insert(format!("scope {name} is refused for its region"))
                    }
                    _ => false,
                };
                let rejected = scope.keys().iter();
                let rejected = rejected.filter(|key| matches!(key.state(), KeyState::Rejected(_)));
                found.extend(rejected.map(|key| {
                    format!(
                        "key {} of scope {name} was rejected by the provider",
                        key.alias()
                    )
                }));
            }
        }
        found
    }

    fn stop(&mut self, reason: String) {
        if self.problem.is_none() {
            self.problem = Some(Problem::failed(reason));
        }
        self.drain();
    }

    fn drain(&self) {
        self.drain.send_replace(true);
    }

    fn is_draining(&self) -> bool {
        *self.drain.borrow()
    }
}

/// So many reasons are told at the end.
const MOST_REASONS: usize = 3;
