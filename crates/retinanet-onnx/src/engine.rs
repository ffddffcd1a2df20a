//! The engine that writes a network's layers as nodes.

use crate::{Attribute, Graph, Value};
use candle_core::{Result, bail};
use retinanet_ops::Activation;
use retinanet_ops::network::{ConvLayer, Engine, NormKind, Parameters};

/// Writes layers as nodes of a graph, with their parameters: what inference computes, on maps `[N, C, H, W]`.
///
/// A layer that serves several maps has its parameters in the graph once.
#[derive(Debug)]
pub struct GraphEngine<'a> {
    graph: &'a mut Graph,
    parameters: &'a Parameters,
}

/// The first opset that has a group norm with a scale and a shift a channel.
const GROUP_NORM_OPSET: i64 = 21;

impl<'a> GraphEngine<'a> {
    /// An engine that adds to this graph.
    pub fn new(graph: &'a mut Graph, parameters: &'a Parameters) -> Self {
        Self { graph, parameters }
    }

    fn values(&self, prefix: &str, leaf: &str) -> Result<Vec<f32>> {
        self.parameters.detached(&format!("{prefix}.{leaf}"))?.flatten_all()?.to_vec1()
    }

    /// A parameter as a constant of this shape.
    fn constant(&mut self, prefix: &str, leaf: &str, shape: &[usize]) -> Result<Value> {
        let name = format!("{prefix}.{leaf}");
        let parameters = self.parameters;
        self.graph.parameter(&name, shape, || parameters.detached(&name)?.flatten_all()?.to_vec1())
    }

    /// The layer's weight, each output channel times a factor.
    fn weight(&mut self, layer: &ConvLayer, factors: Option<&[f64]>) -> Result<Value> {
        let shape = [layer.out_channels, layer.in_channels / layer.conv.groups, layer.kernel, layer.kernel];
        let name = format!("{}.weight", layer.name);
        let tensor = self.parameters.detached(&name)?;
        if tensor.dims() != shape {
            bail!("{name}: shape: expected {shape:?}, found {:?}", tensor.dims());
        }
        self.graph.parameter(&name, &shape, || {
            let mut weight = tensor.flatten_all()?.to_vec1::<f32>()?;
            if let Some(factors) = factors {
                let channel_len = weight.len() / layer.out_channels;
                for (channel, factor) in weight.chunks_exact_mut(channel_len).zip(factors) {
                    channel.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
                }
            }
            Ok(weight)
        })
    }

    /// A batch norm with stored statistics as one scale and one shift a channel: w / sqrt(var + eps), b - mean * scale.
    fn folded(&self, norm: &str, epsilon: f64) -> Result<(Vec<f64>, Vec<f32>)> {
        let (weight, bias) = (self.values(norm, "weight")?, self.values(norm, "bias")?);
        let (mean, variance) = (self.values(norm, "running_mean")?, self.values(norm, "running_var")?);
        let scale: Vec<f64> =
            weight.iter().zip(&variance).map(|(&w, &v)| f64::from(w) / (f64::from(v) + epsilon).sqrt()).collect();
        let shift = bias.iter().zip(&mean).zip(&scale).map(|((&b, &m), s)| (f64::from(b) - f64::from(m) * s) as f32);
        let shift = shift.collect();
        Ok((scale, shift))
    }

    fn convolution(&mut self, layer: &ConvLayer, inputs: &[&Value]) -> Value {
        let (kernel, stride) = ([layer.kernel as i64; 2], [layer.conv.stride as i64; 2]);
        let padding = [layer.conv.padding as i64; 4];
        let attributes = [
            ("kernel_shape", Attribute::Ints(&kernel)),
            ("strides", Attribute::Ints(&stride)),
            ("pads", Attribute::Ints(&padding)),
            ("group", Attribute::Int(layer.conv.groups as i64)),
        ];
        self.graph.node("Conv", &layer.name, inputs, &attributes)
    }

