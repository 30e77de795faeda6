//! Pickles of `torch.save`, read without making a single Python object.
//!
//! A pickle is a program for a small stack machine. This one knows the instructions that build
//! plain data, and the few names that describe tensors; any other name is refused before
//! something is done with it. Values are in one list and refer to each other by index, so that
//! neither sharing nor nesting can blow them up: there are never more than instructions.

use std::collections::HashMap;

use super::reader::Reader;
use super::value::{Id, Value};

/// Why a pickle was refused.
#[derive(Debug)]
pub(super) enum PickleError {
    /// It names a Python class that has nothing to do with weights.
    Foreign(String),
    Damaged(String),
}

/// The values of a pickle and the one that it is about.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, PickleError> {
        let mut machine = Machine { reader: Reader::new(bytes), ..Machine::default() };
        while machine.step()? {}
        let root = machine.pop()?;
        Ok(Self { values: machine.values, root })
    }

    pub(super) fn root(&self) -> Id {
        self.root
    }

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id]
    }
}

pub(super) struct Machine<'a> {
    reader: Reader<'a>,
    pub(super) values: Vec<Value<'a>>,
    pub(super) stack: Vec<Id>,
    /// Lengths that the stack had at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Id>,
}

impl Default for Machine<'_> {
    fn default() -> Self {
        Self {
            reader: Reader::new(&[]),
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        }
    }
}

pub(super) fn damaged(reason: &str) -> PickleError {
    PickleError::Damaged(reason.to_owned())
}

impl<'a> Machine<'a> {
    pub(super) fn push(&mut self, value: Value<'a>) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    pub(super) fn pop(&mut self) -> Result<Id, PickleError> {
        // What is below a mark belongs to the list that is being built there.
        if self.marks.last().is_some_and(|&mark| self.stack.len() <= mark) {
            return Err(damaged("it takes a mark for a value"));
        }
        self.stack.pop().ok_or_else(|| damaged("it takes a value that is not there"))
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, PickleError> {
        let mark = self.marks.pop().ok_or_else(|| damaged("it takes a mark that is not there"))?;
        Ok(self.stack.split_off(mark))
    }

    fn top(&mut self) -> Result<&mut Value<'a>, PickleError> {
        let id = *self.stack.last().ok_or_else(|| damaged("it fills a value that is not there"))?;
        Ok(&mut self.values[id])
    }

    fn remember(&mut self, slot: u64) -> Result<(), PickleError> {
        let id = *self.stack.last().ok_or_else(|| damaged("it keeps a value that is not there"))?;
        self.memo.insert(slot, id);
        Ok(())
    }

    fn recall(&mut self, slot: u64) -> Result<(), PickleError> {
        let id = *self.memo.get(&slot).ok_or_else(|| damaged("it recalls what it did not keep"))?;
        self.stack.push(id);
        Ok(())
    }

    /// One instruction; false for the last. The letters are those of Python's `pickletools`.
    fn step(&mut self) -> Result<bool, PickleError> {
        match self.reader.byte()? {
            0x80 => drop(self.reader.byte()?),
            0x95 => drop(self.reader.take(8)?),
            b'.' => return Ok(false),
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b')' => self.push(Value::Tuple(Vec::new())),
            0x85 => self.tuple(1)?,
            0x86 => self.tuple(2)?,
            0x87 => self.tuple(3)?,
            b't' => {
                let items = self.pop_to_mark()?;
                self.push(Value::Tuple(items));
            }
            b']' => self.push(Value::List(Vec::new())),
            b'a' => {
                let item = self.pop()?;
                self.append(vec![item])?;
            }
            b'e' => {
                let items = self.pop_to_mark()?;
                self.append(items)?;
            }
            b'}' => self.push(Value::Dict(Vec::new())),
            b's' => {
                let value = self.pop()?;
                let key = self.pop()?;
                self.set_items(&[key, value])?;
            }
            b'u' => {
                let items = self.pop_to_mark()?;
                self.set_items(&items)?;
            }
            b'q' => {
                let slot = self.reader.unsigned(1)?;
                self.remember(slot)?;
            }
            b'r' => {
                let slot = self.reader.unsigned(4)?;
                self.remember(slot)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let slot = self.reader.unsigned(1)?;
                self.recall(slot)?;
            }
            b'j' => {
                let slot = self.reader.unsigned(4)?;
                self.recall(slot)?;
            }
            b'c' => {
                let (module, name) = (self.reader.line()?, self.reader.line()?);
                self.class(&module, &name)?;
            }
            0x93 => {
                let (name, module) = (self.pop()?, self.pop()?);
                let text = |id: Id| match &self.values[id] {
                    Value::Text(text) => Ok(text.to_string()),
                    _ => Err(damaged("it names a class by something else than text")),
                };
                let (module, name) = (text(module)?, text(name)?);
                self.class(&module, &name)?;
            }
            b'Q' => self.storage()?,
            b'R' | 0x81 => self.call()?,
            // The state of a dict is its metadata, that of anything else is skipped with it.
            b'b' => drop(self.pop()?),
            other => self.plain(other)?,
        }
        Ok(true)
    }

