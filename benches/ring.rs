//! The ring: build, look-up (each waiting for the last, and independent ones), the check before publication.
#![allow(missing_docs, reason = "a benchmark has no readers of its documentation")]
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ringway::base::hash::mix64;
use ringway::base::ids::EndpointId;
use ringway::ring::settings::Settings;
use ringway::ring::verify::verify;
use ringway::ring::{Member, Ring, movement};
use std::hint::black_box;

fn members(count: usize) -> Vec<Member> {
    (0..count)
        .map(|number| Member {
            id: EndpointId::new(&format!("10.0.{}.{}:8080", number / 250, number % 250)),
            weight: 1,
        })
        .collect()
}

fn build(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring_build");
    group.sample_size(20);
    for count in [100, 1000, 10_000] {
        let members = members(count);
        group.bench_with_input(BenchmarkId::new("build", count), &members, |b, members| {
            b.iter(|| Ring::build(&Settings::default(), members).expect("these members are fine"));
        });
    }
    let members = members(1000);
    let ring = Ring::build(&Settings::default(), &members).expect("these members are fine");
    group.bench_function("verify/1000", |b| b.iter(|| verify(&ring, &members).is_ok()));
    group.bench_function("shares/1000", |b| b.iter(|| movement::shares(&ring)));
    group.finish();
}

fn lookup(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring_lookup");
    for (count, probes) in [(100, 1), (100, 2), (1000, 2), (10_000, 2)] {
        let settings = Settings { probes, ..Settings::default() };
        let ring = Ring::build(&settings, &members(count)).expect("these members are fine");
        let name = format!("{count}x160, {probes} probes");
        group.bench_function(BenchmarkId::new("stream", &name), |b| {
            let mut key = 0;
            b.iter(|| {
                key += 1;
                ring.owner(black_box(mix64(key)))
            });
        });
        group.bench_function(BenchmarkId::new("chain", &name), |b| {
            let mut key = 0;
            b.iter(|| {
                let owner = ring.owner(mix64(key)).expect("the ring is not empty");
                key += 1 + u64::from(owner.0);
                owner
            });
        });
    }
    group.finish();
}

criterion_group!(benches, build, lookup);
criterion_main!(benches);
