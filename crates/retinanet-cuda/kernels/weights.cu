// Parameters, f32 in torch's order, and the weights that convolutions read.

/// A frozen norm as a scale and a shift: w / sqrt(variance + epsilon), b - mean scale.
KERNEL(THREADS) fold_norm(const float *weight, const float *bias, const float *mean, const float *variance, long long epsilon,
                          float *scale, float *shift, int channels) {
    int channel = int(thread_index());
    if (channel >= channels) return;
    float factor = float(weight[channel] / sqrt(variance[channel] + __longlong_as_double(epsilon)));
    scale[channel] = factor;
    shift[channel] = float(bias[channel] - double(mean[channel]) * factor);
}
ALONE(fold_norm)

/// `[O, I, kh kw]` in f32, times a scale of each output unless there is none, to `[O, kh kw, I]`.
template <typename T>
INLINE void pack_weight(const float *weight, const float *scale, T *packed, int inputs, int taps, int count) {
    for (int i = int(thread_index()); i < count; i += int(num_threads())) {
        int input = i % inputs, rest = i / inputs, output = rest / taps, tap = rest % taps;
        float value = weight[(output * inputs + input) * taps + tap];
        packed[i] = nearest<T>(scale ? value * scale[output] : value);
    }
}
#define PARAMETERS(T) const float *weight, const float *scale, T *packed, int inputs, int taps, int count
FOR_ELEMENTS(ALONE, pack_weight, (weight, scale, packed, inputs, taps, count))
#undef PARAMETERS

/// The way back, for a gradient, which is added.
template <typename T>
INLINE void unpack_weight_gradient(const T *packed, const float *scale, float *gradient, int inputs, int taps, int count) {
    for (int i = int(thread_index()); i < count; i += int(num_threads())) {
        int tap = i % taps, rest = i / taps, output = rest / inputs, input = rest % inputs;
        float value = load(packed[(output * taps + tap) * inputs + input]);
        gradient[i] += scale ? value * scale[output] : value;
    }
}
#define PARAMETERS(T) const T *packed, const float *scale, float *gradient, int inputs, int taps, int count
FOR_ELEMENTS(ALONE, unpack_weight_gradient, (packed, scale, gradient, inputs, taps, count))
#undef PARAMETERS

/// Moves running statistics by the momentum, the variance unbiased as torch has it; not where `go` is 0.
KERNEL(THREADS) update_running_statistics(const double *statistics, long long count, long long momentum, float *mean,
                                          float *variance, const int *go, int channels) {
    int channel = int(thread_index());
    if (channel >= channels || (go && !*go)) return;
    double share = __longlong_as_double(momentum), unbiased = double(count) / double(count > 1 ? count - 1 : 1);
    float old_share = float(1.0 - share), new_share = float(share);
    mean[channel] = __fadd_rn(__fmul_rn(mean[channel], old_share), __fmul_rn(float(statistics[channel]), new_share));
    float seen = float(statistics[channels + channel] * unbiased);
    variance[channel] = __fadd_rn(__fmul_rn(variance[channel], old_share), __fmul_rn(seen, new_share));
}
ALONE(update_running_statistics)
