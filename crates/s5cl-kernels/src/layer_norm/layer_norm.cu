// Layer normalization of rows of channels, both ways.
//
// Grid: rows, which blocks take in turn; parameters' gradients: blocks of rows, and tiles of up to
// 32 vectors of channels. Block: 256 threads, which lie as groups of lanes of one row each, or as
// lanes of rows on the tile's vectors. Shared: none; sums: 256 doubles a channel of a vector, static.
// Sums in f32 within a row or a thread; lanes and blocks are summed in f64. The order depends on the
// shape alone.
#include "../batch_norm/rows.cuh"

// Of `size` neighboring lanes of a warp, the same bits in each.
DEVICE float group_sum(float value, unsigned size) {
    for (unsigned bits = size / 2; bits > 0; bits /= 2) {
        value += __shfl_xor_sync(WHOLE_WARP, value, bits);
    }
    return value;
}

// Calls `work(row, is_there)` for the rows of each group of lanes. A warp's lanes stay together: a
// group without a row computes the first once more, and must not write.
template <class Work> DEVICE void for_own_rows(uint64_t rows, unsigned group, Work work) {
    const uint64_t of_block = THREADS / group, own = threadIdx.x / group;
    for (uint64_t first = blockIdx.x * of_block; first < rows; first += gridDim.x * of_block) {
        const bool is_there = first + own < rows;
        work(is_there ? first + own : 0, is_there);
    }
}

// `kept` gets mean and inverse deviation of each row, unless it is null.
template <class T, unsigned WIDTH>
DEVICE void forward(const T* maps, const float* weight, const float* bias, float* kept, T* out,
                    uint64_t rows, uint32_t channels, uint32_t group, float epsilon) {
    const unsigned lane = threadIdx.x % group, first = lane * WIDTH, step = group * WIDTH;
    for_own_rows(rows, group, [=](uint64_t row, bool is_there) {
        const T* const from = maps + row * channels;
        float values[WIDTH], sum = 0.0f;
#pragma unroll 2
        for (unsigned channel = first; channel < channels; channel += step) {
            load_floats(values, from + channel);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) sum += values[i];
        }
        const float mean = group_sum(sum, group) / float(channels);
        float squares = 0.0f;
#pragma unroll 2
        for (unsigned channel = first; channel < channels; channel += step) {
            load_floats(values, from + channel);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                squares = fmaf(values[i] - mean, values[i] - mean, squares);
            }
        }
        const float variance = group_sum(squares, group) / float(channels);
        const float inverse = 1.0f / sqrtf(variance + epsilon);
        if (!is_there) return;
        if (kept && lane == 0) {
            kept[2 * row] = mean;
            kept[2 * row + 1] = inverse;
        }
#pragma unroll 2
        for (unsigned channel = first; channel < channels; channel += step) {
            float scale[WIDTH], shift[WIDTH];
            load_floats(values, from + channel);
            load_floats(scale, weight + channel);
            load_floats(shift, bias + channel);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                values[i] = fmaf((values[i] - mean) * inverse, scale[i], shift[i]);
            }
            store_floats(out + row * channels + channel, values);
        }
    });
}

// Makes the gradient that of the maps in place:
// inverse * (g * weight - mean(g * weight) - xhat * mean(g * weight * xhat)).
template <class T, unsigned WIDTH>
DEVICE void gradient_of_maps(const T* maps, const float* kept, const float* weight, T* gradient,
                             uint64_t rows, uint32_t channels, uint32_t group) {
    const unsigned first = threadIdx.x % group * WIDTH, step = group * WIDTH;
    for_own_rows(rows, group, [=](uint64_t row, bool is_there) {
        const T* const from = maps + row * channels;
        T* const above = gradient + row * channels;
        const float mean = kept[2 * row], inverse = kept[2 * row + 1];
        float values[WIDTH], scaled[WIDTH], scale[WIDTH], sum = 0.0f, product = 0.0f;
#pragma unroll 2
        for (unsigned channel = first; channel < channels; channel += step) {
            load_floats(values, from + channel);
            load_floats(scaled, above + channel);
            load_floats(scale, weight + channel);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                scaled[i] *= scale[i];
                sum += scaled[i];
                product = fmaf(scaled[i], (values[i] - mean) * inverse, product);
            }
        }
        sum = group_sum(sum, group) / float(channels);
        product = group_sum(product, group) / float(channels);
        if (!is_there) return;
#pragma unroll 2
        for (unsigned channel = first; channel < channels; channel += step) {
            load_floats(values, from + channel);
            load_floats(scaled, above + channel);
            load_floats(scale, weight + channel);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                const float normal = (values[i] - mean) * inverse;
                scaled[i] = inverse * (scaled[i] * scale[i] - fmaf(normal, product, sum));
            }
            store_floats(above + channel, scaled);
        }
    });
}

