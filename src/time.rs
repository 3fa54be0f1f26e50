//! Points in time, as logs tell them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// RFC 3339 in UTC with milliseconds. A clock outside of 1970 to 9999 gives the nearest of these.
pub(crate) fn rfc3339(at: SystemTime) -> String {
    const YEAR_9999: Duration = Duration::from_secs(253_402_300_799);
    let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().min(YEAR_9999);
    humantime::format_rfc3339_millis(UNIX_EPOCH + at).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_outlive_a_clock_that_is_off() {
        let year = Duration::from_secs(365 * 86_400);
        assert_eq!(rfc3339(UNIX_EPOCH - year), "1970-01-01T00:00:00.000Z");
        assert_eq!(rfc3339(UNIX_EPOCH + 9_000 * year), "9999-12-31T23:59:59.000Z");
    }
}
