// CUDA's words in plain C++: the twin puts this before a file of kernels. Blocks run one after another. The threads of a block
// run one after another too, or as fibers that take turns where they wait for each other.

#include <math.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>
#include <utility>

#define __device__ static inline
#define __forceinline__
#define __global__
#define __restrict__ __restrict
#define __shared__ static thread_local
#define __launch_bounds__(threads)

namespace twin {

struct Place {
    unsigned x, y, z;
};

/// How many wait, and how often all have come.
struct Barrier {
    int waiting, turn;
};

constexpr int WARP = 32, MOST_THREADS = 1024;
constexpr size_t STACK = 128 * 1024;

/// The threads of a block, and whoever runs them.
struct Block {
    int count = 0, current = 0;
    bool moved = false;
    Barrier all = {}, warps[MOST_THREADS / WARP] = {};
    uint64_t values[MOST_THREADS];
    void (*kernel)(const uint64_t *) = nullptr;
    const uint64_t *arguments = nullptr;
    bool is_done[MOST_THREADS], is_started[MOST_THREADS] = {};
    jmp_buf owner, places[MOST_THREADS];
    ucontext_t starts[MOST_THREADS];
    char *stacks = nullptr;

    ~Block() { free(stacks); }
};

}  // namespace twin

static thread_local twin::Place threadIdx, blockIdx, blockDim, gridDim;

namespace twin {

static thread_local Block block;

/// Lets the others go on. Not inlined: what is thread-local is looked up anew after it.
__attribute__((noinline)) static void give_way() {
    if (!_setjmp(block.places[block.current])) _longjmp(block.owner, 1);
}

static inline void wait(Barrier &barrier, int members) {
    int turn = barrier.turn;
    if (++barrier.waiting == members) {
        barrier.waiting = 0;
        barrier.turn++;
        block.moved = true;
    }
    while (barrier.turn == turn) give_way();
}

static inline void wait_for_warp() {
    int warp = block.current / WARP, rest = block.count - warp * WARP;
    wait(block.warps[warp], rest < WARP ? rest : WARP);
}

/// A fiber's life: one thread of each block.
static void live() {
    for (;;) {
        block.kernel(block.arguments);
        block.is_done[block.current] = block.moved = true;
        give_way();
    }
}

__attribute__((noinline)) static void enter(int thread) {
    if (_setjmp(block.owner)) return;
    block.current = thread;
    threadIdx = {unsigned(thread), 0, 0};
    if (block.is_started[thread]) _longjmp(block.places[thread], 1);
    block.is_started[thread] = true;
    getcontext(&block.starts[thread]);
    block.starts[thread].uc_stack.ss_sp = block.stacks + STACK * thread;
    block.starts[thread].uc_stack.ss_size = STACK;
    block.starts[thread].uc_link = nullptr;
    makecontext(&block.starts[thread], live, 0);
    setcontext(&block.starts[thread]);
}

static const char *run_fibers(int threads) {
    if (!block.stacks) block.stacks = static_cast<char *>(aligned_alloc(4096, STACK * MOST_THREADS));
    if (!block.stacks) return "no memory for the threads' stacks";
    block.count = threads;
    block.all = {};
    memset(block.warps, 0, sizeof block.warps);
    memset(block.is_done, 0, sizeof block.is_done);
    for (int left = threads; left > 0;) {
        block.moved = false;
        for (int thread = 0; thread < threads; thread++) {
            if (block.is_done[thread]) continue;
            enter(thread);
            if (block.is_done[thread]) left--;
        }
        if (!block.moved) {
            memset(block.is_started, 0, sizeof block.is_started);
            return "threads wait for threads that have ended";
        }
    }
    return nullptr;
}

template <typename T> constexpr char kind();
template <> constexpr char kind<int>() { return 'i'; }
template <> constexpr char kind<long long>() { return 'l'; }
template <> constexpr char kind<float>() { return 'f'; }

template <typename T> struct Argument {
    static constexpr char KIND = kind<T>();
};
template <typename T> struct Argument<T *> {
    static constexpr char KIND = 'p';
};

template <typename T> static inline T argument(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

template <typename F> struct Parameters;
template <typename... A> struct Parameters<void (*)(A...)> {
    template <auto KERNEL, size_t... I> static inline void call(const uint64_t *arguments, std::index_sequence<I...>) {
        KERNEL(argument<A>(arguments[I])...);
    }
    template <auto KERNEL> static void call(const uint64_t *arguments) {
        call<KERNEL>(arguments, std::index_sequence_for<A...>());
    }
    static bool are(const char *kinds) {
        const char expected[] = {Argument<A>::KIND..., 0};
        return !strcmp(kinds, expected);
    }
};

/// Runs a kernel and says what is wrong, or nothing.
template <auto KERNEL, bool TOGETHER>
static const char *launch(const unsigned *grid, unsigned threads, const char *kinds, const uint64_t *arguments) {
    using Of = Parameters<decltype(KERNEL)>;
    if (!Of::are(kinds)) return "other arguments than its parameters";
    if (threads > unsigned(MOST_THREADS)) return "more threads than a block can have";
    gridDim = {grid[0], grid[1], grid[2]};
    blockDim = {threads, 1, 1};
    block.kernel = Of::template call<KERNEL>;
    block.arguments = arguments;
    for (unsigned z = 0; z < grid[2]; z++)
        for (unsigned y = 0; y < grid[1]; y++)
            for (unsigned x = 0; x < grid[0]; x++) {
                blockIdx = {x, y, z};
                if (TOGETHER) {
                    if (const char *problem = run_fibers(int(threads))) return problem;
                    continue;
                }
                for (unsigned thread = 0; thread < threads; thread++) {
                    threadIdx = {thread, 0, 0};
                    Of::template call<KERNEL>(arguments);
                }
            }
    return nullptr;
}

}  // namespace twin

#define TWIN_ENTRY(name, together)                                                                                          \
    extern "C" __attribute__((visibility("default"))) const char *twin_##name(                                              \
        const unsigned *grid, unsigned threads, const char *kinds, const uint64_t *arguments) {                             \
        return twin::launch<&name, together>(grid, threads, kinds, arguments);                                              \
    }

