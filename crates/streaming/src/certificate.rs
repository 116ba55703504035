//! The server's certificate and key, from PEM files to what a TLS server needs.

use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::sync::Arc;

/// Why two PEM texts make no TLS server.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The certificates cannot be read.
    #[error("the certificate is not PEM: {0}")]
    Certificate(String),
    /// There is no certificate in the text.
    #[error("the PEM text has no certificate in it")]
    NoCertificate,
    /// The key cannot be read.
    #[error("the key is not PEM: {0}")]
    Key(String),
    /// The two do not go together, or are of a kind that is not supported.
    #[error("certificate and key do not go together: {0}")]
    Mismatch(#[from] rustls::Error),
}

/// A TLS server (1.2 and 1.3) with this certificate chain and key, both PEM. Clients need no
/// certificate: the session's token is what lets them in.
pub fn tls_config(certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, CertificateError> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(|error| CertificateError::Certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(CertificateError::NoCertificate);
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| CertificateError::Key(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_and_its_key_make_a_server() {
        let made = rcgen::generate_simple_self_signed(vec!["pvs01".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        assert!(tls_config(cert.as_bytes(), key.as_bytes()).is_ok());
    }

    #[test]
    fn what_does_not_go_together_says_so() {
        let made = rcgen::generate_simple_self_signed(vec!["pvs01".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["pvs01".to_owned()]).unwrap();
        let (cert, key) = (made.cert.pem(), other.signing_key.serialize_pem());
        assert!(matches!(tls_config(cert.as_bytes(), key.as_bytes()), Err(CertificateError::Mismatch(_))));
        assert!(matches!(tls_config(b"", key.as_bytes()), Err(CertificateError::NoCertificate)));
        assert!(matches!(tls_config(cert.as_bytes(), b"no key"), Err(CertificateError::Key(_))));
    }
}
