//! Which weights are meant.

use std::fmt;
use std::str::FromStr;

use thiserror::Error;

/// The longest name that the Hub gives a repository, in characters.
const MOST_CHARACTERS: usize = 96;
/// Hexadecimal digits of a commit.
const COMMIT_DIGITS: usize = 40;
/// What git allows in no name of a branch or tag, white space aside.
const NEVER_IN_REVISIONS: &str = "~^:?*[\\";

/// Weights in a repository of the Hub: `owner/name@revision` or `owner/name@revision:file`.
///
/// A revision is a commit, a tag or a branch. Only a commit, all 40 digits of it, stays what it
/// is: such an id is pinned.
///
/// # Example
///
/// ```
/// use s5cl_hub::HubId;
///
/// let id: HubId = "timm/resnet18.a1_in1k@main:model.safetensors".parse()?;
/// assert_eq!((id.owner(), id.name()), ("timm", "resnet18.a1_in1k"));
/// assert_eq!((id.revision(), id.file()), ("main", Some("model.safetensors")));
/// assert!(!id.is_pinned());
/// # Ok::<(), s5cl_hub::IdError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HubId {
    owner: String,
    name: String,
    revision: String,
    file: Option<String>,
}

/// What is wrong with an id, in one line that names the part.
#[derive(Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum IdError {
    /// There is no `@`.
    #[error(
        "id {id:?} names no revision: write {id}@COMMIT, where COMMIT is the one that the page of \
         the model shows under \"Files\""
    )]
    NoRevision {
        /// The id.
        id: String,
    },
    /// There is no owner, or more than an owner and a name.
    #[error("id {id:?} is not of the form owner/name@revision: {repository:?} is no owner/name")]
    Repository {
        /// The id.
        id: String,
        /// What stands before the `@`.
        repository: String,
    },
    /// The owner or the name is one that the Hub gives to none.
    #[error(
        "id {id:?}: the {part} {value:?} is none that the Hub has: 1 to 96 letters, digits, \
         '-', '_' and '.', neither '-' nor '.' at an end or twice in a row"
    )]
    Name {
        /// The id.
        id: String,
        /// `owner` or `name`.
        part: &'static str,
        /// What stands there.
        value: String,
    },
    /// The revision is no name of a commit, tag or branch.
    #[error("id {id:?}: the revision {revision:?} is no commit, and no name of a tag or branch")]
    Revision {
        /// The id.
        id: String,
        /// What stands behind the `@`.
        revision: String,
    },
    /// The file is no path inside of a repository.
    #[error("id {id:?}: the file {file:?} is no path inside of the repository")]
    File {
        /// The id.
        id: String,
        /// What stands behind the `:`.
        file: String,
    },
}

impl HubId {
    /// The user or organization.
    pub fn owner(&self) -> &str {
        &self.owner
    }

    /// The repository's name, without its owner.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `owner/name`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.owner, self.name)
    }

    /// A commit, tag or branch.
    pub fn revision(&self) -> &str {
        &self.revision
    }

    /// The path inside of the repository, if the id names one.
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Whether the revision is a commit, so that the id always means the same bytes.
    pub fn is_pinned(&self) -> bool {
        is_commit(&self.revision)
    }

    /// The same repository at a commit, with the file named.
    ///
    /// # Errors
    ///
    /// [`IdError`] where `commit` is none or `file` leads out of the repository, as what a server
    /// answers might.
    pub fn pinned(&self, commit: &str, file: &str) -> Result<Self, IdError> {
        let id = || format!("{}@{commit}:{file}", self.repository());
        if !is_commit(commit) {
            return Err(IdError::Revision { id: id(), revision: commit.to_owned() });
        }
        if !is_inside(file) {
            return Err(IdError::File { id: id(), file: file.to_owned() });
        }
        let (revision, file) = (commit.to_ascii_lowercase(), Some(file.to_owned()));
        Ok(Self { revision, file, ..self.clone() })
    }
}

impl FromStr for HubId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let id = || text.to_owned();
        let (repository, rest) =
            text.split_once('@').ok_or_else(|| IdError::NoRevision { id: id() })?;
        let (owner, name) = repository
            .split_once('/')
            .filter(|(_, name)| !name.contains('/'))
            .ok_or_else(|| IdError::Repository { id: id(), repository: repository.to_owned() })?;
        for (part, value) in [("owner", owner), ("name", name)] {
            if !is_name(value) {
                return Err(IdError::Name { id: id(), part, value: value.to_owned() });
            }
        }
        let (revision, file) =
            rest.split_once(':').map_or((rest, None), |(revision, file)| (revision, Some(file)));
        if !is_revision(revision) {
            return Err(IdError::Revision { id: id(), revision: revision.to_owned() });
        }
        if let Some(file) = file.filter(|file| !is_inside(file)) {
            return Err(IdError::File { id: id(), file: file.to_owned() });
        }
        // Git writes commits in small letters, and so does the cache.
        let revision =
            if is_commit(revision) { revision.to_ascii_lowercase() } else { revision.to_owned() };
        let [owner, name] = [owner, name].map(str::to_owned);
        Ok(Self { owner, name, revision, file: file.map(str::to_owned) })
    }
}

