//! What the server refuses, and what no server should answer.

use std::net::TcpListener;

use s5cl_hub::HubError;

use crate::mock::{COMMIT, Cache, Mock, Model, Reply};

/// The cache of a Hub that answers every question so.
fn always(reply: Reply) -> Cache {
    Cache::new(&Mock::start(move |_| reply.clone()).endpoint)
}

/// The cache of a Hub with one model that answers so where its file is.
fn for_the_file(reply: Reply) -> Cache {
    let model = Model::of(&[("model.safetensors", b"abc")]);
    let mock = Mock::start(move |asked| match asked.path.starts_with("/api/") {
        true => model.answer(asked),
        false => reply.clone(),
    });
    Cache::new(&mock.endpoint)
}

#[test]
fn model_that_is_missing_is_told() {
    let coded = Reply::new(404).with("x-error-code", "RepoNotFound");
    // To who has no token the Hub says 401.
    let nobody = Reply::new(401).with("x-error-message", "Invalid username or password.");
    for reply in [coded, nobody] {
        let cache = always(reply);
        let error = cache.fetch("owner/name@main").unwrap_err();
        assert!(matches!(error, HubError::NoSuchRepository { .. }) && error.is_input(), "{error}");
        let line = cache.refusal("owner/name@main");
        assert!(line.contains("has no model owner/name") && line.contains("HF_TOKEN"), "{line}");
        assert!(line.contains(&cache.config.endpoint), "{line}");
        assert_eq!(cache.files(), Vec::<String>::new());
    }
}

#[test]
fn revision_that_is_missing_is_told() {
    let model = Model::of(&[("model.safetensors", b"abc")]);
    let mock = Mock::start(move |asked| model.answer(asked));
    let cache = Cache::new(&mock.endpoint);
    for revision in ["v9", "feature/x", &COMMIT.replace('0', "f")] {
        let line = cache.refusal(&format!("owner/name@{revision}"));
        assert!(line.contains(&format!("has no revision {revision:?}")), "{line}");
        assert!(line.contains("owner/name/commits/main"), "{line}");
    }
}

#[test]
fn file_that_is_missing_is_told_with_those_that_are_there() {
    let model =
        Model::of(&[("a.safetensors", b"a"), ("x/b.safetensors", b"b"), ("README.md", b"")]);
    let mock = Mock::start(move |asked| model.answer(asked));
    let cache = Cache::new(&mock.endpoint);
    let line = cache.refusal("owner/name@main:model.safetensors");
    assert!(line.contains("has no file \"model.safetensors\""), "{line}");
    assert!(line.contains("it has README.md, a.safetensors, x/b.safetensors"), "{line}");
    let line = cache.refusal("owner/name@main");
    assert!(line.contains("candidates: a.safetensors, x/b.safetensors"), "{line}");
    assert!(line.contains("owner/name@main:FILE"), "{line}");
    assert!(mock.asked_for("/resolve/").is_empty());
    assert_eq!(cache.fetch("owner/name@main:x/b.safetensors").unwrap().commit, COMMIT);
    // Nor is it clear offline, where both are there.
    let mut cache = cache;
    cache.fetch("owner/name@main:a.safetensors").unwrap();
    cache.config.offline = true;
    assert!(cache.refusal("owner/name@main").contains("candidates: a.safetensors, x/b"));
}

#[test]
fn gated_model_is_explained() {
    for status in [401, 403] {
        let cache = for_the_file(Reply::new(status).with("x-error-code", "GatedRepo"));
        let line = cache.refusal("owner/name@main");
        assert!(line.contains("model owner/name is gated"), "{line}");
        let page = format!("{}/owner/name", cache.config.endpoint);
        assert!(line.contains(&page) && line.contains("accept its license"), "{line}");
        assert!(line.contains("HF_TOKEN"), "{line}");
        assert_eq!(cache.files(), Vec::<String>::new());
    }
    let body = "{\"error\": \"Access to model owner/name is restricted.\"}";
    let cache = always(Reply::new(403).with("x-error-code", "GatedRepo").body(body));
    assert!(cache.refusal("owner/name@main").contains("is gated"));
}

