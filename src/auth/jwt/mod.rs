//! JSON Web Tokens (RFC 7519): who they are of, and until when.
//!
//! The signature's algorithm is the configuration's choice and the key's kind, never the token's: a
//! token that names another one is refused (RFC 8725, 3.1). Nothing of a token is in what is said
//! about it.

mod keys;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde::{Deserialize, Deserializer};

use super::{AuthConfigError, Identity, Principal, Refused};
use crate::config::{JwtAlgorithm, JwtSettings, is_name};
use keys::{Key, Keys};

/// Checks tokens with the keys of a configuration.
pub(super) struct Verifier {
    keys: Keys,
    /// What a token must hold; the algorithm is put in by its key.
    validation: Validation,
    leeway: Duration,
}

#[derive(Deserialize)]
struct Claims {
    sub: Option<String>,
    exp: Option<Seconds>,
    nbf: Option<Seconds>,
}

/// A NumericDate (RFC 7519, 2), whole seconds of it.
#[derive(Clone, Copy)]
struct Seconds(u64);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Seconds, D::Error> {
        let number = serde_json::Number::deserialize(deserializer)?;
        let whole = || number.as_f64().filter(|n| n.is_finite() && *n >= 0.0).map(|n| n as u64);
        number.as_u64().or_else(whole).map(Seconds).ok_or_else(|| serde::de::Error::custom("seconds are expected"))
    }
}

impl Verifier {
    /// Reads the keys.
    pub fn new(settings: &JwtSettings, leeway: Duration) -> Result<Verifier, AuthConfigError> {
        let keys = Keys::read(&settings.keys, &settings.algorithms)?;
        let mut validation = Validation::default();
        let mut required = vec!["exp", "sub"];
        // Its times are checked here: against a clock that is handed in.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        if let Some(audience) = &settings.audience {
            validation.set_audience(&[audience]);
            required.push("aud");
        }
        if let Some(issuer) = &settings.issuer {
            validation.set_issuer(&[issuer]);
            required.push("iss");
        }
        validation.set_required_spec_claims(&required);
        Ok(Verifier { keys, validation, leeway })
    }

    /// Whose token this is.
    pub fn check(&self, token: &[u8], now: SystemTime) -> Result<Identity, Refused> {
        let header = decode_header(token).map_err(|error| refused(&error))?;
        if header.crit.is_some() {
            return Err(Refused::Critical); // RFC 7515, 4.1.11: none of these is understood here
        }
        let key = self.keys.find(header.kid.as_deref()).ok_or(Refused::UnknownKey)?;
        let validation = Validation { algorithms: vec![algorithm_of(key)], ..self.validation.clone() };
        let claims = decode::<Claims>(token, &key.key, &validation).map_err(|error| refused(&error))?.claims;
        let (Some(subject), Some(exp)) = (claims.sub, claims.exp) else { return Err(Refused::Claims) };
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let expires = exp.0.saturating_add(self.leeway.as_secs());
        if now >= Duration::from_secs(expires) {
            return Err(Refused::Expired);
        }
        if claims.nbf.is_some_and(|nbf| now + self.leeway < Duration::from_secs(nbf.0)) {
            return Err(Refused::NotYetValid);
        }
        if !is_name(&subject) {
            return Err(Refused::Subject);
        }
        Ok(Identity { principal: Principal::from(subject), expires: Some(expires) })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }
}

fn algorithm_of(key: &Key) -> Algorithm {
    match key.algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// The library's errors quote the token; these don't.
fn refused(error: &jsonwebtoken::errors::Error) -> Refused {
    match error.kind() {
        ErrorKind::InvalidSignature => Refused::Signature,
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName | ErrorKind::InvalidKeyFormat => {
            Refused::Algorithm
        }
        ErrorKind::InvalidAudience => Refused::Audience,
        ErrorKind::InvalidIssuer => Refused::Issuer,
        ErrorKind::MissingRequiredClaim(_) => Refused::Claims,
        _ => Refused::Malformed,
    }
}
