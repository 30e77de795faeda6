// From patches to tokens and from tokens to one vector an image, both ways.
//
// Grid: one thread for each vector that is written; the gradients of prefix and positions: one for
// each vector of a token, which takes the images in order. Block: 256 threads. Shared: none. Sums
// over patches in f32, in order; over images in f64, in order.
#include "maps.cuh"

// How many tokens an image has, and vectors of a token.
struct Tokens {
    uint32_t n_prefix, n_tokens, vectors, n;
};

struct Place {
    uint32_t vector, token;
    size_t image;
    bool is_there;

    DEVICE static Place of_thread(const Tokens& tokens) {
        const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
        return {index % tokens.vectors, index / tokens.vectors % tokens.n_tokens,
                index / tokens.vectors / tokens.n_tokens, index < tokens.n};
    }
};

// Where a vector of a token begins, or of a patch.
template <unsigned WIDTH> DEVICE size_t of_token(const Place& at, const Tokens& tokens) {
    return ((at.image * tokens.n_tokens + at.token) * tokens.vectors + at.vector) * WIDTH;
}
template <unsigned WIDTH> DEVICE size_t of_patch(const Place& at, const Tokens& tokens) {
    const size_t n_patches = tokens.n_tokens - tokens.n_prefix, patch = at.token - tokens.n_prefix;
    return ((at.image * n_patches + patch) * tokens.vectors + at.vector) * WIDTH;
}

template <class T, unsigned WIDTH>
DEVICE void forward(const T* patches, const float* prefix, const float* positions, T* out,
                    const Tokens& tokens) {
    const Place at = Place::of_thread(tokens);
    if (!at.is_there) return;
    const Place of_all = {at.vector, at.token, 0, true};
    float values[WIDTH];
    if (at.token < tokens.n_prefix) {
        load_floats(values, prefix + of_token<WIDTH>(of_all, tokens));
    } else {
        float position[WIDTH];
        load_floats(values, patches + of_patch<WIDTH>(at, tokens));
        load_floats(position, positions + of_patch<WIDTH>(of_all, tokens));
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) values[i] += position[i];
    }
    store_floats(out + of_token<WIDTH>(at, tokens), values);
}

// Copies the gradients of the patches, and writes those of prefix and positions, each unless it is
// null.
template <class T, unsigned WIDTH>
DEVICE void backward(const T* gradient, T* of_patches, float* of_prefix, float* of_positions,
                     uint32_t batch, const Tokens& tokens) {
    Place at = Place::of_thread(tokens);
    if (!at.is_there) return;
    const bool is_patch = at.token >= tokens.n_prefix;
    double sums[WIDTH] = {};
#pragma unroll 4
    for (at.image = 0; at.image < batch; ++at.image) {
        Vector<T, WIDTH> values;
        load(values, gradient + of_token<WIDTH>(at, tokens));
        if (is_patch) store(of_patches + of_patch<WIDTH>(at, tokens), values);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) sums[i] += double(to_float(values.values[i]));
    }
    float* const all = is_patch ? of_positions : of_prefix;
    if (!all) return;
    at.image = 0;
    float* const to = all + (is_patch ? of_patch<WIDTH>(at, tokens) : of_token<WIDTH>(at, tokens));
    float totals[WIDTH];
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) totals[i] = float(sums[i]);
    store_floats(to, totals);
}

// Which vectors an image gets: the class token, the mean of the patches, or both in this order.
struct Pool {
    uint32_t has_class, has_mean;
};

// One token an image in `at`.
template <class T, unsigned WIDTH>
DEVICE void pool(const T* values, float* out, const Tokens& tokens, const Pool& pool) {
    const uint32_t index = blockIdx.x * blockDim.x + threadIdx.x;
    if (index >= tokens.n) return;
    Place at = {index % tokens.vectors, 0, index / tokens.vectors, true};
    float* to = out + (at.image * (pool.has_class + pool.has_mean) * tokens.vectors + at.vector) * WIDTH;
    if (pool.has_class) {
        float of_class[WIDTH];
        load_floats(of_class, values + of_token<WIDTH>(at, tokens));
        store_floats(to, of_class);
        to += size_t(tokens.vectors) * WIDTH;
    }
    if (!pool.has_mean) return;
    float sums[WIDTH] = {};
#pragma unroll 8
    for (at.token = tokens.n_prefix; at.token < tokens.n_tokens; ++at.token) {
        float of_patch[WIDTH];
        load_floats(of_patch, values + of_token<WIDTH>(at, tokens));
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) sums[i] += of_patch[i];
    }
#pragma unroll
    for (unsigned i = 0; i < WIDTH; ++i) sums[i] /= float(tokens.n_tokens - tokens.n_prefix);
    store_floats(to, sums);
}

template <class T, unsigned WIDTH>
DEVICE void pool_gradient(const float* gradient, T* out, const Tokens& tokens, const Pool& pool) {
    const Place at = Place::of_thread(tokens);
    if (!at.is_there) return;
    const uint32_t n_vectors = pool.has_class + pool.has_mean;
    const float* from = gradient + (at.image * n_vectors * tokens.vectors + at.vector) * WIDTH;
    float sums[WIDTH] = {};
    if (pool.has_class && at.token == 0) load_floats(sums, from);
    if (pool.has_mean && at.token >= tokens.n_prefix) {
        float of_mean[WIDTH];
        load_floats(of_mean, from + size_t(n_vectors - 1) * tokens.vectors * WIDTH);
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) {
            sums[i] += of_mean[i] / float(tokens.n_tokens - tokens.n_prefix);
        }
    }
    store_floats(out + of_token<WIDTH>(at, tokens), sums);
}

#define TOKENS(suffix, T, WIDTH)                                                                   \
    KERNEL(256) tokens_##suffix(const T* patches, const float* prefix, const float* positions,     \
                                T* out, const __grid_constant__ Tokens tokens) {                   \
        forward<T, WIDTH>(patches, prefix, positions, out, tokens);                                \
    }                                                                                              \
    EXPORT(tokens_##suffix);                                                                       \
    KERNEL(256) tokens_gradient_##suffix(const T* gradient, T* of_patches, float* of_prefix,       \
                                         float* of_positions, uint32_t batch,                      \
                                         const __grid_constant__ Tokens tokens) {                  \
        backward<T, WIDTH>(gradient, of_patches, of_prefix, of_positions, batch, tokens);          \
    }                                                                                              \
    EXPORT(tokens_gradient_##suffix);                                                              \
    KERNEL(256) pool_tokens_##suffix(const T* values, float* out,                                  \
                                     const __grid_constant__ Tokens tokens,                        \
                                     const __grid_constant__ Pool of) {                            \
        pool<T, WIDTH>(values, out, tokens, of);                                                   \
    }                                                                                              \
    EXPORT(pool_tokens_##suffix);                                                                  \
    KERNEL(256) pool_tokens_gradient_##suffix(const float* gradient, T* out,                       \
                                              const __grid_constant__ Tokens tokens,               \
                                              const __grid_constant__ Pool of) {                   \
        pool_gradient<T, WIDTH>(gradient, out, tokens, of);                                        \
    }                                                                                              \
    EXPORT(pool_tokens_gradient_##suffix);
FOR_EACH_TYPE(TOKENS)
