// Smooth activations of maps, and gates made of them, both ways.
//
// Grid: one thread for each vector that is written; a gate's gradient: a block for each tile of up
// to 32 vectors of channels of an image. Block: 256 threads, which in the latter lie as lanes of
// pixels on the tile's vectors. Shared: none; there 256 doubles a channel of a vector, static. A
// thread sums its pixels in f32, lanes are summed in f64 and in order.
#include "../batch_norm/rows.cuh"

enum class Curve : uint32_t { gelu, silu };

struct Point {
    float value, slope;
};

DEVICE float sigmoid(float x) { return reciprocal_fast(1.0f + exp2_fast(-LOG2_E * x)); }

DEVICE Point silu(float x) {
    const float gate = sigmoid(x);
    return {x * gate, gate * (1.0f + x * (1.0f - gate))};
}

// With the error function's complement as a polynomial of t times the power that the density has
// too, to 1.5e-7 (Abramowitz and Stegun, formula 7.1.26).
DEVICE Point gelu(float x) {
    constexpr float SCALE = 0.3275911f * 0.70710678f, DENSITY_AT_ZERO = 0.39894228f;
    const float power = exp2_fast(-0.5f * LOG2_E * x * x);
    const float t = reciprocal_fast(fmaf(fabsf(x), SCALE, 1.0f));
    float polynomial = fmaf(1.0614054f, t, -1.453152f);
    polynomial = fmaf(polynomial, t, 1.4214137f);
    polynomial = fmaf(polynomial, t, -0.28449674f);
    polynomial = fmaf(polynomial, t, 0.2548296f);
    // Of the smaller side, which loses nothing to a difference.
    const float tail = 0.5f * power * polynomial * t;
    const float below = x < 0.0f ? tail : 1.0f - tail;
    return {x * below, fmaf(x, DENSITY_AT_ZERO * power, below)};
}

DEVICE Point at(Curve curve, float x) { return curve == Curve::gelu ? gelu(x) : silu(x); }

DEVICE uint32_t own_vector() { return blockIdx.x * blockDim.x + threadIdx.x; }

template <class T, unsigned WIDTH>
DEVICE void activate(const T* maps, T* out, Curve curve, uint32_t n) {
    const uint32_t index = own_vector();
    if (index >= n) return;
    float values[WIDTH];
    load_floats(values, maps + size_t(index) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) values[i] = at(curve, values[i]).value;
    store_floats(out + size_t(index) * WIDTH, values);
}

// Makes the gradient that of the maps in place.
template <class T, unsigned WIDTH>
DEVICE void activation_gradient(const T* maps, T* gradient, Curve curve, uint32_t n) {
    const uint32_t index = own_vector();
    if (index >= n) return;
    float values[WIDTH], above[WIDTH];
    load_floats(values, maps + size_t(index) * WIDTH);
    load_floats(above, gradient + size_t(index) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) above[i] *= at(curve, values[i]).slope;
    store_floats(gradient + size_t(index) * WIDTH, above);
}

// SwiGLU: silu(a) * b of rows [a, b], each of `vectors` vectors.
template <class T, unsigned WIDTH>
DEVICE void gated_unit(const T* maps, T* out, uint32_t vectors, uint32_t n) {
    const uint32_t index = own_vector();
    if (index >= n) return;
    const size_t place = size_t(index) + index / vectors * vectors;
    float gates[WIDTH], values[WIDTH];
    load_floats(gates, maps + place * WIDTH);
    load_floats(values, maps + (place + vectors) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) values[i] *= silu(gates[i]).value;
    store_floats(out + size_t(index) * WIDTH, values);
}

template <class T, unsigned WIDTH>
DEVICE void gated_unit_gradient(const T* maps, const T* gradient, T* out, uint32_t vectors,
                                uint32_t n) {
    const uint32_t index = own_vector();
    if (index >= n) return;
    const size_t place = size_t(index) + index / vectors * vectors;
    float gates[WIDTH], values[WIDTH], above[WIDTH];
    load_floats(gates, maps + place * WIDTH);
    load_floats(values, maps + (place + vectors) * WIDTH);
    load_floats(above, gradient + size_t(index) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) {
        const Point gate = silu(gates[i]);
        gates[i] = above[i] * values[i] * gate.slope;
        values[i] = above[i] * gate.value;
    }
    store_floats(out + place * WIDTH, gates);
    store_floats(out + (place + vectors) * WIDTH, values);
}

