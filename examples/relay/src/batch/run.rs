//! From the command line to the end.

use std::{fs::File, io::BufReader, mem, path::Path, sync::Arc, thread};

use embedded_provider::Provider as Embedded;
use tokio::sync::mpsc;
use tower_relay::error::BoxError;

use super::{
    crew::Crew,
    generate::generate,
    input::{Checked, Copied, Input},
    lines::Lines,
    options::Options,
    problem::Problem,
    progress::{Books, counted},
    request::{Form, Item},
    send::{Task, find},
    store::{Done, Files, Lock, State, Store},
    summary::Summary,
    writer::Writer,
};
use crate::{complain, config::Config, signals::Signals, upstream::pretend};

/// So many times faster runs the clock of the pretend provider, so that nobody waits long for
/// answers that are made up.
const PRETEND_SCALE: u32 = 10;
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
    if provider.is_some() {
        complain(&format!(
            "no --config: answers are made up by a pretend provider, which enforces quotas on a \
             clock {PRETEND_SCALE} times faster"
        ));
    }
    if let Some(copied) = copied {
        input.file = copied.keep()?;
    }
    let batch = Batch {
        is_stdin,
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
    is_stdin: bool,
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
        let mut crew = Crew::new(&self.config, &self.options, Arc::clone(&books));
        let problem = match left {
            0 => None,
            _ => crew.work(self.reader(done), &writer, &mut signals).await,
        };
        let reasons = crew.disband();
        let problem = writer.finish().err().or(problem);

        let summary = Summary::new(&books, files, reasons, problem.as_ref());
        if summary.left == 0 && self.is_stdin {
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
        (_, done) if left == 0 => format!(
            "{input}: {} requests, of which all are done; nothing is left to do",
            counted(done)
        ),
        (_, done) => format!(
            "{input}: {} requests, of which {} are done; going on with {}",
            counted(requests),
            counted(done),
            counted(left)
        ),
    }
}