impl fmt::Display for HubId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.owner, self.name, self.revision)?;
        self.file.iter().try_for_each(|file| write!(f, ":{file}"))
    }
}

fn is_commit(revision: &str) -> bool {
    revision.len() == COMMIT_DIGITS && revision.bytes().all(|b| b.is_ascii_hexdigit())
}

/// The folders of the cache are named `models--owner--name`, so two hyphens may stand in none.
fn is_name(text: &str) -> bool {
    let is_known = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    (1..=MOST_CHARACTERS).contains(&text.len())
        && text.chars().all(is_known)
        && !text.starts_with(['-', '.'])
        && !text.ends_with(['-', '.'])
        && !text.contains("--")
        && !text.contains("..")
}

/// Such a name becomes a path below `refs/` in the cache, and a part of an address.
fn is_revision(text: &str) -> bool {
    let is_allowed =
        |c: char| !c.is_whitespace() && !c.is_control() && !NEVER_IN_REVISIONS.contains(c);
    text.chars().all(is_allowed)
        && !text.contains("..")
        && text.split('/').all(|part| !part.is_empty() && !part.starts_with('.'))
}

fn is_inside(file: &str) -> bool {
    !file.contains('\\')
        && !file.contains(char::is_control)
        && file.split('/').all(|part| !matches!(part, "" | "." | ".."))
}

#[cfg(test)]
mod tests {
    use super::{HubId, IdError};

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    fn refusal(text: &str) -> String {
        text.parse::<HubId>().err().map(|e| e.to_string()).unwrap_or_default()
    }

    #[test]
    fn id_is_written_as_it_was_read() -> Result<(), IdError> {
        let pinned = format!("timm/resnet18.a1_in1k@{COMMIT}");
        let with_file = format!("a/b@{COMMIT}:folder/model v2.safetensors");
        let others = ["facebook/dinov2-small@main", "a/b@refs/pr/1:x.bin", "a_1/B.c-d@v1.0"];
        for text in [pinned.as_str(), &with_file].into_iter().chain(others) {
            let id: HubId = text.parse()?;
            assert_eq!(id.to_string(), text);
            assert_eq!(id.is_pinned(), text.contains(COMMIT));
        }
        Ok(())
    }

    #[test]
    fn id_of_a_commit_is_in_small_letters() -> Result<(), IdError> {
        let id: HubId = format!("a/b@{}", COMMIT.to_uppercase()).parse()?;
        assert!(id.is_pinned());
        assert_eq!(id.revision(), COMMIT);
        // One digit less is a name, and stays what it is.
        let id: HubId = format!("a/b@{}", &COMMIT.to_uppercase()[1..]).parse()?;
        assert!(!id.is_pinned());
        assert_eq!(id.revision(), &COMMIT.to_uppercase()[1..]);
        Ok(())
    }

    #[test]
    fn id_that_is_malformed_names_the_part() {
        assert!(refusal("timm/resnet18").contains("names no revision: write timm/resnet18@COMMIT"));
        for (text, part) in [
            ("resnet18@main", "\"resnet18\" is no owner/name"),
            ("a/b/c@main", "\"a/b/c\" is no owner/name"),
            ("@main", "\"\" is no owner/name"),
            ("/b@main", "the owner \"\""),
            ("a/@main", "the name \"\""),
            ("../b@main", "the owner \"..\""),
            ("a/b--c@main", "the name \"b--c\""),
            ("a b/c@main", "the owner \"a b\""),
            ("a/b@", "the revision \"\""),
            ("a/b@../main", "the revision \"../main\""),
            ("a/b@one two", "the revision \"one two\""),
            ("a/b@refs//x", "the revision \"refs//x\""),
            ("a/b@main:", "the file \"\""),
            ("a/b@main:/etc/passwd", "the file \"/etc/passwd\""),
            ("a/b@main:x/../../y", "the file \"x/../../y\""),
        ] {
            let line = refusal(text);
            assert!(line.contains(part) && line.contains(&format!("{text:?}")), "{text}: {line}");
            assert!(!line.contains('\n'), "{line}");
        }
        assert!(refusal(&format!("a/{}@main", "b".repeat(97))).contains("the name"));
        assert_eq!(refusal(&format!("a/{}@main", "b".repeat(96))), "");
    }

    #[test]
    fn pinned_refuses_what_a_server_should_not_say() -> Result<(), IdError> {
        let id: HubId = "a/b@main".parse()?;
        let pinned = id.pinned(COMMIT, "model.safetensors")?;
        assert_eq!(pinned.to_string(), format!("a/b@{COMMIT}:model.safetensors"));
        assert!(matches!(id.pinned("main", "x"), Err(IdError::Revision { .. })));
        assert!(matches!(id.pinned(COMMIT, "../x"), Err(IdError::File { .. })));
        Ok(())
    }
}
