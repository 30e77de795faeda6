//! The bytes of a pickle, read from front to back.

use std::borrow::Cow;

use super::pickle::PickleError;

/// What is left of the bytes.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next bytes; nothing is allocated for a length that the pickle merely claims.
    pub(super) fn take(&mut self, length: usize) -> Result<&'a [u8], PickleError> {
        let cut_off = || PickleError::Damaged("it is cut off".into());
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(cut_off)?;
        self.rest = rest;
        Ok(taken)
    }

    pub(super) fn byte(&mut self) -> Result<u8, PickleError> {
        Ok(self.take(1)?[0])
    }

    /// An unsigned number of up to 8 bytes, the lowest first.
    pub(super) fn unsigned(&mut self, n_bytes: usize) -> Result<u64, PickleError> {
        let bytes = self.take(n_bytes)?;
        Ok(bytes.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A length that stands in so many bytes.
    pub(super) fn length(&mut self, n_bytes: usize) -> Result<usize, PickleError> {
        let length = self.unsigned(n_bytes)?;
        usize::try_from(length).map_err(|error| PickleError::Damaged(error.to_string()))
    }

    /// Text behind its length, which stands in so many bytes.
    pub(super) fn text(&mut self, n_bytes: usize) -> Result<Cow<'a, str>, PickleError> {
        let length = self.length(n_bytes)?;
        Ok(String::from_utf8_lossy(self.take(length)?))
    }

    /// Text up to the end of a line.
    pub(super) fn line(&mut self) -> Result<Cow<'a, str>, PickleError> {
        let length = self.rest.iter().position(|&byte| byte == b'\n').unwrap_or(self.rest.len());
        let line = String::from_utf8_lossy(self.take(length)?);
        self.byte()?;
        Ok(line)
    }
}
