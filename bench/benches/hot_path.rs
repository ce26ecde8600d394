//! Measures the time of the steps of the hot path: `cargo bench -p bench`.

use bench::hot_path::Step;
use divan::counter::ItemsCount;

/// Number of events per call: a batch of a writer, a fraction of a lake file, about sixty blocks of the generator.
const EVENTS: u64 = 30_000;

fn main() {
    divan::main();
}

#[divan::bench(args = Step::ALL)]
fn step(bencher: divan::Bencher<'_, '_>, step: Step) {
    let mut run = step.prepare(EVENTS);
    bencher.counter(ItemsCount::new(EVENTS)).bench_local(&mut run);
}
