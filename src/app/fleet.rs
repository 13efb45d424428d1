//! This proxy's place in its fleet, as the settings in force have it.
use crate::fleet::keeper::Fleet;
use crate::fleet::peers::Peers;
use crate::fleet::settings::Settings;
use crate::fleet::starts::Starts;
use crate::snapshot::handle::SnapshotHandle;
use std::sync::Arc;

/// A place, or none.
pub(super) struct Place {
    snapshots: Arc<SnapshotHandle>,
    starts: Arc<Starts>,
    fleet: Option<Fleet>,
}

impl Place {
    /// None yet.
    pub(super) fn new(snapshots: Arc<SnapshotHandle>, starts: Arc<Starts>) -> Self {
        Self { snapshots, starts, fleet: None }
    }

    /// Joins and leaves as settings say; who stays stays. Gives what is known of the others.
    pub(super) async fn follow(&mut self, settings: Option<&Settings>) -> Option<Arc<Peers>> {
        let is_same = |fleet: &mut Fleet| settings == Some(&fleet.peers.settings);
        if self.fleet.as_mut().is_none_or(|fleet| !is_same(fleet)) {
            if let Some(fleet) = self.fleet.take() {
                fleet.leave().await;
            }
            self.fleet =
                settings.map(|settings| Fleet::join(settings.clone(), self.snapshots.clone(), self.starts.clone()));
        }
        self.fleet.as_ref().map(|fleet| fleet.peers.clone())
    }

    /// Leaves for good.
    pub(super) async fn leave(self) {
        if let Some(fleet) = self.fleet {
            fleet.leave().await;
        }
    }
}
