//! Topics, and patterns of them.

use std::fmt;

/// Which topics go where: `orders/#` and the like.
///
/// A topic's levels stand between slashes. `+` stands for one level, `#` at the end for all that follow,
/// the one before it included, and `*` alone for every topic.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TopicPattern(String);

impl TopicPattern {
    /// Reads a pattern.
    ///
    /// # Errors
    /// What is wrong with it, in words.
    pub fn parse(text: &str) -> Result<TopicPattern, String> {
        if text == "*" {
            return Ok(TopicPattern(text.to_owned()));
        }
        is_topic(text.as_bytes()).ok_or("a pattern is 1 to 255 bytes of UTF-8 without control characters")?;
        let mut levels = text.split('/').peekable();
        while let Some(level) = levels.next() {
            match level {
                "+" => {}
                "#" if levels.peek().is_none() => {}
                _ if level.contains(['+', '#', '*']) => {
                    return Err(format!(
                        "in the pattern {text:?} the level {level:?} mixes a wildcard with other characters: + stands \
                         for one level, # for the last and all that follow, * alone for everything"
                    ));
                }
                _ => {}
            }
        }
        Ok(TopicPattern(text.to_owned()))
    }

    /// Whether a topic is among those meant.
    pub fn matches(&self, topic: &str) -> bool {
        if self.0 == "*" {
            return true;
        }
        let mut levels = topic.split('/');
        for wanted in self.0.split('/') {
            match (wanted, levels.next()) {
                ("#", _) => return true,
                ("+", Some(_)) => {}
                (wanted, Some(level)) if wanted == level => {}
                _ => return false,
            }
        }
        levels.next().is_none()
    }

    /// As it was written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for TopicPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The topic in `bytes`, if it is one: 1 to 255 bytes of UTF-8 without control characters.
pub fn is_topic(bytes: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(bytes).ok()?;
    ((1..=255).contains(&text.len()) && !text.chars().any(char::is_control)).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, topic: &str) -> bool {
        TopicPattern::parse(pattern).unwrap().matches(topic)
    }

    #[test]
    fn wildcards_stand_for_levels_and_never_for_parts_of_them() {
        for topic in ["orders", "orders/eu", "orders/eu/1"] {
            assert!(matches("orders/#", topic) && matches("*", topic), "{topic}");
        }
        assert!(matches("orders/+/1", "orders/eu/1") && matches("#", "a/b"));
        for (pattern, topic) in
            [("orders/#", "orders2"), ("orders/+", "orders"), ("orders/+", "orders/eu/1"), ("orders", "orders/eu")]
        {
            assert!(!matches(pattern, topic), "{pattern} {topic}");
        }
    }

    #[test]
    fn a_pattern_that_could_be_meant_otherwise_is_refused() {
        for wrong in ["", "orders*", "a/#/b", "a+/b", "a\nb"] {
            assert!(TopicPattern::parse(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_topic_is_text_that_fits_a_line() {
        assert_eq!(is_topic("grüße/1".as_bytes()), Some("grüße/1"));
        for wrong in [&b""[..], b"a\xff", b"a\n", &[b'a'; 256]] {
            assert_eq!(is_topic(wrong), None);
        }
    }
}
