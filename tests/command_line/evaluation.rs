//! What is told of a trained model, and of the predictions of any model.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;

use crate::support::{Place, read_json};

/// A run on three classes, whose images are in a folder for each of two patients.
fn trained_on_patients(place: &Place) {
    for class_idx in 0..3 {
        for number in 0..8 {
            let name = format!("tiles/class{class_idx}/patient{}/{number}.png", number / 2);
            place.write_image(&name, 16, class_idx, number);
        }
    }
    let train = ["train", "--quiet", "--out", "run", "--data", "tiles", "--labels-per-class", "2"];
    let small =
        ["--steps", "4", "--set", "data.batch_labeled=6", "--set", "data.batch_unlabeled=4"];
    place.run(&[&train[..], &small[..]].concat()).succeeded();
}

/// The rows of a CSV file without quotes, by the names in its header.
fn rows(path: &Path) -> Vec<BTreeMap<String, String>> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let row = |line: &str| -> BTreeMap<String, String> {
        header
            .iter()
            .map(|name| (*name).to_owned())
            .zip(line.split(',').map(str::to_owned))
            .collect()
    };
    lines.map(row).collect()
}

fn class_of(path: &str) -> &str {
    path.split('/').next().unwrap()
}

#[test]
fn retrieve_finds_images_of_the_gallery_and_counts_their_classes() {
    let place = Place::new();
    trained_on_patients(&place);
    let search = ["retrieve", "--run", "run", "--gallery", "tiles", "-k", "3", "--json"];
    let own = [&search[..], &["--query", "tiles", "--out", "found.csv"]].concat();
    let figures = place.run(&own).succeeded().json();
    let found = rows(&place.path("found.csv"));
    assert_eq!(found.len(), 24 * 3);
    assert!(found.iter().all(|row| row["query"] != row["path"]), "an image found itself");
    let similarity = |row: &BTreeMap<String, String>| row["similarity"].parse::<f64>().unwrap();
    for of_query in found.chunks(3) {
        assert!(of_query.windows(2).all(|pair| similarity(&pair[0]) >= similarity(&pair[1])));
        assert_eq!(
            [1, 2, 3].map(|rank| rank.to_string()),
            [0, 1, 2].map(|i| of_query[i]["rank"].clone())
        );
    }
    let right = found.iter().filter(|row| class_of(&row["query"]) == class_of(&row["path"]));
    let precision = right.count() as f64 / found.len() as f64;
    let all = &figures["retrieval"];
    assert!((all["precision_at_k"].as_f64().unwrap() - precision).abs() < 1e-12);
    assert_eq!(all["n_queries"], 24);
    assert!(all["without_own_group"]["map_at_r"].is_f64());

    let one = [&search[..], &["--query", "tiles/class1/patient0/0.png"]].concat();
    let ran = place.run(&one).succeeded();
    assert_eq!(ran.json()["n_queries"], 1);
    assert!(ran.out.starts_with("0.png\n"), "{}", ran.out);
    // The same pixels are in the gallery, which is another set here.
    assert!(ran.out.contains("  1.000  class1/patient0/0.png"), "{}", ran.out);
}

#[test]
fn retrieve_refuses_what_it_cannot_search() {
    let place = Place::new();
    trained_on_patients(&place);
    std::fs::create_dir(place.path("empty")).unwrap();
    let search = |gallery: &str, k: &str| {
        place.run(&["retrieve", "--run", "run", "--gallery", gallery, "--query", "tiles", "-k", k])
    };
    search("empty", "3").refused(2, &["empty", "no image"]);
    search("absent", "3").refused(2, &["absent"]);
    assert_eq!(search("tiles", "0").code, Some(2));

    let weights = place.path("run/model.safetensors");
    let mut bytes = std::fs::read(&weights).unwrap();
    // All of the last tensors: finite, as a file of weights must be, and too large to compute with.
    let from = bytes.len() / 2 / 4 * 4 + bytes.len() % 4;
    let large = 1e30_f32.to_le_bytes();
    bytes[from..].chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&large));
    std::fs::write(&weights, bytes).unwrap();
    search("tiles", "3").refused(2, &["what the model gives for tiles", "row 0", "finite"]);
}

#[test]
fn details_of_a_run_are_written_and_agree_with_its_metrics() {
    let place = Place::new();
    trained_on_patients(&place);
    let details = read_json(&place.path("run/evaluation.json"));
    let metrics = read_json(&place.path("run/metrics.json"));
    assert_eq!(details["schema"], 1);
    let bins = |key: &str| -> u64 {
        let bins = details["calibration"][key].as_array().unwrap();
        bins.iter().map(|bin| bin["n"].as_u64().unwrap()).sum()
    };
    let n_test = metrics["dataset"]["n_test"].as_u64().unwrap();
    assert_eq!((bins("bins"), bins("bins_calibrated")), (n_test, n_test));
    let last = details["coverage"]["points"].as_array().unwrap().last().unwrap();
    let error = 1.0 - metrics["test"]["accuracy"].as_f64().unwrap();
    assert!((last["error"].as_f64().unwrap() - error).abs() < 1e-12);
    assert_eq!(
        details["atlas"]["x"].as_array().unwrap().len(),
        details["atlas"]["id"].as_array().unwrap().len()
    );
    assert_eq!(details["calibration"]["ece"], metrics["test"]["ece"]);

    let predictions = rows(&place.path("run/predictions.csv"));
    let right = predictions.iter().filter(|row| row["label"] == row["prediction"]).count();
    assert_eq!(right as f64 / predictions.len() as f64, metrics["test"]["accuracy"]);
    let groups: Vec<&str> = predictions.iter().map(|row| row["group"].as_str()).collect();
    assert!(groups.iter().all(|group| group.contains("patient")), "{groups:?}");

    let evaluated =
        place.run(&["evaluate", "--predictions", "run/predictions.csv", "--json"]).succeeded();
    assert_eq!(evaluated.json()["test"], metrics["test"]);
}

