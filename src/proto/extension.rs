//! The header extensions of version 2.

use std::fmt;

/// The type bytes of the extensions that this build knows.
pub mod extension_type {
    /// W3C trace context: trace-id 16, span-id 8, flags 1.
    pub const TRACE: u8 = 0x01;
    /// u32 milliseconds from receipt.
    pub const DEADLINE: u8 = 0x02;
    /// 16 bytes of the client's choice.
    pub const IDEMPOTENCY: u8 = 0x03;
    /// 16-byte session id, on AUTH.
    pub const RESUME: u8 = 0x04;
    /// u32 milliseconds wished for, on AUTH.
    pub const HEARTBEAT: u8 = 0x05;
    /// u8: which fallback produced a reply.
    pub const FALLBACK: u8 = 0x06;
    /// UTF-8, gateway to backend only.
    pub const PRINCIPAL: u8 = 0x07;
    /// 16-byte session id, gateway to backend only.
    pub const SESSION: u8 = 0x08;
    /// An unknown type from here up is critical: it may not be skipped.
    pub const FIRST_CRITICAL: u8 = 0x80;
}
use extension_type as ty;

/// A W3C trace context (<https://www.w3.org/TR/trace-context/>).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace.
    pub trace_id: [u8; 16],
    /// The caller's span.
    pub span_id: [u8; 8],
    /// Bit 0: sampled.
    pub flags: u8,
}

impl Trace {
    /// Bytes of the extension's value.
    pub const LEN: usize = 25;

    /// The extension's value.
    pub fn to_bytes(self) -> [u8; Trace::LEN] {
        let mut bytes = [0; Trace::LEN];
        bytes[..16].copy_from_slice(&self.trace_id);
        bytes[16..24].copy_from_slice(&self.span_id);
        bytes[24] = self.flags;
        bytes
    }
}

impl fmt::Display for Trace {
    /// The `traceparent` of the W3C recommendation: `00-<trace-id>-<span-id>-<flags>`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("00-")?;
        self.trace_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        f.write_str("-")?;
        self.span_id.iter().try_for_each(|b| write!(f, "{b:02x}"))?;
        write!(f, "-{:02x}", self.flags)
    }
}

/// Which fallback produced a reply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fallback {
    /// An earlier answer.
    Cached = 1,
    /// A fixed answer.
    Default = 2,
    /// A poorer answer.
    Degraded = 3,
}

impl Fallback {
    /// The fallback a value on the wire stands for.
    pub const fn from_wire(byte: u8) -> Option<Fallback> {
        match byte {
            1 => Some(Fallback::Cached),
            2 => Some(Fallback::Default),
            3 => Some(Fallback::Degraded),
            _ => None,
        }
    }
}

/// A frame's extension block, validated once when the frame was decoded, read where it lies.
///
/// If a type stands there twice, the first counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extensions<'a>(&'a [u8]);

impl<'a> Extensions<'a> {
    /// No extensions: what a version-1 frame has.
    pub const NONE: Extensions<'static> = Extensions(&[]);

    /// Checks a block: every extension ends inside it, and each known one has its length.
    /// `None` if not: the frame is MALFORMED.
    pub fn validate(block: &'a [u8]) -> Option<Extensions<'a>> {
        let mut rest = block;
        while let [kind, len, tail @ ..] = rest {
            let (value, tail) = tail.split_at_checked(usize::from(*len))?;
            let fits = match *kind {
                ty::TRACE => value.len() == Trace::LEN,
                ty::DEADLINE | ty::HEARTBEAT => value.len() == 4,
                ty::IDEMPOTENCY | ty::RESUME | ty::SESSION => value.len() == 16,
                ty::FALLBACK => value.len() == 1,
                ty::PRINCIPAL => std::str::from_utf8(value).is_ok(),
                _ => true,
            };
            if !fits {
                return None;
            }
            rest = tail;
        }
        rest.is_empty().then_some(Extensions(block))
    }

    /// Appends one extension to a block under construction.
    ///
    /// Returns whether it fitted: value and block are at most 255 bytes each.
    #[must_use]
    pub fn push(block: &mut Vec<u8>, kind: u8, value: &[u8]) -> bool {
        let Ok(len) = u8::try_from(value.len()) else { return false };
        if block.len() + 2 + value.len() > usize::from(u8::MAX) {
            return false;
        }
        block.extend_from_slice(&[kind, len]);
        block.extend_from_slice(value);
        true
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each extension as type and value.
    pub fn iter(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let [kind, len, tail @ ..] = rest else { return None };
            let (value, tail) = tail.split_at_checked(usize::from(*len))?;
            rest = tail;
            Some((*kind, value))
        })
    }

