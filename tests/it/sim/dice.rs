//! Where a life's choices come from: a seed, or a fuzzer's bytes.

/// A source of choices. The same source gives the same life.
pub enum Dice<'a> {
    /// Endless, from a seed.
    Seeded(fastrand::Rng),
    /// What a fuzzer wrote; once it is used up, every choice is the first one.
    Scripted(&'a [u8]),
}

impl Dice<'_> {
    pub fn seeded(seed: u64) -> Dice<'static> {
        Dice::Seeded(fastrand::Rng::with_seed(seed))
    }

    /// Whether a script is used up.
    pub fn spent(&self) -> bool {
        matches!(self, Dice::Scripted([]))
    }

    pub fn byte(&mut self) -> u8 {
        match self {
            Dice::Seeded(rng) => rng.u8(..),
            Dice::Scripted(script) => {
                let Some((first, rest)) = script.split_first() else { return 0 };
                *script = rest;
                *first
            }
        }
    }

    pub fn word(&mut self) -> u32 {
        match self {
            Dice::Seeded(rng) => rng.u32(..),
            Dice::Scripted(_) => u32::from_be_bytes([self.byte(), self.byte(), self.byte(), self.byte()]),
        }
    }

    /// A number below `n`; 0 if `n` is 0.
    pub fn below(&mut self, n: usize) -> usize {
        match (self, n) {
            (_, 0 | 1) => 0,
            (Dice::Seeded(rng), _) => rng.usize(..n),
            (dice, 2..=256) => usize::from(dice.byte()) % n,
            (dice, _) => dice.word() as usize % n,
        }
    }

    pub fn between(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    /// True in `percent` of a hundred cases; false once a script is used up.
    pub fn chance(&mut self, percent: usize) -> bool {
        99 - self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// The index of one of the weights.
    pub fn weighted(&mut self, weights: &[usize]) -> usize {
        let mut at = self.below(weights.iter().sum());
        for (index, weight) in weights.iter().enumerate() {
            if at < *weight {
                return index;
            }
            at -= weight;
        }
        0
    }

    pub fn bytes(&mut self, n: usize) -> Vec<u8> {
        (0..n).map(|_| self.byte()).collect()
    }
}
