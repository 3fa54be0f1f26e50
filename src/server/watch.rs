//! Whether files have changed: those of secrets, which an agent replaces when it sees fit.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Files of one directory that are looked at; more of them would be no directory of keys.
const MAX_ENTRIES: usize = 1_024;

/// Files, or directories of files, and how they were when they were last looked at.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: Vec<(PathBuf, Vec<Print>)>,
}

/// What tells one state of a file from another. Links are followed: Kubernetes swaps the link and not
/// the file, Vault's agent renames a new file into place, and others write into the old one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Print {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

impl Watch {
    /// Looks at these files. Returns those that are not as they were, or that were not among those
    /// looked at before.
    pub fn look(&mut self, paths: &[PathBuf]) -> Vec<PathBuf> {
        let now: Vec<(PathBuf, Vec<Print>)> = paths.iter().map(|path| (path.clone(), prints(path))).collect();
        let before = std::mem::replace(&mut self.seen, now);
        self.seen.iter().filter(|seen| !before.contains(seen)).map(|(path, _)| path.clone()).collect()
    }
}

/// Nothing for what is not there.
fn prints(path: &Path) -> Vec<Print> {
    let Ok(metadata) = fs::metadata(path) else { return Vec::new() };
    let mut prints = vec![Print::of(&metadata)];
    if metadata.is_dir()
        && let Ok(entries) = fs::read_dir(path)
    {
        let files = entries.take(MAX_ENTRIES).filter_map(|entry| fs::metadata(entry.ok()?.path()).ok());
        prints.extend(files.map(|metadata| Print::of(&metadata)));
        prints[1..].sort_unstable(); // read_dir has no order of its own
    }
    prints
}

impl Print {
    fn of(metadata: &Metadata) -> Print {
        Print {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_that_is_replaced_appears_or_goes_is_noticed_once() {
        let dir = tempfile::tempdir().unwrap();
        let (file, new) = (dir.path().join("tokens"), dir.path().join("tokens.new"));
        let paths = [file.clone()];
        fs::write(&file, "one").unwrap();
        let mut watch = Watch::default();
        assert_eq!(watch.look(&paths), paths);
        assert!(watch.look(&paths).is_empty());
        fs::write(&new, "two").unwrap();
        fs::rename(&new, &file).unwrap();
        assert_eq!(watch.look(&paths), paths);
        assert!(watch.look(&paths).is_empty());
        fs::remove_file(&file).unwrap();
        assert_eq!(watch.look(&paths), paths);
        assert!(watch.look(&paths).is_empty());
    }

    #[test]
    fn a_link_that_points_elsewhere_and_a_directorys_new_file_are_changes() {
        let dir = tempfile::tempdir().unwrap();
        // As Kubernetes has it: keys -> ..data/keys, ..data -> the present version.
        for version in ["v1", "v2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("tokens"), "the same").unwrap();
        }
        let (link, next) = (dir.path().join("..data"), dir.path().join("..next"));
        symlink("v1", &link).unwrap();
        let paths = [link.join("tokens"), dir.path().join("v2")];
        let mut watch = Watch::default();
        watch.look(&paths);
        symlink("v2", &next).unwrap();
        fs::rename(&next, &link).unwrap();
        assert_eq!(watch.look(&paths), paths[..1]);
        fs::write(dir.path().join("v2/key"), "another").unwrap();
        assert_eq!(watch.look(&paths), paths[1..]);
    }
}
