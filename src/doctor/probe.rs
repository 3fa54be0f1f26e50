//! What no file tells: whether addresses are free, and whether the data directory takes what it is given.
//!
//! An address is bound for a moment and not listened on; a file of the data directory is written,
//! synced and removed. Nothing else is changed.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Access, access, statvfs};
use socket2::{Domain, Protocol, Socket, Type};

use super::capacity::gib;
use super::{Check, Host};
use crate::config::Config;

/// Below this much free space the audit log is soon not written any more. Bytes.
const LEAST_FREE: u64 = 64 << 20;
/// Below this much it is time to look. Bytes.
const WANTED_FREE: u64 = 1 << 30;
/// A sync that takes longer makes every durable reply wait.
const SLOW_SYNC: Duration = Duration::from_millis(20);
/// Syncs that are timed; the median counts.
const SYNCS: usize = 5;
/// What is synced: as much as a line of the audit log.
const LINE: [u8; 256] = [b'\n'; 256];

/// Tries the addresses that these settings name.
pub fn addresses(config: &Config) -> Vec<Check> {
    let listen = config.listen.iter().map(|address| ("TIDEGATE_LISTEN", *address, true));
    let admin = config.admin.iter().map(|address| ("TIDEGATE_ADMIN", *address, false));
    listen.chain(admin).map(|(setting, address, shared)| address_is_free(setting, address, shared)).collect()
}

/// Tries a data directory.
pub fn data_dir(host: &Host, dir: &Path) -> Vec<Check> {
    let mut checks = writable(dir);
    // The server makes what is missing.
    if let Some(existing) = existing(dir) {
        checks.extend([filesystem(host, &existing), space(&existing)]);
    }
    checks
}

/// `shared`: the server binds it with SO_REUSEPORT, so that two of one user can have it.
fn address_is_free(setting: &str, address: SocketAddr, shared: bool) -> Check {
    let check = Check::new(
        format!("{setting} {address}"),
        "a server that starts now binds it: one that runs already, or another program, has it",
    )
    .need("free");
    let port = address.port();
    match bind(address, false) {
        Ok(()) => check.have("free").ok(),
        Err(error) => match error.kind() {
            ErrorKind::AddrInUse if shared && bind(address, true).is_ok() => {
                check.have("shared with another tidegate").warn(format!("ss -ltnp 'sport = :{port}'"))
            }
            ErrorKind::AddrInUse => check.have("taken").warn(format!("ss -ltnp 'sport = :{port}'")),
            ErrorKind::PermissionDenied => check
                .have("not permitted")
                .fail("AmbientCapabilities=CAP_NET_BIND_SERVICE in the systemd unit; or a port from 1024"),
            ErrorKind::AddrNotAvailable => check.have("not of this host").fail("ip -brief address"),
            _ => check.have(error.to_string()).fail(format!("another {setting}")),
        },
    }
}

/// Binds without listening: nobody can connect meanwhile, and none of a running server's connections
/// comes here.
fn bind(address: SocketAddr, share: bool) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(share)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())
}

fn writable(dir: &Path) -> Vec<Check> {
    let name = |what: &str| format!("data directory, {what}");
    let shown = dir.display();
    let writable = Check::new(name("writable"), format!("the audit log is kept in {shown}")).need("yes");
    let Some(existing) = existing(dir) else { return vec![writable] };
    let fix = format!("install -d -m 750 -o \"$(id -un)\" {shown}");
    let mut checks = Vec::new();
    if existing != here(dir) {
        let allowed = existing.is_dir() && access(&existing, Access::WRITE_OK | Access::EXEC_OK).is_ok();
        let writable = writable.have(if allowed { "will be made" } else { "can't be made" });
        checks.push(if allowed { writable.ok() } else { writable.fail(fix) });
    } else {
        let why = "durable replies and the ledger wait for fdatasync";
        let sync = Check::new(name("fdatasync"), why).need(format!("at most {} ms", SLOW_SYNC.as_millis()));
        match sync_time(dir) {
            Ok(time) => {
                checks.push(writable.have("yes").ok());
                let sync = sync.have(format!("{:.2} ms", time.as_secs_f64() * 1e3));
                checks.push(if time <= SLOW_SYNC {
                    sync.ok()
                } else {
                    sync.warn("a disk of its own, or a faster one")
                });
            }
            Err(error) => checks.push(writable.have(error.to_string()).fail(fix)),
        }
    }
    checks
}

/// The directory itself, or the one in which it would be made.
fn existing(dir: &Path) -> Option<PathBuf> {
    dir.ancestors().map(here).find(|dir| dir.exists())
}

/// An empty path is the directory that one is in.
fn here(path: &Path) -> PathBuf {
    if path.as_os_str().is_empty() { PathBuf::from(".") } else { path.to_owned() }
}

