//! Thumbnails: the nearest images of some queries, the surest mistakes, the views.

use serde::Serialize;

use crate::evaluation::{Evaluation, Picture, Sheet};
use crate::format::{decimal, percent};
use crate::run::Run;

/// At most so many neighbors of a query are shown.
const MOST_NEIGHBORS: usize = 10;
/// At most so many mistakes are shown.
const MOST_MISTAKES: usize = 24;
/// Of a long id the end is shown, which tells images apart.
const MOST_ID_LETTERS: usize = 28;

#[derive(Serialize)]
pub(super) struct Pictures {
    /// Style of the thumbnails; empty without a sheet of them.
    sheet_css: String,
    panels: Vec<Panel>,
    mistakes: Vec<Mistake>,
    views: Option<Views>,
}

/// Where a thumbnail is on the sheet; `None` without a sheet.
#[derive(Serialize)]
struct Tile {
    column: usize,
    row: usize,
    /// What it shows, for readers who cannot see it.
    what: String,
}

#[derive(Serialize)]
struct Panel {
    query: Tile,
    label: String,
    id: String,
    full_id: String,
    n_right: usize,
    neighbors: Vec<Neighbor>,
}

#[derive(Serialize)]
struct Neighbor {
    tile: Tile,
    label: String,
    is_right: bool,
    similarity: String,
    id: String,
}

#[derive(Serialize)]
struct Mistake {
    tile: Tile,
    label: String,
    prediction: String,
    confidence: String,
    id: String,
    full_id: String,
}

#[derive(Serialize)]
struct Views {
    /// Markup: type and digits were checked when read.
    url_html: String,
    rows: Vec<String>,
    description: String,
}

/// Names of classes and the layout of the sheet.
struct Names<'a> {
    classes: Vec<String>,
    sheet: Option<&'a Sheet>,
}

impl Pictures {
    pub(super) fn new(run: &Run) -> Self {
        let empty = Evaluation::default();
        let evaluation = run.evaluation.as_ref().unwrap_or(&empty);
        let names = Names { classes: run.class_names(), sheet: evaluation.thumbnails.as_ref() };
        Self {
            sheet_css: names.sheet.map(sheet_css).unwrap_or_default(),
            panels: evaluation.panels.iter().map(|panel| names.panel(panel)).collect(),
            mistakes: evaluation
                .mistakes
                .iter()
                .take(MOST_MISTAKES)
                .map(|mistake| names.mistake(mistake))
                .collect(),
            views: evaluation.views.as_ref().map(|views| Views {
                url_html: format!("data:{};base64,{}", views.mime, views.base64),
                description: format!(
                    "{} images, one row each: {}",
                    views.columns,
                    views.rows.join(", ")
                ),
                rows: views.rows.clone(),
            }),
        }
    }
}

impl Names<'_> {
    fn class(&self, class_idx: i64) -> String {
        let name = usize::try_from(class_idx).ok().and_then(|index| self.classes.get(index));
        name.cloned().unwrap_or_else(|| "unknown".to_owned())
    }

    fn tile(&self, picture: &Picture) -> Tile {
        let columns = self.sheet.map_or(1, |sheet| sheet.columns);
        Tile {
            column: picture.thumbnail % columns,
            row: picture.thumbnail / columns,
            what: self.class(picture.label),
        }
    }

    fn panel(&self, panel: &crate::evaluation::Panel) -> Panel {
        let neighbors: Vec<Neighbor> = panel
            .neighbors
            .iter()
            .take(MOST_NEIGHBORS)
            .map(|neighbor| Neighbor {
                tile: self.tile(neighbor),
                label: self.class(neighbor.label),
                is_right: neighbor.label == panel.query.label,
                similarity: decimal(neighbor.similarity, 2),
                id: neighbor.id.clone(),
            })
            .collect();
        Panel {
            query: self.tile(&panel.query),
            label: self.class(panel.query.label),
            id: shortened_id(&panel.query.id),
            full_id: panel.query.id.clone(),
            n_right: neighbors.iter().filter(|neighbor| neighbor.is_right).count(),
            neighbors,
        }
    }

    fn mistake(&self, mistake: &crate::evaluation::Mistake) -> Mistake {
        let picture = &mistake.picture;
        Mistake {
            tile: self.tile(picture),
            label: self.class(picture.label),
            prediction: self.class(picture.prediction.unwrap_or(-1)),
            confidence: percent(mistake.confidence),
            id: shortened_id(&picture.id),
            full_id: picture.id.clone(),
        }
    }
}

/// The sheet as a background, once for all thumbnails; type and digits were checked when read.
fn sheet_css(sheet: &Sheet) -> String {
    let Sheet { columns, mime, base64, .. } = sheet;
    format!(
        ".thumb {{ background-image: url(\"data:{mime};base64,{base64}\"); background-size: \
         calc(var(--side) * {columns}) auto; }}"
    )
}

/// The end of a text.
fn shortened_id(id: &str) -> String {
    let n_letters = id.chars().count();
    if n_letters <= MOST_ID_LETTERS {
        return id.to_owned();
    }
    std::iter::once('\u{2026}').chain(id.chars().skip(n_letters - MOST_ID_LETTERS + 1)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_keep_their_end() {
        assert_eq!(shortened_id("a/b.png"), "a/b.png");
        let long = format!("{}/tile_0042.png", "x".repeat(40));
        let short = shortened_id(&long);
        assert!(short.starts_with('\u{2026}') && short.ends_with("/tile_0042.png"));
        assert_eq!(short.chars().count(), MOST_ID_LETTERS);
    }
}
