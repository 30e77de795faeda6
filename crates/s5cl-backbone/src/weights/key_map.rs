//! From the names of other sources to ours: the rules of `key_maps.toml`.

use std::sync::LazyLock;

use serde::Deserialize;

use super::pattern::Pattern;

/// The key maps that are built in.
pub(super) static KEY_MAPS: LazyLock<KeyMaps> = LazyLock::new(|| {
    KeyMaps::parse(include_str!("key_maps.toml"))
        .unwrap_or_else(|error| unreachable!("key_maps.toml, which a test reads: {error}"))
});

/// All sources, and what they share.
#[derive(Debug)]
pub(super) struct KeyMaps {
    pub(super) maps: Vec<KeyMap>,
    /// Words that may stand before every name, each with its dot.
    pub(super) prefixes: Vec<String>,
    /// Keys that no encoder needs, whatever the source.
    ignore: Vec<Pattern>,
}

/// The names of one source.
#[derive(Debug)]
pub(super) struct KeyMap {
    pub(super) name: String,
    rules: Vec<Rule>,
}

/// Keys of the source, which are concatenated if they are several, and the key that they become.
#[derive(Debug)]
struct Rule {
    from: Vec<Pattern>,
    to: Pattern,
}

/// Which key of ours a key of a source belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) key: String,
    /// Which of the tensors that are concatenated it is, and how many these are.
    pub(super) part: usize,
    pub(super) n_parts: usize,
}

impl KeyMap {
    /// A key that no rule is about keeps its name.
    pub(super) fn place(&self, name: &str) -> Place {
        let parts: Vec<&str> = name.split('.').collect();
        for rule in &self.rules {
            for (part, from) in rule.from.iter().enumerate() {
                if let Some(bindings) = from.matches(&parts) {
                    let key = rule.to.fill(&bindings);
                    return Place { key, part, n_parts: rule.from.len() };
                }
            }
        }
        Place { key: name.to_owned(), part: 0, n_parts: 1 }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMaps {
    prefixes: Vec<String>,
    ignore: Vec<String>,
    map: Vec<RawMap>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawMap {
    name: String,
    rename: Vec<[String; 2]>,
    #[serde(default)]
    join: Vec<RawJoin>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawJoin {
    from: Vec<String>,
    to: String,
}

impl KeyMaps {
    /// Reads the rules, or says what is wrong with the first one that is malformed.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let raw: RawMaps = toml::from_str(text).map_err(|error| error.to_string())?;
        let ignore = raw.ignore.iter().map(|text| Pattern::parse(text));
        if let Some(prefix) = raw.prefixes.iter().find(|prefix| !prefix.ends_with('.')) {
            return Err(format!("prefix {prefix:?} does not end with a dot"));
        }
        let mut maps: Vec<KeyMap> = Vec::new();
        for map in raw.map {
            if maps.iter().any(|known| known.name == map.name) {
                return Err(format!("map {:?} is there twice", map.name));
            }
            let renames = map.rename.into_iter().map(|[from, to]| (vec![from], to));
            let joins = map.join.into_iter().map(|join| (join.from, join.to));
            let rules = renames.chain(joins).map(|(from, to)| rule(&from, &to));
            let rules = rules
                .collect::<Result<_, _>>()
                .map_err(|error: String| format!("map {:?}: {error}", map.name))?;
            maps.push(KeyMap { name: map.name, rules });
        }
        Ok(Self { maps, prefixes: raw.prefixes, ignore: ignore.collect::<Result<_, _>>()? })
    }

    /// Whether no encoder needs a key.
    pub(super) fn is_needless(&self, name: &str) -> bool {
        let parts: Vec<&str> = name.split('.').collect();
        self.ignore.iter().any(|pattern| pattern.matches(&parts).is_some())
    }
}

fn rule(from: &[String], to: &str) -> Result<Rule, String> {
    let to = Pattern::parse(to)?;
    let from = from.iter().map(|text| Pattern::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let Some(first) = from.first() else { return Err(format!("{to} is made of nothing")) };
    if let Some(other) = from.iter().find(|other| other.placeholders() != first.placeholders()) {
        return Err(format!("{first} and {other} have different placeholders"));
    }
    let bound = first.placeholders();
    if to.placeholders().iter().any(|placeholder| !bound.contains(placeholder)) {
        return Err(format!("{to} has a placeholder that {first} lacks"));
    }
    Ok(Rule { from, to })
}

#[cfg(test)]
mod tests {
    use super::{KEY_MAPS, KeyMaps, Place};

    fn refusal(rules: &str) -> String {
        let text = format!("prefixes = []\nignore = []\n[[map]]\nname = \"m\"\n{rules}");
        KeyMaps::parse(&text).unwrap_err()
    }

    #[test]
    fn key_maps_that_are_built_in_are_well_formed() {
        assert!(KEY_MAPS.maps.len() >= 7);
        assert!(KEY_MAPS.maps[0].rules.is_empty(), "the first map leaves names as they are");
    }

    #[test]
    fn key_maps_that_are_malformed_are_refused() {
        for (rules, expected) in [
            ("rename = [[\"a.{k}\", \"b\"]]", "{k}"),
            ("rename = [[\"a\", \"b.{i}\"]]", "placeholder that a lacks"),
            ("rename = [[\"a\"]]", "length"),
            ("rename = []\njoin = [{ from = [], to = \"a\" }]", "nothing"),
            ("rename = []\njoin = [{ from = [\"a.{i}\", \"b\"], to = \"a.{i}\" }]", "different"),
            ("rename = []\nsplit = []", "split"),
            ("rename = []\n[[map]]\nname = \"m\"\nrename = []", "twice"),
        ] {
            let refusal = refusal(rules);
            assert!(refusal.contains(expected), "{rules}: {refusal}");
        }
        let without_dot = "prefixes = [\"a\"]\nignore = []\nmap = []";
        assert!(KeyMaps::parse(without_dot).unwrap_err().contains("dot"));
    }

    #[test]
    fn key_map_renames_and_joins() {
        let text = "prefixes = []\nignore = []\n[[map]]\nname = \"m\"\n\
                    rename = [[\"l.{i}.n.{leaf}\", \"b.{i}.n.{leaf}\"], [\"l.{i}.x\", \"y\"]]\n\
                    join = [{ from = [\"l.{i}.q\", \"l.{i}.k\"], to = \"b.{i}.qk\" }]";
        let map = &KeyMaps::parse(text).unwrap().maps[0];
        let place = |name: &str| {
            let Place { key, part, n_parts } = map.place(name);
            (key, part, n_parts)
        };
        assert_eq!(place("l.7.n.bias"), ("b.7.n.bias".into(), 0, 1));
        assert_eq!(place("l.7.k"), ("b.7.qk".into(), 1, 2));
        assert_eq!(place("other.key"), ("other.key".into(), 0, 1));
    }
}
