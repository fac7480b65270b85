//! MATLAB's file format, version 5, as far as lists of records with texts and numbers need it.

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;

use flate2::read::ZlibDecoder;

use super::DataError;

/// Most bytes that one compressed variable may unfold to.
const MOST: u64 = 256 << 20;
/// How deeply lists may lie in lists.
const DEPTH: usize = 8;

/// A variable or a part of one.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    /// A row of characters.
    Text(String),
    /// A number by itself.
    Number(f64),
    /// A cell array.
    List(Vec<Value>),
    /// An array of structures.
    Records(Vec<HashMap<String, Value>>),
    /// Anything else.
    Other,
}

/// The variables of a file.
pub(super) fn read(path: &Path) -> Result<HashMap<String, Value>, DataError> {
    let bytes = std::fs::read(path).map_err(DataError::io(path))?;
    let parsed = match bytes.get(..128) {
        Some(head) if head[126..] == *b"IM" => variables(&bytes[128..]),
        _ => Err("expected a MATLAB 5 file of little-endian order".into()),
    };
    parsed.map_err(|problem: String| DataError::layout(path, problem))
}

fn variables(mut rest: &[u8]) -> Result<HashMap<String, Value>, String> {
    let mut found = HashMap::new();
    while !rest.is_empty() {
        let element = Element::take(&mut rest)?;
        let matrix = match element.kind {
            COMPRESSED => {
                let mut unfolded = Vec::new();
                let mut decoder = ZlibDecoder::new(element.data).take(MOST);
                decoder.read_to_end(&mut unfolded).map_err(|e| e.to_string())?;
                let mut inner = &unfolded[..];
                let element = Element::take(&mut inner)?;
                if element.kind != MATRIX { None } else { Some(matrix(element.data, 0)?) }
            }
            MATRIX => Some(matrix(element.data, 0)?),
            _ => None,
        };
        found.extend(matrix);
    }
    Ok(found)
}

const MATRIX: u32 = 14;
const COMPRESSED: u32 = 15;

/// A tagged run of bytes.
struct Element<'a> {
    kind: u32,
    data: &'a [u8],
}

impl<'a> Element<'a> {
    /// Takes one element and the bytes that fill it up to a multiple of 8; compressed ones are not filled up.
    fn take(rest: &mut &'a [u8]) -> Result<Self, String> {
        let word = |at: usize| -> Result<u32, String> {
            let bytes = rest.get(at..at + 4).ok_or("cut short")?;
            Ok(u32::from_le_bytes(std::array::from_fn(|k| bytes[k])))
        };
        let first = word(0)?;
        // Up to four bytes are kept within the tag itself.
        let (kind, start, len, end) = match first >> 16 {
            0 => {
                let len = word(4)? as usize;
                (first, 8, len, if first == COMPRESSED { 8 + len } else { 8 + len.next_multiple_of(8) })
            }
            small => (first & 0xffff, 4, small as usize, 8),
        };
        let data = rest.get(start..start + len).ok_or("cut short")?;
        *rest = rest.get(end..).unwrap_or_default();
        Ok(Self { kind, data })
    }

    /// Its numbers, whatever width they are kept in.
    fn numbers(&self) -> Result<Vec<f64>, String> {
        fn parse<const N: usize>(data: &[u8], f: impl Fn([u8; N]) -> f64) -> Vec<f64> {
            data.chunks_exact(N).map(|c| f(std::array::from_fn(|k| c[k]))).collect()
        }
        Ok(match self.kind {
            1 => parse(self.data, |b: [u8; 1]| i8::from_le_bytes(b).into()),
            2 | 16 => parse(self.data, |b: [u8; 1]| b[0].into()),
            3 => parse(self.data, |b| i16::from_le_bytes(b).into()),
            4 | 17 => parse(self.data, |b| u16::from_le_bytes(b).into()),
            5 => parse(self.data, |b| i32::from_le_bytes(b).into()),
            6 => parse(self.data, |b| u32::from_le_bytes(b).into()),
            7 => parse(self.data, |b| f32::from_le_bytes(b).into()),
            9 => parse(self.data, f64::from_le_bytes),
            kind => return Err(format!("numbers of kind {kind}")),
        })
    }
}

