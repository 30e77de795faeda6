//! Whether a file is the one that was meant.

use std::fmt::Write;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use sha2::{Digest, Sha256};

use super::WeightsError;

/// Bytes that are read at a time.
const BLOCK: usize = 1 << 20;

/// Compares the SHA-256 of a file with the expected one, 64 hexadecimal digits of either case.
///
/// # Errors
///
/// If the file cannot be read, or has another hash; the error shows both.
///
/// # Example
///
/// ```
/// let path = std::env::temp_dir().join("s5cl-backbone-hash.txt");
/// std::fs::write(&path, "abc")?;
/// let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
/// s5cl_backbone::verify_sha256(&path, expected)?;
/// # std::fs::remove_file(path)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn verify_sha256(path: &Path, expected: &str) -> Result<(), WeightsError> {
    let actual = sha256(path)?;
    if actual.eq_ignore_ascii_case(expected) {
        Ok(())
    } else {
        let expected = expected.to_owned();
        Err(WeightsError::Hash { path: path.into(), expected, actual })
    }
}

/// The SHA-256 of a file, 64 hexadecimal digits in lower case.
///
/// # Errors
///
/// If the file cannot be read.
pub fn sha256(path: &Path) -> Result<String, WeightsError> {
    let io = |source| WeightsError::Io { path: path.into(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        let length = file.read(&mut block).map_err(io)?;
        if length == 0 {
            break;
        }
        hash.update(&block[..length]);
    }
    let mut digits = String::with_capacity(64);
    for byte in hash.finalize() {
        // Writing to a string cannot fail.
        let _ = write!(digits, "{byte:02x}");
    }
    Ok(digits)
}
