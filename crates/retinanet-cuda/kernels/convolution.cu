// What is left to be done where a library's convolution gives the product alone.

/// y = activation(y + residual + bias), in rows of `channels` numbers; either may be missing.
template <typename T, int V>
INLINE void finish_convolution(const T *residual, const float *bias, int apply_relu, T *y, int channels, long long count) {
    for (long long i = thread_index() * V; i < count; i += num_threads() * V) {
        float values[V], others[V];
        read<T, V>(y + i, values);
        if (residual) {
            read<T, V>(residual + i, others);
#pragma unroll
            for (int k = 0; k < V; k++) values[k] += others[k];
        }
        if (bias) {
            const float *at = bias + i % channels;
#pragma unroll
            for (int k = 0; k < V; k++) values[k] += at[k];
        }
        if (apply_relu) {
#pragma unroll
            for (int k = 0; k < V; k++) values[k] = relu(values[k]);
        }
        write<T, V>(values, y + i);
    }
}
#define PARAMETERS(T) const T *residual, const float *bias, int apply_relu, T *y, int channels, long long count
FOR_VECTORS(ALONE, finish_convolution, (residual, bias, apply_relu, y, channels, count))
#undef PARAMETERS

/// to += from
template <typename T, int V> INLINE void add_product(const T *from, T *to, long long count) {
    for (long long i = thread_index() * V; i < count; i += num_threads() * V) {
        float values[V], others[V];
        read<T, V>(to + i, values);
        read<T, V>(from + i, others);
#pragma unroll
        for (int k = 0; k < V; k++) values[k] += others[k];
        write<T, V>(values, to + i);
    }
}
#define PARAMETERS(T) const T *from, T *to, long long count
FOR_VECTORS(ALONE, add_product, (from, to, count))
#undef PARAMETERS
