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

/// e^x for x <= 0, to about two units in the last place; NaN for NaN.
INLINE float exp_of_negative(float x) {
    // Below, it is 0; the comparison is false for NaN, which goes through.
    x = x < -88.0f ? -88.0f : x;
#ifdef __CUDACC__
    // 2^(x log2 e), with what the product loses given back: 2^lost is 1 + lost ln 2.
    const float LOG2_E = 1.4426950408889634f, REST = 1.9259629911266175e-8f, LN_2 = 0.6931471805599453f;
    float exponent = __fmul_rn(x, LOG2_E), power;
    float lost = __fmaf_rn(x, REST, __fmaf_rn(x, LOG2_E, -exponent));
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(exponent));
    return __fmaf_rn(power, __fmul_rn(lost, LN_2), power);
#else
    return expf(x);
#endif
}

/// The loss of a logit and its derivative, both by x_t = x for the anchor's class and -x for any other, before the alpha weight.
struct Loss {
    float value, slope;
};

template <Curve CURVE> INLINE Loss loss_of(float x, float gamma, float beta, float one_over_gamma, float beta_over_gamma) {
    float at = CURVE == STAR ? multiply_add(gamma, x, beta) : x;
    // Each part accurate in itself: p = sigmoid, q = 1 - p, ln(1 + e^-|x|).
    float magnitude = at < 0.0f ? -at : at, e = exp_of_negative(-magnitude);
    // One division serves both 1 / (1 + e) and z = e / (2 + e).
    float one_plus = 1.0f + e, two_plus = 2.0f + e, both = reciprocal(one_plus * two_plus);
    float larger = both * two_plus, smaller = e * larger;
    // ln(1 + e) = 2 atanh(z), which keeps its relative accuracy however small e is; z^2 <= 1/9.
    float z = e * both * one_plus, square = z * z, series = 1.0f / 13.0f;
    series = multiply_add(series, square, 1.0f / 11.0f);
    series = multiply_add(series, square, 1.0f / 9.0f);
    series = multiply_add(series, square, 1.0f / 7.0f);
    series = multiply_add(series, square, 1.0f / 5.0f);
    series = multiply_add(series, square, 1.0f / 3.0f);
    series = multiply_add(series, square, 1.0f);
    float log1p = (z + z) * series;
    bool is_positive = at >= 0.0f;
    float p = is_positive ? larger : smaller, q = is_positive ? smaller : larger;
    if (CURVE == STAR) {
        // max(-(gamma x + beta), 0) / gamma without the product, which could overflow where the quotient does not.
        float shifted = x + beta_over_gamma, below = shifted >= 0.0f ? 0.0f : -shifted;
        return {multiply_add(log1p, one_over_gamma, below), -q};
    }
    float cross_entropy = is_positive ? log1p : log1p + magnitude;
    if (CURVE == GAMMA_0) return {cross_entropy, -q};
    float modulation = CURVE == GAMMA_HALF ? root(q)
                       : CURVE == GAMMA_1  ? q
                       : CURVE == GAMMA_2
                           ? q * q
                           // ln(1 - p_t) = -softplus(x_t), so the power never sees a rounded 1 - p_t.
                           : exp_of_negative(-gamma * (is_positive ? log1p + magnitude : log1p));
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
    float positive, negative, gamma, beta, one_over_gamma, beta_over_gamma;
    int num_classes;
    // n / K is n * magic >> shift for n < 2^31.
    long long magic;
    int shift;

    INLINE int row_of(int place) const { return int((unsigned long long)place * (unsigned long long)magic >> shift); }
};

/// Loss and gradient of V logits from a place on; with WHOLE, all of one anchor.
template <Curve CURVE, typename T, int V, bool WHOLE> INLINE float losses(const Job<T> &job, int place) {
    float logits[V], slopes[V], sum = 0.0f;
    read<T, V>(job.logits + place, logits);
    int row = job.row_of(place), column = place - row * job.num_classes, of_anchor = job.classes[row];
#pragma unroll
    for (int k = 0; k < V; k++) {
        if (!WHOLE && k > 0 && ++column == job.num_classes) {
            column = 0;
            of_anchor = job.classes[++row];
        }
        int label = WHOLE ? column + k : column;
        bool is_own = label == of_anchor, counts = of_anchor != IGNORE;
        float alpha = is_own ? job.positive : job.negative;
        if (job.alphas) alpha = job.alphas[is_own ? label : job.num_classes + label];
        Loss loss = loss_of<CURVE>(is_own ? logits[k] : -logits[k], job.gamma, job.beta, job.one_over_gamma, job.beta_over_gamma);
        // Not by a factor of 0: what is ignored may be anything.
        sum += counts ? alpha * loss.value : 0.0f;
        float slope = job.image_weight * alpha * loss.slope;
        slopes[k] = counts ? (is_own ? slope : -slope) : 0.0f;
    }
    write<T, V>(slopes, job.gradient + place);
    return sum;
}

/// Losses that are added in single precision before the sum goes on in double precision.
#define SHORT_SUM 128

template <Curve CURVE, typename T, int V, bool WHOLE> INLINE double run(const Job<T> &job, int count) {
    double total = 0.0;
    int step = int(num_threads()) * V;
    for (int place = int(thread_index()) * V; place < count;) {
        float sum = 0.0f;
#pragma unroll 2
        for (int i = 0; i < SHORT_SUM / V && place < count; i++, place += step) sum += losses<CURVE, T, V, WHOLE>(job, place);
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
    Job<T> job = {logits + first, classes + (long long)image * anchors, gradient + first, image_weights[image], alphas,
                  positive, negative, gamma, beta, one_over_gamma, beta_over_gamma, num_classes, magic, shift};
    bool is_whole = num_classes % V == 0;
    double total = 0.0;
#define RUN(CURVE)                                                                                                          \
    case CURVE: total = is_whole ? run<CURVE, T, V, true>(job, count) : run<CURVE, T, V, false>(job, count); break;
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
