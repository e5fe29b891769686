//! Which upstream serves a path.

use std::fmt;

/// A path, or with a `*` at its end all that begin like it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Pattern {
    path: String,
    is_prefix: bool,
}

impl Pattern {
    /// What every path matches; what `CONNECT` and `OPTIONS *` ask for is none.
    pub(crate) fn all() -> Self {
        Self {
            path: "/".to_owned(),
            is_prefix: true,
        }
    }

    /// # Errors
    ///
    /// What is wrong with it and how to mend it.
    pub(crate) fn parse(pattern: &str) -> Result<Self, &'static str> {
        let path = pattern.strip_suffix('*').unwrap_or(pattern);
        if !path.starts_with('/') {
            return Err("does not begin with `/`; write `/*` for all paths");
        }
        if path.contains('*') {
            return Err("has a `*` before its end; move it there");
        }
        if path.contains(['?', '#']) || path.contains(char::is_whitespace) {
            return Err("has something in it that no path has; leave query and blanks out");
        }
        if path.starts_with("/-/") {
            return Err("begins with `/-/`, where the relay itself answers; use another path");
        }
        Ok(Self {
            path: path.to_owned(),
            is_prefix: pattern.ends_with('*'),
        })
    }

    /// How closely the best of `patterns` fits `path`; without any, an upstream serves all.
    pub(crate) fn closest(patterns: &[Self], path: &str) -> Option<Fit> {
        match patterns {
            [] => Self::all().fit(path),
            patterns => patterns
                .iter()
                .filter_map(|pattern| pattern.fit(path))
                .max(),
        }
    }

    /// How closely it fits `path`, if it does: a full path more than any prefix, a long prefix
    /// more than a short one.
    pub(crate) fn fit(&self, path: &str) -> Option<Fit> {
        let fits = match self.is_prefix {
            true => path.starts_with(&self.path),
            false => path == self.path,
        };
        fits.then_some(Fit {
            is_exact: !self.is_prefix,
            length: self.path.len(),
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        f.write_str(if self.is_prefix { "*" } else { "" })
    }
}

/// How closely a pattern fits; the greater the closer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Fit {
    is_exact: bool,
    length: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_fit_wins() {
        let patterns = ["/*", "/v1*", "/v1/messages*", "/v1/messages"]
            .map(|pattern| Pattern::parse(pattern).expect("it is one"));
        for (path, winner) in [
            ("/v1/messages", 3),
            ("/v1/messages/batches", 2),
            ("/v1/models", 1),
            ("/v2", 0),
        ] {
            let fits = patterns.iter().map(|pattern| pattern.fit(path));
            let best = fits.enumerate().max_by_key(|(_, fit)| *fit);
            assert_eq!(best.expect("some").0, winner, "{path}");
        }
        assert_eq!(patterns[3].fit("/v1/messages/"), None);
        assert!(Pattern::all().fit("/").is_some());
        assert!(Pattern::all().fit("*").is_none());
    }
}
