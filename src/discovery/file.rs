//! Members from a file that is watched. Only its content counts: editors and symlink swaps are waited out.
use super::EndpointSet;
use super::ProviderError;
use super::folders;
use super::folders::FolderWatch;
use super::list;
use super::settings::Allowed;
use std::path::PathBuf;

/// A file with a list of members.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    allow: Allowed,
    /// Nothing before the first look.
    folders: Option<FolderWatch>,
}

impl File {
    /// A file nobody has looked into yet.
    pub fn new(path: PathBuf, allow: Allowed) -> Self {
        Self { path, allow, folders: None }
    }

    /// Its list: at once, and then each time it may have changed, at least every five seconds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub async fn next(&mut self) -> Result<EndpointSet, ProviderError> {
        if let Some(folders) = &self.folders {
            folders.touched().await;
        }
        self.folders.get_or_insert_default().follow(folders::folders_of([self.path.clone()]));
        let members = list::read(&self.path, &self.allow)?;
        Ok(EndpointSet { members, left_out: Vec::new() })
    }
}
