//! From an id to a file.

use std::path::PathBuf;

use reqwest::header::CONTENT_RANGE;
use reqwest::{StatusCode, Url};

use crate::cache::Repository;
use crate::partial::{Expected, Partial};
use crate::server::{Failure, Server, chain};
use crate::{HubConfig, HubError, HubId, choose_file};

/// The one name that needs no look at the other files of a repository.
const FIRST_CHOICE: &str = "model.safetensors";

/// A file that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Download {
    /// Where it is. It belongs to the cache: read it, and leave it there.
    pub path: PathBuf,
    /// The commit that the revision was, in 40 hexadecimal digits.
    pub commit: String,
    /// Whether the id named that commit. Where it did not, the same id may mean another file
    /// tomorrow.
    pub is_pinned: bool,
    /// The id that always means this file.
    pub pinned: HubId,
}

/// Brings the file of an id into the cache, unless it is there, and says where it is.
///
/// What [`Download::pinned`] names is never asked for again. `progress` gets the bytes that are there and those
/// of the whole file. A transfer that breaks off goes on where it ended, in this call as often as
/// the config says, and in a later one. Size and SHA-256 are compared before the file gets its
/// name; the few files without a SHA-256, those that are in git itself, by their size alone.
///
/// The HTTP client reads proxies (`HTTPS_PROXY`, `NO_PROXY`) and certificates (`SSL_CERT_FILE`,
/// the system's) from where it always does; everything else is in `config`.
///
/// # Errors
///
/// [`HubError`], whose line says what to do.
///
/// # Example
///
/// ```no_run
/// use s5cl_hub::{HubConfig, fetch};
///
/// let id = "timm/resnet18.a1_in1k@main".parse()?;
/// let download = fetch(&HubConfig::public("cache"), &id, &mut |done, total| {
///     eprint!("\r{done} of {total} bytes");
/// })?;
/// println!("{} is {}", download.pinned, download.path.display());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn fetch(
    config: &HubConfig,
    id: &HubId,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Download, HubError> {
    let cache = Repository::new(&config.cache, id);
    if let Some(download) = find(config, &cache, id)? {
        return Ok(download);
    }
    if config.offline {
        return Err(HubError::NotCached { id: Box::new(id.clone()), cache: config.cache.clone() });
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| HubError::Start { reason: e.to_string() })?;
    runtime.block_on(bring(config, &cache, id, progress))
}

/// The file of an id in the cache, where that takes no question to the server.
fn find(config: &HubConfig, cache: &Repository, id: &HubId) -> Result<Option<Download>, HubError> {
    let commit = if id.is_pinned() {
        Some(id.revision().to_owned())
    } else {
        cache.commit_of(id.revision()).filter(|_| config.offline)
    };
    let Some(commit) = commit else { return Ok(None) };
    let files = cache.files(&commit);
    let file = match id.file() {
        Some(file) => Some(file).filter(|file| files.iter().any(|name| name == file)),
        // What else the repository has is not known here.
        None if !config.offline => {
            Some(FIRST_CHOICE).filter(|file| files.iter().any(|f| f == file))
        }
        None => match choose_file(&files) {
            Ok(file) => Some(file),
            Err(candidates) if candidates.is_empty() => None,
            Err(candidates) => return Err(no_choice(id, candidates)),
        },
    };
    let pinned = file.map(|file| id.pinned(&commit, file)).transpose()?;
    Ok(pinned.map(|pinned| found(cache, id, pinned)))
}

fn found(cache: &Repository, id: &HubId, pinned: HubId) -> Download {
    let commit = pinned.revision().to_owned();
    let path = cache.file(&commit, pinned.file().unwrap_or_default());
    Download { path, commit, is_pinned: id.is_pinned(), pinned }
}

fn no_choice(id: &HubId, candidates: Vec<&str>) -> HubError {
    let candidates = candidates.into_iter().map(str::to_owned).collect();
    HubError::NoChoice { id: Box::new(id.clone()), candidates }
}

