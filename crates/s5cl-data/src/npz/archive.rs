//! Arrays out of a zip archive, each checked against its own header.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use zip::ZipArchive;

use super::npy::Header;
use crate::DataError;
use crate::decode::unreadable;

/// One member, unpacked.
pub(super) struct Array {
    pub(super) member: String,
    pub(super) header: Header,
    pub(super) bytes: Vec<u8>,
}

impl Array {
    pub(super) fn misshapen(&self, path: &Path, expected: &'static str) -> DataError {
        DataError::Misshapen {
            path: path.to_owned(),
            member: self.member.clone(),
            shape: self.header.shape.clone(),
            expected,
        }
    }

    pub(super) fn wrong_type(&self, path: &Path, expected: &str) -> DataError {
        let reason = format!("its type is {}; expected {expected}", self.header.descr);
        DataError::BadMember { path: path.to_owned(), member: self.member.clone(), reason }
    }
}

/// An open archive.
pub(super) struct Archive {
    path: PathBuf,
    zip: ZipArchive<BufReader<File>>,
}

impl Archive {
    pub(super) fn open(path: &Path) -> Result<Self, DataError> {
        if !path.exists() {
            return Err(DataError::NotFound { path: path.to_owned() });
        }
        let file = File::open(path).map_err(|error| unreadable(path, &error))?;
        let zip = ZipArchive::new(BufReader::new(file))
            .map_err(|error| bad_archive(path, &error.to_string()))?;
        Ok(Self { path: path.to_owned(), zip })
    }

    pub(super) fn has(&self, member: &str) -> bool {
        self.members().iter().any(|name| name == member)
    }

    fn members(&self) -> Vec<String> {
        let mut names: Vec<String> =
            self.zip.file_names().flatten().map(|name| name.into_owned()).collect();
        names.sort_unstable();
        names
    }

    /// Unpacks a member and checks that it is exactly as long as its header says.
    pub(super) fn read(&mut self, member: &str) -> Result<Array, DataError> {
        if !self.has(member) {
            let mut present = self.members().join(", ");
            if present.is_empty() {
                present.push_str("nothing");
            }
            let (path, member) = (self.path.clone(), member.to_owned());
            return Err(DataError::MissingMember { path, member, present });
        }
        let path = self.path.as_path();
        let damaged =
            |error: &dyn ToString| bad_archive(path, &format!("{member}: {}", error.to_string()));
        let bad = |reason: String| DataError::BadMember {
            path: path.to_owned(),
            member: member.to_owned(),
            reason,
        };
        let mut file = self.zip.by_name(member).map_err(|error| damaged(&error))?;
        let header = Header::read(&mut file).map_err(bad)?;
        let expected = element_bytes(&header.descr)
            .zip(header.n_elements())
            .and_then(|(bytes, n)| bytes.checked_mul(n));
        // The directory's length bounds what is set aside for a header that claims too much.
        let mut bytes = Vec::new();
        let room = expected.unwrap_or(0).min(file.size() as usize);
        bytes.try_reserve_exact(room).map_err(|error| damaged(&error))?;
        file.read_to_end(&mut bytes).map_err(|error| damaged(&error))?;
        if expected.is_some_and(|expected| expected != bytes.len()) {
            let (n, shape, descr) = (bytes.len(), &header.shape, &header.descr);
            return Err(bad(format!("{n} bytes of data are not shape {shape:?} of {descr}")));
        }
        Ok(Array { member: member.to_owned(), header, bytes })
    }
}

/// The size that closes a number type's name, as in `<f4`; `None` for any other type.
fn element_bytes(descr: &str) -> Option<usize> {
    descr.trim_start_matches(['<', '>', '|', '=']).strip_prefix(['u', 'i', 'f', 'b'])?.parse().ok()
}

fn bad_archive(path: &Path, reason: &str) -> DataError {
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    DataError::BadArchive { path: path.to_owned(), reason }
}
