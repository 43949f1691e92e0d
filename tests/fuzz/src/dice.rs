//! Mutations that look random and are always the same.

/// A source of numbers (xorshift) and of inputs made from them.
#[derive(Clone, Debug)]
pub struct Dice(u64);

/// Most bytes of an input.
const LONGEST: usize = 4096;

impl Dice {
    /// From a number; the same number gives the same inputs.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Dice(seed | 1)
    }

    /// A number below `sides`.
    pub fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides.max(1) as u64) as usize
    }

    /// An input made from one of the seeds by a few changes.
    pub fn input(&mut self, seeds: &[&[u8]]) -> Vec<u8> {
        let mut bytes = seeds.get(self.roll(seeds.len())).map(|seed| seed.to_vec()).unwrap_or_default();
        for _ in 0..=self.roll(6) {
            self.change(&mut bytes, seeds);
        }
        bytes.truncate(LONGEST);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, seeds: &[&[u8]]) {
        let at = self.roll(bytes.len() + 1);
        let end = (at + self.roll(16)).min(bytes.len());
        match self.roll(7) {
            0 => bytes.insert(at, self.roll(256) as u8),
            1 => drop(bytes.drain(at..end)),
            2 => {
                let part = bytes.get(at..end).unwrap_or_default().to_vec();
                let part = part.repeat(1 + self.roll(40));
                bytes.splice(at..at, part);
            }
            3 => {
                // A part of another seed.
                let other = seeds.get(self.roll(seeds.len())).copied().unwrap_or_default();
                let from = self.roll(other.len() + 1);
                let to = (from + self.roll(24)).min(other.len());
                bytes.splice(at..at, other.get(from..to).unwrap_or_default().iter().copied());
            }
            4 => {
                let digits =
                    ["0", "-1", "9223372036854775808", "1e999", "\"", "\\", "{", "[", "\n", "\u{feff}", "é"];
                let word = digits.get(self.roll(digits.len())).copied().unwrap_or_default();
                bytes.splice(at..at, word.bytes());
            }
            5 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << self.roll(8);
                }
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = self.roll(256) as u8;
                }
            }
        }
    }
}
