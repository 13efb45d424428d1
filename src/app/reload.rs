//! Changes while the program runs: the configuration read again, certificates renewed, another program that takes over.
use super::Shared;
use super::certificates;
use super::desk::Desk;
use super::fleet::Place;
use super::start_listener;
use super::texts;
use super::upgrade::Event;
use super::upgrade::Upgrades;
use crate::admin;
use crate::admin::ports::HeldChange;
use crate::admin::ports::Operator;
use crate::admin::ports::Which;
use crate::base::clock;
use crate::config;
use crate::config::Config;
use crate::config::watch::ConfigWatch;
use crate::config::watch::TlsWatch;
use crate::control::Approved;
use crate::control::ControlError;
use crate::control::ControlHandle;
use crate::control::Published;
use crate::control::build::BuildError;
use crate::control::guard;
use crate::control::history::Cause;
use crate::control::history::RingChanged;
use crate::lifecycle::signals::Intent;
use crate::lifecycle::signals::Signals;
use crate::lifecycle::systemd;
use crate::listener;
use crate::snapshot::handle::SnapshotHandle;
use crate::telemetry::access_log::AccessLogControl;
use crate::worker::Remote;
use std::path::PathBuf;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::sync::oneshot;

/// What operators ask for at the admin interface; the answer says what came of it, or what is wrong.
pub(super) enum Order {
    /// The configuration read again; with `is_forced` no guard holds it, nor what else is held.
    Reload { is_forced: bool, answer: Answer<String> },
    /// What is held let through.
    Approve { which: Which, answer: Answer<Vec<String>> },
}

/// Where an order's outcome goes.
type Answer<T> = oneshot::Sender<Result<T, String>>;

/// Takes changes up: from the file, from SIGHUP, from the admin interface, all the same way.
pub(super) struct Reloader {
    pub(super) config: Config,
    pub(super) path: Option<PathBuf>,
    pub(super) control: ControlHandle,
    pub(super) snapshots: Arc<SnapshotHandle>,
    pub(super) remote: Remote,
    pub(super) shared: Arc<Shared>,
    pub(super) upgrades: Upgrades,
    /// The configuration that guards hold, if there is one.
    pub(super) held: Option<HeldConfig>,
    pub(super) place: Place,
}

/// A configuration that waits for a person's word.
#[derive(Debug, Clone)]
pub(super) struct HeldConfig {
    /// The hash of its files.
    hash: u64,
    change: HeldChange,
}

/// Why a program does not go on.
pub(super) enum Left {
    /// A signal asked for the end.
    Told,
    /// Another program has taken over.
    HandedOver,
}