// Sums of gradients, and of their products with the normalized maps.
template <class T, unsigned WIDTH> struct ParameterSums {
    static constexpr unsigned AHEAD = 2;
    const T *maps, *gradient;
    const float* kept;
    unsigned channels;
    float sums[WIDTH], products[WIDTH];

    template <unsigned N> DEVICE void rows(uint64_t row, uint64_t step) {
        Vector<T, WIDTH> values[N], gradients[N];
        float mean[N], inverse[N];
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            load(values[n], maps + (row + n * step) * channels);
            load(gradients[n], gradient + (row + n * step) * channels);
            mean[n] = kept[2 * (row + n * step)];
            inverse[n] = kept[2 * (row + n * step) + 1];
        }
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                const float normal = (to_float(values[n].values[i]) - mean[n]) * inverse[n];
                const float above = to_float(gradients[n].values[i]);
                sums[i] += above;
                products[i] = fmaf(above, normal, products[i]);
            }
        }
    }
};

// The gradients of weight and bias, each unless it is null.
template <class T, unsigned WIDTH>
DEVICE void gradient_sums(const T* maps, const float* kept, const T* gradient, float* partials,
                          uint32_t* counters, float* of_weight, float* of_bias, uint64_t rows,
                          uint32_t channels) {
    __shared__ double scratch[THREADS * WIDTH];
    const Place at = place<WIDTH>(channels);
    ParameterSums<T, WIDTH> of = {maps + at.channel, gradient + at.channel, kept, channels, {}, {}};
    for_rows(at, rows, of);
    double totals[2];
    if (!sum_of_blocks(of.sums, of.products, at, channels, partials, counters, scratch, totals)) return;
    if (threadIdx.x >= at.tile * WIDTH) return;
    const unsigned channel = at.first_channel + threadIdx.x;
    if (of_weight) of_weight[channel] = float(totals[1]);
    if (of_bias) of_bias[channel] = float(totals[0]);
}

#define LAYER_NORM(suffix, T, WIDTH)                                                               \
    KERNEL(256, 4) layer_norm_##suffix(const T* maps, const float* weight, const float* bias,      \
                                       float* kept, T* out, uint64_t rows, uint32_t channels,      \
                                       uint32_t group, float epsilon) {                            \
        forward<T, WIDTH>(maps, weight, bias, kept, out, rows, channels, group, epsilon);          \
    }                                                                                              \
    EXPORT(layer_norm_##suffix);                                                                   \
    KERNEL(256) layer_norm_gradient_##suffix(const T* maps, const float* kept,                     \
                                             const float* weight, T* gradient, uint64_t rows,      \
                                             uint32_t channels, uint32_t group) {                  \
        gradient_of_maps<T, WIDTH>(maps, kept, weight, gradient, rows, channels, group);           \
    }                                                                                              \
    EXPORT(layer_norm_gradient_##suffix);                                                          \
    KERNEL(256) layer_norm_gradient_sums_##suffix(                                                 \
        const T* maps, const float* kept, const T* gradient, float* partials, uint32_t* counters,  \
        float* of_weight, float* of_bias, uint64_t rows, uint32_t channels) {                      \
        gradient_sums<T, WIDTH>(maps, kept, gradient, partials, counters, of_weight, of_bias,      \
                                rows, channels);                                                   \
    }                                                                                              \
    EXPORT(layer_norm_gradient_sums_##suffix);
FOR_EACH_TYPE(LAYER_NORM)
