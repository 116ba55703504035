//! How a new server gets its certificate: a request with a one-time secret, over TLS.
//!
//! The new server has no certificate yet, so it shows none; it trusts whom the authority signed
//! whose fingerprint its admin carried here in the token. Each direction is one message: `u32`
//! length (little-endian, at most [`MAX_BYTES`]), then a JSON object, [`JoinRequest`] there,
//! [`JoinAnswer`] or [`JoinRefused`] back. Then the connection ends.
//!
//! Not here: whether the secret is right, and what the records become ([`JoinDesk`]).

use crate::identity::{Fingerprint, IdentityError, anonymous_client};
use model::Name;
use protocol::mesh::FarmId;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

/// The longest message: a request has one certificate request, an answer a few certificates.
pub const MAX_BYTES: usize = 64 * 1024;
/// How long joining may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a new server asks.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// The one-time secret of the token.
    pub secret: String,
    /// The name it wants.
    pub server: Name,
    /// Where it will listen for its peers, `HOST:PORT`.
    pub address: String,
    /// The request for its certificate (PKCS #10, PEM).
    pub request: String,
}

/// What it gets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinAnswer {
    /// The farm.
    pub farm: FarmId,
    /// The authority's certificate, PEM.
    pub authority: String,
    /// The server's certificate, PEM.
    pub certificate: String,
    /// How the farm's database is reached; only the two servers' configurations know what is in it.
    pub settings: serde_json::Value,
}

/// Why it gets nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{reason}")]
pub struct JoinRefused {
    /// In words for people.
    pub reason: String,
}

/// Decides about servers that want to join; called on a thread that may block.
pub trait JoinDesk: Send + Sync {
    /// Lets a server in, or says why not.
    fn join(&self, request: &JoinRequest, from: SocketAddr) -> Result<JoinAnswer, JoinRefused>;
}

/// Why a server could not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] JoinRefused),
    /// The other end is not of the farm that the token names, or the network failed.
    #[error("{address}: {source}")]
    Network {
        /// Which server was asked.
        address: String,
        /// Why.
        source: std::io::Error,
    },
    /// The configuration of TLS failed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Reply {
    Welcome(JoinAnswer),
    Refused(JoinRefused),
}

/// Asks a server of the farm to be let in.
pub async fn ask(address: &str, pinned: Fingerprint, request: &JoinRequest) -> Result<JoinAnswer, JoinError> {
    let config = anonymous_client(pinned)?;
    let asked = async {
        let tcp = TcpStream::connect(address).await?;
        let name = ServerName::try_from("farm.server.headwater").map_err(std::io::Error::other)?;
        let mut stream = TlsConnector::from(config).connect(name, tcp).await?;
        send(&mut stream, request).await?;
        receive::<Reply>(&mut stream).await
    };
    let late = || std::io::Error::from(std::io::ErrorKind::TimedOut);
    let reply = tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(late()));
    match reply.map_err(|source| JoinError::Network { address: address.to_owned(), source })? {
        Reply::Welcome(answer) => Ok(answer),
        Reply::Refused(refused) => Err(refused.into()),
    }
}

/// Answers who has no certificate.
pub(crate) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(
    desk: Option<Arc<dyn JoinDesk>>,
    stream: &mut S,
    from: SocketAddr,
) -> std::io::Result<()> {
    let request: JoinRequest = receive(stream).await?;
    let decided = match desk {
        None => Err(JoinRefused { reason: "no server joins through this one".into() }),
        Some(desk) => tokio::task::spawn_blocking(move || desk.join(&request, from))
            .await
            .unwrap_or_else(|_| Err(JoinRefused { reason: "the server failed; see its log".into() })),
    };
    let reply = decided.map_or_else(Reply::Refused, Reply::Welcome);
    send(stream, &reply).await?;
    stream.shutdown().await
}

async fn send<S: AsyncWrite + Unpin>(stream: &mut S, message: &impl Serialize) -> std::io::Result<()> {
    let bytes = serde_json::to_vec(message).expect("messages have text keys");
    let length = u32::try_from(bytes.len()).ok().filter(|length| *length as usize <= MAX_BYTES);
    let length = length.ok_or_else(|| std::io::Error::other("the message is too long"))?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(&bytes).await?;
    stream.flush().await
}

async fn receive<T: DeserializeOwned>(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<T> {
    let length = stream.read_u32_le().await? as usize;
    if length > MAX_BYTES {
        return Err(std::io::Error::other("the message is too long"));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    serde_json::from_slice(&bytes).map_err(std::io::Error::other)
}

/// Without the secret.
impl fmt::Debug for JoinRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinRequest")
            .field("server", &self.server)
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// Without the settings, which may have keys in them.
impl fmt::Debug for JoinAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinAnswer").field("farm", &self.farm).finish_non_exhaustive()
    }
}
