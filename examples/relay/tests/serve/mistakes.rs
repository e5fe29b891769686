//! A mistake is one line and exit code 2, before anything is bound or sent.

use std::process::{Command, Output};

use crate::relay::File;

fn serve(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
    let output = command.arg("serve").args(arguments).output();
    output.expect("the program was built for this test")
}

#[track_caller]
fn assert_mistake(output: &Output, line: &str) {
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(stderr, format!("relay: {line}\n"));
    assert!(output.stdout.is_empty());
}

#[test]
fn of_the_configuration() {
    let file = File::new(
        "[[upstream]]\nname = \"u\"\nprovider = \"openai\"\n[[upstream.scope]]\nname = \"s\"\n\
         key = [{ alias = \"a1\", valeu = \"sk-secret\" }]\n",
    );
    let line = format!(
        "{}:6:24: unknown field `valeu` in upstream.scope.key; use one of alias, env, file, \
         value, weight",
        file.path()
    );
    assert_mistake(&serve(&["--config", file.path()]), &line);
}

#[test]
fn of_the_files_name() {
    let line = "no-such.toml: the configuration cannot be read: entity not found; name another \
                with --config";
    assert_mistake(&serve(&["--config", "no-such.toml"]), line);
}

#[test]
fn of_the_command_line() {
    let line = "invalid value 'nowhere' for '--listen <ADDRESS:PORT>': invalid socket address \
                syntax";
    assert_mistake(&serve(&["--listen", "nowhere"]), line);
}

#[test]
fn a_port_that_is_taken_is_no_mistake_of_the_configuration() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("it is bound").to_string();
    let output = serve(&["--listen", &address]);
    assert_eq!(output.status.code(), Some(1));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(
        stderr.starts_with(&format!("relay: cannot listen on {address}: ")),
        "{stderr}"
    );
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}
