//! The box loss: over foreground anchors only, value and gradient in one pass.

use super::dual::Dual;
use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp1, DType, Layout, Result, Shape, Tensor, WithDType, bail};
use retinanet_anchors::{BBox, BoxCoder};
use serde::{Deserialize, Serialize};
use std::sync::{Arc, Mutex, PoisonError};

/// What the box deltas of a foreground anchor are charged with.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum BoxLoss {
    /// Sum over the four deltas of |d|: Detectron2, torchvision v1.
    L1,
    /// Sum over the four deltas of d^2 / (2 beta) below beta and |d| - beta / 2 from there on (Girshick 2015).
    SmoothL1 {
        /// Where the square ends, in units of deltas; .11 in Detectron. Above 0.
        beta: f64,
    },
    /// 1 - GIoU of the decoded box and its ground truth (Rezatofighi et al. 2019), with torchvision's epsilon of 1e-7: torchvision v2.
    Giou,
}

/// An anchor with a ground truth to learn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ForegroundAnchor {
    /// Image in the batch.
    pub image_idx: usize,
    /// Anchor in its level.
    pub anchor_idx: usize,
    /// The anchor, in pixels.
    pub anchor: BBox,
    /// The box it is to give, in pixels.
    pub ground_truth: BBox,
}

impl BoxLoss {
    /// Loss of one anchor and its gradient by the four deltas, in f64.
    ///
    /// # Numerics
    /// Finite for finite deltas and an anchor and a ground truth with an area: dw and dh are clamped as in [`BoxCoder::decode`].
    pub fn evaluate(self, coder: &BoxCoder, deltas: [f64; 4], foreground: &ForegroundAnchor) -> (f64, [f64; 4]) {
        let ForegroundAnchor { anchor, ground_truth, .. } = foreground;
        let deltas: [Dual; 4] = std::array::from_fn(|i| Dual::variable(deltas[i], i));
        let loss = match self {
            Self::L1 => differences(coder, deltas, anchor, ground_truth).fold(Dual::constant(0.0), |sum, d| sum + d),
            Self::SmoothL1 { beta } => differences(coder, deltas, anchor, ground_truth)
                .fold(Dual::constant(0.0), |sum, d| {
                    sum + if d.value < beta { d * d / (2.0 * beta) } else { d - beta / 2.0 }
                }),
            Self::Giou => Dual::constant(1.0) - giou(decode(coder, deltas, anchor), ground_truth),
        };
        (loss.value, loss.gradient)
    }

    /// Sum over the foreground anchors of `weights[image] * loss`.
    ///
    /// # Shapes
    /// - `box_deltas`: `[N, R, 4]`, one level
    /// - `weights`: N of them
    /// - returns a scalar
    ///
    /// # Errors
    /// `box_deltas` has another shape than `[N, R, 4]` or another dtype than f32 or f64, or an anchor lies outside of it.
    pub fn sum(
        self,
        box_deltas: &Tensor,
        coder: &BoxCoder,
        foreground: &[ForegroundAnchor],
        weights: &[f64],
    ) -> Result<Tensor> {
        let (images, anchors, four) = box_deltas.dims3()?;
        if four != 4 || weights.len() != images {
            bail!("box loss: deltas and weights: expected [{}, R, 4], found {:?}", weights.len(), box_deltas.dims());
        }
        if let Some(outside) = foreground.iter().find(|f| f.image_idx >= images || f.anchor_idx >= anchors) {
            bail!(
                "box loss: expected anchors within [{images}, {anchors}], found ({}, {})",
                outside.image_idx,
                outside.anchor_idx
            );
        }
        let op = BoxLossSum {
            loss: self,
            coder: *coder,
            foreground: foreground.to_vec(),
            weights: weights.to_vec(),
            gradient: Arc::default(),
        };
        box_deltas.contiguous()?.apply_op1(op)
    }
}

/// |delta - target| of the four deltas.
fn differences(coder: &BoxCoder, deltas: [Dual; 4], anchor: &BBox, ground_truth: &BBox) -> impl Iterator<Item = Dual> {
    let targets = coder.encode(ground_truth, anchor);
    deltas.into_iter().zip(targets).map(|(delta, target)| (delta - f64::from(target)).abs())
}

