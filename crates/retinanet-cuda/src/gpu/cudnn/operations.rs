//! A pass of a convolution as operations of cuDNN's graph interface.

use super::descriptor::Descriptor;
use crate::device::{Activation, Convolution, Element, Pass};
use crate::error::Result;
use cudarc::cudnn::sys::{
    cudnnBackendAttributeName_t as Name, cudnnBackendDescriptorType_t as Kind, cudnnConvolutionMode_t, cudnnDataType_t,
    cudnnPointwiseMode_t,
};
use retinanet_ops::kernels::ImageShape;

/// What of a convolution is computed, without the addresses: what algorithms are chosen for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::gpu) enum Work {
    Forward { bias: bool, residual: bool, activation: Activation },
    InputGradient { accumulate: bool },
    WeightGradient { accumulate: bool },
}

impl Work {
    pub(super) fn of(pass: &Pass) -> Self {
        match *pass {
            Pass::Forward { bias, residual, activation, .. } => {
                Self::Forward { bias: bias.is_some(), residual: residual.is_some(), activation }
            }
            Pass::InputGradient { accumulate, .. } => Self::InputGradient { accumulate },
            Pass::WeightGradient { accumulate, .. } => Self::WeightGradient { accumulate },
        }
    }

    /// The product alone, and whether that leaves something to be done.
    pub(super) fn plain(self) -> (Self, bool) {
        let plain = match self {
            Self::Forward { .. } => Self::Forward { bias: false, residual: false, activation: Activation::None },
            Self::InputGradient { .. } => Self::InputGradient { accumulate: false },
            Self::WeightGradient { .. } => Self::WeightGradient { accumulate: false },
        };
        (plain, plain != self)
    }
}

/// The tensors that a plan is given addresses of.
pub(super) mod uid {
    pub(in super::super) const X: i64 = 1;
    pub(in super::super) const WEIGHT: i64 = 2;
    pub(in super::super) const Y: i64 = 3;
    pub(in super::super) const BIAS: i64 = 4;
    pub(in super::super) const RESIDUAL: i64 = 5;
    /// From here on: values between operations, which have no address.
    pub(super) const BETWEEN: i64 = 100;
}

/// Operations in order, with all that they hold on to.
#[derive(Debug, Default)]
pub(super) struct Operations {
    pub(super) operations: Vec<Descriptor>,
    held: Vec<Descriptor>,
    between: i64,
}

impl Operations {
    /// The work on tensors whose addresses are multiples of `alignment`. Needs no GPU.
    pub(super) fn new(convolution: &Convolution, work: Work, alignment: usize) -> Result<Self> {
        let mut graph = Self::default();
        let tensors = Tensors::new(convolution, alignment);
        match work {
            Work::Forward { bias, residual, activation } => graph.forward(&tensors, bias, residual, activation)?,
            Work::InputGradient { accumulate } => graph.gradient(&tensors, &INPUT_GRADIENT, accumulate)?,
            Work::WeightGradient { accumulate } => graph.gradient(&tensors, &WEIGHT_GRADIENT, accumulate)?,
        }
        Ok(graph)
    }

