//! A disk in memory, for tests of the log: it keeps everything, and fails when it is told to.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use super::storage::{File, Storage};
use super::{Draft, LogOptions, LogRoute, TopicPattern};

#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
pub struct Inner {
    pub files: BTreeMap<String, Bytes>,
    pub free: Option<u64>,
    /// Bytes that writes may still take until the disk is full.
    pub room: Option<usize>,
    /// Creating a file finds the disk full.
    pub no_create: bool,
    pub fail_sync: bool,
    pub fail_write: bool,
    pub syncs: usize,
    pub writes: usize,
}

type Bytes = Arc<Mutex<Vec<u8>>>;

#[derive(Debug)]
pub struct MemoryFile(Bytes, Memory);

impl Memory {
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap()
    }

    /// A copy, as if the process had been killed.
    pub fn copy(&self) -> Arc<Memory> {
        let copied = Memory::default();
        for (name, bytes) in &self.lock().files {
            copied.lock().files.insert(name.clone(), Arc::new(Mutex::new(bytes.lock().unwrap().clone())));
        }
        Arc::new(copied)
    }

    pub fn names(&self) -> Vec<String> {
        self.lock().files.keys().cloned().collect()
    }

    /// Changes a file's bytes.
    pub fn edit<T>(&self, name: &str, edit: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let bytes = Arc::clone(&self.lock().files[name]);
        edit(&mut bytes.lock().unwrap())
    }
}

fn not_found() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for Memory {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names())
    }

    fn create(&self, name: &str, bytes: u64) -> io::Result<MemoryFile> {
        let mut inner = self.lock();
        if inner.no_create {
            return Err(io::ErrorKind::StorageFull.into());
        }
        assert!(!inner.files.contains_key(name), "{name} is there");
        let bytes = Arc::new(Mutex::new(vec![0; bytes as usize]));
        inner.files.insert(name.to_owned(), Arc::clone(&bytes));
        Ok(MemoryFile(bytes, self.clone()))
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let bytes = Arc::clone(self.lock().files.get(name).ok_or_else(not_found)?);
        Ok(MemoryFile(bytes, self.clone()))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.lock().files.remove(name).map(drop).ok_or_else(not_found)
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut inner = self.lock();
        let bytes = inner.files.remove(from).ok_or_else(not_found)?;
        inner.files.insert(to.to_owned(), bytes);
        Ok(())
    }

    fn sync_names(&self) -> io::Result<()> {
        Ok(())
    }

    fn free(&self) -> io::Result<Option<u64>> {
        Ok(self.lock().free)
    }
}

impl File for MemoryFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let bytes = self.0.lock().unwrap();
        let there = bytes.get(offset as usize..).unwrap_or_default();
        let len = there.len().min(buffer.len());
        buffer[..len].copy_from_slice(&there[..len]);
        Ok(len)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut inner = self.1.lock();
        inner.writes += 1;
        if inner.fail_write {
            return Err(io::Error::other("EIO"));
        }
        let len = inner.room.map_or(bytes.len(), |room| room.min(bytes.len()));
        inner.room = inner.room.map(|room| room - len);
        let mut there = self.0.lock().unwrap();
        let end = offset as usize + len;
        if there.len() < end {
            there.resize(end, 0);
        }
        there[offset as usize..end].copy_from_slice(&bytes[..len]);
        if len < bytes.len() { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut inner = self.1.lock();
        inner.syncs += 1;
        if inner.fail_sync { Err(io::Error::other("EIO")) } else { Ok(()) }
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.lock().unwrap().resize(bytes as usize, 0);
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().len() as u64)
    }
}

/// Small segments, and a route for each pattern; one with a `!` keeps.
pub fn options(patterns: &[&str]) -> LogOptions {
    let route = |text: &&str| LogRoute {
        pattern: TopicPattern::parse(text.trim_start_matches('!')).unwrap(),
        keeps: text.starts_with('!'),
    };
    LogOptions {
        segment_bytes: 16 << 10,
        max_bytes: 1 << 20,
        min_free_bytes: 0,
        retain: Duration::from_secs(100),
        retain_bytes: 1 << 20,
        dedup_window: Duration::from_secs(10),
        dedup_max: 1_000,
        routes: patterns.iter().map(route).collect(),
    }
}

pub fn draft<'a>(topic: &'a str, key: Option<u8>, body: &'a [u8]) -> Draft<'a> {
    Draft { topic, principal: "anna", key: key.map(|key| [key; 16]), trace: None, session: None, body }
}
