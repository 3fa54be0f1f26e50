//! The tokens file: digests of tokens, so that who reads the file can't use what it says.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::path::Path;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;

use super::file::Content;
use super::{AuthConfigError, Principal};
use crate::config::{TOKEN_PREFIX, is_name};

/// Bytes of the tokens file: half a million lines and more.
const MAX_FILE: u64 = 64 << 20;

const LINE: &str = "a principal of 1 to 128 printable characters, a space, and sha256: with 64 hex digits";

type Digest = [u8; 32];

/// Makes a token for `principal`, with 256 random bits, and the line of the tokens file that lets it in.
///
/// # Errors
/// `principal` is no name for one, or the operating system gives no random bytes.
pub fn generate_token(principal: &str) -> Result<(String, String), TokenError> {
    if !is_principal(principal) {
        return Err(TokenError::Principal);
    }
    let mut random = [0; 32];
    getrandom::fill(&mut random).map_err(|error| TokenError::Random(io::Error::other(error.to_string())))?;
    let token = format!("{TOKEN_PREFIX}{}", hex(&random));
    let line = format!("{principal} sha256:{}", hex(&digest(token.as_bytes())));
    Ok((token, line))
}

/// Why there is no token.
#[derive(Debug)]
pub enum TokenError {
    /// The principal can't stand in a tokens file.
    Principal,
    /// The operating system gives no random bytes.
    Random(io::Error),
}

impl fmt::Display for TokenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TokenError::Principal => f.write_str(
                "a principal has 1 to 128 printable characters without spaces, and does not begin with #: \
                 choose another name",
            ),
            TokenError::Random(error) => write!(f, "the operating system gives no random bytes: {error}"),
        }
    }
}

impl std::error::Error for TokenError {}

/// All tokens of a file, sorted by digest.
pub(super) struct TokenTable {
    entries: Vec<(Digest, Principal)>,
}

impl TokenTable {
    /// Reads `path`. Warns when others than its owner may read it, and when nobody can get in.
    pub(super) fn read(path: &Path) -> Result<TokenTable, AuthConfigError> {
        let content = Content::read(path, "TIDEGATE_TOKENS_FILE", MAX_FILE)?;
        content.warn_if_others_may_use(path);
        let table = TokenTable::parse(&content.bytes).map_err(|(line, expected)| AuthConfigError::Line {
            path: path.to_owned(),
            line,
            expected,
        })?;
        if table.entries.is_empty() {
            log::warn!("the tokens file {} holds no token: nobody can get in", path.display());
        }
        Ok(table)
    }

    /// The error is the number of the wrong line, and what would be right.
    fn parse(bytes: &[u8]) -> Result<TokenTable, (usize, &'static str)> {
        let mut principals: HashMap<&str, Principal> = HashMap::new();
        let mut owners: HashMap<Digest, &str> = HashMap::new();
        let mut entries = Vec::new();
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        for (at, line) in bytes.split(|b| *b == b'\n').enumerate() {
            let wrong = |expected| (at + 1, expected);
            let line = std::str::from_utf8(line).map_err(|_| wrong("UTF-8"))?.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (name, digest) = parse_line(line).ok_or_else(|| wrong(LINE))?;
            if digest == self::digest(b"") {
                return Err(wrong("the digest of a token; this one is that of an empty text"));
            }
            let owner = *owners.entry(digest).or_insert(name);
            if owner != name {
                return Err(wrong("a token of its own for each principal; this one is another's, further up"));
            }
            let principal = principals.entry(name).or_insert_with(|| Principal::from(name));
            entries.push((digest, principal.clone()));
        }
        entries.sort_unstable_by_key(|(digest, _)| *digest);
        Ok(TokenTable { entries })
    }

    /// The owner of `token`. What the time taken may tell is the first two bytes of a digest that the
    /// caller can compute anyway; it says nothing about a token.
    pub(super) fn find(&self, token: &[u8]) -> Option<&Principal> {
        let wanted = digest(token);
        let bucket = |digest: &Digest| u16::from_be_bytes([digest[0], digest[1]]);
        let from = self.entries.partition_point(|(digest, _)| bucket(digest) < bucket(&wanted));
        let candidates = self.entries[from..].iter().take_while(|(digest, _)| bucket(digest) == bucket(&wanted));
        // An empty bucket costs a comparison too.
        std::hint::black_box(wanted.ct_eq(&Digest::default()));
        let mut found = None;
        for (digest, principal) in candidates {
            if bool::from(digest.ct_eq(&wanted)) {
                found = Some(principal);
            }
        }
        found
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

/// A name as [`is_name`] has it, that is not taken for a comment.
fn is_principal(name: &str) -> bool {
    is_name(name) && !name.starts_with('#')
}

fn parse_line(line: &str) -> Option<(&str, Digest)> {
    let mut fields = line.split_whitespace();
    let (name, digest) = (fields.next()?, fields.next()?.strip_prefix("sha256:")?);
    let ended = fields.next().is_none_or(|rest| rest.starts_with('#'));
    (ended && is_principal(name)).then_some((name, unhex(digest)?))
}

fn digest(token: &[u8]) -> Digest {
    Sha256::digest(token).into()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Option<Digest> {
    let nibble = |c: u8| char::from(c).to_digit(16).map(|n| n as u8);
    let mut digest = Digest::default();
    if text.len() != 2 * digest.len() {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(digest)
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
