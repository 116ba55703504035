//! A server's certificate and key, and what is read from those of others.

use super::{DOMAIN, IdentityError, dns_name, making, unreadable};
use model::Name;
use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const AUTHORITY_FILE: &str = "authority.pem";
const CERTIFICATE_FILE: &str = "certificate.pem";
const KEY_FILE: &str = "key.pem";

/// The number of a certificate: 32 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Serial([u8; 16]);

/// A private key that has no certificate yet.
pub struct KeyRequest {
    key: String,
    request: String,
}

/// All that a server needs to prove who it is.
#[derive(Clone)]
pub struct ServerIdentity {
    authority: String,
    certificate: String,
    key: String,
    peer: PeerIdentity,
    expires: OffsetDateTime,
}

/// What a certificate says about a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerIdentity {
    /// Its name.
    pub name: Name,
    /// The certificate's number.
    pub serial: Serial,
}

impl Serial {
    /// A new one.
    ///
    /// # Panics
    /// Where the kernel gives no random bytes.
    pub fn random() -> Self {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).expect("the kernel gives random bytes");
        // Positive and without leading zeros, so that DER says it with as many bytes.
        bytes[0] = bytes[0] & 0x3f | 0x40;
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<String> for Serial {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        let number = (text.len() == 32).then(|| u128::from_str_radix(&text, 16).ok()).flatten();
        number.map(|number| Self(number.to_be_bytes())).ok_or_else(|| "no serial".to_owned())
    }
}

impl From<Serial> for String {
    fn from(serial: Serial) -> Self {
        serial.to_string()
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl KeyRequest {
    /// Makes a key and a request for its certificate.
    pub fn make(server: &Name) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(making)?;
        let params = CertificateParams::new(vec![dns_name(server)]).map_err(making)?;
        let request = params.serialize_request(&key).and_then(|request| request.pem()).map_err(making)?;
        Ok(Self { key: key.serialize_pem(), request })
    }

    /// The request (PEM), for [`super::Authority::sign`].
    pub fn request(&self) -> &str {
        &self.request
    }

    /// The identity, once the certificate (PEM) is here.
    pub fn certified(self, authority: &str, certificate: &str) -> Result<ServerIdentity, IdentityError> {
        ServerIdentity::from_pem(authority, certificate, &self.key)
    }
}

impl fmt::Debug for KeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyRequest").finish_non_exhaustive()
    }
}

impl ServerIdentity {
    /// Reads the three PEM texts, and whether they go together.
    pub fn from_pem(authority: &str, certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let der = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|error| unreadable("certificate")(&error))?;
        let (peer, expires) = read(&der)?;
        let [authority, certificate, key] = [authority, certificate, key].map(str::to_owned);
        let identity = Self { authority, certificate, key, peer, expires };
        super::server(&identity)?;
        Ok(identity)
    }

    /// Reads the identity from its directory; none where there is none.
    pub fn load(directory: &Path) -> Result<Option<Self>, IdentityError> {
        if !directory.join(CERTIFICATE_FILE).exists() {
            return Ok(None);
        }
        let read = |name| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).map_err(|source| IdentityError::File { path, source })
        };
        Self::from_pem(&read(AUTHORITY_FILE)?, &read(CERTIFICATE_FILE)?, &read(KEY_FILE)?).map(Some)
    }

    /// Writes the identity; the certificate last, for [`Self::load`] looks for it first. Only the
    /// owner may read the files.
    pub fn save(&self, directory: &Path) -> Result<(), IdentityError> {
        let file = |path: &Path, source| IdentityError::File { path: path.to_owned(), source };
        std::fs::create_dir_all(directory).map_err(|error| file(directory, error))?;
        let all =
            [(AUTHORITY_FILE, &self.authority), (KEY_FILE, &self.key), (CERTIFICATE_FILE, &self.certificate)];
        for (name, text) in all {
            let path = directory.join(name);
            write_private(&path, text.as_bytes()).map_err(|error| file(&path, error))?;
        }
        std::fs::File::open(directory).and_then(|d| d.sync_all()).map_err(|error| file(directory, error))
    }

    /// What its certificate says.
    pub fn peer(&self) -> &PeerIdentity {
        &self.peer
    }

    /// The authority's certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// When its certificate ends.
    pub fn expires(&self) -> OffsetDateTime {
        self.expires
    }

    /// Its certificate, and the authority's behind it: who joins pins that one.
    pub(super) fn chain(&self) -> Result<Vec<CertificateDer<'static>>, IdentityError> {
        let text = format!("{}\n{}", self.certificate, self.authority);
        CertificateDer::pem_slice_iter(text.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| unreadable("certificate")(&error))
    }

    pub(super) fn private_key(&self) -> Result<PrivateKeyDer<'static>, IdentityError> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(|error| unreadable("key")(&error))
    }
}

/// Without the key.
impl fmt::Debug for ServerIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerIdentity")
            .field("peer", &self.peer)
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl PeerIdentity {
    /// Reads the certificate of a peer, whose signature was checked before.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        read(certificate).map(|(peer, _)| peer)
    }
}

fn read(certificate: &CertificateDer<'_>) -> Result<(PeerIdentity, OffsetDateTime), IdentityError> {
    let bad = unreadable("certificate");
    let (_, parsed) = X509Certificate::from_der(certificate).map_err(|error| bad(&error))?;
    let names = parsed.subject_alternative_name().map_err(|error| bad(&error))?;
    let name = match names.as_ref().map(|names| &names.value.general_names[..]) {
        Some([GeneralName::DNSName(name)]) => name.strip_suffix(DOMAIN).and_then(|name| Name::new(name).ok()),
        _ => None,
    };
    let name = name.ok_or_else(|| bad(&"it names no server"))?;
    let serial = <[u8; 16]>::try_from(parsed.raw_serial()).map_err(|_| bad(&"its serial is not ours"))?;
    let peer = PeerIdentity { name, serial: Serial(serial) };
    Ok((peer, parsed.validity().not_after.to_datetime()))
}

/// Replaces a file by one that only its owner may read, durably.
fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let new = path.with_extension("new");
    let mut options = std::fs::OpenOptions::new();
    let _ = std::fs::remove_file(&new);
    let mut file = options.write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&new, path)
}
