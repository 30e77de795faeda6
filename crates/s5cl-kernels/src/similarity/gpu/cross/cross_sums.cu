// What the keys add up to for every query, the forward pass of queries against keys.
//
// cross_rows    Grid: 8 rows each, queries and then keys. Block: 256 threads. No dynamic shared
//               memory. Scales, biases and shares as the tiles take them.
// cross_sums    Grid: tiles of 128 queries, parts of the keys. Block: 256 threads. Shared: the
//               stream (72 KiB). Products in f32, sums in f64.
// cross_losses  Grid: tiles of 128 queries. Block: 128 threads. No dynamic shared memory.
//               Everything in f64; the last block to end adds up what all left, in order.
#include "cross.cuh"

constexpr unsigned WARPS = THREADS / WARP_SIZE;

DEVICE double temperature_of(const Cross& cross, unsigned query) {
    return cross.temperatures ? cross.temperatures[query] : cross.temperature;
}

KERNEL(256) cross_rows(const __grid_constant__ Cross cross) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
    const unsigned at = blockIdx.x * WARPS + threadIdx.x / WARP_SIZE;
    const bool is_key = at >= cross.queries.n_padded;
    const Side& side = is_key ? cross.keys : cross.queries;
    const unsigned index = is_key ? at - cross.queries.n_padded : at;
    const bool is_there = index < side.n;
    bool is_right = true;
    for (unsigned c = lane; c < cross.class_width; c += WARP_SIZE) {
        float share = 0.0f;
        if (is_there && c < cross.n_classes) {
            share = side.shares[size_t(index) * cross.n_classes + c];
        }
        is_right = is_right && share >= 0.0f && share < __builtin_huge_valf();
        side.padded_shares[size_t(index) * cross.class_width + c] = share;
    }
    if (is_key) {
        const float weight = !is_there ? 0.0f : side.weights ? side.weights[index] : 1.0f;
        is_right = is_right && weight >= 0.0f && weight < __builtin_huge_valf();
        if (lane == 0) {
            cross.biases[index] = weight > 0.0f ? log2f(weight) : -__builtin_huge_valf();
            side.factors[index] = is_there ? side.scales[index] : 0.0f;
            atomicMax(&cross.state->largest[KEYS], __float_as_uint(side.factors[index]));
        }
    } else if (lane == 0) {
        const double temperature = is_there ? temperature_of(cross, index) : 1.0;
        side.scales[index] *= float(1.4426950408889634 / temperature);
    }
    if (!__all_sync(WHOLE_WARP, is_right) && lane == 0) atomicOr(&cross.state->is_wrong, 1u);
}
EXPORT(cross_rows);

// The sums of one row, of which each of four threads has a part until the end.
struct RowSums {
    double sum = 0.0, pull = 0.0, affinity = 0.0;
    float maximum = -__builtin_huge_valf();

    // Makes the sum relative to the largest of its own maximum and that of four threads; returns
    // what further powers are relative to.
    DEVICE float raise(float largest) {
        for (unsigned bits = 1; bits < 4; bits *= 2) {
            const float other = __shfl_xor_sync(WHOLE_WARP, largest, bits);
            // Unlike fmaxf, this keeps what is no number.
            if (!(other <= largest)) largest = other;
        }
        // Nothing was seen yet: every power is 0, whatever it is relative to.
        const float shift = largest == -__builtin_huge_valf() ? 0.0f : largest;
        sum *= double(exp2_fast(maximum - shift));
        maximum = largest;
        return shift;
    }

    DEVICE Partial all() const {
        Partial partial = {sum, pull, affinity, maximum, 0};
        for (unsigned bits = 1; bits < 4; bits *= 2) {
            partial.sum += __shfl_xor_sync(WHOLE_WARP, partial.sum, bits);
            partial.pull += __shfl_xor_sync(WHOLE_WARP, partial.pull, bits);
            partial.affinity += __shfl_xor_sync(WHOLE_WARP, partial.affinity, bits);
        }
        return partial;
    }
};

// Adds a tile of similarities, which become exponents, and affinities.
DEVICE void add_tile(const Cross& cross, const Query (&own)[2], RowSums (&sums)[2],
                     Similarities& values, const Similarities& products, unsigned col) {
    float largest[2] = {sums[0].maximum, sums[1].maximum}, pulls[2] = {}, affinities[2] = {};
    const unsigned lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned e = 0; e < 2; ++e) {
            const Key key = Key::at(cross, col + 8 * n + 2 * (lane % 4) + e);
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) {
                float& value = values[n][2 * i + e];
                const float exponent = value * (own[i].scale * key.scale);
                value = -__builtin_huge_valf();
                if (meet(cross, own[i], key)) {
                    const float affinity = cross.n_classes > 0 ? products[n][2 * i + e]
                        : own[i].label == key.label ? 1.0f : 0.0f;
                    pulls[i] = fmaf(affinity, exponent, pulls[i]);
                    affinities[i] += affinity;
                    value = exponent + key.bias;
                }
                if (!(value <= largest[i])) largest[i] = value;
            }
        }
    }
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
        const float shift = sums[i].raise(largest[i]);
        float sum = 0.0f;
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
            sum += exp2_fast(values[n][2 * i] - shift) + exp2_fast(values[n][2 * i + 1] - shift);
        }
        sums[i].sum += double(sum);
        sums[i].pull += double(pulls[i]);
        sums[i].affinity += double(affinities[i]);
    }
}

