//! Questions to the server, and what its answers mean.
//!
//! `hf-hub` asks for the commit and the files of a revision. What it has for the bytes does not go
//! on where a transfer broke off, compares no hash, takes the text of a refusal for the file, and
//! hands large files to a second protocol that reads settings from the environment and reports to
//! a server. So the two requests of a file are made here, on the client that `hf-hub` brings.

use std::time::Duration;

use hf_hub::{HFClient, HFError};
use reqwest::header::{CONTENT_LENGTH, ETAG, HeaderMap, HeaderValue, LOCATION, RANGE};
use reqwest::{Client, Response, StatusCode, Url, redirect};

use crate::partial::Expected;
use crate::{HubConfig, HubError, HubId};

/// How the program names itself.
const USER_AGENT: &str = concat!("s5cl-hub/", env!("CARGO_PKG_VERSION"));
/// Time to reach a server, and time without a byte after which a connection is taken for dead.
const PATIENCE: [Duration; 2] = [Duration::from_secs(20), Duration::from_secs(60)];
/// Redirects within the server, as of a repository that was renamed.
const MOST_REDIRECTS: usize = 5;
/// The hash of a file, where it is not the one that answers that has its bytes.
const LINKED_HASH: &str = "x-linked-etag";
/// Hexadecimal digits of a SHA-256.
const SHA256_DIGITS: usize = 64;
/// No value of a header, so that `hf-hub` sends none. Without any it would look for a token in the
/// environment and in the user's home.
const NO_TOKEN: &str = "\n";

/// Why there was no answer to go on with.
pub(crate) enum Failure {
    /// It may pass by itself: a connection broke, or the server is busy.
    Passing(String),
    /// It stays so.
    Lasting(HubError),
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::Lasting(error)
    }
}

/// What a server says of a file.
pub(crate) struct About {
    /// The name of its bytes in the cache.
    pub(crate) hash: String,
    pub(crate) expected: Expected,
}

/// The server, asked about one id.
pub(crate) struct Server<'a> {
    config: &'a HubConfig,
    id: &'a HubId,
    endpoint: Url,
    /// Goes where it is sent; leaves the token behind where that is another server.
    follower: Client,
    /// Does not, as what the Hub says of a file is in its own answer.
    asker: Client,
    hub: HFClient,
}

impl<'a> Server<'a> {
    pub(crate) fn new(config: &'a HubConfig, id: &'a HubId) -> Result<Self, HubError> {
        let wrong =
            |reason: String| HubError::Endpoint { endpoint: config.endpoint.clone(), reason };
        let endpoint = Url::parse(&config.endpoint).map_err(|e| wrong(e.to_string()))?;
        let Some(host) = endpoint.host_str().filter(|_| endpoint.scheme().starts_with("http"))
        else {
            return Err(wrong("it should be like https://huggingface.co".to_owned()));
        };
        let is_header = |token: &String| HeaderValue::from_str(token).is_ok();
        if !config.token.as_ref().is_none_or(is_header) {
            return Err(HubError::Token { endpoint: config.endpoint.clone() });
        }
        // A proxy would look for this machine's own server on another machine.
        let is_here = host == "localhost" || host == "[::1]" || host.starts_with("127.");
        let client = || {
            let [connect, read] = PATIENCE;
            let client = Client::builder().user_agent(USER_AGENT);
            let client = client.connect_timeout(connect).read_timeout(read);
            if is_here { client.no_proxy() } else { client }
        };
        let start = |e: reqwest::Error| HubError::Start { reason: chain(&e) };
        let follower = client().build().map_err(start)?;
        let asker = client().redirect(redirect::Policy::none()).build().map_err(start)?;
        let hub = HFClient::builder()
            .client(follower.clone())
            .endpoint(&config.endpoint)
            .token(config.token.as_deref().unwrap_or(NO_TOKEN))
            .user_agent(USER_AGENT)
            .cache_dir(&config.cache)
            .retry_max_attempts(config.retries as usize)
            .retry_base_delay(config.retry_delay)
            .build()
            .map_err(|e| HubError::Start { reason: e.to_string() })?;
        Ok(Self { config, id, endpoint, follower, asker, hub })
    }

    /// The commit that the revision is, and the files that are there.
    pub(crate) async fn files(&self) -> Result<(String, Vec<String>), HubError> {
        let model = self.hub.model(self.id.owner(), self.id.name());
        let asked = model.info().revision(self.id.revision()).send().await;
        let info = asked.map_err(|error| self.explain(error))?;
        let commit = info.sha.ok_or_else(|| self.strange("it named no commit"))?;
        if self.id.is_pinned() && commit != self.id.revision() {
            return Err(self.strange(&format!("it named the commit {commit:?}")));
        }
        let files = info.siblings.unwrap_or_default();
        Ok((commit, files.into_iter().map(|file| file.rfilename).collect()))
    }

    /// What there is to know of a file before its bytes.
    pub(crate) async fn about(&self, url: &Url) -> Result<About, Failure> {
        let mut url = url.clone();
        for _ in 0..MOST_REDIRECTS {
            let response = self.send(self.asker.head(url.clone())).await?;
            match self.other_place(&url, &response) {
                Some(other) => url = other,
                None => return Ok(self.read_about(&response)?),
            }
        }
        Err(self.strange("it redirects again and again").into())
    }

