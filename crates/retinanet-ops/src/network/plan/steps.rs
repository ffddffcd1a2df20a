//! Steps: operations with their weights prepared and their values given a place.

use super::PlanError;
use super::masks::Window;
use super::order::order;
use super::record::{Kind, Operation, Recorder, Value};
use super::storages::{Stored, Wishes};
use crate::Activation;
use crate::kernels::cpu::Isa;
use crate::kernels::cpu::inference::{ConvSpec, GroupNorm, PreparedConv, Runs, Storage};
use crate::network::{ConvLayer, NormKind, Parameters};

/// A value in one storage, of every image; an index into [`Steps::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct SlotIdx(pub(super) usize);

/// A value in one storage.
#[derive(Clone, Copy, Debug)]
pub(super) struct Slot {
    pub(super) channels: usize,
    pub(super) storage: Storage,
}

/// One use of a convolution.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) x: SlotIdx,
    pub(super) residual: Option<SlotIdx>,
    /// What the convolution writes where a group norm follows it.
    pub(super) scratch: Option<SlotIdx>,
    pub(super) y: SlotIdx,
}

#[derive(Debug)]
pub(super) enum Work {
    Conv {
        conv: Box<PreparedConv>,
        norm: Option<GroupNorm>,
        lanes: Vec<Lane>,
        window: Window,
        /// Multiplications a pixel.
        cost: usize,
    },
    MaxPool {
        x: SlotIdx,
        kernel: usize,
        stride: usize,
        padding: usize,
        y: SlotIdx,
    },
    UpsampleAdd {
        coarse: SlotIdx,
        fine: SlotIdx,
        y: SlotIdx,
    },
    Convert {
        x: SlotIdx,
        activation: Activation,
        y: SlotIdx,
    },
}

#[derive(Debug)]
pub(super) struct Step {
    /// For errors: the layer or operation.
    pub(super) name: String,
    pub(super) part: usize,
    pub(super) work: Work,
}

/// A network ready to run on images of any size.
#[derive(Debug)]
pub(super) struct Steps {
    pub(super) isa: Isa,
    pub(super) slots: Vec<Slot>,
    pub(super) steps: Vec<Step>,
    /// How many of them the first outputs need.
    pub(super) num_first: usize,
    pub(super) input: SlotIdx,
    pub(super) first: Vec<SlotIdx>,
    pub(super) rest: Vec<SlotIdx>,
    pub(super) parts: Vec<&'static str>,
}

/// Where the weights come from.
pub(super) enum Source<'a> {
    /// They stay.
    Borrowed(&'a Parameters),
    /// Each layer's are dropped once they are prepared.
    Owned(Parameters),
}

impl Source<'_> {
    fn parameters(&self) -> &Parameters {
        match self {
            Self::Borrowed(parameters) => parameters,
            Self::Owned(parameters) => parameters,
        }
    }

    fn values(&self, prefix: &str, leaf: &str) -> Result<Vec<f32>, PlanError> {
        Ok(self.parameters().detached(&format!("{prefix}.{leaf}"))?.flatten_all()?.to_vec1()?)
    }

    fn drop_layer(&mut self, layer: &ConvLayer) {
        if let Self::Owned(parameters) = self {
            for spec in layer.parameters() {
                parameters.remove(&spec.name);
            }
        }
    }
}

/// A layer's numbers with its norm folded.
struct Weights {
    weight: Vec<f32>,
    scale: Option<Vec<f32>>,
    shift: Vec<f32>,
    norm: Option<GroupNorm>,
}

impl Weights {
    fn read(layer: &ConvLayer, source: &Source) -> Result<Self, PlanError> {
        let weight = source.values(&layer.name, "weight")?;
        let Some((name, kind)) = &layer.norm else {
            return Ok(Self { weight, scale: None, shift: source.values(&layer.name, "bias")?, norm: None });
        };
        let (factor, bias) = (source.values(name, "weight")?, source.values(name, "bias")?);
        match *kind {
            NormKind::FrozenBatch { epsilon } | NormKind::Batch { epsilon, .. } => {
                let (mean, variance) = (source.values(name, "running_mean")?, source.values(name, "running_var")?);
                let scale: Vec<f32> = factor
                    .iter()
                    .zip(&variance)
                    .map(|(w, v)| (f64::from(*w) / (f64::from(*v) + epsilon).sqrt()) as f32)
                    .collect();
                let shift = bias.iter().zip(&mean).zip(&scale);
                let shift = shift.map(|((b, m), s)| (f64::from(*b) - f64::from(*m) * f64::from(*s)) as f32).collect();
                Ok(Self { weight, scale: Some(scale), shift, norm: None })
            }
            NormKind::Group { groups, epsilon } => {
                let norm = GroupNorm { groups, epsilon, weight: factor, bias, activation: layer.activation };
                Ok(Self { weight, scale: None, shift: vec![0.0; layer.out_channels], norm: Some(norm) })
            }
        }
    }
}

