//! The build script: the commit and the features, for `tidegate::build`.
//!
//! It runs again only when the commit or the sources have changed, and never fails a build: a
//! source archive has no Git, and its commit is `unknown` unless the environment names it.

use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=src");
    println!("cargo::rerun-if-changed=Cargo.toml");
    println!("cargo::rustc-env=BUILD_COMMIT={}", commit());
    let mut features: Vec<String> = std::env::vars()
        .filter_map(|(name, _)| name.strip_prefix("CARGO_FEATURE_").map(|f| f.to_ascii_lowercase().replace('_', "-")))
        .filter(|feature| feature != "default")
        .collect();
    features.sort();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    std::fs::write(out.join("features.rs"), format!("&{features:?}")).expect("cargo's OUT_DIR can be written");
}

fn commit() -> String {
    for variable in ["SOURCE_COMMIT", "GIT_COMMIT"] {
        println!("cargo::rerun-if-env-changed={variable}");
    }
    let named = ["SOURCE_COMMIT", "GIT_COMMIT"].iter().find_map(|variable| std::env::var(variable).ok());
    let word = |text: &String| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c));
    named.filter(word).map(|text| text.chars().take(12).collect()).or_else(from_git).unwrap_or_else(|| "unknown".into())
}

/// Of this repository, and not of one that the sources were unpacked in.
fn from_git() -> Option<String> {
    let root = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR")?);
    if !root.join(".git").exists() {
        return None;
    }
    let commit = git(&root, &["rev-parse", "--short=12", "HEAD"])?;
    // HEAD names the branch, the branch's file its commit, the log is there for a branch whose commit
    // is packed. A file that does not exist would have this run at each build.
    let branch = git(&root, &["symbolic-ref", "--quiet", "HEAD"]);
    for name in ["HEAD", "logs/HEAD", "packed-refs"].into_iter().chain(branch.as_deref()) {
        let path = git(&root, &["rev-parse", "--git-path", name]).map(|path| root.join(path));
        if let Some(path) = path.filter(|path| path.exists()) {
            println!("cargo::rerun-if-changed={}", path.display());
        }
    }
    let changed = git(&root, &["status", "--porcelain", "--untracked-files=no", "--", "src", "Cargo.toml"])?;
    Some(if changed.is_empty() { commit } else { format!("{commit}-dirty") })
}

/// What Git prints, if it can be asked. Without taking its lock: somebody may be at work there.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("--no-optional-locks").args(args).current_dir(root).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
