//! Transfers that break off, go elsewhere, or bring what they should not.

use std::sync::atomic::{AtomicUsize, Ordering};

use s5cl_hub::HubError;

use crate::mock::{Asked, COMMIT, Cache, Mock, Model, Reply, sha256, stored, weights};

const FILE: &str = "model.safetensors";

fn model() -> Model {
    Model::of(&[(FILE, &weights())])
}

/// A Hub that gives the bytes in its own way; the answer knows how often they were asked for.
fn with_store(answer: impl Fn(&Asked, usize) -> Reply + Send + Sync + 'static) -> (Mock, Cache) {
    let (model, times) = (model(), AtomicUsize::new(0));
    let mock = Mock::start(move |asked| {
        if asked.path.starts_with("/store/") {
            return answer(asked, times.fetch_add(1, Ordering::Relaxed));
        }
        model.answer(asked)
    });
    let cache = Cache::new(&mock.endpoint);
    (mock, cache)
}

fn ranges(mock: &Mock) -> Vec<Option<String>> {
    let store = mock.asked_for("/store/");
    store.iter().map(|asked| asked.header("range").map(str::to_owned)).collect()
}

#[test]
fn fetch_goes_on_where_the_connection_broke() {
    let (mock, cache) = with_store(|asked, times| Reply {
        cut: (times < 2).then_some(100_000),
        ..stored(&weights(), asked)
    });
    let mut done = Vec::new();
    let id = "owner/name@main".parse().unwrap();
    let download = s5cl_hub::fetch(&cache.config, &id, &mut |bytes, _| done.push(bytes)).unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
    let expected = [None, Some("bytes=100000-"), Some("bytes=200000-")];
    assert_eq!(ranges(&mock), expected.map(|range| range.map(str::to_owned)));
    assert!(done.is_sorted(), "progress went back: {done:?}");
}

#[test]
fn fetch_goes_on_where_an_earlier_call_ended() {
    let (mock, mut cache) = with_store(|asked, times| Reply {
        cut: (times == 0).then_some(123_456),
        ..stored(&weights(), asked)
    });
    cache.config.retries = 0;
    let line = cache.refusal("owner/name@main");
    assert!(line.contains("what is there already is kept, so try again"), "{line}");
    let hash = sha256(&weights());
    let left = format!("models--owner--name/blobs/{hash}.s5cl.incomplete");
    assert_eq!(cache.files(), [left]);
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
    assert_eq!(ranges(&mock)[1].as_deref(), Some("bytes=123456-"));
    assert!(!cache.files().iter().any(|file| file.ends_with("incomplete")));
}

#[test]
fn fetch_begins_anew_where_the_server_knows_no_ranges() {
    let (mock, cache) = with_store(|_, times| Reply {
        cut: (times == 0).then_some(5),
        ..Reply::new(200).body(weights())
    });
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
    assert_eq!(ranges(&mock).len(), 2);
}

#[test]
fn fetch_begins_anew_where_another_range_comes() {
    let (_, cache) = with_store(|asked, times| match times {
        0 => Reply { cut: Some(50), ..stored(&weights(), asked) },
        1 => Reply::new(206).with("content-range", "bytes 7-299999/300000").body(&weights()[7..]),
        _ => stored(&weights(), asked),
    });
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
}

#[test]
fn fetch_ends_where_no_try_gets_further() {
    // The rest is never given, in three ways.
    for rest in [Reply::new(416), Reply::new(206), Reply::new(200)] {
        let (mock, mut cache) = with_store(move |asked, _| match asked.header("range") {
            Some(_) if rest.status != 200 => rest.clone(),
            _ => Reply { cut: Some(100), ..Reply::new(200).body(weights()) },
        });
        cache.config.retries = 3;
        let error = cache.fetch("owner/name@main").unwrap_err();
        assert!(matches!(error, HubError::Network { .. }), "{error}");
        assert_eq!(ranges(&mock).len(), 4);
    }
}

#[test]
fn fetch_that_was_killed_before_the_rename_asks_for_no_bytes() {
    let (mock, cache) = with_store(|asked, _| stored(&weights(), asked));
    let blobs = cache.path("models--owner--name/blobs");
    std::fs::create_dir_all(&blobs).unwrap();
    let left = format!("{}.s5cl.incomplete", sha256(&weights()));
    std::fs::write(blobs.join(left), weights()).unwrap();
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
    assert!(ranges(&mock).is_empty());
}

