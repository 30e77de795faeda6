//! Whether a JPEG file was written to its end: the decoder fills what is missing with gray.

const PREFIX: u8 = 0xff;
const START_OF_IMAGE: u8 = 0xd8;
const END_OF_IMAGE: u8 = 0xd9;
const START_OF_SCAN: u8 = 0xda;
/// A byte 0xff of the compressed data, and the restart markers within it.
const WITHIN_SCAN: [u8; 9] = [0x00, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7];

/// True for a JPEG file that stops before its end marker; false for any other bytes.
///
/// The markers are followed one by one, since a thumbnail in the header has an end of its own.
pub(super) fn is_cut_off(bytes: &[u8]) -> bool {
    bytes.starts_with(&[PREFIX, START_OF_IMAGE]) && !reaches_end(bytes).unwrap_or(false)
}

fn reaches_end(bytes: &[u8]) -> Option<bool> {
    let mut at = 2;
    loop {
        // Fill bytes may come before a marker.
        while bytes.get(at + 1)? == &PREFIX {
            at += 1;
        }
        if bytes[at] != PREFIX {
            // Not a marker: a damaged file, of which the decoder has to judge.
            return Some(true);
        }
        let marker = bytes[at + 1];
        if marker == END_OF_IMAGE {
            return Some(true);
        }
        let length = u16::from_be_bytes([*bytes.get(at + 2)?, *bytes.get(at + 3)?]);
        at += 2 + usize::from(length);
        if marker == START_OF_SCAN {
            let in_scan = |pair: &[u8]| pair[0] != PREFIX || WITHIN_SCAN.contains(&pair[1]);
            at += bytes.get(at..)?.windows(2).position(|pair| !in_scan(pair))?;
        }
    }
}
