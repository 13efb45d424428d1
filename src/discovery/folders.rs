//! Watches folders (editors rename, ConfigMaps swap symlinks) and waits out bursts of writes. What is in the files is not known here.
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use std::collections::BTreeSet;
use std::path::Path;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Quiet time after the last write before a change is taken up.
const QUIET: Duration = Duration::from_millis(50);
/// Longest time after the first write.
const LONGEST: Duration = Duration::from_millis(250);
/// How often the content is to be compared anyway: watches can be lost, and some file systems have none.
const POLL: Duration = Duration::from_secs(5);

/// Watches folders.
#[derive(Debug)]
pub struct FolderWatch {
    touched: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Default for FolderWatch {
    fn default() -> Self {
        let touched = Arc::new(Notify::new());
        let wake = touched.clone();
        let on_event = move |event: notify::Result<notify::Event>| {
            // Reading a file is an event as well; only what may have changed something counts.
            if event.is_ok_and(|event| event.kind.is_access()) {
                return;
            }
            wake.notify_one();
        };
        let watcher = notify::recommended_watcher(on_event);
        if let Err(error) = &watcher {
            tracing::warn!(%error, "Files cannot be watched; changes are seen within 5s.");
        }
        Self { touched, watcher: watcher.ok(), watched: BTreeSet::new() }
    }
}

impl FolderWatch {
    /// Waits until something may have changed and has been quiet for a moment; five seconds at most.
    pub async fn touched(&self) {
        if tokio::time::timeout(POLL, self.touched.notified()).await.is_err() {
            return;
        }
        let latest = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            if tokio::time::timeout_at(quiet, self.touched.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Watches these folders from now on, and no others.
    pub fn follow(&mut self, folders: Vec<PathBuf>) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = folders.into_iter().collect();
        for gone in self.watched.difference(&wanted) {
            // A folder that is gone has lost its watch already.
            if let Err(error) = watcher.unwatch(gone) {
                tracing::debug!(%error, folder = %gone.display(), "A folder is no longer watched.");
            }
        }
        let mut watched = BTreeSet::new();
        for folder in wanted {
            let is_new = !self.watched.contains(&folder);
            match if is_new { watcher.watch(&folder, RecursiveMode::NonRecursive) } else { Ok(()) } {
                Ok(()) => {
                    watched.insert(folder);
                }
                Err(error) => {
                    let folder = folder.display();
                    tracing::warn!(%error, %folder, "A folder cannot be watched; its changes are seen within 5s.");
                }
            }
        }
        self.watched = watched;
    }
}

/// The folders in which a change may be one of these files'.
pub fn folders_of(files: impl IntoIterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut folders = Vec::new();
    for file in files {
        // A symlink is followed: what it points to may change as well as where it points.
        let real = file.canonicalize().ok();
        for file in [Some(file), real].into_iter().flatten() {
            let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
            folders.push(folder.to_path_buf());
        }
    }
    folders.sort();
    folders.dedup();
    folders.retain(|folder| folder.is_dir());
    folders
}