    /// The product, then what is added and applied, in single precision until the last is stored.
    fn forward(&mut self, tensors: &Tensors, bias: bool, residual: bool, activation: Activation) -> Result<()> {
        let relu = activation == Activation::Relu;
        let mut left = usize::from(bias) + usize::from(residual) + usize::from(relu);
        let mut output = |graph: &mut Self| {
            let output = if left == 0 { tensors.y()? } else { tensors.between(graph.between)? };
            graph.between += 1;
            left = left.wrapping_sub(1);
            Ok::<_, crate::Error>(output)
        };
        let (x, weight) = (tensors.x()?, tensors.weight()?);
        let mut sum = output(self)?;
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?;
        let geometry = tensors.geometry()?;
        operation.link(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &[&geometry])?;
        operation.link(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &[&x])?;
        operation.link(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &[&weight])?;
        operation.link(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &[&sum])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, &[1.0f32])?;
        operation.set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, &[0.0f32])?;
        operation.finalize()?;
        self.operations.push(operation);
        self.held.extend([geometry, x, weight]);
        for addend in [residual.then(|| tensors.residual()), bias.then(|| tensors.bias())].into_iter().flatten() {
            let (addend, result) = (addend?, output(self)?);
            self.pointwise(cudnnPointwiseMode_t::CUDNN_POINTWISE_ADD, &sum, Some(&addend), &result)?;
            self.held.extend([std::mem::replace(&mut sum, result), addend]);
        }
        if relu {
            let result = output(self)?;
            self.pointwise(cudnnPointwiseMode_t::CUDNN_POINTWISE_RELU_FWD, &sum, None, &result)?;
            self.held.push(std::mem::replace(&mut sum, result));
        }
        self.held.push(sum);
        Ok(())
    }

    fn pointwise(
        &mut self,
        mode: cudnnPointwiseMode_t,
        x: &Descriptor,
        b: Option<&Descriptor>,
        y: &Descriptor,
    ) -> Result<()> {
        let how = Descriptor::new(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MODE, &[mode])?;
        how.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, &[cudnnDataType_t::CUDNN_DATA_FLOAT])?;
        how.finalize()?;
        let operation = Descriptor::new(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
        operation.link(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[&how])?;
        operation.link(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[x])?;
        if let Some(b) = b {
            operation.link(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[b])?;
        }
        operation.link(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[y])?;
        operation.finalize()?;
        self.operations.push(operation);
        self.held.push(how);
        Ok(())
    }

    /// A gradient: of what is named by `names`, added to what is there if `accumulate`.
    fn gradient(&mut self, tensors: &Tensors, names: &Gradient, accumulate: bool) -> Result<()> {
        let (geometry, x, weight, y) = (tensors.geometry()?, tensors.x()?, tensors.weight()?, tensors.y()?);
        let operation = Descriptor::new(names.kind)?;
        operation.link(names.geometry, &[&geometry])?;
        operation.link(names.x, &[&x])?;
        operation.link(names.weight, &[&weight])?;
        operation.link(names.y, &[&y])?;
        operation.set(names.alpha, &[1.0f32])?;
        operation.set(names.beta, &[if accumulate { 1.0f32 } else { 0.0 }])?;
        operation.finalize()?;
        self.operations.push(operation);
        self.held.extend([geometry, x, weight, y]);
        Ok(())
    }
}

/// How cuDNN calls what a gradient is made of.
struct Gradient {
    kind: Kind,
    geometry: Name,
    x: Name,
    weight: Name,
    y: Name,
    alpha: Name,
    beta: Name,
}

const INPUT_GRADIENT: Gradient = Gradient {
    kind: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR,
    geometry: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_CONV_DESC,
    x: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DX,
    weight: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
    y: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY,
    alpha: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_ALPHA,
    beta: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_BETA,
};

const WEIGHT_GRADIENT: Gradient = Gradient {
    kind: Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
    geometry: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_CONV_DESC,
    x: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_X,
    weight: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW,
    y: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY,
    alpha: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_ALPHA,
    beta: Name::CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_BETA,
};

/// The tensors of a convolution, as cuDNN describes them: dimensions in the order N, C, H, W, with the strides of N, H, W, C.
struct Tensors<'a> {
    convolution: &'a Convolution,
    alignment: usize,
}

impl<'a> Tensors<'a> {
    fn new(convolution: &'a Convolution, alignment: usize) -> Self {
        Self { convolution, alignment }
    }

    fn element(&self) -> cudnnDataType_t {
        match self.convolution.element {
            Element::F32 => cudnnDataType_t::CUDNN_DATA_FLOAT,
            Element::Bf16 => cudnnDataType_t::CUDNN_DATA_BFLOAT16,
            Element::F16 => cudnnDataType_t::CUDNN_DATA_HALF,
        }
    }

    fn x(&self) -> Result<Descriptor> {
        self.tensor(uid::X, self.element(), maps(self.convolution.shape.input()), false)
    }

    fn weight(&self) -> Result<Descriptor> {
        self.tensor(uid::WEIGHT, self.element(), self.convolution.shape.weight(), false)
    }

    fn y(&self) -> Result<Descriptor> {
        self.tensor(uid::Y, self.element(), maps(self.convolution.shape.output()), false)
    }

    fn residual(&self) -> Result<Descriptor> {
        self.tensor(uid::RESIDUAL, self.element(), maps(self.convolution.shape.output()), false)
    }

    fn bias(&self) -> Result<Descriptor> {
        let channels = self.convolution.shape.output().channels;
        self.tensor(uid::BIAS, cudnnDataType_t::CUDNN_DATA_FLOAT, [1, channels, 1, 1], false)
    }

    /// A sum on its way from one operation to the next.
    fn between(&self, index: i64) -> Result<Descriptor> {
        let dimensions = maps(self.convolution.shape.output());
        self.tensor(uid::BETWEEN + index, cudnnDataType_t::CUDNN_DATA_FLOAT, dimensions, true)
    }

