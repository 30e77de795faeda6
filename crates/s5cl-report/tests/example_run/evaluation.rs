//! The `evaluation.json` of the made-up run.

use std::io;

use s5cl_random::{Stream, named_stream};
use serde_json::{Value, json};

use super::pictures::Grid;

const SIDE: usize = 32;
const COLUMNS: usize = 40;
const N_IMAGES: usize = 1200;
const N_VIEWS: usize = 8;

/// One image of the map.
struct Image {
    label: usize,
    prediction: usize,
    confidence: f64,
    part: usize,
    pseudo: i64,
    x: f64,
    y: f64,
}

pub(super) fn evaluation(classes: &[&str]) -> io::Result<String> {
    let images = images(classes.len());
    let mut sheet = Grid::new(SIDE, COLUMNS, N_IMAGES);
    for (index, image) in images.iter().enumerate() {
        sheet.draw(index, image.label, index, 1.0);
    }
    let value = json!({
        "schema": 1,
        "class_names": classes,
        "calibration": calibration(),
        "coverage": coverage(),
        "conformal": [
            {"level": 0.9, "coverage": 0.912, "mean_size": 1.08, "empty": 12, "sizes": [12, 6540, 580, 48]},
            {"level": 0.95, "coverage": 0.954, "mean_size": 1.31, "empty": 0, "sizes": [0, 5510, 1230, 340, 100]},
            {"level": 0.99, "coverage": 0.989, "mean_size": 2.12, "empty": 0,
             "sizes": [0, 3020, 2010, 1130, 620, 260, 90, 40, 10]}],
        "representation": {"knn": 0.8512, "linear_probe": 0.8603, "nearest_class_mean": 0.8444,
            "silhouette": 0.412, "alignment": 0.388, "uniformity": -2.714, "effective_rank": 11.3,
            "dim": 64, "nmi": 0.741, "ami": 0.739},
        "retrieval": {"k": 10, "n_queries": 7180, "precision_at_1": 0.871, "precision_at_k": 0.853,
            "recall_at_k": 0.011, "r_precision": 0.702, "map_at_r": 0.633, "map": 0.748, "mrr": 0.905,
            "without_own_group": {"k": 10, "precision_at_1": 0.842, "precision_at_k": 0.831,
                "recall_at_k": 0.01, "r_precision": 0.688, "map_at_r": 0.611, "map": 0.729, "mrr": 0.884}},
        "parents": {"names": ["tissue", "other"], "accuracy": 0.967, "balanced_accuracy": 0.951, "macro_f1": 0.955},
        "cost": {"mean": 0.214, "matrix": []},
        "thumbnails": {"side": SIDE, "columns": COLUMNS, "n": N_IMAGES, "mime": "image/jpeg",
            "base64": sheet.to_base64()?},
        "atlas": atlas(&images),
        "panels": panels(&images),
        "mistakes": mistakes(&images),
        "views": {"mime": "image/jpeg", "base64": views()?, "rows": ["original", "weak", "strong"],
            "columns": N_VIEWS},
    });
    Ok(value.to_string())
}

/// Classes around a circle, some images beside their class and taken for the next one.
fn images(n_classes: usize) -> Vec<Image> {
    let mut random = named_stream(0, "atlas");
    (0..N_IMAGES).map(|index| image(index, n_classes, &mut random)).collect()
}

fn image(index: usize, n_classes: usize, random: &mut Stream) -> Image {
    let label = index % n_classes;
    let is_mistaken = random.uniform_in(0.0, 1.0) < 0.1;
    let prediction = if is_mistaken { (label + 1) % n_classes } else { label };
    let between = if is_mistaken { 0.7 } else { 0.0 };
    let angle = std::f64::consts::TAU * (label as f64 + between) / n_classes as f64;
    let part = match index % 12 {
        0 => 1,
        1..4 => 2,
        _ => 0,
    };
    let confidence = f64::from(random.uniform_in(if is_mistaken { 0.4 } else { 0.7 }, 1.0));
    let mut noise = || f64::from(random.normal()) * 4.0;
    Image {
        label,
        prediction,
        confidence,
        part,
        pseudo: if part == 2 && confidence > 0.8 { prediction as i64 } else { -1 },
        x: 24.0 * angle.cos() + noise(),
        y: 24.0 * angle.sin() + noise(),
    }
}

