//! Fuzz target: the units and addresses of the command line.

use crate::http::HttpAddr;
use crate::units::{ByteSize, Count, TimeSpan, bytes_within, count};

#[test]
fn units() {
    fuzz::check("units", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        fuzz::reads_back::<ByteSize>(text);
        fuzz::reads_back::<Count>(text);
        fuzz::reads_back::<HttpAddr>(text);
        fuzz::reads_back::<TimeSpan>(text);
        assert_eq!(count::<u16>(text).ok().map(u64::from), text.parse().ok().map(Count::get).filter(|n| *n < 1 << 16));
        let sizes = bytes_within::<u32>(1_024..=65_536)(text).map(u64::from);
        let expected = text.parse().ok().map(ByteSize::get).filter(|bytes| (1_024..=65_536).contains(bytes));
        assert_eq!(sizes.as_ref().ok(), expected.as_ref());
        // The error's text quotes the input.
        let _ = sizes.map_err(|error| error.to_string());
    });
}
