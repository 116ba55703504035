//! The token of a login, kept for the user who logged in: one file for each server.

use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

/// The directory below the user's configuration.
const DIRECTORY: &str = "headwater/logins";

/// The file for the server at `url`; none where there is no home.
pub(crate) fn path(url: &str) -> Option<PathBuf> {
    let config = std::env::var_os("XDG_CONFIG_HOME").filter(|dir| !dir.is_empty()).map(PathBuf::from);
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".config"));
    Some(config.or_else(home)?.join(DIRECTORY).join(file_name(url)))
}

/// `http://10.0.0.5:6900` becomes `10.0.0.5_6900`.
fn file_name(url: &str) -> String {
    let host = url.split_once("://").map_or(url, |(_, rest)| rest).trim_end_matches('/');
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-.".contains(c) { c } else { '_' };
    host.chars().map(plain).collect()
}

/// The token of the login at `url`.
pub(crate) fn read(url: &str) -> Option<String> {
    let token = std::fs::read_to_string(path(url)?).ok()?;
    Some(token.trim().to_owned()).filter(|token| !token.is_empty())
}

/// Keeps a token, for its owner alone; answers where.
pub(crate) fn write(url: &str, token: &str) -> std::io::Result<PathBuf> {
    let path = path(url).ok_or_else(|| std::io::Error::other("HOME is not set"))?;
    let directory = path.parent().expect("a file in a directory");
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let staged = path.with_extension("new");
    // A file left by a crash would keep its mode: remove it, so that 0600 holds from the start.
    let _ = std::fs::remove_file(&staged);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    std::fs::rename(&staged, &path)?;
    Ok(path)
}

/// Forgets the token of the login at `url`.
pub(crate) fn remove(url: &str) -> std::io::Result<()> {
    match path(url).map(std::fs::remove_file) {
        Some(Err(error)) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_server_has_a_file_of_its_own() {
        assert_eq!(file_name("http://10.0.0.5:6900"), "10.0.0.5_6900");
        assert_eq!(file_name("http://[fe80::1]:6900/"), "_fe80__1__6900");
        assert_eq!(file_name("http://pvs01/../x"), "pvs01_.._x");
    }
}
