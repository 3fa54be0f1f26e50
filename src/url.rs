//! URLs of servers elsewhere: `scheme://user:password@host:port,host:port/path?option=value`.

use std::fmt;

/// A URL, taken apart and decoded.
///
/// More than one host may be named, with `,` or `;` between them. Whoever reads a URL takes the options that he
/// knows and calls [`Url::finish`], which refuses those that are left.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Url {
    /// What stands before `://`.
    pub(crate) scheme: String,
    /// Who logs in.
    pub(crate) user: Option<String>,
    /// With what.
    pub(crate) password: Option<String>,
    /// Hosts, in the order given, and their ports.
    pub(crate) hosts: Vec<(String, Option<u16>)>,
    /// What follows the hosts, between slashes; an empty last part is left out.
    pub(crate) path: Vec<String>,
    options: Vec<(String, String)>,
}

impl Url {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, in words that hold nothing of the user, the password or the options' values.
    pub(crate) fn parse(text: &str) -> Result<Url, String> {
        let (scheme, rest) = text.split_once("://").ok_or("a URL is SCHEME://HOST…")?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, hosts) = match authority.rsplit_once('@') {
            Some((login, hosts)) => (Some(login), hosts),
            None => (None, authority),
        };
        let (user, password) = match login {
            Some(login) => match login.split_once(':') {
                Some((user, password)) => (Some(user), Some(password)),
                None => (Some(login), None),
            },
            None => (None, None),
        };
        let decoded = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(decode).transpose();
        Ok(Url {
            scheme: scheme.to_owned(),
            user: decoded(user).map_err(|e| format!("the user's name {e}"))?,
            password: decoded(password).map_err(|e| format!("the password {e}"))?,
            hosts: hosts.split([',', ';']).map(host).collect::<Result<_, _>>()?,
            path: path.strip_suffix('/').unwrap_or(path).split('/').map(decode).collect::<Result<_, _>>()?,
            options: query.split('&').filter(|pair| !pair.is_empty()).map(option).collect::<Result<_, _>>()?,
        })
    }

    /// The parts of the path that are not empty.
    pub(crate) fn parts(&self) -> impl Iterator<Item = &str> {
        self.path.iter().map(String::as_str).filter(|part| !part.is_empty())
    }

    /// Takes an option out, if it is given.
    ///
    /// # Errors
    /// It is given twice.
    pub(crate) fn take(&mut self, name: &str) -> Result<Option<String>, String> {
        let Some(at) = self.options.iter().position(|(known, _)| known == name) else { return Ok(None) };
        let (_, value) = self.options.remove(at);
        match self.options.iter().any(|(known, _)| known == name) {
            true => Err(format!("{name}= is given twice")),
            false => Ok(Some(value)),
        }
    }

    /// Takes an option out that is a number of this range.
    ///
    /// # Errors
    /// It is none, or is given twice.
    pub(crate) fn take_number(&mut self, name: &str, min: u64, max: u64) -> Result<Option<u64>, String> {
        let Some(text) = self.take(name)? else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (min..=max).contains(number));
        number.map(Some).ok_or_else(|| format!("{name}= is to be a number from {min} to {max}"))
    }

    /// Takes all options out whose names begin with `prefix`, without it.
    pub(crate) fn take_prefixed(&mut self, prefix: &str) -> Vec<(String, String)> {
        let (taken, left) =
            std::mem::take(&mut self.options).into_iter().partition(|(name, _)| name.starts_with(prefix));
        self.options = left;
        let taken: Vec<(String, String)> = taken;
        taken.into_iter().map(|(name, value)| (name[prefix.len()..].to_owned(), value)).collect()
    }

    /// Refuses options that nobody took.
    ///
    /// # Errors
    /// The first such option, and `known`, which says what there is.
    pub(crate) fn finish(self, known: &str) -> Result<(), String> {
        match self.options.first() {
            Some((name, _)) => Err(format!("{name:?} is no option: there are {known}")),
            None => Ok(()),
        }
    }
}

