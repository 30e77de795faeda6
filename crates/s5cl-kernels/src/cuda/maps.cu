// Maps from f32 to the type in which they are stored and back, and sums of maps.
//
// Grid: one thread for each vector that is written. Block: 256 threads. Shared: none. Nothing is
// summed but pairs, in f32.
#include "maps.cuh"

// Rows of `from` channels become rows of `to`, of which n are vectors: further channels are zero,
// or left out.
template <class From, class To, unsigned WIDTH>
DEVICE void convert(const From* values, To* out, uint32_t from, uint32_t to, uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    const uint32_t vectors = to / WIDTH, row = index / vectors, channel = index % vectors * WIDTH;
    float parts[WIDTH];
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        const bool is_there = channel + i < from;
        parts[i] = is_there ? to_float(values[size_t(row) * from + channel + i]) : 0.0f;
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

// Without a second, a copy of the first.
template <class T, unsigned WIDTH>
DEVICE void sum(const T* first, const T* second, T* out, uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    float sums[WIDTH], values[WIDTH] = {};
    load_floats(sums, first + size_t(index) * WIDTH);
    if (second) load_floats(values, second + size_t(index) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) sums[i] += values[i];
    store_floats(out + size_t(index) * WIDTH, sums);
}

#define MAPS(suffix, T, WIDTH)                                                                     \
    KERNEL(256) store_maps_##suffix(const float* values, T* out, uint32_t from, uint32_t to,       \
                                    uint32_t n) {\
        convert<float, T, WIDTH>(values, out, from, to, n);                                \
    }                                                                                              \
    EXPORT(store_maps_##suffix);                                                                   \
    KERNEL(256) load_maps_##suffix(const T* values, float* out, uint32_t from, uint32_t to,        \
                                   uint32_t n) {\
        convert<T, float, WIDTH>(values, out, from, to, n);                                \
    }                                                                                              \
    EXPORT(load_maps_##suffix);                                                                    \
    KERNEL(256) add_maps_##suffix(T* sum, const T* other, uint32_t n) {                            \
        add<T, WIDTH>(sum, other, n);                                                              \
    }                                                                                              \
    EXPORT(add_maps_##suffix);                                                                     \
    KERNEL(256) sum_maps_##suffix(const T* first, const T* second, T* out, uint32_t n) {           \
        sum<T, WIDTH>(first, second, out, n);                                                      \
    }                                                                                              \
    EXPORT(sum_maps_##suffix);
FOR_EACH_TYPE(MAPS)
