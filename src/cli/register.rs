//! `register`: holds a membership in a store beside any server, and takes it back at the end.
use super::OK;
use super::RegisterArgs;
use super::WRONG;
use super::say::complain;
use crate::base::clock;
use crate::base::dice::Dice;
use crate::base::ids::EndpointId;
use crate::config;
use crate::discovery::list;
use crate::discovery::settings::Allowed;
use crate::discovery::store::Layout;
use crate::discovery::store::Question;
use crate::discovery::store::entry::Entry;
use crate::discovery::store::holding::Holding;
use crate::store;
use std::collections::HashSet;
use std::fmt;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// Longest time for taking it back at the end; after it the lease runs out by itself.
const GOODBYE: Duration = Duration::from_secs(3);

/// Reasons that are told of one loss.
const MAX_TOLD: usize = 64;

/// Holds a membership until SIGTERM, SIGINT or the end of the world.
///
/// # Errors
/// When signals cannot be waited for.
pub fn run(args: &RegisterArgs) -> anyhow::Result<u8> {
    let config = match config::load(&args.config) {
        Ok(config) => config,
        Err(problems) => {
            complain!("{problems}");
            return Ok(WRONG);
        }
    };
    let Some(store) = config.stores.get(&args.store) else {
        complain!("ringway: there is no [store.{}] in {}", args.store, args.config.display());
        return Ok(WRONG);
    };
    if !EndpointId::is_valid(&args.upstream) || args.upstream.contains('/') {
        complain!("ringway: {:?} cannot be a part of keys: 1 to 128 characters of A-Za-z0-9._:[]-", args.upstream);
        return Ok(WRONG);
    }
    // Whoever reads it decides what is near: any network may be.
    let anywhere = Allowed(vec!["0.0.0.0/0".parse()?, "::/0".parse()?]);
    if let Err(error) = list::member(&args.id, &args.address, u64::from(args.weight), &anywhere) {
        complain!("ringway: {error}");
        return Ok(WRONG);
    }
    let membership = Membership {
        question: Question { store: store.clone(), name: args.upstream.clone(), layout: Layout::Own },
        entry: Entry { id: args.id.clone(), address: args.address.clone(), weight: u64::from(args.weight) },
    };
    super::runtime()?.block_on(membership.hold_until_told())?;
    Ok(OK)
}

struct Membership {
    question: Question,
    entry: Entry,
}

impl fmt::Display for Membership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} in {}", self.entry.id, self.question)
    }
}

impl Membership {
    async fn hold_until_told(&self) -> std::io::Result<()> {
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut held = None;
        tokio::select! {
            () = self.hold(&mut held) => {}
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        if let Some(mut holding) = held {
            match tokio::time::timeout(GOODBYE, holding.end()).await {
                Ok(Ok(())) => complain!("{self} is taken back"),
                Ok(Err(error)) => complain!("{self} runs out by itself: {}", error.told()),
                Err(_) => complain!("{self} runs out by itself: no answer in time"),
            }
        }
        Ok(())
    }

    /// Registers, and keeps it so, over every loss of the store or the lease.
    async fn hold(&self, held: &mut Option<Holding>) {
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let mut failures = 0u32;
        // A reason is told once, however often it is met: each server may have its own.
        let mut told = HashSet::new();
        for server in 0.. {
            match Holding::begin(&self.question, &self.entry, server).await {
                Ok(begun) => {
                    complain!("{self} is registered: {} weight {}", self.entry.address, self.entry.weight);
                    failures = 0;
                    told.clear();
                    let why = held.insert(begun).keep(self.question.store.lease_ttl).await;
                    complain!("{self} is lost and registered anew: {why}");
                }
                Err(error) => {
                    let why = error.told();
                    if told.len() < MAX_TOLD && !told.contains(&why) {
                        complain!("{self} is not registered: {why}");
                        told.insert(why);
                    }
                }
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }
}
