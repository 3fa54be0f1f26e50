//! Bytes as hex digits, and back.

/// Lower-case digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Exactly `2 * N` digits of either case.
#[cfg_attr(not(feature = "admin"), allow(dead_code))]
pub(crate) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let nibble = |c: u8| char::from(c).to_digit(16).map(|n| n as u8);
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_lead_back_to_their_bytes_and_nothing_else_is_taken_for_them() {
        assert_eq!(unhex(&hex(&[0, 0x7f, 0xff])), Some([0, 0x7f, 0xff]));
        assert_eq!(unhex("00FfaB"), Some([0, 0xff, 0xab]));
        for wrong in ["", "0", "00ffa", "00ffabc", "00ffa ", "00ffag", "+0ffab", "00ff\u{e9}"] {
            assert_eq!(unhex::<3>(wrong), None, "{wrong}");
        }
    }
}
