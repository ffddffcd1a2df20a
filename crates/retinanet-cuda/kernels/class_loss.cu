// The class losses: value and gradient in one pass over the logits, [N, R, K].
//
// blockIdx.y is an image. A thread takes V logits at a time, 16 bytes in the kernels called wide, and adds up in single precision
// only so many that f32 loses no more than it does in one loss.

#define BACKGROUND (-1)
#define IGNORE (-2)

// Which curve: a gamma with a short form, any gamma, or the alternate form of the focal loss.
enum Curve { GAMMA_0, GAMMA_HALF, GAMMA_1, GAMMA_2, ANY_GAMMA, STAR };

/// 1 / x, to about one unit in the last place.
INLINE float reciprocal(float x) {
#ifdef __CUDACC__
    float result;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return 1.0f / x;
#endif
}

/// The square root, to about one unit in the last place.
INLINE float root(float x) {
#ifdef __CUDACC__
    float result;
    asm("sqrt.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return sqrtf(x);
#endif
}

/// 2^x for x <= 0, to about one unit in the last place; 0 where it would be subnormal.
INLINE float power_of_two(float x) {
#ifdef __CUDACC__
    float result;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x));
    return result;
#else
    return x < -126.0f ? 0.0f : exp2f(x);
#endif
}

/// e^x for x <= 0, above -1e36, to about two units in the last place; NaN for NaN.
INLINE float exp_of_negative(float x) {
    // 2^(x log2 e), with what the product and the constant lose given back: 2^lost is 1 + lost ln 2.
    const float LOG2_E = 1.4426950408889634f, REST = 1.9259629911266175e-8f, LN_2 = 0.6931471805599453f;
    float exponent = x * LOG2_E, power = power_of_two(exponent);
    float lost = multiply_add(x, REST, fmaf(x, LOG2_E, -exponent));
    return multiply_add(power * LN_2, lost, power);
}

/// ln(1 + x) for x in 0..1, to 2.1e-7 of itself however small it is: x times the polynomial of degree 8 whose relative error is
/// least at its most.
INLINE float log_of_one_plus(float x) {
    float series = 0.005232613533735275f;
    series = multiply_add(series, x, -0.029504915699362755f);
    series = multiply_add(series, x, 0.07822542637586594f);
    series = multiply_add(series, x, -0.1366320103406906f);
    series = multiply_add(series, x, 0.19105985760688782f);
    series = multiply_add(series, x, -0.2484297752380371f);
    series = multiply_add(series, x, 0.3331909477710724f);
    series = multiply_add(series, x, -0.4999949336051941f);
    series = multiply_add(series, x, 0.9999999403953552f);
    return series * x;
}

/// The loss of a logit and its derivative, both by x_t = x for the anchor's class and -x for any other, before the alpha weight.
struct Loss {
    float value, slope;
};

/// What is the same for all logits.
struct Shape {
    float gamma, beta, one_over_gamma, beta_over_gamma;
};

template <Curve CURVE> INLINE Loss loss_of(float x, const Shape &shape) {
    float at = CURVE == STAR ? multiply_add(shape.gamma, x, shape.beta) : x;
    // Each part accurate in itself: p = sigmoid, q = 1 - p, ln(1 + e^-|x|).
    float e = exp_of_negative(-fabsf(at)), larger = reciprocal(1.0f + e), smaller = e * larger;
    float log1p = log_of_one_plus(e);
    bool is_positive = at >= 0.0f;
    float p = is_positive ? larger : smaller, q = is_positive ? smaller : larger;
    if (CURVE == STAR) {
        // max(-(gamma x + beta), 0) / gamma without the product, which could overflow where the quotient does not.
        return {multiply_add(log1p, shape.one_over_gamma, fmaxf(-(x + shape.beta_over_gamma), 0.0f)), -q};
    }
    // Where `at` is NaN, so is log1p.
    float cross_entropy = log1p + fmaxf(-at, 0.0f);
    if (CURVE == GAMMA_0) return {cross_entropy, -q};
    float modulation = CURVE == GAMMA_HALF ? root(q)
                       : CURVE == GAMMA_1  ? q
                       : CURVE == GAMMA_2
                           ? q * q
                           // ln(1 - p_t) = -softplus(x_t), so the power never sees a rounded 1 - p_t.
                           : exp_of_negative(-shape.gamma * (log1p + fmaxf(at, 0.0f)));
    const float gamma = CURVE == GAMMA_HALF ? 0.5f : CURVE == GAMMA_1 ? 1.0f : CURVE == GAMMA_2 ? 2.0f : shape.gamma;
    return {modulation * cross_entropy, -modulation * multiply_add(gamma * p, cross_entropy, q)};
}

/// What a launch works on.
template <typename T> struct Job {
    const T *logits;
    const int *classes;
    T *gradient;
    float image_weight;
    // [2, K] alphas of the anchor's class and of the others, or none for one of each.
    const float *alphas;
    float positive, negative;
    Shape shape;
    int num_classes;
    // n / K is n * magic >> shift for n < 2^31.
    long long magic;
    int shift;

    INLINE int row_of(int place) const { return int((unsigned long long)place * (unsigned long long)magic >> shift); }
};

