//! The machine that carries out a pickle's operations: a stack, a memo, and the arena of values.

use super::{Function, Halt, Id, MAX_OPEN, MAX_VALUES, Value};
use crate::weights::element::Element;
use crate::weights::error::shown;
use std::collections::HashMap;

/// A pickle and how far it was carried out.
pub(super) struct Machine<'p> {
    bytes: &'p [u8],
    pub(super) position: usize,
    pub(super) arena: Vec<Value<'p>>,
    stack: Vec<Id>,
    /// The heights of the stack where open tuples, lists and dicts began.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

/// The operations, by their letter or number in Python's `pickletools`.
impl<'p> Machine<'p> {
    pub(super) fn new(bytes: &'p [u8]) -> Self {
        Self { bytes, position: 0, arena: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Carries out the pickle up to its end; gives its result.
    pub(super) fn run(&mut self) -> Result<Id, Halt> {
        let protocol = match self.take(2)? {
            [0x80, protocol @ 2..=5] => *protocol,
            start => {
                return Err(Halt::malformed("a pickle of protocol 2 to 5", format!("\"{}\"", start.escape_ascii())));
            }
        };
        loop {
            match self.take(1)?[0] {
                b'.' => return self.pop(),
                0x95 if protocol >= 4 => drop(self.take(8)?), // a frame's length: a hint to readers of streams
                b'(' => self.mark()?,
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_to_mark()?),
                b'2' => self.push_again(self.top()?),

                b'N' => self.push(Value::Other)?,
                0x88 => self.push(Value::Bool(true))?,
                0x89 => self.push(Value::Bool(false))?,
                b'K' => self.integer::<1>(|b| i64::from(b[0]))?,
                b'M' => self.integer(|b| i64::from(u16::from_le_bytes(b)))?,
                b'J' => self.integer(|b| i64::from(i32::from_le_bytes(b)))?,
                0x8a => self.long()?,
                b'G' => self.skip_value(8)?,
                b'X' => self.text(4)?,
                0x8c => self.text(1)?,
                0x8d => self.text(8)?,
                b'T' => self.python2_text(4)?,
                b'U' => self.python2_text(1)?,
                b'B' => self.data(4)?,
                b'C' => self.data(1)?,
                0x8e | 0x96 => self.data(8)?,

                b')' => self.push(Value::Tuple(Vec::new()))?,
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.pop_to_mark()?;
                    self.push(Value::Tuple(items))?;
                }
                b']' => self.push(Value::List(Vec::new()))?,
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(&[item])?;
                }
                b'e' => {
                    let items = self.pop_to_mark()?;
                    self.extend_list(&items)?;
                }
                0x8f => self.push(Value::Other)?, // a set
                0x90 => drop(self.pop_to_mark()?),
                b'}' => self.push(Value::Dict(Vec::new()))?,
                b's' => {
                    let (value, key) = (self.pop()?, self.pop()?);
                    self.extend_dict(&[key, value])?;
                }
                b'u' => {
                    let items = self.pop_to_mark()?;
                    self.extend_dict(&items)?;
                }

                b'q' => self.memo_put(1)?,
                b'r' => self.memo_put(4)?,
                0x94 => {
                    let key = u32::try_from(self.memo.len()).unwrap_or(u32::MAX);
                    self.memoize(key)?;
                }
                b'h' => self.memo_get(1)?,
                b'j' => self.memo_get(4)?,

                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.function(module, name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?);
                    self.function(module, name)?;
                }
                b'Q' => self.persistent()?,
                b'R' | 0x81 => self.call()?,
                b'b' => self.set_state()?,
                other => {
                    return Err(Halt::malformed(
                        "an operation that torch.save or a pickle of arrays has",
                        format!("operation 0x{other:02x}"),
                    ));
                }
            }
        }
    }

    fn take(&mut self, count: usize) -> Result<&'p [u8], Halt> {
        let rest = &self.bytes[self.position..];
        let Some(taken) = rest.get(..count) else {
            return Err(Halt::malformed(format!("{count} more bytes"), format!("{} before the end", rest.len())));
        };
        self.position += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Halt> {
        self.take(N).map(|bytes| bytes.try_into().expect("take gives as many bytes as asked for"))
    }

    /// An unsigned little-endian number of this many bytes, at most 8.
    fn unsigned(&mut self, width: usize) -> Result<u64, Halt> {
        Ok(self.take(width)?.iter().rev().fold(0, |value, &byte| (value << 8) | u64::from(byte)))
    }

    /// As many bytes as a number of this width says.
    fn counted(&mut self, width: usize) -> Result<&'p [u8], Halt> {
        let len = self.unsigned(width)?;
        self.take(usize::try_from(len).unwrap_or(usize::MAX))
    }

    fn line(&mut self) -> Result<&'p str, Halt> {
        let rest = &self.bytes[self.position..];
        let len =
            rest.iter().position(|&byte| byte == b'\n').ok_or_else(|| Halt::malformed("a line", "no end of line"))?;
        let line = self.take(len + 1)?;
        utf8(&line[..len])
    }

    fn push(&mut self, value: Value<'p>) -> Result<(), Halt> {
        if self.arena.len() >= MAX_VALUES {
            return Err(Halt::malformed(format!("at most {MAX_VALUES} values"), "more"));
        }
        self.stack.push(self.arena.len() as Id);
        self.arena.push(value);
        Ok(())
    }

    fn push_again(&mut self, id: Id) {
        self.stack.push(id);
    }

    /// The value on top of the innermost open collection.
    fn top(&self) -> Result<Id, Halt> {
        let floor = self.marks.last().copied().unwrap_or(0);
        self.stack[floor..].last().copied().ok_or_else(|| Halt::malformed("a value on the stack", "none"))
    }

    fn pop(&mut self) -> Result<Id, Halt> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn mark(&mut self) -> Result<(), Halt> {
        if self.marks.len() >= MAX_OPEN {
            return Err(Halt::malformed(format!("collections nested at most {MAX_OPEN} deep"), "more"));
        }
        self.marks.push(self.stack.len());
        Ok(())
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, Halt> {
        let mark = self.marks.pop().ok_or_else(|| Halt::malformed("a mark on the stack", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn pop_text(&mut self) -> Result<&'p str, Halt> {
        let id = self.pop()?;
        match self.value(id) {
            Value::Text(text) => Ok(text),
            _ => Err(Halt::malformed("a text", "another value")),
        }
    }

    fn value(&self, id: Id) -> &Value<'p> {
        &self.arena[id as usize]
    }

    fn integer<const N: usize>(&mut self, convert: impl Fn([u8; N]) -> i64) -> Result<(), Halt> {
        let bytes = self.array()?;
        self.push(Value::Int(convert(bytes)))
    }

    /// A two's complement number of any length; one past 64 bits is no size.
    fn long(&mut self) -> Result<(), Halt> {
        let bytes = self.counted(1)?;
        let is_negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut extended = if is_negative { [0xff; 8] } else { [0; 8] };
        let value = match extended.get_mut(..bytes.len()) {
            Some(low) => {
                low.copy_from_slice(bytes);
                Value::Int(i64::from_le_bytes(extended))
            }
            None => Value::Other,
        };
        self.push(value)
    }

    fn text(&mut self, width: usize) -> Result<(), Halt> {
        let text = utf8(self.counted(width)?)?;
        self.push(Value::Text(text))
    }

    fn skip_value(&mut self, len: usize) -> Result<(), Halt> {
        self.take(len)?;
        self.push(Value::Other)
    }

    /// Python 2 has one type for texts and bytes.
    fn python2_text(&mut self, width: usize) -> Result<(), Halt> {
        let bytes = self.counted(width)?;
        self.push(std::str::from_utf8(bytes).map_or(Value::Bytes(bytes), Value::Text))
    }

    fn data(&mut self, width: usize) -> Result<(), Halt> {
        let bytes = self.counted(width)?;
        self.push(Value::Bytes(bytes))
    }

    fn tuple(&mut self, len: usize) -> Result<(), Halt> {
        let mut items = Vec::with_capacity(len);
        for _ in 0..len {
            items.push(self.pop()?);
        }
        items.reverse();
        self.push(Value::Tuple(items))
    }

    fn extend_list(&mut self, items: &[Id]) -> Result<(), Halt> {
        let list = self.top()?;
        match &mut self.arena[list as usize] {
            Value::List(list) => list.extend_from_slice(items),
            Value::Other => {}
            _ => return Err(Halt::malformed("a list to append to", "another value")),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: &[Id]) -> Result<(), Halt> {
        let (pairs, rest) = items.as_chunks::<2>();
        if !rest.is_empty() {
            return Err(Halt::malformed("keys with values", "a key alone"));
        }
        let dict = self.top()?;
        match &mut self.arena[dict as usize] {
            Value::Dict(dict) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Value::Other => {}
            _ => return Err(Halt::malformed("a dict to fill", "another value")),
        }
        Ok(())
    }

    fn memo_put(&mut self, width: usize) -> Result<(), Halt> {
        let key = self.unsigned(width)? as u32;
        self.memoize(key)
    }

    fn memoize(&mut self, key: u32) -> Result<(), Halt> {
        let top = self.top()?;
        if self.memo.len() >= MAX_VALUES {
            return Err(Halt::malformed(format!("at most {MAX_VALUES} values kept for later"), "more"));
        }
        self.memo.insert(key, top);
        Ok(())
    }

    fn memo_get(&mut self, width: usize) -> Result<(), Halt> {
        let key = self.unsigned(width)? as u32;
        let id = *self
            .memo
            .get(&key)
            .ok_or_else(|| Halt::malformed("a value kept for later", format!("none of number {key}")))?;
        self.push_again(id);
        Ok(())
    }

    fn function(&mut self, module: &str, name: &str) -> Result<(), Halt> {
        match Function::find(module, name) {
            Some(function) => self.push(Value::Function(function)),
            None => Err(Halt::ForeignCall(format!("{}.{}", shown(module), shown(name)))),
        }
    }

    /// `("storage", class, name, device, number of elements)`: a file of the archive.
    fn persistent(&mut self) -> Result<(), Halt> {
        let id = self.pop()?;
        let storage = match self.value(id) {
            Value::Tuple(items) => match items[..] {
                [tag, class, name, _device, len] => match [tag, class, name, len].map(|item| self.value(item)) {
                    [
                        Value::Text("storage"),
                        Value::Function(Function::StorageOf(element)),
                        Value::Text(name),
                        Value::Int(len),
                    ] => usize::try_from(*len).ok().map(|len| Value::Storage { element: *element, name, len }),
                    _ => None,
                },
                _ => None,
            },
            _ => None,
        };
        self.push(
            storage.ok_or_else(|| Halt::malformed("a storage's class, name, device and length", "something else"))?,
        )
    }

    /// The meaning of the functions of the list.
    fn call(&mut self) -> Result<(), Halt> {
        let (arguments, function) = (self.pop()?, self.pop()?);
        let Value::Function(function) = *self.value(function) else {
            return Err(Halt::malformed("a function to call", "another value"));
        };
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err(Halt::malformed("a tuple of arguments", "another value"));
        };
        match function {
            Function::OrderedDict if arguments.is_empty() => self.push(Value::Dict(Vec::new())),
            Function::OrderedDict => Err(Halt::malformed("an empty OrderedDict, filled later", "one with arguments")),
            Function::Inert => self.push(Value::Other),
            Function::EmptyBytes if arguments.is_empty() => self.push(Value::Bytes(&[])),
            Function::EmptyBytes => Err(Halt::malformed("no bytes at all", "a call with arguments")),
            Function::RebuildParameter => match arguments.first() {
                Some(&data) if matches!(self.value(data), Value::Tensor { .. }) => {
                    self.push_again(data);
                    Ok(())
                }
                _ => Err(Halt::malformed("a parameter's tensor", "something else")),
            },
            Function::RebuildTensor => {
                let tensor = match arguments[..] {
                    [storage, offset, shape, strides, ..] => match (self.value(storage), self.value(offset)) {
                        (Value::Storage { .. }, Value::Int(offset)) => usize::try_from(*offset)
                            .ok()
                            .map(|offset| Value::Tensor { storage, offset, shape, strides }),
                        _ => None,
                    },
                    _ => None,
                };
                self.push(tensor.ok_or_else(|| {
                    Halt::malformed("a tensor's storage, offset, shape and strides", "something else")
                })?)
            }
            Function::ArrayShell => self.push(Value::EmptyArray),
            Function::ArrayFromBuffer => {
                let array = match arguments[..] {
                    [data, dtype, shape, order] => match (self.value(dtype), self.value(order)) {
                        (&Value::Dtype(element), Value::Text(order)) => {
                            Some(Value::Array { element, shape, is_fortran: *order == "F", data })
                        }
                        _ => None,
                    },
                    _ => None,
                };
                self.push(
                    array
                        .ok_or_else(|| Halt::malformed("an array's bytes, type, shape and order", "something else"))?,
                )
            }
            Function::Dtype => {
                let element = arguments.first().and_then(|&code| match self.value(code) {
                    Value::Text(code) => Some(Element::of_numpy(code)),
                    _ => None,
                });
                self.push(Value::Dtype(element.ok_or_else(|| Halt::malformed("a type's code", "something else"))?))
            }
            Function::Encode => {
                let bytes = match arguments[..] {
                    [text, encoding] => match (self.value(text), self.value(encoding)) {
                        (&Value::Text(text), Value::Text("latin1" | "latin-1")) => Some(Value::Latin1(text)),
                        _ => None,
                    },
                    _ => None,
                };
                self.push(bytes.ok_or_else(|| Halt::malformed("a text to be encoded as latin1", "something else"))?)
            }
            Function::StorageOf(_) => Err(Halt::malformed("a storage as a file of the archive", "a call of its class")),
        }
    }

    /// The contents of an array, the byte order of its type, or the attributes of an object, such as a state dict's
    /// `_metadata`, which are of no use for weights.
    fn set_state(&mut self) -> Result<(), Halt> {
        let state = self.pop()?;
        let object = self.top()?;
        match self.value(object) {
            Value::Dict(_) | Value::Tensor { .. } | Value::Other => Ok(()),
            Value::Dtype(_) => self.check_byte_order(state),
            Value::EmptyArray => {
                let array = self.array_state(state).ok_or_else(|| {
                    Halt::malformed("an array's version, shape, type, order and bytes", "something else")
                })?;
                self.arena[object as usize] = array;
                Ok(())
            }
            _ => Err(Halt::malformed("an object to give attributes to", "another value")),
        }
    }

    /// `(version, byte order, ...)`, of a type.
    fn check_byte_order(&self, state: Id) -> Result<(), Halt> {
        let order = match self.value(state) {
            Value::Tuple(items) => items.get(1).map(|&order| self.value(order)),
            _ => None,
        };
        match order {
            Some(Value::Text("<" | "|")) => Ok(()),
            Some(Value::Text(order)) => {
                Err(Halt::malformed("elements in little endian", format!("order {}", shown(order))))
            }
            _ => Err(Halt::malformed("the byte order of a type", "something else")),
        }
    }

    /// `(version, shape, type, whether columns come first, bytes)`; arrays of objects have a list for their bytes.
    fn array_state(&self, state: Id) -> Option<Value<'p>> {
        let Value::Tuple(items) = self.value(state) else { return None };
        let [_version, shape, dtype, is_fortran, data] = items[..] else { return None };
        match (self.value(dtype), self.value(is_fortran)) {
            (&Value::Dtype(element), &Value::Bool(is_fortran)) => {
                Some(Value::Array { element, shape, is_fortran, data })
            }
            _ => None,
        }
    }
}

fn utf8(bytes: &[u8]) -> Result<&str, Halt> {
    std::str::from_utf8(bytes)
        .map_err(|_| Halt::malformed("text in UTF-8", format!("\"{}\"", bytes[..bytes.len().min(16)].escape_ascii())))
}
