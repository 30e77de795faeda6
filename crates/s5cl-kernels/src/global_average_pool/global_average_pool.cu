// The mean over all pixels of maps, both ways.
//
// Grid, forward: one thread for each vector of channels of an image; backward: one for each of a
// pixel. Block: 64 and 256 threads. Shared: none. Sums in f32, in reading order; means are f32.
#include "maps.cuh"

// `maps` are [images, pixels, channels], `out` [images, channels]; n vectors of channels.
template <class T, unsigned WIDTH>
DEVICE void forward(const T* maps, float* out, uint32_t pixels, uint32_t vectors, uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    const size_t channels = size_t(vectors) * WIDTH;
    const T* from = maps + index / vectors * pixels * channels + index % vectors * WIDTH;
    float sums[WIDTH] = {};
#pragma unroll 8
    for (uint32_t pixel = 0; pixel < pixels; ++pixel) {
        float values[WIDTH];
        load_floats(values, from + pixel * channels);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) sums[i] += values[i];
    }
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) sums[i] /= float(pixels);
    store_floats(out + size_t(index) * WIDTH, sums);
}

template <class T, unsigned WIDTH>
DEVICE void backward(const float* gradient, T* out, uint32_t pixels, uint32_t vectors, uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    const size_t image = index / vectors / pixels;
    float shares[WIDTH];
    load_floats(shares, gradient + (image * vectors + index % vectors) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) shares[i] /= float(pixels);
    store_floats(out + size_t(index) * WIDTH, shares);
}

#define AVERAGE(suffix, T, WIDTH)                                                                  \
    KERNEL(64) global_average_pool_##suffix(const T* maps, float* out, uint32_t pixels,            \
                                            uint32_t vectors, uint32_t n) {                        \
        forward<T, WIDTH>(maps, out, pixels, vectors, n);                                          \
    }                                                                                              \
    EXPORT(global_average_pool_##suffix);                                                          \
    KERNEL(256) global_average_pool_backward_##suffix(const float* gradient, T* out,               \
                                                      uint32_t pixels, uint32_t vectors,           \
                                                      uint32_t n) {                                \
        backward<T, WIDTH>(gradient, out, pixels, vectors, n);                                     \
    }                                                                                              \
    EXPORT(global_average_pool_backward_##suffix);
FOR_EACH_TYPE(AVERAGE)
