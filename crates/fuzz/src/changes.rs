//! Random changes to the inputs of a corpus.

/// Maximum number of changes to one input.
const MAX_CHANGES: usize = 6;
/// Maximum length of a range that is copied, removed or repeated.
const MAX_RANGE: usize = 64;
/// Characters with a meaning in some format or on a terminal.
const CHARACTERS: &str = "\"\\{}[]()<>:,;=&?#%@/'.-+_* \t\n\r\0\u{1b}\u{7f}019eETZukM\u{80}\u{85}\u{9b}\u{ad}\u{e9}\u{300}\
    \u{61c}\u{200b}\u{202e}\u{2028}\u{2067}\u{3000}\u{6f22}\u{d7ff}\u{feff}\u{ffff}\u{1f980}\u{10ffff}";

/// An endless series of changed inputs.
pub(crate) struct Changes<'c> {
    corpus: &'c [Vec<u8>],
    random: Random,
}

impl<'c> Changes<'c> {
    pub(crate) fn new(corpus: &'c [Vec<u8>], seed: u64) -> Self {
        // The generator would return only zeros from a seed of zero.
        Self { corpus, random: Random(seed | 1) }
    }

    pub(crate) fn next_input(&mut self) -> Vec<u8> {
        let mut input = self.any_of_corpus().to_vec();
        for _ in 0..=self.random.below(MAX_CHANGES) {
            self.change(&mut input);
        }
        input
    }

    fn any_of_corpus(&mut self) -> &'c [u8] {
        let corpus = self.corpus;
        corpus.get(self.random.below(corpus.len())).map_or(&[], Vec::as_slice)
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        let (start, end) = self.range(input);
        match self.random.below(8) {
            0 => drop(input.drain(start..end)),
            1 => input.truncate(start),
            2 => {
                let at = self.random.below(CHARACTERS.chars().count());
                let character: String = CHARACTERS.chars().skip(at).take(1).collect();
                input.splice(start..start, character.into_bytes());
            }
            3 => {
                let copies = input[start..end].repeat(1 + self.random.below(8));
                input.splice(end..end, copies);
            }
            4 | 5 => {
                let other = self.any_of_corpus();
                let (from, to) = self.range(other);
                let replaced = if self.random.below(2) == 0 { start..start } else { start..end };
                input.splice(replaced, other[from..to].iter().copied());
            }
            6 if start < input.len() => input[start] ^= 1 << self.random.below(8),
            _ if start < input.len() => input[start] = self.random.byte(),
            _ => input.push(self.random.byte()),
        }
    }

    /// Returns a short range of the bytes, or now and then a long one.
    fn range(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.random.below(bytes.len() + 1);
        let longest = if self.random.below(8) == 0 { bytes.len() } else { MAX_RANGE };
        (start, (start + self.random.below(longest + 1)).min(bytes.len()))
    }
}

/// xorshift generator.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Returns a number below `limit`, or 0 if that is 0.
    fn below(&mut self, limit: usize) -> usize {
        usize::try_from((self.next() >> 16) % limit.max(1) as u64).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }
}
