// Pooling and upsampling of channels-last maps. A thread has V neighbouring channels of a pixel.

/// Where V channels of a map are, counted by how many of these are before them. 32 bits, whose divisions are fast.
struct Place {
    int channel, column, row, image;
};

template <int V> INLINE Place place_of(int i, int height, int width, int channels) {
    unsigned of_pixel = channels / V, pixel = unsigned(i) / of_pixel, line = pixel / unsigned(width), image = line / unsigned(height);
    return {int((i - pixel * of_pixel) * V), int(pixel - line * width), int(line - image * height), int(image)};
}

/// Whether a number takes the maximum's place: torch's rule, where NaN wins and the first of equals stays.
INLINE bool exceeds(float value, float most) { return value > most || value != value; }

/// Sides of the input and of the output, and the window that slides over it.
struct Pool {
    int height, width, channels, out_height, out_width, kernel, stride, padding;

    /// The first place of a window along an axis, and the place behind its last, both on the map.
    INLINE int first(int place) const { return max(place * stride - padding, 0); }
    INLINE int end(int place, int len) const { return min(place * stride - padding + kernel, len); }
    /// The first window that holds a place, and the one behind the last.
    INLINE int first_window(int place) const {
        int room = place + padding - kernel;
        return room < 0 ? 0 : room / stride + 1;
    }
    INLINE int end_window(int place, int windows) const { return min((place + padding) / stride + 1, windows); }
};
#define POOL_PARAMETERS int height, int width, int channels, int out_height, int out_width, int kernel, int stride, int padding
#define POOL                                                                                                                \
    Pool { height, width, channels, out_height, out_width, kernel, stride, padding }

/// The maximum of each window and channel; padding counts as minus infinity.
template <typename T, int V> INLINE void max_pool(const T *x, T *y, Pool pool, int vectors) {
    for (int i = int(thread_index()); i < vectors; i += int(num_threads())) {
        auto [channel, column, row, image_idx] = place_of<V>(i, pool.out_height, pool.out_width, pool.channels);
        const T *image = x + (long long)image_idx * pool.height * pool.width * pool.channels + channel;
        float most[V];
#pragma unroll
        for (int k = 0; k < V; k++) most[k] = -INFINITE;
        for (int r = pool.first(row); r < pool.end(row, pool.height); r++)
            for (int c = pool.first(column); c < pool.end(column, pool.width); c++) {
                float values[V];
                read<T, V>(image + ((long long)r * pool.width + c) * pool.channels, values);
#pragma unroll
                for (int k = 0; k < V; k++) most[k] = exceeds(values[k], most[k]) ? values[k] : most[k];
            }
        write<T, V>(most, y + (long long)i * V);
    }
}
#define PARAMETERS(T) const T *x, T *y, POOL_PARAMETERS, int vectors
FOR_VECTORS(ALONE, max_pool, (x, y, POOL, vectors))
#undef PARAMETERS

/// The gradient of the input, added to what is there if wanted: each output's goes to the first maximum of its window, in row
/// order. Every input asks the windows that hold it, so that there is one writer and one order.
template <typename T, int V>
INLINE void max_pool_gradient(const T *x, const T *y_gradient, int accumulate, T *x_gradient, Pool pool, int vectors) {
    for (int i = int(thread_index()); i < vectors; i += int(num_threads())) {
        auto [channel, column, row, image_idx] = place_of<V>(i, pool.height, pool.width, pool.channels);
        const T *image = x + (long long)image_idx * pool.height * pool.width * pool.channels + channel;
        const T *gradients = y_gradient + (long long)image_idx * pool.out_height * pool.out_width * pool.channels + channel;
        float sums[V] = {};
        for (int out_row = pool.first_window(row); out_row < pool.end_window(row, pool.out_height); out_row++)
            for (int out_column = pool.first_window(column); out_column < pool.end_window(column, pool.out_width); out_column++) {
                float most[V];
                // Where all are minus infinity the first tap has the gradient.
                bool is_winner[V], is_first = row == pool.first(out_row) && column == pool.first(out_column);
#pragma unroll
                for (int k = 0; k < V; k++) {
                    most[k] = -INFINITE;
                    is_winner[k] = is_first;
                }
                for (int r = pool.first(out_row); r < pool.end(out_row, pool.height); r++)
                    for (int c = pool.first(out_column); c < pool.end(out_column, pool.width); c++) {
                        float values[V];
                        read<T, V>(image + ((long long)r * pool.width + c) * pool.channels, values);
                        bool is_here = r == row && c == column;
#pragma unroll
                        for (int k = 0; k < V; k++)
                            if (exceeds(values[k], most[k])) {
                                most[k] = values[k];
                                is_winner[k] = is_here;
                            }
                    }
                float parts[V];
                read<T, V>(gradients + ((long long)out_row * pool.out_width + out_column) * pool.channels, parts);
#pragma unroll
                for (int k = 0; k < V; k++) sums[k] += is_winner[k] ? parts[k] : 0.0f;
            }
        if (accumulate) {
            float before[V];
            read<T, V>(x_gradient + (long long)i * V, before);
#pragma unroll
            for (int k = 0; k < V; k++) sums[k] += before[k];
        }
        write<T, V>(sums, x_gradient + (long long)i * V);
    }
}
#define PARAMETERS(T) const T *x, const T *y_gradient, int accumulate, T *x_gradient, POOL_PARAMETERS, int vectors
FOR_VECTORS(ALONE, max_pool_gradient, (x, y_gradient, accumulate, x_gradient, POOL, vectors))
#undef PARAMETERS