impl Reloader {
    /// Serves until a signal asks for the end, or another program has taken over.
    pub(super) async fn serve(
        &mut self,
        signals: &mut Signals,
        mut orders: mpsc::Receiver<Order>,
        mut watch: Option<ConfigWatch>,
    ) -> Left {
        let mut tls_watch = TlsWatch::default();
        loop {
            tls_watch.follow(self.config.tls_files());
            let changed = async {
                match &mut watch {
                    Some(watch) => watch.changed().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                intent = signals.next() => match intent {
                    Intent::Stop | Intent::End => return Left::Told,
                    // The outcome is in the log and in the metrics.
                    Intent::Reload => drop(self.reload(Cause::Signal, false).await),
                    Intent::ReopenLog => self.shared.access_log.iter().for_each(AccessLogControl::reopen),
                    Intent::Upgrade => self.upgrades.start(self.path.as_deref(), self.is_ready()),
                },
                event = self.upgrades.next() => match event {
                    Event::Asked(asker) => self.upgrades.give(asker, self.is_ready()),
                    Event::Done(outcome) => if self.upgrades.is_over(outcome) { return Left::HandedOver },
                },
                Some(order) = orders.recv() => self.obey(order).await,
                () = changed => drop(self.reload(Cause::File, false).await),
                () = tls_watch.changed() => self.renew_tls().await,
            }
        }
    }

    fn is_ready(&self) -> bool {
        admin::view::not_ready(&self.snapshots.load(), &Desk(self.shared.clone()).process()).is_none()
    }

    async fn obey(&mut self, order: Order) {
        let is_heard = match order {
            Order::Reload { is_forced: false, answer } => answer.send(self.reload(Cause::Admin, false).await).is_ok(),
            Order::Reload { is_forced: true, answer } => answer.send(self.force().await).is_ok(),
            Order::Approve { which, answer } => answer.send(self.approve(which).await).is_ok(),
        };
        if !is_heard {
            tracing::debug!("Nobody waited for an order's outcome any more.");
        }
    }

    /// The configuration whatever the guards say, and with it everything else that is held.
    async fn force(&mut self) -> Result<String, String> {
        let mut done = vec![self.reload(Cause::Admin, true).await?];
        done.extend(self.approve(Which::Members(None)).await?);
        Ok(done.join("; "))
    }

    async fn approve(&mut self, which: Which) -> Result<Vec<String>, String> {
        let mut done = Vec::new();
        if matches!(which, Which::All | Which::Configuration) && self.held.is_some() {
            done.push(format!("configuration: {}", self.reload(Cause::Approved, false).await?));
        }
        let only = match which {
            Which::Configuration => return Ok(done),
            Which::Members(only) => only,
            Which::All => None,
        };
        let approved = self.control.approve(only).await.map_err(|error| error.to_string())?;
        done.extend(approved.iter().map(|Approved { upstream, members, moved, fingerprint }| {
            format!("upstream {upstream}: {members} members, {:.2}% of keys moved, ring {fingerprint}", moved * 100.0)
        }));
        Ok(done)
    }

    async fn reload(&mut self, cause: Cause, is_forced: bool) -> Result<String, String> {
        systemd::reloading();
        let held = self.held.take();
        let outcome = self.take_up(cause, is_forced, held).await;
        let (cause, held) = (cause.as_str(), self.held.clone().map(|held| held.change));
        self.shared.with(|state| {
            state.reloads.last_succeeded = outcome.is_ok();
            match &outcome {
                Ok(_) => {
                    state.reloads.successes += 1;
                    state.reloads.last_success = clock::since_epoch();
                    state.config = texts(&self.config);
                    state.admin = Arc::new(self.config.admin.clone());
                    state.certificates = certificates(&self.config);
                }
                Err(_) if held.is_some() => state.reloads.held += 1,
                Err(_) => state.reloads.failures += 1,
            }
            state.held = held;
        });
        match &outcome {
            Ok(done) => tracing::info!(cause, "Configuration taken up: {done}"),
            Err(why) if self.held.is_some() => tracing::error!(cause, "Configuration HELD, the old one stays: {why}"),
            Err(problems) => tracing::error!(cause, "Configuration refused, the old one stays:\n{problems}"),
        }
        systemd::ready();
        outcome
    }

    /// Read, validate, take addresses, build, verify, publish; then the doors. Up to the publishing nothing has changed.
    ///
    /// A configuration that was `held` is let through by [`Cause::Approved`], if the files still are what was held.
    async fn take_up(&mut self, cause: Cause, is_forced: bool, held: Option<HeldConfig>) -> Result<String, String> {
        let Some(path) = &self.path else {
            return Err("this configuration is built in, there is no file to read".into());
        };
        let mut next = config::load(path).map_err(|problems| problems.to_string())?;
        if next.sources.hash == self.config.sources.hash {
            self.renew_tls().await;
            return self.renew_tokens(next, cause).await;
        }
        for settings in &mut next.listeners {
            let old = self.config.listeners.iter().find(|old| is_same_door(old, settings));
            if let (Some(old), Some(new)) = (old.and_then(|old| old.tls.as_ref()), &mut settings.tls) {
                *new = new.clone().in_place_of(old);
            }
        }
        self.refuse_restarts(&next)?;
        let mut prepared = Vec::new();
        for settings in &next.listeners {
            let is_new = !self.config.listeners.iter().any(|old| is_same_door(old, settings));
            let workers = is_new.then_some(self.shared.workers);
            prepared.push(listener::prepare(settings, workers).map_err(|error| error.to_string())?);
        }
        let is_approved = cause == Cause::Approved && held.as_ref().is_some_and(|held| held.hash == next.sources.hash);
        let published = match self.control.replace(next.desired(), cause, is_forced || is_approved).await {
            Ok(published) => published,
            Err(error) => return Err(self.not_replaced(error, next.sources.hash, held)),
        };
        self.swap_doors(&next, prepared).await;
        self.upgrades.set_timeout(next.server.upgrade_timeout);
        if next.log.level != self.config.log.level {
            self.shared.level.set(next.log.level);
        }
        for warning in &next.warnings {
            tracing::warn!("{warning}");
        }
        if !published.breaches.is_empty() {
            tracing::warn!("The configuration does more than guards allow: {}", guard::told(&published.breaches));
        }
        self.config = next;
        self.take_place().await;
        Ok(describe(&published))
    }

    /// Joins the fleet that the settings name, or leaves it.
    pub(super) async fn take_place(&mut self) {
        let peers = self.place.follow(self.config.fleet.as_ref()).await;
        self.shared.with(|state| state.peers = peers);
    }

    /// Why settings were not taken up; if guards hold them, that is noted. What was held before is held since then.
    fn not_replaced(&mut self, error: ControlError, hash: u64, before: Option<HeldConfig>) -> String {
        let ControlError::Build(BuildError::Held(breaches)) = &error else { return error.to_string() };
        let since = before.filter(|before| before.hash == hash).map(|before| before.change.since);
        let why = guard::told(breaches);
        let change = HeldChange { since: since.unwrap_or_else(clock::since_epoch), why: why.clone() };
        self.held = Some(HeldConfig { hash, change });
        format!("held: {why}; `ringway approve` or `ringway reload --force` takes it up")
    }

    /// Takes up what files of tokens hold now, when nothing else has changed.
    async fn renew_tokens(&mut self, next: Config, cause: Cause) -> Result<String, String> {
        let (old, new) = (&mut self.config.admin, next.admin);
        let is_other = (old.token != new.token, old.debug_token != new.debug_token);
        (old.token, old.debug_token) = (new.token, new.debug_token);
        if is_other.1 {
            self.control.replace(self.config.desired(), cause, true).await.map_err(|error| error.to_string())?;
        }
        let told = match is_other {
            (false, false) => "nothing has changed",
            (true, false) => "the admin token is another",
            (false, true) => "the debug token is another",
            (true, true) => "both tokens are others",
        };
        Ok(told.into())
    }

    fn refuse_restarts(&self, next: &Config) -> Result<(), String> {
        let old = &self.config;
        let changed = [
            ("server.workers", old.server.workers != next.server.workers),
            ("server.reload", old.server.reload != next.server.reload),
            ("server.upgrade_socket", old.server.upgrade_socket != next.server.upgrade_socket),
            ("admin.address", old.admin.address != next.admin.address),
            ("log.access", old.log.access != next.log.access),
            ("log.sample", old.log.sample != next.log.sample),
            ("log.access_path", old.log.access_path != next.log.access_path),
        ];
        let names: Vec<&str> = changed.iter().filter(|(_, changed)| *changed).map(|(name, _)| *name).collect();
        if names.is_empty() { Ok(()) } else { Err(format!("a change of {} needs a restart", names.join(", "))) }
    }

    async fn swap_doors(&mut self, next: &Config, prepared: Vec<listener::Prepared>) {
        for old in &self.config.listeners {
            if !next.listeners.iter().any(|new| is_same_door(old, new)) {
                self.upgrades.forget(&old.name);
                listener::stop(&self.remote, &old.name).await;
            }
        }
        for (settings, mut prepared) in next.listeners.iter().zip(prepared) {
            self.upgrades.keep(settings, &mut prepared);
            match prepared.address() {
                Some(_) => start_listener(&self.remote, &self.snapshots, prepared).await,
                None => self.replace_door(&prepared).await,
            }
        }
    }

    async fn replace_door(&self, prepared: &listener::Prepared) {
        let snapshot = self.snapshots.load();
        if let Some(known) = snapshot.listeners.iter().find(|listener| listener.name == *prepared.name()) {
            listener::replace(&self.remote, prepared, known.stats.clone()).await;
        }
    }

    /// Reads all files of TLS again and swaps what has changed, whatever the state of the configuration's own file. What cannot
    /// be used is refused by itself, and the old one stays.
    async fn renew_tls(&mut self) {
        for index in 0..self.config.listeners.len() {
            let settings = &mut self.config.listeners[index];
            let Some(renewed) = settings.tls.as_ref().map(|tls| tls.renewed()) else { continue };
            let (user, name) = ("listener", settings.name.to_string());
            if let Some(new) = self.shared.note_renewal(user, &name, renewed) {
                settings.tls = Some(new);
                match listener::prepare(settings, None) {
                    Ok(prepared) => self.replace_door(&prepared).await,
                    Err(error) => tracing::error!(%error, "A listener could not be prepared."),
                }
            }
        }
        if let Some(renewed) = self.config.admin.tls.as_ref().map(|tls| tls.renewed())
            && let Some(new) = self.shared.note_renewal("admin", &self.config.admin.address.to_string(), renewed)
        {
            self.config.admin.tls = Some(new);
            self.shared.with(|state| state.admin = Arc::new(self.config.admin.clone()));
        }
        let mut has_changed = false;
        for upstream in &mut self.config.upstreams {
            let Some(renewed) = upstream.tls.as_ref().map(|tls| tls.renewed()) else { continue };
            if let Some(new) = self.shared.note_renewal("upstream", upstream.name.as_str(), renewed) {
                (upstream.tls, has_changed) = (Some(new), true);
            }
        }
        if has_changed && let Err(error) = self.control.replace(self.config.desired(), Cause::File, true).await {
            tracing::error!(%error, "Renewed TLS of upstreams could not be taken up.");
        }
        self.shared.with(|state| state.certificates = certificates(&self.config));
    }
}

fn is_same_door(old: &listener::settings::Settings, new: &listener::settings::Settings) -> bool {
    old.name == new.name && old.address == new.address
}

fn describe(published: &Published) -> String {
    let rings: Vec<String> = published
        .rings
        .iter()
        .map(|RingChanged { upstream, moved, fingerprint, .. }| {
            format!("{upstream}: {:.2}% of keys moved, ring {fingerprint}", moved * 100.0)
        })
        .collect();
    let rings = if rings.is_empty() { "no key moved".to_string() } else { rings.join("; ") };
    let warning = match published.breaches.as_slice() {
        [] => String::new(),
        breaches => format!("; WARNING, more than guards allow: {}", guard::told(breaches)),
    };
    format!("generation {}, {rings}{warning}", published.generation)
}
