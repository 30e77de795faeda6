//! Event files that TensorBoard reads.

mod crc32c;
mod event;
mod record;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::error::ReportError;
use event::{file_version, scalars, session_start};
use record::framed;

/// An event file that is written while a run trains.
///
/// Every call is one write of one whole record, so that a run which is killed leaves at most its
/// last record cut; TensorBoard reads what is before it. TensorBoard finds files whose name holds
/// `tfevents` and reads those of one folder in the order of their names, as one run.
///
/// ```
/// use s5cl_report::EventFile;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let run_dir = tempfile::tempdir()?;
/// let path = run_dir.path().join("events.out.tfevents.0001700000000.s5cl");
/// let mut events = EventFile::create(&path, 1.7e9)?;
/// events.scalars(10, 1.700000001e9, &[("loss/total", 2.5), ("accuracy", 0.4)])?;
/// # Ok(())
/// # }
/// ```
///
/// # Source
///
/// TFRecord framing: the TensorFlow documentation, "TFRecords format details". Messages:
/// `event.proto` and `summary.proto` of TensorFlow.
#[derive(Debug)]
pub struct EventFile {
    file: File,
    path: PathBuf,
}

impl EventFile {
    /// Creates a file of a run that starts; `wall_time` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When the file exists or cannot be written.
    pub fn create(path: &Path, wall_time: f64) -> Result<Self, ReportError> {
        let file = File::options().write(true).create_new(true).open(path);
        let file = file.map_err(|source| failed(path, source))?;
        let mut events = Self { file, path: path.to_owned() };
        events.append(&file_version(wall_time))?;
        Ok(events)
    }

    /// Creates a further file of a run that goes on at `step`, in the folder of its other files
    /// and with a later name: of those, TensorBoard forgets what they hold from `step` on.
    ///
    /// # Errors
    ///
    /// When the file exists or cannot be written.
    pub fn resume(path: &Path, wall_time: f64, step: u64) -> Result<Self, ReportError> {
        let mut events = Self::create(path, wall_time)?;
        events.append(&session_start(wall_time, step))?;
        Ok(events)
    }

    /// Appends the values of some tags at a step; a `/` in a tag puts it into a group.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn scalars(
        &mut self,
        step: u64,
        wall_time: f64,
        values: &[(&str, f32)],
    ) -> Result<(), ReportError> {
        self.append(&scalars(wall_time, step, values))
    }

    fn append(&mut self, event: &[u8]) -> Result<(), ReportError> {
        self.file.write_all(&framed(event)).map_err(|source| failed(&self.path, source))
    }
}

fn failed(path: &Path, source: io::Error) -> ReportError {
    ReportError::Write { path: path.to_owned(), source }
}
