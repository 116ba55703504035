//! Passwords: hashed with argon2id, checked a few at a time.
//!
//! The cost is the crate's default, OWASP's first choice: 19 MiB, two passes, one lane.

use argon2::Argon2;
use argon2::password_hash::phc::PasswordHash;
use argon2::password_hash::{PasswordHasher, PasswordVerifier};
use std::sync::{Arc, LazyLock};
use tokio::sync::Semaphore;

/// The shortest password in characters (NIST SP 800-63B asks for 8 at least).
pub(super) const MIN_CHARACTERS: usize = 10;
/// The longest password in bytes.
pub(super) const MAX_BYTES: usize = 1024;
/// How many passwords are hashed at once: each takes 19 MiB and a core.
const AT_ONCE: usize = 2;
/// How many may wait for that; beyond it whoever comes is sent away.
const WAITING: usize = 32;

/// What a password is checked against where there is no user or no password of his.
static NOBODYS: LazyLock<String> =
    LazyLock::new(|| hash("nobody has this password").expect("the parameters are the crate's own"));

/// The place where passwords are hashed.
#[derive(Debug)]
pub(super) struct Hashing {
    at_once: Arc<Semaphore>,
    waiting: Arc<Semaphore>,
}

/// Too many passwords are being checked.
#[derive(Debug)]
pub(super) struct TooMany;

impl Default for Hashing {
    fn default() -> Self {
        Self {
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            waiting: Arc::new(Semaphore::new(AT_ONCE + WAITING)),
        }
    }
}

impl Hashing {
    /// Hashes a new password.
    pub(super) async fn hash(&self, password: String) -> Result<String, TooMany> {
        self.run(move || hash(&password).expect("the parameters are the crate's own")).await
    }

    /// Whether a password is the one of `stored`; takes as long where there is none.
    pub(super) async fn verify(&self, password: String, stored: Option<String>) -> Result<bool, TooMany> {
        self.run(move || {
            let matches = is_password(&password, stored.as_ref().unwrap_or(&NOBODYS));
            matches && stored.is_some()
        })
        .await
    }

    async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, TooMany> {
        let _waits = Arc::clone(&self.waiting).try_acquire_owned().map_err(|_| TooMany)?;
        let _works = Arc::clone(&self.at_once).acquire_owned().await.expect("never closed");
        Ok(tokio::task::spawn_blocking(work).await.expect("hashing does not panic"))
    }
}

fn hash(password: &str) -> Result<String, argon2::password_hash::Error> {
    Ok(PasswordHasher::<PasswordHash>::hash_password(&Argon2::default(), password.as_bytes())?.to_string())
}

fn is_password(password: &str, stored: &str) -> bool {
    PasswordHash::new(stored)
        .is_ok_and(|stored| Argon2::default().verify_password(password.as_bytes(), &stored).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_is_known_by_its_salted_hash_only() {
        let hashing = Hashing::default();
        let one = hashing.hash("correct horse".to_owned()).await.unwrap();
        let other = hashing.hash("correct horse".to_owned()).await.unwrap();
        assert!(one.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{one}");
        assert_ne!(one, other, "each has its salt");
        let verify =
            |password: &str, stored: Option<&String>| hashing.verify(password.to_owned(), stored.cloned());
        assert!(verify("correct horse", Some(&one)).await.unwrap());
        assert!(!verify("correct horsE", Some(&one)).await.unwrap());
        assert!(!verify("nobody has this password", None).await.unwrap());
        assert!(!verify("", Some(&"broken".to_owned())).await.unwrap());
    }
}
