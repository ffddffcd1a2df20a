// What each anchor is trained toward, by IoU with thresholds. blockIdx.y is an image; a thread has an anchor. `first` says which of
// all boxes are an image's, with an entry more than there are images.

/// The IoU of an anchor and a box, 0 where they do not overlap.
INLINE float overlap(Box anchor, float anchor_area, Box box) {
    // Most pairs do not touch, which comparisons tell. What is no number touches nothing.
    if (!(anchor.x0 < box.x1 && box.x0 < anchor.x1 && anchor.y0 < box.y1 && box.y0 < anchor.y1)) return 0.0f;
    float iou = iou_or_nan(anchor, anchor_area, box, area(box));
    return iou > 0.0f ? iou : 0.0f;
}

/// best[box] = its largest IoU with any anchor, as bits, which have the order of the numbers.
KERNEL(THREADS) best_overlaps(const float *anchors, int num_anchors, const float *boxes, const int *first, unsigned *best) {
    int i = int(thread_index());
    if (i >= num_anchors) return;
    Box anchor = box_at(anchors, i);
    float anchor_area = area(anchor);
    for (int box = first[blockIdx.y]; box < first[blockIdx.y + 1]; box++) {
        unsigned bits = __float_as_uint(overlap(anchor, anchor_area, box_at(boxes, box)));
        // Whatever is read here is a value that it had, so nothing larger is left out.
        if (bits > best[box]) atomicMax(best + box, bits);
    }
}
ALONE(best_overlaps)

/// Class and box of each anchor, or -1 (background, and no box) or -2 (ignored). Results lie level by level, `[N, R of the level]`;
/// `levels` has the first anchor of each level and one more, `num_levels` + 1 of them.
KERNEL(THREADS) assign(const float *anchors, int num_anchors, const float *boxes, const int *labels, const int *first,
                       const unsigned *best, const int *levels, int num_levels, float foreground_iou, float background_iou,
                       int allow_low_quality, int *classes, int *matched, int *num_foreground) {
    int i = int(thread_index()), image = blockIdx.y, images = gridDim.y;
    if (i >= num_anchors) return;
    Box anchor = box_at(anchors, i);
    float anchor_area = area(anchor), best_iou = 0.0f;
    int best_box = first[image];
    bool is_low_quality = false;
    for (int box = first[image]; box < first[image + 1]; box++) {
        // By the same instructions as before, so that equality is exact.
        float iou = overlap(anchor, anchor_area, box_at(boxes, box));
        // Strictly: of equal ones the first box stays.
        if (iou > best_iou) {
            best_iou = iou;
            best_box = box;
        }
        is_low_quality |= iou > 0.0f && __float_as_uint(iou) == best[box];
    }
    bool is_foreground = best_iou > 0.0f && (best_iou >= foreground_iou || (allow_low_quality && is_low_quality));
    bool is_background = best_iou == 0.0f || best_iou < background_iou;
    int level = 0;
    while (level + 1 < num_levels && i >= levels[level + 1]) level++;
    int of_level = levels[level + 1] - levels[level];
    long long place = (long long)images * levels[level] + (long long)image * of_level + (i - levels[level]);
    classes[place] = is_foreground ? labels[best_box] : is_background ? -1 : -2;
    matched[place] = is_foreground ? best_box : -1;
    if (is_foreground) atomicAdd(num_foreground + image, 1);
}
ALONE(assign)

enum Normalizer { PER_IMAGE, PER_BATCH, MOVING_AVERAGE };

/// What the losses of each image are multiplied by, and the sum of what learns a box; one thread. A moving average moves.
KERNEL(THREADS) image_weights(const int *num_foreground, int images, int normalizer, long long momentum, double *average,
                              float *weights, long long *total) {
    if (thread_index() != 0) return;
    long long sum = 0;
    for (int image = 0; image < images; image++) sum += num_foreground[image];
    *total = sum;
    double of_batch = double(max(sum, 1LL)), share = __longlong_as_double(momentum);
    if (normalizer == MOVING_AVERAGE) *average = share * *average + (1.0 - share) * of_batch;
    for (int image = 0; image < images; image++) {
        double divisor = normalizer == PER_IMAGE   ? double(max(num_foreground[image], 1)) * images
                         : normalizer == PER_BATCH ? of_batch
                                                   : *average;
        weights[image] = float(1.0 / divisor);
    }
}
ALONE(image_weights)
