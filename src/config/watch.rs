//! File changes to one event: folders are watched (editors rename, ConfigMaps swap symlinks), writes are waited out, and what
//! counts is the content. What a change means is not known here.
use super::files;
use super::files::Sources;
use notify::RecommendedWatcher;
use notify::RecursiveMode;
use notify::Watcher;
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::Instant;

/// Quiet time after the last write before a change is taken up.
const QUIET: Duration = Duration::from_millis(50);
/// Longest time after the first write.
const LONGEST: Duration = Duration::from_millis(250);
/// How often the content is compared anyway: watches can be lost, and some file systems have none.
const POLL: Duration = Duration::from_secs(5);

/// Watches a configuration's files.
#[derive(Debug)]
pub struct ConfigWatch {
    path: PathBuf,
    sources: Option<Sources>,
    touched: Arc<Notify>,
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl ConfigWatch {
    /// Watches `path` and what it includes; `sources` is what was read last.
    pub fn start(path: PathBuf, sources: Sources) -> Self {
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
        let mut watch = Self { path, sources: Some(sources), touched, watcher: watcher.ok(), watched: BTreeSet::new() };
        watch.follow();
        watch
    }

    /// Waits until the content differs from what was seen last, and has been quiet for a moment.
    pub async fn changed(&mut self) {
        loop {
            let was_touched = tokio::time::timeout(POLL, self.touched.notified()).await.is_ok();
            if was_touched {
                self.settle().await;
            }
            self.follow();
            // A file that cannot be read is a change like any other: whoever loads it says what is wrong.
            let now = files::read(&self.path).ok();
            let is_same = match (&now, &self.sources) {
                (Some(now), Some(seen)) => now.hash == seen.hash,
                (None, None) => true,
                _ => false,
            };
            if !is_same {
                self.sources = now;
                self.follow();
                return;
            }
        }
    }

    /// Waits out a burst of writes.
    async fn settle(&self) {
        let latest = Instant::now() + LONGEST;
        loop {
            let quiet = (Instant::now() + QUIET).min(latest);
            if tokio::time::timeout_at(quiet, self.touched.notified()).await.is_err() {
                return;
            }
        }
    }

    /// Watches the folders where changes may come from now.
    fn follow(&mut self) {
        let Some(watcher) = &mut self.watcher else { return };
        let wanted: BTreeSet<PathBuf> = files::folders(&self.path, self.sources.as_ref()).into_iter().collect();
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
                    tracing::warn!(%error, folder = %folder.display(), "A folder cannot be watched; its changes are seen within 5s.");
                }
            }
        }
        self.watched = watched;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;

    async fn sees(watch: &mut ConfigWatch, change: impl FnOnce()) {
        change();
        tokio::time::timeout(Duration::from_secs(3), watch.changed()).await.expect("the change was not seen");
    }

    fn start(path: &Path) -> ConfigWatch {
        ConfigWatch::start(path.to_path_buf(), files::read(path).unwrap())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn writes_renames_and_deletions_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ringway.toml");
        fs::write(&file, "a = 1").unwrap();
        let mut watch = start(&file);
        sees(&mut watch, || fs::write(&file, "a = 2").unwrap()).await;
        let other = folder.path().join(".ringway.toml.swp");
        sees(&mut watch, || {
            fs::write(&other, "a = 3").unwrap();
            fs::rename(&other, &file).unwrap();
        })
        .await;
        sees(&mut watch, || fs::remove_file(&file).unwrap()).await;
        sees(&mut watch, || fs::write(&file, "a = 4").unwrap()).await;
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_config_map_swap_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (name, text) in [("..1", "a = 1"), ("..2", "a = 2"), ("..3", "a = 3")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("ringway.toml"), text).unwrap();
        }
        std::os::unix::fs::symlink("..1", at("..data")).unwrap();
        std::os::unix::fs::symlink("..data/ringway.toml", at("ringway.toml")).unwrap();
        let mut watch = start(&at("ringway.toml"));
        for target in ["..2", "..3"] {
            sees(&mut watch, || {
                std::os::unix::fs::symlink(target, at("..data_tmp")).unwrap();
                fs::rename(at("..data_tmp"), at("..data")).unwrap();
            })
            .await;
        }
    }

    #[tokio::test(flavor = "current_thread")]
    async fn the_same_content_is_no_change_and_a_burst_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("ringway.toml");
        fs::write(&file, "a = 1").unwrap();
        let mut watch = start(&file);
        fs::write(&file, "a = 1").unwrap();
        assert!(tokio::time::timeout(Duration::from_millis(400), watch.changed()).await.is_err());
        sees(&mut watch, || (0..20).for_each(|number| fs::write(&file, format!("a = 1{number}")).unwrap())).await;
        assert!(tokio::time::timeout(Duration::from_millis(400), watch.changed()).await.is_err());
    }

    #[tokio::test(flavor = "current_thread")]
    async fn a_new_included_file_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("conf.d")).unwrap();
        let file = folder.path().join("ringway.toml");
        fs::write(&file, "include = [\"conf.d/*.toml\"]").unwrap();
        let mut watch = start(&file);
        sees(&mut watch, || fs::write(folder.path().join("conf.d/one.toml"), "").unwrap()).await;
    }
}
