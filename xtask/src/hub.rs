//! Weights by their name: a file, or an id of the Hugging Face Hub.

use std::path::{Path, PathBuf};

use anyhow::Result;
use s5cl_hub::HubId;

use crate::failure::BadInput;

/// What weights are saved as.
const EXTENSIONS: [&str; 4] = ["safetensors", "pth", "pt", "bin"];

/// What a name of weights means, before anything is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    /// A path.
    File(PathBuf),
    /// `owner/name@revision` or `owner/name@revision:file`.
    Hub(HubId),
}

/// Weights that are on this disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Weights {
    pub(crate) path: PathBuf,
    /// What the config of a run says, so that it repeats the run: the path, or the id with its
    /// commit and its file.
    pub(crate) name: String,
    /// What the user should know.
    pub(crate) warning: Option<String>,
}

impl Source {
    /// Reads a name of weights. What exists is a file, and so is what ends like one, unless
    /// a colon behind the `@` makes it the file of an id.
    pub(crate) fn of(weights: &str) -> Result<Self> {
        let path = Path::new(weights);
        let ending = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        let ends_like_a_file = EXTENSIONS.contains(&ending);
        let id = weights.split_once('@');
        let names_a_file = id.is_some_and(|(_, revision)| revision.contains(':'));
        if path.exists() || (ends_like_a_file && !names_a_file) {
            return Ok(Self::File(path.to_owned()));
        }
        // `./x` and `/x` are paths, and so is what is in a folder of a folder.
        let repository = id.map_or(weights, |(repository, _)| repository);
        let is_path = repository.starts_with(['.', '/']) || repository.split('/').count() != 2;
        if is_path {
            return Ok(Self::File(path.to_owned()));
        }
        let id = weights.parse().map_err(|error| {
            BadInput::new(format!("there is no file {weights}, and as an id of the Hub: {error}"))
        })?;
        Ok(Self::Hub(id))
    }
}

/// Brings weights onto this disk and says where they are.
pub(crate) fn resolve(weights: &str, quiet: bool) -> Result<Weights> {
    match Source::of(weights)? {
        Source::File(path) => Ok(Weights { path, name: weights.to_owned(), warning: None }),
        Source::Hub(id) => fetch(&id, quiet),
    }
}

#[cfg(not(feature = "hub"))]
fn fetch(id: &HubId, _quiet: bool) -> Result<Weights> {
    let (repository, revision) = (id.repository(), id.revision());
    let page = match id.file() {
        Some(file) => format!("resolve/{revision}/{file}"),
        None => format!("tree/{revision}"),
    };
    Err(BadInput::new(format!(
        "{id} is on the Hugging Face Hub, which this program was built without: start it as \
         `cargo run -p xtask --features hub -- train ...`, or download the file from \
         https://huggingface.co/{repository}/{page} and give its path"
    ))
    .into())
}

