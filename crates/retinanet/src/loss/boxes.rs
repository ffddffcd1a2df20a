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
    /// 1 - IoU + the squared distance of the centres over the squared diagonal of the box around both (Zheng et al. 2020).
    Diou,
    /// DIoU's + alpha v: v = 4 / pi^2 (atan(w / h of the ground truth) - atan(w / h))^2, alpha = v / (1 - IoU + v), a constant
    /// where the gradient is taken (Zheng et al. 2020).
    Ciou,
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
            Self::Giou => Dual::constant(1.0) - Overlap::new(coder, deltas, foreground).giou(),
            Self::Diou => Dual::constant(1.0) - Overlap::new(coder, deltas, foreground).diou(),
            Self::Ciou => {
                let overlap = Overlap::new(coder, deltas, foreground);
                Dual::constant(1.0) - overlap.diou() + overlap.aspect_penalty()
            }
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

/// torchvision's: no quotient is 0 / 0.
const EPSILON: f64 = 1e-7;

/// A decoded box and the box that it should be, with what all losses by overlap need.
struct Overlap {
    found: [Dual; 4],
    wanted: [f64; 4],
    union: Dual,
    iou: Dual,
    /// Width and height of the box around both.
    enclosing: (Dual, Dual),
}

impl Overlap {
    fn new(coder: &BoxCoder, deltas: [Dual; 4], foreground: &ForegroundAnchor) -> Self {
        let found = decode(coder, deltas, &foreground.anchor);
        let wanted = foreground.ground_truth.to_array().map(f64::from);
        let ([x0, y0, x1, y1], [gx0, gy0, gx1, gy1]) = (found, wanted.map(Dual::constant));
        let zero = Dual::constant(0.0);
        let intersection = (x1.min(gx1) - x0.max(gx0)).max(zero) * (y1.min(gy1) - y0.max(gy0)).max(zero);
        let union = (x1 - x0) * (y1 - y0) + (gx1 - gx0) * (gy1 - gy0) - intersection;
        let enclosing = (x1.max(gx1) - x0.min(gx0), y1.max(gy1) - y0.min(gy0));
        Self { found, wanted, union, iou: intersection / (union + EPSILON), enclosing }
    }

    /// IoU minus the share of the enclosing box that neither box covers.
    fn giou(&self) -> Dual {
        let enclosing = self.enclosing.0 * self.enclosing.1;
        self.iou - (enclosing - self.union) / (enclosing + EPSILON)
    }

    /// IoU minus the squared distance of the centres over the squared diagonal of the enclosing box.
    fn diou(&self) -> Dual {
        let ([x0, y0, x1, y1], [gx0, gy0, gx1, gy1]) = (self.found, self.wanted);
        let (dx, dy) = ((x0 + x1 - (gx0 + gx1)) / 2.0, (y0 + y1 - (gy0 + gy1)) / 2.0);
        let (width, height) = self.enclosing;
        self.iou - (dx * dx + dy * dy) / (width * width + height * height + EPSILON)
    }

    /// alpha v: how far the aspect ratio is off, the more the better the boxes overlap.
    fn aspect_penalty(&self) -> Dual {
        let ([x0, y0, x1, y1], [gx0, gy0, gx1, gy1]) = (self.found, self.wanted);
        let wanted = ((gx1 - gx0) / (gy1 - gy0)).atan();
        // A height can underflow to 0 beside its coordinates.
        let angle = ((x1 - x0) / (y1 - y0).max(Dual::constant(EPSILON))).atan() - wanted;
        let v = angle * angle * (4.0 / std::f64::consts::PI.powi(2));
        // A weight, not a term of its own: the authors let no gradient through it.
        let alpha = v.value / (1.0 - self.iou.value + v.value + EPSILON);
        v * alpha
    }
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
    fn distances_and_aspect_ratios_worked_by_hand() {
        // IoU 1/3; the centres are 5 apart, the box around both is 15 x 10: 25 / 325. The ratios are equal.
        check(BoxLoss::Diou, [0.0; 4], 2.0 / 3.0 + 25.0 / 325.0);
        check(BoxLoss::Ciou, [0.0; 4], 2.0 / 3.0 + 25.0 / 325.0);
        // Moved ten widths away: 95 apart within 105 x 10.
        check(BoxLoss::Diou, [-9.0, 0.0, 0.0, 0.0], 1.0 + 9025.0 / 11125.0);
        // Twice as wide around the right centre: IoU 1/2. The ratio is 2 where it should be 1.
        let v = 4.0 / std::f64::consts::PI.powi(2) * (2f64.atan() - 1f64.atan()).powi(2);
        check(BoxLoss::Diou, [0.5, 0.0, 2f64.ln(), 0.0], 0.5);
        check(BoxLoss::Ciou, [0.5, 0.0, 2f64.ln(), 0.0], 0.5 + v * v / (0.5 + v));
        check(BoxLoss::Ciou, [0.5, 0.0, 0.0, 0.0], 0.0);
    }

    #[test]
    fn gradients_of_the_complete_loss_hold_alpha() {
        let coder = BoxCoder::default();
        // The aspect ratio's part alone, in plain numbers: the anchor is square, and so is the ground truth.
        let ratio = |deltas: [f64; 4]| {
            4.0 / std::f64::consts::PI.powi(2) * ((deltas[2] - deltas[3]).exp().atan() - 1f64.atan()).powi(2)
        };
        for deltas in [[0.3, -0.2, 0.15, 0.4], [0.5, 0.1, 0.9, -0.3], [-9.0, 3.0, 1.0, -1.0]] {
            let diou = |deltas: [f64; 4]| BoxLoss::Diou.evaluate(&coder, deltas, &FOREGROUND).0;
            let (value, gradient) = BoxLoss::Ciou.evaluate(&coder, deltas, &FOREGROUND);
            let alpha = (value - diou(deltas)) / ratio(deltas);
            assert!(alpha > 0.0 && alpha < 1.0);
            for (i, &g) in gradient.iter().enumerate() {
                let at = |offset: f64| {
                    let mut moved = deltas;
                    moved[i] += offset;
                    diou(moved) + alpha * ratio(moved)
                };
                let numeric = (at(1e-5) - at(-1e-5)) / 2e-5;
                assert!((numeric - g).abs() < 1e-8 * (1.0 + g.abs()), "delta {i}: expected {numeric}, found {g}");
            }
        }
    }

    #[test]
    fn gradients_agree_with_central_differences() {
        let deltas = [0.3, -0.2, 0.15, 0.4];
        for loss in [BoxLoss::L1, BoxLoss::SmoothL1 { beta: 0.25 }, BoxLoss::Giou, BoxLoss::Diou] {
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
        for loss in [BoxLoss::Giou, BoxLoss::Diou, BoxLoss::Ciou] {
            let (value, gradient) = loss.evaluate(&BoxCoder::default(), [0.0, 0.0, 1e4, 1e4], &FOREGROUND);
            assert!(value.is_finite());
            assert_eq!(gradient[2..], [0.0, 0.0], "{loss:?}");
            // So small that it has no extent beside its coordinates.
            let (value, gradient) = loss.evaluate(&BoxCoder::default(), [0.5, 0.0, -1e4, -1e4], &FOREGROUND);
            assert!(value.is_finite() && gradient.iter().all(|g| g.is_finite()), "{loss:?}: {value} {gradient:?}");
        }
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
