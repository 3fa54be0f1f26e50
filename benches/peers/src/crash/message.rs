//! The messages that clients send: each is known by its number alone, so that whoever finds one can
//! tell whose it is and whether a bit of it has changed.

use fastrand::Rng;

/// Bytes of a body that tell whose it is: client and number.
const HEAD: usize = 12;
/// The longest body: with topic, key and lengths it still fits a frame.
const LONGEST: usize = 60_000;

/// A message as it was sent, and has to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its idempotency key, of its own.
    pub key: [u8; 16],
    /// Of any size: mostly small, some tens of KiB.
    pub body: Vec<u8>,
}

/// Message `n` of a client in the run of this seed.
pub fn message(seed: u64, client: u32, n: u64) -> Sent {
    let mut rng = Rng::with_seed(seed ^ (u64::from(client) << 40) ^ n.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let mut key = [0; 16];
    rng.fill(&mut key);
    let len = match rng.u8(0..100) {
        0..70 => rng.usize(HEAD..300),
        70..96 => rng.usize(300..4_096),
        _ => rng.usize(4_096..LONGEST),
    };
    let mut body = vec![0; len];
    rng.fill(&mut body[HEAD..]);
    body[..4].copy_from_slice(&client.to_be_bytes());
    body[4..HEAD].copy_from_slice(&n.to_be_bytes());
    Sent { key, body }
}

/// A client's own topic. What is `sunk` goes to a sink, the rest stays in the journal.
pub fn topic(client: u32, sunk: bool) -> String {
    format!("{}/{client}", if sunk { "sunk" } else { "kept" })
}

/// Whose message this is, and which; if it is one, and unchanged.
///
/// # Errors
/// It is not, and why.
pub fn recognise(seed: u64, topic_found: &str, key: Option<&[u8]>, body: &[u8]) -> Result<(u32, u64), String> {
    let head = body.get(..HEAD).ok_or_else(|| format!("{} bytes in {topic_found} are no message", body.len()))?;
    let client = u32::from_be_bytes(head[..4].try_into().unwrap_or_default());
    let n = u64::from_be_bytes(head[4..].try_into().unwrap_or_default());
    let sent = message(seed, client, n);
    if sent.body != body {
        return Err(format!("message {n} of client {client} has another body than was sent"));
    }
    if key != Some(&sent.key[..]) {
        return Err(format!("message {n} of client {client} has another key than was sent"));
    }
    if topic_found != topic(client, true) && topic_found != topic(client, false) {
        return Err(format!("message {n} of client {client} is in {topic_found}"));
    }
    Ok((client, n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_recognised_and_one_that_has_changed_is_not() {
        let Sent { key, body } = message(7, 3, 99);
        assert_eq!(recognise(7, "sunk/3", Some(&key), &body), Ok((3, 99)));
        let mut other = body.clone();
        *other.last_mut().unwrap() ^= 1;
        assert!(recognise(7, "sunk/3", Some(&key), &other).unwrap_err().contains("body"));
        assert!(recognise(7, "sunk/4", Some(&key), &body).unwrap_err().contains("sunk/4"));
        assert!(recognise(7, "sunk/3", None, &body).unwrap_err().contains("key"));
        assert!(recognise(8, "sunk/3", Some(&key), &body).is_err());
    }

    #[test]
    fn every_message_has_a_key_of_its_own() {
        let keys: std::collections::BTreeSet<[u8; 16]> =
            (0..50).flat_map(|client| (0..50).map(move |n| message(1, client, n).key)).collect();
        assert_eq!(keys.len(), 2_500);
    }
}
