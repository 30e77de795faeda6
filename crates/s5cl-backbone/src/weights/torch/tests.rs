//! Pickles that are damaged, foreign or hostile.

use super::pickle::{Pickle, PickleError};
use super::value::Value;

/// A pickle of protocol 2 out of instructions.
fn pickle(instructions: &[&[u8]]) -> Vec<u8> {
    [&[0x80, 2][..], &instructions.concat(), b"."].concat()
}

fn text(text: &str) -> Vec<u8> {
    [&[b'X'][..], &(text.len() as u32).to_le_bytes(), text.as_bytes()].concat()
}

fn damage(bytes: &[u8]) -> String {
    match Pickle::read(bytes) {
        Err(PickleError::Damaged(reason)) => reason,
        other => panic!("{bytes:?} is not refused as damaged: {other:?}"),
    }
}

#[test]
fn pickle_of_plain_data_is_read() {
    let entry = [text("a"), vec![b'K', 7]].concat();
    let bytes = pickle(&[b"}q\x00", &entry, b"s"]);
    let pickle = Pickle::read(&bytes).unwrap();
    let Value::Dict(entries) = pickle.value(pickle.root()) else { panic!("{pickle:?}") };
    let &[(key, value)] = entries.as_slice() else { panic!("{pickle:?}") };
    assert!(matches!(pickle.value(key), Value::Text(key) if key == "a"));
    assert!(matches!(pickle.value(value), Value::Int(7)));
}

#[test]
fn pickle_numbers_have_their_sign() {
    for (instructions, expected) in [
        (&b"J\xff\xff\xff\xff"[..], -1),
        (b"M\x00\x01", 256),
        (b"\x8a\x01\xfe", -2),
        (b"\x8a\x02\x00\x01", 256),
        (b"\x8a\x00", 0),
    ] {
        let bytes = pickle(&[instructions]);
        let pickle = Pickle::read(&bytes).unwrap();
        let value = pickle.value(pickle.root());
        assert!(matches!(value, Value::Int(number) if *number == expected), "{value:?}");
    }
}

#[test]
fn pickle_that_is_damaged_is_refused() {
    let whole = pickle(&[b"}q\x00(", &text("a"), b"K\x07u"]);
    for length in 0..whole.len() {
        damage(&whole[..length]);
    }
    for instructions in [
        &b""[..],
        b"t",
        b"(0",
        b"h\x05",
        b"K\x01a",
        b"]K\x01K\x02s",
        b"}(K\x01u",
        b"K\x01Q",
        b"K\x01)R",
        b"ccollections\nOrderedDict\nK\x01R)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n)R",
        b"ctorch._utils\n_rebuild_parameter\n)R",
        b"ctorch._tensor\n_rebuild_from_type_v2\n)R",
        b"ctorch._utils\n_rebuild_tensor_v2\n(K\x01K\x01))tR",
        b"i",
    ] {
        damage(&pickle(&[instructions]));
    }
    assert!(damage(&pickle(&[b"X\xff\xff\xff\xff"])).contains("cut off"));
}

#[test]
fn pickle_of_a_foreign_class_is_refused_by_name() {
    let stack_global = [text("os"), text("system"), vec![0x93]].concat();
    for instructions in [&b"cos\nsystem\n"[..], &stack_global] {
        let refused = Pickle::read(&pickle(&[instructions])).unwrap_err();
        assert!(matches!(refused, PickleError::Foreign(class) if class == "os.system"));
    }
    for foreign in ["__builtin__\neval", "builtins\ngetattr", "torch\nload", "torch\nfloatx"] {
        let refused = Pickle::read(&pickle(&[b"c", foreign.as_bytes(), b"\n"])).unwrap_err();
        assert!(matches!(refused, PickleError::Foreign(_)), "{foreign}: {refused:?}");
    }
    for known in ["torch\nfloat32", "torch\nBoolStorage", "argparse\nNamespace", "numpy\ndtype"] {
        Pickle::read(&pickle(&[b"c", known.as_bytes(), b"\n"])).unwrap();
    }
}

#[test]
fn pickle_that_doubles_itself_stays_small() {
    // Each tuple holds the one before twice: 2^60 values for a reader that copies.
    let mut instructions = b")q\x00".to_vec();
    for _ in 0..60 {
        instructions.extend(b"h\x00h\x00\x86q\x00");
    }
    let bytes = pickle(&[&instructions]);
    let pickle = Pickle::read(&bytes).unwrap();
    assert!(matches!(pickle.value(pickle.root()), Value::Tuple(items) if items.len() == 2));
}
