// The box losses: over foreground anchors alone, in double precision, as there are few.

enum Kind { L1, SMOOTH_L1, GIOU, DIOU, CIOU };

/// A number with its derivatives by the four box deltas.
struct Dual {
    double value, gradient[4];
};

INLINE Dual constant(double value) { return {value, {0.0, 0.0, 0.0, 0.0}}; }
INLINE Dual chain(const Dual &a, double value, double derivative) {
    return {value, {a.gradient[0] * derivative, a.gradient[1] * derivative, a.gradient[2] * derivative, a.gradient[3] * derivative}};
}
INLINE Dual join(const Dual &a, const Dual &b, double value, double by_a, double by_b) {
    Dual result;
    result.value = value;
    for (int i = 0; i < 4; i++) result.gradient[i] = a.gradient[i] * by_a + b.gradient[i] * by_b;
    return result;
}
INLINE Dual operator+(const Dual &a, const Dual &b) { return join(a, b, a.value + b.value, 1.0, 1.0); }
INLINE Dual operator-(const Dual &a, const Dual &b) { return join(a, b, a.value - b.value, 1.0, -1.0); }
INLINE Dual operator*(const Dual &a, const Dual &b) { return join(a, b, a.value * b.value, b.value, a.value); }
INLINE Dual operator/(const Dual &a, const Dual &b) {
    double value = a.value / b.value;
    return join(a, b, value, 1.0 / b.value, -value / b.value);
}
INLINE Dual operator+(const Dual &a, double b) { return chain(a, a.value + b, 1.0); }
INLINE Dual operator-(const Dual &a, double b) { return chain(a, a.value - b, 1.0); }
INLINE Dual operator*(const Dual &a, double b) { return chain(a, a.value * b, b); }
INLINE Dual operator/(const Dual &a, double b) { return chain(a, a.value / b, 1.0 / b); }
INLINE Dual smaller(const Dual &a, const Dual &b) { return a.value <= b.value ? a : b; }
INLINE Dual larger(const Dual &a, const Dual &b) { return a.value >= b.value ? a : b; }
/// |a|, with derivative 0 at 0.
INLINE Dual magnitude(const Dual &a) {
    return chain(a, fabs(a.value), a.value > 0.0 ? 1.0 : a.value < 0.0 ? -1.0 : a.value == 0.0 ? 0.0 : a.value);
}
INLINE Dual exponential(const Dual &a) {
    double value = exp(a.value);
    return chain(a, value, value);
}
INLINE Dual arc_tangent(const Dual &a) { return chain(a, atan(a.value), 1.0 / (1.0 + a.value * a.value)); }

/// A ratio's logarithm as the box coder has it: a side that is not positive counts as the least positive number.
INLINE float log_ratio(float side, float of_anchor) {
    float ratio = __fdiv_rn(side, of_anchor), least = __uint_as_float(0x00800000u);
    return float(log(double(ratio < least ? least : ratio)));
}

/// The four deltas that lead from an anchor to a box.
INLINE void encode(Box box, Box anchor, const float (&weights)[4], float (&targets)[4]) {
    float width = __fsub_rn(anchor.x1, anchor.x0), height = __fsub_rn(anchor.y1, anchor.y0);
    float wanted_width = __fsub_rn(box.x1, box.x0), wanted_height = __fsub_rn(box.y1, box.y0);
    float dx = __fsub_rn(__fadd_rn(box.x0, __fmul_rn(0.5f, wanted_width)), __fadd_rn(anchor.x0, __fmul_rn(0.5f, width)));
    float dy = __fsub_rn(__fadd_rn(box.y0, __fmul_rn(0.5f, wanted_height)), __fadd_rn(anchor.y0, __fmul_rn(0.5f, height)));
    targets[0] = __fdiv_rn(__fmul_rn(weights[0], dx), width);
    targets[1] = __fdiv_rn(__fmul_rn(weights[1], dy), height);
    targets[2] = __fmul_rn(weights[2], log_ratio(wanted_width, width));
    targets[3] = __fmul_rn(weights[3], log_ratio(wanted_height, height));
}

