//! Keys that tokens are signed with: files, and a directory of files by `kid`.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use aws_lc_rs::rsa;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, ParsedPublicKey};
use jsonwebtoken::DecodingKey;

use crate::auth::AuthConfigError;
use crate::auth::file::Content;
use crate::config::{JwtAlgorithm, JwtKeys};
use crate::limits::{MAX_JWT_KEY_BYTES, MAX_JWT_KEYS, MIN_JWT_SECRET_BYTES};

const KEY_FILE: &str = "TIDEGATE_JWT_KEY_FILE";
const KEYS_DIR: &str = "TIDEGATE_JWT_KEYS_DIR";

/// One key and the one algorithm that it is used with. No debug form: a secret is among them.
pub(super) struct Key {
    pub algorithm: JwtAlgorithm,
    pub key: DecodingKey,
}

/// The keys of a configuration.
pub(super) enum Keys {
    /// One, whatever `kid` a token names.
    Only(Box<Key>),
    /// Those of a directory, by `kid`.
    Named(HashMap<String, Key>),
}

impl Keys {
    /// Reads what `keys` names. One wrong file is an error of them all.
    pub fn read(keys: &JwtKeys, algorithms: &[JwtAlgorithm]) -> Result<Keys, AuthConfigError> {
        match keys {
            JwtKeys::File(path) => Ok(Keys::Only(Box::new(read_key(path, KEY_FILE, algorithms)?))),
            JwtKeys::Directory(dir) => read_directory(dir, algorithms).map(Keys::Named),
        }
    }

    /// The key for a token with this `kid`. No key is ever tried: a token without a `kid` is
    /// checked with the only key, or not at all.
    pub fn find(&self, kid: Option<&str>) -> Option<&Key> {
        match (self, kid) {
            (Keys::Only(key), _) => Some(key),
            (Keys::Named(keys), Some(kid)) => keys.get(kid),
            (Keys::Named(keys), None) if keys.len() == 1 => keys.values().next(),
            (Keys::Named(_), None) => None,
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Keys::Only(_) => 1,
            Keys::Named(keys) => keys.len(),
        }
    }
}

/// Every file of a directory. Names that begin with a dot are passed over: editors' files, and the
/// `..data` behind the links that Kubernetes and secrets agents put into a mounted directory.
fn read_directory(dir: &Path, algorithms: &[JwtAlgorithm]) -> Result<HashMap<String, Key>, AuthConfigError> {
    let mut keys = HashMap::new();
    for path in list(dir)? {
        let wrong = |expected: String| AuthConfigError::Key { path: path.clone(), expected };
        let kid = path.file_stem().and_then(|stem| stem.to_str());
        let kid = kid.ok_or_else(|| wrong("a name in UTF-8: without its extension it is the key's kid".to_owned()))?;
        let key = read_key(&path, KEYS_DIR, algorithms)?;
        if keys.insert(kid.to_owned(), key).is_some() {
            return Err(wrong(format!("one file for each kid; another file's is {kid:?} too")));
        }
    }
    if keys.is_empty() {
        return Err(AuthConfigError::Keys { path: dir.to_owned(), problem: "holds no key" });
    }
    Ok(keys)
}

/// The regular files of a directory, in the order of their names.
fn list(dir: &Path) -> Result<Vec<PathBuf>, AuthConfigError> {
    let failed = |source| AuthConfigError::Read { path: dir.to_owned(), setting: KEYS_DIR, source };
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        if paths.len() == MAX_JWT_KEYS {
            return Err(AuthConfigError::Keys { path: dir.to_owned(), problem: "holds more keys than the 256 it may" });
        }
        // Through links; one that leads nowhere is an error when it is read.
        if fs::metadata(entry.path()).is_ok_and(|to| to.is_dir()) {
            log::warn!("{} is a directory and no key: it is passed over", entry.path().display());
            continue;
        }
        paths.push(entry.path());
    }
    paths.sort_unstable();
    Ok(paths)
}

