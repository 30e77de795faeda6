//! What a pickle of `torch.save` is made of, and which Python classes it may name.

use std::borrow::Cow;

use crate::weights::stored::ValueType;

/// Index of a value; whatever refers to it twice holds the same index, so that nothing is copied.
pub(super) type Id = usize;

/// Bytes that the name of a tensor or a storage may have, as it is copied wherever it is used.
pub(super) const LONGEST_NAME: usize = 256;

/// An object of the pickle.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Int(i64),
    Text(Cow<'a, str>),
    Class(Class),
    Tuple(Vec<Id>),
    List(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Storage {
        value_type: ValueType,
        key: String,
    },
    Tensor(TorchTensor),
    /// Plain data of which nothing is needed.
    Skipped,
}

/// A tensor as PyTorch describes it; offset and strides in values.
#[derive(Clone, Debug)]
pub(super) struct TorchTensor {
    pub(super) value_type: ValueType,
    /// Name of the member of the archive that holds the values.
    pub(super) storage: String,
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
}

/// What calling a class or function of Python would make.
#[derive(Clone, Debug)]
pub(super) enum Class {
    /// A tensor out of a storage, an offset, a shape and strides.
    RebuildTensor,
    /// The same out of a function, a class, its arguments and a state.
    RebuildSubclass,
    /// The tensor that is its first argument.
    RebuildParameter,
    Storage(ValueType),
    Dict,
    /// Plain data that stands beside weights in real checkpoints; none of it is made.
    Skipped,
}

/// Classes whose objects are skipped: hyperparameters, counters, versions and the like.
const BYSTANDERS: &[&str] = &[
    "_codecs.encode",
    "argparse.Namespace",
    "numpy._core.multiarray._reconstruct",
    "numpy._core.multiarray.scalar",
    "numpy.core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy.dtype",
    "numpy.ndarray",
    "pathlib.Path",
    "pathlib.PosixPath",
    "pathlib.PurePosixPath",
    "torch.Size",
    "torch.Tensor",
    "torch.device",
    "torch.nn.parameter.Parameter",
];

/// Those of the module that is called `builtins` in Python 3 and `__builtin__` in its pickles of
/// protocol 2.
const BUILTINS: &[&str] = &[
    "bool",
    "bytearray",
    "complex",
    "dict",
    "float",
    "frozenset",
    "int",
    "list",
    "long",
    "set",
    "slice",
    "str",
    "tuple",
];

impl Class {
    /// The class of that module and name, or nothing where it is foreign.
    pub(super) fn known(module: &str, name: &str) -> Option<Self> {
        let full = format!("{module}.{name}");
        let class = match full.as_str() {
            "torch._utils._rebuild_tensor_v2" => Self::RebuildTensor,
            "torch._tensor._rebuild_from_type_v2" => Self::RebuildSubclass,
            "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state" => {
                Self::RebuildParameter
            }
            "collections.OrderedDict" | "collections.defaultdict" | "collections.Counter" => {
                Self::Dict
            }
            _ if module == "torch" && name.ends_with("Storage") => {
                Self::Storage(storage_type(name))
            }
            _ if BYSTANDERS.contains(&full.as_str()) => Self::Skipped,
            _ if ["builtins", "__builtin__"].contains(&module) && BUILTINS.contains(&name) => {
                Self::Skipped
            }
            _ if module == "torch" && is_dtype(name) => Self::Skipped,
            _ => return None,
        };
        Some(class)
    }
}

fn storage_type(name: &str) -> ValueType {
    use candle_core::DType;
    match name {
        "HalfStorage" => ValueType::Float(DType::F16),
        "BFloat16Storage" => ValueType::Float(DType::BF16),
        "FloatStorage" => ValueType::Float(DType::F32),
        "DoubleStorage" => ValueType::Float(DType::F64),
        other => ValueType::Other(other.trim_end_matches("Storage").to_owned()),
    }
}

/// Whether a name of the module torch is that of a type of values, such as `bfloat16`.
fn is_dtype(name: &str) -> bool {
    let kinds = ["bfloat", "bool", "complex", "float", "int", "uint"];
    let digits = kinds.iter().find_map(|kind| name.strip_prefix(kind));
    digits.is_some_and(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
}
