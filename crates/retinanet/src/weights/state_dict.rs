//! From a pickle's values to the tensors of a state dict.

use super::element::Element;
use super::error::{Fault, shown};
use super::pickle::{Id, Value, Values};
use std::collections::BTreeMap;

/// The most axes a tensor may have.
const MAX_RANK: usize = 8;

/// The most tensors; ResNet-152 has about one thousand.
const MAX_TENSORS: usize = 50_000;

/// How deep a state dict may lie in a checkpoint.
const MAX_DEPTH: usize = 3;

/// Where training scripts keep the model's state dict, the first that is there; `blobs` is Detectron's of 2017.
const STATE_DICT_KEYS: [&str; 4] = ["model", "state_dict", "model_state_dict", "blobs"];

/// A tensor as a view into a storage, checked to lie within it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct View {
    pub(super) shape: Vec<usize>,
    strides: Vec<usize>,
    offset: usize,
    /// Product of the shape.
    pub(super) len: usize,
}

/// A storage and the tensors that view it.
#[derive(Debug)]
pub(super) struct Storage<'p> {
    /// The file of the archive.
    pub(super) name: &'p str,
    pub(super) element: Element,
    /// Number of elements.
    pub(super) len: usize,
    pub(super) views: Vec<(&'p str, View)>,
}

/// The floating-point tensors of the state dict, by storage. `what` names the pickle in errors.
pub(super) fn storages<'p>(values: &Values<'p>, what: &str) -> Result<Vec<Storage<'p>>, Fault> {
    let mut storages = BTreeMap::<&str, Storage>::new();
    for (name, tensor) in entries(values, what, |value| matches!(value, Value::Tensor { .. }))? {
        let Value::Tensor { storage, offset, shape, strides } = *values.get(tensor) else { continue };
        let Value::Storage { element, name: file, len } = *values.get(storage) else { continue };
        if element == Element::Integer {
            continue;
        }
        let at = || format!("{what}: tensor {}", shown(name));
        let (Some(shape), Some(strides)) = (values.sizes(shape), values.sizes(strides)) else {
            return Err(Fault::malformed(at(), "sizes and strides of 0 or more", "something else"));
        };
        let view = View::new(shape, strides, offset, len)
            .map_err(|(expected, found)| Fault::malformed(at(), expected, found))?;
        let storage = storages.entry(file).or_insert_with(|| Storage { name: file, element, len, views: Vec::new() });
        if (storage.element, storage.len) != (element, len) {
            return Err(Fault::malformed(
                at(),
                format!("storage {} of {} {:?} elements", shown(file), storage.len, storage.element),
                format!("{len} of {element:?}"),
            ));
        }
        storage.views.push((name, view));
    }
    Ok(storages.into_values().collect())
}

/// The names of the state dict's tensors, which are the values that `is_tensor`, and where they are.
pub(super) fn entries<'p>(
    values: &Values<'p>,
    what: &str,
    is_tensor: impl Fn(&Value) -> bool + Copy,
) -> Result<BTreeMap<&'p str, Id>, Fault> {
    let Some(entries) = find(values, values.root, MAX_DEPTH, is_tensor) else {
        let expected = "a dict of tensors, or one in the entry model, state_dict, model_state_dict or blobs";
        return Err(Fault::malformed(what, expected, describe(values)));
    };
    // A name given twice means the later one, as in Python.
    let mut tensors = BTreeMap::new();
    for &(key, value) in entries {
        if let (Value::Text(name), true) = (values.get(key), is_tensor(values.get(value))) {
            tensors.insert(*name, value);
        }
    }
    if tensors.len() > MAX_TENSORS {
        return Err(Fault::malformed(what, format!("at most {MAX_TENSORS} tensors"), format!("{}", tensors.len())));
    }
    Ok(tensors)
}

/// The entries of the first dict that holds tensors: a checkpoint's state dict before the checkpoint itself, which may
/// hold the state of a random generator as a tensor. The depth is bounded, as a dict may contain itself.
fn find<'v>(
    values: &'v Values,
    id: Id,
    depth: usize,
    is_tensor: impl Fn(&Value) -> bool + Copy,
) -> Option<&'v [(Id, Id)]> {
    let Value::Dict(entries) = values.get(id) else { return None };
    if depth > 0 {
        for wanted in STATE_DICT_KEYS {
            let nested = entries.iter().rev().find(|(key, _)| *values.get(*key) == Value::Text(wanted));
            if let Some(found) = nested.and_then(|&(_, value)| find(values, value, depth - 1, is_tensor)) {
                return Some(found);
            }
        }
    }
    entries.iter().any(|&(_, value)| is_tensor(values.get(value))).then_some(entries)
}

