//! The part of Python's pickle that files of tensors are written in.
//!
//! A pickle is a program for a stack machine that can name any function of any Python module and call it. This machine
//! calls nothing: it knows the few globals of a state dict and refuses every other by name. All values lie in one list
//! and refer to each other by index, so that shared, deep or circular values cost no more than the bytes that made them.

use std::collections::HashMap;

/// A value's place in [`Pickle::values`].
pub(super) type Id = usize;

/// Type of the numbers in a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    F64,
    F32,
    F16,
    BF16,
    I64,
    I32,
    I16,
    U8,
}

/// The globals that are known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

impl Global {
    fn find(module: &str, name: &str) -> Result<Self, String> {
        let storage = |kind| Ok(Self::Storage(kind));
        match (module, name) {
            ("collections", "OrderedDict") => Ok(Self::OrderedDict),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Ok(Self::RebuildTensor),
            ("torch._utils", "_rebuild_parameter") => Ok(Self::RebuildParameter),
            ("torch", "DoubleStorage") => storage(Kind::F64),
            ("torch", "FloatStorage") => storage(Kind::F32),
            ("torch", "HalfStorage") => storage(Kind::F16),
            ("torch", "BFloat16Storage") => storage(Kind::BF16),
            ("torch", "LongStorage") => storage(Kind::I64),
            ("torch", "IntStorage") => storage(Kind::I32),
            ("torch", "ShortStorage") => storage(Kind::I16),
            ("torch", "ByteStorage" | "BoolStorage") => storage(Kind::U8),
            _ => Err(format!("it refers to {module}.{name}, which a file of tensors does not need")),
        }
    }
}

/// What a pickle is made of.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    None,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    /// An integer beyond 64 bits, little-endian two's complement.
    Big(Vec<u8>),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Global(Global),
    /// What the pickle says lies elsewhere; here always a tuple.
    Persistent(Id),
    /// A tensor: the arguments of the function that rebuilds it.
    Tensor(Vec<Id>),
}

/// A pickle that was run to its end.
#[derive(Debug)]
pub(super) struct Pickle {
    values: Vec<Value>,
    root: Id,
    /// Bytes that it took.
    pub length: usize,
}

