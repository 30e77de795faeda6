//! Event files, read by a parser of this test and by TensorBoard itself.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use s5cl_report::{EventFile, ReportError};

/// Opens a folder as TensorBoard does.
const READER: &str = include_str!("tensorboard_reader.py");
const START: f64 = 1_700_000_000.25;

/// A run that wrote three steps, was killed, and goes on at the second.
fn write_events(folder: &Path) -> [PathBuf; 2] {
    let paths = ["1700000000", "1700000100"]
        .map(|time| folder.join(format!("events.out.tfevents.{time}.s5cl")));
    let mut events = EventFile::create(&paths[0], START).unwrap();
    for step in 0..3_u16 {
        let value = 2.0 - 0.5 * f32::from(step);
        let values = [("loss/total", value), ("accuracy", 0.25)];
        events.scalars(step.into(), START + f64::from(step), &values).unwrap();
    }
    let mut events = EventFile::resume(&paths[1], START + 100.0, 2).unwrap();
    events.scalars(2, START + 101.0, &[("loss/total", 0.125)]).unwrap();
    events.scalars(300, START + 102.0, &[("loss/total", f32::NAN)]).unwrap();
    paths
}

/// The events of whole records, without their checksums, which unit tests cover.
fn records(bytes: &[u8]) -> Vec<&[u8]> {
    let mut records = Vec::new();
    let mut rest = bytes;
    while let Some((length, tail)) = rest.split_first_chunk::<8>() {
        let end = 4 + u64::from_le_bytes(*length) as usize;
        if tail.len() < end + 4 {
            break;
        }
        records.push(&tail[4..end]);
        rest = &tail[end + 4..];
    }
    records
}

/// The fields of a message: number and, of length-delimited ones, bytes, of others, the value.
fn fields(mut message: &[u8]) -> Vec<(u64, u64, &[u8])> {
    let mut fields = Vec::new();
    while !message.is_empty() {
        let key = varint(&mut message);
        let (value, n_bytes) = match key & 7 {
            0 => (varint(&mut message), 0),
            1 => (0, 8),
            2 => (0, varint(&mut message) as usize),
            5 => (0, 4),
            other => panic!("wire type {other}"),
        };
        let (bytes, tail) = message.split_at(n_bytes);
        fields.push((key >> 3, value, bytes));
        message = tail;
    }
    fields
}

fn varint(message: &mut &[u8]) -> u64 {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = message.split_first().unwrap();
        *message = rest;
        value |= u64::from(byte & 127) << shift;
        if *byte < 128 {
            break;
        }
    }
    value
}

#[test]
fn event_file_has_the_fields_of_its_messages() {
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = write_events(folder.path());
    let bytes = fs::read(first).unwrap();
    let events = records(&bytes);
    assert_eq!(events.len(), 4);
    let wall_time = START.to_le_bytes();
    assert_eq!(fields(events[0]), [(1, 0, &wall_time[..]), (3, 0, &b"brain.Event:2"[..])]);
    let last = fields(events[3]);
    assert_eq!(last[1], (2, 2, &[][..]));
    let summary = fields(last[2].2);
    assert_eq!((last[2].0, summary.len()), (5, 2));
    let value = fields(summary[0].2);
    assert_eq!(value[0].2, b"loss/total");
    assert_eq!(value[1], (2, 0, &1.0_f32.to_le_bytes()[..]));

    let bytes = fs::read(second).unwrap();
    let start = fields(records(&bytes)[1]);
    assert_eq!(start[1], (2, 2, &[][..]));
    assert_eq!((start[2].0, fields(start[2].2)), (7, vec![(1, 1, &[][..])]));
}

#[test]
fn event_file_is_never_written_over() {
    let folder = tempfile::tempdir().unwrap();
    let [first, _] = write_events(folder.path());
    let before = fs::read(&first).unwrap();
    let error = EventFile::create(&first, START).unwrap_err();
    assert!(matches!(error, ReportError::Write { .. }) && !error.is_input(), "{error}");
    assert_eq!(fs::read(&first).unwrap(), before);
}

#[test]
fn event_file_is_read_by_tensorboard() {
    let python = std::env::var_os("S5CL_PYTHON").unwrap_or_else(|| "python3".into());
    let has_tensorboard = Command::new(&python).args(["-c", "import tensorboard"]).output();
    if !has_tensorboard.is_ok_and(|output| output.status.success()) {
        println!("skipped: no Python with tensorboard");
        return;
    }
    let read = |folder: &Path| {
        let output = Command::new(&python).args(["-c", READER]).arg(folder).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{errors}");
        String::from_utf8(output.stdout).unwrap()
    };
    let folder = tempfile::tempdir().unwrap();
    let [first, second] = write_events(folder.path());
    // Step 2 of the first file is forgotten, as the run went on from there.
    assert_eq!(
        read(folder.path()),
        "version 2.0\n\
         0 accuracy 0.25 1700000000.25\n1 accuracy 0.25 1700000001.25\n\
         0 loss/total 2.0 1700000000.25\n1 loss/total 1.5 1700000001.25\n\
         2 loss/total 0.125 1700000101.25\n300 loss/total nan 1700000102.25\n"
    );
    // A last record that was cut is left out.
    fs::remove_file(second).unwrap();
    let bytes = fs::read(&first).unwrap();
    fs::write(&first, &bytes[..bytes.len() - 7]).unwrap();
    let cut = read(folder.path());
    assert!(cut.contains("1 loss/total 1.5") && !cut.contains("2 loss/total"), "{cut}");
}
