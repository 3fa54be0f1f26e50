//! Issues tokens, right ones and wrong ones, by other code than checks them.

use std::sync::LazyLock;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256,
};
use aws_lc_rs::{hmac, rand};
use serde_json::{Value, json};
use tidegate::config::JwtAlgorithm;

/// Seconds since the Unix epoch at which these tests take place.
pub const NOW: u64 = 1_800_000_000;

/// An RSA key: the one kind that takes long to generate.
pub static RSA: LazyLock<Key> = LazyLock::new(|| Key(Kind::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())));

/// What an issuer signs with.
pub struct Key(Kind);

enum Kind {
    Secret(Vec<u8>),
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

impl Key {
    /// A fresh one.
    pub fn new(algorithm: JwtAlgorithm) -> Key {
        Key(match algorithm {
            JwtAlgorithm::Hs256 => {
                let mut random = [0; 32];
                rand::fill(&mut random).unwrap();
                // Text: random bytes could happen to look like a key in DER.
                Kind::Secret(random.iter().flat_map(|byte| format!("{byte:02x}").into_bytes()).collect())
            }
            JwtAlgorithm::Rs256 => Kind::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap()),
            JwtAlgorithm::Es256 => Kind::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap()),
            JwtAlgorithm::EdDsa => Kind::Ed(Ed25519KeyPair::generate().unwrap()),
        })
    }

    /// The secret is these bytes.
    pub fn secret(bytes: impl Into<Vec<u8>>) -> Key {
        Key(Kind::Secret(bytes.into()))
    }

    /// On a curve that ES256 does not use.
    pub fn on_another_curve() -> Key {
        Key(Kind::Ec(EcdsaKeyPair::generate(&ECDSA_P384_SHA384_FIXED_SIGNING).unwrap()))
    }

    /// What the server is given: the secret, or the public key in PEM.
    pub fn file(&self) -> Vec<u8> {
        match &self.0 {
            Kind::Secret(secret) => secret.clone(),
            _ => pem("PUBLIC KEY", &self.public_der()).into_bytes(),
        }
    }

    /// The public key as X.509 has it.
    pub fn public_der(&self) -> Vec<u8> {
        let der = match &self.0 {
            Kind::Secret(_) => panic!("a secret has no public side"),
            Kind::Rsa(key) => key.public_key().as_der(),
            Kind::Ec(key) => key.public_key().as_der(),
            Kind::Ed(key) => key.public_key().as_der(),
        };
        der.unwrap().as_ref().to_vec()
    }

    /// The private key in PEM, as no server should be given it.
    pub fn private_file(&self) -> Vec<u8> {
        let Kind::Rsa(key) = &self.0 else { panic!("not needed of others") };
        pem("PRIVATE KEY", key.as_der().unwrap().as_ref()).into_bytes()
    }

    /// As a token's header names it.
    pub fn alg(&self) -> &'static str {
        match &self.0 {
            Kind::Secret(_) => "HS256",
            Kind::Rsa(_) => "RS256",
            Kind::Ec(_) => "ES256",
            Kind::Ed(_) => "EdDSA",
        }
    }

    /// A token with this header and these claims, whatever they say.
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        self.sign_text(&header.to_string(), &claims.to_string())
    }

    /// The same, of texts that need not be JSON.
    pub fn sign_text(&self, header: &str, claims: &str) -> String {
        let message = format!("{}.{}", url_safe(header.as_bytes()), url_safe(claims.as_bytes()));
        format!("{message}.{}", url_safe(&self.signature(message.as_bytes())))
    }

    /// A token with these claims.
    pub fn token(&self, claims: &Value) -> String {
        self.sign(&json!({"typ": "JWT", "alg": self.alg()}), claims)
    }

    /// A token that names its key.
    pub fn token_by(&self, kid: &str, claims: &Value) -> String {
        self.sign(&json!({"alg": self.alg(), "kid": kid}), claims)
    }

    fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.0 {
            Kind::Secret(secret) => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message).as_ref().to_vec(),
            Kind::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Kind::Ec(key) => key.sign(&random, message).unwrap().as_ref().to_vec(),
            Kind::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }
}

/// The claims of a token that is good for an hour.
pub fn claims(sub: &str) -> Value {
    json!({"sub": sub, "exp": NOW + 3600})
}

/// base64url without padding (RFC 7515, 2).
pub fn url_safe(bytes: &[u8]) -> String {
    base64(bytes).replace('+', "-").replace('/', "_").trim_end_matches('=').to_owned()
}

/// One block of PEM (RFC 7468).
pub fn pem(label: &str, der: &[u8]) -> String {
    let text = base64(der);
    let lines: Vec<&str> = (0..text.len()).step_by(64).map(|at| &text[at..(at + 64).min(text.len())]).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

/// base64 (RFC 4648, 4).
pub fn base64(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        for nth in 0..4 {
            let letter = LETTERS[(bits >> (18 - 6 * nth)) as usize & 63];
            text.push(if nth <= chunk.len() { char::from(letter) } else { '=' });
        }
    }
    text
}
