//! Median, minimum and maximum over the rounds of a comparison.

/// Median of some values with their minimum and maximum.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Returns the spread of the values, or `None` if there are none.
    ///
    /// The median of an even number of values is the mean of the two middle ones.
    pub(crate) fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let (min, max) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median =
            if values.len().is_multiple_of(2) { values[middle - 1].midpoint(values[middle]) } else { values[middle] };
        Some(Self { median, min, max })
    }

    /// Formats the median, and the range if there is more than one value, as `12.5 (11.0 to 14.0)`.
    pub(crate) fn in_line(&self, decimals: usize) -> String {
        match self.range(decimals) {
            Some((min, max)) => format!("{:.decimals$} ({min} to {max})", self.median),
            None => format!("{:.decimals$}", self.median),
        }
    }

    /// Formats the median in the first line and the range in the second, for the cell of a table.
    pub(crate) fn cell(&self, decimals: usize) -> String {
        match self.range(decimals) {
            Some((min, max)) => format!("{:.decimals$}\n{min}–{max}", self.median),
            None => format!("{:.decimals$}", self.median),
        }
    }

    /// Returns the formatted minimum and maximum, or `None` if they look the same.
    fn range(&self, decimals: usize) -> Option<(String, String)> {
        let (min, max) = (format!("{:.decimals$}", self.min), format!("{:.decimals$}", self.max));
        (min != max).then_some((min, max))
    }
}

/// Returns the figure of the fastest of several runs of a round, each given as its speed and the figure to compare.
pub(crate) fn figure_of_fastest(runs: impl IntoIterator<Item = (f64, f64)>) -> Option<f64> {
    runs.into_iter().max_by(|(one, _), (other, _)| one.total_cmp(other)).map(|(_, figure)| figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_two_is_their_mean() {
        assert_eq!(Spread::of([]), None);
        for (values, median, min, max) in [
            (&[3.0][..], 3.0, 3.0, 3.0),
            (&[4.0, 2.0], 3.0, 2.0, 4.0),
            (&[9.0, 1.0, 2.0], 2.0, 1.0, 9.0),
            (&[8.0, 1.0, 2.0, 4.0], 3.0, 1.0, 8.0),
        ] {
            assert_eq!(Spread::of(values.iter().copied()), Some(Spread { median, min, max }), "{values:?}");
        }
    }

    #[test]
    fn the_range_stands_beside_the_median() {
        let one = Spread { median: 2.0, min: 2.0, max: 2.0 };
        assert_eq!((one.in_line(1), one.cell(0)), ("2.0".to_owned(), "2".to_owned()));
        let several = Spread { median: 12.5, min: 11.0, max: 14.0 };
        assert_eq!(several.in_line(1), "12.5 (11.0 to 14.0)");
        assert_eq!(several.cell(2), "12.50\n11.00–14.00");
    }

    #[test]
    fn the_fastest_peer_of_the_round_is_compared() {
        assert_eq!(figure_of_fastest([]), None);
        assert_eq!(figure_of_fastest([(10.0, 1.0), (30.0, 3.0), (20.0, 2.0)]), Some(3.0));
    }
}
