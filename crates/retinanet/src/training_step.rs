//! The network's part of a step: predictions, and from the losses the gradients of all parameters.

use crate::error::Result;
use crate::loss::Losses;
use crate::model::{Model, Network, Predictions};
use candle_core::{Device, Storage, Var};
use retinanet_anchors::{ImageSize, Pyramid};
use retinanet_ops::kernels::ImageShape;
use retinanet_ops::network::training::{Gradients, TrainingOptions, TrainingSession};
use std::borrow::Cow;

/// A network with the memory of its training steps.
///
/// The network runs in a [`TrainingSession`]; the losses are candle's, from logits and deltas that are variables of their
/// own: where their gradients end, those of the session begin.
#[derive(Debug)]
pub struct TrainingStep {
    session: TrainingSession,
}

impl TrainingStep {
    /// For this network, with any parameters of its shapes.
    ///
    /// # Errors
    /// The precision is neither f32 nor bf16.
    pub fn new(network: &Network, options: &TrainingOptions) -> Result<Self> {
        let (recorder, output) = network.record()?;
        let outputs = [output.class_logits.into_values(), output.box_deltas.into_values()].concat();
        Ok(Self { session: TrainingSession::new(&recorder, &outputs, options)? })
    }

    /// Begins a step: what the passes from here on give adds up, and what was before is forgotten.
    pub fn begin(&mut self) {
        self.session.begin();
    }

    /// Logits and deltas of a batch, each a variable, batch norms with the statistics of the batch.
    ///
    /// # Shapes
    /// - `pixels`: `[N, H, W, 3]`, `images` and `padded` of them
    ///
    /// # Errors
    /// The numbers do not fit, a parameter is missing, or the feature maps do not fit in memory.
    pub fn forward(&mut self, model: &Model, pixels: &[f32], images: usize, padded: ImageSize) -> Result<Predictions> {
        let ImageSize { width, height } = padded;
        self.session.forward(&model.parameters, pixels, (images, height, width))?;
        predictions(&model.network, |idx| {
            let (shape, values) = self.session.output(idx);
            Ok((shape, values.into()))
        })
    }

    /// Adds the gradients of all trained parameters by the losses of the last [`Self::forward`]'s predictions.
    ///
    /// # Errors
    /// The losses do not come from these predictions, or a tensor operation fails.
    pub fn backward(&mut self, model: &Model, predictions: Predictions, losses: Losses) -> Result<()> {
        gradients_of(predictions, losses, &mut |idx, gradient| {
            self.session.set_output_gradient(idx, gradient);
            Ok(())
        })?;
        self.session.backward(&model.parameters)?;
        Ok(())
    }

    /// Bytes of all activations and their gradients, from the first [`Self::forward`] on.
    pub fn memory_len(&self) -> usize {
        self.session.memory_len()
    }

    /// The gradients of the step.
    pub fn gradients(&self) -> &Gradients {
        self.session.gradients()
    }

    /// The same, to be clipped.
    pub fn gradients_mut(&mut self) -> &mut Gradients {
        self.session.gradients_mut()
    }

    /// Moves the running statistics of batch norms by what the step has seen.
    ///
    /// # Errors
    /// A running statistic is missing.
    pub fn update_running_statistics(&self, model: &Model) -> Result<()> {
        Ok(self.session.update_running_statistics(&model.parameters)?)
    }
}

/// Logits and deltas as variables of their own; `output` gives the shape and numbers of each of a network's outputs.
pub(crate) fn predictions<'a>(
    network: &Network,
    output: impl Fn(usize) -> Result<(ImageShape, Cow<'a, [f32]>)>,
) -> Result<Predictions> {
    let levels = network.levels();
    let mut grids = Vec::with_capacity(levels.len());
    let mut pyramid = |first: usize, columns: usize| -> Result<_> {
        let mut level = |level_idx: usize| -> Result<_> {
            let (shape, values) = output(first + level_idx)?;
            if first == 0 {
                grids.push(ImageSize::new(shape.width, shape.height));
            }
            // Channels-last makes the anchors of a level consecutive rows.
            let rows = shape.height * shape.width * shape.channels / columns;
            Ok(Var::from_slice(&values, (shape.batch, rows, columns), &Device::Cpu)?.into_inner())
        };
        let values = (0..levels.len()).map(&mut level).collect::<Result<Vec<_>>>()?;
        Ok(Pyramid::new(levels[0], values).expect("the network's levels are a pyramid"))
    };
    let class_logits = pyramid(0, network.num_classes())?;
    let box_deltas = pyramid(levels.len(), 4)?;
    let grids = network.grids(grids);
    Ok(Predictions { class_logits, box_deltas, grids })
}

/// Gives each output its gradient by the losses, zeros where it has none.
pub(crate) fn gradients_of(
    predictions: Predictions,
    losses: Losses,
    set: &mut dyn FnMut(usize, &[f32]) -> Result<()>,
) -> Result<()> {
    let gradients = losses.total.backward()?;
    drop(losses);
    let outputs = predictions.class_logits.values().iter().chain(predictions.box_deltas.values());
    for (idx, output) in outputs.enumerate() {
        let Some(gradient) = gradients.get(output) else {
            set(idx, &vec![0.0; output.elem_count()])?;
            continue;
        };
        let gradient = gradient.contiguous()?;
        let (storage, layout) = gradient.storage_and_layout();
        let (Storage::Cpu(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
            return Err(candle_core::Error::msg("training step: expected gradients on the CPU").into());
        };
        set(idx, &storage.as_slice::<f32>()?[start..end])?;
    }
    // What is taken by value here is free when the network goes back.
    Ok(())
}
