//! Patterns of keys, the words of the key maps.

use std::fmt;

/// What stands for something that differs from key to key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Placeholder {
    /// `{i}`: a number.
    I,
    /// `{j}`: another number.
    J,
    /// `{leaf}`: one part of a key.
    Leaf,
    /// `{rest}`: one part or more.
    Rest,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Word(String),
    Any(Placeholder),
    /// Words up to an underscore, and `{i}`.
    Numbered(String),
}

impl Part {
    fn placeholder(&self) -> Option<Placeholder> {
        match self {
            Self::Word(_) => None,
            Self::Any(placeholder) => Some(*placeholder),
            Self::Numbered(_) => Some(Placeholder::I),
        }
    }
}

/// The parts of a key between its dots, some of them placeholders.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pattern {
    parts: Vec<Part>,
}

/// What the placeholders of a pattern stood for in a key.
pub(super) type Bindings = Vec<(Placeholder, String)>;

impl Pattern {
    /// Reads one, or says what is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        for word in text.split('.') {
            let part = match word {
                "{i}" => Part::Any(Placeholder::I),
                "{j}" => Part::Any(Placeholder::J),
                "{leaf}" => Part::Any(Placeholder::Leaf),
                "{rest}" => Part::Any(Placeholder::Rest),
                "" => return Err(format!("{text:?} has an empty part")),
                word if word.strip_suffix("_{i}").is_some_and(|w| !w.contains(['{', '}'])) => {
                    Part::Numbered(word.trim_end_matches("{i}").to_owned())
                }
                word if word.contains(['{', '}']) => {
                    let known = "{i}, {j}, {leaf} and {rest}";
                    return Err(format!("{text:?}: {word} is not one of the placeholders {known}"));
                }
                word => Part::Word(word.to_owned()),
            };
            let placeholder = part.placeholder();
            let is_known = |known: &Part| known.placeholder() == placeholder;
            if placeholder.is_some() && parts.iter().any(is_known) {
                return Err(format!("{text:?} has {word} twice"));
            }
            parts.push(part);
        }
        Ok(Self { parts })
    }

    /// Its placeholders in a fixed order.
    pub(super) fn placeholders(&self) -> Vec<Placeholder> {
        let mut found: Vec<Placeholder> = self.parts.iter().filter_map(Part::placeholder).collect();
        found.sort();
        found
    }

    /// What the placeholders stand for if a key, given by its parts, is of this pattern.
    pub(super) fn matches(&self, key: &[&str]) -> Option<Bindings> {
        let has_rest = self.parts.contains(&Part::Any(Placeholder::Rest));
        let n_rest = (key.len() + 1).checked_sub(self.parts.len())?;
        if n_rest == 0 || (!has_rest && n_rest != 1) {
            return None;
        }
        let mut bindings = Bindings::new();
        let mut at = 0;
        for part in &self.parts {
            let length = if *part == Part::Any(Placeholder::Rest) { n_rest } else { 1 };
            let found = &key[at..at + length];
            at += length;
            match part {
                Part::Word(word) if word != found[0] => return None,
                Part::Word(_) => {}
                Part::Any(Placeholder::I | Placeholder::J) if !is_number(found[0]) => return None,
                Part::Any(placeholder) => bindings.push((*placeholder, found.join("."))),
                Part::Numbered(before) => {
                    let number = found[0].strip_prefix(before.as_str());
                    let number = number.filter(|number| is_number(number))?;
                    bindings.push((Placeholder::I, number.to_owned()));
                }
            }
        }
        Some(bindings)
    }

    /// The key with the placeholders replaced.
    pub(super) fn fill(&self, bindings: &Bindings) -> String {
        let value = |placeholder: Placeholder| {
            let bound = bindings.iter().find(|(bound, _)| *bound == placeholder);
            bound.map_or("", |(_, value)| value.as_str())
        };
        let fill = |part: &Part| match part {
            Part::Word(word) => word.clone(),
            Part::Any(placeholder) => value(*placeholder).to_owned(),
            Part::Numbered(before) => format!("{before}{}", value(Placeholder::I)),
        };
        self.parts.iter().map(fill).collect::<Vec<_>>().join(".")
    }
}

fn is_number(part: &str) -> bool {
    !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Placeholder::I, "{i}"),
            (Placeholder::J, "{j}"),
            (Placeholder::Leaf, "{leaf}"),
            (Placeholder::Rest, "{rest}"),
        ];
        f.write_str(&self.fill(&names.map(|(placeholder, name)| (placeholder, name.into())).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, Placeholder};

    fn matched(pattern: &str, key: &str) -> Option<String> {
        let pattern = Pattern::parse(pattern).unwrap();
        let bindings = pattern.matches(&key.split('.').collect::<Vec<_>>())?;
        Some(bindings.into_iter().map(|(_, value)| value).collect::<Vec<_>>().join("|"))
    }

    #[test]
    fn pattern_matches_whole_keys() {
        assert_eq!(matched("a.{i}.b.{leaf}", "a.12.b.weight").unwrap(), "12|weight");
        assert_eq!(matched("a.{i}.b.{leaf}", "a.x.b.weight"), None);
        assert_eq!(matched("a.{i}", "a.1.b"), None);
        assert_eq!(matched("a.{i}", "a"), None);
        assert_eq!(matched("a.{i}.{j}", "a.1.2").unwrap(), "1|2");
        assert_eq!(matched("a", "ab"), None);
        assert_eq!(matched("a.b_{i}", "a.b_12").unwrap(), "12");
        assert_eq!(matched("a.b_{i}", "a.b_x"), None);
        assert_eq!(Pattern::parse("b_{i}.c").unwrap().to_string(), "b_{i}.c");
    }

    #[test]
    fn pattern_rest_takes_one_part_or_more() {
        assert_eq!(matched("head.{rest}", "head.fc.weight").unwrap(), "fc.weight");
        assert_eq!(matched("head.{rest}", "head"), None);
        assert_eq!(matched("{rest}.count", "a.b.count").unwrap(), "a.b");
        assert_eq!(matched("{rest}.count", "count"), None);
    }

    #[test]
    fn pattern_that_is_malformed_is_refused() {
        for text in
            ["", "a..b", "a.", "{k}.a", "a{i}", "{i", "{i}.{i}", "{rest}.a.{rest}", "a_{i}.{i}"]
        {
            Pattern::parse(text).unwrap_err();
        }
        let pattern = Pattern::parse("{rest}.a.{j}.{i}").unwrap();
        assert_eq!(pattern.placeholders(), [Placeholder::I, Placeholder::J, Placeholder::Rest]);
        assert_eq!(pattern.to_string(), "{rest}.a.{j}.{i}");
    }
}