/// Loss of a foreground anchor with its gradient.
INLINE Dual loss_of(int kind, double beta, const float (&deltas)[4], const float (&weights)[4], float clamp, Box anchor, Box box) {
    Dual delta[4];
    for (int i = 0; i < 4; i++) {
        delta[i] = constant(deltas[i]);
        delta[i].gradient[i] = 1.0;
    }
    if (kind == L1 || kind == SMOOTH_L1) {
        float targets[4];
        encode(box, anchor, weights, targets);
        Dual sum = constant(0.0);
        for (int i = 0; i < 4; i++) {
            Dual d = magnitude(delta[i] - double(targets[i]));
            if (kind == SMOOTH_L1) d = d.value < beta ? d * d / (2.0 * beta) : d - beta / 2.0;
            sum = sum + d;
        }
        return sum;
    }
    // torchvision's: no quotient is 0 / 0.
    const double EPSILON = 1e-7;
    double x0 = anchor.x0, y0 = anchor.y0, width = anchor.x1 - x0, height = anchor.y1 - y0;
    Dual limit = constant(clamp);
    Dual center_x = delta[0] / double(weights[0]) * width + (x0 + width / 2.0);
    Dual center_y = delta[1] / double(weights[1]) * height + (y0 + height / 2.0);
    Dual half_width = exponential(smaller(delta[2] / double(weights[2]), limit)) * (width / 2.0);
    Dual half_height = exponential(smaller(delta[3] / double(weights[3]), limit)) * (height / 2.0);
    Dual left = center_x - half_width, top = center_y - half_height;
    Dual right = center_x + half_width, bottom = center_y + half_height;
    Dual wanted_left = constant(box.x0), wanted_top = constant(box.y0);
    Dual wanted_right = constant(box.x1), wanted_bottom = constant(box.y1), zero = constant(0.0);

    Dual intersection = larger(smaller(right, wanted_right) - larger(left, wanted_left), zero) *
                        larger(smaller(bottom, wanted_bottom) - larger(top, wanted_top), zero);
    Dual unity = (right - left) * (bottom - top) +
                 (double(box.x1) - double(box.x0)) * (double(box.y1) - double(box.y0)) - intersection;
    Dual iou = intersection / (unity + EPSILON);
    Dual around_width = larger(right, wanted_right) - smaller(left, wanted_left);
    Dual around_height = larger(bottom, wanted_bottom) - smaller(top, wanted_top);
    if (kind == GIOU) {
        Dual around = around_width * around_height;
        return constant(1.0) - (iou - (around - unity) / (around + EPSILON));
    }
    Dual dx = (left + right - (double(box.x0) + double(box.x1))) / 2.0;
    Dual dy = (top + bottom - (double(box.y0) + double(box.y1))) / 2.0;
    Dual diagonal = around_width * around_width + around_height * around_height + EPSILON;
    Dual loss = constant(1.0) - (iou - (dx * dx + dy * dy) / diagonal);
    if (kind == DIOU) return loss;
    const double PI = 3.14159265358979323846;
    double wanted = atan((double(box.x1) - double(box.x0)) / (double(box.y1) - double(box.y0)));
    // A height can underflow to 0 beside its coordinates.
    Dual angle = arc_tangent((right - left) / larger(bottom - top, constant(EPSILON))) - wanted;
    Dual v = angle * angle * (4.0 / (PI * PI));
    // A weight, not a term of its own: the authors let no gradient through it.
    return loss + v * (v.value / (1.0 - iou.value + v.value + EPSILON));
}

/// partials[block] = the weighted losses of anchors that have a box, `matched` >= 0; the gradient of all others is 0.
/// Gradients are multiplied by a factor, the losses are not.
template <typename T>
INLINE void box_loss(const T *deltas, const float *anchors, const int *matched, const float *boxes, const float *image_weights,
                     float factor, T *gradient, int kind, long long beta, float wx, float wy, float ww, float wh, float clamp,
                     int num_anchors, long long count, double *partials) {
    const float weights[4] = {wx, wy, ww, wh};
    double total = 0.0;
    for (long long i = thread_index(); i < count; i += num_threads()) {
        float slopes[4] = {0.0f, 0.0f, 0.0f, 0.0f};
        int of_anchor = matched[i];
        if (of_anchor >= 0) {
            float values[4];
            for (int k = 0; k < 4; k++) values[k] = load(deltas[4 * i + k]);
            Dual loss = loss_of(kind, __longlong_as_double(beta), values, weights, clamp, box_at(anchors, i % num_anchors), box_at(boxes, of_anchor));
            double weight = image_weights[i / num_anchors];
            total += weight * loss.value;
            for (int k = 0; k < 4; k++) slopes[k] = float(weight * factor * loss.gradient[k]);
        }
        for (int k = 0; k < 4; k++) gradient[4 * i + k] = nearest<T>(slopes[k]);
    }
    total = block_sum(total);
    if (threadIdx.x == 0) partials[blockIdx.x] = total;
}
#define PARAMETERS(T)                                                                                                       \
    const T *deltas, const float *anchors, const int *matched, const float *boxes, const float *image_weights, float factor, \
        T *gradient, int kind, long long beta, float wx, float wy, float ww, float wh, float clamp, int num_anchors,         \
        long long count, double *partials
FOR_ELEMENTS(TOGETHER, box_loss,
             (deltas, anchors, matched, boxes, image_weights, factor, gradient, kind, beta, wx, wy, ww, wh, clamp, num_anchors,
              count, partials))
#undef PARAMETERS

/// sum += all partial sums; one block.
KERNEL(THREADS) add_partial_sums(const double *partials, int parts, double *sum) {
    double total = 0.0;
    for (int part = threadIdx.x; part < parts; part += THREADS) total += partials[part];
    total = block_sum(total);
    if (threadIdx.x == 0) *sum += total;
}
TOGETHER(add_partial_sums)
