//! Runs a target with libFuzzer.

use std::env;
use std::ffi::{CString, c_char, c_int};
use std::process;
use std::ptr;
use std::slice;
use std::sync::OnceLock;

// Links libFuzzer.
use libfuzzer_sys as _;

type Property = dyn Fn(&[u8]) + Send + Sync;

static PROPERTY: OnceLock<Box<Property>> = OnceLock::new();

/// Calls the property with the inputs of libFuzzer, whose command line is in `FUZZ_ARGS`. Ends the process.
pub fn check(name: &str, property: impl Fn(&[u8]) + Send + Sync + 'static) {
    let _ = PROPERTY.set(Box::new(property));
    let flags = env::var("FUZZ_ARGS").unwrap_or_default();
    let words = [name].into_iter().chain(flags.split_whitespace()).flat_map(CString::new);
    let mut words: Vec<*mut c_char> = words.map(CString::into_raw).collect();
    let mut count = c_int::try_from(words.len()).unwrap_or(0);
    words.push(ptr::null_mut());
    let mut words = words.as_mut_ptr();
    #[expect(unsafe_code, reason = "libFuzzer has a C interface")]
    // SAFETY: `words` are `count` strings and a null pointer, which live as long as the process.
    let code = unsafe { LLVMFuzzerRunDriver(&raw mut count, &raw mut words, test_one_input) };
    process::exit(code);
}

#[expect(unsafe_code, reason = "libFuzzer has a C interface")]
// SAFETY: the declaration is that of libFuzzer's documentation.
unsafe extern "C" {
    fn LLVMFuzzerRunDriver(
        count: *mut c_int,
        words: *mut *mut *mut c_char,
        test_one_input: unsafe extern "C" fn(*const u8, usize) -> c_int,
    ) -> c_int;
}

/// A panic aborts the process, because it cannot unwind into C. libFuzzer then keeps the input.
#[expect(unsafe_code, reason = "libFuzzer has a C interface")]
unsafe extern "C" fn test_one_input(data: *const u8, size: usize) -> c_int {
    // SAFETY: libFuzzer passes `size` initialized bytes, which outlive the call.
    let input = if size == 0 { &[] } else { unsafe { slice::from_raw_parts(data, size) } };
    if let Some(property) = PROPERTY.get() {
        property(input);
    }
    0
}

/// The target of `libfuzzer-sys`, which its library refers to but never calls here.
#[expect(unsafe_code, reason = "the linker searches for the name")]
#[unsafe(no_mangle)]
extern "C" fn rust_fuzzer_test_input() -> c_int {
    0
}
