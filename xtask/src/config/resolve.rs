//! Preset, then config file, then `--set`, then flags: later ones win.

use std::path::{Path, PathBuf};

use anyhow::Context;
use s5cl_data::Spec;
use toml::{Table, Value};

use super::RunConfig;
use crate::failure::BadInput;
use crate::pretrained::absolute_weights;

/// The presets by name. Each holds every key, so that it is the schema too.
pub(crate) const PRESETS: [(&str, &str); 3] = [
    ("s5cl", include_str!("../../presets/s5cl.toml")),
    ("faithful", include_str!("../../presets/faithful.toml")),
    ("linear-probe", include_str!("../../presets/linear-probe.toml")),
];

/// What a user changes about a preset.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// The preset's name; without it the config file's, or the first preset.
    pub(crate) preset: Option<String>,
    /// A config file.
    pub(crate) config: Option<PathBuf>,
    /// `key=value` with dotted keys, in order.
    pub(crate) set: Vec<String>,
    /// What flags say, as dotted keys and values.
    pub(crate) flags: Vec<(&'static str, Value)>,
}

/// Resolves the settings of a run and checks them.
pub(crate) fn resolve(overrides: &Overrides) -> anyhow::Result<RunConfig> {
    let file = overrides.config.as_deref().map(read_table).transpose()?;
    let named = file.as_ref().and_then(|table| table.get("preset")).and_then(Value::as_str);
    let name = overrides.preset.as_deref().or(named).unwrap_or(PRESETS[0].0).to_owned();
    let mut table = preset(&name)?;
    let schema = table.clone();
    if let Some(file) = file {
        let place = overrides.config.as_deref().unwrap_or(Path::new("")).display().to_string();
        merge(&mut table, file, &schema, "", &place)?;
        table.insert("preset".to_owned(), Value::String(name));
    }
    for assignment in &overrides.set {
        let (key, value) = assignment
            .split_once('=')
            .ok_or_else(|| BadInput::new(format!("--set {assignment}: expected key=value")))?;
        if key.trim() == "preset" {
            return Err(BadInput::new("--set preset: a preset is chosen with --preset").into());
        }
        assign(&mut table, key.trim(), parse_value(value.trim()), &schema, "--set")?;
    }
    for (key, value) in &overrides.flags {
        assign(&mut table, key, value.clone(), &schema, "a flag")?;
    }
    table.insert("version".to_owned(), Value::String(env!("CARGO_PKG_VERSION").to_owned()));
    let mut config: RunConfig = table.try_into().map_err(|error: toml::de::Error| {
        BadInput::new(format!("config: {}", error.to_string().trim().replace('\n', " ")))
    })?;
    make_absolute(&mut config)?;
    config.validate()?;
    Ok(config)
}

/// Files are named from the root, so that a run can be resumed from another folder.
fn make_absolute(config: &mut RunConfig) -> anyhow::Result<()> {
    let absolute = |path: &Path| std::path::absolute(path);
    match config.data.spec.parse() {
        Ok(Spec::Folder(path)) => config.data.spec = Spec::Folder(absolute(&path)?).to_string(),
        Ok(Spec::Npz(path)) => config.data.spec = Spec::Npz(absolute(&path)?).to_string(),
        // What is no dataset is told when it is opened.
        Ok(_) | Err(_) => {}
    }
    if !config.encoder.weights.is_empty() {
        config.encoder.weights = absolute_weights(&config.encoder.weights)?;
    }
    Ok(())
}

fn preset(name: &str) -> anyhow::Result<Table> {
    let known: Vec<&str> = PRESETS.iter().map(|(name, _)| *name).collect();
    let (_, text) = PRESETS.iter().find(|(preset, _)| *preset == name).ok_or_else(|| {
        BadInput::new(format!("unknown preset {name:?}: use one of {}", known.join(", ")))
    })?;
    text.parse().with_context(|| format!("preset {name}"))
}

fn read_table(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .map_err(|e| BadInput::new(format!("cannot read the config {}: {e}", path.display())))?;
    let table = text.parse().map_err(|e: toml::de::Error| {
        let message = e.message().replace('\n', " ");
        let line = e.span().map_or(0, |span| text[..span.start].lines().count().max(1));
        BadInput::new(format!("{}, line {line}: {message}", path.display()))
    })?;
    Ok(table)
}

/// Puts the leaves of `from` into `into`; every key must be in the schema with its type.
fn merge(
    into: &mut Table,
    from: Table,
    schema: &Table,
    prefix: &str,
    place: &str,
) -> anyhow::Result<()> {
    for (key, value) in from {
        let path = format!("{prefix}{key}");
        if path == "version" {
            continue;
        }
        match value {
            Value::Table(section) => merge(into, section, schema, &format!("{path}."), place)?,
            value => assign(into, &path, value, schema, place)?,
        }
    }
    Ok(())
}

