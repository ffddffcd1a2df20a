//! The kernels as candle operations.

use std::sync::{Mutex, PoisonError};

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, DType, Layout, Result, Shape, Storage, Tensor, WithDType};
use half::bf16;

use crate::kernels::cpu::{self, Element, InstructionSet};
use crate::kernels::{Curve, LossShape};
use crate::{Alpha, LossError};

/// Binds `$element` to the type of `$dtype`, which [`checked`] has found to be one of these.
macro_rules! with_element {
    ($dtype:expr, $element:ident => $body:expr) => {
        match $dtype {
            DType::F32 => {
                type $element = f32;
                $body
            }
            DType::BF16 => {
                type $element = bf16;
                $body
            }
            DType::F64 => {
                type $element = f64;
                $body
            }
            other => Err(dtype_error("class_logits", LOGIT_DTYPES, other).into()),
        }
    };
}

const LOGIT_DTYPES: &str = "f32, bf16 or f64";

/// `[N]` sums; see [`crate::ClassLoss::sum`].
pub(crate) fn sum(
    curve: Curve,
    alpha: &Alpha,
    class_logits: &Tensor,
    classes: &Tensor,
) -> std::result::Result<Tensor, LossError> {
    let (shape, class_logits, classes) = checked(alpha, class_logits, classes)?;
    let op = SumOp {
        curve,
        alpha: alpha.clone(),
        shape,
        wants_gradient: class_logits.track_op(),
        gradient: Mutex::new(None),
    };
    Ok(if op.wants_gradient {
        class_logits.apply_op2(&classes, op)?
    } else {
        class_logits.apply_op2_no_bwd(&classes, &op)?
    })
}

/// `[N]` sums and `[N, R, K]` gradient; see [`crate::ClassLoss::sum_and_gradient`].
pub(crate) fn sum_and_gradient(
    curve: Curve,
    alpha: &Alpha,
    class_logits: &Tensor,
    classes: &Tensor,
    image_weights: &[f64],
) -> std::result::Result<(Tensor, Tensor), LossError> {
    let (shape, class_logits, classes) = checked(alpha, class_logits, classes)?;
    if image_weights.len() != shape.images {
        return Err(LossError::Shape {
            argument: "image_weights",
            expected: format!("[{}]", shape.images),
            found: format!("[{}]", image_weights.len()),
        });
    }
    let op = SumOp { curve, alpha: alpha.clone(), shape, wants_gradient: true, gradient: Mutex::new(None) };
    let sums = class_logits.apply_op2_no_bwd(&classes, &op)?;
    let weights = Tensor::new(image_weights, class_logits.device())?.to_dtype(sums.dtype())?;
    let (gradient, _) = op.bwd(&class_logits, &classes, &sums, &weights)?;
    let gradient = gradient.ok_or_else(|| candle_core::Error::BackwardNotSupported { op: op.name() }.bt())?;
    Ok((sums, gradient))
}

/// `[N, R]` losses; see [`crate::ClassLoss::per_anchor`].
pub(crate) fn per_anchor(
    curve: Curve,
    alpha: &Alpha,
    class_logits: &Tensor,
    classes: &Tensor,
) -> std::result::Result<Tensor, LossError> {
    let (shape, class_logits, classes) = checked(alpha, class_logits, classes)?;
    let alpha = alpha.clone();
    let op = PerAnchorOp { curve, alpha, shape };
    Ok(class_logits.apply_op2_no_bwd(&classes, &op)?)
}

/// Everything that can be said before the kernel runs, so that it is said as a [`LossError`].
fn checked(
    alpha: &Alpha,
    class_logits: &Tensor,
    classes: &Tensor,
) -> std::result::Result<(LossShape, Tensor, Tensor), LossError> {
    let shape = loss_shape(class_logits, classes)?;
    alpha.weights::<f64>(shape.classes)?;
    let (class_logits, classes) = (class_logits.contiguous()?, classes.contiguous()?);
    {
        let (storage, layout) = classes.storage_and_layout();
        if let Storage::Cpu(storage) = &*storage {
            cpu::check_classes(shape, contiguous::<i64>(storage, layout)?)?;
        }
    }
    Ok((shape, class_logits, classes))
}

/// The extent of one level, if the two tensors fit each other and their element types are known.
pub(crate) fn loss_shape(class_logits: &Tensor, classes: &Tensor) -> std::result::Result<LossShape, LossError> {
    if !matches!(class_logits.dtype(), DType::F32 | DType::BF16 | DType::F64) {
        return Err(dtype_error("class_logits", LOGIT_DTYPES, class_logits.dtype()));
    }
    if classes.dtype() != DType::I64 {
        return Err(dtype_error("classes", "i64", classes.dtype()));
    }
    let &[images, anchors, num_classes] = class_logits.dims() else {
        return Err(LossError::Shape {
            argument: "class_logits",
            expected: "[N, R, K]".into(),
            found: format!("{:?}", class_logits.dims()),
        });
    };
    if classes.dims() != [images, anchors] {
        return Err(LossError::Shape {
            argument: "classes",
            expected: format!("{:?}", [images, anchors]),
            found: format!("{:?}", classes.dims()),
        });
    }
    Ok(LossShape { images, anchors, classes: num_classes })
}

fn dtype_error(argument: &'static str, expected: &'static str, found: DType) -> LossError {
    LossError::DType { argument, expected, found: found.as_str() }
}