#[test]
fn fetch_refuses_bytes_with_another_hash() {
    let (mock, cache) = with_store(|asked, times| {
        let mut bytes = weights();
        bytes[299_999] ^= u8::from(times == 0);
        stored(&bytes, asked)
    });
    let error = cache.fetch("owner/name@main").unwrap_err();
    assert!(matches!(error, HubError::Hash { .. }) && !error.is_input(), "{error}");
    let line = error.to_string();
    assert!(line.contains(&sha256(&weights())) && line.contains("it was removed"), "{line}");
    assert_eq!(cache.files(), Vec::<String>::new());
    // Nothing of it is left to go on with.
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
    assert_eq!(ranges(&mock), [None, None]);
}

#[test]
fn fetch_refuses_more_bytes_than_were_said() {
    let (_, cache) = with_store(|_, _| Reply::new(200).body([weights(), vec![0; 9]].concat()));
    let error = cache.fetch("owner/name@main").unwrap_err();
    assert!(matches!(error, HubError::Size { expected: 300_000, .. }), "{error}");
    assert_eq!(cache.files(), Vec::<String>::new());
}

#[test]
fn fetch_takes_no_refusal_for_the_file() {
    let (_, cache) = with_store(|_, _| Reply::new(403).body("expired"));
    let line = cache.refusal("owner/name@main");
    assert!(line.contains("refuses to give owner/name@main"), "{line}");
    assert_eq!(cache.files(), Vec::<String>::new());
}

#[test]
fn fetch_tries_again_where_the_server_is_busy() {
    let busy = AtomicUsize::new(0);
    let model = model();
    let mock = Mock::start(move |asked| match busy.fetch_add(1, Ordering::Relaxed) {
        0 | 2 => Reply::new(503),
        4 => Reply::new(429),
        _ => model.answer(asked),
    });
    let mut cache = Cache::new(&mock.endpoint);
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());

    let mock = Mock::start(|_| Reply::new(503));
    cache.config.endpoint.clone_from(&mock.endpoint);
    cache.config.retries = 2;
    assert!(cache.refusal("owner/name@main").contains("the server answers 503"));
    assert_eq!(mock.asked().len(), 3);
}

#[test]
fn fetch_sends_its_token_to_the_endpoint_alone() {
    let store = Mock::start(|asked| stored(&weights(), asked));
    let model = Model { store: Some(store.endpoint.clone()), ..model() };
    let mock = Mock::start(move |asked| model.answer(asked));
    let mut cache = Cache::new(&mock.endpoint);
    cache.config.token = Some("hf_secret".to_owned());
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), weights());
    let bearer = Some("Bearer hf_secret");
    assert!(mock.asked().iter().all(|asked| asked.header("authorization") == bearer));
    assert_eq!(mock.asked().len(), 3);
    assert!(store.asked().iter().all(|asked| asked.header("authorization").is_none()));
    assert_eq!(store.asked().len(), 1);
}

#[test]
fn fetch_without_a_token_sends_none() {
    let (mock, cache) = with_store(|asked, _| stored(&weights(), asked));
    cache.fetch("owner/name@main").unwrap();
    assert!(mock.asked().iter().all(|asked| asked.header("authorization").is_none()));
    let agent = concat!("s5cl-hub/", env!("CARGO_PKG_VERSION"));
    assert!(mock.asked().iter().all(|asked| asked.header("user-agent") == Some(agent)));
}

#[test]
fn fetch_follows_a_repository_that_was_renamed() {
    for is_whole in [false, true] {
        let model = model();
        let mock = Mock::start(move |asked| match asked.path.contains("old/one") {
            true => {
                let here = format!("http://{}", asked.header("host").unwrap());
                let path = asked.path.replace("old/one", "owner/name");
                let start = if is_whole { here.as_str() } else { "" };
                Reply::new(307).with("location", format!("{start}{path}"))
            }
            false => model.answer(asked),
        });
        let cache = Cache::new(&mock.endpoint);
        let download = cache.fetch("old/one@main").unwrap();
        assert_eq!(std::fs::read(&download.path).unwrap(), weights());
        let place = format!("models--old--one/snapshots/{COMMIT}/{FILE}");
        assert_eq!(download.path, cache.path(&place));
    }

    let mock = Mock::start(|asked| Reply::new(307).with("location", asked.path.clone()));
    let cache = Cache::new(&mock.endpoint);
    assert!(cache.fetch("owner/name@main").is_err());
}

#[test]
fn fetch_of_a_small_file_compares_its_size() {
    // In git itself, so that the hash is one of git's and the bytes come without a redirect.
    let info = Model::of(&[("tiny.safetensors", b"tiny")]);
    let mock = Mock::start(move |asked| match asked.path.starts_with("/api/") {
        true => info.answer(asked),
        false => stored(b"tiny", asked).with("etag", format!("\"{}\"", &COMMIT[..40])),
    });
    let cache = Cache::new(&mock.endpoint);
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!(std::fs::read(download.path).unwrap(), b"tiny");
    assert!(cache.path(&format!("models--owner--name/blobs/{COMMIT}")).is_file());
}
