//! The input as a whole: right, or refused before anything is sent.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    hash::{BuildHasher, RandomState},
    io::{self, BufReader, IsTerminal},
    path::{Path, PathBuf},
};

use super::{
    lines::{Line, Lines},
    problem::Problem,
    request::{Form, Item},
};

/// The longest line, in bytes: more than a model takes in one request.
pub(super) const LONGEST_LINE: usize = 32 << 20;
/// How much of the input is read at once.
const BUFFER: usize = 256 << 10;

/// A file of requests, and how it is to be read.
#[derive(Clone, Debug)]
pub(super) struct Input {
    pub(super) file: PathBuf,
    /// What it is called in messages.
    pub(super) name: String,
    pub(super) form: Form,
}

/// What a file is known by that was found right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// Blank ones included.
    pub(super) lines: u64,
    pub(super) requests: u64,
    pub(super) digest: String,
}

impl Input {
    pub(super) fn open(&self) -> Result<Lines<BufReader<File>>, Problem> {
        let file = File::open(&self.file).and_then(|file| match file.metadata()?.is_dir() {
            true => Err(io::ErrorKind::IsADirectory.into()),
            false => Ok(file),
        });
        match file {
            Ok(file) => Ok(Lines::new(
                BufReader::with_capacity(BUFFER, file),
                LONGEST_LINE,
            )),
            Err(error) => Err(self.unreadable(&error)),
        }
    }

    /// The next request after the blank lines; `None` at the end. The buffer holds the line.
    pub(super) fn next(
        &self,
        lines: &mut Lines<BufReader<File>>,
        line: &mut Vec<u8>,
    ) -> Result<Option<Item>, Problem> {
        loop {
            let read = lines.next(line).map_err(|error| self.unreadable(&error))?;
            let number = lines.number();
            match read {
                Line::None => return Ok(None),
                Line::TooLong => {
                    let most = LONGEST_LINE >> 20;
                    let problem = format!("is longer than {most} MiB, which no model takes");
                    return Err(self.at(number, &problem));
                }
                Line::Whole { .. } => {
                    let read = self.form.read(number, line);
                    let item = read.map_err(|problem| self.at(number, &problem))?;
                    if item.is_some() {
                        return Ok(item);
                    }
                }
            }
        }
    }

    /// Reads all of it. `serves` says what is wrong with a path that nobody serves.
    ///
    /// It holds one line, and eight bytes for each of those before.
    ///
    /// # Errors
    ///
    /// The first thing that is wrong, and how many other lines are wrong too.
    pub(super) fn check(
        &self,
        serves: impl Fn(&Item) -> Result<(), String>,
    ) -> Result<Checked, Problem> {
        let mut lines = self.open()?;
        let (mut line, mut hashes, state) = (Vec::new(), Vec::new(), RandomState::new());
        let (mut requests, mut first, mut more) = (0, None, 0_u64);
        loop {
            let problem = match self.next(&mut lines, &mut line) {
                Ok(None) => break,
                Ok(Some(item)) => {
                    requests += 1;
                    if matches!(self.form, Form::Batch) {
                        hashes.push(state.hash_one(&item.id));
                    }
                    match serves(&item) {
                        Ok(()) => continue,
                        Err(problem) => self.at(lines.number(), &problem),
                    }
                }
                Err(problem) if problem.is_of_a_line() => problem,
                Err(problem) => return Err(problem),
            };
            match first {
                Some(_) => more += 1,
                None => first = Some(problem),
            }
        }
        if let Some(problem) = first {
            return Err(problem.and_more(more));
        }
        let checked = Checked {
            lines: lines.number(),
            requests,
            digest: lines.digest(),
        };
        self.no_twins(hashes, &state)?;
        Ok(checked)
    }

    /// That no `custom_id` is there twice. Only those whose hashes are are looked at again.
    fn no_twins(&self, mut hashes: Vec<u64>, state: &RandomState) -> Result<(), Problem> {
        hashes.sort_unstable();
        let pairs = hashes.windows(2).filter(|pair| pair[0] == pair[1]);
        let twins: HashSet<u64> = pairs.map(|pair| pair[0]).take(MOST_TWINS).collect();
        drop(hashes);
        if twins.is_empty() {
            return Ok(());
        }
        let mut seen = HashMap::new();
        let (mut lines, mut line) = (self.open()?, Vec::new());
        while let Some(item) = self.next(&mut lines, &mut line)? {
            if !twins.contains(&state.hash_one(&item.id)) {
                continue;
            }
            let number = lines.number();
            if let Some(first) = seen.get(&item.id) {
                let problem = format!(
                    "has the `custom_id` of line {first}, {:?}; by it an answer is found, so give \
                     each line its own",
                    item.id
                );
                return Err(self.at(number, &problem));
            }
            seen.insert(item.id, number);
        }
        Ok(())
    }

    fn at(&self, line: u64, problem: &str) -> Problem {
        Problem::of_line(&self.name, line, problem)
    }

    fn unreadable(&self, error: &io::Error) -> Problem {
        Problem::wrong(format!("{} cannot be read: {error}", self.name))
    }
}

/// One is enough to be told.
const MOST_TWINS: usize = 1_000;

/// A copy of standard input, because it has to be read twice, and again after a kill. Dropped
/// before it is [kept](Self::keep) it goes, and what was kept before stays.
#[derive(Debug)]
pub(super) struct Copied {
    to: PathBuf,
    pub(super) file: PathBuf,
}

impl Copied {
    /// Copies all of standard input to beside `to`.
    pub(super) fn stdin(to: &Path) -> Result<Self, Problem> {
        let mut stdin = io::stdin().lock();
        if stdin.is_terminal() {
            let problem = "standard input is a terminal; name a file, or pipe one in";
            return Err(Problem::wrong(problem.to_owned()));
        }
        let copied = Self {
            to: to.to_owned(),
            file: super::store::beside(to, ".new"),
        };
        let result = File::create(&copied.file).and_then(|mut copy| {
            io::copy(&mut stdin, &mut copy)?;
            copy.sync_all()
        });
        match result {
            Ok(()) => Ok(copied),
            Err(error) => Err(copied.failed(&error)),
        }
    }

    /// Puts it where it stays until all is done.
    pub(super) fn keep(self) -> Result<PathBuf, Problem> {
        let renamed = std::fs::rename(&self.file, &self.to);
        renamed.map_err(|error| self.failed(&error))?;
        Ok(self.to.clone())
    }

    fn failed(&self, error: &io::Error) -> Problem {
        let to = self.to.display();
        Problem::failed(format!("standard input cannot be kept in {to}: {error}"))
    }
}

impl Drop for Copied {
    fn drop(&mut self) {
        // It has gone if it was kept.
        let _ = std::fs::remove_file(&self.file);
    }
}
