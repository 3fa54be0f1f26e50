//! Which build this is: told to whoever has to know what runs where.

/// The version of the package, as in `Cargo.toml`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The commit that it was built from: 12 digits of its id, with `-dirty` behind them if the sources
/// had been changed since. `unknown` where there was no Git to ask; then the environment variable
/// `SOURCE_COMMIT`, or else `GIT_COMMIT`, tells it at build time.
pub const COMMIT: &str = env!("BUILD_COMMIT");

/// The cargo features that it was built with, in alphabetical order.
pub const FEATURES: &[&str] = include!(concat!(env!("OUT_DIR"), "/features.rs"));

/// All of it in one line: `0.1.0 (commit 2c4700d1f0aa; features admin cli load)`.
pub fn describe() -> String {
    let features = if FEATURES.is_empty() { "none".to_owned() } else { FEATURES.join(" ") };
    format!("{VERSION} (commit {COMMIT}; features {features})")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_features_are_those_that_this_was_built_with() {
        assert_eq!(FEATURES.contains(&"cli"), cfg!(feature = "cli"), "{FEATURES:?}");
        assert_eq!(FEATURES.contains(&"admin"), cfg!(feature = "admin"), "{FEATURES:?}");
        assert!(FEATURES.is_sorted() && !FEATURES.contains(&"default"), "{FEATURES:?}");
    }

    #[test]
    fn the_commit_is_a_word() {
        assert!(
            !COMMIT.is_empty() && COMMIT.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)),
            "{COMMIT}"
        );
    }
}
