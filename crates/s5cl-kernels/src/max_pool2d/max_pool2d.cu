// Max pooling of [batch, height, width, channels], both ways.
//
// Grid: one thread for each vector of channels of a pixel that is written. Block: 256 threads.
// Shared: none. Gradients of a pixel are summed in f32, in the reading order of the windows.
#include "maps.cuh"

// What nothing is smaller than.
constexpr float LOWEST = -__builtin_inff();

// Square windows that slide over a padded map; `vectors` are those of a pixel's channels.
struct Window {
    uint32_t height, width, out_height, out_width, kernel, stride, padding, vectors;
};

// Writes the largest value of each window, and which place of it that is unless `winners` is null;
// a NaN is larger than any number, and the last of several wins.
template <class T, unsigned WIDTH>
DEVICE void forward(const T* maps, T* out, uint8_t* winners, const Window& window, uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    const uint32_t vector = index % window.vectors, pixel = index / window.vectors;
    const uint32_t row = pixel / window.out_width;
    const uint32_t out_x = pixel % window.out_width, out_y = row % window.out_height;
    const uint32_t image = row / window.out_height, stride = window.stride;
    const size_t channels = size_t(window.vectors) * WIDTH;
    const T* of_image = maps + size_t(image) * window.height * window.width * channels + vector * WIDTH;
    // The first place inside the map wins what is minus infinity everywhere.
    const uint32_t first_y = window.padding > out_y * stride ? window.padding - out_y * stride : 0;
    const uint32_t first_x = window.padding > out_x * stride ? window.padding - out_x * stride : 0;
    float largest[WIDTH];
    Vector<uint8_t, WIDTH> places;
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        largest[i] = LOWEST;
        places.values[i] = uint8_t(first_y * window.kernel + first_x);
    }
    for (uint32_t tap_y = first_y; tap_y < window.kernel; ++tap_y) {
        const uint32_t y = out_y * stride + tap_y - window.padding;
        if (y >= window.height) break;
        for (uint32_t tap_x = first_x; tap_x < window.kernel; ++tap_x) {
            const uint32_t x = out_x * stride + tap_x - window.padding;
            if (x >= window.width) break;
            float values[WIDTH];
            load_floats(values, of_image + (size_t(y) * window.width + x) * channels);
            const uint8_t place = uint8_t(tap_y * window.kernel + tap_x);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                const bool wins = values[i] > largest[i] || values[i] != values[i];
                largest[i] = wins ? values[i] : largest[i];
                places.values[i] = wins ? place : places.values[i];
            }
        }
    }
    store_floats(out + size_t(index) * WIDTH, largest);
    if (winners) store(winners + size_t(index) * WIDTH, places);
}

// Writes the gradient of each pixel: the sum over the windows that it won.
template <class T, unsigned WIDTH>
DEVICE void backward(const uint8_t* winners, const T* gradient, T* out, const Window& window,
                     uint32_t n) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= n) return;
    const uint32_t vector = index % window.vectors, pixel = index / window.vectors;
    const uint32_t row = pixel / window.width;
    const uint32_t y = row % window.height + window.padding, x = pixel % window.width + window.padding;
    const uint32_t image = row / window.height, kernel = window.kernel, stride = window.stride;
    const uint32_t first_y = y < kernel ? 0 : ceil_div(y + 1 - kernel, stride);
    const uint32_t first_x = x < kernel ? 0 : ceil_div(x + 1 - kernel, stride);
    const uint32_t last_y = min(y / stride + 1, window.out_height);
    const uint32_t last_x = min(x / stride + 1, window.out_width);
    const size_t channels = size_t(window.vectors) * WIDTH;
    const size_t start = size_t(image) * window.out_height * window.out_width * channels + vector * WIDTH;
    float sums[WIDTH] = {};
    for (uint32_t out_y = first_y; out_y < last_y; ++out_y) {
        for (uint32_t out_x = first_x; out_x < last_x; ++out_x) {
            const uint8_t place = uint8_t((y - out_y * stride) * kernel + (x - out_x * stride));
            const size_t at = start + (size_t(out_y) * window.out_width + out_x) * channels;
            Vector<uint8_t, WIDTH> places;
            float values[WIDTH];
            load(places, winners + at);
            load_floats(values, gradient + at);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) sums[i] += places.values[i] == place ? values[i] : 0.0f;
        }
    }
    store_floats(out + size_t(index) * WIDTH, sums);
}

#define MAX_POOL(suffix, T, WIDTH)                                                                 \
    KERNEL(256) max_pool2d_##suffix(const T* maps, T* out, uint8_t* winners, Window window,        \
                                    uint32_t n) {                                                  \
        forward<T, WIDTH>(maps, out, winners, window, n);                                          \
    }                                                                                              \
    EXPORT(max_pool2d_##suffix);                                                                   \
    KERNEL(256) max_pool2d_backward_##suffix(const uint8_t* winners, const T* gradient, T* out,    \
                                             Window window, uint32_t n) {                          \
        backward<T, WIDTH>(winners, gradient, out, window, n);                                     \
    }                                                                                              \
    EXPORT(max_pool2d_backward_##suffix);
FOR_EACH_TYPE(MAX_POOL)
