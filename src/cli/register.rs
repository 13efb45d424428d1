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
use crate::store;
use crate::store::StoreError;
use crate::store::etcd::Etcd;
use crate::store::settings::Settings;
use std::time::Duration;
use tokio::signal::unix::SignalKind;
use tokio::signal::unix::signal;

/// Shortest time that a sign of life is waited for.
const MIN_ANSWER: Duration = Duration::from_millis(500);
/// Longest time for taking it back at the end; after it the lease runs out by itself.
const GOODBYE: Duration = Duration::from_secs(3);

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
        key: format!("{}/rings/{}/{}", store.root, args.upstream, EndpointId::new(&args.id)),
        value: serde_json::json!({ "addr": args.address, "weight": args.weight }).to_string(),
        store,
    };
    super::runtime()?.block_on(membership.hold_until_told())?;
    Ok(OK)
}

struct Membership<'a> {
    store: &'a Settings,
    key: String,
    value: String,
}

/// A membership that is in the store.
struct Held {
    etcd: Etcd,
    lease: String,
}

impl Membership<'_> {
    async fn hold_until_told(&self) -> std::io::Result<()> {
        let (mut terminated, mut interrupted) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut held = None;
        tokio::select! {
            () = self.hold(&mut held) => {}
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        if let Some(Held { mut etcd, lease }) = held {
            match tokio::time::timeout(GOODBYE, etcd.revoke(&lease)).await {
                Ok(Ok(())) => complain!("{} is taken back", self.key),
                Ok(Err(error)) => complain!("{} runs out by itself: {}", self.key, error.told()),
                Err(_) => complain!("{} runs out by itself: no answer in time", self.key),
            }
        }
        Ok(())
    }

    /// Registers, and keeps it so, over every loss of the store or the lease.
    async fn hold(&self, held: &mut Option<Held>) {
        let mut dice = Dice::new(clock::since_epoch().as_nanos() as u64);
        let mut failures = 0u32;
        // A reason is told once, however often it is met.
        let mut told = None;
        for server in 0.. {
            match self.begin(server).await {
                Ok(begun) => {
                    complain!("{} is registered: {}", self.key, self.value);
                    (failures, told) = (0, None);
                    let why = self.keep(held.insert(begun)).await;
                    complain!("{} is lost and registered anew: {why}", self.key);
                }
                Err(error) if told.as_ref() == Some(&error.told()) => {}
                Err(error) => {
                    complain!("{} is not registered: {}", self.key, error.told());
                    told = Some(error.told());
                }
            }
            failures = failures.saturating_add(1);
            tokio::time::sleep(store::pause(failures, &mut dice)).await;
        }
    }

    async fn begin(&self, server: usize) -> Result<Held, StoreError> {
        let mut etcd = Etcd::open(self.store, server).await?;
        let lease = etcd.grant(self.store.lease_ttl).await?;
        etcd.put(&self.key, &self.value, &lease).await?;
        Ok(Held { etcd, lease })
    }

    /// Signs of life, three in the time of a lease; says why there are no more. Who waits longer for one than that has no
    /// time left for the next server.
    async fn keep(&self, held: &mut Held) -> String {
        let pause = self.store.lease_ttl / 3;
        loop {
            tokio::time::sleep(pause).await;
            match held.etcd.keep_alive(pause.max(MIN_ANSWER), &held.lease).await {
                Ok(true) => {}
                Ok(false) => return "its lease has run out".into(),
                Err(error) => return error.told(),
            }
        }
    }
}
