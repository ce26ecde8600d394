//! Weighted choice in constant time.

use crate::keyed_rng::scale;

/// Walker's alias method in Vose's form ("A linear algorithm for generating random numbers with a
/// given distribution", IEEE TSE 1991), with integer weights: the same bits on every machine.
#[derive(Debug)]
pub(crate) struct AliasTable {
    columns: Vec<Column>,
}

/// Column of an alias table: a random number below `limit` selects the column, any other its `alias`.
#[derive(Clone, Copy, Debug)]
struct Column {
    limit: u32,
    alias: u32,
}

impl AliasTable {
    /// Creates a table that selects index `i` with probability `weights[i] / sum`, to within 2^-32.
    ///
    /// Returns `None` if all weights are 0 or there are more than `u32::MAX` of them.
    pub(crate) fn new(weights: &[u64]) -> Option<Self> {
        let len = u32::try_from(weights.len()).ok()?;
        let total: u128 = weights.iter().copied().map(u128::from).sum();
        if total == 0 {
            return None;
        }
        // Scaled by `len`, so that each column holds exactly `total`, an integer.
        let mut filled: Vec<u128> = (weights.iter()).map(|&weight| u128::from(weight) * u128::from(len)).collect();
        let (mut small, mut large): (Vec<u32>, Vec<u32>) =
            (0..len).partition(|&column| filled[column as usize] < total);
        let full = |column| Column { limit: u32::MAX, alias: column };
        let mut columns: Vec<Column> = (0..len).map(full).collect();
        while let (Some(short), Some(&long)) = (small.pop(), large.last()) {
            let own = filled[short as usize];
            columns[short as usize] =
                Column { limit: u32::try_from((own << 32) / total).unwrap_or(u32::MAX), alias: long };
            filled[long as usize] -= total - own;
            if filled[long as usize] < total {
                large.pop();
                small.push(long);
            }
        }
        Some(Self { columns })
    }

    /// Returns the index that a random number selects. Its upper bits select the column, its lower bits the half.
    pub(crate) fn choose(&self, random: u64) -> u32 {
        let place = scale(random, self.columns.len() as u64);
        // The low half of the product is as uniform as `random` and independent of the column.
        let rest = random.wrapping_mul(self.columns.len() as u64) >> 32;
        let column = self.columns[usize::try_from(place).unwrap_or(0)];
        if rest < u64::from(column.limit) { u32::try_from(place).unwrap_or(0) } else { column.alias }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::keyed_rng::KeyedRng;

    #[test]
    fn choices_follow_the_weights() {
        let weights = [50, 30, 0, 15, 5];
        let table = AliasTable::new(&weights).unwrap();
        let mut chosen = [0_i64; 5];
        let mut numbers = KeyedRng::new(1, 1);
        for _ in 0..1_000_000 {
            chosen[table.choose(numbers.next()) as usize] += 1;
        }
        for (place, weight) in weights.iter().enumerate() {
            let expected = weight * 10_000;
            let far = chosen[place] - i64::try_from(expected).unwrap();
            assert!(far.abs() < 2_500, "{place}: {} of {expected}", chosen[place]);
        }
        assert_eq!(chosen[2], 0);
    }

    #[test]
    fn nothing_to_choose_from_is_no_table() {
        assert!(AliasTable::new(&[]).is_none());
        assert!(AliasTable::new(&[0, 0]).is_none());
        assert_eq!(AliasTable::new(&[9]).unwrap().choose(u64::MAX), 0);
    }
}
