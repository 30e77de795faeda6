//! Why there is no file.

use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::{HubId, IdError};

/// What went wrong, in one line that says what to do.
///
/// The lines name the variables that Hugging Face's own programs read (`HF_TOKEN`,
/// `HF_HUB_OFFLINE`, `HF_HUB_CACHE`, `HF_ENDPOINT`), from which a caller is expected to fill the
/// [`HubConfig`](crate::HubConfig).
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum HubError {
    /// The endpoint is no address.
    #[error("HF_ENDPOINT: {endpoint:?} is no address of a server: {reason}")]
    Endpoint {
        /// What was given.
        endpoint: String,
        /// What a parser of addresses says.
        reason: String,
    },
    /// There is no such repository, or not for this account.
    #[error(
        "{endpoint} has no model {}, or hides it from you: check the id; where it is private, set \
         HF_TOKEN",
        id.repository()
    )]
    NoSuchRepository {
        /// What was asked for.
        id: Box<HubId>,
        /// The server.
        endpoint: String,
    },
    /// The repository has no such commit, tag or branch.
    #[error(
        "model {} has no revision {:?}: take a commit from {endpoint}/{}/commits/main",
        id.repository(), id.revision(), id.repository()
    )]
    NoSuchRevision {
        /// What was asked for.
        id: Box<HubId>,
        /// The server.
        endpoint: String,
    },
    /// The repository has no such file at this revision.
    #[error("model {} has no file {file:?} at this revision; it has {}", id.repository(), list(found))]
    NoSuchFile {
        /// What was asked for.
        id: Box<HubId>,
        /// The file.
        file: String,
        /// The files that it has, as far as they are known.
        found: Vec<String>,
    },
    /// Which file holds the weights is not clear.
    #[error(
        "model {} has no model.safetensors, no pytorch_model.bin, and not one .safetensors alone: \
         name the file as {id}:FILE; candidates: {}",
        id.repository(), list(candidates)
    )]
    NoChoice {
        /// What was asked for.
        id: Box<HubId>,
        /// Files that might hold weights.
        candidates: Vec<String>,
    },
    /// Its owner gives the model only to who asked for it.
    #[error(
        "model {} is gated: log in at {endpoint}/{}, accept its license there, and set HF_TOKEN to \
         a token of that account",
        id.repository(), id.repository()
    )]
    Gated {
        /// What was asked for.
        id: Box<HubId>,
        /// The server.
        endpoint: String,
    },
    /// The server does not know the token.
    #[error(
        "{endpoint} refused the token: set HF_TOKEN to a valid one, renew the stored one with \
         `hf auth login`, or remove it where the model is public"
    )]
    Token {
        /// The server.
        endpoint: String,
    },
    /// The account may not read the repository, for a reason that the server gives.
    #[error("{endpoint} refuses to give {id}: {reason}")]
    Forbidden {
        /// What was asked for.
        id: Box<HubId>,
        /// The server.
        endpoint: String,
        /// What the server says.
        reason: String,
    },
    /// No answer came, or the transfer broke off again and again.
    #[error(
        "cannot fetch {id} from {endpoint}: {reason}; what is there already is kept, so try again, \
         or give a local file, or set HF_HUB_OFFLINE=1 where the model is in the cache"
    )]
    Network {
        /// What was asked for.
        id: Box<HubId>,
        /// The server.
        endpoint: String,
        /// What the connection says.
        reason: String,
    },
    /// Only the cache may be looked at, and the file is not in it.
    #[error(
        "{id} is not in the cache {}, and HF_HUB_OFFLINE forbids to fetch it: unset it, or give a \
         local file",
        cache.display()
    )]
    NotCached {
        /// What was asked for.
        id: Box<HubId>,
        /// The folder of the cache.
        cache: PathBuf,
    },
    /// The disk is full.
    #[error(
        "the disk is full at {}: make room and try again, the transfer goes on where it ended; \
         HF_HUB_CACHE moves the cache to another disk",
        path.display()
    )]
    DiskFull {
        /// The file that was written.
        path: PathBuf,
    },
    /// The cache cannot be written or read.
    #[error(
        "the cache cannot keep {}: {source}; HF_HUB_CACHE moves it to another folder",
        path.display()
    )]
    Cache {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The file is longer than the server said.
    #[error(
        "{id} should have {expected} bytes and has {found}: it was removed, try again, and tell \
         the owner of the model where it stays so"
    )]
    Size {
        /// What was asked for.
        id: Box<HubId>,
        /// Bytes that the server said.
        expected: u64,
        /// Bytes that came.
        found: u64,
    },
    /// The file is not the one that the repository names by its hash.
    #[error(
        "{id} should have SHA-256 {expected} and has {found}: it was removed, try again, and do \
         not use it where it stays so"
    )]
    Hash {
        /// What was asked for.
        id: Box<HubId>,
        /// In hexadecimal digits, as the server said.
        expected: String,
        /// In hexadecimal digits, of what came.
        found: String,
    },
    /// The server answered with what no Hub does.
    #[error("{endpoint} gave no answer of a Hub for {id}: {reason}; check HF_ENDPOINT")]
    Answer {
        /// What was asked for.
        id: Box<HubId>,
        /// The server.
        endpoint: String,
        /// What is strange.
        reason: String,
    },
    /// The server named a commit or a file that cannot be one.
    #[error("what the server answered is malformed: {0}")]
    Malformed(#[from] IdError),
    /// The client could not be started.
    #[error("cannot start the client of the Hub: {reason}")]
    Start {
        /// The system's reason.
        reason: String,
    },
}

impl HubError {
    /// Whether what the user gave is at fault, rather than the network, the disk or a server.
    pub fn is_input(&self) -> bool {
        match self {
            Self::Endpoint { .. }
            | Self::NoSuchRepository { .. }
            | Self::NoSuchRevision { .. }
            | Self::NoSuchFile { .. }
            | Self::NoChoice { .. }
            | Self::Gated { .. }
            | Self::Token { .. }
            | Self::Forbidden { .. }
            | Self::NotCached { .. } => true,
            Self::Network { .. }
            | Self::DiskFull { .. }
            | Self::Cache { .. }
            | Self::Size { .. }
            | Self::Hash { .. }
            | Self::Answer { .. }
            | Self::Malformed(_)
            | Self::Start { .. } => false,
        }
    }

    /// For a file or folder of the cache.
    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull { path },
            _ => Self::Cache { path, source },
        }
    }
}

fn list(names: &[String]) -> String {
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}