/// The result of a pickle that holds no state dict, in a few words.
fn describe(values: &Values) -> String {
    const SHOWN: usize = 6;
    match values.get(values.root) {
        Value::Dict(entries) => {
            let keys = entries.iter().filter_map(|&(key, _)| match values.get(key) {
                Value::Text(text) => Some(shown(text)),
                _ => None,
            });
            format!(
                "a dict of no tensors with {} entries: {}",
                entries.len(),
                keys.take(SHOWN).collect::<Vec<_>>().join(", ")
            )
        }
        Value::Tensor { .. } | Value::Array { .. } => "a tensor without a name".to_owned(),
        Value::Tuple(_) | Value::List(_) => "a list".to_owned(),
        _ => "a single value".to_owned(),
    }
}

impl View {
    /// The whole of an array of this shape, its columns first if `is_fortran`. The error is what was expected and what was
    /// found.
    pub(super) fn whole(shape: Vec<usize>, is_fortran: bool, storage_len: usize) -> Result<Self, (String, String)> {
        let mut strides = vec![1usize; shape.len()];
        let mut axes: Vec<usize> = (0..shape.len()).collect();
        if !is_fortran {
            axes.reverse();
        }
        for pair in axes.windows(2) {
            strides[pair[1]] = strides[pair[0]].saturating_mul(shape[pair[0]]);
        }
        let view = Self::new(shape, strides, 0, storage_len)?;
        if view.len == storage_len {
            Ok(view)
        } else {
            Err((format!("{} elements of shape {:?}", view.len, view.shape), storage_len.to_string()))
        }
    }

    /// A view of this shape into `storage_len` elements. The error is what was expected and what was found.
    fn new(
        shape: Vec<usize>,
        strides: Vec<usize>,
        offset: usize,
        storage_len: usize,
    ) -> Result<Self, (String, String)> {
        if shape.len() > MAX_RANK {
            return Err((format!("at most {MAX_RANK} axes"), shape.len().to_string()));
        }
        if shape.len() != strides.len() {
            return Err((format!("{} strides", shape.len()), strides.len().to_string()));
        }
        let len = shape.iter().try_fold(1usize, |product, &size| product.checked_mul(size));
        let last = shape.iter().zip(&strides).try_fold(offset, |index, (&size, &stride)| {
            stride.checked_mul(size.saturating_sub(1)).and_then(|span| index.checked_add(span))
        });
        let within = format!("elements within the {storage_len} of the storage");
        match (len, last) {
            (Some(0), _) => Ok(Self { shape, strides, offset: 0, len: 0 }),
            (Some(len), Some(last)) if last < storage_len => Ok(Self { shape, strides, offset, len }),
            (Some(_), Some(last)) => {
                Err((within, format!("element {last} of shape {shape:?}, strides {strides:?}, offset {offset}")))
            }
            _ => Err((within, format!("shape {shape:?}, strides {strides:?}, offset {offset}"))),
        }
    }

    /// The view's elements in row-major order. `storage` has as many elements as the view was checked against.
    pub(super) fn gather(&self, storage: &[f32]) -> Vec<f32> {
        if self.is_contiguous() {
            return storage[self.offset..self.offset + self.len].to_vec();
        }
        let mut values = Vec::with_capacity(self.len);
        let mut index = vec![0; self.shape.len()];
        let mut position = self.offset;
        for _ in 0..self.len {
            values.push(storage[position]);
            // Counts like an odometer, the last axis fastest; the position follows.
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    position += self.strides[axis];
                    break;
                }
                index[axis] = 0;
                position -= self.strides[axis] * (self.shape[axis] - 1);
            }
        }
        values
    }

    /// Whether the view is all of a storage of this length, in its order.
    pub(super) fn is_whole(&self, storage_len: usize) -> bool {
        self.offset == 0 && self.len == storage_len && self.is_contiguous()
    }

    /// An axis of one element may have any stride.
    fn is_contiguous(&self) -> bool {
        let mut expected = 1;
        self.len == 0
            || self.shape.iter().zip(&self.strides).rev().all(|(&size, &stride)| {
                let fits = size == 1 || stride == expected;
                expected *= size;
                fits
            })
    }
}
