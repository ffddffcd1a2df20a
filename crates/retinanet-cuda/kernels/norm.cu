// Norms: sums over the pixels of each channel, and the linear functions that norms come down to. A feature map is a matrix of
// pixels and channels; coefficients and sums are per group of pixels, which is an image or the whole batch.
//
// blockIdx.x is a range of channels, y a range of pixels ("part"), z a group. The `lanes` threads of a row of a block have V
// neighbouring channels each; the rows take turns with the pixels.

template <int V> struct Tile {
    int lane, row, rows, channel;
    long long first, end;

    INLINE Tile(int pixels, int lanes, int part_pixels) {
        lane = threadIdx.x % lanes;
        row = threadIdx.x / lanes;
        rows = blockDim.x / lanes;
        channel = (blockIdx.x * lanes + lane) * V;
        long long start = (long long)blockIdx.z * pixels;
        first = start + (long long)blockIdx.y * part_pixels + row;
        end = start + min((long long)pixels, (long long)(blockIdx.y + 1) * part_pixels);
    }
};

/// What numbers are added in before their sum goes on in double precision: SHORT_SUM products of 16 bits, which f32 holds exactly,
/// in f32; those of f32 in double precision, as a variance is a small difference of large sums.
template <typename T> struct Short;
template <> struct Short<float> {
    using Sum = double;
};
template <> struct Short<bf16> {
    using Sum = float;
};
template <> struct Short<f16> {
    using Sum = float;
};
#define SHORT_SUM 8

/// partials[group, part] = (sum a, sum a b) of each channel over a part's pixels, in double precision; without b, (sum a, sum a^2).
template <typename T, int V>
INLINE void channel_sums(const T *a, const T *b, double *partials, int pixels, int channels, int lanes, int part_pixels) {
    Tile<V> tile(pixels, lanes, part_pixels);
    // [2 V, rows, lanes].
    __shared__ double shared[2 * V * THREADS];
    double sums[V] = {}, products[V] = {};
    if (tile.channel < channels) {
        for (long long pixel = tile.first; pixel < tile.end;) {
            typename Short<T>::Sum short_sums[V] = {}, short_products[V] = {};
#pragma unroll
            for (int i = 0; i < SHORT_SUM; i++, pixel += tile.rows) {
                if (pixel < tile.end) {
                    float left[V], right[V];
                    read<T, V>(a + pixel * channels + tile.channel, left);
                    if (b) read<T, V>(b + pixel * channels + tile.channel, right);
#pragma unroll
                    for (int k = 0; k < V; k++) {
                        short_sums[k] += left[k];
                        short_products[k] += typename Short<T>::Sum(left[k]) * (b ? right[k] : left[k]);
                    }
                }
            }
#pragma unroll
            for (int k = 0; k < V; k++) {
                sums[k] += short_sums[k];
                products[k] += short_products[k];
            }
        }
    }
#pragma unroll
    for (int k = 0; k < V; k++) {
        shared[(2 * k) * THREADS + threadIdx.x] = sums[k];
        shared[(2 * k + 1) * THREADS + threadIdx.x] = products[k];
    }
    __syncthreads();
    partials += ((long long)blockIdx.z * gridDim.y + blockIdx.y) * 2 * channels;
    for (int i = threadIdx.x; i < 2 * V * lanes; i += THREADS) {
        int which = i / lanes, lane = i % lanes, channel = (blockIdx.x * lanes + lane) * V + which / 2;
        double sum = 0.0;
        for (int row = 0; row < tile.rows; row++) sum += shared[which * THREADS + row * lanes + lane];
        if (channel < channels) partials[(which % 2) * channels + channel] = sum;
    }
}
#define PARAMETERS(T) const T *a, const T *b, double *partials, int pixels, int channels, int lanes, int part_pixels
FOR_VECTORS(TOGETHER, channel_sums, (a, b, partials, pixels, channels, lanes, part_pixels))
#undef PARAMETERS

/// sums[group, i] = the sum of partials[group, part, i] over the parts, in order; `count` is 2 C. Blocks of 32 numbers and 8 rows.
KERNEL(THREADS) sum_parts(const double *partials, double *sums, int parts, int count) {
    __shared__ double shared[THREADS];
    int lane = threadIdx.x % 32, row = threadIdx.x / 32, i = blockIdx.x * 32 + lane;
    partials += (long long)blockIdx.y * parts * count;
    double sum = 0.0;
    if (i < count)
        for (int part = row; part < parts; part += THREADS / 32) sum += partials[(long long)part * count + i];
    shared[threadIdx.x] = sum;
    __syncthreads();
    if (row == 0 && i < count) {
        for (int other = 1; other < THREADS / 32; other++) sum += shared[other * 32 + lane];
        sums[(long long)blockIdx.y * count + i] = sum;
    }
}
TOGETHER(sum_parts)

/// to += the first row of sums: what a bias gets.
KERNEL(THREADS) add_sums(const double *sums, float *to, int channels) {
    int channel = int(thread_index());
    if (channel < channels) to[channel] += float(sums[channel]);
}
ALONE(add_sums)

