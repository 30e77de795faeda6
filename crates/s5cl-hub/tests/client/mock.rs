//! A Hub with one model, as far as the client asks for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use s5cl_hub::{Download, HubConfig, HubError, fetch};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

pub(crate) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

/// A request that came.
#[derive(Clone, Debug, Default)]
pub(crate) struct Asked {
    pub(crate) method: String,
    pub(crate) path: String,
    headers: BTreeMap<String, String>,
}

impl Asked {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    /// The first byte that is asked for.
    fn start(&self) -> Option<usize> {
        self.header("range")?.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok()
    }
}

/// What is answered.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) body: Vec<u8>,
    /// Bytes of the body after which the connection breaks off.
    pub(crate) cut: Option<usize>,
}

impl Reply {
    pub(crate) fn new(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    pub(crate) fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    fn send(&self, stream: &mut TcpStream, is_head: bool) -> std::io::Result<()> {
        let mut head = format!("HTTP/1.1 {} x\r\nconnection: close\r\n", self.status);
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", self.body.len());
        stream.write_all(head.as_bytes())?;
        if is_head {
            return Ok(());
        }
        stream.write_all(&self.body[..self.cut.unwrap_or(self.body.len())])
    }
}

/// A server on this machine, which lives as long as the tests.
pub(crate) struct Mock {
    pub(crate) endpoint: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Mock {
    pub(crate) fn start(answer: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (heard, answer) = (asked.clone(), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (heard, answer) = (heard.clone(), answer.clone());
                std::thread::spawn(move || serve(stream, &heard, &*answer));
            }
        });
        Self { endpoint, asked }
    }

    /// The requests so far, as method and path.
    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests so far that a part of their line is.
    pub(crate) fn asked_for(&self, part: &str) -> Vec<Asked> {
        let is_meant = |asked: &Asked| format!("{} {}", asked.method, asked.path).contains(part);
        self.asked().into_iter().filter(is_meant).collect()
    }
}

fn serve(mut stream: TcpStream, heard: &Mutex<Vec<Asked>>, answer: &dyn Fn(&Asked) -> Reply) {
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let Some(first) = lines.next() else { return };
    let mut words = first.split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let headers = lines
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_once(": ").map(|(k, v)| (k.to_lowercase(), v.to_owned())))
        .collect();
    let asked = Asked { method, path, headers };
    heard.lock().unwrap().push(asked.clone());
    // A client that has enough may close the connection at any time.
    let _ = answer(&asked).send(&mut stream, asked.method == "HEAD");
}

/// A model `owner/name` whose branch `main` is [`COMMIT`].
#[derive(Clone)]
pub(crate) struct Model {
    pub(crate) files: BTreeMap<&'static str, Vec<u8>>,
    /// Where the bytes are, if not on the server that is asked.
    pub(crate) store: Option<String>,
}

impl Model {
    pub(crate) fn of(files: &[(&'static str, &[u8])]) -> Self {
        let files = files.iter().map(|(name, bytes)| (*name, bytes.to_vec())).collect();
        Self { files, store: None }
    }

    /// As the Hub does: what there is to know of a large file comes with a redirect to a store,
    /// which alone has its bytes.
    pub(crate) fn answer(&self, asked: &Asked) -> Reply {
        let path = asked.path.as_str();
        if let Some(revision) = path.strip_prefix("/api/models/owner/name/revision/") {
            if revision != "main" && revision != COMMIT {
                return Reply::new(404).with("x-error-code", "RevisionNotFound");
            }
            let names: Vec<String> =
                self.files.keys().map(|name| format!("{{\"rfilename\": \"{name}\"}}")).collect();
            let siblings = names.join(", ");
            return Reply::new(200).body(format!(
                "{{\"id\": \"owner/name\", \"sha\": \"{COMMIT}\", \"siblings\": [{siblings}]}}"
            ));
        }
        if let Some(bytes) = self.named(path, &format!("/owner/name/resolve/{COMMIT}/")) {
            let name = path.split_once(COMMIT).map(|(_, name)| name).unwrap_or_default();
            let here = format!("http://{}", asked.header("host").unwrap_or_default());
            let store = self.store.as_deref().unwrap_or(&here);
            return Reply::new(302)
                .with("location", format!("{store}/store{name}"))
                .with("x-repo-commit", COMMIT)
                .with("x-linked-etag", format!("\"{}\"", sha256(bytes)))
                .with("x-linked-size", bytes.len().to_string())
                // Of the protocol that must not be used.
                .with("x-xet-hash", "ab".repeat(32))
                .body("Found");
        }
        match self.named(path, "/store/") {
            Some(bytes) => stored(bytes, asked).with("etag", "\"of-the-store\""),
            None => Reply::new(404).with("x-error-code", "RepoNotFound"),
        }
    }

    fn named(&self, path: &str, prefix: &str) -> Option<&[u8]> {
        self.files.get(path.strip_prefix(prefix)?).map(Vec::as_slice)
    }
}

/// The bytes, or the rest that is asked for.
pub(crate) fn stored(bytes: &[u8], asked: &Asked) -> Reply {
    match asked.start() {
        None => Reply::new(200).body(bytes),
        Some(start) if start < bytes.len() => {
            let range = format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len());
            Reply::new(206).with("content-range", range).body(&bytes[start..])
        }
        Some(_) => Reply::new(416),
    }
}

pub(crate) fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Weights of some size, no two bytes of which in a row are the same.
pub(crate) fn weights() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A cache in a folder of its own, and how the mock is asked.
pub(crate) struct Cache {
    folder: TempDir,
    pub(crate) config: HubConfig,
}

impl Cache {
    pub(crate) fn new(endpoint: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = HubConfig {
            endpoint: endpoint.to_owned(),
            retry_delay: Duration::ZERO,
            ..HubConfig::public(folder.path().join("hub"))
        };
        Self { folder, config }
    }

    pub(crate) fn fetch(&self, id: &str) -> Result<Download, HubError> {
        fetch(&self.config, &id.parse().unwrap(), &mut |_, _| {})
    }

    /// The line of the error that comes.
    pub(crate) fn refusal(&self, id: &str) -> String {
        let line = self.fetch(id).unwrap_err().to_string();
        assert!(!line.contains('\n'), "{line}");
        line
    }

    /// All files and links of the cache that are no locks, by their path in it, sorted.
    pub(crate) fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        collect(&self.config.cache, &self.config.cache, &mut found);
        found.sort();
        found
    }

    pub(crate) fn path(&self, relative: &str) -> std::path::PathBuf {
        self.folder.path().join("hub").join(relative)
    }
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            collect(root, &path, found);
        } else if path.extension().is_none_or(|extension| extension != "lock") {
            found.push(path.strip_prefix(root).unwrap().display().to_string());
        }
    }
}
