//! The ring: build, change, look-up (each waiting for the last, and independent ones), the check before publication.
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
    group.bench_function("ketama/1000", |b| b.iter(|| Ring::build(&Settings::ketama(), &members).is_ok()));
    group.finish();
}

/// What a reload costs when one endpoint of many comes, goes or gets another weight.
fn change(c: &mut Criterion) {
    let mut group = c.benchmark_group("ring_change");
    group.sample_size(20);
    for count in [100, 1000, 10_000] {
        let before = members(count);
        let ring = Ring::build(&Settings::default(), &before).expect("these members are fine");
        let (mut more, mut fewer, mut heavier) = (before.clone(), before.clone(), before.clone());
        more.push(Member { id: EndpointId::new("10.0.3.999:8080"), weight: 1 });
        fewer.remove(count / 2);
        heavier[count / 2].weight = 2;
        for (name, members) in [("add", &more), ("remove", &fewer), ("re-weight", &heavier)] {
            group.bench_function(BenchmarkId::new(name, count), |b| b.iter(|| ring.change(members).is_ok()));
            let after = ring.change(members).expect("these members are fine");
            let moved = BenchmarkId::new(format!("moved/{name}"), count);
            group.bench_function(moved, |b| b.iter(|| movement::moved(&ring, &after)));
        }
        group.bench_function(BenchmarkId::new("verify", count), |b| b.iter(|| verify(&ring, &before).is_ok()));
        group.bench_function(BenchmarkId::new("shares", count), |b| b.iter(|| movement::shares(&ring)));
    }
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
        group.bench_function(BenchmarkId::new("second", &name), |b| {
            let mut key = 0;
            b.iter(|| {
                key += 1;
                ring.candidates(black_box(mix64(key))).nth(1)
            });
        });
    }
    group.finish();
}

criterion_group!(benches, build, change, lookup);
criterion_main!(benches);
