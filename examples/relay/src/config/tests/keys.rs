//! Scopes and their keys, wherever the secret comes from.

use std::fs;

use secrecy::ExposeSecret;

use super::{Config, HEAD, KEY, SECRET, assert_wrong, key, scope, upstream};

#[test]
fn a_scope() {
    let twice = format!("{}[[upstream.scope]]\nname = \"s\"\n", upstream(""));
    for (text, problem) in [
        (
            format!("{HEAD}[[upstream.scope]]\n{KEY}"),
            "relay.toml:4:1: upstream.scope.name is missing; add it, such as name = \"org-a\"",
        ),
        (
            scope(""),
            "relay.toml:4:1: upstream.scope.key is missing; add it, such as key = [{ alias = \
             \"a1\", env = \"KEY_1\" }]",
        ),
        (
            scope("key = []"),
            "relay.toml:6:7: upstream.scope.key is empty; add a key, or leave the scope out",
        ),
        (
            scope("key = \"SECRET\""),
            "relay.toml:6:7: upstream.scope.key is a text; write a list of tables",
        ),
        (
            scope("key = [\"SECRET\"]"),
            "relay.toml:6:8: upstream.scope.key is a text; write a table",
        ),
        (
            scope("keys = []"),
            "relay.toml:6:1: unknown field `keys` in upstream.scope; use one of name, base_url, \
             headers, key, quota",
        ),
        (
            format!("{twice}key = [{{ alias = \"a1\", value = \"SECRET\" }}]"),
            "relay.toml:10:8: upstream.scope.key has the alias `a1`, which another key of the \
             upstream has; rename one",
        ),
        (
            format!("{twice}key = [{{ alias = \"a2\", value = \"SECRET\" }}]"),
            "relay.toml:8:1: upstream.scope has the name `s`, which another scope of the upstream \
             has; rename one",
        ),
        (
            scope(&format!("{KEY}\nbase_url = \"http://SECRET@h\"")),
            "relay.toml:7:12: upstream.scope.base_url has a user name in it; leave that out and \
             give a key instead",
        ),
        (
            scope(&format!(
                "{KEY}\nheaders = {{ Authorization = \"Bearer SECRET\" }}"
            )),
            "relay.toml:7:29: upstream.scope.headers sets `authorization`, where the key goes; \
             name keys under `key` alone",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ host = \"h\" }}")),
            "relay.toml:7:20: upstream.scope.headers sets `host`, which the relay sets itself; \
             leave it out",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ x-team = \"Zürich\" }}")),
            "relay.toml:7:22: upstream.scope.headers has a value that fits no header; use visible \
             ASCII",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ x-team = \"SECRET\\n\" }}")),
            "relay.toml:7:22: upstream.scope.headers has a value that fits no header; use visible \
             ASCII",
        ),
        (
            scope(&format!("{KEY}\nheaders = {{ \"SECRET \" = \"x\" }}")),
            "relay.toml:7:36: upstream.scope.headers has a name that no header has; use letters, \
             digits and `-`",
        ),
    ] {
        assert_wrong(&text, problem);
    }
}

