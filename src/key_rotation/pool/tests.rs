use std::{
    env, fs,
    path::{Path, PathBuf},
    process,
};

use super::*;

/// What the secrets of these tests consist of, and nothing else here does.
const MARK: &str = "Zq7";

/// A directory of files for one test.
struct Files(PathBuf);

impl Files {
    fn new(test: &str) -> Self {
        let path = env::temp_dir().join(format!("tower-relay-{test}-{}", process::id()));
        fs::create_dir_all(&path).expect("there is a directory for temporary files");
        Self(path)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).expect("the directory can be written to");
        path
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn quota(requests: u64) -> Quota {
    let quota = Quota::builder().requests_per_minute(requests).build();
    quota.expect("it is valid")
}

fn pool(scopes: impl IntoIterator<Item = Scope>) -> Result<KeyPool, InvalidConfig> {
    let scopes = scopes.into_iter();
    scopes
        .fold(KeyPool::builder(), KeyPoolBuilder::scope)
        .build()
}

fn one(source: Source) -> Result<KeyPool, InvalidConfig> {
    pool([Scope::new("org-a").key("a1", source)])
}

fn secret(pool: &KeyPool, alias: &str) -> String {
    let key = pool.key(alias).expect("there is such a key");
    key.secret().expose_secret().into()
}

/// The error's whole text, after a look at everything that is printed of it.
fn error(result: Result<KeyPool, InvalidConfig>) -> String {
    let error = result.expect_err("it is invalid");
    let text = error.to_string();
    for printed in [&text, &format!("{error:?}")] {
        assert!(!printed.contains(MARK), "{printed}");
    }
    text
}

#[test]
fn what_is_wrong_with_a_secret_is_said_without_it() {
    let files = Files::new("wrong");
    let not_visible = "holds something else than visible ASCII; put only the key there, \
                       with no space, line break or byte order mark in it";
    let too_long = "holds more than 16 KiB, which is no key; put only the key there";
    let empty = "is empty; put the key there, or leave it out";
    for (content, problem) in [
        ("".into(), empty),
        (" \n\t\r\n".into(), empty),
        (format!("{MARK}\n{MARK}"), not_visible),
        (format!("{MARK} {MARK}"), not_visible),
        (format!("{MARK}é"), not_visible),
        (format!("\u{feff}{MARK}"), not_visible),
        (format!("{MARK}\0"), not_visible),
        (format!("{MARK}\x7f"), not_visible),
        (MARK.repeat(6_000), too_long),
    ] {
        let found = error(one(Source::value(content.clone())));
        assert_eq!(found, format!("key.value: key `a1`: its value {problem}"));
        let path = files.write("key", &content);
        let found = error(one(Source::file(&path)));
        let expected = format!("key.file: key `a1`: the file {path:?} {problem}");
        assert_eq!(found, expected);
    }
    let path = files.write("key", [b"Zq7", &[0xff, 0xfe][..]].concat());
    let found = error(one(Source::file(&path)));
    assert!(found.ends_with(not_visible), "{found}");
}

#[test]
fn a_file_that_cannot_be_read_is_named_with_its_cause() {
    let files = Files::new("unreadable");
    let directory = &files.0;
    assert_eq!(
        error(one(Source::file(directory))),
        format!(
            "key.file: key `a1`: the file {directory:?} is a directory; \
             name the file in it that holds the key"
        )
    );
    let missing = directory.join("missing");
    let cause = fs::read(&missing).expect_err("there is none");
    assert_eq!(
        error(one(Source::file(&missing))),
        format!(
            "key.file: key `a1`: the file {missing:?} cannot be read: {cause}; \
             check path and permissions"
        )
    );
}

#[test]
fn what_is_wrong_with_a_pool_names_field_and_alias() {
    let value = |n: u8| Source::value(format!("{MARK}-{n}"));
    let scope = |name| Scope::new(name).quota(quota(5));
    for (scopes, expected) in [
        (
            vec![],
            "scopes: the pool is empty; add at least one scope with a key",
        ),
        (
            vec![scope("a")],
            "scope.key: scope `a` has no key; add one or leave it out",
        ),
        (
            vec![
                scope("a").key("a1", value(1)),
                scope("b").key("a1", value(2)),
            ],
            "key.alias: `a1` is given twice in the pool; rename one of the two",
        ),
        (
            vec![scope("a").key(" ", value(1))],
            "key.alias: a key has an empty name; give it one",
        ),
        (
            vec![scope("a").weighted_key("a1", 0, value(1))],
            "key.weight: key `a1` has weight 0; use 1 to 1000",
        ),
        (
            vec![scope("a").quota(quota(6)).key("a1", value(1))],
            "scope.quota.models: scope `a`: two quotas name no models; \
             keep one, or name the other's models",
        ),
        (
            vec![scope("of sk-ant-name").key("a1", Source::value(" sk-ant-name\n"))],
            "scope.name: a secret is used as a name, and names are shown; give the key another",
        ),
        (
            vec![
                scope("a").key("sk ant", Source::value("sk ant")),
                scope("a").key("b1", value(2)),
            ],
            "key.alias: a secret is used as a name, and names are shown; give the key another",
        ),
        (
            vec![scope("a").key("sk-ant-name", Source::value("sk-ant-name"))],
            "key.alias: a secret is used as a name, and names are shown; give the key another",
        ),
        (
            vec![
                scope("a").key("a1", value(1)),
                scope("b").key("b1", value(1)),
            ],
            "key: `a1` and `b1` have the same secret, which would count one quota twice; \
             remove one of the two",
        ),
        (
            vec![
                scope("a")
                    .key("a1", value(1))
                    .attach_to("b2", 1)
                    .attach_to("b1", 1),
                scope("b").key("b1", value(2)),
            ],
            "scope.attach_to: scope `a` has no key `b1`; add it, or attach to another",
        ),
    ] {
        assert_eq!(error(pool(scopes)), expected);
    }
}

#[test]
fn the_times_and_the_strategy_are_the_policy_s() {
    let second = Duration::from_secs(1);
    let key = || Scope::new("a").key("a1", Source::value(MARK));
    let built = KeyPool::builder()
        .scope(key())
        .strategy(Strategy::RoundRobin)
        .default_rest(second)
        .longest_rest(second * 2)
        .exhausted_rest(second * 3)
        .reprobe_rejected(second * 4)
        .build()
        .expect("it is valid");
    let expected = PoolConfig::builder()
        .scope(ScopeConfig::new("a").key("a1"))
        .strategy(Strategy::RoundRobin)
        .default_rest(second)
        .longest_rest(second * 2)
        .exhausted_rest(second * 3)
        .reprobe_rejected(second * 4)
        .build()
        .expect("it is valid");
    assert_eq!(*built.config(), expected);
    let zero = KeyPool::builder().scope(key()).default_rest(Duration::ZERO);
    assert!(error(zero.build()).starts_with("default_rest: "));
}

#[test]
fn quotas_and_weights_reach_the_policy() {
    let built = pool([Scope::new("a")
        .quota(quota(5))
        .quota_for(["large-*"], quota(1))
        .weighted_key("a1", 3, Source::value(MARK))]);
    let expected = PoolConfig::builder().scope(
        ScopeConfig::new("a")
            .quota(quota(5))
            .quota_for(["large-*"], quota(1))
            .weighted_key("a1", 3),
    );
    let built = built.expect("it is valid");
    assert_eq!(built.config(), &expected.build().expect("it is valid"));
}

#[test]
fn accounts_are_scopes_of_their_own() {
    let keys = ["a", "b"].map(|alias| (alias, Source::value(format!("{MARK}{alias}"))));
    let built = KeyPool::accounts(quota(5), keys).expect("it is valid");
    let expected = PoolConfig::builder()
        .scope(ScopeConfig::new("a").quota(quota(5)).key("a"))
        .scope(ScopeConfig::new("b").quota(quota(5)).key("b"));
    assert_eq!(built.config(), &expected.build().expect("it is valid"));
    let b = built.key("b").expect("it was given");
    assert_eq!((b.alias(), b.scope()), ("b", "b"));
    let none = KeyPool::accounts(quota(5), [] as [(&str, Source); 0]);
    assert!(error(none).starts_with("scopes: the pool is empty"));
}

#[test]
fn rereading_takes_what_is_there_now_and_leaves_the_old_pool_alone() {
    let files = Files::new("reread");
    let path = files.write("a1", "old\n");
    let old = pool([Scope::new("a")
        .key("a1", Source::file(&path))
        .key("a2", Source::value("kept"))
        .attach(7_u64)])
    .expect("it is valid");
    files.write("a1", "new\n");
    let new = old.reread().expect("it is valid still");
    assert_eq!([secret(&old, "a1"), secret(&new, "a1")], ["old", "new"]);
    assert_eq!(new.config(), old.config());
    let same = |alias| {
        let (old, new) = (old.key(alias), new.key(alias));
        new.zip(old).map(|(new, old)| new.has_secret_of(old))
    };
    assert_eq!([same("a1"), same("a2")], [Some(false), Some(true)]);
    assert_eq!(new.key("a1").and_then(Key::attachment::<u64>), Some(&7));

    // Rotated into the other key's secret, or away: the reload as a whole is refused.
    files.write("a1", "kept");
    assert!(error(old.reread()).contains("`a1` and `a2` have the same secret"));
    fs::remove_file(&path).expect("it is there");
    assert!(error(new.reread()).contains("key `a1`"));
}

#[test]
fn nothing_that_is_printed_holds_a_secret() {
    let files = Files::new("debug");
    let path: &Path = &files.write("a2", format!("{MARK}-file\n"));
    let source = Source::value(format!("{MARK}-value"));
    let scope = Scope::new("a")
        .key("a1", source.clone())
        .key("a2", Source::file(path))
        .key("a3", Source::env("CARGO_PKG_NAME"))
        .attach(format!("{MARK}-attached"));
    let builder = KeyPool::builder().scope(scope.clone());
    let built = builder.clone().build().expect("it is valid");
    let keys: Vec<_> = built.keys().collect();
    for printed in [
        format!("{source:?}"),
        format!("{scope:?}"),
        format!("{builder:?}"),
        format!("{built:#?}"),
        format!("{keys:?}"),
    ] {
        assert!(!printed.contains(MARK), "{printed}");
        assert!(!printed.contains("tower-relay\""), "{printed}");
    }
    assert!(format!("{built:?}").contains("CARGO_PKG_NAME"));
}
