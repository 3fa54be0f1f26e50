//! A client, sometimes polite and sometimes not.

use super::dice::Dice;
use super::socket::Stream;

/// How a client behaves for the whole of its life.
#[derive(Debug)]
pub struct Manners {
    /// Percent of its frames that break a rule.
    pub rude: usize,
    /// Answers PING.
    pub pongs: bool,
    /// Percent of its chances that it takes to read what it is sent.
    pub reads: usize,
    /// Stops sending after GOAWAY.
    pub obeys: bool,
}

/// What the client knows and will say next.
pub struct Client {
    pub manners: Manners,
    pub max_payload: usize,
    auth_sent: bool,
    seq: u32,
    /// It said GOAWAY or BYE, or obeys one: nothing more is sent.
    done: bool,
    /// Where it has read to, in whole frames.
    parsed: usize,
}

impl Client {
    pub fn new(dice: &mut Dice<'_>, max_payload: usize) -> Client {
        let manners = Manners {
            rude: dice.pick(&[0, 0, 1, 5, 40]),
            pongs: !dice.chance(25),
            reads: dice.pick(&[100, 100, 100, 100, 50, 5, 0]),
            obeys: !dice.chance(30),
        };
        let seq = if dice.chance(50) { dice.below(9) as u32 } else { dice.pick(&[u32::MAX - 3, 1 << 31, 0]) };
        Client { manners, max_payload, auth_sent: false, seq, done: false, parsed: 0 }
    }

    /// Puts a frame, or something like one, on the way.
    pub fn speak(&mut self, dice: &mut Dice<'_>, stream: &mut Stream) {
        if stream.client_fin || (self.done && self.manners.obeys) {
            return;
        }
        let bytes = if dice.chance(self.manners.rude) { self.rude(dice) } else { self.polite(dice) };
        stream.up.extend(bytes);
    }

    /// Says no more; sometimes in the middle of a frame.
    pub fn fin(&mut self, dice: &mut Dice<'_>, stream: &mut Stream) {
        if !stream.client_fin && dice.chance(40) {
            let keep = dice.below(stream.up.len() + 1);
            stream.up.truncate(keep);
        }
        stream.client_fin = true;
    }

    /// Reads some of what was sent, and reacts to it.
    pub fn read(&mut self, dice: &mut Dice<'_>, stream: &mut Stream) {
        let unread = stream.unread();
        if unread == 0 || !dice.chance(self.manners.reads) {
            return;
        }
        stream.read += if dice.chance(50) { unread } else { dice.below(unread + 1) };
        while let Some(header) = stream.sent[..stream.read].get(self.parsed..self.parsed + 9) {
            let end = self.parsed + 9 + (usize::from(header[2]) << 8 | usize::from(header[3]));
            if end > stream.read {
                break;
            }
            self.parsed = end;
            match header[8] {
                3 if self.manners.pongs && !stream.client_fin => stream.up.extend(frame(1, 0, 4, &[])),
                5 if self.manners.obeys && !self.done && !stream.client_fin => {
                    self.done = true;
                    stream.up.extend(frame(1, 0, 5, &[]));
                }
                _ => {}
            }
        }
    }

    fn next_seq(&mut self, dice: &mut Dice<'_>) -> u32 {
        let step = if dice.chance(90) { 1 } else { dice.between(1, 1000) as u32 };
        self.seq = self.seq.wrapping_add(step);
        self.seq
    }

    fn polite(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let seq = self.next_seq(dice);
        if !self.auth_sent {
            self.auth_sent = true;
            let wish = (dice.below(20_000) as u32).to_be_bytes();
            return match dice.below(3) {
                0 => extended(seq, 1, &[&[5, 4], &wish[..]].concat(), b"token"),
                1 => extended(seq, 1, &[], b""),
                _ => frame(1, seq, 1, b"token"),
            };
        }
        match dice.weighted(&[300, 90, 90, 30, 60, 3, 3]) {
            0 => {
                let payload = self.payload(dice);
                frame(1, seq, dice.pick(&[0x10, 0x20, 0xFF]), &payload)
            }
            1 => {
                let len = dice.below(126);
                frame(1, seq, 3, &vec![9; len])
            }
            2 => {
                let block: &[u8] = dice.pick(&[&[], &[0x7F, 1, 0], &[2, 4, 0, 0, 1, 0], &[6, 1, 1, 0x20, 0]]);
                extended(seq, 0x21, block, b"hello")
            }
            3 => frame(1, dice.word(), 4, b""),
            4 => extended(seq, 0x22, dice.pick(&[&[0x80, 0][..], &[7, 1, b'x'], &[2, 4, 0, 0, 0, 0]]), b"no"),
            5 => {
                self.done = true;
                frame(1, dice.word(), 5, b"")
            }
            _ => {
                self.done = true;
                frame(1, seq, 6, b"")
            }
        }
    }

    fn payload(&self, dice: &mut Dice<'_>) -> Vec<u8> {
        let len = match dice.weighted(&[80, 15, 5]) {
            0 => dice.below(30),
            1 => dice.below(self.max_payload.min(500) + 1),
            _ => dice.below(self.max_payload.min(9_000) + 1),
        };
        vec![b'M'; len]
    }

    fn rude(&mut self, dice: &mut Dice<'_>) -> Vec<u8> {
        let seq = self.next_seq(dice);
        match dice.below(14) {
            0 => frame(1, seq.wrapping_sub(dice.pick(&[1, 2, 1 << 31])), 0x10, b"again"),
            1 => vec![dice.byte()],
            2 => frame(dice.byte(), seq, 0x10, b"version"),
            3 => extended(seq, 0x10, &[0x20, 9, 1], b""),
            4 => [&frame(2, seq, 0x10, &[200])[..], b"overrun"].concat(),
            5 => {
                let mut header = frame(1, seq, dice.pick(&[0x10, 1, 5]), b"");
                let length = (self.max_payload + 1 + dice.below(100)).min(65_535) as u16;
                header[2..4].copy_from_slice(&length.to_be_bytes());
                header
            }
            6 => frame(1, seq, 1, b"again"),
            7 => frame(1, seq, 3, &[0; 126]),
            8 => frame(1, seq, dice.pick(&[0, 2, 7, 0x0E, 0x0F]), b""),
            9 => frame(1, seq, dice.pick(&[5, 6]), b"not empty"),
            10 => {
                let n = dice.below(40);
                dice.bytes(n)
            }
            11 => extended(seq, dice.pick(&[1, 3, 4, 5, 6]), dice.pick(&[&[0x99, 0][..], &[8, 1, 0], &[0x30, 0]]), b""),
            12 => frame(1, seq, 0x10, b"before AUTH, perhaps"),
            _ => {
                let mut half = frame(1, seq, 0x10, &[b'M'; 50]);
                half.truncate(dice.between(1, 58));
                half
            }
        }
    }
}

/// A frame by hand.
pub fn frame(version: u8, seq: u32, cmd: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("a body of a test fits");
    let mut bytes = vec![b'M', version];
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(&seq.to_be_bytes());
    bytes.push(cmd);
    bytes.extend_from_slice(body);
    bytes
}

/// A version-2 frame by hand.
pub fn extended(seq: u32, cmd: u8, block: &[u8], payload: &[u8]) -> Vec<u8> {
    frame(2, seq, cmd, &[&[block.len() as u8], block, payload].concat())
}