#[test]
fn predictions_of_any_model_are_evaluated() {
    let place = Place::new();
    std::fs::write(
        place.path("p.csv"),
        "path,label,confidence,a,b,c\n1,a,,0.8,0.1,0.1\n2,b,,0.1,0.6,0.3\n3,b,,0,1,0\n4,c,,0,0,1\n",
    )
    .unwrap();
    std::fs::write(place.path("l.csv"), "path,label,group\n4,b,s\n3,b,s\n2,a,t\n1,a,t\n").unwrap();
    std::fs::write(place.path("tree.csv"), "class,parent\na,x\nb,x\nc,y\n").unwrap();
    std::fs::write(place.path("costs.csv"), "true,a,b,c\na,0,2,1\nb,0,0,6\nc,1,1,0\n").unwrap();
    let evaluate = ["evaluate", "--predictions", "p.csv", "--labels", "l.csv", "--json"];
    let more = ["--parents", "tree.csv", "--costs", "costs.csv", "--against", "p.csv"];
    let ran = place.run(&[&evaluate[..], &more[..]].concat()).succeeded();
    let found = ran.json();
    // Right: 1 and 3. 2 is a taken for b, which costs 2; 4 is b taken for c, which costs 6.
    assert_eq!(found["test"]["accuracy"], 0.5);
    assert_eq!(found["cost"]["mean"], 2.0);
    assert_eq!(found["parents"]["result"]["accuracy"], 0.75);
    assert_eq!(found["against"]["accuracy"]["difference"], 0.0);
    assert_eq!(found["test"]["per_class"][2]["support"], 0, "no image of c is in the table");
    assert!(found["test"]["per_class"][2]["recall"].is_null());
    assert!(ran.out.contains("95 % intervals"));
}

#[test]
fn predictions_that_cannot_be_evaluated_are_refused() {
    let place = Place::new();
    let refused = |rows: &str, labels: &str, parts: &[&str]| {
        std::fs::write(place.path("p.csv"), format!("path,label,confidence,a,b\n{rows}")).unwrap();
        std::fs::write(place.path("l.csv"), format!("path,label\n{labels}")).unwrap();
        place.run(&["evaluate", "--predictions", "p.csv", "--labels", "l.csv"]).refused(2, parts);
    };
    let good = "1,a,,0.9,0.1\n2,b,,0.2,0.8\n";
    refused(good, "1,a\n", &["p.csv has 2 images", "l.csv has 1"]);
    refused(good, "1,a\n2,z\n", &["\"z\""]);
    refused("1,a,,0.9,0.1\n2,b,,0.5,0.75\n", "1,a\n2,b\n", &["row 1", "sum to 1.25"]);
    refused("1,a,,0.9,0.1\n2,b,,NaN,0.9\n", "1,a\n2,b\n", &["row 1", "NaN"]);
    refused("1,a,,0.9,0.1\n2,b,,x,0.9\n", "1,a\n2,b\n", &["line 3", "\"x\""]);
    refused("", "", &["has no row"]);
    std::fs::write(place.path("p.csv"), format!("path,label,confidence,a,b\n{good}")).unwrap();
    place.run(&["evaluate", "--predictions", "p.csv"]).refused(2, &["--labels"]);
    place.run(&["evaluate", "--predictions", "absent.csv"]).refused(2, &["absent.csv"]);
    assert_eq!(place.run(&["evaluate"]).code, Some(2));
}

#[test]
fn runs_are_compared_on_one_page() {
    let place = Place::new();
    for (run, steps) in [("first", 2), ("second", 6)] {
        place.train_tiny(run, steps, &[]).succeeded();
        let files = std::fs::read_dir(place.path(run)).unwrap();
        let names = files.flatten().map(|file| file.file_name().to_string_lossy().into_owned());
        assert_eq!(names.filter(|name| name.contains("tfevents")).count(), 1, "{run}");
    }
    let ran = place.run(&["report", "first", "second", "--out", "both.html"]).succeeded();
    assert_eq!(ran.out, "both.html\n");
    let page = std::fs::read_to_string(place.path("both.html")).unwrap();
    assert!(page.contains("McNemar"), "the paired test is missing");
    place.run(&["report", "first", "--out", "one.html"]).refused(2, &["--out"]);
    place.run(&["report", "first", "absent"]).refused(2, &["absent"]);
}

#[test]
fn run_folder_of_another_schema_is_refused() {
    let place = Place::new();
    place.train_tiny("run", 2, &[]).succeeded();
    let path = place.path("run/metrics.json");
    let mut metrics = read_json(&path);
    metrics["schema"] = Value::from(7);
    std::fs::write(&path, metrics.to_string()).unwrap();
    for command in [&["report", "run"][..], &["evaluate", "--run", "run"]] {
        place.run(command).refused(2, &["metrics.json", "schema 7"]);
    }
}
