// What all kernels stand on: bfloat16 and half precision as raw bits, loads of 16 bytes, sums within a block. No header is
// included, so that NVRTC needs no paths; on the host, `host.h` stands before it.

#ifdef __CUDACC__
#define INLINE __device__ __forceinline__
// After a kernel: whether its threads run alone or wait for each other, which only the twin has to know.
#define ALONE(name)
#define TOGETHER(name)

/// The value of another lane of the warp; all lanes call it.
template <typename T> INLINE T from_lane(T value, int lane) { return __shfl_sync(0xffffffffu, value, lane); }
#else
#define INLINE inline __attribute__((always_inline))
#define ALONE(name) TWIN_ENTRY(name, false)
#define TOGETHER(name) TWIN_ENTRY(name, true)
#endif

#define KERNEL(threads) extern "C" __global__ void __launch_bounds__(threads)

/// Threads of a block, unless a kernel says otherwise.
#define THREADS 256

// Kernels NAME_f32, NAME_bf16 and NAME_f16 of the template NAME<T>, whose parameters PARAMETERS(T) gives.
#define FOR_ELEMENTS(WHICH, NAME, ARGUMENTS) FOR_ELEMENTS_IN(THREADS, WHICH, NAME, ARGUMENTS)

// The same in blocks of so many threads.
#define FOR_ELEMENTS_IN(BLOCK, WHICH, NAME, ARGUMENTS)                                                                      \
    KERNEL(BLOCK) NAME##_f32(PARAMETERS(float)) { NAME<float> ARGUMENTS; }                                                  \
    KERNEL(BLOCK) NAME##_bf16(PARAMETERS(bf16)) { NAME<bf16> ARGUMENTS; }                                                   \
    KERNEL(BLOCK) NAME##_f16(PARAMETERS(f16)) { NAME<f16> ARGUMENTS; }                                                      \
    WHICH(NAME##_f32) WHICH(NAME##_bf16) WHICH(NAME##_f16)

// As above for NAME<T, V>: V numbers at once, 16 bytes in the kernels called wide.
#define FOR_VECTORS(WHICH, NAME, ARGUMENTS)                                                                                 \
    KERNEL(THREADS) NAME##_f32(PARAMETERS(float)) { NAME<float, 1> ARGUMENTS; }                                             \
    KERNEL(THREADS) NAME##_bf16(PARAMETERS(bf16)) { NAME<bf16, 1> ARGUMENTS; }                                              \
    KERNEL(THREADS) NAME##_f16(PARAMETERS(f16)) { NAME<f16, 1> ARGUMENTS; }                                                 \
    KERNEL(THREADS) NAME##_wide_f32(PARAMETERS(float)) { NAME<float, 4> ARGUMENTS; }                                        \
    KERNEL(THREADS) NAME##_wide_bf16(PARAMETERS(bf16)) { NAME<bf16, 8> ARGUMENTS; }                                         \
    KERNEL(THREADS) NAME##_wide_f16(PARAMETERS(f16)) { NAME<f16, 8> ARGUMENTS; }                                            \
    WHICH(NAME##_f32) WHICH(NAME##_bf16) WHICH(NAME##_f16)                                                                  \
    WHICH(NAME##_wide_f32) WHICH(NAME##_wide_bf16) WHICH(NAME##_wide_f16)

/// The upper half of an f32.
struct bf16 {
    unsigned short bits;
};

/// Half precision: 10 bits of mantissa, numbers up to 65504.
struct f16 {
    unsigned short bits;
};

INLINE float load(float value) { return value; }
INLINE float load(bf16 value) { return __uint_as_float(unsigned(value.bits) << 16); }

INLINE float load(f16 value) {
#ifdef __CUDACC__
    float result;
    asm("cvt.f32.f16 %0, %1;" : "=f"(result) : "h"(value.bits));
    return result;
#else
    unsigned sign = unsigned(value.bits & 0x8000) << 16, rest = value.bits & 0x7fff;
    // Below 2^-14 there is no leading one: so many steps of 2^-24.
    if (rest < 0x400) return __uint_as_float(sign | __float_as_uint(float(rest) * 0x1p-24f));
    return __uint_as_float(sign | (rest < 0x7c00 ? (rest << 13) + (112u << 23) : 0x7f800000u | rest << 13));
#endif
}

/// The nearest number of a type, ties to even.
template <typename T> INLINE T nearest(float value);
template <> INLINE float nearest<float>(float value) { return value; }
template <> INLINE bf16 nearest<bf16>(float value) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
    bf16 result;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    unsigned bits = __float_as_uint(value);
    // What is left of a NaN must not be an infinity.
    if (value != value) return {(unsigned short)((bits >> 16) | 0x40)};
    return {(unsigned short)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};
#endif
}

template <> INLINE f16 nearest<f16>(float value) {
#ifdef __CUDACC__
    f16 result;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(result.bits) : "f"(value));
    return result;
#else
    unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff;
    if (value != value) return {(unsigned short)(sign | 0x7fff)};
    // From half a step above the largest on.
    if (rest >= 0x477ff000) return {(unsigned short)(sign | 0x7c00)};
    // A sum with 2^-1 ends where a step of 2^-24 does, and is rounded as any sum.
    if (rest < 0x38800000) return {(unsigned short)(sign | (__float_as_uint(__uint_as_float(rest) + 0.5f) - 0x3f000000u))};
    return {(unsigned short)(sign | ((rest + 0xfff + (rest >> 13 & 1)) - (112u << 23)) >> 13)};
#endif
}

/// Numbers that are read and written at once.
template <typename T, int V> struct alignas(sizeof(T) * V) Pack {
    T at[V];
};

template <typename T, int V> INLINE void read(const T *from, float (&to)[V]) {
    Pack<T, V> pack = *reinterpret_cast<const Pack<T, V> *>(from);
#pragma unroll
    for (int i = 0; i < V; i++) to[i] = load(pack.at[i]);
}

template <typename T, int V> struct Store {
    static INLINE void run(const float (&from)[V], T *to) {
        Pack<T, V> pack;
#pragma unroll
        for (int i = 0; i < V; i++) pack.at[i] = nearest<T>(from[i]);
        *reinterpret_cast<Pack<T, V> *>(to) = pack;
    }
};
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 800
/// Two numbers are rounded by one instruction.
template <> struct Store<bf16, 8> {
    static INLINE void run(const float (&from)[8], bf16 *to) {
        Pack<unsigned, 4> pack;
#pragma unroll
        for (int i = 0; i < 4; i++)
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pack.at[i]) : "f"(from[2 * i + 1]), "f"(from[2 * i]));
        *reinterpret_cast<Pack<unsigned, 4> *>(to) = pack;
    }
};
#endif