/// Sets one dotted key to a value of the type that the schema has there.
fn assign(
    table: &mut Table,
    key: &str,
    value: Value,
    schema: &Table,
    place: &str,
) -> anyhow::Result<()> {
    let expected = lookup(schema, key).ok_or_else(|| {
        let nearest = nearest_key(schema, key);
        BadInput::new(format!("{place}: unknown key {key:?}; the nearest is {nearest:?}"))
    })?;
    let value = match (expected, value) {
        (Value::Float(_), Value::Integer(whole)) => Value::Float(whole as f64),
        (_, value) => value,
    };
    if !expected.same_type(&value) {
        let (wanted, got) = (expected.type_str(), value.type_str());
        return Err(BadInput::new(format!(
            "{place}: {key} must be of type {wanted}, got {got} {value}"
        ))
        .into());
    }
    let (sections, leaf) = key.rsplit_once('.').map_or((None, key), |(s, leaf)| (Some(s), leaf));
    let mut target = table;
    for section in sections.into_iter().flat_map(|sections| sections.split('.')) {
        let entry = target.entry(section).or_insert_with(|| Value::Table(Table::new()));
        target = entry
            .as_table_mut()
            .ok_or_else(|| BadInput::new(format!("{place}: {section} is not a section")))?;
    }
    target.insert(leaf.to_owned(), value);
    Ok(())
}

fn lookup<'a>(table: &'a Table, key: &str) -> Option<&'a Value> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    match (table.get(first)?, rest) {
        (Value::Table(section), Some(rest)) => lookup(section, rest),
        (Value::Table(_), None) => None,
        (value, None) => Some(value),
        (_, Some(_)) => None,
    }
}

fn nearest_key(schema: &Table, key: &str) -> String {
    let mut keys = Vec::new();
    collect_keys(schema, "", &mut keys);
    // The last part is what is misspelled most often, and the section what is left out.
    let leaf = |key: &str| key.rsplit('.').next().unwrap_or(key).to_owned();
    let score = |candidate: &String| {
        let whole = strsim::normalized_damerau_levenshtein(candidate, key);
        whole.max(strsim::normalized_damerau_levenshtein(&leaf(candidate), &leaf(key)))
    };
    keys.into_iter().max_by(|a, b| score(a).total_cmp(&score(b))).unwrap_or_default()
}

fn collect_keys(table: &Table, prefix: &str, keys: &mut Vec<String>) {
    for (key, value) in table {
        match value {
            Value::Table(section) => collect_keys(section, &format!("{prefix}{key}."), keys),
            _ => keys.push(format!("{prefix}{key}")),
        }
    }
}

/// A value as TOML writes it; what is not TOML is text, so that quotes are not needed.
fn parse_value(text: &str) -> Value {
    let parsed: Option<Table> = format!("value = {text}").parse().ok();
    let value = parsed.and_then(|mut table| table.remove("value"));
    value.unwrap_or_else(|| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::{Overrides, PRESETS, resolve};

    fn with_set(set: &[&str]) -> anyhow::Result<crate::config::RunConfig> {
        let set = set.iter().map(|s| (*s).to_owned()).collect();
        resolve(&Overrides { set, ..Overrides::default() })
    }

    fn refusal(set: &[&str]) -> String {
        with_set(set).err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn presets_resolve_and_name_themselves() -> anyhow::Result<()> {
        for (name, text) in PRESETS {
            let overrides = Overrides { preset: Some(name.to_owned()), ..Overrides::default() };
            assert_eq!(resolve(&overrides)?.preset, name);
            assert!(text.contains("doi 10."), "{name} names no source");
        }
        Ok(())
    }

    #[test]
    fn set_reaches_every_kind_of_value() -> anyhow::Result<()> {
        let config = with_set(&[
            "loss.temperature_labeled=0.1",
            "method=supcon",
            "training.steps=7",
            "data.skip_bad_images=true",
            "optimizer.learning_rate=1",
            "views.weak=[\"flip\"]",
        ])?;
        assert_eq!((config.loss.temperature_labeled, config.training.steps), (0.1, 7));
        assert_eq!((config.method.as_str(), config.optimizer.learning_rate), ("supcon", 1.0));
        assert!(config.data.skip_bad_images && config.views.weak.len() == 1);
        Ok(())
    }

    #[test]
    fn unknown_key_names_the_nearest() {
        assert!(refusal(&["loss.temprature_labeled=1"]).contains("\"loss.temperature_labeled\""));
        assert!(refusal(&["learning_rate=1"]).contains("\"optimizer.learning_rate\""));
    }

    #[test]
    fn wrong_type_is_named() {
        let message = refusal(&["training.steps=many"]);
        assert!(message.contains("training.steps must be of type integer"), "{message}");
    }

    #[test]
    fn temperature_rule_is_enforced() {
        assert!(refusal(&["loss.temperature_unlabeled=0.1"]).contains("must be above"));
    }

    #[test]
    fn resolved_config_resolves_to_itself() -> anyhow::Result<()> {
        let config = with_set(&["seed=3", "loss.margin=0.5"])?;
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("config.toml");
        std::fs::write(&path, config.to_toml()?)?;
        let again = resolve(&Overrides { config: Some(path), ..Overrides::default() })?;
        assert_eq!(config, again);
        Ok(())
    }
}
