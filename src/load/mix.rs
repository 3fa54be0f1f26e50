//! What a request is: commands and payload sizes, drawn by weight. PURE.

use fastrand::Rng;
use serde::{Deserialize, Serialize};

use crate::proto::{Command, MAX_BODY, MAX_PING};

/// Lines that a mix may have.
const MAX_ENTRIES: usize = 1_000;
/// Bytes of a key with its length, in front of a value; see [`super::payload`].
pub(super) const KEY: usize = 7;
/// Most bytes of a topic with its length, in front of a body.
pub(super) const TOPIC: usize = 16;
/// Bytes of a block of extensions that holds an idempotency key.
const IDEMPOTENCY: usize = 19;

/// Commands and sizes with their weights.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mix {
    entries: Vec<Entry>,
    /// Sum of all weights.
    weight: u64,
}

/// One line of a mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// How often, among the sum of all weights.
    weight: u32,
    cmd: u8,
    /// The least payload, bytes: of SESSION_PUT the value, of SUBMIT and PUBLISH the body.
    least: u16,
    /// The greatest.
    most: u16,
}

impl Mix {
    /// ECHO of `payload` bytes and nothing else.
    pub fn echo(payload: u16) -> Mix {
        let entry = Entry { weight: 1, cmd: Command::ECHO.0, least: payload, most: payload };
        Mix { entries: vec![entry], weight: 1 }
    }

    /// Reads lines of weight, command and bytes, such as `20 ECHO 100-4000`; `#` begins a comment.
    /// `name` is the file's, for the error.
    ///
    /// # Errors
    /// In words: file, line, what is wrong, and what is accepted.
    pub fn parse(name: &str, text: &str) -> Result<Mix, String> {
        let mut mix = Mix { entries: Vec::new(), weight: 0 };
        for (index, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or("").trim();
            if line.is_empty() {
                continue;
            }
            let wrong = |what: String| {
                let accepted = "a line is WEIGHT COMMAND [BYTES or LEAST-MOST], such as '20 ECHO 100-4000'";
                format!("{name}:{}: {what}; {accepted}", index + 1)
            };
            mix.push(Entry::parse(line).map_err(wrong)?).map_err(wrong)?;
        }
        if mix.entries.is_empty() {
            return Err(format!("{name}: there is no line with a command; '1 ECHO 64' would do"));
        }
        Ok(mix)
    }

    fn push(&mut self, entry: Entry) -> Result<(), String> {
        if self.entries.len() == MAX_ENTRIES {
            return Err(format!("more than {MAX_ENTRIES} lines"));
        }
        self.weight += u64::from(entry.weight);
        self.entries.push(entry);
        Ok(())
    }

    /// Draws a request: which entry, and how many bytes.
    #[inline]
    pub fn pick(&self, random: &mut Rng) -> (u16, u16) {
        let mut index = 0;
        if self.entries.len() > 1 {
            let mut left = random.u64(0..self.weight);
            while left >= u64::from(self.entries[index].weight) {
                left -= u64::from(self.entries[index].weight);
                index += 1;
            }
        }
        let entry = &self.entries[index];
        let len = if entry.least == entry.most { entry.least } else { random.u16(entry.least..=entry.most) };
        (index as u16, len)
    }

    /// The command of an entry that [`Mix::pick`] chose.
    #[inline]
    pub fn command(&self, index: u16) -> Command {
        Command(self.entries[usize::from(index)].cmd)
    }

    /// The largest body that it sends, bytes.
    pub fn largest(&self) -> usize {
        self.entries.iter().map(Entry::body).max().unwrap_or(0)
    }
}