/// [`BoxCoder::decode`] with derivatives: x0, y0, x1, y1.
fn decode(coder: &BoxCoder, deltas: [Dual; 4], anchor: &BBox) -> [Dual; 4] {
    let [dx, dy, dw, dh]: [Dual; 4] = std::array::from_fn(|i| deltas[i] / f64::from(coder.weights[i]));
    let clamp = Dual::constant(f64::from(coder.clamp));
    let (x0, y0) = (f64::from(anchor.x0), f64::from(anchor.y0));
    let (width, height) = (f64::from(anchor.x1) - x0, f64::from(anchor.y1) - y0);
    let (center_x, center_y) = (dx * width + (x0 + width / 2.0), dy * height + (y0 + height / 2.0));
    let (half_width, half_height) = (dw.min(clamp).exp() * (width / 2.0), dh.min(clamp).exp() * (height / 2.0));
    [center_x - half_width, center_y - half_height, center_x + half_width, center_y + half_height]
}

/// IoU minus the share of the enclosing box that neither box covers.
fn giou([x0, y0, x1, y1]: [Dual; 4], ground_truth: &BBox) -> Dual {
    const EPSILON: f64 = 1e-7;
    let [gx0, gy0, gx1, gy1] = ground_truth.to_array().map(|edge| Dual::constant(f64::from(edge)));
    let zero = Dual::constant(0.0);
    let intersection = (x1.min(gx1) - x0.max(gx0)).max(zero) * (y1.min(gy1) - y0.max(gy0)).max(zero);
    let union = (x1 - x0) * (y1 - y0) + (gx1 - gx0) * (gy1 - gy0) - intersection;
    let enclosing = (x1.max(gx1) - x0.min(gx0)) * (y1.max(gy1) - y0.min(gy0));
    intersection / (union + EPSILON) - (enclosing - union) / (enclosing + EPSILON)
}

/// Row among all anchors of a batch, and the loss's gradient by its four deltas.
type RowGradient = (usize, [f64; 4]);

struct BoxLossSum {
    loss: BoxLoss,
    coder: BoxCoder,
    foreground: Vec<ForegroundAnchor>,
    weights: Vec<f64>,
    /// Row and gradient of every foreground anchor, left by the forward pass.
    gradient: Arc<Mutex<Vec<RowGradient>>>,
}

impl BoxLossSum {
    /// Sum of the losses; the gradients are kept.
    fn evaluate<T: WithDType>(&self, deltas: &[T], layout: &Layout) -> Result<f64> {
        let Some((start, end)) = layout.contiguous_offsets() else { bail!("box loss: expected contiguous deltas") };
        let (rows, _) = deltas[start..end].as_chunks::<4>();
        let anchors = layout.shape().dims3()?.1;
        let mut sum = 0.0;
        let gradient = self.foreground.iter().map(|foreground| {
            let row = foreground.image_idx * anchors + foreground.anchor_idx;
            let weight = self.weights[foreground.image_idx];
            let (loss, gradient) = self.loss.evaluate(&self.coder, rows[row].map(WithDType::to_f64), foreground);
            sum += weight * loss;
            (row, gradient.map(|g| weight * g))
        });
        let gradient = gradient.collect();
        *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) = gradient;
        Ok(sum)
    }

    /// The kept gradients among zeros, scaled.
    fn scatter<T: WithDType>(&self, deltas: &Tensor, scale: f64) -> Result<Tensor> {
        let mut dense = vec![T::zero(); deltas.elem_count()];
        let (rows, _) = dense.as_chunks_mut::<4>();
        for &(row, gradient) in self.gradient.lock().unwrap_or_else(PoisonError::into_inner).iter() {
            rows[row] = gradient.map(|g| T::from_f64(g * scale));
        }
        Tensor::from_vec(dense, deltas.shape(), deltas.device())
    }
}

