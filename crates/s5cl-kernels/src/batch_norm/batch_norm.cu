// Batch normalization of rows of channels, with the residual sum and ReLU behind it, both ways.
//
// Grid: blocks of rows, and tiles of up to 32 vectors of channels. Block: 256 threads, which lie as
// lanes of rows on the tile's vectors. Shared: 256 doubles a channel of a vector, static.
// A thread sums its rows in f32, lanes and blocks are summed in f64, the blocks by whichever comes
// last; the order depends on the shapes alone.
#include "rows.cuh"

// Sums of values and squares, both behind an origin: where the mean is far from zero, plain squares
// would lose the variance to rounding.
template <class T, unsigned WIDTH> struct MomentSums {
    static constexpr unsigned AHEAD = 4;
    const T* maps;
    unsigned channels;
    float origin[WIDTH], sums[WIDTH], squares[WIDTH];

    template <unsigned N> DEVICE void rows(uint64_t row, uint64_t step) {
        Vector<T, WIDTH> values[N];
#pragma unroll
        for (unsigned n = 0; n < N; ++n) load(values[n], maps + (row + n * step) * channels);
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                const float centered = to_float(values[n].values[i]) - origin[i];
                sums[i] += centered;
                squares[i] = fmaf(centered, centered, squares[i]);
            }
        }
    }
};

// Mean and variance of each channel, and what normalizes by them: `coefficients` are the mean, the
// inverse deviation, the scale and the shift, [4, channels]. `variance` is the unbiased one.
template <class T, unsigned WIDTH>
DEVICE void moments(const T* maps, const float* weight, const float* bias, float* partials,
                    uint32_t* counters, float* coefficients, float* mean, float* variance,
                    uint64_t rows, uint32_t channels, double epsilon) {
    __shared__ double scratch[THREADS * WIDTH];
    const Place at = place<WIDTH>(channels);
    MomentSums<T, WIDTH> of = {maps + at.channel, channels, {}, {}, {}};
    load_floats(of.origin, of.maps);
    for_rows(at, rows, of);
    double totals[2];
    if (!sum_of_blocks(of.sums, of.squares, at, channels, partials, counters, scratch, totals)) return;
    if (threadIdx.x >= at.tile * WIDTH) return;
    const unsigned channel = at.first_channel + threadIdx.x;
    const double n = double(rows), behind_origin = totals[0] / n;
    double of_batch = totals[1] / n - behind_origin * behind_origin;
    if (of_batch < 0.0) of_batch = 0.0;
    const double center = behind_origin + double(to_float(maps[channel]));
    const double inverse = 1.0 / sqrt(of_batch + epsilon);
    const double scale = double(weight[channel]) * inverse;
    coefficients[channel] = float(center);
    coefficients[channels + channel] = float(inverse);
    coefficients[2 * channels + channel] = float(scale);
    coefficients[3 * channels + channel] = float(double(bias[channel]) - center * scale);
    mean[channel] = float(center);
    variance[channel] = float(rows > 1 ? of_batch * (n / (n - 1.0)) : of_batch);
}

// out = relu(maps * scale + shift + residual), without what is not asked for.
template <class T, unsigned WIDTH> struct Apply {
    static constexpr unsigned AHEAD = 4;
    const T *maps, *residual;
    T* out;
    unsigned channels;
    bool relu;
    float scale[WIDTH], shift[WIDTH];

    template <unsigned N> DEVICE void rows(uint64_t row, uint64_t step) {
        Vector<T, WIDTH> values[N], others[N];
#pragma unroll
        for (unsigned n = 0; n < N; ++n) load(values[n], maps + (row + n * step) * channels);
        if (residual) {
#pragma unroll
            for (unsigned n = 0; n < N; ++n) load(others[n], residual + (row + n * step) * channels);
        }
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            float result[WIDTH];
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                result[i] = fmaf(to_float(values[n].values[i]), scale[i], shift[i]);
                if (residual) result[i] += to_float(others[n].values[i]);
                if (relu) result[i] = clipped(result[i]);
            }
            store_floats(out + (row + n * step) * channels, result);
        }
    }
};

