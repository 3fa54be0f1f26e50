//! The query of a request's target.

use std::borrow::Cow;

/// What `GET /connections` is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListParameters {
    pub(super) principal: Option<String>,
    pub(super) limit: usize,
}

/// Connections that are listed unless another number is asked for.
pub(super) const DEFAULT_LIMIT: usize = 100;

/// Most connections that are listed at once.
pub(super) const MAX_LIMIT: usize = 10_000;

/// Reads `principal=…&limit=…`; the error says what would be right.
pub(super) fn list_parameters(query: &str) -> Result<ListParameters, String> {
    let (mut principal, mut limit) = (None, None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let place = match name {
            "principal" => &mut principal,
            "limit" => &mut limit,
            _ => return Err("there are the parameters principal and limit, no others".to_owned()),
        };
        let value = unescape(value).ok_or_else(|| format!("{name}: expected UTF-8 with %XX escapes"))?;
        if place.replace(value.into_owned()).is_some() {
            return Err(format!("{name}: expected once"));
        }
    }
    let limit = match limit {
        None => DEFAULT_LIMIT,
        Some(text) => Some(&text)
            .filter(|text| text.bytes().all(|digit| digit.is_ascii_digit()))
            .and_then(|text| text.parse().ok())
            .filter(|limit| (1..=MAX_LIMIT).contains(limit))
            .ok_or_else(|| format!("limit: expected a number, 1 to {MAX_LIMIT}"))?,
    };
    Ok(ListParameters { principal, limit })
}

/// Text with `%XX` escapes (RFC 3986, section 2.1); a `+` is a plus sign.
fn unescape(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, behind)) = rest.split_first() {
        rest = behind;
        if *byte == b'%' {
            let digits = std::str::from_utf8(rest.get(..2)?).ok()?;
            let [byte] = crate::hex::unhex(digits)?;
            bytes.push(byte);
            rest = &rest[2..];
        } else {
            bytes.push(*byte);
        }
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters(query: &str) -> Option<(Option<String>, usize)> {
        list_parameters(query).ok().map(|found| (found.principal, found.limit))
    }

    #[test]
    fn parameters_are_read_in_any_order_and_have_defaults() {
        assert_eq!(parameters(""), Some((None, DEFAULT_LIMIT)));
        assert_eq!(parameters("limit=7&principal=a%20b%C3%A9+c&"), Some((Some("a b\u{e9}+c".to_owned()), 7)));
        assert_eq!(parameters("principal="), Some((Some(String::new()), DEFAULT_LIMIT)));
        assert_eq!(parameters("limit=10000"), Some((None, MAX_LIMIT)));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for query in ["limit=0", "limit=10001", "limit=+1", "limit=", "limit=99999999999999999999", "limit=1&limit=1"] {
            assert!(list_parameters(query).unwrap_err().starts_with("limit: "), "{query}");
        }
        for query in
            ["principal=%", "principal=%4", "principal=%zz", "principal=%ff", "principal=%+1", "principal=a%4\u{e9}"]
        {
            assert!(list_parameters(query).unwrap_err().starts_with("principal: "), "{query}");
        }
        assert!(list_parameters("x=1").unwrap_err().contains("principal and limit"));
    }
}
