//! Which calls belong together.

/// How much of a prompt counts. Providers cache prefixes of a thousand tokens and more, and route
/// by the first few hundred: calls that differ only later are of one session.
const PREFIX: usize = 1_024;

/// What makes two calls belong together, so that a provider's prompt cache serves the second if
/// the same key sends it.
///
/// ```
/// use bytes::Bytes;
/// use http_body_util::Full;
/// use tower_relay::{call::ReadFacts, provider::{Affinity, JsonFacts}};
///
/// let read = |reader: JsonFacts, body: &'static str| {
///     reader.read(&http::Request::new(Full::<Bytes>::from(body))).affinity_key()
/// };
/// let named = r#"{"prompt_cache_key": "s-7", "messages": ["hello"]}"#;
/// let later = r#"{"prompt_cache_key": "s-7", "messages": ["hello", "again"]}"#;
/// let other = r#"{"messages": ["hello"]}"#;
///
/// let sessions = JsonFacts::new().affinity(Affinity::Session);
/// assert!(read(sessions, named).is_some());
/// assert_eq!(read(sessions, named), read(sessions, later));
/// assert_eq!(read(sessions, other), None);
/// assert!(read(JsonFacts::new(), other).is_some());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Affinity {
    /// Nothing does.
    Nothing,
    /// The session that the caller names: the first of `prompt_cache_key`, `session_id`,
    /// `metadata.user_id` and `user`.
    Session,
    /// The session, or where none is named the first 1,024 bytes of the prompt: tools, system
    /// prompt and messages, in this order and as they are written.
    #[default]
    Prompt,
}

/// The beginning of a prompt.
pub(super) struct Prompt {
    hash: Hash,
    room: usize,
}

impl Default for Prompt {
    fn default() -> Self {
        Self {
            hash: Hash::default(),
            room: PREFIX,
        }
    }
}

impl Prompt {
    pub(super) fn add(&mut self, part: &[u8]) {
        let part = &part[..part.len().min(self.room)];
        self.room -= part.len();
        self.hash.add(part);
    }

    /// `None` if there is no prompt.
    pub(super) fn hash(self) -> Option<u64> {
        (self.room < PREFIX).then(|| self.hash.finish())
    }
}

pub(super) fn hash(bytes: &[u8]) -> u64 {
    let mut hash = Hash::default();
    hash.add(&bytes[..bytes.len().min(PREFIX)]);
    hash.finish()
}

/// The same in every process and release, so that several gateways agree: words are multiplied in
/// one by one, and the result is mixed as SplitMix64 does (Steele, Lea, Flood 2014).
#[derive(Default)]
struct Hash(u64);

impl Hash {
    fn add(&mut self, bytes: &[u8]) {
        for word in bytes.chunks(8) {
            let mut padded = [0; 8];
            padded[..word.len()].copy_from_slice(word);
            self.put(u64::from_le_bytes(padded));
        }
        self.put(bytes.len() as u64);
    }

    const fn put(&mut self, word: u64) {
        let mixed = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 = mixed ^ (mixed >> 32);
    }

    const fn finish(self) -> u64 {
        let mut hash = self.0;
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_the_same_in_every_release_and_spreads() {
        assert_eq!(hash(b"\"s-7\""), 13_823_597_638_335_206_370);
        let buckets = (0..8_000u32).fold([0u32; 8], |mut buckets, n| {
            buckets[(hash(n.to_string().as_bytes()) % 8) as usize] += 1;
            buckets
        });
        assert!(
            buckets.iter().all(|count| (850..1_150).contains(count)),
            "{buckets:?}"
        );
    }

    #[test]
    fn parts_do_not_run_into_each_other_and_only_the_beginning_counts() {
        let of = |parts: &[&[u8]]| {
            let mut prompt = Prompt::default();
            parts.iter().for_each(|part| prompt.add(part));
            prompt.hash()
        };
        assert_eq!(of(&[]), None);
        assert_ne!(of(&[b"ab", b"c"]), of(&[b"a", b"bc"]));
        let (long, longer) = ([7; PREFIX], [7; 3 * PREFIX]);
        assert_eq!(of(&[&long]), of(&[&longer]));
        assert_ne!(of(&[&long[1..]]), of(&[&longer]));
    }
}
