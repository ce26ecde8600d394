//! Entry point of the program.

/// Replaces librdkafka's malloc too: librdkafka allocates a record in one thread and frees it in another, which is slow
/// with glibc.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    event_generator::cli::main()
}
