//! TFRecord: the frame around an event.

use super::crc32c::masked_crc32c;

/// `length: u64, masked CRC of the length: u32, bytes, masked CRC of the bytes: u32`, little
/// endian.
pub(super) fn framed(bytes: &[u8]) -> Vec<u8> {
    let length = (bytes.len() as u64).to_le_bytes();
    let mut record = Vec::with_capacity(bytes.len() + 16);
    record.extend(length);
    record.extend(masked_crc32c(&length).to_le_bytes());
    record.extend(bytes);
    record.extend(masked_crc32c(bytes).to_le_bytes());
    record
}
