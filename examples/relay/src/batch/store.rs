//! The files of a run: what is there from a run before, and what is added.
//!
//! | file | holds |
//! |---|---|
//! | `OUT` | a line for each request answered |
//! | `OUT.dead` | a line for each that can never be; there is none without one |
//! | `OUT.state` | which input they belong to; locked while a run writes them |
//! | `OUT.stdin` | the input, if it was standard input; removed when all is done |

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, BufReader, Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use super::{
    lines::{Line, Lines},
    options::Order,
    problem::Problem,
    record,
};

/// Longer lines are not of this program: answers are bounded, and so are requests.
const LONGEST_RECORD: usize = 256 << 20;

/// `path` with `ending` behind its name.
pub(super) fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(ending);
    path.into()
}

/// What a run may not change of the one that it goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    /// Of this file.
    version: u32,
    /// SHA-256.
    input: String,
    lines: u64,
    requests: u64,
    /// Where bodies alone go; `None` of OpenAI's batch format.
    path: Option<String>,
    order: Order,
    /// Whether the answers are made up.
    is_pretended: bool,
}

const VERSION: u32 = 1;

impl State {
    pub(super) const fn new(
        input: String,
        (lines, requests): (u64, u64),
        path: Option<String>,
        order: Order,
        is_pretended: bool,
    ) -> Self {
        Self {
            version: VERSION,
            input,
            lines,
            requests,
            path,
            order,
            is_pretended,
        }
    }

    /// Why a run of this state cannot go on with what `before` has begun.
    fn differs(&self, before: &Self) -> Option<String> {
        let path = |state: &Self| match &state.path {
            Some(path) => format!("--path {path}"),
            None => "no --path".to_owned(),
        };
        let (of, what) = if before.version != self.version {
            ("is of another version of this program", String::new())
        } else if before.input != self.input {
            let (was, is) = (before.requests, self.requests);
            (
                "is of another input, or the input was changed since",
                format!(": {was} requests then, {is} now"),
            )
        } else if before.path != self.path {
            ("was begun with ", path(before))
        } else if before.order != self.order {
            ("was begun with --order ", before.order.to_string())
        } else if before.is_pretended != self.is_pretended {
            let with = match before.is_pretended {
                true => "out --config, by the pretend provider",
                false => " --config",
            };
            ("was begun with", with.to_owned())
        } else {
            return None;
        };
        Some(format!("{of}{what}"))
    }
}

/// The files beside an output, by the output's name.
#[derive(Clone, Debug)]
pub(super) struct Files {
    pub(super) output: PathBuf,
    pub(super) dead: PathBuf,
    pub(super) state: PathBuf,
    pub(super) stdin: PathBuf,
}

impl Files {
    pub(super) fn of(output: &Path) -> Self {
        Self {
            dead: beside(output, ".dead"),
            state: beside(output, ".state"),
            stdin: beside(output, ".stdin"),
            output: output.to_owned(),
        }
    }

    /// How to begin anew.
    fn anew(&self) -> String {
        format!(
            "to begin anew name another --output, or remove {} with its .state and .dead",
            self.output.display()
        )
    }
}

/// The files of a run, which nobody else writes while this lives.
#[derive(Debug)]
pub(super) struct Lock {
    files: Files,
    state: File,
    /// Whether there was no run before this one; without one that begins, nothing stays.
    is_new: bool,
}

impl Lock {
    pub(super) fn take(files: Files) -> Result<Self, Problem> {
        let failed = |file: &Path, error: &io::Error| {
            Problem::wrong(format!("{} cannot be written: {error}", file.display()))
        };
        if fs::metadata(&files.output).is_ok_and(|found| !found.is_file()) {
            return Err(Problem::wrong(format!(
                "{} is no regular file; a run that was cut goes on from its output, so it has \
                     to be one",
                files.output.display()
            )));
        }
        let state = loop {
            let state = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&files.state)
                .map_err(|error| failed(&files.state, &error))?;
            match state.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    return Err(Problem::wrong(format!(
                        "another run writes {}; wait for it, or name another --output",
                        files.output.display()
                    )));
                }
                Err(TryLockError::Error(error)) => return Err(failed(&files.state, &error)),
            }
            // A run that found its input wrong may have removed it meanwhile.
            if is_at(&state, &files.state) {
                break state;
            }
        };
        let is_new = state
            .metadata()
            .map_err(|error| failed(&files.state, &error))?
            .len()
            == 0;
        Ok(Self {
            files,
            state,
            is_new,
        })
    }

    pub(super) const fn files(&self) -> &Files {
        &self.files
    }

    /// What of `state` is done already, and the files to go on with.
    pub(super) fn open(&mut self, state: &State) -> Result<Store, Problem> {
        let files = &self.files;
        let failed =
            |error: io::Error| Problem::failed(format!("{}: {error}", files.state.display()));
        let mut before = String::new();
        self.state.read_to_string(&mut before).map_err(failed)?;
        match serde_json::from_str::<State>(&before) {
            Ok(before) => {
                if let Some(difference) = state.differs(&before) {
                    return Err(Problem::wrong(format!(
                        "{} {difference}; go on as it was begun, or {}",
                        files.output.display(),
                        files.anew()
                    )));
                }
            }
            Err(_) => {
                // The first thing that a run writes, so that a kill may have cut it.
                for file in [&files.output, &files.dead] {
                    if fs::metadata(file).is_ok_and(|found| found.len() > 0) {
                        return Err(Problem::wrong(format!(
                            "{} is there and was not begun by a batch, or its .state is lost; {}",
                            file.display(),
                            files.anew()
                        )));
                    }
                }
                let text = serde_json::to_string(state).expect("it is plain") + "\n";
                let written = self.state.set_len(0).and_then(|()| {
                    self.state.rewind()?;
                    self.state.write_all(text.as_bytes())?;
                    self.state.sync_all()
                });
                written.map_err(failed)?;
            }
        }
        self.is_new = false;
        let mut done = Done::new(state.lines);
        let output = Log::open(&files.output, &mut done)?;
        let answered = done.count;
        let dead = match files.dead.exists() {
            true => Some(Log::open(&files.dead, &mut done)?),
            false => None,
        };
        sync_folder(&files.output);
        Ok(Store {
            dead_path: files.dead.clone(),
            dead_before: done.count - answered,
            answered_before: answered,
            output,
            dead,
            done,
        })
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        if self.is_new {
            // Nothing was begun, so nothing is left to be wondered at.
            let _ = fs::remove_file(&self.files.state);
        }
    }
}