#[test]
fn a_key() {
    for (fields, problem) in [
        (
            "value = \"SECRET\"",
            "relay.toml:6:8: upstream.scope.key.alias is missing; add it, such as alias = \"a1\"",
        ),
        (
            "alias = \"SECRET\", value = \"SECRET\"",
            "relay.toml:6:18: upstream.scope.key.alias is the secret itself; give the key a name",
        ),
        (
            "alias = \"a1\"",
            "relay.toml:6:8: upstream.scope.key has no secret; add one of env, file and value",
        ),
        (
            "alias = \"a1\", env = \"SECRET\", value = \"SECRET\"",
            "relay.toml:6:59: upstream.scope.key.value is a second source of one secret; keep one \
             of env, value",
        ),
        (
            "alias = \"a1\", secret = \"SECRET\"",
            "relay.toml:6:24: unknown field `secret` in upstream.scope.key; use one of alias, \
             env, file, value, weight",
        ),
        (
            "alias = \"a1\", value = 123456789",
            "relay.toml:6:32: upstream.scope.key.value is a whole number; write a text in quotes",
        ),
        (
            "alias = 1, value = \"SECRET\"",
            "relay.toml:6:18: upstream.scope.key.alias is a whole number; write a text in quotes",
        ),
        (
            "alias = \"a1\", value = SECRET",
            "relay.toml:6:32: this is no TOML: string values must be quoted, expected literal string",
        ),
        (
            "alias = \"a1\", value = \"\"",
            "relay.toml:6:32: upstream.scope.key.value is empty; write something between the \
             quotes",
        ),
        (
            "alias = \"a1\", value = \"SECRET\\nSECRET\"",
            "relay.toml:6:32: upstream.scope.key.value gives a secret of several lines; keep the \
             key alone, on one line",
        ),
        (
            "alias = \"a1\", value = \"Bearer SECRET\"",
            "relay.toml:6:32: upstream.scope.key.value gives a secret with a blank in it; keep \
             the key alone, without `Bearer`",
        ),
        (
            "alias = \"a1\", value = \"SECRETü\"",
            "relay.toml:6:32: upstream.scope.key.value gives a secret that fits no header; use \
             visible ASCII",
        ),
        (
            "alias = \"a1\", env = \"RELAY_TEST_UNSET\"",
            "relay.toml:6:30: upstream.scope.key.env names a variable `RELAY_TEST_UNSET` that is \
             not set; set it, or name another",
        ),
        (
            "alias = \"a1\", env = \"SECRET\"",
            "relay.toml:6:30: upstream.scope.key.env names a variable that is not set; set it, or \
             name another",
        ),
        (
            "alias = \"a1\", env = \"A=B\"",
            "relay.toml:6:30: upstream.scope.key.env is no name of an environment variable; write \
             it without `$`",
        ),
        (
            "alias = \"a1\", file = \"SECRET\"",
            "relay.toml:6:31: upstream.scope.key.file names a file that cannot be read (entity \
             not found); paths begin at the configuration's folder",
        ),
        (
            "alias = \"a1\", value = \"SECRET\", weight = 0",
            "relay.toml:6:62: upstream.scope.key.weight is 0, which admits nothing; use at least \
             1, or leave it out",
        ),
        (
            "alias = \"a1\", value = \"SECRET\", weight = 1001",
            "relay.toml:6:62: upstream.scope.key.weight is out of range; use a whole number from \
             1 to 1000",
        ),
    ] {
        assert_wrong(&key(fields), problem);
    }
}

#[test]
fn a_secret_comes_from_a_file_without_the_end_of_its_line_and_is_not_shown() {
    let folder = std::env::temp_dir().join(format!("relay-keys-{}", std::process::id()));
    let folder = &*folder;
    fs::create_dir_all(folder).expect("a folder for tests");
    for (name, content) in [
        ("relay-key-a", format!("{SECRET}\n")),
        ("relay-key-b", format!("{SECRET}\r\n")),
        ("relay-key-c", SECRET.to_owned()),
    ] {
        fs::write(folder.join(name), content).expect("the folder is there");
        let text = key(&format!("alias = \"a1\", file = \"{name}\""));
        let config = Config::parse("relay.toml", &text, folder).expect("it is right");
        let secret = config.upstreams[0].scopes[0].keys[0].secret.expose_secret();
        assert_eq!(secret, SECRET);
        assert!(!format!("{config:?}").contains(SECRET));
    }
    fs::write(
        folder.join("relay-key-d"),
        format!("{SECRET}\n\n{SECRET}\n"),
    )
    .expect("a folder");
    let text = key("alias = \"a1\", file = \"relay-key-d\"");
    let problem = Config::parse("relay.toml", &text, folder).expect_err("two lines");
    fs::remove_dir_all(folder).expect("it is ours");
    assert_eq!(
        problem.to_string(),
        "relay.toml:6:31: upstream.scope.key.file gives a secret of several lines; keep the key \
         alone, on one line"
    );
}

#[test]
fn one_secret_is_not_two_keys() {
    assert_wrong(
        "[[upstream]]\nname = \"u\"\nprovider = \"openai\"\n\
         [[upstream.scope]]\nname = \"a\"\nkey = [{ alias = \"a1\", value = \"SECRET\" }]\n\
         [[upstream.scope]]\nname = \"b\"\nkey = [{ alias = \"b1\", value = \"SECRET\" }]\n",
        "relay.toml:1:1: upstream cannot be: `a1` and `b1` have the same secret, which would \
         count one quota twice; remove one of the two",
    );
}