// `residual` may be null, `scale` too where it is 1, and `out` may be the maps.
template <class T, unsigned WIDTH>
DEVICE void apply(const T* maps, const T* residual, const float* scale, const float* shift, T* out,
                  uint64_t rows, uint32_t channels, uint32_t relu) {
    const Place at = place<WIDTH>(channels);
    Apply<T, WIDTH> of = {maps + at.channel, residual ? residual + at.channel : nullptr,
                          out + at.channel, channels, relu != 0, {}, {}};
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) of.scale[i] = 1.0f;
    if (scale) load_floats(of.scale, scale + at.channel);
    load_floats(of.shift, shift + at.channel);
    for_rows(at, rows, of);
}

// Where the gradient passes the ReLU behind the normalization.
enum class Mask : uint32_t { open, affine, result };

// Sums of gradients, and of their products with the centered maps. By the result, which has a
// residual in it, the gradient is masked where it lies: it is the residual's too.
template <class T, unsigned WIDTH> struct GradientSums {
    static constexpr unsigned AHEAD = 2;
    const T *maps, *result;
    T* gradient;
    unsigned channels;
    Mask mask;
    float mean[WIDTH], scale[WIDTH], shift[WIDTH], sums[WIDTH], products[WIDTH];

    template <unsigned N> DEVICE void rows(uint64_t row, uint64_t step) {
        Vector<T, WIDTH> values[N], gradients[N], results[N];
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            load(values[n], maps + (row + n * step) * channels);
            load(gradients[n], gradient + (row + n * step) * channels);
        }
        if (mask == Mask::result) {
#pragma unroll
            for (unsigned n = 0; n < N; ++n) load(results[n], result + (row + n * step) * channels);
        }
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                const float value = to_float(values[n].values[i]);
                bool is_open = true;
                if (mask == Mask::affine) is_open = fmaf(value, scale[i], shift[i]) > 0.0f;
                if (mask == Mask::result) is_open = to_float(results[n].values[i]) > 0.0f;
                if (!is_open) gradients[n].values[i] = from_float<T>(0.0f);
                const float masked = to_float(gradients[n].values[i]);
                sums[i] += masked;
                products[i] = fmaf(masked, value - mean[i], products[i]);
            }
            if (mask == Mask::result) store(gradient + (row + n * step) * channels, gradients[n]);
        }
    }
};

// The gradients of weight and bias, each unless it is null, and the line by which
// `gradient_of_maps` goes on, [3, channels]. Without `coefficients`, the maps were normalized by a
// mean of 0 and a deviation of 1. `n` is infinite where the statistics are constants.
template <class T, unsigned WIDTH>
DEVICE void gradient_sums(const T* maps, const T* result, T* gradient, const float* coefficients,
                          const float* weight, const float* scale, const float* shift,
                          float* partials, uint32_t* counters, float* of_weight, float* of_bias,
                          float* line, uint64_t rows, uint32_t channels, uint32_t mask,
                          double n) {
    __shared__ double scratch[THREADS * WIDTH];
    const Place at = place<WIDTH>(channels);
    GradientSums<T, WIDTH> of = {maps + at.channel, result ? result + at.channel : nullptr,
                                 gradient + at.channel, channels, Mask(mask), {}, {}, {}, {}, {}};
    if (coefficients) load_floats(of.mean, coefficients + at.channel);
    if (of.mask == Mask::affine) {
        load_floats(of.scale, scale + at.channel);
        load_floats(of.shift, shift + at.channel);
    }
    for_rows(at, rows, of);
    double totals[2];
    if (!sum_of_blocks(of.sums, of.products, at, channels, partials, counters, scratch, totals)) return;
    if (threadIdx.x >= at.tile * WIDTH) return;
    const unsigned channel = at.first_channel + threadIdx.x;
    const double center = coefficients ? double(coefficients[channel]) : 0.0;
    const double inverse = coefficients ? double(coefficients[channels + channel]) : 1.0;
    const double product = totals[1] * inverse, factor = double(weight[channel]) * inverse;
    const double slope = -factor * inverse * product / n;
    line[channel] = float(factor);
    line[channels + channel] = float(slope);
    line[2 * channels + channel] = float(-factor * totals[0] / n - slope * center);
    if (of_weight) of_weight[channel] = float(product);
    if (of_bias) of_bias[channel] = float(totals[0]);
}

