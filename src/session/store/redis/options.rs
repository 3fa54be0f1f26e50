//! Where Redis is, from its URL.

use crate::redis_link::{self, RedisUrl};
use crate::url::Url;

/// Before the names of sessions, unless the URL says otherwise.
const PREFIX: &str = "tidegate:session:";
const MAX_PREFIX: usize = 200;

/// What the URL of a store says.
#[derive(Clone)]
pub struct Options {
    pub(super) url: RedisUrl,
    /// Before the names of sessions.
    pub(super) prefix: String,
}

impl Options {
    /// Reads `redis://…`, `redis+sentinel://…` or `redis+cluster://…`, with `prefix=` and `wait=` among its options.
    ///
    /// # Errors
    /// What is wrong with it, without its password.
    pub fn parse(text: &str) -> Result<Options, String> {
        let mut parts = Url::parse(text)?;
        let url = RedisUrl::of(&mut parts)?;
        let prefix = parts.take("prefix")?.unwrap_or_else(|| PREFIX.to_owned());
        if prefix.len() > MAX_PREFIX || prefix.chars().any(char::is_control) {
            return Err(format!("prefix= is to be at most {MAX_PREFIX} bytes, and printable"));
        }
        parts.finish(&format!("prefix=, {}", redis_link::OPTIONS))?;
        Ok(Options { url, prefix })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_may_say_how_sessions_are_called_and_how_many_replicas_have_to_have_them() {
        let options = Options::parse("redis://me:s%3Acret@h:1/2?prefix=gate%3A&wait=1").unwrap();
        assert_eq!((options.prefix.as_str(), options.url.wait), ("gate:", 1));
        let options = Options::parse("redis+sentinel://a,b:1/main/3").unwrap();
        assert_eq!((options.prefix.as_str(), options.url.wait), (PREFIX, 0));
    }

    #[test]
    fn what_is_no_url_of_redis_is_refused_without_telling_the_password() {
        for wrong in
            ["redis://u:hush@a,b", "redis://u:hush@a?pool=3", "redis://u:hush@a?wait=0", "redis+mesh://u:hush@a"]
        {
            let error = Options::parse(wrong).err().unwrap();
            assert!(!error.is_empty() && !error.contains("hush"), "{wrong}: {error}");
        }
    }
}
