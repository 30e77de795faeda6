// The gradients of queries and of keys, the backward pass of queries against keys.
//
// cross_gradient_of_queries  Grid: tiles of 128 queries, slices of 128 numbers of a row, parts of
//                            the keys. Block: 256 threads. Shared: the stream (72 KiB). A block has
//                            sums of its own of its rows; similarities are computed again. Weights
//                            and rows in two halves of f16, products and sums in f32.
// cross_gradient_of_keys     The same with queries and keys in each other's place.
// cross_finish               Grid: 256 numbers each of the gradient. Block: 256 threads. No dynamic
//                            shared memory. Sums of the parts in order, in f64.
#include "cross.cuh"

// Pieces of a slice of the gradient.
constexpr unsigned SLICE = 2;

// What rows and columns are.
template <bool OF_KEYS> struct Roles {
    using Row = SummedQuery;
    using Col = Key;
};
template <> struct Roles<true> {
    using Row = Key;
    using Col = SummedQuery;
};

// `beta_j exp(s_ij) / sum_i - [same label] / affinity_i` of a query i and a key j.
DEVICE float pull_of(const Cross& cross, const SummedQuery& query, const Key& key, float value) {
    const float exponent = value * (query.scale * key.scale) + key.bias;
    const float power = exp2_fast(exponent - query.maximum) * query.inverse_sum;
    const bool is_positive = cross.n_classes == 0 && query.label == key.label;
    return is_positive ? power - query.inverse_affinity : power;
}

DEVICE float pull_of(const Cross& cross, const Key& key, const SummedQuery& query, float value) {
    return pull_of(cross, query, key, value);
}

DEVICE bool meet(const Cross& cross, const Key& key, const Query& query) {
    return meet(cross, query, key);
}

// Calls a function with each value, the row of it, what is known of its column, and the column.
template <class Col, class Function>
DEVICE void for_each(const Cross& cross, Similarities& values, unsigned col, Function function) {
    const unsigned lane = threadIdx.x % WARP_SIZE;
#pragma unroll
    for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
        for (unsigned e = 0; e < 2; ++e) {
            const unsigned at = col + 8 * n + 2 * (lane % 4) + e;
            const Col of_col = Col::at(cross, at);
#pragma unroll
            for (unsigned i = 0; i < 2; ++i) function(values[n][2 * i + e], i, of_col, at);
        }
    }
}

// Similarities become weights, each times the factor of its column.
template <bool OF_KEYS>
DEVICE void weigh(const Cross& cross, const typename Roles<OF_KEYS>::Row (&own)[2],
                  Similarities& values, Stream<CrossPlan>& stream, unsigned col) {
    using Col = typename Roles<OF_KEYS>::Col;
    for_each<Col>(cross, values, col, [&](float& value, unsigned i, const Col& of_col, unsigned) {
        value = pull_of(cross, own[i], of_col, value);
    });
    // What a query is drawn to is in its shares.
    add_shares(values, stream, cross.class_width);
    const float* const factors = OF_KEYS ? cross.queries.factors : cross.keys.factors;
    const float inverse = 1.0f / largest_factor(cross, OF_KEYS ? QUERIES : KEYS);
    const auto scale = [&](float& value, unsigned i, const Col& of_col, unsigned at) {
        value = meet(cross, own[i], of_col) ? factors[at] * inverse * WEIGHT_SCALE * value : 0.0f;
    };
    for_each<Col>(cross, values, col, scale);
}

// Adds the weights times a chunk of the columns' numbers, of which `cols` and `rows` of a stage are
// the halves.
DEVICE void add_chunk(float (*sums)[4], const Weights& weights, const Weights& rest,
                      const Stage& stage) {
    static_assert(CHUNK == COLS, "a part of the sums is a tile");
    Similarities part;
    clear(part);
    add_values(part, weights, stage.cols);
    add_values(part, rest, stage.cols);
    add_values(part, weights, stage.rows);
    add(sums, part);
}