// out = line[0] * gradient + line[1] * maps + line[2]: weight / deviation times what is left of the
// gradient without its mean and its part along the normalized maps.
template <class T, unsigned WIDTH> struct Line {
    static constexpr unsigned AHEAD = 2;
    const T *maps, *gradient;
    T* out;
    unsigned channels;
    bool is_masked;
    float scale[WIDTH], shift[WIDTH], factor[WIDTH], slope[WIDTH], offset[WIDTH];

    template <unsigned N> DEVICE void rows(uint64_t row, uint64_t step) {
        Vector<T, WIDTH> values[N], gradients[N];
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            load(values[n], maps + (row + n * step) * channels);
            load(gradients[n], gradient + (row + n * step) * channels);
        }
#pragma unroll
        for (unsigned n = 0; n < N; ++n) {
            float to[WIDTH];
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                const float value = to_float(values[n].values[i]);
                float masked = to_float(gradients[n].values[i]);
                if (is_masked && !(fmaf(value, scale[i], shift[i]) > 0.0f)) masked = 0.0f;
                to[i] = fmaf(factor[i], masked, fmaf(slope[i], value, offset[i]));
            }
            store_floats(out + (row + n * step) * channels, to);
        }
    }
};

// `out` may be the gradient. `scale` and `shift` are null where nothing is masked any more.
template <class T, unsigned WIDTH>
DEVICE void gradient_of_maps(const T* maps, const T* gradient, const float* scale,
                             const float* shift, const float* line, T* out, uint64_t rows,
                             uint32_t channels) {
    const Place at = place<WIDTH>(channels);
    Line<T, WIDTH> of = {maps + at.channel, gradient + at.channel, out + at.channel, channels,
                         scale != nullptr, {}, {}, {}, {}, {}};
    if (of.is_masked) {
        load_floats(of.scale, scale + at.channel);
        load_floats(of.shift, shift + at.channel);
    }
    load_floats(of.factor, line + at.channel);
    load_floats(of.slope, line + channels + at.channel);
    load_floats(of.offset, line + 2 * channels + at.channel);
    for_rows(at, rows, of);
}

#define BATCH_NORM(suffix, T, WIDTH)                                                               \
    KERNEL(256) batch_norm_moments_##suffix(                                                       \
        const T* maps, const float* weight, const float* bias, float* partials, uint32_t* counters, \
        float* coefficients, float* mean, float* variance, uint64_t rows, uint32_t channels,       \
        double epsilon) {                                                                          \
        moments<T, WIDTH>(maps, weight, bias, partials, counters, coefficients, mean, variance,    \
                          rows, channels, epsilon);                                                \
    }                                                                                              \
    EXPORT(batch_norm_moments_##suffix);                                                           \
    KERNEL(256) batch_norm_apply_##suffix(                                                         \
        const T* maps, const T* residual, const float* scale, const float* shift, T* out,          \
        uint64_t rows, uint32_t channels, uint32_t relu) {                                         \
        apply<T, WIDTH>(maps, residual, scale, shift, out, rows, channels, relu);                  \
    }                                                                                              \
    EXPORT(batch_norm_apply_##suffix);                                                             \
    KERNEL(256) batch_norm_gradient_sums_##suffix(                                                 \
        const T* maps, const T* result, T* gradient, const float* coefficients,                    \
        const float* weight, const float* scale, const float* shift, float* partials,              \
        uint32_t* counters, float* of_weight, float* of_bias, float* line,                         \
        uint64_t rows, uint32_t channels, uint32_t mask, double n) {                               \
        gradient_sums<T, WIDTH>(maps, result, gradient, coefficients, weight, scale, shift,        \
                                partials, counters, of_weight, of_bias, line, rows,       \
                                channels, mask, n);                                                \
    }                                                                                              \
    EXPORT(batch_norm_gradient_sums_##suffix);                                                     \
    KERNEL(256) batch_norm_gradient_##suffix(                                                      \
        const T* maps, const T* gradient, const float* scale, const float* shift,                  \
        const float* line, T* out, uint64_t rows, uint32_t channels) {                             \
        gradient_of_maps<T, WIDTH>(maps, gradient, scale, shift, line, out, rows, channels);       \
    }                                                                                              \
    EXPORT(batch_norm_gradient_##suffix);
FOR_EACH_TYPE(BATCH_NORM)