impl CustomOp1 for BoxLossSum {
    fn name(&self) -> &'static str {
        "box-loss"
    }

    fn cpu_fwd(&self, storage: &CpuStorage, layout: &Layout) -> Result<(CpuStorage, Shape)> {
        let sum = match storage {
            CpuStorage::F32(deltas) => CpuStorage::F32(vec![self.evaluate(deltas, layout)? as f32]),
            CpuStorage::F64(deltas) => CpuStorage::F64(vec![self.evaluate(deltas, layout)?]),
            other => bail!("box loss: expected f32 or f64 deltas, found {:?}", other.dtype()),
        };
        Ok((sum, Shape::from(())))
    }

    fn bwd(&self, deltas: &Tensor, _sum: &Tensor, upstream: &Tensor) -> Result<Option<Tensor>> {
        let scale = upstream.to_dtype(DType::F64)?.to_scalar::<f64>()?;
        let gradient = if deltas.dtype() == DType::F64 {
            self.scatter::<f64>(deltas, scale)
        } else {
            self.scatter::<f32>(deltas, scale)
        };
        Ok(Some(gradient?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use candle_core::{Device, Var};

    const FOREGROUND: ForegroundAnchor = ForegroundAnchor {
        image_idx: 0,
        anchor_idx: 1,
        anchor: BBox { x0: 0.0, y0: 0.0, x1: 10.0, y1: 10.0 },
        ground_truth: BBox { x0: 5.0, y0: 0.0, x1: 15.0, y1: 10.0 },
    };

    #[track_caller]
    fn check(loss: BoxLoss, deltas: [f64; 4], expected: f64) {
        let (value, _) = loss.evaluate(&BoxCoder::default(), deltas, &FOREGROUND);
        assert!((value - expected).abs() < 1e-6, "{loss:?}: expected {expected}, found {value}");
    }

    #[test]
    fn values_worked_by_hand() {
        // The ground truth is the anchor moved by half its width: the target is (.5, 0, 0, 0).
        check(BoxLoss::L1, [0.0; 4], 0.5);
        check(BoxLoss::L1, [0.5, 0.25, 0.0, -1.0], 1.25);
        check(BoxLoss::SmoothL1 { beta: 1.0 }, [0.0; 4], 0.125);
        check(BoxLoss::SmoothL1 { beta: 0.25 }, [0.0; 4], 0.375);
        // Intersection 50, union 150, enclosing box 150: GIoU is 1/3. The perfect box has GIoU 1.
        check(BoxLoss::Giou, [0.0; 4], 2.0 / 3.0);
        check(BoxLoss::Giou, [0.5, 0.0, 0.0, 0.0], 0.0);
        // Moved ten widths away: no intersection, union 200, enclosing box 105 x 10: GIoU = -(1050 - 200) / 1050.
        check(BoxLoss::Giou, [-9.0, 0.0, 0.0, 0.0], 1.0 + 850.0 / 1050.0);
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        let deltas = [0.3, -0.2, 0.15, 0.4];
        for loss in [BoxLoss::L1, BoxLoss::SmoothL1 { beta: 0.25 }, BoxLoss::Giou] {
            let (_, gradient) = loss.evaluate(&BoxCoder::default(), deltas, &FOREGROUND);
            for (i, &g) in gradient.iter().enumerate() {
                let at = |offset: f64| {
                    let mut moved = deltas;
                    moved[i] += offset;
                    loss.evaluate(&BoxCoder::default(), moved, &FOREGROUND).0
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!(
                    (numeric - g).abs() < 1e-8 * (1.0 + g.abs()),
                    "{loss:?} delta {i}: expected {numeric}, found {g}"
                );
            }
        }
    }

    #[test]
    fn clamped_deltas_have_no_gradient() {
        let (value, gradient) = BoxLoss::Giou.evaluate(&BoxCoder::default(), [0.0, 0.0, 1e4, 1e4], &FOREGROUND);
        assert!(value.is_finite());
        assert_eq!(gradient[2..], [0.0, 0.0]);
    }

    #[test]
    fn the_sum_weights_images_and_scales_by_the_upstream_gradient() -> Result<()> {
        let deltas = Var::zeros((2, 3, 4), candle_core::DType::F32, &Device::Cpu)?;
        let foreground = [FOREGROUND, ForegroundAnchor { image_idx: 1, anchor_idx: 2, ..FOREGROUND }];
        let sum = BoxLoss::L1.sum(deltas.as_tensor(), &BoxCoder::default(), &foreground, &[1.0, 0.5])?;
        assert!((sum.to_scalar::<f32>()? - 0.75).abs() < 1e-6);
        let gradients = (sum * 3.0)?.backward()?;
        let gradient = gradients.get(&deltas).expect("the deltas are a variable").flatten_all()?.to_vec1::<f32>()?;
        // |d - .5| falls with slope 1 at d = 0.
        let mut expected = vec![0.0; 24];
        (expected[4], expected[20]) = (-3.0, -1.5);
        assert_eq!(gradient, expected);
        let none = BoxLoss::Giou.sum(deltas.as_tensor(), &BoxCoder::default(), &[], &[1.0, 1.0])?;
        assert_eq!(none.to_scalar::<f32>()?, 0.0);
        Ok(())
    }
}
