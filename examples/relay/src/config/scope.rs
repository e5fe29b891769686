//! `[[upstream.scope]]`: what the provider meters as one, and its keys.

use std::{collections::HashSet, path::Path};

use http::{HeaderMap, HeaderName, HeaderValue};
use tower_relay::{
    http::Endpoint,
    key_rotation::{self, ExposeSecret, KeyPool, Source},
    policy::InvalidConfig,
};

use super::{base_url::BaseUrl, key::Key, problem::Problem, quota::ClassQuota, reader::Node};
use crate::headers::{is_credential, is_framing};

/// An account at a provider.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    pub(crate) name: String,
    /// In place of the upstream's.
    pub(crate) base_url: Option<BaseUrl>,
    /// In place of the caller's.
    pub(crate) headers: HeaderMap,
    pub(crate) keys: Vec<Key>,
    pub(crate) quotas: Vec<ClassQuota>,
}

impl Scope {
    pub(super) fn read(
        node: &Node<'_>,
        folder: &Path,
        aliases: &mut HashSet<String>,
    ) -> Result<Self, Problem> {
        let table = node.table(&["name", "base_url", "headers", "key", "quota"])?;
        let name = table.need("name", r#"name = "org-a""#)?.text()?.to_owned();
        let base_url = table.get("base_url").map(|node| base_url(&node));
        let headers = table.get("headers").map(|node| headers(&node));

        let list = table.need("key", r#"key = [{ alias = "a1", env = "KEY_1" }]"#)?;
        let mut keys = Vec::new();
        for node in list.list("tables")? {
            let key = Key::read(&node, folder)?;
            if !aliases.insert(key.alias.clone()) {
                let alias = &key.alias;
                return Err(node.wrong(format!(
                    "has the alias `{alias}`, which another key of the upstream has; rename one"
                )));
            }
            keys.push(key);
        }
        if keys.is_empty() {
            return Err(list.wrong("is empty; add a key, or leave the scope out"));
        }

        let mut quotas = Vec::new();
        if let Some(list) = table.get("quota") {
            for node in list.list("tables, each under [[upstream.scope.quota]]")? {
                quotas.push(ClassQuota::read(&node)?);
            }
        }
        let scope = Self {
            name,
            base_url: base_url.transpose()?,
            headers: headers.transpose()?.unwrap_or_default(),
            keys,
            quotas,
        };
        // What only the pool knows to be wrong, such as two quotas for the same models.
        let alone = KeyPool::builder().scope(scope.pooled()).build();
        alone.map_err(|error| table.wrong(format!("cannot be: {}", error.problem())))?;
        Ok(scope)
    }

    /// The scope as the pool takes it.
    pub(super) fn pooled(&self) -> key_rotation::Scope {
        let mut scope = key_rotation::Scope::new(&*self.name);
        for class in &self.quotas {
            let models = class.models.iter().map(String::as_str);
            scope = scope.quota_for(models, class.quota.clone());
        }
        for key in &self.keys {
            let secret = Source::value(key.secret.expose_secret());
            scope = scope.weighted_key(&*key.alias, key.weight, secret);
        }
        scope
    }

    /// Where its calls go if not elsewhere, and what each of them carries.
    pub(super) fn endpoint(&self, base_url: &BaseUrl) -> Result<Endpoint, InvalidConfig> {
        let base_url = self.base_url.as_ref().unwrap_or(base_url);
        let mut endpoint = Endpoint::new(&base_url.to_string())?;
        for (name, value) in &self.headers {
            let value = value.to_str().expect("it was read as text");
            endpoint = endpoint.header(name.as_str(), value)?;
        }
        Ok(endpoint)
    }
}

pub(super) fn base_url(node: &Node<'_>) -> Result<BaseUrl, Problem> {
    BaseUrl::parse(node.text()?).map_err(|problem| node.wrong(problem))
}

fn headers(node: &Node<'_>) -> Result<HeaderMap, Problem> {
    let mut headers = HeaderMap::new();
    for (name, node) in node.map()? {
        let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| {
            node.wrong("has a name that no header has; use letters, digits and `-`")
        })?;
        if is_credential(&name) {
            let problem = format!("sets `{name}`, where the key goes; name keys under `key` alone");
            return Err(node.wrong(problem));
        }
        if is_framing(&name) {
            let problem = format!("sets `{name}`, which the relay sets itself; leave it out");
            return Err(node.wrong(problem));
        }
        let value = HeaderValue::from_str(node.text()?).ok();
        let value = value.filter(|value| value.to_str().is_ok());
        let mut value = value
            .ok_or_else(|| node.wrong("has a value that fits no header; use visible ASCII"))?;
        // It may be as secret as a key.
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}
