//! Channels-last tensor operations with gradients that candle lacks or does slowly, as slice kernels and as candle operations.
