// Steps of optimizers in place over all parameters at once, the norm of all gradients, and the move
// of averages, on CUDA devices.
//
// Grid: 1 block for every 4096 values of a tensor; 1 for the norm's second part. Block: 256 threads;
// 1024. Shared: 1 float, or 8 or 32 doubles. Each value alone in f32, as on the CPU; squares are
// summed in f64, in an order that depends on the lengths alone.
#include "device.cuh"

namespace {

constexpr unsigned THREADS = 256, VALUES_OF_BLOCK = 4096, MOST_TENSORS = 96;

// The tensors of a launch, which come by value: addresses of gradients differ from step to step.
struct Tensors {
    float* at[4][MOST_TENSORS];  // what changes, what it follows, and two of state
    uint32_t first_block[MOST_TENSORS];
    uint32_t len[MOST_TENSORS];
    uint32_t n, unused;
};

// What a block takes of a tensor.
struct Part {
    unsigned tensor;
    uint32_t first, n;
};

DEVICE Part part_of_block(const Tensors& tensors) {
    // The last tensor whose first block is not beyond this one.
    unsigned low = 0, high = tensors.n;
    while (high - low > 1) {
        const unsigned middle = (low + high) / 2;
        if (tensors.first_block[middle] <= blockIdx.x) {
            low = middle;
        } else {
            high = middle;
        }
    }
    const uint32_t first = (blockIdx.x - tensors.first_block[low]) * VALUES_OF_BLOCK;
    return {low, first, min(tensors.len[low] - first, VALUES_OF_BLOCK)};
}

DEVICE bool is_aligned(const void* pointer) { return uintptr_t(pointer) % sizeof(float4) == 0; }
DEVICE float4 load(const float* from) { return *reinterpret_cast<const float4*>(from); }
DEVICE void store(float* to, float4 values) { *reinterpret_cast<float4*>(to) = values; }

// Applies a rule to every value of the block's part, with as many values of state as it has.
template <unsigned SLOTS, class Rule>
DEVICE void for_each_value(const Tensors& tensors, const Rule& rule) {
    const Part part = part_of_block(tensors);
    float* of[4] = {};
    bool is_vector = true;
#pragma unroll
    for (unsigned k = 0; k < 2 + SLOTS; ++k) {
        of[k] = tensors.at[k][part.tensor] + part.first;
        is_vector = is_vector && is_aligned(of[k]);
    }
    const unsigned whole = is_vector ? part.n / 4 * 4 : 0;
    for (unsigned i = 4 * threadIdx.x; i < whole; i += 4 * THREADS) {
        float4 value = load(of[0] + i), first = {}, second = {};
        const float4 other = load(of[1] + i);
        if (SLOTS > 0) first = load(of[2] + i);
        if (SLOTS > 1) second = load(of[3] + i);
        rule(value.x, other.x, first.x, second.x);
        rule(value.y, other.y, first.y, second.y);
        rule(value.z, other.z, first.z, second.z);
        rule(value.w, other.w, first.w, second.w);
        store(of[0] + i, value);
        if (SLOTS > 0) store(of[2] + i, first);
        if (SLOTS > 1) store(of[3] + i, second);
    }
    for (unsigned i = whole + threadIdx.x; i < part.n; i += THREADS) {
        float none = 0.0f;
        rule(of[0][i], of[1][i], SLOTS > 0 ? of[2][i] : none, SLOTS > 1 ? of[3][i] : none);
    }
}

// What the gradients count for: a number that was given, or what their norm decides, in f64 as on
// the CPU. NaN where the norm is not finite: then nothing may change.
struct GradientScale {
    const double* norm;
    const float* loss_scale;
    double largest;
    float given, unused;