    fn group_norm(&mut self, x: &Value, norm: &str, channels: usize, groups: usize, epsilon: f64) -> Result<Value> {
        let epsilon = ("epsilon", Attribute::Float(epsilon as f32));
        let has_operator = self.graph.opset().version() >= GROUP_NORM_OPSET;
        // The operator wants vectors; multiplication and addition want them along the channels of `[N, C, H, W]`.
        let shape = if has_operator { vec![channels] } else { vec![channels, 1, 1] };
        let (scale, shift) = (self.constant(norm, "weight", &shape)?, self.constant(norm, "bias", &shape)?);
        if has_operator {
            let attributes = [("num_groups", Attribute::Int(groups as i64)), epsilon];
            return Ok(self.graph.node("GroupNormalization", norm, &[x, &scale, &shift], &attributes));
        }
        // The channels of a group side by side are one channel of an instance norm.
        let grouped = self.graph.reshape(&format!("{norm}.groups"), x, &[0, groups as i64, -1]);
        let ones = self.graph.floats(&format!("ones[{groups}]"), &[groups], &vec![1.0; groups]);
        let zeros = self.graph.floats(&format!("zeros[{groups}]"), &[groups], &vec![0.0; groups]);
        let inputs = [&grouped, &ones, &zeros];
        let y = self.graph.node("InstanceNormalization", &format!("{norm}.statistics"), &inputs, &[epsilon]);
        let shape = self.graph.shape(&format!("{norm}.shape"), x, 0, 4);
        let y = self.graph.node("Reshape", &format!("{norm}.channels"), &[&y, &shape], &[]);
        let y = self.graph.node("Mul", &format!("{norm}.scaled"), &[&y, &scale], &[]);
        Ok(self.graph.node("Add", norm, &[&y, &shift], &[]))
    }
}

impl Engine for GraphEngine<'_> {
    type Value = Value;

    fn conv(&mut self, layer: &ConvLayer, x: &Value, residual: Option<&Value>) -> Result<Value> {
        let mut y = match &layer.norm {
            Some((norm, NormKind::FrozenBatch { epsilon } | NormKind::Batch { epsilon, .. })) => {
                let (scale, shift) = self.folded(norm, *epsilon)?;
                let weight = self.weight(layer, Some(&scale))?;
                let bias = self.graph.floats(&format!("{}.bias", layer.name), &[layer.out_channels], &shift);
                self.convolution(layer, &[x, &weight, &bias])
            }
            Some((norm, NormKind::Group { groups, epsilon })) => {
                let weight = self.weight(layer, None)?;
                let y = self.convolution(layer, &[x, &weight]);
                self.group_norm(&y, norm, layer.out_channels, *groups, *epsilon)?
            }
            None => {
                let weight = self.weight(layer, None)?;
                let bias = self.constant(&layer.name, "bias", &[layer.out_channels])?;
                self.convolution(layer, &[x, &weight, &bias])
            }
        };
        if let Some(residual) = residual {
            y = self.graph.node("Add", &format!("{}.sum", layer.name), &[&y, residual], &[]);
        }
        Ok(match layer.activation {
            Activation::None => y,
            Activation::Relu => self.graph.node("Relu", &format!("{}.relu", layer.name), &[&y], &[]),
        })
    }

    fn max_pool(&mut self, x: &Value, kernel: usize, stride: usize, padding: usize) -> Result<Value> {
        let (kernel, stride, padding) = ([kernel as i64; 2], [stride as i64; 2], [padding as i64; 4]);
        let attributes = [
            ("kernel_shape", Attribute::Ints(&kernel)),
            ("strides", Attribute::Ints(&stride)),
            ("pads", Attribute::Ints(&padding)),
        ];
        Ok(self.graph.node("MaxPool", "max_pool", &[x], &attributes))
    }

    fn upsample_add(&mut self, coarse: &Value, fine: &Value) -> Result<Value> {
        let leading = self.graph.shape("upsample.channels", coarse, 0, 2);
        let size = self.graph.shape("upsample.size", fine, 2, 4);
        let sizes = self.graph.concat("upsample.shape", &[leading, size], 0);
        // Row i is row floor(i * H / height), as torch has it.
        let nearest = [
            ("mode", Attribute::String("nearest")),
            ("coordinate_transformation_mode", Attribute::String("asymmetric")),
            ("nearest_mode", Attribute::String("floor")),
        ];
        let inputs = [Some(coarse), None, None, Some(&sizes)];
        let [large] = self.graph.node_with("Resize", ["upsample"], &inputs, &nearest);
        Ok(self.graph.node("Add", "upsample.sum", &[&large, fine], &[]))
    }

    fn relu(&mut self, x: &Value) -> Result<Value> {
        Ok(self.graph.node("Relu", &format!("{}.relu", x.name()), &[x], &[]))
    }
}