/// (sum x, sum x^2) to mean and biased variance.
KERNEL(THREADS) batch_statistics(const double *sums, double *statistics, int channels, long long count) {
    int channel = int(thread_index());
    if (channel >= channels) return;
    double mean = sums[channel] / count, variance = sums[channels + channel] / count - mean * mean;
    statistics[channel] = mean;
    // A variance that is no number stays one.
    statistics[channels + channel] = variance < 0.0 ? 0.0 : variance;
}
ALONE(batch_statistics)

/// Scale and shift of a batch norm, [2, C].
KERNEL(THREADS) batch_coefficients(const double *statistics, const float *weight, const float *bias, float *coefficients,
                                   int channels, long long epsilon) {
    int channel = int(thread_index());
    if (channel >= channels) return;
    double scale = weight[channel] / sqrt(statistics[channels + channel] + __longlong_as_double(epsilon));
    coefficients[channel] = float(scale);
    coefficients[channels + channel] = float(bias[channel] - statistics[channel] * scale);
}
ALONE(batch_coefficients)

/// From sums of g and g x: the coefficients of the input's gradient, [3, C], and what weight and bias get.
KERNEL(THREADS) batch_gradient_coefficients(const double *sums, const double *statistics, const float *weight,
                                            float *coefficients, float *weight_gradient, float *bias_gradient, int channels,
                                            long long count, long long epsilon) {
    int channel = int(thread_index());
    if (channel >= channels) return;
    double mean = statistics[channel];
    double inv_std = 1.0 / sqrt(statistics[channels + channel] + __longlong_as_double(epsilon));
    double sum = sums[channel], normalised = (sums[channels + channel] - mean * sum) * inv_std;
    if (weight_gradient) weight_gradient[channel] += float(normalised);
    if (bias_gradient) bias_gradient[channel] += float(sum);
    // dx = w inv_std (g - mean(g) - n mean(g n)), with n = (x - mean) inv_std.
    double scale = weight[channel] * inv_std, slope = -scale * inv_std * normalised / count;
    coefficients[channel] = float(scale);
    coefficients[channels + channel] = float(slope);
    coefficients[2 * channels + channel] = float(-scale * sum / count - slope * mean);
}
ALONE(batch_gradient_coefficients)

/// From sums of x and x^2: mean and 1 / deviation of each group of channels, [N, groups, 2], and coefficients, [N, 2, C]. A warp
/// has a group of an image.
KERNEL(THREADS) group_coefficients(const double *sums, const float *weight, const float *bias, double *statistics,
                                   float *coefficients, int channels, int groups, long long pixels, long long epsilon, int images) {
    int place = int(thread_index() / 32), lane = threadIdx.x % 32;
    bool is_one = place < images * groups;
    int image = is_one ? place / groups : 0, group_channels = channels / groups, first = is_one ? place % groups * group_channels : 0;
    sums += (long long)image * 2 * channels;
    double sum = 0.0, square = 0.0;
    for (int channel = first + lane; channel < first + group_channels; channel += 32) {
        sum += sums[channel];
        square += sums[channels + channel];
    }
    for (int step = 16; step > 0; step /= 2) {
        sum += from_lane(sum, lane ^ step);
        square += from_lane(square, lane ^ step);
    }
    if (!is_one) return;
    double count = double(pixels) * group_channels, mean = sum / count, variance = square / count - mean * mean;
    double inv_std = 1.0 / sqrt((variance < 0.0 ? 0.0 : variance) + __longlong_as_double(epsilon));
    if (lane == 0) {
        statistics[2 * place] = mean;
        statistics[2 * place + 1] = inv_std;
    }
    coefficients += (long long)image * 2 * channels;
    for (int channel = first + lane; channel < first + group_channels; channel += 32) {
        double scale = weight[channel] * inv_std;
        coefficients[channel] = float(scale);
        coefficients[channels + channel] = float(bias[channel] - mean * scale);
    }
}
TOGETHER(group_coefficients)

/// From sums of g and g x: the coefficients of the input's gradient, [N, 3, C]. A warp has a group of an image.
KERNEL(THREADS) group_gradient_coefficients(const double *sums, const double *statistics, const float *weight, float *coefficients,
                                            int channels, int groups, long long pixels, int images) {
    int place = int(thread_index() / 32), lane = threadIdx.x % 32;
    bool is_one = place < images * groups;
    if (!is_one) place = 0;
    int image = place / groups, group_channels = channels / groups, first = place % groups * group_channels;
    sums += (long long)image * 2 * channels;
    double mean = statistics[2 * place], inv_std = statistics[2 * place + 1], count = double(pixels) * group_channels;
    // With h = w g and n = (x - mean) inv_std: dx = inv_std (h - mean(h) - n mean(h n)), linear in g and x.
    double mean_h = 0.0, mean_hn = 0.0;
    for (int channel = first + lane; channel < first + group_channels; channel += 32) {
        double factor = weight[channel], sum = sums[channel];
        mean_h += factor * sum / count;
        mean_hn += factor * (sums[channels + channel] - mean * sum) * inv_std / count;
    }
    for (int step = 16; step > 0; step /= 2) {
        mean_h += from_lane(mean_h, lane ^ step);
        mean_hn += from_lane(mean_hn, lane ^ step);
    }
    if (!is_one) return;
    coefficients += (long long)image * 3 * channels;
    for (int channel = first + lane; channel < first + group_channels; channel += 32) {
        coefficients[channel] = float(weight[channel] * inv_std);
        coefficients[channels + channel] = float(-inv_std * inv_std * mean_hn);
        coefficients[2 * channels + channel] = float(inv_std * (mean * inv_std * mean_hn - mean_h));
    }
}
TOGETHER(group_gradient_coefficients)

