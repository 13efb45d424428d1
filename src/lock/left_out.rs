//! Locks in a store that this program was built without: there are none.
use super::Ask;
use super::Grant;
use super::Later;
use super::LeaseStore;
use super::standing::Standing;
use crate::store::StoreError;
use std::sync::Arc;

/// No locks in a store of this kind.
#[derive(Debug)]
pub(super) struct LeftOut {
    pub(super) engine: &'static str,
    pub(super) standing: Arc<Standing>,
}

impl LeaseStore for LeftOut {
    fn run(&self) -> Later<'_, ()> {
        Box::pin(async {
            self.standing.lost();
            std::future::pending().await
        })
    }

    fn acquire<'a>(&'a self, _: &'a Ask) -> Later<'a, Result<Grant, StoreError>> {
        Box::pin(async { Err(StoreError::LeftOut(self.engine)) })
    }

    fn release<'a>(&'a self, _: &'a Ask) -> Later<'a, Result<(), StoreError>> {
        Box::pin(async { Ok(()) })
    }

    fn abandon(&self, _: &Ask) {}
}
