//! A running relay.

use std::{
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    sync::mpsc,
};

use crate::client::soon;

/// The program; it ends with the test.
pub(crate) struct Relay {
    child: Child,
    /// Its lines on standard error, read as they come: it would wait for its reader.
    stderr: mpsc::UnboundedReceiver<String>,
    /// What it said before it listened.
    pub(crate) said: Vec<String>,
    pub(crate) url: String,
}

impl Relay {
    /// Starts it; it takes a free port.
    pub(crate) async fn start(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let local = ["--listen", "127.0.0.1:0"];
        Self::run(&[&local, arguments].concat(), variables).await
    }

    /// Starts it; where to listen is among the arguments.
    pub(crate) async fn start_at(arguments: &[&str]) -> Self {
        Self::run(arguments, &[]).await
    }

    /// Starts it on a free port with a log as JSON, of so much.
    pub(crate) async fn start_logging(arguments: &[&str], level: &str) -> Self {
        Self::start(arguments, &[("RUST_LOG", level)]).await
    }

    async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_relay"))
            .arg("serve")
            .args(arguments)
            .envs(variables.iter().copied())
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the program was built for this test");
        let stderr = child.stderr.take().expect("it is piped");
        let (sender, lines) = mpsc::unbounded_channel();
        tokio::spawn(async move {
            let mut stderr = BufReader::new(stderr).lines();
            while let Some(line) = stderr.next_line().await.expect("it writes UTF-8") {
                let _ = sender.send(line);
            }
        });
        let mut relay = Self {
            child,
            stderr: lines,
            said: Vec::new(),
            url: String::new(),
        };
        while relay.url.is_empty() {
            let line = relay.line().await;
            // In a line of its own, or in a field of an object.
            if let Some((_, url)) = line.split_once("listening on ") {
                let url = url.split('"').next().unwrap_or_default();
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
        soon(self.stderr.recv()).await.expect("it is running")
    }

    /// All that it still says until it ends.
    pub(crate) async fn rest(&mut self) -> String {
        let mut rest = String::new();
        while let Some(line) = soon(self.stderr.recv()).await {
            rest += &line;
            rest.push('\n');
        }
        rest
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