/// What weight and bias of a group norm get.
KERNEL(THREADS) group_parameter_gradients(const double *sums, const double *statistics, float *weight_gradient,
                                          float *bias_gradient, int channels, int groups, int images) {
    int channel = int(thread_index());
    if (channel >= channels) return;
    double weight_sum = 0.0, bias_sum = 0.0;
    for (int image = 0; image < images; image++) {
        int place = 2 * (image * groups + channel / (channels / groups));
        double sum = sums[(long long)image * 2 * channels + channel];
        weight_sum += (sums[((long long)image * 2 + 1) * channels + channel] - statistics[place] * sum) * statistics[place + 1];
        bias_sum += sum;
    }
    if (weight_gradient) weight_gradient[channel] += float(weight_sum);
    if (bias_gradient) bias_gradient[channel] += float(bias_sum);
}
ALONE(group_parameter_gradients)

/// y = activation(a x + b + residual), coefficients [groups, 2, C]; `residual` may be none.
template <typename T, int V>
INLINE void linear(const T *x, const float *coefficients, const T *residual, int is_relu, T *y, int pixels, int channels, int lanes,
                   int part_pixels) {
    Tile<V> tile(pixels, lanes, part_pixels);
    if (tile.channel >= channels) return;
    float scale[V], shift[V];
    coefficients += (long long)blockIdx.z * 2 * channels;
#pragma unroll
    for (int k = 0; k < V; k++) {
        scale[k] = coefficients[tile.channel + k];
        shift[k] = coefficients[channels + tile.channel + k];
    }
#pragma unroll 4
    for (long long pixel = tile.first; pixel < tile.end; pixel += tile.rows) {
        long long i = pixel * channels + tile.channel;
        float values[V], others[V];
        read<T, V>(x + i, values);
        if (residual) read<T, V>(residual + i, others);
#pragma unroll
        for (int k = 0; k < V; k++) {
            float value = multiply_add(values[k], scale[k], shift[k]);
            if (residual) value += others[k];
            values[k] = is_relu ? relu(value) : value;
        }
        write<T, V>(values, y + i);
    }
}
#define PARAMETERS(T)                                                                                                              \
    const T *x, const float *coefficients, const T *residual, int is_relu, T *y, int pixels, int channels, int lanes, int part_pixels
FOR_VECTORS(ALONE, linear, (x, coefficients, residual, is_relu, y, pixels, channels, lanes, part_pixels))
#undef PARAMETERS

/// x_gradient = p g + (q x + r), coefficients [groups, 3, C]; `x_gradient` may be `y_gradient`.
template <typename T, int V>
INLINE void linear_gradient(const T *x, const T *y_gradient, const float *coefficients, T *x_gradient, int pixels, int channels,
                            int lanes, int part_pixels) {
    Tile<V> tile(pixels, lanes, part_pixels);
    if (tile.channel >= channels) return;
    float p[V], q[V], r[V];
    coefficients += (long long)blockIdx.z * 3 * channels;
#pragma unroll
    for (int k = 0; k < V; k++) {
        p[k] = coefficients[tile.channel + k];
        q[k] = coefficients[channels + tile.channel + k];
        r[k] = coefficients[2 * channels + tile.channel + k];
    }
#pragma unroll 4
    for (long long pixel = tile.first; pixel < tile.end; pixel += tile.rows) {
        long long i = pixel * channels + tile.channel;
        float values[V], gradients[V];
        read<T, V>(x + i, values);
        read<T, V>(y_gradient + i, gradients);
#pragma unroll
        for (int k = 0; k < V; k++) gradients[k] = multiply_add(p[k], gradients[k], multiply_add(q[k], values[k], r[k]));
        write<T, V>(gradients, x_gradient + i);
    }
}
#define PARAMETERS(T)                                                                                                             \
    const T *x, const T *y_gradient, const float *coefficients, T *x_gradient, int pixels, int channels, int lanes, int part_pixels
FOR_VECTORS(ALONE, linear_gradient, (x, y_gradient, coefficients, x_gradient, pixels, channels, lanes, part_pixels))
#undef PARAMETERS
