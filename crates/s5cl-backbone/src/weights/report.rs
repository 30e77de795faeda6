//! How the keys of a file and of a model compare.

use std::fmt;

/// Parameters of the heads: a file of pretrained weights need not have them.
const HEADS: [&str; 2] = ["embedder.", "classifier."];

/// Whether a key of a model is its embedder's or its classifier's.
pub(super) fn is_head(key: &str) -> bool {
    HEADS.iter().any(|head| key.starts_with(head))
}

/// How the keys of a file and of a model compare.
///
/// Keys of the file are told as they stand there, keys of the model as the model has them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyReport {
    /// Whose names the file has: `timm/torchvision`, which are also the model's, or another source.
    pub names: String,
    /// What stands before every name in the file, such as `teacher.backbone.`, or nothing.
    pub prefix: String,
    /// Loaded.
    pub matched: Vec<String>,
    /// In the model, not in the file; these keep their initial values.
    pub missing: Vec<String>,
    /// In the file, not in the model, and not known to be needless.
    pub unexpected: Vec<String>,
    /// In both with different shapes; these keep their initial values.
    pub misshapen: Vec<String>,
    /// In the file and not needed: heads, counters, mask tokens, other parts of a checkpoint.
    pub ignored: Vec<String>,
    /// The grids of the position embedding, (height, width) in patches in the file and in the
    /// model, where they differ and it was interpolated.
    pub interpolated: Option<[(usize, usize); 2]>,
}

impl KeyReport {
    /// Whether every key of the model was loaded, the heads' too.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.missing.is_empty() && self.misshapen.is_empty()
    }

    /// Whether the model can be used with what was loaded: its encoder is whole, and the file holds
    /// nothing that a larger encoder would need.
    pub(super) fn fits(&self) -> bool {
        let is_head = |key: &String| is_head(key);
        self.missing.iter().all(is_head)
            && self.misshapen.iter().all(is_head)
            && self.unexpected.is_empty()
            && self.matched.iter().any(|key| !is_head(key))
    }
}

impl fmt::Display for KeyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let n_keys = self.matched.len() + self.missing.len() + self.misshapen.len();
        write!(f, "{} of {n_keys} keys matched", self.matched.len())?;
        let groups = [
            ("missing", &self.missing),
            ("unexpected", &self.unexpected),
            ("misshapen", &self.misshapen),
            ("ignored", &self.ignored),
        ];
        for (name, keys) in groups {
            write!(f, ", {} {name}", keys.len())?;
            if !keys.is_empty() {
                let shown: Vec<&str> = keys.iter().take(3).map(String::as_str).collect();
                let more = if keys.len() > shown.len() { ", ..." } else { "" };
                write!(f, " ({}{more})", shown.join(", "))?;
            }
        }
        if !self.names.is_empty() {
            write!(f, "; names of {}", self.names)?;
        }
        if !self.prefix.is_empty() {
            write!(f, " behind {:?}", self.prefix)?;
        }
        if let Some([(height, width), (new_height, new_width)]) = self.interpolated {
            write!(f, "; position embedding interpolated from {height}x{width} ")?;
            write!(f, "to {new_height}x{new_width} patches")?;
        }
        Ok(())
    }
}