#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(open), Ok(named)) => (open.dev(), open.ino()) == (named.dev(), named.ino()),
        _ => false,
    }
}

#[cfg(not(unix))]
fn is_at(_: &File, _: &Path) -> bool {
    true
}

/// So that the names of new files outlast a power cut too.
fn sync_folder(file: &Path) {
    let folder = match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    // Where folders cannot be opened there is nothing to be done.
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Which lines of the input are done: a bit for each.
#[derive(Debug, Default)]
pub(super) struct Done {
    bits: Vec<u64>,
    lines: u64,
    pub(super) count: u64,
}

impl Done {
    fn new(lines: u64) -> Self {
        let words = lines / 64 + 1;
        Self {
            bits: vec![0; words as usize],
            lines,
            count: 0,
        }
    }

    pub(super) fn has(&self, line: u64) -> bool {
        let word = self.bits.get((line / 64) as usize);
        word.is_some_and(|word| word >> (line % 64) & 1 == 1)
    }

    /// Whether it is a line and was not done before.
    fn add(&mut self, line: u64) -> Result<(), &'static str> {
        if line == 0 || line > self.lines {
            return Err("answers a line that the input has not");
        }
        if self.has(line) {
            return Err("answers a line that is answered already");
        }
        self.bits[(line / 64) as usize] |= 1 << (line % 64);
        self.count += 1;
        Ok(())
    }
}

/// What is there, to be added to.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) output: Log,
    pub(super) dead: Option<Log>,
    pub(super) dead_path: PathBuf,
    pub(super) answered_before: u64,
    pub(super) dead_before: u64,
    pub(super) done: Done,
}

/// A file to whose end whole lines are added.
#[derive(Debug)]
pub(super) struct Log {
    path: PathBuf,
    file: File,
    /// Up to which byte it holds whole lines.
    length: u64,
    is_synced: bool,
    /// Bytes of a line that a kill has cut, which were removed.
    torn: u64,
}

impl Log {
    /// An empty one where there is none, or what a run before has left: its lines are added to
    /// `done`, and what is behind the last whole one is cut off.
    fn open(path: &Path, done: &mut Done) -> Result<Self, Problem> {
        let failed = |error: io::Error| Problem::failed(format!("{}: {error}", path.display()));
        let file = OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)
            .map_err(failed)?;
        let mut lines = Lines::new(BufReader::with_capacity(256 << 10, &file), LONGEST_RECORD);
        let (mut line, mut length, mut bad) = (Vec::new(), 0, None);
        loop {
            let read = lines.next(&mut line).map_err(failed)?;
            if read == Line::None {
                break;
            }
            let number = lines.number();
            let broken = |number: u64, what: &str| {
                Problem::wrong(format!(
                    "{}:{number}: {what}; remove this line, and the same command goes on",
                    path.display()
                ))
            };
            if let Some(number) = bad {
                return Err(broken(number, "is no line of a batch's"));
            }
            match (read, record::line_of(&line)) {
                (Line::Whole { is_ended: true }, Some(answered)) => {
                    done.add(answered).map_err(|what| broken(number, what))?;
                    length = lines.bytes();
                }
                // The last line alone may be cut.
                _ => bad = Some(number),
            }
        }
        drop(lines);
        let torn = file.metadata().map_err(failed)?.len() - length;
        if torn > 0 {
            file.set_len(length).map_err(failed)?;
            file.sync_all().map_err(failed)?;
        }
        Ok(Self {
            path: path.to_owned(),
            file,
            length,
            is_synced: true,
            torn,
        })
    }

    /// A new one, for which nothing was there.
    pub(super) fn create(path: &Path) -> Result<Self, Problem> {
        let log = Self::open(path, &mut Done::new(0))?;
        sync_folder(path);
        Ok(log)
    }

    /// What was removed when it was opened, to be told.
    pub(super) fn cut(&self) -> Option<String> {
        (self.torn > 0).then(|| {
            format!(
                "{}: cut off the {} bytes of a line that was not written to its end",
                self.path.display(),
                self.torn
            )
        })
    }

    /// Adds a line by one write. What is added of one that does not fit is taken back.
    pub(super) fn add(&mut self, line: &[u8]) -> Result<(), Problem> {
        self.is_synced = false;
        match self.file.write_all(line) {
            Ok(()) => {
                self.length += line.len() as u64;
                Ok(())
            }
            Err(error) => {
                // If not, the next run does it.
                let _ = self.file.set_len(self.length);
                Err(self.failed(&error))
            }
        }
    }

    /// Has the disk hold all that was added.
    pub(super) fn sync(&mut self) -> Result<(), Problem> {
        if !self.is_synced {
            self.file.sync_data().map_err(|error| self.failed(&error))?;
            self.is_synced = true;
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Problem {
        Problem::failed(format!(
            "{} cannot be written: {error}; what is in it stays, and the same command goes on",
            self.path.display()
        ))
    }
}
