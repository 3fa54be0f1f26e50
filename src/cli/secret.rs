//! The client's token: from a file or the environment, never from the command line.

use std::path::Path;

use tidegate::client::read_token;

/// The token: the file's first line, else `TIDEGATE_TOKEN`. A file that was named is not passed over.
///
/// # Errors
/// The file can't be read or holds none, or the variable is not UTF-8; in words.
pub fn token(file: Option<&Path>) -> Result<Option<Vec<u8>>, String> {
    if let Some(file) = file {
        return read_token(file).map(Some);
    }
    match std::env::var("TIDEGATE_TOKEN") {
        Ok(token) if token.is_empty() => Ok(None),
        Ok(token) => Ok(Some(token.into())),
        Err(std::env::VarError::NotPresent) => Ok(None),
        Err(std::env::VarError::NotUnicode(_)) => Err("TIDEGATE_TOKEN is not UTF-8".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_token_file_gives_its_first_line_and_must_hold_one() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let token = || token(Some(&file));
        assert!(token().is_err());
        fs::write(&file, "secret\n").unwrap();
        assert_eq!(token(), Ok(Some(b"secret".to_vec())));
        fs::write(&file, "\n").unwrap();
        assert!(token().is_err());
    }
}