static inline void __syncthreads() { twin::wait(twin::block.all, twin::block.count); }

template <typename T> static inline T from_lane(T value, int lane) {
    static_assert(sizeof(T) <= 8);
    uint64_t *values = twin::block.values;
    int thread = int(threadIdx.x), warp = thread / twin::WARP * twin::WARP;
    memcpy(&values[thread], &value, sizeof value);
    twin::wait_for_warp();
    memcpy(&value, &values[warp + lane], sizeof value);
    twin::wait_for_warp();
    return value;
}

static inline int atomicAdd(int *to, int value) {
    int before = *to;
    *to += value;
    return before;
}

static inline unsigned atomicMax(unsigned *to, unsigned value) {
    unsigned before = *to;
    if (value > before) *to = value;
    return before;
}

static inline unsigned __float_as_uint(float value) {
    unsigned bits;
    memcpy(&bits, &value, 4);
    return bits;
}

static inline float __uint_as_float(unsigned bits) {
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static inline double __longlong_as_double(long long bits) {
    double value;
    memcpy(&value, &bits, 8);
    return value;
}

// Nothing is contracted: the compiler is told so.
static inline float __fmul_rn(float a, float b) { return a * b; }
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fsub_rn(float a, float b) { return a - b; }
static inline float __fdiv_rn(float a, float b) { return a / b; }
static inline int min(int a, int b) { return a < b ? a : b; }
static inline int max(int a, int b) { return a > b ? a : b; }
static inline long long min(long long a, long long b) { return a < b ? a : b; }
static inline long long max(long long a, long long b) { return a > b ? a : b; }