template <typename T, int V> INLINE void write(const float (&from)[V], T *to) { Store<T, V>::run(from, to); }

/// Numbers in 16 bytes.
template <typename T> struct Wide;
template <> struct Wide<float> {
    static constexpr int COUNT = 4;
};
template <> struct Wide<bf16> {
    static constexpr int COUNT = 8;
};
template <> struct Wide<f16> {
    static constexpr int COUNT = 8;
};

/// a b + c, rounded once where the device does it at no cost.
INLINE float multiply_add(float a, float b, float c) {
#ifdef __CUDACC__
    return __fmaf_rn(a, b, c);
#else
    return a * b + c;
#endif
}

#define INFINITE __uint_as_float(0x7f800000u)

/// The place of this thread among all along x, and how many there are.
INLINE long long thread_index() { return (long long)blockIdx.x * blockDim.x + threadIdx.x; }
INLINE long long num_threads() { return (long long)gridDim.x * blockDim.x; }

INLINE float relu(float x) { return x > 0.0f ? x : 0.0f; }

/// The sum over a block of at most 1024 threads, in an order that depends on their number alone; all threads call it, and get it.
template <typename T> INLINE T block_sum(T value) {
    __shared__ T sums[32];
    int lane = threadIdx.x % 32, warp = threadIdx.x / 32, warps = blockDim.x / 32;
    for (int step = 16; step > 0; step /= 2) value += from_lane(value, lane ^ step);
    __syncthreads();
    if (lane == 0) sums[warp] = value;
    __syncthreads();
    value = sums[0];
    for (int i = 1; i < warps; i++) value += sums[i];
    return value;
}

/// floor(place * in / out) of nearest neighbour upsampling, the ratio in single precision as torch has it.
INLINE int nearest_source(int place, float ratio, int in_len) {
    return min(int(__fmul_rn(float(place), ratio)), in_len - 1);
}