/// Builds the steps of what `first` and `rest` need.
pub(super) fn build(
    recorder: &Recorder,
    (first, rest): (&[Value], &[Value]),
    mut source: Source,
    isa: Isa,
    wishes: &Wishes,
) -> Result<Steps, PlanError> {
    let order = order(recorder, first, rest);
    let mut used: Vec<usize> = order.groups.iter().flat_map(|group| group.operations.iter().copied()).collect();
    used.sort_unstable();
    let used: Vec<&Operation> = used.into_iter().map(|i| &recorder.operations[i]).collect();
    let outputs = [first, rest].concat();
    let stored = wishes.choose(recorder, &used, &outputs);
    let mut builder = Builder {
        isa,
        wishes,
        recorder,
        stored: &stored,
        slots: Vec::new(),
        slot_of: vec![Vec::new(); stored.len()],
        steps: Vec::new(),
    };
    builder.place(Value(0));
    builder.convert(Value(0), 0);
    let mut num_first = builder.steps.len();
    for (group_idx, group) in order.groups.iter().enumerate() {
        let operations: Vec<&Operation> = group.operations.iter().map(|&i| &recorder.operations[i]).collect();
        builder.group(&operations, &source, group_idx >= order.num_first)?;
        if group_idx < order.num_first {
            num_first = builder.steps.len();
        }
        // A layer that is used once more, in another group, keeps its parameters until then.
        if let Kind::Conv { layer, .. } = &operations[0].kind {
            let is_layer = |i: &usize| matches!(&recorder.operations[*i].kind, Kind::Conv { layer: other, .. } if other.name == layer.name);
            if !order.groups[group_idx + 1..].iter().any(|later| later.operations.iter().any(is_layer)) {
                source.drop_layer(layer);
            }
        }
    }
    let slots_of = |values: &[Value]| values.iter().map(|&value| builder.slot(value, Storage::F32)).collect();
    Ok(Steps {
        isa,
        input: builder.slot(Value(0), Storage::F32),
        first: slots_of(first),
        rest: slots_of(rest),
        slots: builder.slots,
        steps: builder.steps,
        num_first,
        parts: recorder.parts.clone(),
    })
}

struct Builder<'a> {
    isa: Isa,
    wishes: &'a Wishes<'a>,
    recorder: &'a Recorder,
    stored: &'a [Stored],
    slots: Vec<Slot>,
    /// Of each value, the slots by storage; the primary first.
    slot_of: Vec<Vec<SlotIdx>>,
    steps: Vec<Step>,
}

