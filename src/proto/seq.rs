//! Serial-number arithmetic for `seq`.

/// Whether `next` comes after `prev` in serial-number arithmetic
/// ([RFC 1982](https://www.rfc-editor.org/rfc/rfc1982), SERIAL_BITS = 32).
///
/// Numbers exactly 2³¹ apart have no order in the RFC; they count as not increasing.
pub const fn seq_follows(prev: u32, next: u32) -> bool {
    let distance = next.wrapping_sub(prev);
    distance != 0 && distance < 1 << 31
}

#[cfg(test)]
mod tests {
    use super::seq_follows;

    #[test]
    fn order_wraps_around() {
        assert!(seq_follows(0, 1));
        assert!(seq_follows(u32::MAX, 0));
        assert!(seq_follows(u32::MAX - 5, 3));
        assert!(seq_follows(7, 7 + (1 << 31) - 1));
        assert!(!seq_follows(5, 5));
        assert!(!seq_follows(5, 4));
        assert!(!seq_follows(7, 7 + (1 << 31)));
        assert!(!seq_follows(0, u32::MAX));
    }
}
