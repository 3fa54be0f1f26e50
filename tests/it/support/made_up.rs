//! A host that is a few files: what `/proc` and `/sys` would say, and a place for `/etc`.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A host of files: `proc`, `sys` and `etc`.
pub struct MadeUp(TempDir);

/// Settings of a host that has enough for 100,000 connections, and not much more.
const ENOUGH: &[(&str, &str)] = &[
    ("fs.nr_open", "1048576"),
    ("fs.file-max", "9223372036854775807"),
    ("fs.epoll.max_user_watches", "200000"),
    ("net.core.somaxconn", "4096"),
    ("net.ipv4.tcp_max_syn_backlog", "8192"),
    ("net.core.netdev_max_backlog", "2000"),
    ("net.ipv4.ip_local_port_range", "32768\t60999"),
    ("net.ipv4.tcp_syncookies", "1"),
    ("net.ipv4.tcp_mem", "50000\t100000\t200000"),
    ("net.ipv4.tcp_rmem", "4096\t131072\t6291456"),
    ("net.ipv4.tcp_wmem", "4096\t16384\t4194304"),
    ("net.ipv4.tcp_max_orphans", "100000"),
    ("net.ipv4.tcp_max_tw_buckets", "131072"),
    ("net.ipv4.tcp_migrate_req", "1"),
    ("net.ipv4.tcp_ehash_entries", "131072"),
    ("net.netfilter.nf_conntrack_max", "262144"),
];

impl MadeUp {
    /// It has enough for 100,000 connections, and not much more.
    pub fn new() -> MadeUp {
        let host = MadeUp(tempfile::tempdir().unwrap());
        host.write("proc/meminfo", "MemTotal:       16000000 kB\nMemFree:        15000000 kB\n");
        host.write("proc/cpuinfo", "processor\t: 0\nmodel name\t: a\n\nprocessor\t: 1\nmodel name\t: a\n");
        host.limit_files("1024", "1048576");
        ENOUGH.iter().for_each(|(name, value)| host.set(name, value));
        host.write("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n");
        host
    }

    /// The directory that stands for `/`.
    pub fn root(&self) -> &Path {
        self.0.path()
    }

    /// Writes a file by its path from there.
    pub fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Reads one.
    pub fn read(&self, path: &str) -> String {
        fs::read_to_string(self.0.path().join(path)).unwrap()
    }

    /// Whether there is one.
    pub fn has(&self, path: &str) -> bool {
        self.0.path().join(path).exists()
    }

    /// Removes a file or a directory with all that is in it.
    pub fn remove(&self, path: &str) {
        let path = self.0.path().join(path);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }

    /// Sets a kernel setting by its dotted name.
    pub fn set(&self, name: &str, value: &str) {
        self.write(&MadeUp::file(name), &format!("{value}\n"));
    }

    /// The value of one.
    pub fn get(&self, name: &str) -> String {
        self.read(&MadeUp::file(name)).trim_end().replace('\t', " ")
    }

    /// The file of one.
    pub fn file(name: &str) -> String {
        format!("proc/sys/{}", name.replace('.', "/"))
    }

    /// The soft and the hard limit of open files.
    pub fn limit_files(&self, soft: &str, hard: &str) {
        let head = "Limit                     Soft Limit           Hard Limit           Units\n";
        let other = "Max processes             95870                95870                processes\n";
        self.write("proc/self/limits", &format!("{head}{other}Max open files  {soft}  {hard}  files\n"));
    }
}
