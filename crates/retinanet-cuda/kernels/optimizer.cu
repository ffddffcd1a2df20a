// Steps of all parameters at once. A block has a chunk of one tensor; which, it finds in a table.

/// As `TensorTable` in Rust writes it.
struct Tensor {
    float *values;
    const float *others;
    float *first, *second;
    double rate_factor;
    float decay;
    int first_chunk;
    long long count;
};

#define CHUNK 4096

/// The tensor that a block belongs to: the last one whose first chunk is not behind it.
INLINE const Tensor &tensor_of(const Tensor *tensors, int num_tensors) {
    int first = 0, end = num_tensors;
    while (end - first > 1) {
        int middle = (first + end) / 2;
        if (tensors[middle].first_chunk <= int(blockIdx.x)) first = middle;
        else end = middle;
    }
    return tensors[first];
}

/// Calls body(i) for the numbers of this thread's chunk.
template <typename F> INLINE void for_each_number(const Tensor &tensor, F body) {
    long long start = (long long)(int(blockIdx.x) - tensor.first_chunk) * CHUNK, end = min(tensor.count, start + CHUNK);
    for (long long i = start + threadIdx.x; i < end; i += THREADS) body(i);
}

/// partials[chunk] = the sum of squares of its gradients, the second of each pair of tensors.
KERNEL(THREADS) sum_squares(const Tensor *tensors, int num_tensors, double *partials) {
    const Tensor &tensor = tensor_of(tensors, num_tensors);
    double sum = 0.0;
    for_each_number(tensor, [&](long long i) { sum += double(tensor.others[i]) * double(tensor.others[i]); });
    sum = block_sum(sum);
    if (threadIdx.x == 0) partials[blockIdx.x] = sum;
}
TOGETHER(sum_squares)

/// norm = the root of the sum of all; one block.
KERNEL(THREADS) finish_norm(const double *partials, int parts, double *norm) {
    double total = 0.0;
    for (int part = threadIdx.x; part < parts; part += THREADS) total += partials[part];
    total = block_sum(total);
    if (threadIdx.x == 0) *norm = sqrt(total);
}
TOGETHER(finish_norm)

/// go = whether all numbers are finite; one thread.
KERNEL(THREADS) are_finite(const double *numbers, int count, int *go) {
    if (thread_index() != 0) return;
    int is_finite = 1;
    for (int i = 0; i < count; i++) is_finite &= numbers[i] - numbers[i] == 0.0;
    *go = is_finite;
}
ALONE(are_finite)

/// What gradients are multiplied by so that their norm is at most `most`.
INLINE float clip_factor(const double *norm, double most) {
    if (!norm) return 1.0f;
    double scale = most / (*norm + 1e-6);
    return scale < 1.0 && *norm - *norm == 0.0 ? float(scale) : 1.0f;
}

// `step` is, in double precision, the learning rate, Adam's 1 - beta1^t and 1 / sqrt(1 - beta2^t), and the average's share.
enum Step { LEARNING_RATE, FIRST_CORRECTION, SECOND_CORRECTION, AVERAGE_SHARE };

/// v = momentum v + (g + decay w); w = w - rate v.
KERNEL(THREADS) sgd_step(const Tensor *tensors, int num_tensors, const double *step, float momentum, const double *norm,
                         long long most_norm, const int *go) {
    if (!*go) return;
    const Tensor &tensor = tensor_of(tensors, num_tensors);
    float factor = clip_factor(norm, __longlong_as_double(most_norm));
    float rate = float(step[LEARNING_RATE] * tensor.rate_factor), decay = tensor.decay;
    for_each_number(tensor, [&](long long i) {
        float gradient = __fmul_rn(tensor.others[i], factor), value = tensor.values[i];
        float velocity = __fadd_rn(__fmul_rn(momentum, tensor.first[i]), __fadd_rn(gradient, __fmul_rn(decay, value)));
        tensor.first[i] = velocity;
        tensor.values[i] = __fsub_rn(value, __fmul_rn(rate, velocity));
    });
}
ALONE(sgd_step)

/// Adam with the decay apart from the gradient.
KERNEL(THREADS) adamw_step(const Tensor *tensors, int num_tensors, const double *step, float beta1, float beta2, float rest1,
                           float rest2, const double *norm, long long most_norm, const int *go) {
    if (!*go) return;
    const Tensor &tensor = tensor_of(tensors, num_tensors);
    float factor = clip_factor(norm, __longlong_as_double(most_norm));
    double scaled_rate = step[LEARNING_RATE] * tensor.rate_factor;
    float rate = float(scaled_rate), forward = float(scaled_rate / step[FIRST_CORRECTION]);
    float correction = float(step[SECOND_CORRECTION]), kept = __fsub_rn(1.0f, __fmul_rn(rate, tensor.decay));
    for_each_number(tensor, [&](long long i) {
        float gradient = __fmul_rn(tensor.others[i], factor), value = __fmul_rn(tensor.values[i], kept);
        float mean = __fadd_rn(__fmul_rn(beta1, tensor.first[i]), __fmul_rn(rest1, gradient));
        float square = __fadd_rn(__fmul_rn(beta2, tensor.second[i]), __fmul_rn(__fmul_rn(rest2, gradient), gradient));
        tensor.first[i] = mean;
        tensor.second[i] = square;
        float divisor = __fadd_rn(__fmul_rn(sqrtf(square), correction), 1e-8f);
        tensor.values[i] = __fsub_rn(value, __fdiv_rn(__fmul_rn(forward, mean), divisor));
    });
}
ALONE(adamw_step)

/// average += share (current - average): exact where both are equal.
KERNEL(THREADS) move_average(const Tensor *tensors, int num_tensors, const double *step, const int *go) {
    if (!*go) return;
    const Tensor &tensor = tensor_of(tensors, num_tensors);
    float share = float(step[AVERAGE_SHARE]);
    for_each_number(tensor, [&](long long i) {
        float average = tensor.values[i];
        tensor.values[i] = __fadd_rn(average, __fmul_rn(share, __fsub_rn(tensor.others[i], average)));
    });
}
ALONE(move_average)
