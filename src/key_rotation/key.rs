use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use secrecy::{ExposeSecret, SecretString};

/// What a protocol sees of the credential that was picked for an attempt.
///
/// A clone shares everything with its original. `Debug` prints alias and scope, never the secret.
///
/// ```
/// use tower_relay::{
///     key_rotation::{ExposeSecret, KeyPool, Scope, Source},
///     policy::InvalidConfig,
/// };
///
/// struct Region(&'static str);
///
/// let scope = Scope::new("org-a").key("a1", Source::value("sk-123")).attach(Region("eu"));
/// let pool = KeyPool::builder().scope(scope).build()?;
/// let key = pool.key("a1").expect("it was given");
/// assert_eq!((key.alias(), key.scope()), ("a1", "org-a"));
/// assert_eq!(key.secret().expose_secret(), "sk-123");
/// assert_eq!(key.attachment::<Region>().map(|region| region.0), Some("eu"));
/// assert!(!format!("{key:?}").contains("sk-"));
/// # Ok::<(), InvalidConfig>(())
/// ```
#[derive(Clone)]
pub struct Key {
    inner: Arc<Inner>,
}

struct Inner {
    alias: Arc<str>,
    scope: Arc<str>,
    secret: SecretString,
    attached: Attachments,
    attached_to_scope: Arc<Attachments>,
    prepared: OnceLock<Box<dyn Any + Send + Sync>>,
}

/// Values that protocols find by their type, one of each.
#[derive(Clone, Default)]
pub(super) struct Attachments(Vec<Arc<dyn Any + Send + Sync>>);

// === impl Key ===

impl Key {
    pub(super) fn new(
        alias: Arc<str>,
        scope: Arc<str>,
        secret: SecretString,
        attached: Attachments,
        attached_to_scope: Arc<Attachments>,
    ) -> Self {
        let inner = Inner {
            alias,
            scope,
            secret,
            attached,
            attached_to_scope,
            prepared: OnceLock::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The name under which logs, errors and handles know this key.
    #[must_use]
    pub fn alias(&self) -> &str {
        &self.inner.alias
    }

    pub(super) fn shared_alias(&self) -> &Arc<str> {
        &self.inner.alias
    }

    /// The name of the scope that the key belongs to.
    #[must_use]
    pub fn scope(&self) -> &str {
        &self.inner.scope
    }

    /// The secret: visible ASCII, at least one character and at most 16 KiB.
    #[must_use]
    pub fn secret(&self) -> &SecretString {
        &self.inner.secret
    }

    /// The value of type `T` that was attached to the key, otherwise to its scope.
    #[must_use]
    pub fn attachment<T: Any>(&self) -> Option<&T> {
        let of_scope = || self.inner.attached_to_scope.get();
        self.inner.attached.get().or_else(of_scope)
    }

    /// What `prepare` makes of the key, made once and kept as long as the key, so that an attempt
    /// costs a clone of it: a header's value, say, instead of its formatting.
    ///
    /// What is kept is known by its type. If another protocol has kept a value of another type
    /// with this key, `prepare` runs each time; protocols that make different values of one type
    /// need a type of their own each. Calls that come first at the same time all run `prepare`,
    /// and one result is kept.
    ///
    /// ```
    /// use tower_relay::{
    ///     key_rotation::{ExposeSecret, KeyPool, Scope, Source},
    ///     policy::InvalidConfig,
    /// };
    ///
    /// let scope = Scope::new("org-a").key("a1", Source::value("sk-123"));
    /// let pool = KeyPool::builder().scope(scope).build()?;
    /// let key = pool.key("a1").expect("it was given");
    ///
    /// #[derive(Clone)]
    /// struct Signer(u64);
    /// let signer = key.prepared(|key| Signer(key.secret().expose_secret().len() as u64));
    /// assert_eq!(signer.0, 6);
    /// let again = key.prepared(|_| -> Signer { unreachable!("it is kept") });
    /// assert_eq!(again.0, 6);
    /// # Ok::<(), InvalidConfig>(())
    /// ```
    pub fn prepared<T: Any + Clone + Send + Sync>(&self, prepare: impl FnOnce(&Self) -> T) -> T {
        match self.inner.prepared.get() {
            Some(kept) => match kept.downcast_ref::<T>() {
                Some(kept) => kept.clone(),
                None => prepare(self),
            },
            None => {
                // Outside the cell's lock: `prepare` is foreign, and may ask the key itself.
                let made = prepare(self);
                let _ = self.inner.prepared.set(Box::new(made.clone()));
                made
            }
        }
    }

    /// Whether this key and `other` would be one to the provider.
    pub(crate) fn has_secret_of(&self, other: &Self) -> bool {
        self.inner.secret.expose_secret() == other.inner.secret.expose_secret()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("alias", &self.alias())
            .field("scope", &self.scope())
            .finish_non_exhaustive()
    }
}

// === impl Attachments ===

impl Attachments {
    /// Adds a value, in the place of one of the same type.
    pub(super) fn add<T: Any + Send + Sync>(&mut self, value: T) {
        self.0.retain(|other| !(**other).is::<T>());
        self.0.push(Arc::new(value));
    }

    fn get<T: Any>(&self) -> Option<&T> {
        self.0.iter().find_map(|value| value.downcast_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> Key {
        let mut of_key = Attachments::default();
        of_key.add("of the key");
        let mut of_scope = Attachments::default();
        of_scope.add("of the scope");
        of_scope.add(6_u64);
        of_scope.add(7_u64);
        Key::new(
            "a1".into(),
            "org-a".into(),
            secret.into(),
            of_key,
            Arc::new(of_scope),
        )
    }

    #[test]
    fn the_key_s_attachment_goes_before_its_scope_s_and_a_later_one_before_an_earlier() {
        let key = key("sk-1");
        assert_eq!(key.attachment::<&str>(), Some(&"of the key"));
        assert_eq!(key.attachment::<u64>(), Some(&7));
        assert_eq!(key.attachment::<u32>(), None);
    }

    #[test]
    fn what_is_prepared_is_kept_by_type_and_shared_by_clones() {
        let key = key("sk-1");
        assert_eq!(key.prepared(|key| key.alias().len()), 2);
        assert_eq!(key.clone().prepared(|_| 99_usize), 2);
        // Another type is made anew each time, and drives out nothing.
        assert_eq!(key.prepared(|_| "other"), "other");
        assert_eq!(key.prepared(|_| "another"), "another");
        assert_eq!(key.prepared(|_| 99_usize), 2);
    }

    #[test]
    fn preparing_may_ask_the_key_for_what_it_prepares() {
        let key = key("sk-1");
        let made = key.prepared(|key| key.prepared(|_| 1_u8) + 1);
        assert_eq!(made, 2);
        assert_eq!(key.prepared(|_| 9_u8), 1);
    }

    #[test]
    fn keys_of_one_secret_are_told_apart_from_others() {
        assert!(key("sk-1").has_secret_of(&key("sk-1")));
        assert!(!key("sk-1").has_secret_of(&key("sk-2")));
    }

    #[test]
    fn a_key_prints_alias_and_scope_alone() {
        let text = format!("{:?}", key("sk-1"));
        assert_eq!(text, r#"Key { alias: "a1", scope: "org-a", .. }"#);
    }

    #[test]
    fn keys_travel_between_threads() {
        fn is<T: Clone + Send + Sync + 'static>() {}
        is::<Key>();
    }
}