// `logits` are [images, channels], one for all pixels of an image's channel.
template <class T, unsigned WIDTH>
DEVICE void gate(const T* maps, const T* logits, T* out, uint32_t pixels, uint32_t vectors,
                 uint32_t n) {
    const uint32_t index = own_vector();
    if (index >= n) return;
    const size_t image = index / vectors / pixels;
    float values[WIDTH], of_channel[WIDTH];
    load_floats(values, maps + size_t(index) * WIDTH);
    load_floats(of_channel, logits + (image * vectors + index % vectors) * WIDTH);
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) values[i] *= sigmoid(of_channel[i]);
    store_floats(out + size_t(index) * WIDTH, values);
}

// Makes the gradient that of the maps in place, and writes that of the logits.
template <class T, unsigned WIDTH>
DEVICE void gate_gradient(const T* maps, const T* logits, T* gradient, T* of_logits,
                          uint32_t pixels, uint32_t channels) {
    __shared__ double scratch[THREADS * WIDTH];
    const Place at = place<WIDTH>(channels);
    const size_t image = blockIdx.x, first = image * pixels * channels + at.channel;
    float sums[WIDTH] = {};
    if (at.is_there) {
        float gates[WIDTH];
        load_floats(gates, logits + image * channels + at.channel);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) gates[i] = sigmoid(gates[i]);
#pragma unroll 4
        for (unsigned pixel = at.lane; pixel < pixels; pixel += at.lanes) {
            const size_t here = first + size_t(pixel) * channels;
            float values[WIDTH], above[WIDTH];
            load_floats(values, maps + here);
            load_floats(above, gradient + here);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                sums[i] = fmaf(values[i], above[i], sums[i]);
                above[i] *= gates[i];
            }
            store_floats(gradient + here, above);
        }
    }
    const double sum = sum_of_lanes(sums, at, scratch);
    if (threadIdx.x >= at.tile * WIDTH) return;
    const size_t place = image * channels + at.first_channel + threadIdx.x;
    const float share = sigmoid(to_float(logits[place]));
    of_logits[place] = from_float<T>(float(sum) * share * (1.0f - share));
}

#define ACTIVATION(suffix, T, WIDTH)                                                               \
    KERNEL(256) activation_##suffix(const T* maps, T* out, uint32_t curve, uint32_t n) {           \
        activate<T, WIDTH>(maps, out, Curve(curve), n);                                            \
    }                                                                                              \
    EXPORT(activation_##suffix);                                                                   \
    KERNEL(256) activation_gradient_##suffix(const T* maps, T* gradient, uint32_t curve,           \
                                             uint32_t n) {                                         \
        activation_gradient<T, WIDTH>(maps, gradient, Curve(curve), n);                            \
    }                                                                                              \
    EXPORT(activation_gradient_##suffix);                                                          \
    KERNEL(256) gated_unit_##suffix(const T* maps, T* out, uint32_t vectors, uint32_t n) {         \
        gated_unit<T, WIDTH>(maps, out, vectors, n);                                               \
    }                                                                                              \
    EXPORT(gated_unit_##suffix);                                                                   \
    KERNEL(256) gated_unit_gradient_##suffix(const T* maps, const T* gradient, T* out,             \
                                             uint32_t vectors, uint32_t n) {                       \
        gated_unit_gradient<T, WIDTH>(maps, gradient, out, vectors, n);                            \
    }                                                                                              \
    EXPORT(gated_unit_gradient_##suffix);                                                          \
    KERNEL(256) gate_##suffix(const T* maps, const T* logits, T* out, uint32_t pixels,             \
                              uint32_t vectors, uint32_t n) {                                      \
        gate<T, WIDTH>(maps, logits, out, pixels, vectors, n);                                     \
    }                                                                                              \
    EXPORT(gate_##suffix);                                                                         \
    KERNEL(256) gate_gradient_##suffix(const T* maps, const T* logits, T* gradient, T* of_logits,  \
                                       uint32_t pixels, uint32_t channels) {                       \
        gate_gradient<T, WIDTH>(maps, logits, gradient, of_logits, pixels, channels);              \
    }                                                                                              \
    EXPORT(gate_gradient_##suffix);
FOR_EACH_TYPE(ACTIVATION)
