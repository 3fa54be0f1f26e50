//! A directory on a real disk.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::storage::{File, Storage};

/// The journal's directory in the data directory.
pub const DIR: &str = "journal";

/// The journal's files, in `<data directory>/journal`. The lock on the data directory's audit log keeps a second
/// server away.
#[derive(Debug)]
pub struct Disk {
    dir: PathBuf,
}

/// One of them.
#[derive(Debug)]
pub struct DiskFile(fs::File);

impl Disk {
    /// The journal of a data directory; made if it is missing.
    ///
    /// # Errors
    /// It can't be made, or its name not be brought to the disk.
    pub fn create(data_dir: &Path) -> io::Result<Disk> {
        let dir = data_dir.join(DIR);
        if !dir.is_dir() {
            fs::DirBuilder::new().recursive(true).mode(0o750).create(&dir)?;
            fs::File::open(data_dir)?.sync_all()?;
        }
        Ok(Disk { dir })
    }

    /// The journal of a data directory, to look at: nothing is made.
    ///
    /// # Errors
    /// There is none.
    pub fn existing(data_dir: &Path) -> io::Result<Disk> {
        let dir = data_dir.join(DIR);
        fs::read_dir(&dir)?;
        Ok(Disk { dir })
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.dir
    }
}

impl Storage for Disk {
    type File = DiskFile;

    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            // A name that is no UTF-8 is none of ours.
            if let (true, Ok(name)) = (entry.file_type()?.is_file(), entry.file_name().into_string()) {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<DiskFile> {
        let path = self.dir.join(name);
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).mode(0o640).open(&path)?;
        if let Err(error) = allocate(&file, bytes) {
            // What stays is an empty file, which the next start removes.
            let _ = fs::remove_file(&path);
            return Err(error);
        }
        Ok(DiskFile(file))
    }

    fn open(&self, name: &str) -> io::Result<DiskFile> {
        let path = self.dir.join(name);
        let opened = fs::OpenOptions::new().read(true).write(true).open(&path);
        // Who may only read looks on, and never writes.
        match opened {
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem) =>
            {
                fs::File::open(&path).map(DiskFile)
            }
            opened => opened.map(DiskFile),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.dir.join(name))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.dir.join(from), self.dir.join(to))
    }

    fn sync_names(&self) -> io::Result<()> {
        fs::File::open(&self.dir)?.sync_all()
    }

    fn free(&self) -> io::Result<Option<u64>> {
        let fs = rustix::fs::statvfs(&self.dir)?;
        Ok(Some(fs.f_bavail.saturating_mul(fs.f_frsize)))
    }
}

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut done = 0;
        while done < buffer.len() {
            match self.0.read_at(&mut buffer[done..], offset + done as u64) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(done)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

/// Takes the room from the disk at once: later writes find it, and change no file's length.
#[cfg(target_os = "linux")]
fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    use rustix::fs::FallocateFlags;
    use rustix::io::Errno;
    loop {
        return match rustix::fs::fallocate(file, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::INTR) => continue,
            // This file system can't: writes may then find the disk full, which the log expects of any.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => file.set_len(bytes),
            done => Ok(done?),
        };
    }
}

#[cfg(not(target_os = "linux"))]
fn allocate(file: &fs::File, bytes: u64) -> io::Result<()> {
    file.set_len(bytes)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::sync::Arc;

    use super::super::testing::{draft, options};
    use super::super::{Log, Reader};
    use super::*;

    #[test]
    fn a_files_room_is_taken_at_once_and_reads_as_zeros_to_its_end() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(dir.path()).unwrap();
        let file = disk.create("a", 1 << 20).unwrap();
        assert_eq!(file.len().unwrap(), 1 << 20);
        assert!(file.0.metadata().unwrap().blocks() * 512 >= 1 << 20, "no hole");
        file.write_at(b"hello", 7).unwrap();
        file.sync().unwrap();
        let mut bytes = [9; 14];
        assert_eq!(file.read_at(&mut bytes, 0).unwrap(), 14);
        assert_eq!(&bytes, b"\0\0\0\0\0\0\0hello\0\0");
        assert_eq!(file.read_at(&mut bytes, (1 << 20) - 3).unwrap(), 3);
        assert_eq!(file.read_at(&mut bytes, 2 << 20).unwrap(), 0);
        assert_eq!(disk.create("a", 0).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        fs::create_dir(disk.dir().join("b")).unwrap();
        assert_eq!(disk.list().unwrap(), ["a"]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(&disk.dir().join("a")) & 0o137, mode(disk.dir()) & 0o027), (0, 0), "others may not read it");
        assert!(disk.free().unwrap().is_some_and(|free| free > 0));
    }

    #[test]
    fn a_file_that_finds_no_room_is_not_there() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Disk::create(dir.path()).unwrap();
        assert!(disk.create("a", 1 << 60).is_err());
        assert!(disk.list().unwrap().is_empty());
    }

    #[test]
    fn who_looks_on_makes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Disk::existing(dir.path()).unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_log_on_a_real_disk_keeps_what_was_committed() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::create(dir.path()).unwrap());
        for start in [1, 101, 201] {
            let (mut log, recovery) = Log::open(Arc::clone(&disk), options(&["*"]), 0).unwrap();
            assert_eq!((recovery.messages, recovery.cut), (start - 1, None));
            for id in start..start + 100 {
                assert_eq!(log.stage(&draft("a", None, &[1; 300]), 0).unwrap().id, id);
                log.commit().unwrap();
            }
            if start == 1 {
                log.close().unwrap();
            }
        }
        let mut reader = Reader::new(Arc::new(Disk::existing(dir.path()).unwrap()), 0);
        assert!(std::iter::from_fn(|| reader.next(u64::MAX).unwrap()).map(|m| m.id).eq(1..=300));
        assert!(super::super::verify(&*disk).unwrap().is_sound());
    }
}
