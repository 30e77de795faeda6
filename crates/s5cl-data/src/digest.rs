//! SHA-256 over fields that cannot run into each other.

use sha2::{Digest as _, Sha256};

/// A running SHA-256; each field goes in behind its length.
pub(crate) struct Digest(Sha256);

impl Digest {
    pub(crate) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(crate) fn number(&mut self, number: usize) {
        self.0.update((number as u64).to_le_bytes());
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len());
        self.0.update(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    pub(crate) fn hex(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Digest;

    #[test]
    fn digest_tells_fields_apart() {
        let hex = |fields: &[&str]| {
            let mut digest = Digest::new();
            fields.iter().for_each(|field| digest.text(field));
            digest.hex()
        };
        assert_ne!(hex(&["ab", "c"]), hex(&["a", "bc"]));
        assert_eq!(hex(&["ab"]).len(), 64);
    }

    #[test]
    fn digest_of_nothing_is_the_published_value() {
        let published = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(Digest::new().hex(), published);
    }
}