/// The median of a few writes and syncs of a file that is then removed.
fn sync_time(dir: &Path) -> io::Result<Duration> {
    let path = dir.join(format!(".doctor.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
    let mut times = [Duration::ZERO; SYNCS];
    let result = times.iter_mut().try_for_each(|time| {
        let begun = Instant::now();
        file.write_all(&LINE)?;
        file.sync_data()?;
        *time = begun.elapsed();
        Ok(())
    });
    let removed = fs::remove_file(&path);
    result.and(removed)?;
    times.sort();
    Ok(times[SYNCS / 2])
}

fn filesystem(host: &Host, dir: &Path) -> Check {
    let why = "the ledger has to be there after a restart of the process, the container and the host";
    let check = Check::new("data directory, file system", why).need("one that lasts");
    let Ok(dir) = dir.canonicalize() else { return check };
    let mounts = host.of_self("mountinfo").unwrap_or_default();
    let Some(kind) = kind_of(&mounts, &dir) else { return check };
    let check = check.have(kind);
    match kind {
        "tmpfs" | "ramfs" | "devtmpfs" => check.fail("TIDEGATE_DATA_DIR on a disk: this is memory"),
        "overlay" | "aufs" => check.warn("TIDEGATE_DATA_DIR on a volume: this goes with the container"),
        "nfs" | "nfs4" | "cifs" | "9p" | "virtiofs" => check.warn("TIDEGATE_DATA_DIR on a local disk"),
        kind if kind.starts_with("fuse") => check.warn("TIDEGATE_DATA_DIR on a local disk"),
        _ => check.ok(),
    }
}

/// The type of the file system that a path is on: the last one mounted at the longest part of it.
fn kind_of<'a>(mounts: &'a str, path: &Path) -> Option<&'a str> {
    let mount = |line: &'a str| {
        let (left, right) = line.split_once(" - ")?;
        // Spaces in it are \040: such a mount is passed over for the one below.
        let point = Path::new(left.split(' ').nth(4)?);
        path.starts_with(point).then_some((point.components().count(), right.split(' ').next()?))
    };
    mounts.lines().filter_map(mount).max_by_key(|(depth, _)| *depth).map(|(_, kind)| kind)
}

fn space(dir: &Path) -> Check {
    let why = "a line for each start and shutdown; without room for one, what happened is lost";
    let check = Check::new("data directory, free space", why).need(gib(WANTED_FREE));
    let Ok(stat) = statvfs(dir) else { return check };
    let free = stat.f_bavail.saturating_mul(stat.f_frsize);
    let check = check.have(gib(free));
    let fix = format!("df -h {}", dir.display());
    if free >= WANTED_FREE {
        check.ok()
    } else if free >= LEAST_FREE {
        check.warn(fix)
    } else {
        check.fail(fix)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::super::Verdict;
    use super::*;

    fn verdicts(checks: &[Check]) -> Vec<(&str, Verdict)> {
        checks.iter().map(|check| (check.check.as_str(), check.verdict)).collect()
    }

    #[test]
    fn an_address_is_free_shared_or_taken() {
        let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(address_is_free("TIDEGATE_LISTEN", free, true).verdict, Verdict::Ok);
        let running = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        running.set_reuse_port(true).unwrap();
        running.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
        running.listen(1).unwrap();
        let running = TcpListener::from(running);
        let shared = address_is_free("TIDEGATE_LISTEN", running.local_addr().unwrap(), true);
        assert_eq!((shared.verdict, shared.have.as_deref()), (Verdict::Warn, Some("shared with another tidegate")));
        let other = TcpListener::bind("127.0.0.1:0").unwrap();
        let taken = address_is_free("TIDEGATE_LISTEN", other.local_addr().unwrap(), true);
        assert_eq!((taken.verdict, taken.have.as_deref()), (Verdict::Warn, Some("taken")));
        assert!(taken.fix.unwrap().starts_with("ss -ltnp 'sport = :"));
        // TEST-NET-1 (RFC 5737) is nobody's.
        let foreign = address_is_free("TIDEGATE_ADMIN", "192.0.2.1:7401".parse().unwrap(), false);
        assert_eq!((foreign.verdict, foreign.have.as_deref()), (Verdict::Fail, Some("not of this host")));
    }

    #[test]
    fn a_data_directory_is_written_to_synced_and_left_as_it_was() {
        let dir = tempfile::tempdir().unwrap();
        let checks = data_dir(&Host::here(), dir.path());
        assert_eq!(checks[0].verdict, Verdict::Ok);
        assert!(checks[1].have.as_ref().unwrap().ends_with(" ms"), "{:?}", checks[1]);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_data_directory_that_is_missing_will_be_made_and_is_not_by_a_look() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("a/b");
        let checks = data_dir(&Host::here(), &missing);
        assert_eq!((checks[0].verdict, checks[0].have.as_deref()), (Verdict::Ok, Some("will be made")));
        assert!(!missing.exists());
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        for wrong in [file.clone(), file.join("below")] {
            let checks = data_dir(&Host::here(), &wrong);
            assert_eq!(verdicts(&checks)[0], ("data directory, writable", Verdict::Fail), "{}", wrong.display());
        }
    }

    #[test]
    fn memory_is_no_place_for_a_data_directory_and_a_container_s_own_layer_hardly_is() {
        let mounts = "22 1 254:0 / / rw - overlay overlay rw\n\
                      23 22 0:5 / /run rw - tmpfs tmpfs rw\n\
                      24 22 0:6 / /run/data rw - ext4 /dev/vda rw\n\
                      nonsense - \n";
        let kind = |path: &str| kind_of(mounts, Path::new(path));
        assert_eq!(kind("/var/lib/tidegate"), Some("overlay"));
        assert_eq!(kind("/run/tidegate"), Some("tmpfs"));
        assert_eq!(kind("/run/data/x"), Some("ext4"));
        assert_eq!(kind("/runner"), Some("overlay"));
        let root = tempfile::tempdir().unwrap();
        let verdict = |kind: &str| {
            fs::create_dir_all(root.path().join("proc/self")).unwrap();
            fs::write(root.path().join("proc/self/mountinfo"), format!("22 1 254:0 / / rw - {kind} x rw")).unwrap();
            filesystem(&Host::under(root.path()), Path::new("/")).verdict
        };
        assert_eq!(verdict("tmpfs"), Verdict::Fail);
        assert_eq!((verdict("overlay"), verdict("fuse.sshfs")), (Verdict::Warn, Verdict::Warn));
        assert_eq!((verdict("xfs"), verdict("")), (Verdict::Ok, Verdict::Ok));
    }
}
