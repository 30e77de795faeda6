//! What is where in the cache, and when the server is not asked.

use crate::mock::{COMMIT, Cache, Mock, Model, sha256, weights};

const FILE: &str = "model.safetensors";

fn served() -> (Mock, Cache) {
    let model = Model::of(&[("README.md", b"text"), (FILE, &weights()), ("x/other.bin", b"other")]);
    let mock = Mock::start(move |asked| model.answer(asked));
    let cache = Cache::new(&mock.endpoint);
    (mock, cache)
}

#[test]
fn fetch_puts_the_bytes_at_the_standard_place() {
    let (mock, cache) = served();
    let mut seen = Vec::new();
    let id = format!("owner/name@{COMMIT}").parse().unwrap();
    let download =
        s5cl_hub::fetch(&cache.config, &id, &mut |done, total| seen.push((done, total))).unwrap();
    let place = format!("models--owner--name/snapshots/{COMMIT}/{FILE}");
    assert_eq!(download.path, cache.path(&place));
    assert_eq!(std::fs::read(&download.path).unwrap(), weights());
    assert_eq!((download.commit.as_str(), download.is_pinned), (COMMIT, true));
    assert_eq!(download.pinned.to_string(), format!("owner/name@{COMMIT}:{FILE}"));
    let blob = format!("models--owner--name/blobs/{}", sha256(&weights()));
    assert_eq!(cache.files(), [blob, place]);

    let total = weights().len() as u64;
    assert_eq!((seen.first(), seen.last()), (Some(&(0, total)), Some(&(total, total))));
    assert!(seen.is_sorted() && seen.iter().all(|(_, of)| *of == total), "{seen:?}");
    let asked: Vec<String> =
        mock.asked().iter().map(|asked| format!("{} {}", asked.method, asked.path)).collect();
    let url = format!("/owner/name/resolve/{COMMIT}/{FILE}");
    let api = format!("GET /api/models/owner/name/revision/{COMMIT}");
    assert_eq!(
        asked,
        [api, format!("HEAD {url}"), format!("GET {url}"), format!("GET /store/{FILE}")]
    );
}

#[test]
fn fetch_of_a_pinned_id_asks_once() {
    let (mock, cache) = served();
    for id in [format!("owner/name@{COMMIT}"), format!("owner/name@{COMMIT}:x/other.bin")] {
        let first = cache.fetch(&id).unwrap();
        let asked = mock.asked().len();
        assert_eq!(cache.fetch(&id).unwrap(), first);
        assert_eq!(cache.fetch(&first.pinned.to_string()).unwrap(), first);
        assert_eq!(mock.asked().len(), asked);
    }
}

#[test]
fn fetch_of_a_branch_says_which_commit_it_is() {
    let (mock, cache) = served();
    let download = cache.fetch("owner/name@main").unwrap();
    assert_eq!((download.commit.as_str(), download.is_pinned), (COMMIT, false));
    assert!(download.pinned.is_pinned());
    let noted = std::fs::read_to_string(cache.path("models--owner--name/refs/main")).unwrap();
    assert_eq!(noted, COMMIT);
    // It may have moved, so the server is asked again, but the bytes are there.
    assert_eq!(cache.fetch("owner/name@main").unwrap(), download);
    assert_eq!(mock.asked_for("/api/").len(), 2);
    assert_eq!(mock.asked_for("GET /store/").len(), 1);
}

#[test]
fn offline_takes_what_is_in_the_cache() {
    let (mock, mut cache) = served();
    let download = cache.fetch("owner/name@main").unwrap();
    let asked = mock.asked().len();
    cache.config.offline = true;
    for id in ["owner/name@main", &format!("owner/name@{COMMIT}"), &download.pinned.to_string()] {
        assert_eq!(cache.fetch(id).unwrap().path, download.path, "{id}");
    }
    assert_eq!(mock.asked().len(), asked);
}

#[test]
fn offline_says_what_is_missing() {
    let (mock, mut cache) = served();
    cache.config.offline = true;
    let line = cache.refusal("owner/name@main");
    assert!(line.contains("owner/name@main is not in the cache"), "{line}");
    assert!(line.contains("HF_HUB_OFFLINE") && line.contains("local file"), "{line}");
    assert!(mock.asked().is_empty());
    // Another file, and another commit, than the one that is there.
    cache.config.offline = false;
    cache.fetch("owner/name@main").unwrap();
    cache.config.offline = true;
    let other = format!("owner/name@{}", COMMIT.replace('0', "1"));
    for id in ["owner/name@main:x/other.bin", "owner/name@v1", &other] {
        assert!(cache.refusal(id).contains("is not in the cache"), "{id}");
    }
    // The link stays where somebody removed the bytes.
    std::fs::remove_dir_all(cache.path("models--owner--name/blobs")).unwrap();
    assert!(cache.refusal("owner/name@main").contains("is not in the cache"));
    cache.config.offline = false;
    assert_eq!(std::fs::read(cache.fetch("owner/name@main").unwrap().path).unwrap(), weights());
}

#[test]
fn fetch_at_the_same_time_brings_the_bytes_once() {
    let (mock, cache) = served();
    std::thread::scope(|scope| {
        let calls: Vec<_> =
            (0..4).map(|_| scope.spawn(|| cache.fetch("owner/name@main"))).collect();
        for call in calls {
            assert_eq!(std::fs::read(call.join().unwrap().unwrap().path).unwrap(), weights());
        }
    });
    assert_eq!(mock.asked_for("GET /store/").len(), 1);
}

#[test]
fn fetch_of_bytes_that_another_commit_has_brings_none() {
    let model = Model::of(&[(FILE, b"same"), ("copy.bin", b"same")]);
    let mock = Mock::start(move |asked| model.answer(asked));
    let cache = Cache::new(&mock.endpoint);
    cache.fetch("owner/name@main").unwrap();
    let copy = cache.fetch("owner/name@main:copy.bin").unwrap();
    assert_eq!(std::fs::read(copy.path).unwrap(), b"same");
    assert_eq!(mock.asked_for("GET /store/").len(), 1);
}
