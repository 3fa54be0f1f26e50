//! Who a connection speaks for: from AUTH's token to a principal.

mod error;
pub mod failures;
mod file;
#[cfg(feature = "jwt")]
mod jwt;
mod tokens;

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

pub use error::{AuthConfigError, Refused};
#[cfg(feature = "admin")]
pub(crate) use file::OTHERS;
pub use tokens::{TokenError, generate_token};

use crate::config::{AuthMode, Config};
use tokens::TokenTable;

pub use crate::session::Principal;

/// The principal of everybody when `TIDEGATE_AUTH` is `none`.
pub const ANONYMOUS: &str = "anonymous";

/// Decides who gets in. Built from a configuration and the files that it names, shared by all
/// workers, and never changed: where a file has changed, a new one takes its place.
///
/// Its debug form shows how many tokens or keys there are, and none of them.
pub struct Authenticator {
    mode: Mode,
}

enum Mode {
    Open(Principal),
    Tokens(TokenTable),
    #[cfg(feature = "jwt")]
    Jwt(Box<jwt::Verifier>),
}

/// Whose a token is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Whom the connection speaks for.
    pub principal: Principal,
    /// The second, counted from the Unix epoch, from which on this token would not get in any more,
    /// leeway included; `None`: it always will.
    pub expires: Option<u64>,
}

impl Authenticator {
    /// Builds what [`Config::auth`] asks for; reads the files that it names once, here.
    ///
    /// # Errors
    /// A file can't be read, or something in it is wrong; no key is left out for being wrong. Nothing
    /// of a file's content is in the error. Also if JWT is wanted of a build without the feature `jwt`.
    pub fn new(config: &Config) -> Result<Authenticator, AuthConfigError> {
        let mode = match &config.auth {
            AuthMode::None => Mode::Open(Arc::from(ANONYMOUS)),
            AuthMode::Tokens(path) => Mode::Tokens(TokenTable::read(path)?),
            #[cfg(feature = "jwt")]
            AuthMode::Jwt(settings) => Mode::Jwt(Box::new(jwt::Verifier::new(settings, config.jwt_leeway)?)),
            #[cfg(not(feature = "jwt"))]
            AuthMode::Jwt(_) => return Err(AuthConfigError::NotBuilt),
        };
        Ok(Authenticator { mode })
    }

    /// Whose `token` is. Any bytes may be given. `now`, the wall clock, is asked only where tokens
    /// expire.
    ///
    /// # Errors
    /// AUTH_FAILED: why, for a log, and not for whoever presented the token. To find a wrong token in
    /// a tokens file takes as long as to find a right one.
    #[cfg_attr(not(feature = "jwt"), allow(unused_variables, reason = "only JSON Web Tokens expire"))]
    pub fn authenticate(&self, token: &[u8], now: impl FnOnce() -> SystemTime) -> Result<Identity, Refused> {
        let forever = |principal: &Principal| Identity { principal: principal.clone(), expires: None };
        match &self.mode {
            Mode::Open(anonymous) => Ok(forever(anonymous)),
            Mode::Tokens(table) => table.find(token).map(forever).ok_or(Refused::UnknownToken),
            #[cfg(feature = "jwt")]
            Mode::Jwt(verifier) => verifier.check(token, now()),
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.mode {
            Mode::Open(_) => f.write_str("Authenticator(none)"),
            Mode::Tokens(table) => write!(f, "Authenticator({} tokens)", table.len()),
            #[cfg(feature = "jwt")]
            Mode::Jwt(verifier) => write!(f, "Authenticator({} keys)", verifier.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn with_none_every_token_is_the_one_anonymous_principal() {
        let auth = Authenticator::new(&Config::default()).unwrap();
        let whose = |token: &[u8]| auth.authenticate(token, || panic!("no token expires")).unwrap();
        let (first, second) = (whose(b""), whose(&[0xff; 70_000]));
        assert_eq!((&*first.principal, first.expires), (ANONYMOUS, None));
        assert!(Arc::ptr_eq(&first.principal, &second.principal));
    }

    #[cfg(not(feature = "jwt"))]
    #[test]
    fn a_build_without_jwt_says_how_to_build_it() {
        use crate::config::{JwtKeys, JwtSettings};
        let settings = JwtSettings::new(JwtKeys::File("/nowhere".into()), Vec::new());
        let error = Authenticator::new(&Config { auth: AuthMode::Jwt(settings), ..Config::default() }).unwrap_err();
        assert!(error.to_string().contains("--features jwt"), "{error}");
    }
}
