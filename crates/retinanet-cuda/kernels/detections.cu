// Logits and deltas to detections, as `retinanet::PostProcessing` does it: candidates of each level, then suppression over all
// levels of an image.
//
// A candidate is a key of 64 bits: the logit's bits in the order of the numbers, then the inverse of its place in the level, so that
// the larger key is the better candidate: the higher logit, of equal ones the lower anchor, then the lower class.

typedef unsigned long long Key;

/// Threads of a block that has a level, or an image, to itself.
#define MANY 1024
/// Candidates that a level can give.
#define MOST_CANDIDATES 4096

INLINE Key key_of(float logit, int place) {
    // Both zeros are equal.
    unsigned bits = __float_as_uint(logit == 0.0f ? 0.0f : logit);
    bits = bits >> 31 ? ~bits : bits | 0x80000000u;
    return (Key)bits << 32 | (unsigned)~place;
}
INLINE float logit_of(Key key) {
    unsigned bits = (unsigned)(key >> 32);
    return __uint_as_float(bits >> 31 ? bits & 0x7fffffffu : ~bits);
}
INLINE int place_of(Key key) { return (int)~(unsigned)key; }

/// The exponential is the nearest number, as the processor's is but for a few logits in a thousand, whose score may differ in the
/// last bit.
INLINE float sigmoid(float logit) { return __fdiv_rn(1.0f, __fadd_rn(1.0f, float(exp(-double(logit))))); }

/// sigmoid(logit) > score, without the sigmoid for all but the logits next to the threshold's own.
struct Threshold {
    float score, never, always;
    INLINE bool is_passed_by(float logit) const { return logit > never && (logit > always || sigmoid(logit) > score); }
};

/// Keys of the logits above the threshold, in any order, as far as there is room; blockIdx.y is an image.
template <typename T, int V>
INLINE void gather_candidates(const T *logits, int count, float score, float never, float always, Key *keys, int room, int *found) {
    Threshold threshold = {score, never, always};
    int image = blockIdx.y;
    logits += (long long)image * count;
    keys += (long long)image * room;
    for (int place = int(thread_index()) * V; place < count; place += int(num_threads()) * V) {
        float values[V];
        read<T, V>(logits + place, values);
        int passed = 0;
#pragma unroll
        for (int k = 0; k < V; k++) passed += values[k] > never;
        if (passed == 0) continue;
        for (int k = 0; k < V; k++) {
            if (!threshold.is_passed_by(values[k])) continue;
            int at = atomicAdd(found + image, 1);
            if (at < room) keys[at] = key_of(values[k], place + k);
        }
    }
}
#define PARAMETERS(T) const T *logits, int count, float score, float never, float always, Key *keys, int room, int *found
FOR_VECTORS(ALONE, gather_candidates, (logits, count, score, never, always, keys, room, found))
#undef PARAMETERS

/// The keys that were gathered, or where there was not room for all, those of the logits themselves.
template <typename T> struct KeySource {
    const T *logits;
    int count;
    Threshold threshold;
    const Key *keys;
    int num_keys;
    bool has_all;

    INLINE int size() const { return has_all ? num_keys : count; }
    /// 0 is no candidate.
    INLINE Key at(int i) const {
        if (has_all) return keys[i];
        float logit = load(logits[i]);
        return threshold.is_passed_by(logit) ? key_of(logit, i) : 0;
    }
};

/// Sorts a power of two of keys in shared memory, the largest first.
INLINE void sort_keys(Key *keys, int count) {
    for (int run = 2; run <= count; run *= 2)
        for (int step = run / 2; step > 0; step /= 2) {
            __syncthreads();
            for (int i = threadIdx.x; i < count; i += blockDim.x) {
                int other = i ^ step;
                if (other <= i) continue;
                bool is_falling = (i & run) == 0;
                Key a = keys[i], b = keys[other];
                if (is_falling ? a < b : a > b) {
                    keys[i] = b;
                    keys[other] = a;
                }
            }
        }
    __syncthreads();
}

#define DIGITS 2048
#define DIGIT_BITS 11

