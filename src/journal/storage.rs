//! What the journal asks of a disk: little enough that a simulated one can do everything a real one may.

use std::fmt::Debug;
use std::io;

/// A directory of files. What is promised after a crash is what POSIX promises, and no more:
/// bytes after [`File::sync`], names after [`Storage::sync_names`].
pub trait Storage: Send + Sync + Debug + 'static {
    /// Its files.
    type File: File;

    /// Names of all files.
    fn list(&self) -> io::Result<Vec<String>>;
    /// Makes a file that is not there, with room for `bytes`, which read as zeros.
    ///
    /// # Errors
    /// [`io::ErrorKind::StorageFull`]: there is no such room; the file is not there.
    fn create(&self, name: &str, bytes: u64) -> io::Result<Self::File>;
    /// Opens a file to read and write it.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    /// Removes a name. Who has the file open goes on reading it.
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Renames a file, over one that may be there.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    /// Brings names that were made, changed and removed to the disk: fsync(2) of the directory.
    fn sync_names(&self) -> io::Result<()>;
    /// Bytes that the disk has left for us; `None`: not known.
    fn free(&self) -> io::Result<Option<u64>>;
}

/// One file.
pub trait File: Send + Debug + 'static {
    /// Reads at `offset`; fewer bytes than asked for only where the file ends.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all of `bytes` at `offset`. After an error any part of them may be there.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Brings what was written to the disk: fdatasync(2). After an error nothing is known of it.
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file, or extends it by zeros.
    fn set_len(&self, bytes: u64) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
    /// Whether it is empty.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
}