KERNEL(256, 1) cross_sums(const __grid_constant__ Cross cross) {
    DYNAMIC_SHARED(shared);
    const unsigned lane = threadIdx.x % WARP_SIZE, row = blockIdx.x * TILE, split = blockIdx.y;
    const unsigned own_row = row + threadIdx.x / WARP_SIZE * 16 + lane / 4;
    const Query own[2] = {Query::at(cross, own_row), Query::at(cross, own_row + 8)};
    RowSums sums[2];
    Stream<CrossPlan> stream{shared, plan_of(cross, cross.queries, cross.keys, row, split, 0, 0)};
    const unsigned end = stream.plan.end;
    stream.start();
    for (unsigned col = split * cross.split_tiles * COLS; col < end; col += COLS) {
        Similarities products, values;
        multiply_in_parts(values, stream, stream.plan.similarities());
        clear(products);
        add_shares(products, stream, cross.class_width);
        add_tile(cross, own, sums, values, products, col);
    }
    stream.finish();
#pragma unroll
    for (unsigned i = 0; i < 2; ++i) {
        const Partial partial = sums[i].all();
        const size_t at = size_t(split) * cross.queries.n_padded + own_row + 8 * i;
        if (lane % 4 == 0) cross.partials[at] = partial;
    }
}
EXPORT(cross_sums);

// What all parts of the keys add up to.
DEVICE Partial all_parts(const Cross& cross, unsigned query) {
    const Partial* const partials = cross.partials + query;
    const size_t step = cross.queries.n_padded;
    Partial all = {};
    all.maximum = -__builtin_huge_valf();
    for (unsigned split = 0; split < cross.n_splits; ++split) {
        all.maximum = fmaxf(all.maximum, partials[split * step].maximum);
    }
    for (unsigned split = 0; split < cross.n_splits; ++split) {
        const Partial& part = partials[split * step];
        // A part without a key has no maximum.
        if (part.sum != 0.0) all.sum += part.sum * exp2(double(part.maximum) - double(all.maximum));
        all.pull += part.pull;
        all.affinity += part.affinity;
    }
    return all;
}

// The loss of a query times its weight, or 0 if it has none; what the gradient needs of it.
DEVICE double query_loss(const Cross& cross, unsigned query, bool& has_loss) {
    constexpr double LN_2_WIDE = 0.69314718055994531;
    const Side& queries = cross.queries;
    const bool is_there = query < queries.n;
    const Partial all = is_there ? all_parts(cross, query) : Partial();
    // What is no number is not without a loss.
    has_loss = is_there && !(all.affinity <= 0.0) && !(all.sum <= 0.0);
    // Only relative to infinity is every power 0, however small the temperature.
    cross.maxima[query] = has_loss ? all.maximum : __builtin_huge_valf();
    cross.inverse_sums[query] = has_loss ? float(1.0 / all.sum) : 0.0f;
    cross.inverse_affinities[query] = has_loss ? float(1.0 / all.affinity) : 0.0f;
    if (!has_loss) {
        cross.slopes[query] = queries.factors[query] = 0.0f;
        return 0.0;
    }
    const double loss = log(all.sum) + LN_2_WIDE * (double(all.maximum) - all.pull / all.affinity);
    const double weight = queries.weights ? double(queries.weights[query]) : 1.0;
    cross.slopes[query] = float(weight / temperature_of(cross, query));
    // The scale is that of exponents, which are divided by the temperature.
    const float factor = float(weight * double(queries.scales[query]) * LN_2_WIDE);
    queries.factors[query] = factor;
    atomicMax(&cross.state->largest[QUERIES], __float_as_uint(fabsf(factor)));
    return weight * loss;
}

KERNEL(128) cross_losses(const __grid_constant__ Cross cross) {
    __shared__ double scratch[TILE / WARP_SIZE];
    __shared__ bool is_last;
    bool has_loss;
    const double loss = query_loss(cross, blockIdx.x * TILE + threadIdx.x, has_loss);
    const double losses = block_sum(loss, scratch);
    const double count = block_sum(has_loss ? 1.0 : 0.0, scratch);
    // The gradient takes shares over the affinity away from weights.
    const unsigned width = cross.class_width;
    for (unsigned i = threadIdx.x; i < TILE * width; i += TILE) {
        const unsigned query = blockIdx.x * TILE + i / width;
        cross.queries.padded_shares[size_t(query) * width + i % width] *=
            -cross.inverse_affinities[query];
    }
    State& state = *cross.state;
    if (threadIdx.x == 0) {
        cross.tile_sums[2 * blockIdx.x] = losses;
        cross.tile_sums[2 * blockIdx.x + 1] = count;
    }
    if (!is_last_block(&state.ticket, is_last)) return;
    const volatile double* const of_tiles = cross.tile_sums;
    double sums[2] = {};
    for (unsigned tile = threadIdx.x; tile < gridDim.x; tile += blockDim.x) {
        sums[0] += of_tiles[2 * tile];
        sums[1] += of_tiles[2 * tile + 1];
    }
    sums[0] = block_sum(sums[0], scratch);
    sums[1] = block_sum(sums[1], scratch);
    if (threadIdx.x == 0) {
        state.scale = cross.queries.weights ? 1.0 : 1.0 / fmax(sums[1], 1.0);
        *cross.loss = state.is_wrong ? __uint_as_float(0x7fc00000) : float(state.scale * sums[0]);
    }
}
EXPORT(cross_losses);
