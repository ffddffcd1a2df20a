//! Makes what `torch.save` writes, byte by byte, so that every byte can also be made wrong.

/// A pickle under construction.
#[derive(Clone, Default)]
pub(crate) struct Pickle(pub(crate) Vec<u8>);

impl Pickle {
    pub(crate) fn new() -> Self {
        Self(b"\x80\x02".to_vec())
    }

    pub(crate) fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    pub(crate) fn global(self, module: &str, name: &str) -> Self {
        self.raw(format!("c{module}\n{name}\n").as_bytes())
    }

    pub(crate) fn text(self, text: &str) -> Self {
        self.raw(b"X").raw(&(text.len() as u32).to_le_bytes()).raw(text.as_bytes())
    }

    /// As Python writes integers: in 4 bytes, or as a long of 8.
    pub(crate) fn int(self, value: i64) -> Self {
        match i32::try_from(value) {
            Ok(small) => self.raw(b"J").raw(&small.to_le_bytes()),
            Err(_) => self.raw(b"\x8a\x08").raw(&value.to_le_bytes()),
        }
    }

    pub(crate) fn ints(self, values: &[i64]) -> Self {
        values.iter().fold(self.raw(b"("), |pickle, &value| pickle.int(value)).raw(b"t")
    }

    pub(crate) fn tensor(self, tensor: &TorchTensor) -> Self {
        self.global("torch._utils", "_rebuild_tensor_v2")
            .raw(b"((")
            .text("storage")
            .global("torch", tensor.class)
            .text(tensor.key)
            .text("cpu")
            .int(tensor.len)
            .raw(b"tQ")
            .int(tensor.offset)
            .ints(&tensor.shape)
            .ints(&tensor.strides)
            .raw(b"\x89")
            .global("collections", "OrderedDict")
            .raw(b")RtR")
    }

    /// An OrderedDict of these tensors with `_metadata` as an attribute, which is what a state dict is.
    pub(crate) fn state_dict(self, tensors: &[TorchTensor]) -> Self {
        let dict = self.global("collections", "OrderedDict").raw(b")R(");
        let filled = tensors.iter().fold(dict, |pickle, tensor| pickle.text(tensor.name).tensor(tensor)).raw(b"u");
        filled.raw(b"}").text("_metadata").global("collections", "OrderedDict").raw(b")Rsb")
    }

    pub(crate) fn stop(self) -> Vec<u8> {
        self.raw(b".").0
    }
}

/// A tensor as a pickle tells it.
#[derive(Clone)]
pub(crate) struct TorchTensor {
    pub(crate) name: &'static str,
    pub(crate) class: &'static str,
    pub(crate) key: &'static str,
    pub(crate) len: i64,
    pub(crate) offset: i64,
    pub(crate) shape: Vec<i64>,
    pub(crate) strides: Vec<i64>,
}

impl TorchTensor {
    /// The whole of a FloatStorage, in its order.
    pub(crate) fn whole(name: &'static str, key: &'static str, shape: &[i64]) -> Self {
        let mut strides = vec![1; shape.len()];
        for axis in (1..shape.len()).rev() {
            strides[axis - 1] = strides[axis] * shape[axis];
        }
        Self {
            name,
            class: "FloatStorage",
            key,
            len: shape.iter().product(),
            offset: 0,
            shape: shape.to_vec(),
            strides,
        }
    }

    pub(crate) fn view(mut self, offset: i64, shape: &[i64], strides: &[i64]) -> Self {
        (self.offset, self.shape, self.strides) = (offset, shape.to_vec(), strides.to_vec());
        self
    }

    pub(crate) fn of(mut self, class: &'static str) -> Self {
        self.class = class;
        self
    }
}

/// A file of a zip archive, and what the archive says of it.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) bytes: Vec<u8>,
    /// 0 stored, 8 deflated.
    pub(crate) method: u16,
    pub(crate) crc: u32,
    pub(crate) stored_size: u32,
    pub(crate) size: u32,
}

impl Entry {
    pub(crate) fn new(name: &str, bytes: Vec<u8>) -> Self {
        let size = bytes.len() as u32;
        Self { name: name.to_owned(), crc: crc32(&bytes), bytes, method: 0, stored_size: size, size }
    }
}

/// A zip archive of these files.
pub(crate) fn zip(entries: &[Entry]) -> Vec<u8> {
    let (mut archive, mut directory) = (Vec::new(), Vec::new());
    for entry in entries {
        let offset = archive.len() as u32;
        let mut shared = Vec::new();
        for half in [20u16, 0x0800, entry.method, 0, 0] {
            shared.extend(half.to_le_bytes());
        }
        for word in [entry.crc, entry.stored_size, entry.size] {
            shared.extend(word.to_le_bytes());
        }
        shared.extend((entry.name.len() as u16).to_le_bytes());
        shared.extend(0u16.to_le_bytes());

        archive.extend(b"PK\x03\x04");
        archive.extend(&shared);
        archive.extend(entry.name.as_bytes());
        archive.extend(&entry.bytes);

        directory.extend(b"PK\x01\x02\x14\x00");
        directory.extend(&shared);
        directory.extend([0; 10]);
        directory.extend(offset.to_le_bytes());
        directory.extend(entry.name.as_bytes());
    }
    let (start, count) = (archive.len() as u32, entries.len() as u16);
    archive.extend(&directory);
    archive.extend(b"PK\x05\x06\x00\x00\x00\x00");
    archive.extend([count.to_le_bytes(), count.to_le_bytes()].concat());
    archive.extend([(directory.len() as u32).to_le_bytes(), start.to_le_bytes()].concat());
    archive.extend([0, 0]);
    archive
}

/// What `torch.save` writes: the pickle, the byte order, the storages.
pub(crate) fn entries(pickle: Vec<u8>, storages: &[(&str, Vec<u8>)]) -> Vec<Entry> {
    let mut entries = vec![Entry::new("weights/data.pkl", pickle), Entry::new("weights/byteorder", b"little".to_vec())];
    entries.extend(storages.iter().map(|(key, bytes)| Entry::new(&format!("weights/data/{key}"), bytes.clone())));
    entries.push(Entry::new("weights/version", b"3\n".to_vec()));
    entries
}

/// A state dict of these tensors as a file.
pub(crate) fn file(tensors: &[TorchTensor], storages: &[(&str, Vec<u8>)]) -> Vec<u8> {
    zip(&entries(Pickle::new().state_dict(tensors).stop(), storages))
}

/// A file whose pickle is this one.
pub(crate) fn file_of(pickle: Vec<u8>) -> Vec<u8> {
    zip(&entries(pickle, &[("0", floats(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]))]))
}

pub(crate) fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

/// CRC-32 of zip, a bit at a time.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0u32, |crc, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 })
    })
}
