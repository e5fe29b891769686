use std::{
    env,
    ffi::OsString,
    fmt,
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
    sync::Arc,
};

use secrecy::{ExposeSecret, SecretString, zeroize::Zeroizing};

use crate::policy::InvalidConfig;

/// The longest secret: above all that providers give out, signed tokens included. Most servers
/// refuse a longer header.
const LONGEST: usize = 16 * 1024;

/// Where the secret of a key comes from.
///
/// It is read when the pool is built and when it is read again. Whitespace around a secret is
/// none of it, so a file may end in a line break. What is left must be visible ASCII, at least
/// one character; the whole at most 16 KiB.
///
/// ```
/// use tower_relay::key_rotation::{KeyPool, Scope, Source};
///
/// let scope = Scope::new("org-a").key("a1", Source::env("NOBODY_SETS_THIS"));
/// let error = KeyPool::builder().scope(scope).build().unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "key.env: key `a1`: the environment variable `NOBODY_SETS_THIS` is not set; \
///      set it, or leave the key out"
/// );
/// ```
#[derive(Clone)]
pub struct Source(Kind);

#[derive(Clone)]
enum Kind {
    Env(Arc<str>),
    File(Arc<Path>),
    Value(SecretString),
}

// === impl Source ===

impl Source {
    /// The environment variable `name`.
    pub fn env(name: impl Into<Arc<str>>) -> Self {
        Self(Kind::Env(name.into()))
    }

    /// The file at `path`, which holds the secret and nothing else.
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Kind::File(path.into().into()))
    }

    /// The secret itself, from wherever the program keeps it.
    pub fn value(secret: impl Into<SecretString>) -> Self {
        Self(Kind::Value(secret.into()))
    }

    /// Reads the secret of the key `alias`; blocks while a file is read.
    pub(super) fn read(&self, alias: &str) -> Result<SecretString, InvalidConfig> {
        let secret = match &self.0 {
            Kind::Env(name) => from_variable(env::var_os(&**name)),
            Kind::File(path) => from_file(path),
            Kind::Value(secret) => from_bytes(secret.expose_secret().as_bytes()),
        };
        secret.map_err(|problem| {
            InvalidConfig::new(self.field(), format!("key `{alias}`: {self} {problem}"))
        })
    }

    /// Whether `name` is, or has in it, the secret that was given as a value: names are shown.
    pub(super) fn is_shown_by(&self, name: &str) -> bool {
        let Kind::Value(secret) = &self.0 else {
            return false;
        };
        let secret = secret.expose_secret().trim();
        !secret.is_empty() && (name.trim() == secret || secret.len() >= 8 && name.contains(secret))
    }

    const fn field(&self) -> &'static str {
        match self.0 {
            Kind::Env(_) => "key.env",
            Kind::File(_) => "key.file",
            Kind::Value(_) => "key.value",
        }
    }
}

/// The place, as errors name it.
impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Env(name) if is_conventional(name) => {
                write!(f, "the environment variable `{name}`")
            }
            Kind::Env(_) => f.write_str("its environment variable"),
            Kind::File(path) if is_path(path) => write!(f, "the file {path:?}"),
            Kind::File(_) => f.write_str("its file"),
            Kind::Value(_) => f.write_str("its value"),
        }
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Source({self})")
    }
}

/// Whether this looks like a variable's name, and not like a secret given in the place of one.
fn is_conventional(name: &str) -> bool {
    let usual = |c: u8| c.is_ascii_uppercase() || c.is_ascii_digit() || c == b'_';
    let is_word = name.contains('_') || name.len() <= SHORT;
    name.len() <= LONGEST_NAME && is_word && name.bytes().all(usual)
}

/// Whether this looks like a path, and not like a secret given in the place of one.
fn is_path(path: &Path) -> bool {
    let has_folder = path.components().nth(1).is_some();
    has_folder || path.as_os_str().len() <= SHORT
}

/// A name of one word is shown up to this length, which is less than any secret has.
const SHORT: usize = 12;
/// No variable has a longer name.
const LONGEST_NAME: usize = 64;

