//! Who gets in: what the settings of identity come to.

use std::path::{Path, PathBuf};

/// Who gets in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthMode {
    /// Everybody, as one principal. Loopback only, unless [`crate::config::Config::insecure`].
    None,
    /// Bearers of a token whose digest is in this file.
    Tokens(PathBuf),
    /// Bearers of a JSON Web Token that one of these keys has signed.
    Jwt(JwtSettings),
}

/// Which JSON Web Tokens get in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtSettings {
    /// `TIDEGATE_JWT_KEY_FILE` or `TIDEGATE_JWT_KEYS_DIR`: what they are signed with.
    pub keys: JwtKeys,
    /// `TIDEGATE_JWT_ALGORITHM`: how, and no other way; at least one.
    pub algorithms: Vec<JwtAlgorithm>,
    /// `TIDEGATE_JWT_AUDIENCE`: whom they have to be for. `None`: those that name an audience are
    /// for somebody else (RFC 7519, 4.1.3).
    pub audience: Option<String>,
    /// `TIDEGATE_JWT_ISSUER`: who has to have issued them; `None`: whoever has the keys.
    pub issuer: Option<String>,
}

/// Where keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwtKeys {
    /// One, in this file.
    File(PathBuf),
    /// Each in a file of this directory, whose name without its extension is the key's `kid`.
    Directory(PathBuf),
}

/// How a token is signed (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256, and a secret that issuer and server share.
    Hs256,
    /// RSASSA-PKCS1-v1_5 with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

/// What becomes of a connection whose token has expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AuthExpiry {
    /// It is told GOAWAY, served for a while, and ended in good order.
    Close,
    /// Nothing.
    Keep,
}

impl AuthMode {
    /// As `TIDEGATE_AUTH` has it.
    pub fn name(&self) -> &'static str {
        match self {
            AuthMode::None => "none",
            AuthMode::Tokens(_) => "tokens",
            AuthMode::Jwt(_) => "jwt",
        }
    }

    /// Takes over the files, where they are files of the same kind.
    pub(super) fn take(&mut self, from: &AuthMode) {
        if std::mem::discriminant(self) == std::mem::discriminant(from) {
            self.clone_from(from);
        }
    }

    /// The file, or the directory of files, that says who gets in.
    pub fn files(&self) -> Option<&Path> {
        match self {
            AuthMode::None => None,
            AuthMode::Tokens(path) => Some(path),
            AuthMode::Jwt(settings) => settings.key_file().or(settings.keys_dir()),
        }
    }

    /// The file of tokens' digests.
    pub fn tokens_file(&self) -> Option<&Path> {
        match self {
            AuthMode::Tokens(path) => Some(path),
            AuthMode::None | AuthMode::Jwt(_) => None,
        }
    }

    /// Which JSON Web Tokens get in.
    pub fn jwt(&self) -> Option<&JwtSettings> {
        match self {
            AuthMode::Jwt(settings) => Some(settings),
            AuthMode::None | AuthMode::Tokens(_) => None,
        }
    }
}

impl JwtSettings {
    /// Tokens that one of these keys has signed by one of these algorithms, for anybody, from anybody.
    pub fn new(keys: JwtKeys, algorithms: Vec<JwtAlgorithm>) -> JwtSettings {
        JwtSettings { keys, algorithms, audience: None, issuer: None }
    }

    /// The file of the only key.
    pub fn key_file(&self) -> Option<&Path> {
        match &self.keys {
            JwtKeys::File(path) => Some(path),
            JwtKeys::Directory(_) => None,
        }
    }

    /// The directory of keys.
    pub fn keys_dir(&self) -> Option<&Path> {
        match &self.keys {
            JwtKeys::File(_) => None,
            JwtKeys::Directory(path) => Some(path),
        }
    }
}

impl JwtAlgorithm {
    /// All of them.
    pub const ALL: [JwtAlgorithm; 4] =
        [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::Es256, JwtAlgorithm::EdDsa];

    /// As a token's `alg` has it.
    pub fn name(&self) -> &'static str {
        match self {
            JwtAlgorithm::Hs256 => "HS256",
            JwtAlgorithm::Rs256 => "RS256",
            JwtAlgorithm::Es256 => "ES256",
            JwtAlgorithm::EdDsa => "EdDSA",
        }
    }

    /// The one with this name.
    pub fn parse(name: &str) -> Option<JwtAlgorithm> {
        JwtAlgorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)
    }

    /// What a file with a key for it holds, in words.
    pub fn kind_of_key(&self) -> &'static str {
        match self {
            JwtAlgorithm::Hs256 => "a secret",
            JwtAlgorithm::Rs256 => "an RSA key",
            JwtAlgorithm::Es256 => "a P-256 key",
            JwtAlgorithm::EdDsa => "an Ed25519 key",
        }
    }
}

impl AuthExpiry {
    /// As `TIDEGATE_AUTH_EXPIRY` has it.
    pub fn name(&self) -> &'static str {
        match self {
            AuthExpiry::Close => "close",
            AuthExpiry::Keep => "keep",
        }
    }
}
