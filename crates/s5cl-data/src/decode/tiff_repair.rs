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

const RGB: u32 = 2;
const HORIZONTAL: u32 = 2;
/// Associated and unassociated alpha; anything else is of unspecified meaning.
const ALPHA: [u32; 2] = [1, 2];

/// Corrects the first image of a TIFF in place; any other bytes stay as they are.
pub(super) fn repair(bytes: &mut [u8]) -> Result<(), String> {
    let Some(tags) = Tags::find(bytes) else { return Ok(()) };
    let value = |tag| tags.get(bytes, tag).map(|(_, value)| value);
    if value(PHOTOMETRIC) != Some(RGB) || value(PREDICTOR) != Some(HORIZONTAL) {
        return Ok(());
    }
    match value(SAMPLES_PER_PIXEL) {
        Some(samples @ 5..) => Err(format!("TIFF with {samples} samples a pixel and a predictor")),
        Some(4) => {
            if let Some((at, meaning)) = tags.get(bytes, EXTRA_SAMPLES)
                && !ALPHA.contains(&meaning)
            {
                let alpha = if tags.big_endian { [0, 2] } else { [2, 0] };
                bytes[at..at + 2].copy_from_slice(&alpha);
            }
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Where the first directory of a TIFF lies.
struct Tags {
    big_endian: bool,
    first: usize,
    count: usize,
}

impl Tags {
    const ENTRY_BYTES: usize = 12;

    fn find(bytes: &[u8]) -> Option<Self> {
        let big_endian = match bytes.get(..4)? {
            b"II*\0" => false,
            b"MM\0*" => true,
            _ => return None,
        };
        let directory = usize::try_from(number(bytes, 4, 4, big_endian)?).ok()?;
        let count = number(bytes, directory, 2, big_endian)? as usize;
        Some(Self { big_endian, first: directory.checked_add(2)?, count })
    }

    /// Offset and value of the first number of a tag whose numbers are 16-bit and lie in the
    /// entry itself, as those above do in every file that follows the standard.
    fn get(&self, bytes: &[u8], tag: u16) -> Option<(usize, u32)> {
        const SHORT: u32 = 3;
        let read = |at, n| number(bytes, at, n, self.big_endian);
        let entry = (0..self.count)
            .filter_map(|entry| self.first.checked_add(entry * Self::ENTRY_BYTES))
            .find(|&at| read(at, 2) == Some(tag.into()))?;
        let is_inline = read(entry + 2, 2)? == SHORT && matches!(read(entry + 4, 4)?, 1 | 2);
        is_inline.then_some(entry + 8).and_then(|at| Some((at, read(at, 2)?)))
    }
}

fn number(bytes: &[u8], at: usize, n: usize, big_endian: bool) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(n)?)?;
    let append = |number: u32, &byte: &u8| number << 8 | u32::from(byte);
    Some(if big_endian { bytes.iter().fold(0, append) } else { bytes.iter().rev().fold(0, append) })
}
