//! Measures the events per second that one core generates and writes as JSON:
//! `cargo run -p workload --example make_speed [-- COUNT]`.

use std::error::Error;
use std::io::{Write, stdout};
use std::time::Instant;

use event_model::Window;
use workload::{Effects, Faults, Settings, Shape, Source, World};

type Step = fn(&Source, u64, &mut Vec<u8>);

fn main() -> Result<(), Box<dyn Error>> {
    let count: u32 = std::env::args().nth(1).map_or(Ok(5_000_000), |text| text.parse())?;
    let source = Source::new(Settings {
        seed: 1,
        world: World::default(),
        effects: Effects::default(),
        faults: Faults::default(),
        event_rate: "10M/day".parse()?,
        shape: Shape::Flat,
        padding: 0,
        from: "2026-11-22T10:00:00Z".parse()?,
        run_id: None,
    })?;
    let steps: [(&str, Step); 3] = [
        ("make", |source, index, out| out.push(source.make(index).event.user_id.to_le_bytes()[0])),
        ("make + json", |source, index, out| source.make(index).write_value(out)),
        ("make + check + json", |source, index, out| {
            let generated = source.make(index);
            if generated.event.check(Some(generated.due), Window::default()).is_ok() {
                generated.write_value(out);
            }
        }),
    ];
    let mut out = Vec::new();
    for (name, step) in steps {
        let start = Instant::now();
        for index in 0..u64::from(count) {
            if index % 4_096 == 0 {
                out.clear();
            }
            step(&source, index, &mut out);
        }
        let per_second = f64::from(count) / start.elapsed().as_secs_f64();
        writeln!(stdout(), "{name}: {per_second:.0} events/s")?;
    }
    Ok(())
}
