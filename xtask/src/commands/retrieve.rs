//! `retrieve`: for every query the images of a gallery that look most alike to a trained model.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;
use s5cl_data::{Spec, open, open_images};
use s5cl_eval::{LeftOut, Retrieved, nearest};
use serde_json::json;

use crate::csv_file::write_csv;
use crate::device::DeviceChoice;
use crate::evaluation::{Part, Retrieval};
use crate::inference::Predictor;
use crate::run_folder::{RunFolder, require_folder};
use crate::table::{Table, fraction};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run folder
    #[arg(long, value_name = "DIR")]
    run: PathBuf,
    /// The images to search: an image, a folder of images at any depth, or a MedMNIST .npz file
    #[arg(long, value_name = "PATH")]
    gallery: PathBuf,
    /// The images to search for; where they are the gallery's own, none finds itself
    #[arg(long, value_name = "PATH")]
    query: PathBuf,
    /// Images to find for each query
    #[arg(short, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    k: u32,
    /// The table to write: query,rank,path,similarity
    #[arg(long, value_name = "FILE.csv")]
    out: Option<PathBuf>,
    /// Where to compute: auto, cpu, cuda, or one of several as in cuda:1
    #[arg(long, default_value = "auto")]
    device: DeviceChoice,
    /// Threads that read images
    #[arg(long, default_value_t = 1)]
    workers: usize,
    /// End standard output with the figures as one line of JSON
    #[arg(long)]
    json: bool,
}

impl Args {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<()> {
        if let Some(out) = &self.out {
            require_folder(out)?;
        }
        let predictor =
            Predictor::open(&RunFolder::open(&self.run)?.weights(), &self.device.open()?)?;
        let gallery = self.look(&predictor, &self.gallery)?;
        let own = same_place(&self.gallery, &self.query);
        let other = (!own).then(|| self.look(&predictor, &self.query)).transpose()?;
        let queries = other.as_ref().unwrap_or(&gallery);
        let left_out = if own { LeftOut::Own } else { LeftOut::Nothing };
        let k = self.k as usize;
        let found = nearest(&queries.embeddings, &gallery.embeddings, k, left_out)?;
        match &self.out {
            Some(out) => {
                write(out, queries, &gallery, &found)?;
                println!("{} queries, {} images: {}", queries.n(), gallery.n(), out.display());
            }
            None => print(queries, &gallery, &found),
        }
        let among = other.as_ref().map(|_| &gallery);
        let figures = Retrieval::new(queries, among, k)?;
        match &figures {
            Some(figures) => print!("\n{}", table(figures, k).text()),
            None => eprintln!(
                "note: no figures, as the classes of queries and gallery are not known: a folder \
                 in the path that has the name of a class would tell them"
            ),
        }
        if self.json {
            let (n_queries, n_gallery) = (queries.n(), gallery.n());
            println!(
                "{}",
                json!({ "schema": 1, "k": k, "n_queries": n_queries, "n_gallery": n_gallery,
                        "retrieval": figures })
            );
        }
        Ok(())
    }

    /// Opens images and runs the model on them. An archive tells the classes of its images; else a
    /// folder in the path that has the name of a class is taken for the image's class, and a folder
    /// within it for its patient or slide.
    fn look(&self, predictor: &Predictor, path: &Path) -> Result<Part> {
        let is_archive = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("npz"));
        let dataset = match is_archive && path.is_file() {
            true => open(&Spec::Npz(path.to_owned()))?,
            false => open_images(path)?,
        };
        let mut dataset = dataset.resized(predictor.card.image_size);
        let classes = &predictor.card.class_names;
        let known = dataset.class_names.iter().map(|name| position(classes, name));
        let known: Vec<Option<u32>> = known.collect();
        let images = dataset.samples.iter_mut().enumerate().map(|(sample_idx, sample)| {
            if let Some(class_idx) = sample.class_idx {
                return (sample_idx, known[class_idx as usize]);
            }
            let (class_idx, group) = told_by_path(path, &sample.id, classes);
            sample.group = group;
            (sample_idx, class_idx)
        });
        let images: Vec<(usize, Option<u32>)> = images.collect();
        Part::new(predictor, &Arc::new(dataset), &images, self.workers)
    }
}

/// The figures for people.
fn table(figures: &Retrieval, k: usize) -> Table {
    let columns = [
        "",
        "precision@1",
        &format!("precision@{k}"),
        &format!("recall@{k}"),
        "R-precision",
        "MAP@R",
        "mAP",
        "MRR",
        "queries",
    ];
    let mut table = Table::new(&columns);
    let rows =
        [("all", Some(&figures.among_all)), ("other groups", figures.without_own_group.as_ref())];
    for (name, result) in rows {
        let Some(result) = result else { continue };
        let at_k = &result.at_k;
        let values = [
            at_k.precision_at_1,
            at_k.precision_at_k,
            at_k.recall_at_k,
            result.r_precision,
            result.map_at_r,
            result.map,
            result.mrr,
        ];
        let mut row = vec![name.to_owned()];
        row.extend(values.map(fraction));
        row.push(at_k.n_queries.to_string());
        table.row(row);
    }
    table
}

fn write(out: &Path, queries: &Part, gallery: &Part, found: &[Vec<Retrieved>]) -> Result<()> {
    let rows = queries.ids.iter().zip(found).flat_map(|(query, items)| {
        items.iter().enumerate().map(move |(rank, item)| {
            let path = gallery.ids[item.index as usize].clone();
            [query.clone(), (rank + 1).to_string(), path, item.similarity.to_string()]
        })
    });
    write_csv(out, ["query", "rank", "path", "similarity"], rows)
}

fn print(queries: &Part, gallery: &Part, found: &[Vec<Retrieved>]) {
    for (query, items) in queries.ids.iter().zip(found) {
        println!("{query}");
        for item in items {
            println!("  {:.3}  {}", item.similarity, gallery.ids[item.index as usize]);
        }
    }
}

fn same_place(left: &Path, right: &Path) -> bool {
    match (left.canonicalize(), right.canonicalize()) {
        (Ok(left), Ok(right)) => left == right,
        _ => false,
    }
}

fn position(classes: &[String], name: &str) -> Option<u32> {
    Some(classes.iter().position(|class| class == name)? as u32)
}

/// The class and the group that the folders of an image name: the innermost folder that is a
/// class, and the folder within it, if there is one.
fn told_by_path(root: &Path, id: &str, classes: &[String]) -> (Option<u32>, Option<String>) {
    let above = root.components().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let folders: Vec<String> = above.chain(id.split('/').map(str::to_owned)).collect();
    let Some((_file, folders)) = folders.split_last() else { return (None, None) };
    let mut innermost_first = folders.iter().enumerate().rev();
    let told = innermost_first.find_map(|(at, folder)| Some((at, position(classes, folder)?)));
    match told {
        Some((at, class_idx)) => (Some(class_idx), folders.get(at + 1).cloned()),
        None => (None, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn path_tells_class_and_group() {
        let classes = ["tumor".to_owned(), "stroma".to_owned()];
        let told = |root: &str, id: &str| told_by_path(Path::new(root), id, &classes);
        assert_eq!(told("data", "tumor/1.png"), (Some(0), None));
        assert_eq!(told("data", "stroma/patient-7/1.png"), (Some(1), Some("patient-7".into())));
        assert_eq!(told("data/stroma", "1.png"), (Some(1), None));
        assert_eq!(told("tumor", "stroma/1.png"), (Some(1), None));
        assert_eq!(told("data", "other/1.png"), (None, None));
        assert_eq!(told("data", "tumor.png"), (None, None));
    }
}