/// What one pass over the logits gives.
struct Evaluated<E: Element> {
    sums: Vec<E::Compute>,
    gradient: Option<Vec<E>>,
}

struct SumOp {
    curve: Curve,
    alpha: Alpha,
    shape: LossShape,
    wants_gradient: bool,
    /// The gradient of the sums by the logits, from the forward pass until a backward pass takes it.
    gradient: Mutex<Option<CpuStorage>>,
}

impl SumOp {
    /// The sums, and the gradient if it is wanted.
    fn evaluate<E: Element>(&self, logits: &[E], classes: &[i64]) -> Result<Evaluated<E>>
    where
        E::Compute: WithDType,
    {
        let weights = self.alpha.weights(self.shape.classes)?;
        let mut gradient = self.wants_gradient.then(|| E::zeros(self.shape.logits()));
        let mut workspace = vec![0.0; cpu::workspace_len(self.shape)];
        let mut sums = vec![0.0; self.shape.images];
        cpu::sum::<E>(
            InstructionSet::widest(),
            self.curve,
            &weights,
            self.shape,
            logits,
            classes,
            gradient.as_deref_mut(),
            &mut workspace,
            &mut sums,
        )?;
        let sums = sums.into_iter().map(<E::Compute as WithDType>::from_f64).collect();
        Ok(Evaluated { sums, gradient })
    }

    /// The gradient by the logits, scaled by what comes from above.
    fn scaled_gradient<E: Element + WithDType>(
        &self,
        class_logits: &Tensor,
        classes: &Tensor,
        factors: &Tensor,
    ) -> Result<Tensor>
    where
        E::Compute: WithDType,
    {
        let kept = self.gradient.lock().unwrap_or_else(PoisonError::into_inner).take();
        let gradient = match kept {
            Some(storage) => Some(E::cpu_storage_data(storage)?),
            // An earlier backward pass took it and scaled it in place.
            None => {
                let (logits, logits_layout) = class_logits.storage_and_layout();
                let (classes, classes_layout) = classes.storage_and_layout();
                match (&*logits, &*classes) {
                    (Storage::Cpu(logits), Storage::Cpu(classes)) => {
                        let logits = contiguous::<E>(logits, logits_layout)?;
                        let classes = contiguous::<i64>(classes, classes_layout)?;
                        self.evaluate(logits, classes)?.gradient
                    }
                    _ => None,
                }
            }
        };
        let Some(mut gradient) = gradient else {
            return Err(candle_core::Error::BackwardNotSupported { op: self.name() }.bt());
        };
        cpu::scale(&mut gradient, &factors.to_vec1::<E::Compute>()?)?;
        Tensor::from_vec(gradient, class_logits.shape(), class_logits.device())
    }
}

impl CustomOp2 for SumOp {
    fn name(&self) -> &'static str {
        "class_loss"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        classes: &CpuStorage,
        classes_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let classes = contiguous::<i64>(classes, classes_layout)?;
        with_element!(logits.dtype(), E => {
            let logits = contiguous::<E>(logits, logits_layout)?;
            let Evaluated { sums, gradient } = self.evaluate::<E>(logits, classes)?;
            *self.gradient.lock().unwrap_or_else(PoisonError::into_inner) =
                gradient.map(E::to_cpu_storage_owned);
            let sums = <E as Element>::Compute::to_cpu_storage_owned(sums);
            Ok((sums, Shape::from(self.shape.images)))
        })
    }

    fn bwd(
        &self,
        class_logits: &Tensor,
        classes: &Tensor,
        _sums: &Tensor,
        factors: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let gradient: Result<Tensor> = with_element!(class_logits.dtype(), E => {
            self.scaled_gradient::<E>(class_logits, classes, factors)
        });
        Ok((Some(gradient?), None))
    }
}

struct PerAnchorOp {
    curve: Curve,
    alpha: Alpha,
    shape: LossShape,
}

impl CustomOp2 for PerAnchorOp {
    fn name(&self) -> &'static str {
        "class_loss_per_anchor"
    }

    fn cpu_fwd(
        &self,
        logits: &CpuStorage,
        logits_layout: &Layout,
        classes: &CpuStorage,
        classes_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let classes = contiguous::<i64>(classes, classes_layout)?;
        with_element!(logits.dtype(), E => {
            let logits = contiguous::<E>(logits, logits_layout)?;
            let weights = self.alpha.weights(self.shape.classes)?;
            let mut losses = <E as Element>::Compute::zeros(self.shape.rows());
            cpu::per_anchor::<E>(
                InstructionSet::widest(),
                self.curve,
                &weights,
                self.shape,
                logits,
                classes,
                &mut losses,
            )?;
            let losses = <E as Element>::Compute::to_cpu_storage_owned(losses);
            Ok((losses, Shape::from((self.shape.images, self.shape.anchors))))
        })
    }
}

/// The elements of a tensor that [`checked`] has made contiguous.
fn contiguous<'a, T: WithDType>(storage: &'a CpuStorage, layout: &Layout) -> Result<&'a [T]> {
    let (start, end) =
        layout.contiguous_offsets().ok_or_else(|| candle_core::Error::RequiresContiguous { op: "class_loss" }.bt())?;
    Ok(&T::cpu_storage_as_slice(storage)?[start..end])
}