#[test]
fn token_that_is_invalid_is_told_and_not_shown() {
    let message = "Invalid credentials in Authorization header";
    let mut cache = always(Reply::new(401).with("x-error-message", message));
    for token in ["hf_wrong", "hf_two\nlines"] {
        cache.config.token = Some(token.to_owned());
        let line = cache.refusal("owner/name@main");
        assert!(line.contains("refused the token") && line.contains("HF_TOKEN"), "{line}");
        assert!(!line.contains("hf_"), "{line}");
    }
}

#[test]
fn refusal_without_a_code_is_told_with_its_reason() {
    let reply = Reply::new(403).with("x-error-message", "Access to this resource is disabled.");
    for cache in [always(reply.clone()), for_the_file(reply)] {
        let line = cache.refusal("owner/name@main");
        assert!(line.contains("Access to this resource is disabled."), "{line}");
    }
}

#[test]
fn server_that_is_not_there_is_told_with_what_helps() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let cache = Cache::new(&format!("http://127.0.0.1:{port}"));
    let error = cache.fetch("owner/name@main").unwrap_err();
    assert!(matches!(error, HubError::Network { .. }) && !error.is_input(), "{error}");
    let line = cache.refusal("owner/name@main");
    assert!(line.contains("HF_HUB_OFFLINE=1") && line.contains("local file"), "{line}");
    assert!(line.contains("refused"), "{line}");
    assert_eq!(cache.files(), Vec::<String>::new());
}

#[test]
fn endpoint_that_is_no_address_is_told() {
    for endpoint in ["", "huggingface.co", "ftp://127.0.0.1", "https://"] {
        let line = Cache::new(endpoint).refusal("owner/name@main");
        assert!(line.contains(&format!("HF_ENDPOINT: {endpoint:?}")), "{line}");
    }
}

#[test]
fn server_that_is_no_hub_is_told() {
    let page = Reply::new(200).with("content-type", "text/html").body("<html>\nWelcome</html>");
    let without_commit = Reply::new(200).body("{\"id\": \"owner/name\"}");
    for cache in [always(page), always(without_commit), for_the_file(Reply::new(200).body("abc"))] {
        let line = cache.refusal("owner/name@main");
        assert!(line.contains("no answer of a Hub") && line.contains("HF_ENDPOINT"), "{line}");
        assert_eq!(cache.files(), Vec::<String>::new());
    }
}

#[test]
fn server_cannot_write_outside_of_the_cache() {
    let model = Model::of(&[("../../../../x.safetensors", b"abc")]);
    let mock = Mock::start(move |asked| model.answer(asked));
    let cache = Cache::new(&mock.endpoint);
    assert!(cache.refusal("owner/name@main").contains("no path inside of the repository"));

    let commit = Reply::new(200).body(
        "{\"id\": \"owner/name\", \"sha\": \"../main\", \"siblings\": \
         [{\"rfilename\": \"model.safetensors\"}]}",
    );
    let cache = always(commit);
    assert!(cache.refusal("owner/name@main").contains("\"../main\" is no commit"));
    let line = cache.refusal(&format!("owner/name@{COMMIT}"));
    assert!(line.contains("it named the commit \"../main\""), "{line}");

    for hash in ["../../x", "\"\"", "a/b", ".."] {
        let cache = for_the_file(Reply::new(200).with("etag", hash).body("abc"));
        assert!(cache.refusal("owner/name@main").contains("it named the bytes"), "{hash}");
        assert_eq!(cache.files(), Vec::<String>::new());
    }
}

#[test]
fn cache_that_cannot_be_written_is_told() {
    let model = Model::of(&[("model.safetensors", b"abc")]);
    let mock = Mock::start(move |asked| model.answer(asked));
    let cache = Cache::new(&mock.endpoint);
    std::fs::write(&cache.config.cache, "a file, not a folder").unwrap();
    let line = cache.refusal("owner/name@main");
    assert!(line.contains("the cache cannot keep") && line.contains("HF_HUB_CACHE"), "{line}");
}