/// The best `limit` of a level's candidates, best first, and how many there are; a block for each image. The key of the last of
/// them is found digit by digit, from the highest on, by counting.
template <typename T>
INLINE void select_candidates(const T *logits, int count, float score, float never, float always, const Key *keys, int room,
                              const int *found, int limit, Key *best, int *num_best, int levels, int level) {
    __shared__ Key chosen[MOST_CANDIDATES];
    __shared__ int counts[DIGITS], of_group[DIGITS / 32], state[3];
    int image = blockIdx.x, passed = found[image];
    KeySource<T> source = {logits + (long long)image * count, count, {score, never, always}, keys + (long long)image * room,
                           passed, passed <= room};
    Key prefix = 0, mask = 0;
    int needed = limit;
    for (int shift = 64 - DIGIT_BITS; passed > limit && shift > -DIGIT_BITS; shift -= DIGIT_BITS) {
        int down = shift < 0 ? 0 : shift;
        Key digit_mask = shift < 0 ? ((Key)1 << (DIGIT_BITS + shift)) - 1 : DIGITS - 1;
        for (int i = threadIdx.x; i < DIGITS; i += blockDim.x) counts[i] = 0;
        __syncthreads();
        for (int i = threadIdx.x; i < source.size(); i += blockDim.x) {
            Key key = source.at(i);
            if (key != 0 && (key & mask) == prefix) atomicAdd(counts + int((key >> down) & digit_mask), 1);
        }
        __syncthreads();
        if (threadIdx.x < DIGITS / 32) {
            int sum = 0;
            for (int i = 0; i < 32; i++) sum += counts[threadIdx.x * 32 + i];
            of_group[threadIdx.x] = sum;
        }
        __syncthreads();
        if (threadIdx.x == 0) {
            int above = 0, group = DIGITS / 32 - 1;
            while (above + of_group[group] < needed) above += of_group[group--];
            int digit = group * 32 + 31;
            while (above + counts[digit] < needed) above += counts[digit--];
            state[0] = digit;
            state[1] = above;
            state[2] = counts[digit];
        }
        __syncthreads();
        prefix |= (Key)state[0] << down;
        mask |= digit_mask << down;
        needed -= state[1];
        bool is_whole = state[2] == needed;
        __syncthreads();
        if (is_whole) break;
    }
    if (threadIdx.x == 0) state[0] = 0;
    __syncthreads();
    for (int i = threadIdx.x; i < source.size(); i += blockDim.x) {
        Key key = source.at(i);
        if (key != 0 && (key & mask) >= prefix) chosen[atomicAdd(state, 1)] = key;
    }
    __syncthreads();
    int total = state[0], padded = 1;
    while (padded < total) padded *= 2;
    for (int i = total + threadIdx.x; i < padded; i += blockDim.x) chosen[i] = 0;
    sort_keys(chosen, padded);
    best += ((long long)image * levels + level) * limit;
    for (int i = threadIdx.x; i < total; i += blockDim.x) best[i] = chosen[i];
    if (threadIdx.x == 0) num_best[image * levels + level] = total;
}
#define PARAMETERS(T)                                                                                                       \
    const T *logits, int count, float score, float never, float always, const Key *keys, int room, const int *found, int limit, \
        Key *best, int *num_best, int levels, int level
FOR_ELEMENTS_IN(MANY, TOGETHER, select_candidates,
                (logits, count, score, never, always, keys, room, found, limit, best, num_best, levels, level))
#undef PARAMETERS

/// A box with all that suppression asks.
struct Found {
    // As it is decoded, and clipped to the image.
    Box decoded, clipped;
    float score;
    int label;
};

INLINE float clamped(float ratio, float most) { return ratio > most ? most : ratio; }
/// As `f32::clamp`: NaN stays.
INLINE float within(float x, float most) { return x < 0.0f ? 0.0f : x > most ? most : x; }

