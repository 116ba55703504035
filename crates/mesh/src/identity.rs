//! Who a server is: the farm's certificate authority, the servers' certificates and keys.
//!
//! The authority is made once (`headwater farm init`) and signs one certificate for each server,
//! whose only name is `NAME.server.headwater`. A server makes its own key and asks with a request
//! (PKCS #10, RFC 2986): the key never leaves it. Trust in a certificate is the authority's
//! signature and its validity; whether the farm still knows that server is asked in `link`, by its
//! serial.

mod authority;
mod server;
#[cfg(test)]
mod tests;
mod tls;

pub use authority::{Authority, Fingerprint, ParseFingerprintError};
pub use server::{KeyRequest, PeerIdentity, Serial, ServerIdentity};
pub(crate) use tls::{anonymous_client, client, server};

use model::Name;

/// What follows a server's name in its certificate.
pub const DOMAIN: &str = ".server.headwater";

/// Why a certificate, a key or a request is of no use.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A text is not what it should be.
    #[error("the {what} cannot be read: {why}")]
    Unreadable {
        /// Which text.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate or a key could not be made.
    #[error("a certificate cannot be made: {0}")]
    Making(String),
    /// Certificate, key and authority do not go together.
    #[error("certificate and key do not go together: {0}")]
    Mismatch(String),
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: std::path::PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

fn unreadable(what: &'static str) -> impl Fn(&dyn std::fmt::Display) -> IdentityError {
    move |why| IdentityError::Unreadable { what, why: why.to_string() }
}

fn making(error: rcgen::Error) -> IdentityError {
    IdentityError::Making(error.to_string())
}

/// The name in a server's certificate.
pub fn dns_name(server: &Name) -> String {
    format!("{server}{DOMAIN}")
}