impl Pickle {
    /// Runs the pickle at the start of `bytes`.
    ///
    /// # Errors
    /// If it is cut short, not well formed, or does what a file of tensors does not need.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let mut machine = Machine { bytes, at: 0, values: vec![], stack: vec![], marks: vec![], memo: HashMap::new() };
        let root = machine.run().map_err(|what| format!("pickle, byte {}: {what}", machine.at))?;
        Ok(Self { values: machine.values, root, length: machine.at })
    }

    /// The result.
    pub fn root(&self) -> &Value {
        self.get(self.root)
    }

    /// A value.
    pub fn get(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    /// The entry `key` of a dict.
    pub fn entry(&self, dict: &Value, key: &str) -> Option<&Value> {
        let Value::Dict(entries) = dict else { return None };
        let found = entries.iter().rev().find(|(k, _)| matches!(self.get(*k), Value::Text(text) if text == key));
        found.map(|(_, value)| self.get(*value))
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    values: Vec<Value>,
    stack: Vec<Id>,
    /// Heights of the stack.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl Machine<'_> {
    fn run(&mut self) -> Result<Id, String> {
        loop {
            let op = self.byte()?;
            match op {
                b'.' => return self.pop(),
                0x80 => match self.byte()? {
                    0..=5 => {}
                    version => return Err(format!("protocol {version} is not known")),
                },
                // FRAME: its length helps only readers of streams.
                0x95 => {
                    self.take(8)?;
                }
                b'(' => self.marks.push(self.stack.len()),
                b'c' => {
                    let (module, name) = (self.line()?, self.line()?);
                    self.push(Value::Global(Global::find(&module, &name)?));
                }
                0x93 => {
                    let (name, module) = (self.pop_text()?, self.pop_text()?);
                    self.push(Value::Global(Global::find(&module, &name)?));
                }
                b'R' => self.reduce()?,
                b'Q' => {
                    let id = self.pop()?;
                    self.push(Value::Persistent(id));
                }
                b'b' => self.build()?,
                b'q' | b'r' | 0x94 | b'h' | b'j' => self.memo_op(op)?,
                b'a' | b'e' | b's' | b'u' => self.fill(op)?,
                b')' | b't' | 0x85..=0x87 => {
                    let items = match op {
                        b')' => vec![],
                        b't' => self.pop_to_mark()?,
                        _ => self.pop_n(usize::from(op - 0x84))?,
                    };
                    self.push(Value::Tuple(items));
                }
                _ => {
                    let value = self.literal(op)?;
                    self.push(value);
                }
            }
        }
    }

    /// Opcodes that push a value of their own.
    fn literal(&mut self, op: u8) -> Result<Value, String> {
        Ok(match op {
            b'N' => Value::None,
            0x88 => Value::Bool(true),
            0x89 => Value::Bool(false),
            b'K' => Value::Int(self.byte()?.into()),
            b'M' => Value::Int(u16::from_le_bytes(self.array()?).into()),
            b'J' => Value::Int(i32::from_le_bytes(self.array()?).into()),
            b'G' => Value::Float(f64::from_be_bytes(self.array()?)),
            0x8a => {
                let n = self.byte()?.into();
                integer(self.take(n)?)
            }
            b'X' | b'T' => {
                let n = u32::from_le_bytes(self.array()?) as usize;
                self.text(n)?
            }
            0x8c | b'U' => {
                let n = self.byte()?.into();
                self.text(n)?
            }
            0x8d => match usize::try_from(u64::from_le_bytes(self.array()?)) {
                Ok(n) => self.text(n)?,
                Err(_) => return Err("a text is longer than memory".into()),
            },
            b']' => Value::List(vec![]),
            b'}' => Value::Dict(vec![]),
            _ => return Err(format!("opcode {op:#04x} is not one that files of tensors use")),
        })
    }

    fn memo_op(&mut self, op: u8) -> Result<(), String> {
        let key = match op {
            b'q' | b'h' => u32::from(self.byte()?),
            0x94 => u32::try_from(self.memo.len()).unwrap_or(u32::MAX),
            _ => u32::from_le_bytes(self.array()?),
        };
        if matches!(op, b'h' | b'j') {
            let id = *self.memo.get(&key).ok_or_else(|| format!("memo {key} is empty"))?;
            self.stack.push(id);
        } else {
            let id = *self.stack.last().ok_or(EMPTY)?;
            self.memo.insert(key, id);
        }
        Ok(())
    }

    /// Puts items from the stack into the list or dict below them.
    fn fill(&mut self, op: u8) -> Result<(), String> {
        let items = match op {
            b'a' => self.pop_n(1)?,
            b's' => self.pop_n(2)?,
            _ => self.pop_to_mark()?,
        };
        let into = *self.stack.last().ok_or(EMPTY)?;
        match (&mut self.values[into], op) {
            (Value::List(list), b'a' | b'e') => list.extend(items),
            (Value::Dict(dict), b's' | b'u') => match items.as_chunks::<2>() {
                (pairs, []) => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
                _ => return Err("a key without a value".into()),
            },
            _ => return Err("items for something that holds none".into()),
        }
        Ok(())
    }

    /// Calls, as far as that is needed: makes an empty dict or notes a tensor.
    fn reduce(&mut self) -> Result<(), String> {
        let (args, function) = (self.pop()?, self.pop()?);
        let Value::Tuple(args) = &self.values[args] else { return Err("a call without a tuple of arguments".into()) };
        let args = args.clone();
        let made = match self.values[function] {
            Value::Global(Global::OrderedDict) if args.is_empty() => Value::Dict(vec![]),
            Value::Global(Global::RebuildTensor) => Value::Tensor(args),
            // data, requires_grad, hooks
            Value::Global(Global::RebuildParameter) => {
                let data = *args.first().ok_or("a parameter without data")?;
                self.stack.push(data);
                return Ok(());
            }
            Value::Global(_) => return Err("a call that files of tensors do not make".into()),
            _ => return Err("a call of something that is no function".into()),
        };
        self.push(made);
        Ok(())
    }

    /// Attributes of an object (`_metadata` of a state dict), which no tensor depends on.
    fn build(&mut self) -> Result<(), String> {
        self.pop()?;
        match self.stack.last().map(|&id| &self.values[id]) {
            Some(Value::Dict(_)) => Ok(()),
            Some(_) => Err("attributes for something other than a dict".into()),
            None => Err(EMPTY.into()),
        }
    }

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The lowest height that may be popped to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Result<Id, String> {
        if self.stack.len() <= self.floor() {
            return Err(EMPTY.into());
        }
        self.stack.pop().ok_or_else(|| EMPTY.into())
    }

    fn pop_n(&mut self, n: usize) -> Result<Vec<Id>, String> {
        match self.stack.len().checked_sub(n) {
            Some(from) if from >= self.floor() => Ok(self.stack.split_off(from)),
            _ => Err(EMPTY.into()),
        }
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let from = self.marks.pop().ok_or("there is no mark")?;
        if from > self.stack.len() { Err(EMPTY.into()) } else { Ok(self.stack.split_off(from)) }
    }

    fn pop_text(&mut self) -> Result<String, String> {
        let id = self.pop()?;
        match &self.values[id] {
            Value::Text(text) => Ok(text.clone()),
            _ => Err("a name that is no text".into()),
        }
    }

    fn take(&mut self, n: usize) -> Result<&[u8], String> {
        let end = self.at.checked_add(n).filter(|&end| end <= self.bytes.len()).ok_or("it is cut short")?;
        let taken = &self.bytes[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        self.take(N)?.try_into().map_err(|_| "it is cut short".into())
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn line(&mut self) -> Result<String, String> {
        let n = self.bytes[self.at..].iter().position(|&b| b == b'\n').ok_or("it is cut short")?;
        let line = String::from_utf8(self.take(n)?.to_vec()).map_err(|_| "a name is not UTF-8")?;
        self.at += 1;
        Ok(line)
    }

    fn text(&mut self, n: usize) -> Result<Value, String> {
        String::from_utf8(self.take(n)?.to_vec()).map(Value::Text).map_err(|_| "a text is not UTF-8".into())
    }
}

const EMPTY: &str = "the stack is empty";

/// A little-endian integer in two's complement of any length.
fn integer(bytes: &[u8]) -> Value {
    if bytes.len() > 8 {
        return Value::Big(bytes.to_vec());
    }
    let negative = bytes.last().is_some_and(|b| b & 0x80 != 0);
    let mut wide = if negative { [0xff; 8] } else { [0; 8] };
    wide[..bytes.len()].copy_from_slice(bytes);
    Value::Int(i64::from_le_bytes(wide))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn say(bytes: &[u8]) -> String {
        Pickle::read(bytes).unwrap_err()
    }

    #[test]
    fn literals_and_containers() {
        let p =
            Pickle::read(b"\x80\x02}q\x00(X\x01\x00\x00\x00aJ\xff\xff\xff\xffX\x01\x00\x00\x00bK\x07\x89\x86u.rest")
                .unwrap();
        assert_eq!(p.entry(p.root(), "a"), Some(&Value::Int(-1)));
        let Some(Value::Tuple(items)) = p.entry(p.root(), "b") else { panic!("{p:?}") };
        assert_eq!([p.get(items[0]), p.get(items[1])], [&Value::Int(7), &Value::Bool(false)]);
        assert_eq!(p.entry(p.root(), "c"), None);
        assert_eq!(p.length, 29);
        assert_eq!(integer(&[0x00, 0xff]), Value::Int(-256));
        assert_eq!(integer(&[0x80, 0x00]), Value::Int(128));
        assert_eq!(integer(&[]), Value::Int(0));
    }

    #[test]
    fn values_are_shared_through_the_memo() {
        // [x, x] with x = [1]
        let p = Pickle::read(b"](]q\x05h\x05K\x01ae.").unwrap();
        let Value::List(items) = p.root() else { panic!("{p:?}") };
        assert_eq!(items[0], items[1]);
        assert!(matches!(p.get(items[0]), Value::List(of) if of.len() == 1));
    }

    #[test]
    fn foreign_globals_are_refused_by_name() {
        assert!(say(b"cos\nsystem\n(X\x02\x00\x00\x00lstR.").contains("os.system"));
        assert!(say(b"\x8c\x08builtins\x8c\x04eval\x93.").contains("builtins.eval"));
        assert!(say(b"ctorch\nFloatStorage\n)R.").contains("a call that files of tensors do not make"));
        assert!(say(b"ccollections\nOrderedDict\n)R)R.").contains("no function"));
    }

    #[test]
    fn broken_programs_say_where() {
        for (bytes, what) in [
            (&b""[..], "byte 0: it is cut short"),
            (b".", "the stack is empty"),
            (b"K\x010.", "opcode 0x30"),
            (b"K\x01(.", "the stack is empty"),
            (b"t.", "no mark"),
            (b"}(K\x01u.", "a key without a value"),
            (b"K\x01K\x02a.", "holds none"),
            (b"h\x09.", "memo 9 is empty"),
            (b"\x80\x09.", "protocol 9"),
            (b"X\xff\xff\xff\xffabc.", "cut short"),
            (b"X\x01\x00\x00\x00\xff.", "not UTF-8"),
            (b"K\x01)b.", "other than a dict"),
            (b"cos", "cut short"),
        ] {
            assert!(say(bytes).contains(what), "{what}: {}", say(bytes));
        }
    }

    #[test]
    fn deep_and_circular_values_cost_what_their_bytes_cost() {
        let mut deep = vec![b')'];
        deep.extend(std::iter::repeat_n(0x85, 2_000_000));
        deep.push(b'.');
        assert!(Pickle::read(&deep).is_ok());
        assert!(Pickle::read(b"]q\x00h\x00a.").is_ok());
    }
}
