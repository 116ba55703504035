//! The API's client: finds the server, sends requests, turns answers into errors with hints.

use crate::config::default_state_dir;
use crate::login_file;
use crate::serve::{API_URL_FILE, TOKEN_FILE};
use anyhow::Result;
use api::ErrorBody;
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::PathBuf;
use std::time::Duration;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Where the server listens unless told otherwise.
const DEFAULT_URL: &str = "http://127.0.0.1:6900";

/// Where the server is and how to prove who we are; each part may be missing.
#[derive(Clone, Debug, Default)]
pub(crate) struct Target {
    pub(crate) url: Option<String>,
    pub(crate) token: Option<String>,
    pub(crate) state_dir: Option<PathBuf>,
}

/// A server's API.
pub(crate) struct Client {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
    token_file: PathBuf,
    target: Target,
}

/// Why a command failed, by what its exit code tells.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClientError {
    /// The server said no: its rules, or what was asked for makes no sense there.
    #[error("{}", with_hint(.0))]
    Refused(ErrorBody),
    /// The server tried and failed.
    #[error("{}", with_hint(.0))]
    Failed(ErrorBody),
    /// There is no answer.
    #[error("{}", with_hint(.0))]
    NotReachable(ErrorBody),
}

fn with_hint(body: &ErrorBody) -> String {
    match body.hint.is_empty() {
        true => body.message.clone(),
        false => format!("{}\nhint: {}", body.message, body.hint),
    }
}

impl Client {
    /// Finds the server: as told, else as the local server's state directory says. Proves who asks by
    /// the token that was told, else the login's, else the one in the local server's file.
    pub(crate) fn new(target: &Target) -> Result<Self> {
        let state_dir = target.state_dir.clone().unwrap_or_else(default_state_dir);
        let told = |name: &str| Some(std::fs::read_to_string(state_dir.join(name)).ok()?.trim().to_owned());
        let url = target.url.clone().or_else(|| told(API_URL_FILE));
        let url = url.unwrap_or_else(|| DEFAULT_URL.to_owned()).trim_end_matches('/').to_owned();
        let login = || login_file::read(&url);
        let token = target.token.clone().or_else(login).or_else(|| told(TOKEN_FILE));
        Ok(Self {
            http: reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().build()?,
            token,
            url,
            token_file: state_dir.join(TOKEN_FILE),
            target: target.clone(),
        })
    }

    /// The same server, which may have moved meanwhile.
    pub(crate) fn found_again(&self) -> Result<Self> {
        Self::new(&self.target)
    }

    /// Where the server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// GET.
    pub(crate) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        self.json(self.request(Method::GET, path)).await
    }

    /// POST with a body, for an answer.
    pub(crate) async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::POST, path).json(body)).await
    }

    /// PATCH with a body, for an answer.
    pub(crate) async fn patch<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.json(self.request(Method::PATCH, path).json(body)).await
    }

    /// A request without body or answer.
    pub(crate) async fn act(&self, method: Method, path: &str) -> Result<(), ClientError> {
        self.send(self.request(method, path)).await.map(drop)
    }

    /// A request to go on with.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.request_as_nobody(method, path);
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    /// A request that proves nothing.
    pub(crate) fn request_as_nobody(&self, method: Method, path: &str) -> RequestBuilder {
        self.http.request(method, format!("{}{path}", self.url))
    }

    /// Sends a request and reads its answer.
    pub(crate) async fn json<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, ClientError> {
        let response = self.send(request).await?;
        response.json().await.map_err(|error| self.broken(&error))
    }

    /// Sends a request; an answer other than 2xx is an error.
    pub(crate) async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let response = request.send().await.map_err(|error| self.broken(&error))?;
        match response.status() {
            status if status.is_success() => Ok(response),
            status => Err(self.refused(status, response).await),
        }
    }

    async fn refused(&self, status: StatusCode, response: Response) -> ClientError {
        let unreadable = || ErrorBody {
            message: format!("{} answered with {status}", self.url),
            hint: "is it a headwater server? `headwater --url` says which one is asked".to_owned(),
        };
        // A login that fails has no such header.
        let needs_token = response.headers().contains_key(reqwest::header::WWW_AUTHENTICATE);
        let mut body = response.json().await.unwrap_or_else(|_| unreadable());
        if needs_token && self.token.is_none() {
            let file = self.token_file.display();
            body.hint = format!(
                "{file} cannot be read: log in with `headwater login`, or run this as the server's user (sudo)"
            );
        }
        if status.is_server_error() { ClientError::Failed(body) } else { ClientError::Refused(body) }
    }

    /// No answer, or half of one.
    fn broken(&self, error: &reqwest::Error) -> ClientError {
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let hint = match error.is_connect() {
            true => {
                "is the server running? `systemctl status headwater`, or `headwater serve`; --url or HEADWATER_URL name another one"
            }
            false => "the server's log may say more",
        };
        ClientError::NotReachable(ErrorBody {
            message: format!("the server at {} does not answer: {cause}", self.url),
            hint: hint.to_owned(),
        })
    }
}