/// Sides of a coarse map and of the fine one, and the ratios coarse / fine.
struct Scale {
    int coarse_height, coarse_width, height, width, channels;
    float row_ratio, column_ratio;
};
#define SCALE_PARAMETERS                                                                                                    \
    int coarse_height, int coarse_width, int height, int width, int channels, float row_ratio, float column_ratio
#define SCALE                                                                                                               \
    Scale { coarse_height, coarse_width, height, width, channels, row_ratio, column_ratio }

/// y = upsample(coarse) + fine, nearest neighbour.
template <typename T, int V> INLINE void upsample_add(const T *coarse, const T *fine, T *y, Scale scale, int vectors) {
    for (int i = int(thread_index()); i < vectors; i += int(num_threads())) {
        auto [channel, fine_column, fine_row, image] = place_of<V>(i, scale.height, scale.width, scale.channels);
        int row = nearest_source(fine_row, scale.row_ratio, scale.coarse_height);
        int column = nearest_source(fine_column, scale.column_ratio, scale.coarse_width);
        long long pixel = ((long long)image * scale.coarse_height + row) * scale.coarse_width + column;
        float above[V], values[V];
        read<T, V>(coarse + pixel * scale.channels + channel, above);
        read<T, V>(fine + (long long)i * V, values);
#pragma unroll
        for (int k = 0; k < V; k++) values[k] += above[k];
        write<T, V>(values, y + (long long)i * V);
    }
}
#define PARAMETERS(T) const T *coarse, const T *fine, T *y, SCALE_PARAMETERS, int vectors
FOR_VECTORS(ALONE, upsample_add, (coarse, fine, y, SCALE, vectors))
#undef PARAMETERS

/// The first fine place that can have this source, and one behind the last: the rounding of the ratio moves them by less than two.
INLINE int first_copy(int source, int in_len, int out_len) {
    return max(int((long long)source * out_len / in_len) - 2, 0);
}
INLINE int end_copy(int source, int in_len, int out_len) {
    return min(int((long long)(source + 1) * out_len / in_len) + 3, out_len);
}

/// The gradient of the coarse map, added to what is there if wanted: the sum over the pixels that were copied from it.
template <typename T, int V>
INLINE void upsample_gradient(const T *y_gradient, int accumulate, T *x_gradient, Scale scale, int vectors) {
    for (int i = int(thread_index()); i < vectors; i += int(num_threads())) {
        auto [channel, column, row, image] = place_of<V>(i, scale.coarse_height, scale.coarse_width, scale.channels);
        const T *gradients = y_gradient + (long long)image * scale.height * scale.width * scale.channels + channel;
        float sums[V] = {};
        int first_column = first_copy(column, scale.coarse_width, scale.width);
        int end_column = end_copy(column, scale.coarse_width, scale.width);
        int end_row = end_copy(row, scale.coarse_height, scale.height);
        for (int r = first_copy(row, scale.coarse_height, scale.height); r < end_row; r++) {
            if (nearest_source(r, scale.row_ratio, scale.coarse_height) != row) continue;
            for (int c = first_column; c < end_column; c++) {
                if (nearest_source(c, scale.column_ratio, scale.coarse_width) != column) continue;
                float values[V];
                read<T, V>(gradients + ((long long)r * scale.width + c) * scale.channels, values);
#pragma unroll
                for (int k = 0; k < V; k++) sums[k] += values[k];
            }
        }
        if (accumulate) {
            float before[V];
            read<T, V>(x_gradient + (long long)i * V, before);
#pragma unroll
            for (int k = 0; k < V; k++) sums[k] += before[k];
        }
        write<T, V>(sums, x_gradient + (long long)i * V);
    }
}
#define PARAMETERS(T) const T *y_gradient, int accumulate, T *x_gradient, SCALE_PARAMETERS, int vectors
FOR_VECTORS(ALONE, upsample_gradient, (y_gradient, accumulate, x_gradient, SCALE, vectors))
#undef PARAMETERS