/// Where it leads, without user, password and options: what logs may show.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme)?;
        for (at, (host, port)) in self.hosts.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            match host.contains(':') {
                true => write!(f, "[{host}]")?,
                false => f.write_str(host)?,
            }
            if let Some(port) = port {
                write!(f, ":{port}")?;
            }
        }
        self.path.iter().filter(|part| !part.is_empty()).try_for_each(|part| write!(f, "/{part}"))
    }
}

impl fmt::Debug for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// `host`, `host:port`, `[::1]:port`.
fn host(text: &str) -> Result<(String, Option<u16>), String> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, port) = rest.split_once(']').ok_or("a host that begins with [ has no ]")?;
            let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').unwrap_or("none")) };
            (host, port)
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    // The text itself is not told: with a / in a password, it is the password.
    let wrong =
        "a port is a number from 1 to 65535, and of a password the characters :/?#[]@% are written as %3A and so on";
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|port| *port > 0).ok_or(wrong)?),
        None => None,
    };
    let named = |c: char| !c.is_whitespace() && !c.is_control();
    match !host.is_empty() && host.chars().all(named) {
        true => Ok((host.to_owned(), port)),
        false => Err("a host is missing".to_owned()),
    }
}

fn option(pair: &str) -> Result<(String, String), String> {
    let (name, value) = pair.split_once('=').ok_or("an option without a value: options are NAME=VALUE")?;
    let name = decode(name)?;
    let value = decode(value).map_err(|e| format!("{name}= {e}"))?;
    Ok((name, value))
}

/// `%41` is `A`.
fn decode(text: &str) -> Result<String, String> {
    let wrong = || "holds a % that is not followed by two digits of a UTF-8 character's code".to_owned();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        if first != b'%' {
            bytes.push(first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2).ok_or_else(wrong)?;
        let digits = std::str::from_utf8(digits).map_err(|_| wrong())?;
        bytes.push(crate::hex::unhex::<1>(digits).ok_or_else(wrong)?[0]);
        rest = after;
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_of_a_url_is_found() {
        let mut url = Url::parse("redis+cluster://me:p%40%3a:s@a:1,[::1]:2;c/x%20y/7/?m=1&x.n=%2C&x.o=").unwrap();
        assert_eq!(
            (url.scheme.as_str(), url.user.as_deref(), url.password.as_deref()),
            ("redis+cluster", Some("me"), Some("p@::s"))
        );
        let hosts = [("a".to_owned(), Some(1)), ("::1".to_owned(), Some(2)), ("c".to_owned(), None)];
        assert_eq!(url.hosts, hosts);
        assert_eq!(url.parts().collect::<Vec<_>>(), ["x y", "7"]);
        assert_eq!(url.to_string(), "redis+cluster://a:1,[::1]:2,c/x y/7");
        assert_eq!(url.take_prefixed("x."), [("n".to_owned(), ",".to_owned()), ("o".to_owned(), String::new())]);
        assert_eq!(url.take_number("m", 1, 2).unwrap(), Some(1));
        assert_eq!(url.take("m").unwrap(), None);
        url.finish("").unwrap();
        let url = Url::parse("redis://:pass@h").unwrap();
        assert_eq!((url.user, url.password.as_deref()), (None, Some("pass")));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_said_without_its_secrets() {
        for wrong in [
            "h:1",
            "a://",
            "a://u:hush@",
            "a://h:0",
            "a://h:x",
            "a://[::1",
            "a://[::1]x",
            "a://u:hush%zz@h",
            "a://h?hush",
            "a://h?x=hush%f",
            "a://h,,i",
            "a://h?x=%ff",
            "a://u:hush/x@h",
        ] {
            let error = Url::parse(wrong).unwrap_err();
            assert!(!error.contains("hush") && !error.is_empty(), "{error}");
        }
        let mut url = Url::parse("a://u:hush@h?x=hush&x=2&y=hush").unwrap();
        assert!(!format!("{url:?}{url}").contains("hush"));
        assert_eq!(url.clone().take("x").unwrap_err(), "x= is given twice");
        assert_eq!(url.take_number("y", 1, 2).unwrap_err(), "y= is to be a number from 1 to 2");
        assert_eq!(url.finish("y=").unwrap_err(), "\"x\" is no option: there are y=");
    }
}
