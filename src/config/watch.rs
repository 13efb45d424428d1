//! File changes to one event: writes are waited out, and what counts is the content. What a change means is not known here.
use super::files;
use super::files::Sources;
use crate::base;
use crate::base::hash::PlacementHash;
use crate::discovery::folders;
use crate::discovery::folders::FolderWatch;
use std::path::PathBuf;

/// Watches a configuration's files.
#[derive(Debug)]
pub struct ConfigWatch {
    path: PathBuf,
    sources: Option<Sources>,
    folders: FolderWatch,
}

impl ConfigWatch {
    /// Watches `path` and what it includes; `sources` is what was read last.
    pub fn start(path: PathBuf, sources: Sources) -> Self {
        let mut watch = Self { path, sources: Some(sources), folders: FolderWatch::default() };
        watch.follow();
        watch
    }

    /// Waits until the content differs from what was seen last, and has been quiet for a moment.
    pub async fn changed(&mut self) {
        loop {
            self.folders.touched().await;
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

    fn follow(&mut self) {
        self.folders.follow(files::folders(&self.path, self.sources.as_ref()));
    }
}

/// Watches the files that TLS is made of.
#[derive(Debug, Default)]
pub struct TlsWatch {
    files: Vec<PathBuf>,
    digest: u64,
    folders: Option<FolderWatch>,
}

impl TlsWatch {
    /// Watches these files from now on, and no others.
    pub fn follow(&mut self, files: Vec<PathBuf>) {
        if self.files == files {
            return;
        }
        self.files = files;
        // What was read before this moment may be older: the first look always is a change.
        self.digest = 0;
        self.folders.get_or_insert_default().follow(folders::folders_of(self.files.clone()));
    }

    /// Waits until a content differs from what was seen last, and has been quiet for a moment. May report once too often.
    pub async fn changed(&mut self) {
        let Some(watch) = &mut self.folders else { return std::future::pending().await };
        loop {
            if self.digest != 0 {
                watch.touched().await;
                watch.follow(folders::folders_of(self.files.clone()));
            }
            let now = digest(&self.files);
            if now != self.digest {
                self.digest = now;
                return;
            }
        }
    }
}

/// A number other than 0 for the contents of these files; one that cannot be read has none.
fn digest(files: &[PathBuf]) -> u64 {
    let mut all = Vec::new();
    for file in files {
        let content = base::files::read(file, base::files::MAX_PEM).ok();
        all.extend_from_slice(&content.as_ref().map_or(u64::MAX, |content| content.len() as u64).to_le_bytes());
        all.extend(content.into_iter().flatten());
    }
    PlacementHash::Seeded(0).hash(&all).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

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
