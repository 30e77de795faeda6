// What the kernels of the contrast of queries against keys share: where everything lies, and what a
// query and a key are to each other.
//
// Both sides are padded with rows of zeros to whole tiles; a key of the padding meets no query, and
// a query of it counts nothing.
#pragma once

#include "../tiles.cuh"

// Shares of a row that are in shared memory at a time: as many bytes as CHUNK numbers in halves.
constexpr unsigned SHARES = CHUNK / 2;

// Queries or keys.
struct Side {
    // Given, for each row: a label, or shares of classes [n, n_classes], and a weight or nothing.
    const uint32_t* labels;
    const float* shares;
    const float* weights;
    // Of all rows, padding included: halves and shares [n_padded, class_width] (behind the forward
    // pass, those of a query are over minus its affinity), what its products are multiplied with,
    // and how much it counts in the gradients of the other side's rows.
    Halves halves;
    float* padded_shares;
    float* scales;
    float* factors;
    uint32_t n, n_padded;
};

// What a part of the keys adds up to for a query: the softmax sum is relative to the maximum.
struct Partial {
    double sum, pull, affinity;
    float maximum;
    uint32_t unused;
};

// Cleared before the first kernel.
struct State {
    // What weighted losses are multiplied with.
    double scale;
    // Whether anything is not what it must be; and the largest factor of queries and of keys.
    uint32_t is_wrong, largest[2], ticket;
};

struct Cross {
    Side queries, keys;
    // Given, by query: temperatures or nothing, the key that it leaves out or nothing.
    const double* temperatures;
    const uint32_t* excluded;
    // By key: the logarithm to base 2 of its weight.
    float* biases;
    // By part of the keys and query.
    Partial* partials;
    // By query: the maximum of its exponents, one over its sums, and its weight over its
    // temperature.
    float* maxima;
    float* inverse_sums;
    float* inverse_affinities;
    float* slopes;
    // By tile: sum of weighted losses, number of queries that have a loss.
    double* tile_sums;
    State* state;
    // Results: the loss, and behind the backward pass sums [split, n_padded, width] of one side and
    // its gradient [n, dim].
    float* loss;
    float* sums;
    const float* from_above;
    float* gradient;
    double temperature;
    uint32_t dim, width, n_classes, class_width;
    // How many tiles of columns a block takes, and how many blocks share those of a tile of rows.
    uint32_t split_tiles, n_splits;
};

enum SideIndex : unsigned { QUERIES, KEYS };

// The largest factor of a side, which all are divided by on their way to 16 bits; so large that one
// can be divided by it.
DEVICE float largest_factor(const Cross& cross, SideIndex side) {
    constexpr float SMALLEST = 1.17549435e-38f;
    return fmaxf(__uint_as_float(cross.state->largest[side]), SMALLEST);
}

struct Query {
    float scale;
    uint32_t label, excluded;

    DEVICE static Query at(const Cross& cross, unsigned index) {
        const bool is_there = index < cross.queries.n;
        Query query;
        query.scale = cross.queries.scales[index];
        query.label = is_there && cross.queries.labels ? cross.queries.labels[index] : 0;
        query.excluded = is_there && cross.excluded ? cross.excluded[index] : ~0u;
        return query;
    }
};

// A query whose sums are known.
struct SummedQuery : Query {
    float maximum, inverse_sum, inverse_affinity;

    DEVICE static SummedQuery at(const Cross& cross, unsigned index) {
        SummedQuery query;
        static_cast<Query&>(query) = Query::at(cross, index);
        query.maximum = cross.maxima[index];
        query.inverse_sum = cross.inverse_sums[index];
        query.inverse_affinity = cross.inverse_affinities[index];
        return query;
    }
};

struct Key {
    float scale, bias;
    uint32_t label, index;

