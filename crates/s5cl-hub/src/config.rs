//! Whom to ask, as whom, and where files are kept.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// The public Hub.
const ENDPOINT: &str = "https://huggingface.co";
/// Tries after the first one that bring no byte.
const RETRIES: u32 = 4;
/// Before the first of them; each next one waits twice as long.
const RETRY_DELAY: Duration = Duration::from_millis(500);

/// How files are fetched. Nothing of it is read from the environment here.
#[derive(Clone, PartialEq, Eq)]
pub struct HubConfig {
    /// The server, without a slash at its end.
    pub endpoint: String,
    /// Who asks; it is sent to the endpoint alone, not to where that redirects.
    pub token: Option<String>,
    /// The folder of the cache, which holds `models--owner--name`.
    pub cache: PathBuf,
    /// Whether only the cache may be looked at.
    pub offline: bool,
    /// Tries after the first one, counted anew whenever a try brought bytes.
    pub retries: u32,
    /// The time before the first of these tries, which doubles from each to the next.
    pub retry_delay: Duration,
}

impl HubConfig {
    /// The public Hub, without a token.
    pub fn public(cache: impl Into<PathBuf>) -> Self {
        Self {
            endpoint: ENDPOINT.to_owned(),
            token: None,
            cache: cache.into(),
            offline: false,
            retries: RETRIES,
            retry_delay: RETRY_DELAY,
        }
    }
}

/// A token is a secret, so only whether there is one is shown.
impl fmt::Debug for HubConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubConfig")
            .field("endpoint", &self.endpoint)
            .field("has_token", &self.token.is_some())
            .field("cache", &self.cache)
            .field("offline", &self.offline)
            .field("retries", &self.retries)
            .field("retry_delay", &self.retry_delay)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::HubConfig;

    #[test]
    fn config_does_not_show_its_token() {
        let token = Some("hf_secret".to_owned());
        let shown = format!("{:?}", HubConfig { token, ..HubConfig::public("cache") });
        assert!(shown.contains("has_token: true") && !shown.contains("secret"), "{shown}");
    }
}