    DEVICE float operator()() const {
        if (!norm) return given;
        __shared__ float scale;
        if (threadIdx.x == 0) {
            const double of_loss = loss_scale ? double(*loss_scale) : 1.0;
            const double size = *norm / of_loss;
            double clip = largest > 0.0 ? largest / (size + 1e-6) : 1.0;
            clip = clip > 1.0 ? 1.0 : clip;
            scale = size - size == 0.0 ? float(clip / of_loss) : __uint_as_float(0x7fc00000u);
        }
        __syncthreads();
        return scale;
    }
};

DEVICE bool is_number(float value) { return value == value; }

struct Adamax {
    float scale, rate, decay, share, kept, epsilon;
    DEVICE void operator()(float& value, float gradient, float& mean, float& largest) const {
        gradient = gradient * scale + value * decay;
        mean += (gradient - mean) * share;
        const float past = largest * kept, size = fabsf(gradient) + epsilon;
        largest = past > size ? past : size;
        value -= mean / largest * rate;
    }
};

struct AdamW {
    float scale, rate, kept, mean_share, square_share, root_scale, epsilon;
    DEVICE void operator()(float& value, float gradient, float& mean, float& square) const {
        gradient *= scale;
        mean += (gradient - mean) * mean_share;
        square += (gradient * gradient - square) * square_share;
        const float size = sqrtf(square) * root_scale + epsilon;
        value = value * kept - mean / size * rate;
    }
};

struct Momentum {
    float scale, rate, decay, momentum;
    bool nesterov;
    DEVICE void operator()(float& value, float gradient, float& sum, float&) const {
        gradient = gradient * scale + value * decay;
        sum = sum * momentum + gradient;
        value -= (nesterov ? gradient + sum * momentum : sum) * rate;
    }
};

struct Descent {
    float scale, rate, decay;
    DEVICE void operator()(float& value, float gradient, float&, float&) const {
        value -= (gradient * scale + value * decay) * rate;
    }
};

struct Average {
    float share;
    DEVICE void operator()(float& average, float value, float&, float&) const {
        average += (value - average) * share;
    }
};

}  // namespace

KERNEL(THREADS) adamax_step(const __grid_constant__ Tensors tensors,
                            const __grid_constant__ GradientScale gradient_scale, float rate,
                            float decay, float share, float kept, float epsilon) {
    const float scale = gradient_scale();
    if (is_number(scale)) {
        for_each_value<2>(tensors, Adamax{scale, rate, decay, share, kept, epsilon});
    }
}
EXPORT(adamax_step);

KERNEL(THREADS) adamw_step(const __grid_constant__ Tensors tensors,
                           const __grid_constant__ GradientScale gradient_scale, float rate,
                           float kept, float mean_share, float square_share, float root_scale,
                           float epsilon) {
    const float scale = gradient_scale();
    if (is_number(scale)) {
        for_each_value<2>(tensors, AdamW{scale, rate, kept, mean_share, square_share, root_scale,
                                         epsilon});
    }
}
EXPORT(adamw_step);

KERNEL(THREADS) momentum_step(const __grid_constant__ Tensors tensors,
                              const __grid_constant__ GradientScale gradient_scale, float rate,
                              float decay, float momentum, uint32_t nesterov) {
    const float scale = gradient_scale();
    if (is_number(scale)) {
        for_each_value<1>(tensors, Momentum{scale, rate, decay, momentum, nesterov != 0});
    }
}
EXPORT(momentum_step);

KERNEL(THREADS) descent_step(const __grid_constant__ Tensors tensors,
                             const __grid_constant__ GradientScale gradient_scale, float rate,
                             float decay) {
    const float scale = gradient_scale();
    if (is_number(scale)) for_each_value<0>(tensors, Descent{scale, rate, decay});
}
EXPORT(descent_step);

KERNEL(THREADS) average_step(const __grid_constant__ Tensors tensors, float share) {
    for_each_value<0>(tensors, Average{share});
}
EXPORT(average_step);

// The sum of the squares of each block's part.
KERNEL(THREADS) sums_of_squares(const __grid_constant__ Tensors tensors, double* __restrict__ sums) {
    __shared__ double scratch[THREADS / WARP_SIZE];
    const Part part = part_of_block(tensors);
    const float* of = tensors.at[0][part.tensor] + part.first;
    const unsigned whole = is_aligned(of) ? part.n / 4 * 4 : 0;
    double sum = 0.0;
    for (unsigned i = 4 * threadIdx.x; i < whole; i += 4 * THREADS) {
        const float4 values = load(of + i);
        sum += double(values.x) * values.x + double(values.y) * values.y;
        sum += double(values.z) * values.z + double(values.w) * values.w;
    }
    for (unsigned i = whole + threadIdx.x; i < part.n; i += THREADS) {
        sum += double(of[i]) * of[i];
    }
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
EXPORT(sums_of_squares);

KERNEL(1024) root_of_sum(const double* __restrict__ sums, double* __restrict__ root, uint32_t n) {
    __shared__ double scratch[WARP_SIZE];
    double sum = 0.0;
    for (uint32_t i = threadIdx.x; i < n; i += blockDim.x) sum += sums[i];
    sum = block_sum(sum, scratch);
    if (threadIdx.x == 0) *root = sqrt(sum);
}
EXPORT(root_of_sum);
