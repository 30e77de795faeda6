//! A file that is not whole yet.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::path::PathBuf;

use sha2::{Digest, Sha256};

use crate::cache::make_parent;
use crate::{HubError, HubId};

/// Bytes that are read at once.
const CHUNK: usize = 1 << 20;

/// What a whole file must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Bytes; `None` where the server does not say.
    pub(crate) size: Option<u64>,
    /// In hexadecimal digits; `None` for files that are in the repository itself, which are small.
    pub(crate) sha256: Option<String>,
}

/// The beginning of a file, with the hash of it.
pub(crate) struct Partial {
    path: PathBuf,
    file: File,
    len: u64,
    sha256: Sha256,
}

impl Partial {
    /// Goes on with what an earlier call has left, or begins.
    pub(crate) fn open(path: PathBuf, expected: &Expected) -> Result<Self, HubError> {
        make_parent(&path)?;
        let options =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).clone();
        let opened = options.open(&path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let (len, file) = opened.map_err(|source| HubError::io(&path, source))?;
        let mut partial = Self { path, file, len: 0, sha256: Sha256::new() };
        if expected.size.is_none_or(|size| len > size) {
            partial.restart()?;
        } else {
            partial.hash(len).map_err(|source| HubError::io(&partial.path, source))?;
        }
        Ok(partial)
    }

    /// Reads the first bytes, of which the end of the file may be missing when this returns.
    fn hash(&mut self, len: u64) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK];
        let mut rest = (&mut self.file).take(len);
        loop {
            let n = rest.read(&mut chunk)?;
            if n == 0 {
                return Ok(());
            }
            self.sha256.update(&chunk[..n]);
            self.len += n as u64;
        }
    }

    /// Bytes that are there.
    pub(crate) fn len(&self) -> u64 {
        self.len
    }

    /// Forgets all bytes.
    pub(crate) fn restart(&mut self) -> Result<(), HubError> {
        let emptied = self.file.set_len(0).and_then(|()| self.file.rewind());
        emptied.map_err(|source| HubError::io(&self.path, source))?;
        (self.len, self.sha256) = (0, Sha256::new());
        Ok(())
    }

    /// Adds bytes at the end.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), HubError> {
        self.file.write_all(bytes).map_err(|source| HubError::io(&self.path, source))?;
        self.sha256.update(bytes);
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Leaves what is there for a later call; a file without a byte is removed.
    pub(crate) fn leave(self) -> Result<(), HubError> {
        if self.len > 0 {
            return Ok(());
        }
        fs::remove_file(&self.path).map_err(|source| HubError::io(&self.path, source))
    }

    /// Moves the file to its place if it is what it must be, and removes it otherwise.
    pub(crate) fn finish(
        self,
        id: &HubId,
        expected: &Expected,
        place: PathBuf,
    ) -> Result<(), HubError> {
        let (path, found) = (self.path, self.len);
        let digest = self.sha256.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        let wrong = match expected {
            Expected { size: Some(expected), .. } if *expected != found => {
                Some(HubError::Size { id: Box::new(id.clone()), expected: *expected, found })
            }
            Expected { sha256: Some(expected), .. } if *expected != digest => {
                Some(HubError::Hash {
                    id: Box::new(id.clone()),
                    expected: expected.clone(),
                    found: digest,
                })
            }
            Expected { .. } => None,
        };
        if let Some(wrong) = wrong {
            fs::remove_file(&path).map_err(|source| HubError::io(&path, source))?;
            return Err(wrong);
        }
        let moved = self.file.sync_all().and_then(|()| fs::rename(&path, &place));
        moved.map_err(|source| HubError::io(&place, source))
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::{Expected, Partial};
    use crate::{HubError, HubId};

    /// SHA-256 of "abc", FIPS 180-4.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    fn abc() -> Expected {
        Expected { size: Some(3), sha256: Some(ABC.to_owned()) }
    }

    fn in_folder(test: impl Fn(PathBuf, PathBuf, HubId)) {
        let folder = tempfile::tempdir().unwrap();
        let [partial, place] = ["partial", "place"].map(|name| folder.path().join(name));
        test(partial, place, "a/b@main".parse().unwrap());
    }

    #[test]
    fn partial_goes_on_with_what_is_there() {
        in_folder(|path, place, id| {
            fs::write(&path, "ab").unwrap();
            let mut partial = Partial::open(path.clone(), &abc()).unwrap();
            assert_eq!(partial.len(), 2);
            partial.push(b"c").unwrap();
            partial.finish(&id, &abc(), place.clone()).unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"abc");
            assert!(!path.exists());
        });
    }

    #[test]
    fn partial_that_is_too_long_begins_anew() {
        in_folder(|path, place, id| {
            fs::write(&path, "abcd").unwrap();
            let mut partial = Partial::open(path.clone(), &abc()).unwrap();
            assert_eq!(partial.len(), 0);
            partial.push(b"ab").unwrap();
            partial.restart().unwrap();
            partial.push(b"abc").unwrap();
            partial.finish(&id, &abc(), place.clone()).unwrap();
            assert_eq!(fs::read(&place).unwrap(), b"abc");
        });
        // Where nothing says how long the whole is, nothing says that it is the same file.
        in_folder(|path, _, _| {
            fs::write(&path, "ab").unwrap();
            let expected = Expected { size: None, sha256: None };
            assert_eq!(Partial::open(path, &expected).unwrap().len(), 0);
        });
    }

    #[test]
    fn partial_that_is_wrong_is_removed() {
        for (bytes, is_hash) in [("abd", true), ("ab", false), ("", false)] {
            in_folder(|path, place, id| {
                let mut partial = Partial::open(path.clone(), &abc()).unwrap();
                partial.push(bytes.as_bytes()).unwrap();
                let error = partial.finish(&id, &abc(), place.clone()).unwrap_err();
                assert_eq!(matches!(error, HubError::Hash { .. }), is_hash, "{error}");
                assert!(!path.exists() && !place.exists());
            });
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn partial_on_a_full_disk_says_so() {
        in_folder(|path, _, _| {
            std::os::unix::fs::symlink("/dev/full", &path).unwrap();
            let mut partial = Partial::open(path, &abc()).unwrap();
            let error = partial.push(b"abc").unwrap_err();
            assert!(matches!(error, HubError::DiskFull { .. }), "{error}");
        });
    }
}
