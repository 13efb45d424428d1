//! What a plan compares: the routes and rings of one configuration, or of the running proxy.
use crate::base::clock;
use crate::base::ids::UpstreamName;
use crate::ring::Member;
use crate::ring::Ring;
use crate::ring::build::BuildError;
use crate::ring::movement;
use crate::route::Route;
use crate::snapshot::Snapshot;
use crate::snapshot::settings::Endpoint;
use crate::snapshot::settings::Upstream;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use thiserror::Error;

/// The routes and rings of one configuration.
#[derive(Debug)]
pub struct World<'a> {
    pub(super) routes: &'a [Route],
    pub(super) rings: BTreeMap<String, Built>,
}

/// One upstream's ring.
#[derive(Debug)]
pub(super) struct Built {
    pub ring: Arc<Ring>,
    /// Share of each endpoint, in the order of ids.
    pub shares: Vec<f64>,
    pub build: Duration,
}

/// Why there is nothing to compare.
#[derive(Debug, Error)]
#[error("build the ring of upstream {0}: {1}")]
pub struct WorldError(UpstreamName, #[source] BuildError);

impl<'a> World<'a> {
    /// That of a configuration.
    ///
    /// # Errors
    /// When a ring cannot be built.
    pub fn of_settings(routes: &'a [Route], upstreams: &[Upstream]) -> Result<Self, WorldError> {
        let built = |upstream: &Upstream| {
            let member = |endpoint: &Endpoint| Member { id: endpoint.id.clone(), weight: endpoint.weight };
            let members: Vec<Member> = upstream.endpoints.iter().map(member).collect();
            let started = clock::now();
            let ring = Ring::build(&upstream.ring, &members);
            let ring = ring.map_err(|error| WorldError(upstream.name.clone(), error))?;
            let build = started.elapsed();
            let shares = movement::shares(&ring);
            Ok((upstream.name.to_string(), Built { ring: Arc::new(ring), shares, build }))
        };
        Ok(Self { routes, rings: upstreams.iter().map(built).collect::<Result<_, _>>()? })
    }

    /// That of the running proxy.
    pub fn of_snapshot(snapshot: &'a Snapshot) -> Self {
        let rings = snapshot.upstreams.iter().map(|upstream| {
            let (ring, shares) = (upstream.ring.clone(), upstream.change.shares.clone());
            (upstream.name.to_string(), Built { ring, shares, build: upstream.change.build })
        });
        Self { routes: snapshot.routes.routes(), rings: rings.collect() }
    }
}

impl Built {
    /// Each endpoint and its share, in the order of ids.
    pub fn endpoints(&self) -> impl Iterator<Item = (&Member, f64)> {
        self.ring.members().iter().zip(self.shares.iter().copied())
    }
}