/// What is wrong with a secret. Nothing of the secret is in it.
#[derive(Debug)]
enum Problem {
    Unset,
    Directory,
    Unreadable(io::Error),
    Empty,
    TooLong,
    NotVisible,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unset => "is not set; set it, or leave the key out",
            Self::Directory => "is a directory; name the file in it that holds the key",
            Self::Unreadable(error) => {
                return write!(f, "cannot be read: {error}; check path and permissions");
            }
            Self::Empty => "is empty; put the key there, or leave it out",
            Self::TooLong => "holds more than 16 KiB, which is no key; put only the key there",
            Self::NotVisible => {
                "holds something else than visible ASCII; put only the key there, \
                 with no space, line break or byte order mark in it"
            }
        })
    }
}

fn from_variable(value: Option<OsString>) -> Result<SecretString, Problem> {
    let value = value.ok_or(Problem::Unset)?;
    from_bytes(&Zeroizing::new(value.into_encoded_bytes()))
}

fn from_file(path: &Path) -> Result<SecretString, Problem> {
    let file = File::open(path).map_err(Problem::Unreadable)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Problem::Directory);
    }
    // One byte more than is allowed tells what is too long; room for it from the beginning, so
    // that no copy is left behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(LONGEST + 64));
    file.take(LONGEST as u64 + 1)
        .read_to_end(&mut bytes)
        .map_err(Problem::Unreadable)?;
    from_bytes(&bytes)
}

fn from_bytes(bytes: &[u8]) -> Result<SecretString, Problem> {
    if bytes.len() > LONGEST {
        return Err(Problem::TooLong);
    }
    let bytes = bytes.trim_ascii();
    if bytes.is_empty() {
        return Err(Problem::Empty);
    }
    match std::str::from_utf8(bytes) {
        Ok(secret) if bytes.iter().all(u8::is_ascii_graphic) => Ok(secret.into()),
        _ => Err(Problem::NotVisible),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whitespace_around_a_secret_is_none_of_it() {
        for text in ["sk-1", "sk-1\n", "\r\n\t sk-1 \r\n"] {
            let secret = from_bytes(text.as_bytes()).expect("it is a secret");
            assert_eq!(secret.expose_secret(), "sk-1");
        }
        let all: String = ('!'..='~').collect();
        let secret = from_bytes(all.as_bytes()).expect("all of it is visible");
        assert_eq!(secret.expose_secret(), all);
    }

    #[test]
    fn the_longest_secret_passes_and_one_byte_more_does_not() {
        let longest = "x".repeat(LONGEST);
        assert!(from_bytes(longest.as_bytes()).is_ok());
        let longer = longest + "\n";
        assert!(matches!(
            from_bytes(longer.as_bytes()),
            Err(Problem::TooLong)
        ));
    }

    #[test]
    fn a_variable_is_read_from_the_environment() {
        let name = "CARGO_PKG_NAME";
        let secret = Source::env(name).read("a1").expect("cargo sets it");
        assert_eq!(secret.expose_secret(), "tower-relay");
        assert!(matches!(from_variable(None), Err(Problem::Unset)));
    }

    #[cfg(unix)]
    #[test]
    fn a_variable_that_is_not_unicode_is_no_secret() {
        use std::os::unix::ffi::OsStringExt;

        let value = OsString::from_vec(b"sk-\xff".into());
        assert!(matches!(
            from_variable(Some(value)),
            Err(Problem::NotVisible)
        ));
    }

    #[test]
    fn a_secret_in_the_place_of_a_variable_s_name_is_not_printed() {
        for name in ["sk-ant-123", "gsk_abc", "a b", "AKIA1234567890"] {
            let source = Source::env(name);
            let error = source.read("a1").expect_err("there is no such variable");
            assert_eq!(
                error.to_string(),
                "key.env: key `a1`: its environment variable is not set; \
                 set it, or leave the key out"
            );
            assert_eq!(format!("{source:?}"), "Source(its environment variable)");
        }
    }

    #[test]
    fn a_secret_in_the_place_of_a_path_is_not_printed() {
        let source = Source::file("sk-ant-1234567890");
        let error = source.read("a1").expect_err("there is no such file");
        assert!(!error.to_string().contains("sk-ant"), "{error}");
        assert_eq!(format!("{source:?}"), "Source(its file)");
        let source = Source::file("secrets/a1");
        assert_eq!(format!("{source:?}"), "Source(the file \"secrets/a1\")");
    }
}
