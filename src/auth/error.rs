//! What can be wrong: with the files that say who gets in, and with a token.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A file, or a directory of keys, that can't be used. Nothing of its content is in it.
#[derive(Debug)]
pub enum AuthConfigError {
    /// It can't be read.
    Read {
        /// The file, as configured.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// What the system says.
        source: io::Error,
    },
    /// It is larger than anything of its kind.
    TooLarge {
        /// The file, as configured.
        path: PathBuf,
        /// The setting that names it.
        setting: &'static str,
        /// Bytes that it may have.
        limit: u64,
    },
    /// A line of the tokens file is not what it should be.
    Line {
        /// The file, as configured.
        path: PathBuf,
        /// Its number, from 1.
        line: usize,
        /// What would be accepted, to follow the word "expected".
        expected: &'static str,
    },
    /// A key is not what it should be.
    Key {
        /// The file.
        path: PathBuf,
        /// What would be accepted, to follow the word "expected".
        expected: String,
    },
    /// A directory of keys is not what it should be.
    Keys {
        /// The directory, as configured.
        path: PathBuf,
        /// What is wrong with it, to follow its name.
        problem: &'static str,
    },
    /// This build can't check JSON Web Tokens.
    NotBuilt,
}

impl fmt::Display for AuthConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AuthConfigError::Read { path, setting, source } => {
                write!(f, "cannot read {}: {source}; see {setting}", path.display())
            }
            AuthConfigError::TooLarge { path, setting, limit } => {
                write!(f, "{} is larger than {limit} bytes; see {setting}", path.display())
            }
            AuthConfigError::Line { path, line, expected } => {
                write!(f, "{}, line {line}: expected {expected}", path.display())
            }
            AuthConfigError::Key { path, expected } => write!(f, "{}: expected {expected}", path.display()),
            AuthConfigError::Keys { path, problem } => {
                write!(f, "{} {problem}; see TIDEGATE_JWT_KEYS_DIR", path.display())
            }
            AuthConfigError::NotBuilt => f.write_str(
                "TIDEGATE_AUTH=jwt: this tidegate was built without JSON Web Tokens; build it with \
                 cargo build --release --features jwt",
            ),
        }
    }
}

impl std::error::Error for AuthConfigError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AuthConfigError::Read { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// Why a token does not get in. Its display is for a log, follows the word "because", and shows
/// nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The tokens file has no such token.
    UnknownToken,
    /// It is no JSON Web Token, or one whose algorithm is unknown, `none` among them.
    Malformed,
    /// It is signed by an algorithm that its key is not used with.
    Algorithm,
    /// It names a key that there is none of, or none where there are several.
    UnknownKey,
    /// It has critical headers.
    Critical,
    /// It was not signed with its key.
    Signature,
    /// It lacks a claim that it must have.
    Claims,
    /// It has expired.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is for somebody else.
    Audience,
    /// It is somebody else's.
    Issuer,
    /// Its subject can't be a principal.
    Subject,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::UnknownToken => "the tokens file has no such token",
            Refused::Malformed => "it is no JSON Web Token that this server understands",
            Refused::Algorithm => "its algorithm is not that of its key",
            Refused::UnknownKey => "its kid is that of no key, or it has none and there are several keys",
            Refused::Critical => "it has critical headers that this server does not understand",
            Refused::Signature => "its signature is not that of its key",
            Refused::Claims => "a claim is missing that it must have: exp, sub, or those that are configured",
            Refused::Expired => "it has expired",
            Refused::NotYetValid => "it is not valid yet",
            Refused::Audience => "its audience is not this server",
            Refused::Issuer => "its issuer is not the one that is configured",
            Refused::Subject => "its subject is no principal: 1 to 128 printable characters without spaces",
        })
    }
}

impl std::error::Error for Refused {}