async fn bring(
    config: &HubConfig,
    cache: &Repository,
    id: &HubId,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Download, HubError> {
    let server = Server::new(config, id)?;
    let (commit, files) = server.files().await?;
    let file = match id.file() {
        Some(file) if files.iter().any(|name| name == file) => file,
        Some(file) => {
            let file = file.to_owned();
            return Err(HubError::NoSuchFile { id: Box::new(id.clone()), file, found: files });
        }
        None => choose_file(&files).map_err(|candidates| no_choice(id, candidates))?,
    };
    let pinned = id.pinned(&commit, file)?;
    let commit = pinned.revision();
    if !cache.file(commit, file).is_file() {
        let url = server.url(commit, file);
        let about = Tries::new(config, &server).ask(&url).await?;
        let lock = cache.lock(&about.hash)?;
        let place = cache.blob(&about.hash);
        // Another commit may have the same bytes, and another program may just have brought them.
        if !place.is_file() {
            let mut partial = Partial::open(cache.incomplete(&about.hash), &about.expected)?;
            let tries = Tries::new(config, &server);
            if let Err(error) = tries.fill(&mut partial, &url, &about.expected, progress).await {
                partial.leave()?;
                return Err(error);
            }
            partial.finish(id, &about.expected, place)?;
        }
        cache.link(commit, file, &about.hash)?;
        drop(lock);
    }
    if !id.is_pinned() {
        cache.note(id.revision(), commit)?;
    }
    Ok(found(cache, id, pinned))
}

/// Tries after a failure that may pass.
struct Tries<'a> {
    config: &'a HubConfig,
    server: &'a Server<'a>,
    failed: u32,
}

impl<'a> Tries<'a> {
    fn new(config: &'a HubConfig, server: &'a Server<'a>) -> Self {
        Self { config, server, failed: 0 }
    }

    /// Waits for the next try, if there is one.
    async fn again(&mut self, failure: Failure) -> Result<(), HubError> {
        match failure {
            Failure::Lasting(error) => Err(error),
            Failure::Passing(reason) if self.failed >= self.config.retries => {
                Err(self.server.no_network(reason))
            }
            Failure::Passing(_) => {
                let delay = self.config.retry_delay.saturating_mul(1 << self.failed.min(6));
                self.failed += 1;
                tokio::time::sleep(delay).await;
                Ok(())
            }
        }
    }

    async fn ask(mut self, url: &Url) -> Result<crate::server::About, HubError> {
        loop {
            match self.server.about(url).await {
                Ok(about) => return Ok(about),
                Err(failure) => self.again(failure).await?,
            }
        }
    }

    /// Brings what is missing of a file.
    async fn fill(
        mut self,
        partial: &mut Partial,
        url: &Url,
        expected: &Expected,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), HubError> {
        let mut furthest = partial.len();
        loop {
            progress(partial.len(), expected.size.unwrap_or(partial.len()));
            // All that is left of an earlier call may be to give the file its name.
            if expected.size == Some(partial.len()) {
                return Ok(());
            }
            let outcome = self.pour(partial, url, expected, progress).await;
            let failure = match outcome {
                // Too many bytes are for `finish` to refuse.
                Ok(()) if expected.size.is_none_or(|size| partial.len() >= size) => return Ok(()),
                Ok(()) => Failure::Passing("the transfer ended early".to_owned()),
                Err(failure) => failure,
            };
            // Bytes that were here before count for nothing, or a server that breaks off and knows
            // no ranges would be asked forever.
            if partial.len() > furthest {
                (self.failed, furthest) = (0, partial.len());
            }
            self.again(failure).await?;
        }
    }

    /// One request for the rest of a file.
    async fn pour(
        &self,
        partial: &mut Partial,
        url: &Url,
        expected: &Expected,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<(), Failure> {
        let mut response = self.server.bytes(url, partial.len()).await?;
        let range = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok());
        let start = format!("bytes {}-", partial.len());
        let is_rest = response.status() == StatusCode::PARTIAL_CONTENT
            && range.is_some_and(|range| range.starts_with(&start));
        if partial.len() > 0 && !is_rest {
            partial.restart()?;
        }
        if response.status() != StatusCode::OK && !is_rest {
            return Err(Failure::Passing(format!("the server answers {}", response.status())));
        }
        while let Some(chunk) = response.chunk().await.map_err(|e| Failure::Passing(chain(&e)))? {
            partial.push(&chunk)?;
            progress(partial.len(), expected.size.unwrap_or(partial.len()));
            if expected.size.is_some_and(|size| partial.len() > size) {
                break;
            }
        }
        Ok(())
    }
}
