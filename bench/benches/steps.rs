//! The steps of a message's way under criterion: `cargo bench --package tidegate-bench -- NAME`.

use criterion::{Criterion, criterion_group, criterion_main};

fn steps(criterion: &mut Criterion) {
    for mut step in tidegate_bench::steps::all() {
        criterion.bench_function(step.name, |bencher| bencher.iter(|| step.run()));
    }
}

criterion_group!(benches, steps);
criterion_main!(benches);
