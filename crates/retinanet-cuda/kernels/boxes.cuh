// Boxes, as `retinanet_anchors` has them to the bit: every operation is rounded by itself.

struct Box {
    float x0, y0, x1, y1;
};

INLINE Box box_at(const float *boxes, long long i) { return {boxes[4 * i], boxes[4 * i + 1], boxes[4 * i + 2], boxes[4 * i + 3]}; }

/// 0 where the box is empty.
INLINE float area(Box box) {
    float width = __fsub_rn(box.x1, box.x0), height = __fsub_rn(box.y1, box.y0);
    return width <= 0.0f || height <= 0.0f ? 0.0f : __fmul_rn(width, height);
}

/// Intersection over union; NaN where the union has no area.
INLINE float iou_or_nan(Box a, float area_a, Box b, float area_b) {
    float left = a.x0 > b.x0 ? a.x0 : b.x0, top = a.y0 > b.y0 ? a.y0 : b.y0;
    float right = a.x1 < b.x1 ? a.x1 : b.x1, bottom = a.y1 < b.y1 ? a.y1 : b.y1;
    float width = __fsub_rn(right, left), height = __fsub_rn(bottom, top);
    width = width > 0.0f ? width : 0.0f;
    height = height > 0.0f ? height : 0.0f;
    float intersection = __fmul_rn(width, height);
    return __fdiv_rn(intersection, __fsub_rn(__fadd_rn(area_a, area_b), intersection));
}

INLINE bool is_finite(float x) { return x - x == 0.0f; }
INLINE bool is_finite(Box box) { return is_finite(box.x0) && is_finite(box.y0) && is_finite(box.x1) && is_finite(box.y1); }
