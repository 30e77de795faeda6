//! What the names of a pickle stand for: tensors, storages and plain data.

use super::pickle::{Machine, PickleError, damaged};
use super::value::{Class, Id, LONGEST_NAME, TorchTensor, Value};

/// PyTorch's own limit.
const LARGEST_RANK: usize = 64;

impl Machine<'_> {
    pub(super) fn class(&mut self, module: &str, name: &str) -> Result<(), PickleError> {
        let foreign = || PickleError::Foreign(format!("{module}.{name}"));
        let class = Class::known(module, name).ok_or_else(foreign)?;
        self.push(Value::Class(class));
        Ok(())
    }

    /// `("storage", class, key, device, length)`, by which `torch.save` refers to a member of the
    /// archive.
    pub(super) fn storage(&mut self) -> Result<(), PickleError> {
        let id = self.pop()?;
        let (class, key) = match &self.values[id] {
            Value::Tuple(items) if items.len() == 5 => (items[1], items[2]),
            _ => return Err(damaged("it refers to something else than a storage")),
        };
        match (&self.values[class], &self.values[key]) {
            (Value::Class(Class::Storage(_)), Value::Text(key)) if key.len() > LONGEST_NAME => {
                Err(damaged("it refers to a storage by too long a name"))
            }
            (Value::Class(Class::Storage(value_type)), Value::Text(key)) => {
                let (value_type, key) = (value_type.clone(), key.to_string());
                self.push(Value::Storage { value_type, key });
                Ok(())
            }
            _ => Err(damaged("it refers to a storage without type or name")),
        }
    }

    /// What Python would call, of which only tensors and dicts are made.
    pub(super) fn call(&mut self) -> Result<(), PickleError> {
        let (arguments, class) = (self.pop()?, self.pop()?);
        let class = match &self.values[class] {
            Value::Class(class) => class.clone(),
            Value::Skipped => Class::Skipped,
            _ => return Err(damaged("it calls what is no class")),
        };
        match class {
            Class::Dict => self.push(Value::Dict(Vec::new())),
            Class::Skipped | Class::Storage(_) => self.push(Value::Skipped),
            Class::RebuildTensor => {
                let tensor = self.tensor(arguments)?;
                self.push(Value::Tensor(tensor));
            }
            Class::RebuildSubclass => match *self.items(arguments)? {
                [function, _, arguments, ..]
                    if matches!(self.values[function], Value::Class(Class::RebuildTensor)) =>
                {
                    let tensor = self.tensor(arguments)?;
                    self.push(Value::Tensor(tensor));
                }
                _ => return Err(damaged("it rebuilds a tensor in an unknown way")),
            },
            Class::RebuildParameter => match self.items(arguments)?.first() {
                Some(&tensor) => self.stack.push(tensor),
                None => return Err(damaged("it makes a parameter of nothing")),
            },
        }
        Ok(())
    }

    fn items(&self, id: Id) -> Result<&[Id], PickleError> {
        match &self.values[id] {
            Value::Tuple(items) => Ok(items),
            _ => Err(damaged("it calls with something else than a tuple")),
        }
    }

    fn tensor(&self, arguments: Id) -> Result<TorchTensor, PickleError> {
        let &[storage, offset, shape, strides, ..] = self.items(arguments)? else {
            return Err(damaged("it makes a tensor of too few arguments"));
        };
        let Value::Storage { value_type, key } = &self.values[storage] else {
            return Err(damaged("it makes a tensor without a storage"));
        };
        let sizes = |id: Id| -> Result<Vec<usize>, PickleError> {
            match self.items(id)? {
                items if items.len() > LARGEST_RANK => {
                    Err(damaged("it makes a tensor of too many dimensions"))
                }
                items => items.iter().map(|&id| self.size(id)).collect(),
            }
        };
        let (shape, strides) = (sizes(shape)?, sizes(strides)?);
        if shape.len() != strides.len() {
            return Err(damaged("it makes a tensor whose shape and strides differ in length"));
        }
        let (value_type, storage) = (value_type.clone(), key.clone());
        Ok(TorchTensor { value_type, storage, offset: self.size(offset)?, shape, strides })
    }

    fn size(&self, id: Id) -> Result<usize, PickleError> {
        let Value::Int(number) = self.values[id] else {
            return Err(damaged("it gives a size that is no whole number"));
        };
        usize::try_from(number)
            .map_err(|_negative| PickleError::Damaged(format!("it gives {number} as a size")))
    }
}
