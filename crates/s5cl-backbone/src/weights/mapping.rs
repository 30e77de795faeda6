//! Which tensors of a file make which key of a model.

use std::collections::BTreeMap;

use super::key_map::{KEY_MAPS, KeyMap};

/// Words that may stand in a row before every name.
const MOST_PREFIXES: usize = 4;

/// The names of a file in the words of one source.
pub(super) struct Mapping<'f> {
    pub(super) map: &'static KeyMap,
    pub(super) prefix: String,
    /// Our key, and the names that make it, in order; nothing for one that is not in the file.
    pub(super) sources: BTreeMap<String, Vec<Option<&'f str>>>,
    /// Names that lack the prefix, or that another name had already taken the place of.
    pub(super) others: Vec<&'f str>,
}

impl<'f> Mapping<'f> {
    fn new(map: &'static KeyMap, prefix: &str, names: &[&'f str]) -> Self {
        let mut mapping =
            Self { map, prefix: prefix.to_owned(), sources: BTreeMap::new(), others: Vec::new() };
        for &name in names {
            let Some(place) = name.strip_prefix(prefix).map(|name| map.place(name)) else {
                mapping.others.push(name);
                continue;
            };
            let parts = mapping.sources.entry(place.key).or_default();
            parts.resize(parts.len().max(place.n_parts), None);
            match &mut parts[place.part] {
                Some(_) => mapping.others.push(name),
                free => *free = Some(name),
            }
        }
        mapping
    }

    /// The names that make a key, if all of them are there.
    pub(super) fn complete(&self, key: &str) -> Option<Vec<&'f str>> {
        self.sources.get(key)?.iter().copied().collect()
    }

    /// The mapping that gives most keys of a model.
    pub(super) fn best<'k>(
        names: &[&'f str],
        keys: impl Iterator<Item = &'k String> + Clone,
    ) -> Option<Self> {
        let mut best: Option<(usize, Self)> = None;
        for mapping in Self::all(names) {
            let n_found = keys.clone().filter(|key| mapping.complete(key).is_some()).count();
            if best.as_ref().is_none_or(|(most, _)| n_found > *most) {
                best = Some((n_found, mapping));
            }
        }
        best.map(|(_, mapping)| mapping)
    }

    /// All sources behind all prefixes that the file has.
    pub(super) fn all(names: &[&'f str]) -> impl Iterator<Item = Self> {
        let prefixes = prefixes(names);
        let of_map = move |map: &'static KeyMap, prefixes: &[String]| -> Vec<(_, String)> {
            prefixes.iter().map(|prefix| (map, prefix.clone())).collect()
        };
        let pairs: Vec<_> = KEY_MAPS.maps.iter().flat_map(|map| of_map(map, &prefixes)).collect();
        pairs.into_iter().map(move |(map, prefix)| Self::new(map, &prefix, names))
    }
}

/// The prefixes that some name has, the shorter ones first.
fn prefixes(names: &[&str]) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut from = 0;
    for _ in 0..MOST_PREFIXES {
        let until = found.len();
        for index in from..until {
            for word in &KEY_MAPS.prefixes {
                let longer = format!("{}{word}", found[index]);
                if names.iter().any(|name| name.starts_with(&longer)) {
                    found.push(longer);
                }
            }
        }
        from = until;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::{Mapping, prefixes};

    fn best<'f>(names: &[&'f str], keys: &[&str]) -> Mapping<'f> {
        let keys: Vec<String> = keys.iter().map(|&key| key.to_owned()).collect();
        Mapping::best(names, keys.iter()).unwrap()
    }

    #[test]
    fn mapping_prefixes_are_those_that_occur() {
        let names = ["state_dict.module.encoder.conv1.weight", "epoch.module.x"];
        let expected = ["", "state_dict.", "state_dict.module.", "state_dict.module.encoder."];
        assert_eq!(prefixes(&names), expected);
    }

    #[test]
    fn mapping_takes_the_teacher_before_the_student() {
        let names = ["student.backbone.norm.bias", "teacher.backbone.norm.bias"];
        let mapping = best(&names, &["norm.bias"]);
        assert_eq!(mapping.prefix, "teacher.backbone.");
        assert_eq!(mapping.others, ["student.backbone.norm.bias"]);
    }

    #[test]
    fn mapping_prefers_names_as_they_are() {
        let names = ["norm.bias", "blocks.0.norm1.bias"];
        let mapping = best(&names, &["norm.bias", "blocks.0.norm1.bias"]);
        assert_eq!((mapping.map.name.as_str(), mapping.prefix.as_str()), ("timm/torchvision", ""));
    }

    #[test]
    fn mapping_wants_every_part_of_a_joined_key() {
        let query = "encoder.layer.0.attention.attention.query.bias";
        let value = "encoder.layer.0.attention.attention.value.bias";
        let norm = "layernorm.bias";
        let mapping = best(&[query, norm, value], &["blocks.0.attn.qkv.bias", "norm.bias"]);
        assert_eq!(mapping.map.name, "transformers ViT");
        assert_eq!(mapping.complete("norm.bias").unwrap(), [norm]);
        assert_eq!(mapping.sources["blocks.0.attn.qkv.bias"], [Some(query), None, Some(value)]);
        assert!(mapping.complete("blocks.0.attn.qkv.bias").is_none());
    }

    #[test]
    fn mapping_keeps_the_first_of_two_names_for_one_key() {
        let names = ["blocks.0.3.norm1.bias", "blocks.1.3.norm1.bias"];
        let mapping = best(&names, &["blocks.3.norm1.bias"]);
        assert_eq!(mapping.complete("blocks.3.norm1.bias").unwrap(), [names[0]]);
        assert_eq!(mapping.others, [names[1]]);
    }
}