template <bool OF_KEYS> DEVICE void gradient(const Cross& cross, unsigned char* shared) {
    using Row = typename Roles<OF_KEYS>::Row;
    const Side& rows = OF_KEYS ? cross.keys : cross.queries;
    const Side& cols = OF_KEYS ? cross.queries : cross.keys;
    const unsigned lane = threadIdx.x % WARP_SIZE, row = blockIdx.x * TILE, split = blockIdx.z;
    const unsigned own_row = row + threadIdx.x / WARP_SIZE * 16 + lane / 4;
    const unsigned first_chunk = blockIdx.y * SLICE;
    const unsigned n_values = min(SLICE, cross.width / CHUNK - first_chunk);
    const Row own[2] = {Row::at(cross, own_row), Row::at(cross, own_row + 8)};
    Stream<CrossPlan> stream{
        shared, plan_of(cross, rows, cols, row, split, first_chunk, n_values)};
    const unsigned end = stream.plan.end;
    stream.start();
    float sums[SLICE * CHUNK / 8][4] = {};
    for (unsigned col = split * cross.split_tiles * COLS; col < end; col += COLS) {
        Similarities values;
        multiply_in_parts(values, stream, stream.plan.similarities());
        weigh<OF_KEYS>(cross, own, values, stream, col);
        Weights weights, rest;
        pack_weights(weights, values);
        keep_rest(values);
        pack_weights(rest, values);
#pragma unroll
        for (unsigned chunk = 0; chunk < SLICE; ++chunk) {
            if (chunk < n_values) {
                add_chunk(sums + chunk * (CHUNK / 8), weights, rest, stream.take());
            }
        }
    }
    stream.finish();
#pragma unroll
    for (unsigned n = 0; n < SLICE * CHUNK / 8; ++n) {
        if (n / (CHUNK / 8) >= n_values) continue;
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            const size_t at = size_t(split) * rows.n_padded + own_row + 8 * i;
            float* const to =
                cross.sums + at * cross.width + first_chunk * CHUNK + 8 * n + 2 * (lane % 4);
            *reinterpret_cast<float2*>(to) = make_float2(sums[n][2 * i], sums[n][2 * i + 1]);
        }
    }
}

KERNEL(256, 1) cross_gradient_of_queries(const __grid_constant__ Cross cross) {
    DYNAMIC_SHARED(shared);
    gradient<false>(cross, shared);
}
EXPORT(cross_gradient_of_queries);

KERNEL(256, 1) cross_gradient_of_keys(const __grid_constant__ Cross cross) {
    DYNAMIC_SHARED(shared);
    gradient<true>(cross, shared);
}
EXPORT(cross_gradient_of_keys);

KERNEL(256) cross_finish(const __grid_constant__ Cross cross, uint32_t is_of_keys) {
    const Side& rows = is_of_keys ? cross.keys : cross.queries;
    const size_t i = size_t(blockIdx.x) * THREADS + threadIdx.x;
    if (i >= size_t(rows.n) * cross.dim) return;
    const size_t row = i / cross.dim, d = i % cross.dim;
    double sum = 0.0;
    for (unsigned split = 0; split < cross.n_splits; ++split) {
        sum += double(cross.sums[(split * size_t(rows.n_padded) + row) * cross.width + d]);
    }
    const State& state = *cross.state;
    // What a row of queries has in common was left out of its weights.
    const float own = is_of_keys ? 1.0f : cross.slopes[row];
    const float largest = largest_factor(cross, is_of_keys ? QUERIES : KEYS);
    const double factor = state.scale * double(*cross.from_above) * double(own) * double(largest);
    cross.gradient[i] =
        state.is_wrong ? __uint_as_float(0x7fc00000) : float(sum * factor / double(WEIGHT_SCALE));
}
EXPORT(cross_finish);