    /// The first unknown type that may not be skipped.
    pub fn unknown_critical(&self) -> Option<u8> {
        self.iter().map(|(kind, _)| kind).find(|kind| *kind >= ty::FIRST_CRITICAL)
    }

    /// Whether there is an extension that only a gateway may send, to a backend.
    pub fn has_gateway_only(&self) -> bool {
        self.iter().any(|(kind, _)| matches!(kind, ty::PRINCIPAL | ty::SESSION))
    }

    /// TRACE.
    pub fn trace(&self) -> Option<Trace> {
        let value = self.find(ty::TRACE)?;
        Some(Trace {
            trace_id: value.get(..16)?.try_into().ok()?,
            span_id: value.get(16..24)?.try_into().ok()?,
            flags: *value.get(24)?,
        })
    }

    /// DEADLINE: milliseconds from receipt.
    pub fn deadline_ms(&self) -> Option<u32> {
        self.find_u32(ty::DEADLINE)
    }

    /// IDEMPOTENCY.
    pub fn idempotency(&self) -> Option<[u8; 16]> {
        self.find(ty::IDEMPOTENCY)?.try_into().ok()
    }

    /// RESUME: the session to go on with.
    pub fn resume(&self) -> Option<[u8; 16]> {
        self.find(ty::RESUME)?.try_into().ok()
    }

    /// HEARTBEAT: milliseconds wished for.
    pub fn heartbeat_ms(&self) -> Option<u32> {
        self.find_u32(ty::HEARTBEAT)
    }

    /// FALLBACK, if the value is one this build knows.
    pub fn fallback(&self) -> Option<Fallback> {
        Fallback::from_wire(*self.find(ty::FALLBACK)?.first()?)
    }

    fn find(&self, wanted: u8) -> Option<&'a [u8]> {
        self.iter().find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
    }

    fn find_u32(&self, wanted: u8) -> Option<u32> {
        Some(u32::from_be_bytes(self.find(wanted)?.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(extensions: &[(u8, &[u8])]) -> Vec<u8> {
        let mut block = Vec::new();
        for (kind, value) in extensions {
            assert!(Extensions::push(&mut block, *kind, value));
        }
        block
    }

    #[test]
    fn each_known_extension_reads_back() {
        let trace = Trace { trace_id: [1; 16], span_id: [2; 8], flags: 1 };
        let bytes = block(&[
            (ty::TRACE, &trace.to_bytes()),
            (ty::DEADLINE, &250u32.to_be_bytes()),
            (ty::IDEMPOTENCY, &[3; 16]),
            (ty::RESUME, &[4; 16]),
            (ty::HEARTBEAT, &30_000u32.to_be_bytes()),
            (ty::FALLBACK, &[2]),
        ]);
        let ext = Extensions::validate(&bytes).unwrap();
        assert_eq!(ext.trace(), Some(trace));
        assert_eq!(ext.deadline_ms(), Some(250));
        assert_eq!(ext.idempotency(), Some([3; 16]));
        assert_eq!(ext.resume(), Some([4; 16]));
        assert_eq!(ext.heartbeat_ms(), Some(30_000));
        assert_eq!(ext.fallback(), Some(Fallback::Default));
        assert_eq!(ext.unknown_critical(), None);
        assert!(!ext.has_gateway_only());
        assert_eq!(trace.to_string(), "00-01010101010101010101010101010101-0202020202020202-01");
    }

    #[test]
    fn unknown_types_are_skipped_below_0x80_and_critical_from_there() {
        let skipped = block(&[(0x7F, b"x"), (ty::DEADLINE, &[0, 0, 0, 1])]);
        let ext = Extensions::validate(&skipped).unwrap();
        assert_eq!((ext.unknown_critical(), ext.deadline_ms()), (None, Some(1)));
        let critical = block(&[(0x80, b"")]);
        assert_eq!(Extensions::validate(&critical).unwrap().unknown_critical(), Some(0x80));
    }

    #[test]
    fn overruns_and_wrong_lengths_are_refused() {
        assert!(Extensions::validate(&[0x70]).is_none(), "a type without a length");
        assert!(Extensions::validate(&[0x70, 2, 0]).is_none(), "a value past the block");
        assert!(Extensions::validate(&block(&[(ty::TRACE, &[0; 24])])).is_none());
        assert!(Extensions::validate(&block(&[(ty::PRINCIPAL, &[0xFF])])).is_none());
        assert!(Extensions::validate(&[]).is_some());
    }
}