fn id(index: usize) -> String {
    format!("CRC-VAL-HE-7K/{:02}/tile-{index:04}.png", index % 9)
}

fn atlas(images: &[Image]) -> Value {
    let all = |of: &dyn Fn(&Image) -> Value| images.iter().map(of).collect::<Vec<_>>();
    json!({
        "method": "t-SNE",
        "x": all(&|i| json!(i.x)),
        "y": all(&|i| json!(i.y)),
        // The labels of unlabeled images are hidden.
        "label": all(&|i| if i.part == 2 { json!(-1) } else { json!(i.label) }),
        "prediction": all(&|i| json!(i.prediction)),
        "confidence": all(&|i| json!(i.confidence)),
        "part": all(&|i| json!(i.part)),
        "pseudo": all(&|i| json!(i.pseudo)),
        "thumbnail": (0..images.len()).collect::<Vec<_>>(),
        "id": (0..images.len()).map(id).collect::<Vec<_>>(),
    })
}

fn panels(images: &[Image]) -> Value {
    let panel = |query: usize| {
        let neighbors: Vec<Value> = (1..=8)
            .map(|rank| {
                // Every fifth is of the class beside.
                let neighbor = query + 9 * rank + usize::from(rank % 5 == query % 5);
                json!({"id": id(neighbor), "thumbnail": neighbor, "label": images[neighbor].label,
                       "similarity": 0.98 - 0.02 * rank as f64})
            })
            .collect();
        json!({"query": {"id": id(query), "thumbnail": query, "label": images[query].label,
                         "prediction": images[query].prediction}, "neighbors": neighbors})
    };
    (30..34).map(panel).collect()
}

fn mistakes(images: &[Image]) -> Value {
    let mut wrong: Vec<usize> = (0..images.len())
        .filter(|&index| images[index].prediction != images[index].label && images[index].part == 0)
        .collect();
    wrong.sort_by(|&a, &b| images[b].confidence.total_cmp(&images[a].confidence));
    let mistake = |&index: &usize| {
        let image = &images[index];
        json!({"id": id(index), "thumbnail": index, "label": image.label,
               "prediction": image.prediction, "confidence": image.confidence})
    };
    wrong.iter().take(12).map(mistake).collect()
}

fn views() -> io::Result<String> {
    let mut grid = Grid::new(64, N_VIEWS, 3 * N_VIEWS);
    for column in 0..N_VIEWS {
        for (row, strength) in [0.0, 0.8, 3.0].into_iter().enumerate() {
            grid.draw(row * N_VIEWS + column, column, column, strength);
        }
    }
    grid.to_base64()
}

fn calibration() -> Value {
    let bins = |gap: f64| -> Vec<Value> {
        (0..10)
            .map(|bin| {
                let low = f64::from(bin) / 10.0;
                let n = if bin == 0 { 0 } else { 4 * bin * bin * bin };
                let accuracy = (low + 0.05 - gap).max(0.0);
                json!({"low": low, "high": low + 0.1, "n": n,
                       "confidence": if n > 0 { json!(low + 0.05) } else { Value::Null },
                       "accuracy": if n > 0 { json!(accuracy) } else { Value::Null }})
            })
            .collect()
    };
    json!({"temperature": 1.7, "ece": 0.0512, "ece_calibrated": 0.0131,
           "fitted_on": "900 validation images", "bins": bins(0.09), "bins_calibrated": bins(0.01)})
}

fn coverage() -> Value {
    let point = |i: u32| {
        let coverage = f64::from(i) / 100.0;
        json!({"coverage": coverage, "error": 0.104 * coverage.powi(3), "threshold": 1.0 - coverage})
    };
    json!({"aurc": 0.0261, "points": (1..=100).map(point).collect::<Vec<_>>()})
}
