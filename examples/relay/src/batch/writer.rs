//! The thread that writes, so that no call waits for a disk.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use tokio::sync::{OwnedSemaphorePermit, watch};

use super::{
    options::Order,
    problem::Problem,
    progress::Books,
    store::{Log, Store},
};

/// How much of what was done a power cut may undo.
const SYNC: Duration = Duration::from_secs(5);

/// What became of a request.
#[derive(Debug)]
pub(super) struct Ended {
    /// Which of those begun in this run it is, from 0.
    pub(super) turn: u64,
    pub(super) line: Written,
    /// Its place among those begun and not written, given back when it is.
    pub(super) place: Place,
}

/// Of the lines in memory.
pub(super) type Place = [OwnedSemaphorePermit; 2];

/// The line for it.
#[derive(Debug)]
pub(super) enum Written {
    Answer(String),
    Dead(String),
}

/// The way to the thread.
#[derive(Debug)]
pub(super) struct Writer {
    ended: mpsc::Sender<Ended>,
    thread: JoinHandle<Result<(), Problem>>,
    /// Set when it cannot go on.
    pub(super) failed: watch::Receiver<bool>,
}

impl Writer {
    pub(super) fn start(store: Store, order: Order, books: Arc<Books>) -> Self {
        let (ended, receiver) = mpsc::channel();
        let (failure, failed) = watch::channel(false);
        let mut pen = Pen {
            store,
            books,
            order,
            early: BTreeMap::new(),
            next: 0,
        };
        let thread = thread::spawn(move || {
            let result = pen.write_all(&receiver);
            if result.is_err() {
                failure.send_replace(true);
            }
            result
        });
        Self {
            ended,
            thread,
            failed,
        }
    }

    pub(super) fn sender(&self) -> mpsc::Sender<Ended> {
        self.ended.clone()
    }

    /// Waits until all that was sent is written and on the disk.
    pub(super) fn finish(self) -> Result<(), Problem> {
        drop(self.ended);
        let panicked = |_| Problem::failed("the thread that writes panicked".to_owned());
        self.thread.join().map_err(panicked)?
    }
}

struct Pen {
    store: Store,
    books: Arc<Books>,
    order: Order,
    /// Those that came before their turn.
    early: BTreeMap<u64, Ended>,
    next: u64,
}

impl Pen {
    fn write_all(&mut self, ended: &mpsc::Receiver<Ended>) -> Result<(), Problem> {
        let mut synced = Instant::now();
        loop {
            let wait = SYNC.saturating_sub(synced.elapsed());
            match ended.recv_timeout(wait) {
                Ok(ended) => self.take(ended)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.sync(),
            }
            if synced.elapsed() >= SYNC {
                self.sync()?;
                synced = Instant::now();
            }
        }
    }

    fn take(&mut self, ended: Ended) -> Result<(), Problem> {
        if self.order == Order::Finished {
            return self.write(ended);
        }
        self.early.insert(ended.turn, ended);
        while let Some(ended) = self.early.remove(&self.next) {
            self.write(ended)?;
            self.next += 1;
        }
        Ok(())
    }

    fn write(&mut self, ended: Ended) -> Result<(), Problem> {
        match &ended.line {
            Written::Answer(line) => {
                self.store.output.add(line.as_bytes())?;
                self.books.answered();
            }
            Written::Dead(line) => {
                let dead = match &mut self.store.dead {
                    Some(dead) => dead,
                    none => none.insert(Log::create(&self.store.dead_path)?),
                };
                dead.add(line.as_bytes())?;
                self.books.dead();
            }
        }
        drop(ended.place);
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Problem> {
        self.store.output.sync()?;
        match &mut self.store.dead {
            Some(dead) => dead.sync(),
            None => Ok(()),
        }
    }
}