/// Reads one key. Which kind it is says the file; whether that kind is wanted, the configuration.
fn read_key(path: &Path, setting: &'static str, algorithms: &[JwtAlgorithm]) -> Result<Key, AuthConfigError> {
    let content = Content::read(path, setting, MAX_JWT_KEY_BYTES)?;
    let wrong = |expected: String| AuthConfigError::Key { path: path.to_owned(), expected };
    let key = parse_key(&content.bytes).map_err(|expected| wrong(expected.to_owned()))?;
    if !algorithms.contains(&key.algorithm) {
        let allowed = algorithms.iter().map(JwtAlgorithm::name).collect::<Vec<_>>().join(",");
        let (kind, name) = (key.algorithm.kind_of_key(), key.algorithm.name());
        return Err(wrong(format!("a key for TIDEGATE_JWT_ALGORITHM={allowed}; this one is {kind}, for {name}")));
    }
    match key.algorithm {
        JwtAlgorithm::Hs256 => content.warn_if_others_may_use(path),
        _ => content.warn_if_others_may_write(path),
    }
    Ok(key)
}

/// The error is what would be right; nothing of the content is in it.
fn parse_key(bytes: &[u8]) -> Result<Key, &'static str> {
    match pem_label(bytes) {
        Some("PUBLIC KEY" | "RSA PUBLIC KEY") => parse_public(bytes),
        Some(label) if label.ends_with("PRIVATE KEY") => {
            Err("a public key; this one is private, and belongs to whoever issues tokens")
        }
        Some(_) => Err("one PEM block, PUBLIC KEY or RSA PUBLIC KEY"),
        None => parse_secret(bytes),
    }
}

/// The label of the only PEM block (RFC 7468); an empty one if there are more, or it is not text.
fn pem_label(bytes: &[u8]) -> Option<&str> {
    const BEGIN: &[u8] = b"-----BEGIN ";
    let mut begins = bytes.windows(BEGIN.len()).enumerate().filter(|(_, window)| *window == BEGIN);
    let (at, _) = begins.next()?;
    if begins.next().is_some() {
        return Some("");
    }
    let rest = &bytes[at + BEGIN.len()..];
    let end = rest.windows(5).position(|window| window == b"-----").unwrap_or(0);
    Some(std::str::from_utf8(&rest[..end]).unwrap_or(""))
}

/// A public key, looked at now: jsonwebtoken would only find at the first token that it is no good.
fn parse_public(pem: &[u8]) -> Result<Key, &'static str> {
    const FORM: &str = "an RSA key of 2048 to 8192 bits, a P-256 key or an Ed25519 key, in PEM";
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        let modulus = key.try_get_as_bytes().ok().and_then(|der| rsa::PublicKey::from_der(der).ok());
        let bits = modulus.map_or(0, |key| 8 * key.modulus().big_endian_without_leading_zero().len());
        return if (2048..=8192).contains(&bits) { Ok(Key { algorithm: JwtAlgorithm::Rs256, key }) } else { Err(FORM) };
    }
    let point = |key: &DecodingKey| key.try_get_as_bytes().map(<[u8]>::to_vec).unwrap_or_default();
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point(&key)).map_err(|_| FORM)?;
        return Ok(Key { algorithm: JwtAlgorithm::Es256, key });
    }
    if let Ok(key) = DecodingKey::from_ed_pem(pem) {
        ParsedPublicKey::new(&ED25519, point(&key)).map_err(|_| FORM)?;
        return Ok(Key { algorithm: JwtAlgorithm::EdDsa, key });
    }
    Err(FORM)
}

/// A secret is any bytes but those of a public key: with one of these as its secret, everybody who
/// knows it could make tokens.
fn parse_secret(bytes: &[u8]) -> Result<Key, &'static str> {
    let secret = without_newline(bytes);
    if looks_public(secret) {
        return Err("a secret, or a public key in PEM; this is a public key in another form");
    }
    if secret.len() < MIN_JWT_SECRET_BYTES {
        return Err("a secret of at least 32 bytes, or a public key in PEM");
    }
    Ok(Key { algorithm: JwtAlgorithm::Hs256, key: DecodingKey::from_secret(secret) })
}

