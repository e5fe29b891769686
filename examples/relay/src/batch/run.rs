//! From the command line to the end.

use std::{fs::File, io::BufReader, mem, path::Path, sync::Arc, thread, time::Duration};

use embedded_provider::Provider as Embedded;
use tokio::{
    sync::{Semaphore, mpsc, watch},
    task::JoinSet,
};
use tower_relay::{
    error::BoxError,
    outcome::Idempotency,
    policy::{
        RetryPolicy,
        pool::{KeyState, ScopeState},
    },
};

use super::{
    generate::generate,
    input::{Checked, Copied, Input},
    lines::Lines,
    options::{Options, Order},
    problem::Problem,
    progress::{Books, Progress, TICK, counted, span},
    request::{Form, Item},
    send::{Fate, Sender, Task, Upstream, find},
    store::{Done, Files, Lock, State, Store},
    summary::Summary,
    wire::Wire,
    writer::{Ended, Place, Writer},
};
use crate::{
    complain,
    config::Config,
    signals::{Signals, Told},
    upstream::{Stack, client, pretend},
};

/// So many times faster runs the clock of the pretend provider, so that nobody waits long for
/// answers that are made up.
const PRETEND_SCALE: u32 = 10;
/// As long as quotas may need: callers of a gateway go away, a batch does not.
const MAX_WAIT: Duration = Duration::from_secs(24 * 3600);
/// Lines that are read and not yet written, for each that may be in flight.
const WINDOW: usize = 4;
/// What these lines may have together, in KiB.
const WINDOW_KIB: usize = 256 << 10;

/// Runs it; the exit code.
pub(crate) async fn run(options: Options) -> Result<u8, BoxError> {
    if let Some(count) = options.generate {
        generate(count)?;
        return Ok(0);
    }
    let (Some(input), Some(output)) = (&options.input, &options.output) else {
        unreachable!("clap asks for both");
    };
    let config = options.config.as_ref().map(|path| Config::load(path));
    let config = config.transpose();
    let config = config.map_err(|problem| Problem::wrong(problem.to_string()))?;
    let (provider, config) = match config {
        Some(config) => (None, config),
        None => {
            let (provider, config) = pretend::start(PRETEND_SCALE).await?;
            complain(&format!(
                "no --config: answers are made up by a pretend provider, which enforces quotas on \
                 a clock {PRETEND_SCALE} times faster"
            ));
            (Some(provider), config)
        }
    };

    let files = Files::of(output);
    let is_stdin = input.as_os_str() == "-";
    if !is_stdin && is_same(input, &files) {
        let problem = format!("{} is the input and would be written", input.display());
        return Err(Problem::wrong(problem).into());
    }
    let mut lock = Lock::take(files)?;
    let copied = is_stdin.then(|| Copied::stdin(&lock.files().stdin));
    let copied = copied.transpose()?;
    let mut input = Input {
        file: match &copied {
            Some(copied) => copied.file.clone(),
            None => input.clone(),
        },
        name: match is_stdin {
            true => "standard input".to_owned(),
            false => input.display().to_string(),
        },
        form: match &options.path {
            Some(path) => Form::Bodies(path.clone()),
            None => Form::Batch,
        },
    };
    if let Some(size) = large(&input.file) {
        complain(&format!("{}: checking {size} MiB", input.name));
    }
    let checked = check(&input, &config)?;
    let state = State::new(
        checked.digest.clone(),
        (checked.lines, checked.requests),
        options.path.as_ref().map(ToString::to_string),
        options.order,
        provider.is_some(),
    );
    let store = lock.open(&state)?;
    if let Some(copied) = copied {
        input.file = copied.keep()?;
    }
    let batch = Batch {
        input,
        checked,
        options,
        config,
        provider,
    };
    batch.run(store, lock.files()).await
}

/// Its size in MiB, if reading it takes so long that one would wonder.
fn large(file: &Path) -> Option<u64> {
    let bytes = std::fs::metadata(file).map_or(0, |found| found.len());
    (bytes >= LARGE).then_some(bytes >> 20)
}

const LARGE: u64 = 256 << 20;

fn check(input: &Input, config: &Config) -> Result<Checked, Problem> {
    input.check(|item: &Item| {
        let path = item.path.path();
        match find(config.upstreams.iter(), path) {
            Some(_) => Ok(()),
            None => {
                let names: Vec<_> = config.upstreams.iter().map(serves).collect();
                Err(format!(
                    "is for {path}, which no upstream serves; {}",
                    names.join("; ")
                ))
            }
        }
    })
}

fn serves(upstream: &crate::config::Upstream) -> String {
    let paths: Vec<_> = upstream.paths.iter().map(ToString::to_string).collect();
    format!("`{}` serves {}", upstream.name, paths.join(", "))
}

/// Whether the input is one of the files to be written.
fn is_same(input: &Path, files: &Files) -> bool {
    let Ok(input) = input.canonicalize() else {
        return false;
    };
    let written = [&files.output, &files.dead, &files.state];
    let mut written = written
        .into_iter()
        .filter_map(|file| file.canonicalize().ok());
    written.any(|file| file == input)
}

