// A step of an optimiser: the norm of all gradients, whether the step counts, and what it does to every parameter.

/// What a step comes to; `go` is 0 where the losses or the norm are no finite numbers, and then nothing changes.
struct Report {
    double class_loss, box_loss, norm;
    long long num_foreground;
    /// On the gradients, so that their norm is within its limit.
    float scale;
    int go;
};

/// parts[block] = the sum of the squares of a block's share of the values.
KERNEL(THREADS) square_parts(const float *values, double *parts, long long count) {
    double sum = 0.0;
    for (long long i = thread_index(); i < count; i += num_threads()) sum += double(values[i]) * double(values[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}
TOGETHER(square_parts)

INLINE bool is_finite(double value) { return value - value == 0.0; }

/// The norm from its parts, in one block, and what follows from it; a limit of 0 or less is none.
KERNEL(THREADS) judge(const double *parts, int num_parts, long long limit, Report *report) {
    double sum = 0.0;
    for (int i = threadIdx.x; i < num_parts; i += THREADS) sum += parts[i];
    sum = block_sum(sum);
    if (threadIdx.x != 0) return;
    double norm = sqrt(sum), most = __longlong_as_double(limit);
    // torch's epsilon.
    double scale = most / (norm + 1e-6);
    report->norm = norm;
    report->scale = most > 0.0 && scale < 1.0 ? float(scale) : 1.0f;
    report->go = is_finite(norm) && is_finite(float(report->class_loss)) && is_finite(float(report->box_loss));
}
TOGETHER(judge)

/// A parameter and what belongs to it.
struct Tensor {
    float *parameter;
    const float *gradient;
    /// Momentum, or Adam's moments.
    float *first, *second;
    /// On the learning rate.
    double rate_factor;
    double decay;
    long long count;
};

/// norms[block] = the norm of a tensor's gradient, where the step does not count: somebody will ask what went wrong.
KERNEL(THREADS) gradient_norms(const Tensor *tensors, const Report *report, double *norms) {
    if (report->go) return;
    Tensor tensor = tensors[blockIdx.x];
    double sum = 0.0;
    for (long long i = threadIdx.x; i < tensor.count; i += THREADS) sum += double(tensor.gradient[i]) * double(tensor.gradient[i]);
    sum = block_sum(sum);
    if (threadIdx.x == 0) norms[blockIdx.x] = sqrt(sum);
}
TOGETHER(gradient_norms)

/// The part of a parameter that a block does.
struct Chunk {
    int tensor, number;
};

/// Numbers of a chunk.
#define CHUNK 4096

/// Calls body(i) for this thread's numbers of its block's chunk.
template <typename F> INLINE void for_each_of_chunk(const Tensor &tensor, int number, F body) {
    long long start = (long long)number * CHUNK, end = min(start + CHUNK, tensor.count);
    for (long long i = start + threadIdx.x; i < end; i += THREADS) body(i);
}

/// v = momentum v + (g + decay w); w = w - rate v.
KERNEL(THREADS) sgd(const Tensor *tensors, const Chunk *chunks, const Report *report, long long learning_rate, float momentum) {
    if (!report->go) return;
    Chunk chunk = chunks[blockIdx.x];
    Tensor tensor = tensors[chunk.tensor];
    float scale = report->scale, decay = float(tensor.decay);
    float rate = float(__longlong_as_double(learning_rate) * tensor.rate_factor);
    for_each_of_chunk(tensor, chunk.number, [&](long long i) {
        float weight = tensor.parameter[i];
        float velocity = momentum * tensor.first[i] + (tensor.gradient[i] * scale + decay * weight);
        tensor.first[i] = velocity;
        tensor.parameter[i] = weight - rate * velocity;
    });
}
ALONE(sgd)

/// Adam with the decay apart from the gradient. `rest1` and `rest2` are 1 - beta, rounded once; `bias1` is 1 - beta1^t in double
/// precision, `correction` 1 / sqrt(1 - beta2^t).
KERNEL(THREADS) adamw(const Tensor *tensors, const Chunk *chunks, const Report *report, long long learning_rate, float beta1,
                      float rest1, float beta2, float rest2, long long bias1, float correction) {
    if (!report->go) return;
    Chunk chunk = chunks[blockIdx.x];
    Tensor tensor = tensors[chunk.tensor];
    double exact_rate = __longlong_as_double(learning_rate) * tensor.rate_factor;
    float scale = report->scale, rate = float(exact_rate), step = float(exact_rate / __longlong_as_double(bias1));
    float kept = 1.0f - rate * float(tensor.decay);
    for_each_of_chunk(tensor, chunk.number, [&](long long i) {
        float gradient = tensor.gradient[i] * scale;
        float first = beta1 * tensor.first[i] + rest1 * gradient;
        float second = beta2 * tensor.second[i] + rest2 * gradient * gradient;
        tensor.first[i] = first;
        tensor.second[i] = second;
        tensor.parameter[i] = tensor.parameter[i] * kept - step * first / (sqrtf(second) * correction + 1e-8f);
    });
}
ALONE(adamw)

/// average += share (current - average), unless the step does not count.
KERNEL(THREADS) move_towards(float *average, const float *current, float share, const Report *report, long long count) {
    if (!report->go) return;
    for (long long i = thread_index(); i < count; i += num_threads()) average[i] += share * (current[i] - average[i]);
}
ALONE(move_towards)
