//! Certificates that are made, signed and read.

use super::*;
use protocol::mesh::FarmId;
use std::os::unix::fs::PermissionsExt;
use time::OffsetDateTime;

fn identity(authority: &Authority, name: &str) -> ServerIdentity {
    let name = Name::new(name).unwrap();
    let key = KeyRequest::make(&name).unwrap();
    let signed = authority.sign(key.request(), &name, &Serial::random(), OffsetDateTime::now_utc()).unwrap();
    key.certified(authority.certificate(), &signed).unwrap()
}

fn authority() -> Authority {
    Authority::make(FarmId([7; 16]), OffsetDateTime::now_utc()).unwrap()
}

#[test]
fn a_signed_certificate_says_name_serial_and_end() {
    let authority = authority();
    let name = Name::new("pvs01").unwrap();
    let key = KeyRequest::make(&name).unwrap();
    let (serial, now) = (Serial::random(), OffsetDateTime::now_utc());
    let signed = authority.sign(key.request(), &name, &serial, now).unwrap();
    let identity = key.certified(authority.certificate(), &signed).unwrap();
    assert_eq!(identity.peer(), &PeerIdentity { name, serial });
    assert!(identity.expires() > now + time::Duration::days(300));
}

#[test]
fn the_name_is_the_authoritys_word_not_the_requests() {
    let authority = authority();
    let key = KeyRequest::make(&Name::new("pvs01").unwrap()).unwrap();
    let name = Name::new("pvs09").unwrap();
    let signed = authority.sign(key.request(), &name, &Serial::random(), OffsetDateTime::now_utc()).unwrap();
    assert_eq!(key.certified(authority.certificate(), &signed).unwrap().peer().name, name);
}

#[test]
fn an_identity_is_read_as_it_was_written_and_only_its_owner_may() {
    let directory = tempfile::tempdir().unwrap();
    assert!(ServerIdentity::load(directory.path()).unwrap().is_none());
    let made = identity(&authority(), "pvs01");
    made.save(directory.path()).unwrap();
    let read = ServerIdentity::load(directory.path()).unwrap().unwrap();
    assert_eq!(read.peer(), made.peer());
    for file in std::fs::read_dir(directory.path()).unwrap() {
        assert_eq!(file.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_foreign_key_does_not_go_with_a_certificate() {
    let authority = authority();
    let name = Name::new("pvs01").unwrap();
    let (key, other) = (KeyRequest::make(&name).unwrap(), KeyRequest::make(&name).unwrap());
    let signed = authority.sign(key.request(), &name, &Serial::random(), OffsetDateTime::now_utc()).unwrap();
    assert!(matches!(other.certified(authority.certificate(), &signed), Err(IdentityError::Mismatch(_))));
    assert!(authority.sign("no request", &name, &Serial::random(), OffsetDateTime::now_utc()).is_err());
}

#[test]
fn an_authority_is_the_same_after_it_was_kept_as_text() {
    let authority = authority();
    let read = Authority::from_pem(authority.certificate(), authority.key()).unwrap();
    assert_eq!(read.fingerprint(), authority.fingerprint());
    assert_eq!(read.fingerprint().to_string().parse(), Ok(authority.fingerprint()));
    identity(&read, "pvs02");
}

#[test]
fn no_key_is_printed() {
    let authority = authority();
    let identity = identity(&authority, "pvs01");
    let printed =
        format!("{authority:?} {identity:?} {:?}", KeyRequest::make(&identity.peer().name).unwrap());
    assert!(!printed.contains("PRIVATE") && !printed.contains("BEGIN"), "{printed}");
}