/// Whether V logits count, none of them is of its anchor's class, and all weigh the same: nearly always so.
template <typename T, int V> INLINE bool are_plain(const Job<T> &job, int row, int column) {
    bool are = !job.alphas;
    // From anchor to anchor; `start` is where its first class is, from the first of the logits on.
    for (int start = -column; start < V; start += job.num_classes) {
        int of_anchor = job.classes[row++], own = start + of_anchor;
        are &= of_anchor != IGNORE && (of_anchor < 0 || own < 0 || own >= V);
    }
    return are;
}

/// Loss and gradient of logits that are not plain, one by one.
template <Curve CURVE, typename T> INLINE float losses_of_any(const Job<T> &job, int place, int count, int row, int column) {
    float sum = 0.0f;
    int of_anchor = job.classes[row];
#pragma unroll 1
    for (int i = place; i < place + count; i++, column++) {
        if (column == job.num_classes) {
            column = 0;
            of_anchor = job.classes[++row];
        }
        bool is_own = column == of_anchor;
        float alpha = is_own ? job.positive : job.negative, logit = load(job.logits[i]), slope = 0.0f;
        if (job.alphas) alpha = job.alphas[is_own ? column : job.num_classes + column];
        // What is ignored may be anything, so it is not multiplied by 0.
        if (of_anchor != IGNORE) {
            Loss loss = loss_of<CURVE>(is_own ? logit : -logit, job.shape);
            slope = job.image_weight * alpha * (is_own ? loss.slope : -loss.slope);
            sum += alpha * loss.value;
        }
        job.gradient[i] = nearest<T>(slope);
    }
    return sum;
}

/// Loss and gradient of V logits from a place on.
template <Curve CURVE, typename T, int V> INLINE float losses(const Job<T> &job, int place) {
    float logits[V], slopes[V], sum = 0.0f;
    read<T, V>(job.logits + place, logits);
    int row = job.row_of(place), column = place - row * job.num_classes;
    if (!are_plain<T, V>(job, row, column)) return losses_of_any<CURVE>(job, place, V, row, column);
    float weight = -job.image_weight * job.negative;
#pragma unroll
    for (int k = 0; k < V; k++) {
        Loss loss = loss_of<CURVE>(-logits[k], job.shape);
        sum += loss.value;
        slopes[k] = weight * loss.slope;
    }
    write<T, V>(slopes, job.gradient + place);
    return sum * job.negative;
}

/// Losses that are added in single precision before the sum goes on in double precision.
#define SHORT_SUM 128

template <Curve CURVE, typename T, int V> INLINE double run(const Job<T> &job, int count) {
    double total = 0.0;
    int step = int(num_threads()) * V;
    for (int place = int(thread_index()) * V; place < count;) {
        float sum = 0.0f;
#pragma unroll 1
        for (int i = 0; i < SHORT_SUM / V && place < count; i++, place += step) sum += losses<CURVE, T, V>(job, place);
        total += sum;
    }
    return total;
}

template <typename T, int V>
INLINE void class_loss(const T *logits, const int *classes, T *gradient, const float *image_weights, const float *alphas,
                       float positive, float negative, int curve, float gamma, float beta, float one_over_gamma,
                       float beta_over_gamma, int anchors, int num_classes, long long magic, int shift, double *partials) {
    int count = anchors * num_classes, image = blockIdx.y;
    long long first = (long long)image * count;
    Job<T> job = {logits + first, classes + (long long)image * anchors, gradient + first, image_weights[image], alphas, positive,
                  negative, {gamma, beta, one_over_gamma, beta_over_gamma}, num_classes, magic, shift};
    double total = 0.0;
#define RUN(CURVE)                                                                                                          \
    case CURVE: total = run<CURVE, T, V>(job, count); break;
    switch (curve) { RUN(GAMMA_0) RUN(GAMMA_HALF) RUN(GAMMA_1) RUN(GAMMA_2) RUN(ANY_GAMMA) RUN(STAR) }
#undef RUN
    total = block_sum(total);
    if (threadIdx.x == 0) partials[(long long)image * gridDim.x + blockIdx.x] = total;
}
#define PARAMETERS(T)                                                                                                       \
    const T *logits, const int *classes, T *gradient, const float *image_weights, const float *alphas, float positive,      \
        float negative, int curve, float gamma, float beta, float one_over_gamma, float beta_over_gamma, int anchors,       \
        int num_classes, long long magic, int shift, double *partials
FOR_VECTORS(TOGETHER, class_loss,
            (logits, classes, gradient, image_weights, alphas, positive, negative, curve, gamma, beta, one_over_gamma,
             beta_over_gamma, anchors, num_classes, magic, shift, partials))
#undef PARAMETERS

/// sum += the weighted sum of each image's partial sums, `parts` of them; one block.
KERNEL(THREADS) add_image_sums(const double *partials, const float *image_weights, int parts, int images, double *sum) {
    double total = 0.0;
    for (int image = 0; image < images; image++) {
        double of_image = 0.0;
        for (int part = threadIdx.x; part < parts; part += THREADS) of_image += partials[(long long)image * parts + part];
        total += block_sum(of_image) * image_weights[image];
    }
    if (threadIdx.x == 0) *sum += total;
}
TOGETHER(add_image_sums)
