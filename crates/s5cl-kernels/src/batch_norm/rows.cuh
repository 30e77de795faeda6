// How a block of batch normalization lies on rows of channels, and how its sums become those of all
// blocks, in an order that depends on the shapes alone.
#pragma once

#include "maps.cuh"

constexpr unsigned THREADS = 256, TILE = 32;

// Where a thread works.
struct Place {
    unsigned tile, lane, lanes, channel, first_channel;
    bool is_there;
};

template <unsigned WIDTH> DEVICE Place place(unsigned channels) {
    Place at;
    const unsigned first = blockIdx.y * TILE;
    at.tile = min(channels / WIDTH - first, TILE);
    at.lane = threadIdx.x / at.tile;
    at.lanes = THREADS / at.tile;
    at.first_channel = first * WIDTH;
    at.channel = at.first_channel + threadIdx.x % at.tile * WIDTH;
    at.is_there = at.lane < at.lanes;
    return at;
}

// Hands a thread's rows to `work`, as many at a time as it asks for before it uses the first, and the
// last ones alone.
template <class Work> DEVICE void for_rows(const Place& at, uint64_t rows, Work& work) {
    if (!at.is_there) return;
    constexpr unsigned N = Work::AHEAD;
    const uint64_t step = uint64_t(gridDim.x) * at.lanes;
    uint64_t row = uint64_t(blockIdx.x) * at.lanes + at.lane;
    for (; row + (N - 1) * step < rows; row += N * step) work.template rows<N>(row, step);
    for (; row < rows; row += step) work.template rows<1>(row, step);
}

// The sums over the lanes, in order; thread i has that of the tile's channel i. `scratch` is free
// again when this returns.
template <class Value, unsigned WIDTH>
DEVICE double sum_of_lanes(const Value (&values)[WIDTH], const Place& at, double* scratch) {
    const unsigned width = at.tile * WIDTH;
    if (at.is_there) {
#pragma unroll
        for (unsigned i = 0; i < WIDTH; ++i) {
            scratch[at.lane * width + threadIdx.x % at.tile * WIDTH + i] = double(values[i]);
        }
    }
    __syncthreads();
    double sum = 0.0;
    if (threadIdx.x < width) {
        for (unsigned lane = 0; lane < at.lanes; ++lane) sum += scratch[lane * width + threadIdx.x];
    }
    __syncthreads();
    return sum;
}

// Adds two sums a channel over all blocks. True in the block that comes last, where thread i has
// the totals of the tile's channel i. `counters` are zero before and after; `partials` are
// [blocks, 2, channels].
template <unsigned WIDTH>
DEVICE bool sum_of_blocks(const float (&first)[WIDTH], const float (&second)[WIDTH], const Place& at,
                          unsigned channels, float* partials, uint32_t* counters, double* scratch,
                          double (&totals)[2]) {
    totals[0] = sum_of_lanes(first, at, scratch);
    totals[1] = sum_of_lanes(second, at, scratch);
    if (gridDim.x == 1) return true;
    if (threadIdx.x < at.tile * WIDTH) {
        float* own = partials + size_t(blockIdx.x) * 2 * channels + at.first_channel + threadIdx.x;
        own[0] = float(totals[0]);
        own[channels] = float(totals[1]);
    }
    __threadfence();
    __syncthreads();
    __shared__ uint32_t arrived;
    if (threadIdx.x == 0) arrived = atomicAdd(&counters[blockIdx.y], 1u);
    __syncthreads();
    if (arrived + 1 != gridDim.x) return false;
    __threadfence();
    if (threadIdx.x == 0) counters[blockIdx.y] = 0;
    double sums[2][WIDTH] = {};
    if (at.is_there) {
        for (unsigned block = at.lane; block < gridDim.x; block += at.lanes) {
            float values[2][WIDTH];
            const float* from = partials + size_t(block) * 2 * channels + at.channel;
            load_floats(values[0], from);
            load_floats(values[1], from + channels);
#pragma unroll
            for (unsigned i = 0; i < WIDTH; ++i) {
                sums[0][i] += double(values[0][i]);
                sums[1][i] += double(values[1][i]);
            }
        }
    }
    totals[0] = sum_of_lanes(sums[0], at, scratch);
    totals[1] = sum_of_lanes(sums[1], at, scratch);
    return true;
}
