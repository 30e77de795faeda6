// The sum of all rows of maps: the gradient of a convolution's bias.
//
// Grid: blocks of rows, and tiles of up to 32 vectors of channels. Block: 256 threads, which lie as
// lanes of rows on the tile's vectors. Shared: 256 doubles a channel of a vector, static.
// A thread sums its rows in f32, lanes and blocks are summed in f64; the order depends on the shape
// alone.
#include "../batch_norm/rows.cuh"

template <class T, unsigned WIDTH> struct RowSums {
    static constexpr unsigned AHEAD = 4;
    const T* values;
    unsigned channels;
    float sums[WIDTH];

    template <unsigned N> DEVICE void rows(uint64_t row, uint64_t step) {
        Vector<T, WIDTH> parts[N];
#pragma unroll
        for (unsigned n = 0; n < N; ++n) load(parts[n], values + (row + n * step) * channels);
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) sums[i] += to_float(parts[n].values[i]);
        }
    }
};

template <class T, unsigned WIDTH>
DEVICE void bias_gradient(const T* values, float* partials, uint32_t* counters, float* out,
                          uint64_t rows, uint32_t channels) {
    __shared__ double scratch[THREADS * WIDTH];
    const Place at = place<WIDTH>(channels);
    RowSums<T, WIDTH> of = {values + at.channel, channels, {}};
    for_rows(at, rows, of);
    const float nothing[WIDTH] = {};
    double totals[2];
    if (!sum_of_blocks(of.sums, nothing, at, channels, partials, counters, scratch, totals)) return;
    if (threadIdx.x < at.tile * WIDTH) out[at.first_channel + threadIdx.x] = float(totals[0]);
}

#define BIAS(suffix, T, WIDTH)                                                                     \
    KERNEL(256) bias_gradient_##suffix(const T* values, float* partials, uint32_t* counters,       \
                                       float* out, uint64_t rows, uint32_t channels) {             \
        bias_gradient<T, WIDTH>(values, partials, counters, out, rows, channels);                  \
    }                                                                                              \
    EXPORT(bias_gradient_##suffix);
FOR_EACH_TYPE(BIAS)
