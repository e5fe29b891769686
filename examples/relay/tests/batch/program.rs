//! The program, and files for it that go with the test.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use serde_json::{Value, json};

/// A folder of the test's own.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("batch-{}-{number}", std::process::id());
        let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&folder).expect("the folder for tests can be written");
        Self(folder)
    }

    pub(crate) fn at(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        fs::write(self.at(name), content).expect("it can be written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.at(name)).expect("it is there, in UTF-8")
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.at(name).exists()
    }

    /// The lines of a file, each of which must be JSON.
    pub(crate) fn lines(&self, name: &str) -> Vec<Value> {
        let text = match self.has(name) {
            true => self.read(name),
            false => String::new(),
        };
        assert!(text.is_empty() || text.ends_with('\n'), "{text}");
        let lines = text.lines();
        lines
            .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
            .collect()
    }

    /// The ids in a file, as they stand there.
    pub(crate) fn ids(&self, name: &str) -> Vec<String> {
        let lines = self.lines(name);
        let id = |line: &Value| line["custom_id"].as_str().expect("it has one").to_owned();
        lines.iter().map(id).collect()
    }

    /// `relay batch in.jsonl --output out.jsonl --config relay.toml`, and more.
    pub(crate) fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command
            .current_dir(&self.0)
            .args(["batch", "--output", "out.jsonl", "--config", "relay.toml"])
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) fn start(&self, more: &[&str]) -> Child {
        self.command(&[&["in.jsonl"], more].concat())
            .spawn()
            .expect("the program was built for this test")
    }

    pub(crate) fn run(&self, more: &[&str]) -> Ran {
        Ran::of(&self.start(more).wait_with_output().expect("it ends"))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// What a run said.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ran {
    pub(crate) fn of(output: &Output) -> Self {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("it writes UTF-8");
        Self {
            code: output.status.code(),
            stdout: text(&output.stdout),
            stderr: text(&output.stderr),
        }
    }

    /// That it ended so, and said this.
    #[track_caller]
    pub(crate) fn ends(&self, code: i32, said: &str) -> &Self {
        assert_eq!(self.code, Some(code), "{self:#?}");
        assert!(
            self.stderr.contains(said),
            "`{said}` was not said: {self:#?}"
        );
        self
    }

    /// That it is refused by one line, which is this.
    #[track_caller]
    pub(crate) fn refused(&self, said: &str) {
        self.ends(2, said);
        assert_eq!(self.stderr.lines().count(), 1, "{}", self.stderr);
        assert_eq!(self.stdout, "");
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|_| panic!("{self:#?}"))
    }
}

pub(crate) fn id(number: usize) -> String {
    format!("doc-{number}")
}

pub(crate) fn line(number: usize) -> String {
    named(&id(number))
}

pub(crate) fn named(id: &str) -> String {
    json!({
        "custom_id": id,
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": "m",
            "max_tokens": 10,
            "messages": [{ "role": "user", "content": id }],
        },
    })
    .to_string()
}

pub(crate) fn lines(count: usize) -> String {
    (1..=count).map(|number| line(number) + "\n").collect()
}
