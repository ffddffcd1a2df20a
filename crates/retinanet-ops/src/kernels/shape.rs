//! Shapes of the operations, checked once, so that kernels need not.

use std::fmt;

/// A shape that an operation cannot work on, as `what: expected E, found F`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShapeError(String);

impl ShapeError {
    pub(crate) fn new(what: &str, expected: impl fmt::Display, found: impl fmt::Display) -> Self {
        Self(format!("{what}: expected {expected}, found {found}"))
    }
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ShapeError {}

/// What follows an operation, fused into it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// Nothing.
    #[default]
    None,
    /// max(x, 0); its gradient at 0 is 0.
    Relu,
}

/// The shape of images or feature maps, `[N, H, W, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ImageShape {
    /// N.
    pub batch: usize,
    /// H.
    pub height: usize,
    /// W.
    pub width: usize,
    /// C.
    pub channels: usize,
}

impl ImageShape {
    /// N * H * W.
    pub fn num_pixels(&self) -> usize {
        self.batch * self.height * self.width
    }

    /// N * H * W * C.
    pub fn len(&self) -> usize {
        self.num_pixels() * self.channels
    }

    /// Whether there are no numbers.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn check_not_empty(&self) -> Result<(), ShapeError> {
        if self.is_empty() {
            let Self { batch, height, width, channels } = self;
            let found = format!("[{batch}, {height}, {width}, {channels}]");
            return Err(ShapeError::new("input", "no empty dimension", found));
        }
        Ok(())
    }
}

/// Padding beyond this is a mistake, and would overflow what is computed from it.
const MAX_PADDING: usize = 1 << 16;

/// Places of a window of `kernel` on `len` padded by `padding` on both sides.
fn window_places(what: &str, len: usize, kernel: usize, stride: usize, padding: usize) -> Result<usize, ShapeError> {
    if padding > MAX_PADDING {
        return Err(ShapeError::new("padding", format_args!("at most {MAX_PADDING}"), padding));
    }
    match (len + 2 * padding).checked_sub(kernel) {
        Some(room) => Ok(room / stride + 1),
        None => Err(ShapeError::new(what, format_args!("at least {kernel} with padding {padding}"), len)),
    }
}

/// A convolution: input `[N, H, W, Cin]`, weight `[Cout, Cin / groups, kh, kw]`, output `[N, H', W', Cout]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConvShape {
    input: ImageShape,
    out_channels: usize,
    kernel: (usize, usize),
    stride: usize,
    padding: usize,
    groups: usize,
    out_size: (usize, usize),
}

impl ConvShape {
    /// The convolution of `input` by a weight of dimensions `weight` (OIHW).
    ///
    /// # Errors
    /// An empty dimension; stride or groups 0; channels that do not fit the weight or the groups; a kernel larger than
    /// the padded input.
    pub fn new(
        input: ImageShape,
        weight: [usize; 4],
        stride: usize,
        padding: usize,
        groups: usize,
    ) -> Result<Self, ShapeError> {
        let [out_channels, group_channels, kernel_height, kernel_width] = weight;
        input.check_not_empty()?;
        if weight.contains(&0) {
            return Err(ShapeError::new("weight", "no empty dimension", format_args!("{weight:?}")));
        }
        if stride == 0 {
            return Err(ShapeError::new("stride", "at least 1", 0));
        }
        if groups == 0 {
            return Err(ShapeError::new("groups", "at least 1", 0));
        }
        let in_channels = group_channels.saturating_mul(groups);
        if input.channels != in_channels {
            return Err(ShapeError::new("input channels", in_channels, input.channels));
        }
        if !out_channels.is_multiple_of(groups) {
            let expected = format!("a multiple of {groups} groups");
            return Err(ShapeError::new("output channels", expected, out_channels));
        }
        let out_height = window_places("input height", input.height, kernel_height, stride, padding)?;
        let out_width = window_places("input width", input.width, kernel_width, stride, padding)?;
        let kernel = (kernel_height, kernel_width);
        Ok(Self { input, out_channels, kernel, stride, padding, groups, out_size: (out_height, out_width) })
    }

    /// The input's shape.
    pub fn input(&self) -> ImageShape {
        self.input
    }

    /// The output's shape.
    pub fn output(&self) -> ImageShape {
        let (height, width) = self.out_size;
        ImageShape { batch: self.input.batch, height, width, channels: self.out_channels }
    }

    /// The weight's dimensions, OIHW.
    pub fn weight(&self) -> [usize; 4] {
        [self.out_channels, self.input.channels / self.groups, self.kernel.0, self.kernel.1]
    }

    /// Pixels from one window to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Zero pixels around the input.
    pub fn padding(&self) -> usize {
        self.padding
    }

    /// Groups of channels that do not see each other.
    pub fn groups(&self) -> usize {
        self.groups
    }

    /// Multiplications and additions of the forward pass, and of each of its two gradients.
    pub fn flops(&self) -> usize {
        let [out_channels, group_channels, kernel_height, kernel_width] = self.weight();
        2 * self.output().num_pixels() * out_channels * group_channels * kernel_height * kernel_width
    }

    /// Whether every pixel is a product of its own: one tap, no stride, no padding.
    pub(crate) fn is_pointwise(&self) -> bool {
        self.kernel == (1, 1) && self.stride == 1 && self.padding == 0
    }
}

/// A pooling window sliding over `[N, H, W, C]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct PoolShape {
    input: ImageShape,
    kernel: usize,
    stride: usize,
    padding: usize,
    out_size: (usize, usize),
}

impl PoolShape {
    /// A `kernel` x `kernel` window over `input`.
    ///
    /// # Errors
    /// An empty dimension, kernel or stride; padding of more than half the kernel (a window could hold padding alone);
    /// a kernel larger than the padded input.
    pub fn new(input: ImageShape, kernel: usize, stride: usize, padding: usize) -> Result<Self, ShapeError> {
        input.check_not_empty()?;
        if kernel == 0 {
            return Err(ShapeError::new("kernel", "at least 1", 0));
        }
        if stride == 0 {
            return Err(ShapeError::new("stride", "at least 1", 0));
        }
        if padding > kernel / 2 {
            let expected = format!("at most half the kernel, {}", kernel / 2);
            return Err(ShapeError::new("padding", expected, padding));
        }
        let out_height = window_places("input height", input.height, kernel, stride, padding)?;
        let out_width = window_places("input width", input.width, kernel, stride, padding)?;
        Ok(Self { input, kernel, stride, padding, out_size: (out_height, out_width) })
    }

    /// The input's shape.
    pub fn input(&self) -> ImageShape {
        self.input
    }

    /// The output's shape.
    pub fn output(&self) -> ImageShape {
        let (height, width) = self.out_size;
        ImageShape { height, width, ..self.input }
    }

    /// Rows and columns of the window.
    pub fn kernel(&self) -> usize {
        self.kernel
    }

    /// Pixels from one window to the next.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// Pixels of minus infinity around the input.
    pub fn padding(&self) -> usize {
        self.padding
    }
}