/// A batch that is right.
struct Batch {
    input: Input,
    checked: Checked,
    options: Options,
    config: Config,
    provider: Option<Embedded>,
}

impl Batch {
    async fn run(self, mut store: Store, files: &Files) -> Result<u8, BoxError> {
        let mut signals = Signals::new()?;
        for log in [Some(&store.output), store.dead.as_ref()]
            .into_iter()
            .flatten()
        {
            if let Some(cut) = log.cut() {
                complain(&cut);
            }
        }
        let requests = self.checked.requests;
        let books = Books::new(requests, store.answered_before, store.dead_before);
        let books = Arc::new(books);
        let left = requests.saturating_sub(books.done());
        complain(&opening(&self.input.name, requests, left));
        let done = mem::take(&mut store.done);
        let writer = Writer::start(store, self.options.order, Arc::clone(&books));
        let mut crew = Crew::new(&self, Arc::clone(&books));
        let problem = match left {
            0 => None,
            _ => crew.work(self.reader(done), &writer, &mut signals).await,
        };
        crew.progress.finish();
        let reasons = mem::take(&mut crew.reasons);
        // With it go the calls that are still in flight, if they are not waited for, and their
        // ways to the writer.
        drop(crew);
        let problem = writer.finish().err().or(problem);

        let summary = Summary::new(&books, files, reasons, problem.as_ref());
        if summary.left == 0 {
            let _ = std::fs::remove_file(&files.stdin);
        }
        summary.print(self.options.json, self.provider.as_ref(), &self.config)?;
        match problem {
            Some(problem) => Err(problem.into()),
            None => Ok(summary.exit_code),
        }
    }

    /// A thread that reads what is not done yet.
    fn reader(&self, done: Done) -> mpsc::Receiver<Result<Task, Problem>> {
        let (sender, receiver) = mpsc::channel(8);
        let (input, digest) = (self.input.clone(), self.checked.digest.clone());
        thread::spawn(move || {
            let result = input
                .open()
                .and_then(|lines| read(&input, lines, &done, &digest, &sender));
            if let Err(problem) = result {
                // Whoever has gone wants to know nothing more.
                let _ = sender.blocking_send(Err(problem.on_the_way()));
            }
        });
        receiver
    }
}

fn read(
    input: &Input,
    mut lines: Lines<BufReader<File>>,
    done: &Done,
    digest: &str,
    sender: &mpsc::Sender<Result<Task, Problem>>,
) -> Result<(), Problem> {
    let mut text = Vec::new();
    while let Some(item) = input.next(&mut lines, &mut text)? {
        let line = lines.number();
        if done.has(line) {
            continue;
        }
        let text = String::from_utf8_lossy(&text).trim_ascii().to_owned();
        if sender.blocking_send(Ok(Task { line, item, text })).is_err() {
            return Ok(());
        }
    }
    match lines.digest() == digest {
        true => Ok(()),
        false => Err(Problem::failed(format!(
            "{} was changed while it was read; what is written belongs to what it was",
            input.name
        ))),
    }
}

fn opening(input: &str, requests: u64, left: u64) -> String {
    match (requests, requests - left) {
        (0, _) => format!("{input} has no requests"),
        (_, 0) => format!("{input}: {} requests, all right", counted(requests)),
        (_, done) => format!(
            "{input}: {} requests, of which {} are done; going on with {}",
            counted(requests),
            counted(done),
            counted(left)
        ),
    }
}

/// Those at work, and what they share.
struct Crew {
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
    fn new(batch: &Batch, books: Arc<Books>) -> Self {
        let options = &batch.options;
        let in_flight = usize::from(options.in_flight);
        let wire = Wire {
            client: client(),
            books: Arc::clone(&books),
            timeout: options.timeout,
        };
        let retry = RetryPolicy::builder().max_elapsed(Duration::MAX).build();
        let retry = retry.expect("it has attempts and time");
        let upstreams = batch.config.upstreams.iter().map(|config| {
            let mut config = config.clone();
            config.max_wait = MAX_WAIT;
            config.max_waiting = config.max_waiting.max(in_flight);
            // What a line says is asked until it is answered: at least once.
            let often = Idempotency::Idempotent;
            Upstream {
                stack: Stack::new(&config, wire.clone(), often, retry),
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
    async fn work(
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
        let waiting = self.sender.upstreams.iter().map(|upstream| {
            upstream.stack.keys().snapshot().waiting()
        });
        self.progress.tick(&self.books, waiting.sum());
        let troubles = self.troubles();
        for trouble in troubles.difference(&self.troubles) {
            self.progress.say(trouble);
        }
        self.troubles = troubles;
        let is_hopeless = self
            .books
            .failing()
            .is_some_and(|failing| failing > self.patience);
        if is_hopeless && !self.is_draining() {
            let span = span(self.patience);
            self.progress.say(&format!(
                "stopping: nothing has succeeded for {span} (--patience); the same command goes on"
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