/// The name and value of an array: flags, dimensions, name, and content by class.
fn matrix(mut rest: &[u8], depth: usize) -> Result<(String, Value), String> {
    if depth > DEPTH {
        return Err("lists lie too deeply in lists".into());
    }
    // An empty array within a list has no parts at all.
    if rest.is_empty() {
        return Ok((String::new(), Value::Other));
    }
    let class = Element::take(&mut rest)?.data.first().copied().ok_or("an array without a class")?;
    let dims = Element::take(&mut rest)?.numbers()?;
    let size = dims.iter().try_fold(1_usize, |n, &d| n.checked_mul(d as usize)).ok_or("an array beyond all sizes")?;
    let name = String::from_utf8_lossy(Element::take(&mut rest)?.data).into_owned();
    let value = match class {
        1 => Value::List(many(&mut rest, size, depth)?),
        2 => Value::Records(records(&mut rest, size, depth)?),
        4 => {
            let units: Vec<u16> = Element::take(&mut rest)?.numbers()?.into_iter().map(|c| c as u16).collect();
            Value::Text(String::from_utf16_lossy(&units))
        }
        6..=15 if size == 1 => {
            Value::Number(Element::take(&mut rest)?.numbers()?.first().copied().ok_or("a number without a value")?)
        }
        _ => Value::Other,
    };
    Ok((name, value))
}

fn many(rest: &mut &[u8], n: usize, depth: usize) -> Result<Vec<Value>, String> {
    let mut values = Vec::new();
    for _ in 0..n {
        values.push(matrix(Element::take(rest)?.data, depth + 1)?.1);
    }
    Ok(values)
}

fn records(rest: &mut &[u8], n: usize, depth: usize) -> Result<Vec<HashMap<String, Value>>, String> {
    let width = Element::take(rest)?.numbers()?.first().map_or(0, |&w| w as usize);
    let names = Element::take(rest)?.data;
    // Without fields nothing would bound the number of records.
    if width == 0 || names.is_empty() || names.len() % width != 0 {
        return Err(format!("field names of {} bytes in steps of {width}", names.len()));
    }
    let name = |bytes: &[u8]| String::from_utf8_lossy(bytes.split(|&b| b == 0).next().unwrap_or_default()).into_owned();
    let names: Vec<String> = names.chunks_exact(width).map(name).collect();
    let mut records = Vec::new();
    for _ in 0..n {
        let values = many(rest, names.len(), depth)?;
        records.push(names.iter().cloned().zip(values).collect());
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> Vec<u8> {
        std::fs::read(format!("{}/../../fixtures/images/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    }

    #[test]
    fn records_of_scipy_are_read() {
        for name in ["cars_annos.mat", "cars_annos_packed.mat"] {
            let found = variables(&fixture(name)[128..]).unwrap();
            let Value::Records(records) = &found["annotations"] else { panic!("{:?}", found["annotations"]) };
            assert_eq!(records.len(), 3, "{name}");
            assert_eq!(records[1]["relative_im_path"], Value::Text("car_ims/000002.jpg".into()));
            assert_eq!(records[1]["bbox_x2"], Value::Number(300.0));
            assert_eq!(records[2]["test"], Value::Number(1.0));
            let classes = [Value::Text("AM General Hummer SUV 2000".into()), Value::Text("Acura RL Sedan 2012".into())];
            assert_eq!(found["class_names"], Value::List(classes.to_vec()));
        }
    }

    #[test]
    fn damage_never_panics() {
        let sound = fixture("cars_annos.mat");
        for at in 128..sound.len() {
            let _ = variables(&sound[128..at]);
            for value in [0, 1, 0x7f, 0xff] {
                let mut broken = sound.clone();
                broken[at] = value;
                let _ = variables(&broken[128..]);
            }
        }
    }
}