#[cfg(feature = "hub")]
fn fetch(id: &HubId, quiet: bool) -> Result<Weights> {
    let config = client::config(|name| std::env::var_os(name), std::env::home_dir())?;
    let bar = bar(id, quiet);
    let mut line = (!quiet && bar.is_hidden()).then(|| format!("fetching {id}"));
    let fetched = s5cl_hub::fetch(&config, id, &mut |done, total| {
        if let Some(line) = line.take() {
            eprintln!("{line}: {done} of {total} bytes are here");
        }
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let download = fetched.map_err(|error| match error.is_input() {
        true => anyhow::Error::from(BadInput::new(error.to_string())),
        false => error.into(),
    })?;
    let name = download.pinned.to_string();
    let warning = (!download.is_pinned).then(|| {
        format!("{id} may be other weights tomorrow: today it is {name}, which the config names")
    });
    Ok(Weights { path: download.path, name, warning })
}

/// A bar on a terminal.
#[cfg(feature = "hub")]
fn bar(id: &HubId, quiet: bool) -> indicatif::ProgressBar {
    use indicatif::{ProgressBar, ProgressStyle};

    let is_shown = !quiet && std::io::IsTerminal::is_terminal(&std::io::stderr());
    let bar = if is_shown { ProgressBar::new(0) } else { ProgressBar::hidden() };
    let template = "{msg} {bar:24} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left";
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(id.to_string())
}

#[cfg(any(feature = "hub", test))]
mod client {
    use std::ffi::OsString;
    use std::fs;
    use std::path::PathBuf;

    use anyhow::{Context, Result};
    use s5cl_hub::HubConfig;

    use crate::failure::BadInput;

    /// What Hugging Face's programs take for yes.
    const YES: [&str; 4] = ["1", "ON", "YES", "TRUE"];

    /// How the environment says that files are fetched, as Hugging Face's programs read it.
    pub(super) fn config(
        read: impl Fn(&str) -> Option<OsString>,
        home: Option<PathBuf>,
    ) -> Result<HubConfig> {
        let read = |name: &str| read(name).filter(|value| !value.is_empty());
        let folder = |name: &str| read(name).map(PathBuf::from);
        let text = |name: &str| -> Result<Option<String>> {
            let not_text = |_| BadInput::new(format!("{name} is not valid UTF-8"));
            Ok(read(name).map(|value| value.into_string().map_err(not_text)).transpose()?)
        };
        let is_set = |name: &str| -> Result<bool> {
            Ok(text(name)?.is_some_and(|value| YES.contains(&value.to_uppercase().as_str())))
        };

        let cache = folder("XDG_CACHE_HOME").or_else(|| Some(home?.join(".cache")));
        let home = folder("HF_HOME").or_else(|| Some(cache?.join("huggingface")));
        let home = home.context(BadInput::new("there is no home folder: set HF_HOME"))?;
        let cache = folder("HF_HUB_CACHE").or_else(|| folder("HUGGINGFACE_HUB_CACHE"));
        let mut config = HubConfig::public(cache.unwrap_or_else(|| home.join("hub")));
        if let Some(endpoint) = text("HF_ENDPOINT")? {
            config.endpoint = endpoint.trim_end_matches('/').to_owned();
        }
        config.offline = is_set("HF_HUB_OFFLINE")?;
        // What `hf auth login` has stored is sent unless this says that only HF_TOKEN is.
        let stored = folder("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
        let stored = match is_set("HF_HUB_DISABLE_IMPLICIT_TOKEN")? {
            true => None,
            false => fs::read_to_string(stored).ok(),
        };
        let token = text("HF_TOKEN")?.or(stored).map(|token| token.trim().to_owned());
        config.token = token.filter(|token| !token.is_empty());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;
    use std::path::{Path, PathBuf};

    use s5cl_hub::HubConfig;

    use super::{Source, client, resolve};
    use crate::failure::exit_code;

    #[test]
    fn source_is_a_file_or_an_id() -> anyhow::Result<()> {
        for name in [
            "model.safetensors",
            "runs/1/model.safetensors",
            "runs/model@100.pth",
            "/models/resnet@main",
            "./models/resnet@main",
            "a/b/c@main",
            "weights",
        ] {
            assert_eq!(Source::of(name)?, Source::File(PathBuf::from(name)));
        }
        for name in ["timm/resnet18.a1_in1k@main", "a/b@v1.0", "a/b@main:x/model.safetensors"] {
            let Source::Hub(id) = Source::of(name)? else { panic!("{name} is no id") };
            assert_eq!(id.to_string(), name);
        }
        // What exists is what is meant.
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("name@main");
        std::fs::write(&path, "")?;
        let name = path.display().to_string();
        assert_eq!(resolve(&name, true)?.path, path);
        assert_eq!(resolve(&name, true)?.name, name);
        Ok(())
    }

    #[test]
    fn source_that_is_neither_names_the_part() {
        for (name, part) in [
            ("timm/resnet18.a1_in1k", "names no revision: write timm/resnet18.a1_in1k@COMMIT"),
            ("timm/resnet18@", "the revision \"\""),
            ("timm/--@main", "the name \"--\""),
            ("timm/resnet18@main:../x.bin", "the file \"../x.bin\""),
        ] {
            let error = Source::of(name).unwrap_err();
            let line = error.to_string();
            assert!(line.starts_with("there is no file ") && line.contains(part), "{line}");
            assert_eq!(exit_code(&error), 2);
        }
    }

    #[test]
    #[cfg(not(feature = "hub"))]
    fn id_without_the_hub_says_how_to_get_the_file() {
        let error = resolve("timm/resnet18@v1", true).unwrap_err();
        assert_eq!(exit_code(&error), 2);
        let line = error.to_string();
        assert!(line.contains("cargo run -p xtask --features hub -- train"), "{line}");
        assert!(line.contains("https://huggingface.co/timm/resnet18/tree/v1 "), "{line}");
        let line = resolve("timm/resnet18@v1:a/b.pth", true).unwrap_err().to_string();
        assert!(
            line.contains("https://huggingface.co/timm/resnet18/resolve/v1/a/b.pth "),
            "{line}"
        );
    }

    fn config(variables: &[(&str, &str)]) -> anyhow::Result<HubConfig> {
        let find = |name: &str| variables.iter().find(|(variable, _)| *variable == name);
        client::config(|name| Some(OsString::from(find(name)?.1)), Some(PathBuf::from("/h")))
    }

    #[test]
    fn config_is_what_the_environment_says() -> anyhow::Result<()> {
        let plain = HubConfig::public("/h/.cache/huggingface/hub");
        assert_eq!(config(&[])?, plain);
        assert_eq!(config(&[("HF_ENDPOINT", ""), ("HF_TOKEN", " "), ("HF_HOME", "")])?, plain);
        let set = config(&[
            ("HF_ENDPOINT", "http://127.0.0.1:9/"),
            ("HF_TOKEN", "hf_x\n"),
            ("HF_HUB_OFFLINE", "true"),
            ("HF_HUB_CACHE", "/c"),
        ])?;
        assert_eq!((set.endpoint.as_str(), set.offline), ("http://127.0.0.1:9", true));
        assert_eq!((set.token.as_deref(), set.cache.as_path()), (Some("hf_x"), Path::new("/c")));
        assert!(!config(&[("HF_HUB_OFFLINE", "0")])?.offline);
        let of = |variable| config(&[("XDG_CACHE_HOME", "/x"), variable]);
        assert_eq!(of(("HF_TOKEN", ""))?.cache, Path::new("/x/huggingface/hub"));
        assert_eq!(of(("HF_HOME", "/y"))?.cache, Path::new("/y/hub"));
        assert_eq!(of(("HUGGINGFACE_HUB_CACHE", "/z"))?.cache, Path::new("/z"));
        assert!(client::config(|_| None, None).unwrap_err().to_string().contains("HF_HOME"));
        Ok(())
    }

    #[test]
    fn config_takes_the_token_that_was_stored() -> anyhow::Result<()> {
        let folder = tempfile::tempdir()?;
        let home = folder.path().display().to_string();
        std::fs::write(folder.path().join("token"), "hf_stored\n")?;
        let token = |variables: &[(&str, &str)]| {
            Ok::<_, anyhow::Error>(config(&[variables, &[("HF_HOME", &home)]].concat())?.token)
        };
        assert_eq!(token(&[])?.as_deref(), Some("hf_stored"));
        assert_eq!(token(&[("HF_TOKEN", "hf_given")])?.as_deref(), Some("hf_given"));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")])?, None);
        std::fs::write(folder.path().join("other"), "hf_other")?;
        let other = format!("{home}/other");
        assert_eq!(token(&[("HF_TOKEN_PATH", &other)])?.as_deref(), Some("hf_other"));
        Ok(())
    }
}