/// Decodes the candidates of a level and puts them where they come in the image's order: by falling score, those of equal score by
/// level and then as they are in their level. blockIdx.y is an image.
template <typename T>
INLINE void decode_candidates(const T *deltas, const float *anchors, int num_anchors, int num_classes, const float *sizes, float wx,
                              float wy, float ww, float wh, float clamp, const Key *best, const int *num_best, int limit, int levels,
                              int level, Found *found) {
    int image = blockIdx.y, i = int(thread_index());
    best += (long long)image * levels * limit;
    num_best += image * levels;
    if (i >= num_best[level]) return;
    Key key = best[level * limit + i];
    Found result;
    result.score = sigmoid(logit_of(key));
    int rank = i;
    for (int other = 0; other < levels; other++) {
        if (other == level) continue;
        // How many come before: the first one that does not.
        int first = 0, end = num_best[other];
        while (first < end) {
            int middle = (first + end) / 2;
            float score = sigmoid(logit_of(best[other * limit + middle]));
            if (score > result.score || (other < level && score == result.score)) first = middle + 1;
            else end = middle;
        }
        rank += first;
    }
    int place = place_of(key), index = place / num_classes;
    result.label = place % num_classes;
    Box anchor = box_at(anchors, index);
    deltas += 4 * ((long long)image * num_anchors + index);
    float width = __fsub_rn(anchor.x1, anchor.x0), height = __fsub_rn(anchor.y1, anchor.y0);
    float anchor_x = __fadd_rn(anchor.x0, __fmul_rn(0.5f, width)), anchor_y = __fadd_rn(anchor.y0, __fmul_rn(0.5f, height));
    float x = __fadd_rn(__fmul_rn(__fdiv_rn(load(deltas[0]), wx), width), anchor_x);
    float y = __fadd_rn(__fmul_rn(__fdiv_rn(load(deltas[1]), wy), height), anchor_y);
    float grown_width = float(exp(double(clamped(__fdiv_rn(load(deltas[2]), ww), clamp))));
    float grown_height = float(exp(double(clamped(__fdiv_rn(load(deltas[3]), wh), clamp))));
    float half_width = __fmul_rn(0.5f, __fmul_rn(grown_width, width));
    float half_height = __fmul_rn(0.5f, __fmul_rn(grown_height, height));
    result.decoded = {__fsub_rn(x, half_width), __fsub_rn(y, half_height), __fadd_rn(x, half_width), __fadd_rn(y, half_height)};
    float image_width = sizes[2 * image], image_height = sizes[2 * image + 1];
    result.clipped = {within(result.decoded.x0, image_width), within(result.decoded.y0, image_height),
                      within(result.decoded.x1, image_width), within(result.decoded.y1, image_height)};
    found[(long long)image * levels * limit + rank] = result;
}
#define PARAMETERS(T)                                                                                                           \
    const T *deltas, const float *anchors, int num_anchors, int num_classes, const float *sizes, float wx, float wy, float ww,  \
        float wh, float clamp, const Key *best, const int *num_best, int limit, int levels, int level, Found *found
FOR_ELEMENTS(ALONE, decode_candidates,
             (deltas, anchors, num_anchors, num_classes, sizes, wx, wy, ww, wh, clamp, best, num_best, limit, levels, level, found))
#undef PARAMETERS

enum Borders { TORCHVISION, DETECTRON2, MMDETECTION };

/// A detection as it is read back.
struct Detection {
    Box box;
    float score;
    int label;
};

/// Suppression within each class over an image's candidates, which lie in their order; a block for each image. The first
/// `most_detections` that stay are written, and how many.
KERNEL(MANY) suppress(const Found *found, const int *num_best, int limit, int levels, float iou_threshold, int borders,
                      int most_detections, unsigned char *is_gone, int *counts, Detection *detections) {
    int image = blockIdx.x, total = 0;
    for (int level = 0; level < levels; level++) total += num_best[image * levels + level];
    found += (long long)image * levels * limit;
    is_gone += (long long)image * levels * limit;
    detections += (long long)image * most_detections;
    for (int i = threadIdx.x; i < total; i += blockDim.x) {
        Box box = borders == DETECTRON2 ? found[i].decoded : found[i].clipped;
        is_gone[i] = !is_finite(box) || (borders == MMDETECTION && !(area(box) > 0.0f));
    }
    int kept = 0, written = 0;
    for (int i = 0;; i++) {
        // All threads look for the next one that stays, and see the same.
        __syncthreads();
        while (i < total && is_gone[i]) i++;
        if (i >= total || kept == most_detections) break;
        kept++;
        Found one = found[i];
        Box box = borders == DETECTRON2 ? one.decoded : one.clipped;
        float box_area = area(box);
        for (int other = i + 1 + threadIdx.x; other < total; other += blockDim.x) {
            if (is_gone[other] || found[other].label != one.label) continue;
            Box candidate = borders == DETECTRON2 ? found[other].decoded : found[other].clipped;
            float iou = iou_or_nan(candidate, area(candidate), box, box_area);
            // An overlap of nothing never suppresses, even below a negative threshold.
            if (iou > 0.0f && iou > iou_threshold) is_gone[other] = 1;
        }
        if (borders == DETECTRON2 && !(area(one.clipped) > 0.0f)) continue;
        if (threadIdx.x == 0) detections[written] = {one.clipped, one.score, one.label};
        written++;
    }
    if (threadIdx.x == 0) counts[image] = written;
}
TOGETHER(suppress)