impl Builder<'_> {
    fn add_slot(&mut self, value: Value, storage: Storage) -> SlotIdx {
        self.slots.push(Slot { channels: self.recorder.channels[value.0], storage });
        SlotIdx(self.slots.len() - 1)
    }

    /// Gives a value its slots.
    fn place(&mut self, value: Value) {
        let Stored { primary, copies } = &self.stored[value.0];
        for storage in std::iter::once(primary).chain(copies) {
            let slot = self.add_slot(value, *storage);
            self.slot_of[value.0].push(slot);
        }
    }

    fn primary(&self, value: Value) -> SlotIdx {
        self.slot_of[value.0][0]
    }

    fn slot(&self, value: Value, storage: Storage) -> SlotIdx {
        let slots = &self.slot_of[value.0];
        *slots.iter().find(|slot| self.slots[slot.0].storage == storage).expect("every reader's wish was counted")
    }

    fn push(&mut self, name: &str, part: usize, work: Work) {
        self.steps.push(Step { name: name.to_owned(), part, work });
    }

    /// From the primary storage to the others.
    fn convert(&mut self, value: Value, part: usize) {
        let slots = self.slot_of[value.0].clone();
        for &y in &slots[1..] {
            self.push("conversion", part, Work::Convert { x: slots[0], activation: Activation::None, y });
        }
    }

    /// The step of a group, or steps where its values are stored differently, and the conversions behind it.
    fn group(&mut self, operations: &[&Operation], source: &Source, is_rest: bool) -> Result<(), PlanError> {
        operations.iter().for_each(|operation| self.place(operation.y));
        let part = operations[0].part;
        match &operations[0].kind {
            Kind::Conv { layer, .. } => {
                let mut left = operations.to_vec();
                while !left.is_empty() {
                    let storages = self.storages(left[0]);
                    let (alike, other): (Vec<&Operation>, Vec<&Operation>) =
                        left.into_iter().partition(|operation| self.storages(operation) == storages);
                    self.conv(layer, &alike, storages, source, is_rest)?;
                    left = other;
                }
            }
            &Kind::MaxPool { x, kernel, stride, padding } => {
                let (x, y) = (self.primary(x), self.primary(operations[0].y));
                self.push("max pool", part, Work::MaxPool { x, kernel, stride, padding, y });
            }
            &Kind::UpsampleAdd { coarse, fine } => {
                let (coarse, fine, y) = (self.primary(coarse), self.primary(fine), self.primary(operations[0].y));
                self.push("upsample and add", part, Work::UpsampleAdd { coarse, fine, y });
            }
            &Kind::Relu { x } => {
                let (x, y) = (self.primary(x), self.primary(operations[0].y));
                self.push("relu", part, Work::Convert { x, activation: Activation::Relu, y });
            }
        }
        operations.iter().for_each(|operation| self.convert(operation.y, operation.part));
        Ok(())
    }

    /// How a convolution's residual and result are stored.
    fn storages(&self, operation: &Operation) -> (Option<Storage>, Storage) {
        let Kind::Conv { residual, .. } = &operation.kind else { unreachable!("a group of convolutions") };
        (residual.map(|residual| self.stored[residual.0].primary), self.stored[operation.y.0].primary)
    }

    fn conv(
        &mut self,
        layer: &ConvLayer,
        operations: &[&Operation],
        (residual, output): (Option<Storage>, Storage),
        source: &Source,
        is_rest: bool,
    ) -> Result<(), PlanError> {
        let input = self.wishes.input(&layer.name);
        let weights = Weights::read(layer, source)?;
        let has_norm = weights.norm.is_some();
        let spec = ConvSpec {
            in_channels: layer.in_channels,
            out_channels: layer.out_channels,
            kernel: layer.kernel,
            stride: layer.conv.stride,
            padding: layer.conv.padding,
            groups: layer.conv.groups,
            weight: &weights.weight,
            scale: weights.scale.as_deref(),
            shift: &weights.shift,
            activation: if has_norm { Activation::None } else { layer.activation },
            input,
            output: if has_norm { Storage::F32 } else { output },
            residual: residual.filter(|_| !has_norm),
            runs: match operations.len() {
                // A norm needs whole maps.
                _ if is_rest && !has_norm => Runs::FewCells,
                1 => Runs::OneMap,
                _ => Runs::ManyMaps,
            },
        };
        let conv = PreparedConv::new(self.isa, &spec)
            .map_err(|source| PlanError::Shape { place: layer.name.clone(), source })?;
        let mut lanes = Vec::with_capacity(operations.len());
        for operation in operations {
            let Kind::Conv { x, residual, .. } = operation.kind else { unreachable!("a group of convolutions") };
            let scratch = has_norm.then(|| self.add_slot(operation.y, Storage::F32));
            let (x, residual) = (self.slot(x, input), residual.map(|residual| self.primary(residual)));
            lanes.push(Lane { x, residual, scratch, y: self.primary(operation.y) });
        }
        let cost = layer.in_channels / layer.conv.groups * layer.out_channels * layer.kernel * layer.kernel;
        let window = Window { kernel: layer.kernel, stride: layer.conv.stride, padding: layer.conv.padding };
        let work = Work::Conv { conv: Box::new(conv), norm: weights.norm, lanes, window, cost };
        self.push(&layer.name, operations[0].part, work);
        Ok(())
    }
}

impl Work {
    /// Calls `visit` with every slot that is read.
    pub(super) fn reads(&self, mut visit: impl FnMut(SlotIdx)) {
        match self {
            Self::Conv { lanes, .. } => lanes.iter().for_each(|lane| {
                visit(lane.x);
                lane.residual.into_iter().for_each(&mut visit);
            }),
            Self::MaxPool { x, .. } | Self::Convert { x, .. } => visit(*x),
            Self::UpsampleAdd { coarse, fine, .. } => {
                visit(*coarse);
                visit(*fine);
            }
        }
    }

    /// Calls `visit` with every slot that is written, each by this step alone.
    pub(super) fn writes(&self, mut visit: impl FnMut(SlotIdx)) {
        match self {
            Self::Conv { lanes, .. } => lanes.iter().for_each(|lane| {
                lane.scratch.into_iter().for_each(&mut visit);
                visit(lane.y);
            }),
            Self::MaxPool { y, .. } | Self::Convert { y, .. } | Self::UpsampleAdd { y, .. } => visit(*y),
        }
    }
}
