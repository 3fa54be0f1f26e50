//! What the flags' values look like.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

/// Addresses that one network of --source gives at most.
const MAX_SOURCES: u128 = 1_024;

/// An address or a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source(pub Vec<IpAddr>);

/// `10`, `0.5`: seconds; or as humantime has it.
pub fn parse_time(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let time = seconds.or_else(|| humantime::parse_duration(text).ok());
    // So that no sum of instants overflows.
    time.filter(|time| *time <= Duration::from_secs(1_000_000_000))
        .ok_or_else(|| "expected seconds, or a time such as 500ms, 10s or 2m".to_owned())
}

pub fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse().ok().filter(|rate| (0.001..=1e9).contains(rate));
    rate.ok_or_else(|| "expected requests a second, 0.001 to 1000000000".to_owned())
}

pub fn parse_source(text: &str) -> Result<Source, String> {
    let expected = || format!("{text:?}: expected an address or a network such as 127.0.0.0/8");
    let (address, bits) = match text.split_once('/') {
        None => return text.parse().map(|address| Source(vec![address])).map_err(|_| expected()),
        Some((address, bits)) => {
            (address.parse().map_err(|_| expected())?, bits.parse::<u32>().map_err(|_| expected())?)
        }
    };
    let (first, width): (u128, u32) = match address {
        IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let free = width.checked_sub(bits).ok_or_else(expected)?;
    let size = 1u128.checked_shl(free).unwrap_or(u128::MAX);
    let first = first & !(size - 1);
    // The first and the last of a network are not those of a host.
    let hosts = if size > 2 { first + 1..first + 1 + (size - 2).min(MAX_SOURCES) } else { first..first + size };
    let addresses = hosts.map(|host| match address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(host as u32)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(host)),
    });
    Ok(Source(addresses.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_seconds_or_has_a_unit() {
        for (text, ms) in [("10", 10_000), ("0.5", 500), ("250ms", 250), ("2m", 120_000), ("1m 30s", 90_000)] {
            assert_eq!(parse_time(text), Ok(Duration::from_millis(ms)), "{text}");
        }
        assert!(parse_time("-1").is_err() && parse_time("").is_err() && parse_time("1e300").is_err());
    }

    #[test]
    fn sources_are_addresses_and_the_hosts_of_networks() {
        let hosts = |text| parse_source(text).unwrap().0;
        assert_eq!(hosts("127.0.0.9"), ["127.0.0.9".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts("10.0.0.7/30"), ["10.0.0.5", "10.0.0.6"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert_eq!(hosts("127.0.0.0/8").len(), 1_024);
        assert_eq!(hosts("::1/128"), ["::1".parse::<IpAddr>().unwrap()]);
        assert_eq!(hosts("::/0").len(), 1_024);
    }
}