impl Entry {
    fn parse(line: &str) -> Result<Entry, String> {
        let mut words = line.split_whitespace();
        let weight = words.next().unwrap_or("");
        let weight = weight.parse().ok().filter(|weight| *weight > 0);
        let weight = weight.ok_or("the weight is no whole number from 1 up")?;
        let name = words.next().ok_or("there is no command")?;
        let cmd = Command::parse(name).filter(|cmd| sends(*cmd)).ok_or_else(|| {
            format!(
                "{name:?} is no command that can be sent here (PING, ECHO, SESSION_GET, SESSION_PUT, SESSION_DELETE, \
                 SUBMIT, PUBLISH, or a number from 0x20 to 0xFF)"
            )
        })?;
        let (least, most) = match words.next() {
            None => (0, 0),
            Some(_) if matches!(cmd, Command::SESSION_GET | Command::SESSION_DELETE) => {
                return Err(format!("{cmd} takes no bytes: its payload is a key"));
            }
            Some(bytes) => {
                range(bytes).ok_or_else(|| format!("{bytes:?} is no number of bytes, nor a range of them"))?
            }
        };
        if let Some(word) = words.next() {
            return Err(format!("{word:?} is one word too many"));
        }
        let entry = Entry { weight, cmd: cmd.0, least, most };
        let bound = if cmd == Command::PING { MAX_PING } else { MAX_BODY };
        if entry.body() > bound {
            return Err(format!("{cmd} can't carry {most} bytes"));
        }
        Ok(entry)
    }

    /// Bytes of the largest body.
    fn body(&self) -> usize {
        let prefix = match Command(self.cmd) {
            Command::SESSION_PUT | Command::SESSION_GET | Command::SESSION_DELETE => KEY,
            Command::SUBMIT => TOPIC + IDEMPOTENCY,
            Command::PUBLISH => TOPIC,
            _ => 0,
        };
        prefix + usize::from(self.most)
    }
}

fn sends(cmd: Command) -> bool {
    let built_in = [
        Command::PING,
        Command::ECHO,
        Command::SESSION_GET,
        Command::SESSION_PUT,
        Command::SESSION_DELETE,
        Command::SUBMIT,
        Command::PUBLISH,
    ];
    cmd.is_application() || built_in.contains(&cmd)
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (least, most) = text.split_once('-').unwrap_or((text, text));
    let (least, most) = (least.parse().ok()?, most.parse().ok()?);
    (least <= most).then_some((least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_drawn_by_weight_and_within_their_sizes() {
        let text = "# a day\n70 ECHO 32\n\n20 echo 100-4000 # large\n10 SESSION_GET\n";
        let mix = Mix::parse("day", text).unwrap();
        let mut random = Rng::with_seed(1);
        let mut drawn = [0; 3];
        for _ in 0..10_000 {
            let (index, len) = mix.pick(&mut random);
            drawn[usize::from(index)] += 1;
            assert!([32..=32, 100..=4000, 0..=0][usize::from(index)].contains(&len));
        }
        assert!((6_500..7_500).contains(&drawn[0]) && (1_700..2_300).contains(&drawn[1]), "{drawn:?}");
        assert_eq!((mix.command(0), mix.command(2), mix.largest()), (Command::ECHO, Command::SESSION_GET, 4_000));
    }

    #[test]
    fn one_seed_draws_one_sequence() {
        let mix = Mix::parse("m", "1 ECHO 0-9999\n1 0x20 5").unwrap();
        let draw = |seed| {
            let mut random = Rng::with_seed(seed);
            (0..20).map(|_| mix.pick(&mut random)).collect::<Vec<_>>()
        };
        assert_eq!(draw(3), draw(3));
        assert_ne!(draw(3), draw(4));
    }

    #[test]
    fn an_error_names_file_line_and_what_is_accepted() {
        for (text, part) in [
            ("1 ECHO\nx ECHO 3", "day.mix:2: the weight is no whole number"),
            ("0 ECHO", "day.mix:1: the weight"),
            ("5", "day.mix:1: there is no command"),
            ("5 AUTH", "\"AUTH\" is no command"),
            ("5 0x0A 3", "\"0x0A\" is no command"),
            ("5 ECHO 9-3", "\"9-3\" is no number of bytes"),
            ("5 ECHO 70000", "\"70000\" is no number"),
            ("5 ECHO 3 4", "\"4\" is one word too many"),
            ("5 PING 126", "PING can't carry 126 bytes"),
            ("5 SESSION_PUT 65535", "SESSION_PUT can't carry"),
            ("5 SUBMIT 65501", "SUBMIT can't carry"),
            ("5 SESSION_GET 3", "SESSION_GET takes no bytes"),
        ] {
            let error = Mix::parse("day.mix", text).unwrap_err();
            assert!(error.contains(part) && error.contains("WEIGHT COMMAND"), "{error}");
        }
        assert!(Mix::parse("day.mix", "# nothing\n").unwrap_err().contains("no line with a command"));
    }
}
