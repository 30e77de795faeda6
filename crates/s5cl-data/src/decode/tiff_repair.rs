//! A correction of TIFF files that the decoder would read wrong without an error.
//!
//! The decoder removes extra samples of unspecified meaning before it undoes the horizontal
//! predictor, which was applied with them: every pixel comes out wrong. Told that the fourth
//! sample is an alpha channel it keeps it, and the pixels are exact. So that is what it is told:
//! the tag's value is changed in the bytes in memory. Nothing but the color samples is used
//! afterwards, so the meaning of the fourth does not matter.

const PHOTOMETRIC: u16 = 262;
const SAMPLES_PER_PIXEL: u16 = 277;
const PREDICTOR: u16 = 317;
const EXTRA_SAMPLES: u16 = 338;

const RGB: u64 = 2;
const HORIZONTAL: u64 = 2;
const ASSOCIATED_ALPHA: u64 = 1;
const UNASSOCIATED_ALPHA: u8 = 2;

/// Corrects the first image of a TIFF in place; any other bytes stay as they are.
pub(super) fn repair(bytes: &mut [u8]) -> Result<(), String> {
    let Some(tags) = Tags::find(bytes) else { return Ok(()) };
    let value = |tag| tags.get(bytes, tag).map(|(_, value)| value);
    if value(PHOTOMETRIC) != Some(RGB) || value(PREDICTOR) != Some(HORIZONTAL) {
        return Ok(());
    }
    let samples = value(SAMPLES_PER_PIXEL);
    match (samples, tags.get(bytes, EXTRA_SAMPLES)) {
        (Some(4), Some((at, 0))) => {
            let low_byte = if tags.big_endian { at + 1 } else { at };
            bytes[low_byte] = UNASSOCIATED_ALPHA;
            Ok(())
        }
        (Some(4), Some((_, meaning))) if meaning > UNASSOCIATED_ALPHA.into() => {
            Err(format!("TIFF with an extra sample of unknown meaning {meaning}"))
        }
        (Some(samples @ 5..), Some((_, ASSOCIATED_ALPHA..) | (_, 0))) => {
            Err(format!("TIFF with {samples} samples a pixel and a predictor"))
        }
        _ => Ok(()),
    }
}

/// Where the first directory of a TIFF or BigTIFF lies.
struct Tags {
    big_endian: bool,
    big: bool,
    first: usize,
    count: usize,
}

impl Tags {
    fn find(bytes: &[u8]) -> Option<Self> {
        let big_endian = match bytes.get(..2)? {
            b"II" => false,
            b"MM" => true,
            _ => return None,
        };
        let read = |at, n| number(bytes, at, n, big_endian);
        let (big, directory) = match read(2, 2)? {
            42 => (false, read(4, 4)?),
            43 => (true, read(8, 8)?),
            _ => return None,
        };
        let directory = usize::try_from(directory).ok()?;
        let count_bytes = if big { 8 } else { 2 };
        let count = usize::try_from(read(directory, count_bytes)?).ok()?;
        Some(Self { big_endian, big, first: directory.checked_add(count_bytes)?, count })
    }

    /// Offset and value of the first number of a tag whose numbers are 16-bit and lie in the
    /// entry itself, as those above do in every file that follows the standard.
    fn get(&self, bytes: &[u8], tag: u16) -> Option<(usize, u64)> {
        const SHORT: u64 = 3;
        let (entry_bytes, value_at) = if self.big { (20, 12) } else { (12, 8) };
        let read = |at, n| number(bytes, at, n, self.big_endian);
        // The end of the bytes ends the search, whatever count a damaged file claims.
        let entry = (0..self.count)
            .map_while(|entry| self.first.checked_add(entry.checked_mul(entry_bytes)?))
            .map_while(|at| read(at, 2).map(|found| (at, found)))
            .find(|&(_, found)| found == u64::from(tag))?
            .0;
        let count = read(entry + 4, value_at - 4)?;
        if read(entry + 2, 2)? != SHORT || count == 0 || count > (entry_bytes - value_at) as u64 / 2
        {
            return None;
        }
        Some((entry + value_at, read(entry + value_at, 2)?))
    }
}

fn number(bytes: &[u8], at: usize, n: usize, big_endian: bool) -> Option<u64> {
    let bytes = bytes.get(at..at.checked_add(n)?)?;
    let append = |number: u64, &byte: &u8| number << 8 | u64::from(byte);
    Some(if big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) })
}
