//! The header of a `.npy` array, versions 1 to 3.

use std::io::Read;

/// Data type and shape of an array in C order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Header {
    /// The type as NumPy writes it, such as `|u1` or `<i8`.
    pub(super) descr: String,
    pub(super) shape: Vec<usize>,
}

impl Header {
    /// Reads a header and leaves the reader at the first element.
    pub(super) fn read(reader: &mut impl Read) -> Result<Self, String> {
        let mut start = [0; 8];
        reader.read_exact(&mut start).map_err(|error| format!("no .npy header: {error}"))?;
        let [magic @ .., major, _] = start;
        if &magic != b"\x93NUMPY" {
            return Err("not a .npy array".to_owned());
        }
        let length_bytes = match major {
            1 => 2,
            2 | 3 => 4,
            _ => return Err(format!("unknown .npy version {major}; versions 1 to 3 are read")),
        };
        let mut length = [0; 4];
        let mut text = Vec::new();
        reader
            .read_exact(&mut length[..length_bytes])
            .and_then(|()| reader.take(u32::from_le_bytes(length).into()).read_to_end(&mut text))
            .map_err(|error| format!("its .npy header is damaged: {error}"))?;
        if text.len() < u32::from_le_bytes(length) as usize {
            return Err("shorter than its .npy header says".to_owned());
        }
        Self::parse(&String::from_utf8_lossy(&text))
    }

    fn parse(text: &str) -> Result<Self, String> {
        let missing = |key| format!("its .npy header has no {key}: {}", text.trim());
        let descr = after(text, "descr")
            .and_then(|rest| rest.strip_prefix(['\'', '"']))
            .and_then(|rest| rest.split(['\'', '"']).next())
            .ok_or_else(|| missing("simple descr"))?;
        let order = after(text, "fortran_order").ok_or_else(|| missing("fortran_order"))?;
        if !order.starts_with("False") {
            return Err("in Fortran order; save it in C order (numpy.ascontiguousarray)".to_owned());
        }
        let shape = after(text, "shape")
            .and_then(|rest| rest.strip_prefix('(')?.split(')').next())
            .and_then(|sides| {
                let sides = sides.split(',').map(str::trim).filter(|side| !side.is_empty());
                sides.map(|side| side.trim_end_matches('L').parse().ok()).collect()
            })
            .ok_or_else(|| missing("shape"))?;
        Ok(Self { descr: descr.to_owned(), shape })
    }

    /// The number of elements, unless it does not fit.
    pub(super) fn n_elements(&self) -> Option<usize> {
        self.shape.iter().try_fold(1_usize, |n, &side| n.checked_mul(side))
    }
}

/// What follows `'key':` in the header's dictionary.
fn after<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    let (_, rest) =
        text.split_once(&format!("'{key}'")).or_else(|| text.split_once(&format!("\"{key}\"")))?;
    Some(rest.trim_start().strip_prefix(':')?.trim_start())
}

/// An integer type of NumPy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    pub(super) bytes: usize,
    signed: bool,
    big_endian: bool,
}

impl Integer {
    /// Reads a type such as `|u1`, `<i4` or `>i8`; `None` where it is no integer.
    pub(super) fn parse(descr: &str) -> Option<Self> {
        let (order, kind) = match descr.as_bytes() {
            [order @ (b'<' | b'>' | b'|' | b'='), kind @ ..] => (*order, kind),
            kind => (b'=', kind),
        };
        let (signed, bytes) = match kind {
            [b'u', size @ (b'1' | b'2' | b'4' | b'8')] => (false, size - b'0'),
            [b'i', size @ (b'1' | b'2' | b'4' | b'8')] => (true, size - b'0'),
            _ => return None,
        };
        Some(Self { bytes: bytes.into(), signed, big_endian: order == b'>' })
    }

    /// One element; what is beyond `i64` becomes its largest value.
    pub(super) fn read(self, element: &[u8]) -> i64 {
        let append = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
        let number = if self.big_endian {
            element.iter().fold(0, append)
        } else {
            element.iter().rev().fold(0, append)
        };
        if self.signed {
            // Moves the sign bit to the top and back, so that it fills the bits above.
            let unused = 64 - 8 * self.bytes as u32;
            (number << unused) as i64 >> unused
        } else {
            i64::try_from(number).unwrap_or(i64::MAX)
        }
    }
}
