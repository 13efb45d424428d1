//! What is done about hot keys: they are counted, and one that is hot is asked for at one of several endpoints. How many keys are hot,
//! and since when, is not known here.
use crate::proxy::Proxy;
use crate::proxy::context::RequestContext;
use crate::ring::Slot;
use crate::snapshot::upstream::Upstream;
use smallvec::SmallVec;

/// A candidate and its rank.
type Ranked = (usize, Slot);

/// A hot key.
#[derive(Debug, Clone, Copy)]
pub struct Hot {
    /// Who is asked first; `None` when it is the first candidate all the same.
    pub lead: Option<Ranked>,
}

/// Counts the request's key, where hot keys are looked for, and picks whom to ask when it is one. `None`: it is not. Only the
/// first `reach` candidates may serve.
#[inline]
pub fn of(proxy: &Proxy, ctx: &RequestContext, upstream: &Upstream, reach: usize) -> Option<Hot> {
    let (heat, key) = (upstream.heat.as_ref()?, ctx.key.as_ref()?.key.0);
    proxy.worker.sketches.add(heat.uid, upstream.endpoints.len(), key);
    heat.is_hot(key).then(|| Hot { lead: pick(proxy, ctx, upstream, key, reach.min(heat.settings.replicas)) })
}

/// The less busy of two of the key's replicas at random.
fn pick(proxy: &Proxy, ctx: &RequestContext, upstream: &Upstream, key: u64, replicas: usize) -> Option<Ranked> {
    let replicas: SmallVec<[Ranked; 8]> = upstream.replicas(key, ctx.started).take(replicas).collect();
    if replicas.len() < 2 {
        return None;
    }
    let random = proxy.worker.random();
    let one = (random as u32 as usize) % replicas.len();
    let other = (one + 1 + (random >> 32) as usize % (replicas.len() - 1)) % replicas.len();
    // By weight, without a division: a/b < c/d where all are above 0.
    let load = |place: usize| upstream.endpoint(replicas[place].1).in_flight() as u128;
    let weight = |place: usize| u128::from(upstream.ring.members()[replicas[place].1.0 as usize].weight);
    let place = if load(other) * weight(one) < load(one) * weight(other) { other } else { one };
    (place > 0).then(|| replicas[place])
}
