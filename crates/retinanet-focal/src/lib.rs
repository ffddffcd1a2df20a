//! The focal loss family on candle tensors: value and analytic gradient in one pass.
