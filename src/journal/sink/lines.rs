//! A file's lines, from the last to the first.

use std::borrow::Borrow;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Bytes of the longest line that is one of ours: the longest body in base64, and texts of which every byte is escaped.
pub(super) const MAX_LINE: usize = 256 * 1024;

/// Bytes that are read at once.
const BLOCK: usize = 256 * 1024;

/// Reads lines backwards.
#[derive(Debug)]
pub(super) struct Backwards<F: Borrow<File>> {
    file: F,
    /// Where `held` begins in the file.
    begin: u64,
    /// What is read and not yet returned.
    held: Vec<u8>,
    /// What follows the last newline has been looked at.
    ended: bool,
}

impl<F: Borrow<File>> Backwards<F> {
    pub fn new(file: F) -> io::Result<Backwards<F>> {
        let begin = file.borrow().metadata()?.len();
        Ok(Backwards { file, begin, held: Vec::new(), ended: false })
    }

    /// What follows the last newline; no more than a bit over [`MAX_LINE`] of it.
    pub fn torn(&mut self) -> io::Result<Vec<u8>> {
        self.ended = true;
        let torn = self.piece()?;
        Ok(torn.unwrap_or_default())
    }

    /// The line before, without its newline; `None`: that was the first. A line that is longer than
    /// [`MAX_LINE`] comes in pieces.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        if !self.ended {
            self.torn()?;
        }
        if self.begin == 0 && self.held.is_empty() {
            return Ok(None);
        }
        // The newline that ends it.
        if self.held.last() == Some(&b'\n') {
            self.held.pop();
        }
        Ok(Some(self.piece()?.unwrap_or_default()))
    }

    /// What stands between the last newline in the file's rest and that rest's end.
    fn piece(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if let Some(newline) = self.held.iter().rposition(|byte| *byte == b'\n') {
                return Ok(Some(self.held.split_off(newline + 1)));
            }
            if self.begin == 0 || self.held.len() > MAX_LINE {
                return Ok(Some(std::mem::take(&mut self.held)));
            }
            self.read()?;
        }
    }

    fn read(&mut self) -> io::Result<()> {
        let len = self.begin.min(BLOCK as u64) as usize;
        let begin = self.begin - len as u64;
        let mut block = vec![0; len];
        self.file.borrow().read_exact_at(&mut block, begin)?;
        block.append(&mut self.held);
        (self.held, self.begin) = (block, begin);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn read(text: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(text).unwrap();
        let mut lines = Backwards::new(&file).unwrap();
        let torn = lines.torn().unwrap();
        let mut found = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            found.push(line);
        }
        found.reverse();
        (torn, found)
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn every_line_is_found_wherever_blocks_end(
            lens in prop::collection::vec(prop_oneof![0..5usize, 0..5000usize, BLOCK - 3..BLOCK], 0..8),
            torn in prop_oneof![Just(0usize), 1..10usize, BLOCK - 2..BLOCK],
        ) {
            let lines: Vec<Vec<u8>> = lens.iter().map(|len| vec![b'x'; *len]).collect();
            let mut text: Vec<u8> = lines.iter().flat_map(|line| [line, &b"\n"[..]].concat()).collect();
            text.extend(std::iter::repeat_n(b'y', torn));
            prop_assert_eq!(read(&text), (vec![b'y'; torn], lines));
        }
    }

    #[test]
    fn a_file_that_is_one_endless_line_is_not_read_into_memory() {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'x'; 4 * MAX_LINE]).unwrap();
        let mut lines = Backwards::new(&file).unwrap();
        assert!((MAX_LINE..=MAX_LINE + BLOCK).contains(&lines.torn().unwrap().len()));
    }
}
