//! Whether a file has changed, asked once a second.
//!
//! Not by the system's notices: editors and orchestrators put another file in the place of the old
//! one, or turn a link to another folder, and those who watch a file for notices then watch one that
//! nobody sees any more. A question a second costs nothing and is right on every file system.

use std::{
    fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use tokio::time::{Interval, MissedTickBehavior, interval};

const PERIOD: Duration = Duration::from_secs(1);

/// A file that somebody may change; `None` never changes.
#[derive(Debug)]
pub(super) struct Watch {
    file: Option<PathBuf>,
    /// Begun when it is first waited for, on a runtime.
    ticks: Option<Interval>,
    /// What was last read.
    known: Option<Stamp>,
    /// What was last seen.
    seen: Option<Stamp>,
}

/// What differs when a file has been written or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    number: u64,
}

impl Watch {
    /// Changes of `file` from now on, which is to be read after this.
    pub(super) fn of(file: Option<&Path>) -> Self {
        let mut watch = Self {
            file: file.map(Path::to_owned),
            ticks: None,
            known: None,
            seen: None,
        };
        watch.read();
        watch
    }

    /// The file is about to be read for another reason.
    pub(super) fn read(&mut self) {
        self.known = self.stamp();
        self.seen = self.known;
    }

    /// Returns when the file is another than when it was last read, and has been so for a second: it
    /// may be half written before. Cancel safe.
    pub(super) async fn changed(&mut self) {
        if self.file.is_none() {
            return std::future::pending().await;
        }
        loop {
            let ticks = self.ticks.get_or_insert_with(|| {
                let mut ticks = interval(PERIOD);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
                ticks
            });
            ticks.tick().await;
            if self.look() {
                return;
            }
        }
    }

    fn look(&mut self) -> bool {
        let now = self.stamp();
        // A file that is gone is about to be replaced.
        let is_settled = now.is_some() && now == self.seen;
        let has_changed = is_settled && now != self.known;
        self.seen = now;
        if has_changed {
            self.known = now;
        }
        has_changed
    }

    fn stamp(&self) -> Option<Stamp> {
        let stamp = |file: &PathBuf| -> io::Result<Stamp> {
            let metadata = fs::metadata(file)?;
            Ok(Stamp {
                modified: metadata.modified().ok(),
                length: metadata.len(),
                number: number(&metadata),
            })
        };
        self.file.as_ref().and_then(|file| stamp(file).ok())
    }
}

/// By which a file is told from another at its place.
#[cfg(unix)]
fn number(metadata: &fs::Metadata) -> u64 {
    std::os::unix::fs::MetadataExt::ino(metadata)
}

#[cfg(not(unix))]
const fn number(_: &fs::Metadata) -> u64 {
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_is_told_once_when_the_file_has_settled() {
        let path = std::env::temp_dir().join(format!("relay-watch-{}", std::process::id()));
        let write = |text: &str| fs::write(&path, text).expect("it can be written");
        write("one");
        let mut watch = Watch::of(Some(&path));
        assert!(!watch.look());
        write("half");
        assert!(!watch.look(), "it may be half written");
        write("halves");
        assert!(!watch.look(), "and is not settled while it grows");
        assert!(watch.look());
        assert!(!watch.look(), "once is enough");
        fs::remove_file(&path).expect("it is there");
        assert!(
            !watch.look() && !watch.look(),
            "one that is gone is no news"
        );
        write("another");
        assert!(!watch.look());
        assert!(watch.look());
        write("read for another reason");
        watch.read();
        assert!(!watch.look() && !watch.look());
        fs::remove_file(&path).expect("it is there");
    }
}
