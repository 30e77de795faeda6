//! The map of the embeddings, which the page's script makes interactive.

use serde::Serialize;

use crate::chart::{MapPoint, Mark, map};
use crate::evaluation::Atlas as Embedded;
use crate::format::{count, counted};
use crate::run::Run;

#[derive(Serialize)]
pub(super) struct Atlas {
    method: String,
    n_points: String,
    map_svg: String,
    legend: Vec<LegendEntry>,
    /// What the script reads, as JSON that cannot end its element.
    data_json: String,
}

/// A class, as far as it occurs.
#[derive(Serialize)]
struct LegendEntry {
    key_svg: String,
    name: String,
    n: String,
}

/// The points in the order in which they are drawn; one entry of every list a point.
#[derive(Serialize)]
struct Data<'a> {
    names: &'a [String],
    /// Of the sprite sheet; 0 without one.
    columns: usize,
    label: Vec<i64>,
    prediction: Vec<i64>,
    confidence: Vec<Option<f64>>,
    part: Vec<i64>,
    pseudo: Vec<i64>,
    tile: Vec<usize>,
    id: Vec<&'a str>,
}

impl Atlas {
    /// `None` where no embedding was projected.
    pub(super) fn new(run: &Run) -> Option<Self> {
        let evaluation = run.evaluation.as_ref()?;
        let embedded = evaluation.atlas.as_ref()?;
        let names = run.class_names();
        let shown = order(embedded);
        let points: Vec<MapPoint> =
            shown.iter().map(|&(idx, x, y)| point(embedded, idx, x, y)).collect();
        if points.is_empty() {
            return None;
        }
        let method = if embedded.method.is_empty() { "projection" } else { &embedded.method };
        let description = format!(
            "{} images by {method}; images of one class should lie together.",
            count(points.len() as u64)
        );
        let columns = evaluation.thumbnails.as_ref().map_or(0, |sheet| sheet.columns);
        Some(Self {
            method: method.to_owned(),
            n_points: counted(points.len() as u64, "image", "images"),
            map_svg: map("atlas", "Map of the embeddings", &description, &points),
            legend: legend(&names, &points),
            data_json: for_script(&data(embedded, &names, columns, &shown)),
        })
    }
}

/// The images that have a place, with it; labeled ones last, so that they are on top.
fn order(embedded: &Embedded) -> Vec<(usize, f64, f64)> {
    let place = |idx: usize| -> Option<(usize, f64, f64)> {
        Some((
            idx,
            embedded.x[idx].filter(|x| x.is_finite())?,
            embedded.y[idx].filter(|y| y.is_finite())?,
        ))
    };
    let mut shown: Vec<_> = (0..embedded.x.len()).filter_map(place).collect();
    shown.sort_by_key(|&(idx, ..)| is_labeled(embedded, idx));
    shown
}

fn is_labeled(embedded: &Embedded, idx: usize) -> bool {
    embedded.part[idx] == 1
}

fn point(embedded: &Embedded, idx: usize, x: f64, y: f64) -> MapPoint {
    let group = usize::try_from(embedded.label[idx]).ok();
    MapPoint { x, y, group, is_outlined: is_labeled(embedded, idx) }
}

fn legend(names: &[String], points: &[MapPoint]) -> Vec<LegendEntry> {
    let entry = |(class_idx, name): (usize, &String)| {
        let n = points.iter().filter(|point| point.group == Some(class_idx)).count() as u64;
        let key_svg = Mark::of(class_idx).key();
        (n > 0).then(|| LegendEntry { key_svg, name: name.clone(), n: count(n) })
    };
    names.iter().enumerate().filter_map(entry).collect()
}

fn data<'a>(
    embedded: &'a Embedded,
    names: &'a [String],
    columns: usize,
    shown: &[(usize, f64, f64)],
) -> Data<'a> {
    let pick = |values: &[i64]| shown.iter().map(|&(idx, ..)| values[idx]).collect();
    // Three decimals are shown.
    let rounded = |value: f64| (1000.0 * value).round() / 1000.0;
    Data {
        names,
        columns,
        label: pick(&embedded.label),
        prediction: pick(&embedded.prediction),
        confidence: shown.iter().map(|&(idx, ..)| embedded.confidence[idx].map(rounded)).collect(),
        part: pick(&embedded.part),
        pseudo: pick(&embedded.pseudo),
        tile: shown.iter().map(|&(idx, ..)| embedded.thumbnail[idx]).collect(),
        id: shown.iter().map(|&(idx, ..)| embedded.id[idx].as_str()).collect(),
    }
}

/// JSON that is safe within a script element: without the letters that could end it, open
/// another one, or end a line.
fn for_script(data: &Data<'_>) -> String {
    // Strings, integers and finite numbers cannot fail to be written.
    let json = serde_json::to_string(data).unwrap_or_default();
    json.replace('<', "\\u003c")
        .replace('>', "\\u003e")
        .replace('&', "\\u0026")
        .replace('\u{2028}', "\\u2028")
        .replace('\u{2029}', "\\u2029")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_end_its_element() {
        let names = ["</script><!--<script>&\u{2028}\"".to_owned()];
        let embedded = Embedded::default();
        let data = data(&embedded, &names, 0, &[]);
        let json = for_script(&data);
        assert!(!json.contains(['<', '>', '&', '\u{2028}']), "{json}");
        let back: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(back["names"][0], names[0].as_str());
    }

    #[test]
    fn images_without_a_place_are_left_out_and_labeled_ones_come_last() {
        let embedded = Embedded {
            x: vec![Some(1.0), None, Some(2.0)],
            y: vec![Some(1.0), Some(0.0), Some(2.0)],
            part: vec![1, 0, 0],
            ..Embedded::default()
        };
        assert_eq!(order(&embedded), [(2, 2.0, 2.0), (0, 1.0, 1.0)]);
    }
}