    /// An instruction that makes a number, a text or nothing of interest.
    fn plain(&mut self, instruction: u8) -> Result<(), PickleError> {
        match instruction {
            b'N' | 0x88 | 0x89 => self.push(Value::Skipped),
            b'K' => self.unsigned(1)?,
            b'M' => self.unsigned(2)?,
            b'J' => {
                let number = self.reader.unsigned(4)? as u32;
                self.push(Value::Int(i64::from(number.cast_signed())));
            }
            0x8a => self.long()?,
            b'G' => self.skip(8)?,
            b'X' => self.text(4)?,
            0x8c => self.text(1)?,
            b'U' | b'C' => self.skip_bytes(1)?,
            b'T' | b'B' => self.skip_bytes(4)?,
            other => {
                let reason = format!("its instruction {other:#04x} is not one of torch.save");
                return Err(PickleError::Damaged(reason));
            }
        }
        Ok(())
    }

    fn unsigned(&mut self, n_bytes: usize) -> Result<(), PickleError> {
        let number = self.reader.unsigned(n_bytes)?;
        self.push(Value::Int(number as i64));
        Ok(())
    }

    /// A whole number of any length; those of more than 64 bits are no shapes.
    fn long(&mut self) -> Result<(), PickleError> {
        let n_bytes = self.reader.length(1)?;
        let bytes = self.reader.take(n_bytes)?;
        let value = if n_bytes <= 8 {
            let is_negative = bytes.last().is_some_and(|&byte| byte >= 0x80);
            let mut extended = [if is_negative { 0xff } else { 0 }; 8];
            extended[..n_bytes].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(extended))
        } else {
            Value::Skipped
        };
        self.push(value);
        Ok(())
    }

    fn skip(&mut self, n_bytes: usize) -> Result<(), PickleError> {
        self.reader.take(n_bytes)?;
        self.push(Value::Skipped);
        Ok(())
    }

    fn skip_bytes(&mut self, n_bytes: usize) -> Result<(), PickleError> {
        let length = self.reader.length(n_bytes)?;
        self.skip(length)
    }

    fn text(&mut self, n_bytes: usize) -> Result<(), PickleError> {
        let text = self.reader.text(n_bytes)?;
        self.push(Value::Text(text));
        Ok(())
    }

    fn tuple(&mut self, length: usize) -> Result<(), PickleError> {
        let mut items = Vec::with_capacity(length);
        for _ in 0..length {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn append(&mut self, items: Vec<Id>) -> Result<(), PickleError> {
        match self.top()? {
            Value::List(list) => list.extend(items),
            Value::Skipped => {}
            _ => return Err(damaged("it appends to what is no list")),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Id]) -> Result<(), PickleError> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(damaged("it sets a key without a value"));
        };
        match self.top()? {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Skipped => {}
            _ => return Err(damaged("it sets an item of what is no dict")),
        }
        Ok(())
    }
}
