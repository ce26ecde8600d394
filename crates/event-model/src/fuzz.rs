//! Fuzz targets: an event survives a round trip through each of its formats.

use crate::{EventColumns, EventType, Hour, ProductEvent, Reason, Timestamp, Window, parse, read_batch, read_copy_row};

/// Values in JSON, and rows in the binary COPY format.
#[test]
fn formats() {
    fuzz::check("formats", |input: &[u8]| {
        if let Ok(event) = parse(Some(input), None, Window::default()) {
            assert_eq!(event.check(None, Window::default()), Ok(()));
            survives(&event);
        }
        if let Some(event) = read_copy_row(input) {
            assert_eq!(copy_row(&event), input);
            survives(&event);
        }
    });
}

/// Checks the round trips of an event, valid or not.
fn survives(event: &ProductEvent<'_>) {
    let row = copy_row(event);
    assert_eq!(read_copy_row(&row).as_ref(), Some(event));
    assert_eq!(read_copy_row(&row[..row.len() - 1]), None);
    assert_eq!(read_copy_row(&[&row[..], b"\0"].concat()), None);

    let valid = event.check(None, Window::default());
    for write in [ProductEvent::write_json, ProductEvent::write_compact_json] {
        let mut json = Vec::new();
        write(event, &mut json);
        assert_eq!(parse(Some(&json), None, Window::default()), valid.clone().map(|()| event.clone()));
    }

    let mut columns = EventColumns::with_capacity(1);
    columns.append(event);
    let batch = columns.finish();
    assert!(read_batch(&batch).unwrap().eq([Ok(event.clone())]));
}

fn copy_row(event: &ProductEvent<'_>) -> Vec<u8> {
    let mut row = Vec::new();
    event.write_copy_row(&mut row);
    row
}

/// Texts of single values.
#[test]
fn values() {
    fuzz::check("values", |input: &[u8]| {
        let Ok(text) = str::from_utf8(input) else { return };
        fuzz::reads_back::<EventType>(text);
        fuzz::reads_back::<Hour>(text);
        fuzz::reads_back::<Reason>(text);
        fuzz::reads_back::<Timestamp>(text);
    });
}