/// A line of text without its end; any other bytes as they are, because each of them may be a newline.
fn without_newline(bytes: &[u8]) -> &[u8] {
    let Some(line) = bytes.strip_suffix(b"\n") else { return bytes };
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_text = std::str::from_utf8(line).is_ok_and(|line| !line.chars().any(char::is_control));
    if is_text { line } else { bytes }
}

/// DER, plain or in base64; a line of OpenSSH's; a JSON Web Key.
fn looks_public(bytes: &[u8]) -> bool {
    if is_der(bytes) || bytes.starts_with(b"ssh-") || bytes.starts_with(b"ecdsa-sha2-") {
        return true;
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return false };
    if text.trim_start().starts_with('{') && (text.contains("\"kty\"") || text.contains("\"keys\"")) {
        return true;
    }
    let joined: String = text.split_whitespace().collect();
    DecodingKey::from_base64_secret(&joined).is_ok_and(|key| key.try_get_as_bytes().is_ok_and(is_der))
}

/// Whether these bytes are one DER SEQUENCE (X.690), which every form of a public key is.
fn is_der(bytes: &[u8]) -> bool {
    let Some((0x30, rest)) = bytes.split_first().map(|(tag, rest)| (*tag, rest)) else { return false };
    match rest {
        [short @ 0..=0x7f, content @ ..] => content.len() == usize::from(*short),
        [0x81, a, content @ ..] => content.len() == usize::from(*a),
        [0x82, a, b, content @ ..] => content.len() == usize::from(u16::from_be_bytes([*a, *b])),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(bytes: &[u8]) -> &'static str {
        parse_key(bytes).err().expect("no key")
    }

    #[test]
    fn a_secret_is_a_line_of_text_without_its_newline_or_any_32_bytes() {
        let parsed = |bytes: &[u8]| parse_key(bytes).map(|key| key.key.try_get_as_bytes().unwrap().to_vec());
        let secret = "dreißig Zeichen und ein paar mehr".as_bytes();
        for end in ["", "\n", "\r\n"] {
            assert_eq!(parsed(&[secret, end.as_bytes()].concat()), Ok(secret.to_vec()), "{end:?}");
        }
        let binary = [&[7; 31][..], b"\n"].concat();
        assert_eq!(parsed(&binary), Ok(binary.clone()), "a byte as good as any");
        assert!(expected(&[&[b'x'; 31][..], b"\n"].concat()).contains("at least 32 bytes"));
        assert!(expected(b"").contains("at least 32 bytes"));
    }

    #[test]
    fn what_is_public_is_never_taken_for_a_secret() {
        let der = [&[0x30, 0x81, 200][..], &[5; 200]].concat();
        let base64 = "MIHI".to_owned() + &"BQUF".repeat(66) + "BQU=";
        let wrapped = base64.as_bytes().chunks(64).collect::<Vec<_>>().join(&b"\n"[..]);
        let jwk = br#"{"kty":"EC","crv":"P-256","x":"AAAAAAAAAAAAAAAA","y":"AAAAAAAAAAAAAA"}"#;
        let ssh = b"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ6d6d6d6d6d6d6d6d6d6d6d6d6d me@here";
        for public in [&der[..], base64.as_bytes(), &wrapped, jwk, ssh] {
            assert!(expected(public).contains("in another form"), "{}", String::from_utf8_lossy(public));
        }
    }

    #[test]
    fn pem_that_is_not_one_public_key_is_refused() {
        let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
            assert!(expected(block(label).as_bytes()).contains("this one is private"), "{label}");
        }
        assert!(expected(block("CERTIFICATE").as_bytes()).contains("one PEM block"));
        assert!(expected(block("PUBLIC KEY").repeat(2).as_bytes()).contains("one PEM block"));
        assert!(expected(block("PUBLIC KEY").as_bytes()).contains("2048 to 8192 bits"));
        assert!(expected(b"-----BEGIN ").contains("one PEM block"));
        assert!(expected(b"-----BEGIN PUBLIC KEY-----").contains("2048 to 8192 bits"));
    }
}
