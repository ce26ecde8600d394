//! Protection against panics of the Parquet decoder.
//!
//! The `parquet` crate validates most of its input, but damaged bytes still make it panic in a few places: an index or
//! length out of bounds, a missing dictionary, an overflow. Here such a panic becomes an error of the file. It does not
//! reach the panic hook of the program, which may end the process.

use std::any::Any;
use std::cell::Cell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

thread_local! {
    static DECODING: Cell<bool> = const { Cell::new(false) };
}

/// Runs a step of the decoder and turns a panic into an error.
///
/// After an error the caller must drop everything that `step` borrows: a panic may have left it inconsistent.
///
/// # Errors
/// Returns the message of the panic.
pub(crate) fn without_panic<T>(step: impl FnOnce() -> T) -> Result<T, String> {
    hide_decoder_panics();
    DECODING.set(true);
    let done = panic::catch_unwind(AssertUnwindSafe(step));
    DECODING.set(false);
    done.map_err(|panic| format!("the bytes are damaged ({})", message(panic.as_ref())))
}

/// Hides panics of the decoder from the panic hook that is installed at the first call. Other panics still reach it.
fn hide_decoder_panics() {
    static HIDDEN: Once = Once::new();
    HIDDEN.call_once(|| {
        let hook = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !DECODING.get() {
                hook(info);
            }
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error_with_its_message() {
        assert_eq!(without_panic(|| 7), Ok(7));
        let index = 3 + usize::from(DECODING.get());
        let error = without_panic(|| [1, 2, 3][std::hint::black_box(index)]).err();
        assert!(error.is_some_and(|error| error.contains("index out of bounds")));
        assert!(!DECODING.get());
    }
}
