//! From tensors to slices and back.

use crate::kernels::cpu::Element;
use crate::kernels::{ImageShape, ShapeError};
use candle_core::{
    CpuStorage, DType, Device, Error, Layout, Result, Shape, Storage, StorageRef, Tensor, WithDType, bail,
};

/// Runs a block with `$t` as the element type of a dtype; other dtypes are an error.
macro_rules! with_element {
    ($op:expr, $dtype:expr, $t:ident => $body:expr) => {
        match $dtype {
            candle_core::DType::F32 => {
                type $t = f32;
                $body
            }
            candle_core::DType::F64 => {
                type $t = f64;
                $body
            }
            dtype => candle_core::bail!("{}: dtype: expected f32 or f64, found {}", $op, dtype.as_str()),
        }
    };
}
pub(super) use with_element;

/// A shape error with the operation's name in front.
pub(super) fn located(op: &str) -> impl Fn(ShapeError) -> Error + '_ {
    move |error| Error::Msg(format!("{op}: {error}")).bt()
}

/// The dimensions `[N, H, W, C]` of a tensor.
pub(super) fn image_shape(op: &str, x: &Tensor) -> Result<ImageShape> {
    match *x.dims() {
        [batch, height, width, channels] => Ok(ImageShape { batch, height, width, channels }),
        ref dims => bail!("{op}: input: expected [N, H, W, C], found {dims:?}"),
    }
}

/// Checks that `tensor` has the dimensions, and the dtype of `like`.
pub(super) fn check(op: &str, what: &str, tensor: &Tensor, dims: &[usize], like: DType) -> Result<()> {
    if tensor.dims() != dims {
        bail!("{op}: {what}: expected {dims:?}, found {:?}", tensor.dims());
    }
    if tensor.dtype() != like {
        bail!("{op}: {what} dtype: expected {}, found {}", like.as_str(), tensor.dtype().as_str());
    }
    Ok(())
}

/// The numbers of a contiguous layout.
pub(super) fn slice<'a, T: WithDType>(op: &str, storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(&storage.as_slice::<T>()?[start..end]),
        None => bail!("{op}: layout: expected contiguous, found strides {:?}", layout.stride()),
    }
}

/// A tensor's storage, held while its numbers are read.
pub(crate) struct Numbers<'a> {
    op: &'static str,
    storage: StorageRef<'a>,
    layout: &'a Layout,
}

impl<'a> Numbers<'a> {
    pub(crate) fn of(op: &'static str, tensor: &'a Tensor) -> Self {
        let (storage, layout) = tensor.storage_and_layout();
        Self { op, storage, layout }
    }

    pub(crate) fn slice<T: WithDType>(&self) -> Result<&[T]> {
        match &*self.storage {
            Storage::Cpu(storage) => slice(self.op, storage, self.layout),
            _ => bail!("{}: device: expected cpu, found another", self.op),
        }
    }
}

/// Zeros for a kernel to overwrite.
pub(super) fn zeros<T: Element>(len: usize) -> Vec<T> {
    vec![T::ZERO; len]
}

/// What an operation returns to candle.
pub(super) fn output<T: WithDType>(numbers: Vec<T>, shape: impl Into<Shape>) -> (CpuStorage, Shape) {
    (T::to_cpu_storage_owned(numbers), shape.into())
}

/// A tensor of a gradient.
pub(super) fn tensor<T: WithDType>(numbers: Vec<T>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(numbers, shape.into(), &Device::Cpu)
}
