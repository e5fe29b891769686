//! A running relay.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader, Lines},
    process::{Child, ChildStderr, Command},
};

use crate::client::soon;

/// The program; it ends with the test.
pub(crate) struct Relay {
    child: Child,
    stderr: Lines<BufReader<ChildStderr>>,
    /// What it said before it listened.
    pub(crate) said: Vec<String>,
    pub(crate) url: String,
}

impl Relay {
    /// Starts it; it takes a free port.
    pub(crate) async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(["serve", "--listen", "127.0.0.1:0"])
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program was built for this test");
        let stderr = child.stderr.take().expect("it is piped");
        let mut relay = Self {
            child,
            stderr: BufReader::new(stderr).lines(),
            said: Vec::new(),
            url: String::new(),
        };
        while relay.url.is_empty() {
            let line = relay.line().await;
            if let Some(url) = line.strip_prefix("relay: listening on ") {
                relay.url = url.to_owned();
            }
            relay.said.push(line);
        }
        relay
    }

    /// Starts it with `config` in a file of its own.
    pub(crate) async fn with(config: &str) -> (Self, File) {
        let file = File::new(config);
        let relay = Self::start(&["--config", file.path()], &[]).await;
        (relay, file)
    }

    /// The next line on standard error.
    pub(crate) async fn line(&mut self) -> String {
        let line = soon(self.stderr.next_line()).await;
        line.expect("it writes UTF-8").expect("it is running")
    }

    /// The next line on standard error that begins so.
    pub(crate) async fn hears(&mut self, beginning: &str) -> String {
        loop {
            let line = self.line().await;
            if line.starts_with(beginning) {
                return line;
            }
        }
    }

    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    pub(crate) async fn signal(&self, name: &str) {
        let process = self.child.id().expect("it is running");
        let told = Command::new("sh")
            .args(["-c", &format!("kill -{name} {process}")])
            .status();
        assert!(soon(told).await.expect("there is a shell").success());
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon(self.child.wait()).await.expect("it can be waited for")
    }
}

/// A file that is removed with the test.
pub(crate) struct File(PathBuf);

impl File {
    pub(crate) fn new(content: &str) -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Relaxed);
        let name = format!("serve-{}-{number}.toml", std::process::id());
        let file = Self(PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name));
        file.write(content);
        file
    }

    pub(crate) fn write(&self, content: &str) {
        std::fs::write(&self.0, content).expect("the folder for tests can be written");
    }

    pub(crate) fn path(&self) -> &str {
        self.0.to_str().expect("the folder's name is UTF-8")
    }
}

impl Drop for File {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}
