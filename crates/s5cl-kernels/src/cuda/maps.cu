// Maps from f32 to the type in which they are stored and back, sums of maps, and the factor that
// keeps gradients within half precision.
//
// Grid: one thread for each vector that is written; the factor: 1 block. Block: 256 threads; the
// factor: 1024. Shared: the factor: 32 floats. Nothing is summed but pairs, in f32.
#include "maps.cuh"

// Rows of `from` channels become rows of `to`, of which n are vectors: further channels are zero,
// or left out. Times `*factor`, unless it is null.
template <class From, class To, unsigned WIDTH>
DEVICE void convert(const From* values, To* out, uint32_t from, uint32_t to, uint32_t n,
                    const float* factor) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    const uint32_t vectors = to / WIDTH, row = index / vectors, channel = index % vectors * WIDTH;
    const float times = factor ? *factor : 1.0f;
    float parts[WIDTH];
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        const bool is_there = channel + i < from;
        parts[i] = is_there ? to_float(values[size_t(row) * from + channel + i]) * times : 0.0f;
    }
    store_floats(out + size_t(index) * WIDTH, parts);
}

template <class T, unsigned WIDTH> DEVICE void add(T* sum, const T* other, uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    float sums[WIDTH], values[WIDTH];
    load_floats(sums, sum + size_t(index) * WIDTH);
    load_floats(values, other + size_t(index) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) sums[i] += values[i];
    store_floats(sum + size_t(index) * WIDTH, sums);
}

#define MAPS(suffix, T, WIDTH)                                                                     \
    KERNEL(256) store_maps_##suffix(const float* values, T* out, uint32_t from, uint32_t to,       \
                                    uint32_t n, const float* factor) {                             \
        convert<float, T, WIDTH>(values, out, from, to, n, factor);                                \
    }                                                                                              \
    EXPORT(store_maps_##suffix);                                                                   \
    KERNEL(256) load_maps_##suffix(const T* values, float* out, uint32_t from, uint32_t to,        \
                                   uint32_t n, const float* factor) {                              \
        convert<T, float, WIDTH>(values, out, from, to, n, factor);                                \
    }                                                                                              \
    EXPORT(load_maps_##suffix);                                                                    \
    KERNEL(256) add_maps_##suffix(T* sum, const T* other, uint32_t n) {                            \
        add<T, WIDTH>(sum, other, n);                                                              \
    }                                                                                              \
    EXPORT(add_maps_##suffix);
FOR_EACH_TYPE(MAPS)

// The power of two that brings the largest of the gradients to 32 or more and below 64, and its
// inverse; 1 where there is none. Half precision then has room for sums of a thousand of them, and
// for parts of a millionth.
KERNEL(1024) gradient_factor(const float* gradient, float* factor, uint64_t n) {
    constexpr int TARGET = 5, BIAS = 127, MOST = 100;
    __shared__ float scratch[WARP_SIZE];
    float largest = 0.0f;
    for (uint64_t i = threadIdx.x; i < n; i += blockDim.x) largest = fmaxf(largest, fabsf(gradient[i]));
    largest = warp_max(largest);
    if (threadIdx.x % WARP_SIZE == 0) scratch[threadIdx.x / WARP_SIZE] = largest;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (unsigned warp = 1; warp < blockDim.x / WARP_SIZE; ++warp) largest = fmaxf(largest, scratch[warp]);
    const int exponent = int(__float_as_uint(largest) >> 23) - BIAS;
    const bool is_number = largest > 0.0f && exponent <= BIAS;
    const int shift = is_number ? max(min(TARGET - exponent, MOST), -MOST) : 0;
    factor[0] = __uint_as_float(unsigned(BIAS + shift) << 23);
    factor[1] = __uint_as_float(unsigned(BIAS - shift) << 23);
}
EXPORT(gradient_factor);
