//! Files with secrets: read with a bound, and with a word about who else may use them.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::AuthConfigError;

/// Bits of a mode by which others than its owner and group read a secret, or others than its owner change it.
pub(crate) const OTHERS: u32 = 0o027;

/// A file's content, and what others than its owner may do with it.
pub(super) struct Content {
    pub bytes: Vec<u8>,
    /// The mode's lowest nine bits (chmod(1)).
    mode: u32,
}

impl Content {
    /// Reads `path`, which `setting` names.
    pub fn read(path: &Path, setting: &'static str, limit: u64) -> Result<Content, AuthConfigError> {
        let failed = |source| AuthConfigError::Read { path: path.to_owned(), setting, source };
        // Before it is opened: to open a pipe is to wait for somebody to write into it.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            return Err(failed(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file")));
        }
        let file = File::open(path).map_err(failed)?;
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        let mut bytes = Vec::new();
        file.take(limit + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > limit {
            return Err(AuthConfigError::TooLarge { path: path.to_owned(), setting, limit });
        }
        Ok(Content { bytes, mode })
    }

    /// For a file whose content lets its reader in. That its group may read it is how agents, and
    /// Kubernetes (`fsGroup`), hand such files over.
    pub fn warn_if_others_may_use(&self, path: &Path) {
        let path = path.display();
        if self.mode & OTHERS != 0 {
            log::warn!("{path} may be used by others than its owner and group: chmod g-w,o= {path}");
        }
    }

    /// For a file that everybody may know and only its owner may change.
    #[cfg(feature = "jwt")]
    pub fn warn_if_others_may_write(&self, path: &Path) {
        let path = path.display();
        if self.mode & 0o022 != 0 {
            log::warn!("{path} may be changed by others than its owner: chmod go-w {path}");
        }
    }
}