    /// Where else on this server the question is to be asked, as of a repository that was renamed.
    /// A redirect that says something of the file leads to its bytes.
    fn other_place(&self, url: &Url, response: &Response) -> Option<Url> {
        let headers = response.headers();
        let location =
            text(headers, LOCATION.as_str()).filter(|_| response.status().is_redirection());
        let other = url.join(location.filter(|_| !headers.contains_key(LINKED_HASH))?).ok()?;
        (other.origin() == self.endpoint.origin()).then_some(other)
    }

    fn read_about(&self, response: &Response) -> Result<About, HubError> {
        let headers = response.headers();
        // Of a redirect, length and hash without "linked" are its own and not those of the file.
        let is_file = response.status().is_success();
        let linked = |name: &str| text(headers, name);
        let hash = linked(LINKED_HASH).or_else(|| text(headers, ETAG.as_str()).filter(|_| is_file));
        let size = linked("x-linked-size")
            .or_else(|| text(headers, CONTENT_LENGTH.as_str()).filter(|_| is_file));
        let hash = hash.unwrap_or_default().trim_start_matches("W/").trim_matches('"');
        if hash.is_empty() || !hash.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(self.strange(&format!("it named the bytes {hash:?}")));
        }
        let is_sha256 = hash.len() == SHA256_DIGITS && hash.bytes().all(|b| b.is_ascii_hexdigit());
        let expected = Expected {
            size: size.and_then(|size| size.parse().ok()),
            sha256: is_sha256.then(|| hash.to_ascii_lowercase()),
        };
        Ok(About { hash: hash.to_owned(), expected })
    }

    /// The bytes of a file from a place on; a server may give all of them.
    pub(crate) async fn bytes(&self, url: &Url, from: u64) -> Result<Response, Failure> {
        let mut request = self.follower.get(url.clone());
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        self.send(request).await
    }

    /// Where a file of the repository is.
    pub(crate) fn url(&self, commit: &str, file: &str) -> Url {
        let mut url = self.endpoint.clone();
        let parts = [self.id.owner(), self.id.name(), "resolve", commit];
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(parts).extend(file.split('/'));
        }
        url
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> Result<Response, Failure> {
        let request = match &self.config.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        };
        let response = request.send().await.map_err(|e| Failure::Passing(chain(&e)))?;
        let status = response.status();
        let is_answer = status.is_success() || status.is_redirection();
        if is_answer || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        if is_passing(status) {
            return Err(Failure::Passing(format!("the server answers {status}")));
        }
        let headers = response.headers();
        let code = text(headers, "x-error-code");
        Err(self.refusal(status, code, text(headers, "x-error-message")).into())
    }

    /// What an answer means that is a refusal.
    fn refusal(&self, status: StatusCode, code: Option<&str>, message: Option<&str>) -> HubError {
        let (id, endpoint) = (Box::new(self.id.clone()), self.config.endpoint.clone());
        let reason = || message.map_or_else(|| status.to_string(), |m| m.replace('\n', " "));
        match (status.as_u16(), code) {
            (_, Some("GatedRepo")) => HubError::Gated { id, endpoint },
            (_, Some("RepoNotFound")) => HubError::NoSuchRepository { id, endpoint },
            (_, Some("RevisionNotFound")) => HubError::NoSuchRevision { id, endpoint },
            (_, Some("EntryNotFound")) => {
                let file = id.file().unwrap_or_default().to_owned();
                HubError::NoSuchFile { id, file, found: Vec::new() }
            }
            (401, _) if self.config.token.is_some() => HubError::Token { endpoint },
            // To who is nobody, the Hub does not say whether a repository is private or missing.
            (401 | 404, _) => HubError::NoSuchRepository { id, endpoint },
            (403, _) => HubError::Forbidden { id, endpoint, reason: reason() },
            _ => self.strange(&format!("it answers {status}")),
        }
    }

    /// What an error of `hf-hub` means.
    fn explain(&self, error: HFError) -> HubError {
        let context = match error {
            HFError::Http { context }
            | HFError::AuthRequired { context }
            | HFError::Forbidden { context }
            | HFError::RateLimited { context, .. } => context,
            HFError::RepoNotFound { context: Some(context), .. }
            | HFError::RevisionNotFound { context: Some(context), .. } => context,
            // What arrived but is no answer of a Hub.
            HFError::Request { source, .. } if !source.is_decode() => {
                return self.no_network(chain(&source));
            }
            other => return self.strange(&other.to_string().replace('\n', " ")),
        };
        if is_passing(context.status) {
            return self.no_network(format!("the server answers {}", context.status));
        }
        let (code, message) = (context.error_code.as_deref(), context.server_message.as_deref());
        self.refusal(context.status, code, message)
    }

    /// Nothing came, or nothing that was whole.
    pub(crate) fn no_network(&self, reason: String) -> HubError {
        HubError::Network {
            id: Box::new(self.id.clone()),
            endpoint: self.config.endpoint.clone(),
            reason,
        }
    }

    fn strange(&self, reason: &str) -> HubError {
        let (id, endpoint) = (Box::new(self.id.clone()), self.config.endpoint.clone());
        HubError::Answer { id, endpoint, reason: reason.to_owned() }
    }
}

fn is_passing(status: StatusCode) -> bool {
    let is_busy = status == StatusCode::REQUEST_TIMEOUT || status == StatusCode::TOO_MANY_REQUESTS;
    is_busy || status.is_server_error()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An error with its causes, as the outermost alone only says that a request failed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |cause| cause.source());
    let lines: Vec<String> = causes.map(|cause| cause.to_string().replace('\n', " ")).collect();
    lines.join(": ")
}
