//! The farm's certificate authority.

use super::{IdentityError, Serial, dns_name, making, unreadable};
use model::Name;
use protocol::mesh::FarmId;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use std::fmt;
use std::str::FromStr;
use time::{Duration, OffsetDateTime};

/// Twenty years: longer than a farm's hardware.
const AUTHORITY_DAYS: i64 = 20 * 365;
/// A year; servers renew when a third is left.
const CERTIFICATE_DAYS: i64 = 365;
/// Clocks of servers may differ by this much.
const SKEW: Duration = Duration::days(1);

/// The certificate and the key that sign the servers' certificates, as PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Authority {
    certificate: String,
    key: String,
}

/// BLAKE3 of an authority's certificate (DER): how a join token pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

/// Why a text is no fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits")]
pub struct ParseFingerprintError;

impl Authority {
    /// Makes the authority of a farm.
    pub fn make(farm: FarmId, now: OffsetDateTime) -> Result<Self, IdentityError> {
        let key = KeyPair::generate().map_err(making)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = named(&format!("Headwater farm {farm}"));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = now - SKEW;
        params.not_after = now + Duration::days(AUTHORITY_DAYS);
        params.serial_number = Some(SerialNumber::from_slice(Serial::random().as_bytes()));
        let certificate = params.self_signed(&key).map_err(making)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem() })
    }

    /// Takes an authority from what [`Authority::certificate`] and [`Authority::key`] said.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, IdentityError> {
        let authority = Self { certificate: certificate.to_owned(), key: key.to_owned() };
        authority.issuer().map(|_| authority)
    }

    /// Its certificate, PEM.
    pub fn certificate(&self) -> &str {
        &self.certificate
    }

    /// Its private key, PEM: secret.
    pub fn key(&self) -> &str {
        &self.key
    }

    /// What a join token pins.
    pub fn fingerprint(&self) -> Fingerprint {
        let der = CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("was read before");
        Fingerprint::of(&der)
    }

    /// Signs the certificate (PEM) of a server. Of the request, only its key is taken, and that
    /// its sender has it; name and validity are ours.
    pub fn sign(
        &self,
        request: &str,
        server: &Name,
        serial: &Serial,
        now: OffsetDateTime,
    ) -> Result<String, IdentityError> {
        let request = CertificateSigningRequestParams::from_pem(request)
            .map_err(|error| unreadable("certificate request")(&error))?;
        let mut params = CertificateParams::new(vec![dns_name(server)]).map_err(making)?;
        params.distinguished_name = named(server.as_str());
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.serial_number = Some(SerialNumber::from_slice(serial.as_bytes()));
        params.not_before = now - SKEW;
        params.not_after = now + Duration::days(CERTIFICATE_DAYS);
        params.use_authority_key_identifier_extension = true;
        let signed = params.signed_by(&request.public_key, &self.issuer()?).map_err(making)?;
        Ok(signed.pem())
    }

    fn issuer(&self) -> Result<Issuer<'static, KeyPair>, IdentityError> {
        let key = KeyPair::from_pem(&self.key).map_err(|error| unreadable("authority's key")(&error))?;
        Issuer::from_ca_cert_pem(&self.certificate, key)
            .map_err(|error| unreadable("authority's certificate")(&error))
    }
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// Without the key.
impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("fingerprint", &self.fingerprint()).finish_non_exhaustive()
    }
}

impl Fingerprint {
    /// Of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(*blake3::hash(certificate).as_bytes())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(blake3::Hash::from_bytes(self.0).to_hex().as_str())
    }
}

impl FromStr for Fingerprint {
    type Err = ParseFingerprintError;
    fn from_str(text: &str) -> Result<Self, ParseFingerprintError> {
        let hash = blake3::Hash::from_hex(text).map_err(|_| ParseFingerprintError)?;
        Ok(Self(*hash.as_bytes()))
    }
}
