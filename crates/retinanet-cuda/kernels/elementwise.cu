// One number after another. A thread takes 16 bytes at a time, `vectors` of them; the rest number by number.

/// Calls body(i, Width) for what this thread does of `count` numbers.
template <typename T, typename F> INLINE void for_each_number(long long vectors, long long count, F body) {
    constexpr int V = Wide<T>::COUNT;
    for (long long i = thread_index(); i < vectors; i += num_threads()) body.template run<V>(i * V);
    for (long long i = vectors * V + thread_index(); i < count; i += num_threads()) body.template run<1>(i);
}

template <typename T> struct Relu {
    const T *x;
    T *y;
    template <int V> INLINE void run(long long i) const {
        float values[V];
        read<T, V>(x + i, values);
#pragma unroll
        for (int k = 0; k < V; k++) values[k] = relu(values[k]);
        write<T, V>(values, y + i);
    }
};
template <typename T> INLINE void relu_forward(const T *x, T *y, long long vectors, long long count) {
    for_each_number<T>(vectors, count, Relu<T>{x, y});
}
#define PARAMETERS(T) const T *x, T *y, long long vectors, long long count
FOR_ELEMENTS(ALONE, relu_forward, (x, y, vectors, count))
#undef PARAMETERS

/// The gradient of a ReLU by its output, added to what is there if wanted.
template <typename T> struct ReluGradient {
    const T *y, *y_gradient;
    int accumulate;
    T *x_gradient;
    template <int V> INLINE void run(long long i) const {
        float outputs[V], gradients[V], before[V];
        read<T, V>(y + i, outputs);
        read<T, V>(y_gradient + i, gradients);
        if (accumulate) read<T, V>(x_gradient + i, before);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float gradient = outputs[k] > 0.0f ? gradients[k] : 0.0f;
            gradients[k] = accumulate ? before[k] + gradient : gradient;
        }
        write<T, V>(gradients, x_gradient + i);
    }
};
template <typename T>
INLINE void relu_gradient(const T *y, const T *y_gradient, int accumulate, T *x_gradient, long long vectors, long long count) {
    for_each_number<T>(vectors, count, ReluGradient<T>{y, y_gradient, accumulate, x_gradient});
}
#define PARAMETERS(T) const T *y, const T *y_gradient, int accumulate, T *x_gradient, long long vectors, long long count
FOR_ELEMENTS(ALONE, relu_gradient, (y, y_gradient, accumulate, x_gradient, vectors, count))
#undef PARAMETERS

/// Sets a gradient to 0 where the output of a ReLU is not positive.
template <typename T> struct Gate {
    const T *output;
    T *gradient;
    template <int V> INLINE void run(long long i) const {
        float outputs[V], gradients[V];
        read<T, V>(output + i, outputs);
        read<T, V>(gradient + i, gradients);
#pragma unroll
        for (int k = 0; k < V; k++) gradients[k] = outputs[k] > 0.0f ? gradients[k] : 0.0f;
        write<T, V>(gradients, gradient + i);
    }
};
template <typename T> INLINE void gate(const T *output, T *gradient, long long vectors, long long count) {
    for_each_number<T>(vectors, count, Gate<T>{output, gradient});
}
#define PARAMETERS(T) const T *output, T *gradient, long long vectors, long long count
FOR_ELEMENTS(ALONE, gate, (output, gradient, vectors, count))
#undef PARAMETERS

/// y = activation(a + b); y may be one of them.
template <typename T> struct Add {
    const T *a, *b;
    int is_relu;
    T *y;
    template <int V> INLINE void run(long long i) const {
        float left[V], right[V];
        read<T, V>(a + i, left);
        read<T, V>(b + i, right);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float sum = left[k] + right[k];
            left[k] = is_relu ? relu(sum) : sum;
        }
        write<T, V>(left, y + i);
    }
};
template <typename T> INLINE void add(const T *a, const T *b, int is_relu, T *y, long long vectors, long long count) {
    for_each_number<T>(vectors, count, Add<T>{a, b, is_relu, y});
}
#define PARAMETERS(T) const T *a, const T *b, int is_relu, T *y, long long vectors, long long count
FOR_ELEMENTS(ALONE, add, (a, b, is_relu, y, vectors, count))
#undef PARAMETERS

// From f32 to T, and back.
#define CONVERT(T)                                                                                                          \
    KERNEL(THREADS) convert_f32_##T(const float *from, T *to, long long count) {                                            \
        for (long long i = thread_index(); i < count; i += num_threads()) to[i] = nearest<T>(from[i]);                      \
    }                                                                                                                       \
    KERNEL(THREADS) convert_##T##_f32(const T *from, float *to, long long count) {                                          \
        for (long long i = thread_index(); i < count; i += num_threads()) to[i] = load(from[i]);                            \
    }                                                                                                                       \
    ALONE(convert_f32_##T) ALONE(convert_##T##_f32)
CONVERT(bf16)
CONVERT(f16)
#undef CONVERT
