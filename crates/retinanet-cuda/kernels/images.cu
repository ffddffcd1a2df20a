// Pictures to what the network reads.

/// `[height, width, 3]` bytes to the upper left of `[out_height, out_width, 3]`, each by its number in the table `[256, 3]`; 0
/// around.
template <typename T>
INLINE void normalise(const unsigned char *bytes, const float *table, int height, int width, T *y, int out_height, int out_width) {
    long long count = (long long)out_height * out_width;
    for (long long i = thread_index(); i < count; i += num_threads()) {
        int row = int(i / out_width), column = int(i % out_width);
        bool is_inside = row < height && column < width;
        const unsigned char *pixel = bytes + ((long long)row * width + column) * 3;
        for (int channel = 0; channel < 3; channel++)
            y[i * 3 + channel] = nearest<T>(is_inside ? table[pixel[channel] * 3 + channel] : 0.0f);
    }
}
#define PARAMETERS(T) const unsigned char *bytes, const float *table, int height, int width, T *y, int out_height, int out_width
FOR_ELEMENTS(ALONE, normalise, (bytes, table, height, width, y, out_height, out_width))
#undef PARAMETERS
