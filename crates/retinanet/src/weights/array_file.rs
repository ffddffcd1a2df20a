//! A pickle of NumPy arrays, as Detectron2 and Detectron publish their weights (`.pkl`).

use super::element::{self, Element};
use super::error::{Fault, shown};
use super::pickle::{self, Value, Values};
use super::state_dict::{self, View};
use super::{Contents, check_growth, texts};
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;

/// How errors name the file's one part.
const WHAT: &str = "pickle";

/// Reads the floating-point arrays of the pickle's state dict.
pub(super) fn read(file: &mut File, file_len: u64) -> Result<Contents, Fault> {
    // The arrays lie in the pickle itself, so that it is as long as they are.
    let mut bytes = Vec::new();
    file.take(file_len).read_to_end(&mut bytes)?;
    let values = pickle::interpret(&bytes, WHAT)?;
    let arrays = state_dict::entries(&values, WHAT, |value| matches!(value, Value::Array { .. }))?;

    let mut total = 0u64;
    let mut found = Vec::with_capacity(arrays.len());
    for (name, id) in arrays {
        let Value::Array { element, shape, is_fortran, data } = *values.get(id) else { continue };
        let Some(element_size) = element.float_size() else { continue };
        let at = || format!("{WHAT}: array {}", shown(name));
        let shape = values.sizes(shape).ok_or_else(|| Fault::malformed(at(), "a shape", "something else"))?;
        let len = len_of(&values, data).ok_or_else(|| Fault::malformed(at(), "its bytes", "another value"))?;
        if !len.is_multiple_of(element_size) {
            return Err(Fault::malformed(at(), format!("elements of {element_size} bytes"), format!("{len} bytes")));
        }
        let view = View::whole(shape, is_fortran, len / element_size)
            .map_err(|(expected, found)| Fault::malformed(at(), expected, found))?;
        total = total.saturating_add(view.len as u64 * 4);
        found.push((name, element, data, view));
    }
    // Many arrays may share their bytes.
    check_growth(total, file_len)?;

    let mut tensors = BTreeMap::new();
    for (name, element, data, view) in found {
        let numbers = decode(&values, data, element, name)?;
        let numbers = if view.is_whole(numbers.len()) { numbers } else { view.gather(&numbers) };
        tensors.insert(name.to_owned(), element::tensor(name, numbers, &view.shape)?);
    }
    Ok(Contents { tensors, integers: BTreeMap::new(), metadata: texts::of(&values) })
}

/// How many bytes a value stands for.
fn len_of(values: &Values, data: pickle::Id) -> Option<usize> {
    match values.get(data) {
        Value::Bytes(bytes) => Some(bytes.len()),
        Value::Text(text) => Some(text.len()),
        Value::Latin1(text) => Some(text.chars().count()),
        _ => None,
    }
}

/// The numbers that a value's bytes hold.
fn decode(values: &Values, data: pickle::Id, element: Element, name: &str) -> Result<Vec<f32>, Fault> {
    let bytes = match values.get(data) {
        Value::Bytes(bytes) => Cow::Borrowed(*bytes),
        Value::Text(text) => Cow::Borrowed(text.as_bytes()),
        Value::Latin1(text) => {
            let bytes = text.chars().map(|character| u8::try_from(u32::from(character)));
            let bytes = bytes.collect::<Result<Vec<u8>, _>>().map_err(|_| {
                Fault::malformed(format!("{WHAT}: array {}", shown(name)), "characters below 256", "others")
            })?;
            Cow::Owned(bytes)
        }
        _ => Cow::Borrowed(&[][..]),
    };
    Ok(element.to_f32(&bytes))
}
