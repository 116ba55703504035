//! TLS configurations of both ends: TLS 1.3, ring, the farm's authority as the only root.

use super::{Fingerprint, IdentityError, PeerIdentity, ServerIdentity, dns_name, unreadable};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig,
    SignatureScheme,
};
use std::sync::Arc;

/// The accepting end. A client without a certificate gets in too: to join, and for nothing else.
pub(crate) fn server(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, IdentityError> {
    let roots = roots(identity.authority())?;
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .allow_unauthenticated()
        .build()
        .map_err(|error| IdentityError::Mismatch(error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(mismatch)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain()?, identity.private_key()?)
        .map_err(mismatch)?;
    // Connections last: a resumed one would carry the certificate of the time before.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// The dialling end.
pub(crate) fn client(identity: &ServerIdentity) -> Result<Arc<ClientConfig>, IdentityError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(mismatch)?
        .with_root_certificates(roots(identity.authority())?)
        .with_client_auth_cert(identity.chain()?, identity.private_key()?)
        .map_err(mismatch)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The end that joins: it has no certificate, and trusts whom the authority with this fingerprint
/// signed.
pub(crate) fn anonymous_client(pinned: Fingerprint) -> Result<Arc<ClientConfig>, IdentityError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(mismatch)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Pinned { pinned, provider: provider() }))
        .with_no_client_auth();
    Ok(Arc::new(config))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn mismatch(error: Error) -> IdentityError {
    IdentityError::Mismatch(error.to_string())
}

fn roots(authority: &str) -> Result<RootCertStore, IdentityError> {
    let bad = unreadable("authority's certificate");
    let der = CertificateDer::from_pem_slice(authority.as_bytes()).map_err(|error| bad(&error))?;
    let mut roots = RootCertStore::empty();
    roots.add(der).map_err(|error| bad(&error))?;
    Ok(roots)
}

/// Trusts a chain whose authority has the fingerprint that an admin carried here.
#[derive(Debug)]
struct Pinned {
    pinned: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let unknown = Error::InvalidCertificate(CertificateError::UnknownIssuer);
        let authority = intermediates.iter().find(|certificate| Fingerprint::of(certificate) == self.pinned);
        let authority = authority.ok_or_else(|| unknown.clone())?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|_| unknown.clone())?;
        // Any server of the farm will do: its own name is asked for.
        let name = PeerIdentity::of(end_entity).map_err(|_| unknown.clone())?.name;
        let name = ServerName::try_from(dns_name(&name)).map_err(|_| unknown)?;
        verifier.verify_server_cert(end_entity, &[], &name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not spoken here".into()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
