//! The messages of an event file, in the wire format of protocol buffers.
//!
//! | message | fields |
//! |---|---|
//! | `Event` | 1 `wall_time: double`, 2 `step: int64`, 3 `file_version: string`, 5 `summary: Summary`, 7 `session_log: SessionLog` |
//! | `Summary` | 1 `value: repeated Value` |
//! | `Value` | 1 `tag: string`, 2 `simple_value: float` |
//! | `SessionLog` | 1 `status: enum`, 1 is `START` |

/// The version whose readers forget the steps after a restart.
const FILE_VERSION: &str = "brain.Event:2";
const START: u64 = 1;

/// How a field is written, the lower three bits of its key.
#[derive(Clone, Copy)]
enum Wire {
    Varint = 0,
    Fixed64 = 1,
    Bytes = 2,
    Fixed32 = 5,
}

/// The first event of a file.
pub(super) fn file_version(wall_time: f64) -> Vec<u8> {
    let mut event = Vec::new();
    put_f64(&mut event, 1, wall_time);
    put_bytes(&mut event, 3, FILE_VERSION.as_bytes());
    event
}

/// The values of some tags at a step.
pub(super) fn scalars(wall_time: f64, step: u64, values: &[(&str, f32)]) -> Vec<u8> {
    let mut summary = Vec::new();
    for (tag, value) in values {
        let mut message = Vec::new();
        put_bytes(&mut message, 1, tag.as_bytes());
        put_key(&mut message, 2, Wire::Fixed32);
        message.extend(value.to_le_bytes());
        put_bytes(&mut summary, 1, &message);
    }
    let mut event = at(wall_time, step);
    put_bytes(&mut event, 5, &summary);
    event
}

/// The run goes on at a step: what was told from there on does not count.
pub(super) fn session_start(wall_time: f64, step: u64) -> Vec<u8> {
    let mut log = Vec::new();
    put_key(&mut log, 1, Wire::Varint);
    put_varint(&mut log, START);
    let mut event = at(wall_time, step);
    put_bytes(&mut event, 7, &log);
    event
}

fn at(wall_time: f64, step: u64) -> Vec<u8> {
    let mut event = Vec::new();
    put_f64(&mut event, 1, wall_time);
    put_key(&mut event, 2, Wire::Varint);
    put_varint(&mut event, step);
    event
}

fn put_key(out: &mut Vec<u8>, field: u64, wire: Wire) {
    put_varint(out, field << 3 | wire as u64);
}

fn put_f64(out: &mut Vec<u8>, field: u64, value: f64) {
    put_key(out, field, Wire::Fixed64);
    out.extend(value.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_key(out, field, Wire::Bytes);
    put_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits a byte, the lowest first; the eighth says that more follow.
fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value > 127 {
        out.push((value & 127) as u8 | 128);
        value >>= 7;
    }
    out.push(value as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn varint_has_seven_bits_a_byte() {
        let varint = |value| {
            let mut out = Vec::new();
            put_varint(&mut out, value);
            out
        };
        assert_eq!(varint(0), [0]);
        assert_eq!(varint(127), [127]);
        assert_eq!(varint(300), [0b1010_1100, 0b10]);
        assert_eq!(varint(u64::MAX).len(), 10);
    }

    #[test]
    fn scalar_event_has_these_bytes() {
        let expected = [
            &[0x09][..],
            &1.5_f64.to_le_bytes(),
            &[0x10, 0x07, 0x2a, 0x0c, 0x0a, 0x0a, 0x0a, 0x03],
            b"abc",
            &[0x15],
            &0.25_f32.to_le_bytes(),
        ]
        .concat();
        assert_eq!(scalars(1.5, 7, &[("abc", 0.25)]), expected);
    }
}
