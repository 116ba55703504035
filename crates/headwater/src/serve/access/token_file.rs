//! The admin's token: a file for the admin, a hash for the server.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// What the server keeps of a token.
pub(in crate::serve) fn hash(token: &str) -> String {
    blake3::hash(token.as_bytes()).to_hex().to_string()
}

/// Whether a token that somebody sent is the one with this hash; takes the same time wherever they
/// differ.
pub(in crate::serve) fn matches(sent: &str, stored_hash: &str) -> bool {
    // Comparing BLAKE3 hashes is constant-time in that crate.
    blake3::Hash::from_hex(stored_hash).is_ok_and(|stored| stored == blake3::hash(sent.as_bytes()))
}

/// The token in the admin's file, if it is the farm's.
pub(in crate::serve) fn is_current(path: &Path, stored_hash: Option<&str>) -> bool {
    let token = std::fs::read_to_string(path);
    stored_hash.zip(token.ok()).is_some_and(|(hash, token)| matches(token.trim(), hash))
}

/// Draws a token, writes it for the admin alone, and answers its hash.
pub(in crate::serve) fn create(path: &Path) -> std::io::Result<String> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|e| std::io::Error::other(e.to_string()))?;
    let token: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let staged = path.with_extension("new");
    // A file left by a crash would keep its mode: remove it, so that 0600 holds from the start.
    let _ = std::fs::remove_file(&staged);
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&staged)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    std::fs::rename(&staged, path)?;
    Ok(hash(&token))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_token_is_readable_by_its_owner_only_and_known_by_its_hash() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.token");
        let hash = create(&path).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let token = std::fs::read_to_string(&path).unwrap();
        assert!(matches(token.trim(), &hash));
        assert!(!matches("", &hash) && !matches(&hash, &hash) && !matches(token.trim(), "zz"));
        assert!(is_current(&path, Some(&hash)));
        let second = create(&path).unwrap();
        assert!(!is_current(&path, Some(&hash)) && is_current(&path, Some(&second)));
        assert!(!is_current(&path, None));
    }
}