    DEVICE static Key at(const Cross& cross, unsigned index) {
        Key key;
        key.scale = cross.keys.scales[index];
        key.bias = cross.biases[index];
        key.label = index < cross.keys.n && cross.keys.labels ? cross.keys.labels[index] : 0;
        key.index = index;
        return key;
    }
};

DEVICE bool meet(const Cross& cross, const Query& query, const Key& key) {
    return key.index < cross.keys.n && key.index != query.excluded;
}

// What a kernel multiplies next: for every tile of columns the pieces of similarities, of shares,
// and of a slice of the columns' numbers, both halves at once.
struct CrossPlan {
    const Cross& cross;
    const Side& rows;
    const Side& cols;
    unsigned row, col, end, first_chunk, n_values, piece = 0;

    DEVICE Pieces similarities() const { return {3, cross.width / CHUNK}; }

    DEVICE void fetch(Stage& stage) {
        if (col >= end) return;
        const unsigned n_products = similarities().count(), n_shares = cross.class_width / SHARES;
        if (piece < n_products) {
            similarities().fetch(rows.halves, cols.halves, stage, row, col, piece);
        } else if (piece < n_products + n_shares) {
            fetch_shares<TILE>(stage.rows, rows, row, piece - n_products);
            fetch_shares<COLS>(stage.cols, cols, col, piece - n_products);
        } else {
            const unsigned chunk = first_chunk + piece - n_products - n_shares;
            const size_t start = size_t(col) * cross.width + chunk * CHUNK;
            fetch_rows<COLS>(stage.cols, cols.halves.high + start, cross.width);
            fetch_rows<COLS>(stage.rows, cols.halves.low + start, cross.width);
        }
        if (++piece == n_products + n_shares + n_values) {
            piece = 0;
            col += COLS;
        }
    }

    template <unsigned N>
    DEVICE void fetch_shares(unsigned char* to, const Side& side, unsigned at,
                             unsigned index) const {
        const float* const from =
            side.padded_shares + size_t(at) * cross.class_width + index * SHARES;
        fetch_rows<N>(to, reinterpret_cast<const uint16_t*>(from), 2 * cross.class_width);
    }
};

// The plan of a block for a tile of rows and its part of the columns.
DEVICE CrossPlan plan_of(const Cross& cross, const Side& rows, const Side& cols, unsigned row,
                         unsigned split, unsigned first_chunk, unsigned n_values) {
    const unsigned size = cross.split_tiles * COLS, first = split * size;
    return {cross, rows, cols, row, first, min(first + size, cols.n), first_chunk, n_values};
}

DEVICE const float4& shares_at(const unsigned char* rows, unsigned row, unsigned unit) {
    return *reinterpret_cast<const float4*>(rows + place(row, unit));
}

// Adds products of shares, in f32 with all of its range: where a class is unlikely everywhere,
// small shares are all that there is.
DEVICE void add_shares(Similarities& products, Stream<CrossPlan>& stream, unsigned class_width) {
    const unsigned lane = threadIdx.x % WARP_SIZE, own = threadIdx.x / WARP_SIZE * 16 + lane / 4;
    for (unsigned piece = 0; piece < class_width / SHARES; ++piece) {
        const Stage& stage = stream.take();
#pragma unroll 1
        for (unsigned unit = 0; unit < SHARES / 4; ++unit) {
            const float4 of_rows[2] = {shares_at(stage.rows, own, unit),
                                       shares_at(stage.rows, own + 8, unit)};
#pragma unroll
            for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
                for (unsigned e = 0; e < 2; ++e) {
                    const float4 b = shares_at(stage.cols, 8 * n + 2 * (lane % 4) + e, unit);
#pragma unroll
                    for (unsigned i = 0; i < 2; ++i) {
                        const float4& a = of_rows[i];
                        float& product = products[n][2 * i + e];
                        product = fmaf(a.x, b.x, fmaf(a.y, b.y, product));
                        product = fmaf(a.z, b.z, fmaf(a.w, b.w, product));
                    }
                }
            }
        }
    }
}