    fn tensor(
        &self,
        uid: i64,
        element: cudnnDataType_t,
        dimensions: [usize; 4],
        is_virtual: bool,
    ) -> Result<Descriptor> {
        let tensor = Descriptor::new(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[uid])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, &[element])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &dimensions.map(|len| len as i64))?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_STRIDES, &channels_last(dimensions))?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[self.alignment as i64])?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, &[is_virtual])?;
        tensor.finalize()?;
        Ok(tensor)
    }

    /// Strides and paddings; sums are single precision.
    fn geometry(&self) -> Result<Descriptor> {
        let shape = self.convolution.shape;
        let (stride, padding) = (shape.stride() as i64, shape.padding() as i64);
        let geometry = Descriptor::new(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, &[cudnnDataType_t::CUDNN_DATA_FLOAT])?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, &[cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION])?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2i64])?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &[1i64, 1])?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &[stride, stride])?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &[padding, padding])?;
        geometry.set(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &[padding, padding])?;
        geometry.finalize()?;
        Ok(geometry)
    }
}

fn maps(shape: ImageShape) -> [usize; 4] {
    [shape.batch, shape.channels, shape.height, shape.width]
}

/// Strides of dimensions N, C, H, W whose numbers lie in the order N, H, W, C.
fn channels_last([_, channels, height, width]: [usize; 4]) -> [i64; 4] {
    [height * width * channels, 1, width * channels, channels].map(|stride| stride as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gpu::library::{Library, folders_of_tests};
    use retinanet_ops::kernels::ConvShape;

    #[test]
    fn channels_lie_last() {
        assert_eq!(channels_last([2, 3, 5, 7]), [105, 1, 21, 3]);
        assert_eq!(channels_last([8, 64, 1, 1]), [64, 1, 64, 64]);
    }

    #[test]
    fn what_the_product_alone_leaves_to_be_done() {
        let fused = Work::Forward { bias: true, residual: false, activation: Activation::Relu };
        let product = Work::Forward { bias: false, residual: false, activation: Activation::None };
        assert_eq!(fused.plain(), (product, true));
        assert_eq!(product.plain(), (product, false));
        let (sum, gradient) = (Work::WeightGradient { accumulate: true }, Work::WeightGradient { accumulate: false });
        assert_eq!((sum.plain(), gradient.plain()), ((gradient, true), (gradient, false)));
    }

    /// cuDNN checks descriptors without a GPU.
    #[test]
    fn cudnn_takes_the_operations_of_every_pass() {
        if let Err(error) = Library::Cudnn.open(&folders_of_tests(), 13) {
            return println!("skipped: {error}");
        }
        let shape = |[height, width, channels]: [usize; 3], weight, stride, padding, groups| {
            let input = ImageShape { batch: 2, height, width, channels };
            ConvShape::new(input, weight, stride, padding, groups).expect("a convolution")
        };
        let shapes = [
            shape([64, 96, 3], [64, 3, 7, 7], 2, 3, 1),
            shape([13, 9, 64], [64, 64, 3, 3], 1, 1, 1),
            shape([13, 9, 128], [256, 4, 3, 3], 2, 1, 32),
            shape([1, 1, 256], [819, 256, 1, 1], 1, 0, 1),
        ];
        let mut works = Vec::new();
        for (bias, residual, relu) in (0..8).map(|bits| (bits & 1 > 0, bits & 2 > 0, bits & 4 > 0)) {
            works.push((
                Work::Forward { bias, residual, activation: if relu { Activation::Relu } else { Activation::None } },
                1 + usize::from(bias) + usize::from(residual) + usize::from(relu),
            ));
        }
        for accumulate in [false, true] {
            works.push((Work::InputGradient { accumulate }, 1));
            works.push((Work::WeightGradient { accumulate }, 1));
        }
        for shape in shapes {
            for element in Element::ALL {
                for (work, expected) in &works {
                    let operations = Operations::new(&Convolution { shape, element }, *work, 16);
                    let operations =
                        operations.unwrap_or_else(|error| panic!("{shape:?} {element:?} {work:?}: {error}"));
                    assert_eq!(operations.operations.len(), *expected);
                }
            }
        }
        let wrong = Convolution { shape: shapes[1], element: Element::F32 };
        assert!(Operations::new(&wrong, works[0].0, 3).is_err(), "an alignment of 3 bytes");
    }
}
