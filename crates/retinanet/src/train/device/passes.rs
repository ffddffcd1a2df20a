//! Passes of a network on a device, with the losses on the processor: for those that the device has no kernels for.

use super::super::passes::Passes;
use crate::error::Result;
use crate::loss::Losses;
use crate::model::{Model, Predictions};
use crate::training_step::{gradients_of, predictions};
use retinanet_anchors::ImageSize;
use retinanet_cuda::network::Training;

/// The passes of a network: logits and deltas come here, and their gradients go back.
pub(super) struct HostLosses<'a>(pub(super) &'a mut Training);

impl Passes for HostLosses<'_> {
    fn begin(&mut self) -> Result<()> {
        Ok(self.0.begin()?)
    }

    fn forward(&mut self, model: &Model, pixels: &[f32], images: usize, padded: ImageSize) -> Result<Predictions> {
        let ImageSize { width, height } = padded;
        self.0.forward(pixels, (images, height, width))?;
        predictions(&model.network, |idx| {
            let output = self.0.output(idx);
            Ok((output.shape, output.read()?.into()))
        })
    }

    fn backward(&mut self, _model: &Model, predictions: Predictions, losses: Losses) -> Result<()> {
        let training = &*self.0;
        gradients_of(predictions, losses, &mut |idx, gradient| {
            training.output_gradient(idx).map_or(Ok(()), |output| Ok(output.write(gradient)?))
        })?;
        Ok(self.0.backward()?)
    }
}
