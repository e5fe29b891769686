//! Where an upstream's paths begin.

use std::fmt;

use http::{
    Uri,
    uri::{Authority, Parts, PathAndQuery, Scheme},
};

/// An absolute http or https URL to which paths are added.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BaseUrl {
    scheme: Scheme,
    authority: Authority,
    /// Without a slash at its end; empty for the root.
    prefix: String,
}

impl BaseUrl {
    /// The host, with its port if that is written.
    pub(crate) const fn authority(&self) -> &Authority {
        &self.authority
    }

    /// Whether it is called over TLS.
    pub(crate) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// # Errors
    ///
    /// What is wrong with it and how to mend it; the URL itself, which may hold a password, is
    /// not repeated.
    pub(crate) fn parse(url: &str) -> Result<Self, &'static str> {
        const ABSOLUTE: &str = "is no absolute URL; write it with http:// or https:// and a host";
        let uri: Uri = url.parse().map_err(|_| ABSOLUTE)?;
        let Parts {
            scheme: Some(scheme),
            authority: Some(authority),
            path_and_query,
            ..
        } = uri.into_parts()
        else {
            return Err(ABSOLUTE);
        };
        if scheme != Scheme::HTTP && scheme != Scheme::HTTPS || authority.host().is_empty() {
            return Err(ABSOLUTE);
        }
        if authority.as_str().contains('@') {
            return Err("has a user name in it; leave that out and give a key instead");
        }
        let path = path_and_query.unwrap_or_else(|| PathAndQuery::from_static("/"));
        if path.query().is_some() || url.contains('#') {
            return Err("has something behind its path; leave out all from the `?` or `#` on");
        }
        Ok(Self {
            scheme,
            authority,
            prefix: path.path().trim_end_matches('/').to_owned(),
        })
    }
}

impl fmt::Display for BaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.scheme, self.authority, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_base_is_refused_without_being_repeated() {
        for (url, complaint) in [
            ("api.openai.com", "is no absolute URL"),
            ("/v1", "is no absolute URL"),
            ("ftp://h/", "is no absolute URL"),
            ("https://", "is no absolute URL"),
            ("http://user:pass@h/", "has a user name"),
            ("http://h/?key=pass", "has something behind its path"),
            ("http://h/#pass", "has something behind its path"),
        ] {
            let problem = BaseUrl::parse(url).expect_err(url);
            assert!(problem.starts_with(complaint), "{url}: {problem}");
        }
    }
}
