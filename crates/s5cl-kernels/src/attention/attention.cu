// Self-attention without its matrix of weights: tiles of keys and values go past a tile of queries,
// and what was summed before is scaled whenever a larger score comes (Dao et al., "FlashAttention",
// 2022).
//
// Grid: one block for 64 queries of a head of an image. Block: 128 threads. Shared: the queries, and
// two stages of keys and values, 40 KiB with 64 numbers of 16 bits a head, up to 96 KiB. Scores,
// softmax and sums in f32.
#include "tiles.cuh"

// Keys of a tile.
template <class T> constexpr unsigned KEYS = 128 / unsigned(sizeof(T));
// Blocks that a multiprocessor is to hold.
template <class T, unsigned DIM> constexpr unsigned BLOCKS = sizeof(T) == 4 ? 1 : DIM > 64 ? 2 : 3;

template <class T, unsigned DIM> struct Memory {
    using Rows = Tile<T, DIM>;
    static constexpr unsigned COLS = KEYS<T>;
    unsigned char* memory;

    DEVICE Rows queries() const { return {memory}; }
    DEVICE Rows keys(unsigned stage) const { return {memory + Rows::bytes(ROWS + 2 * stage * COLS)}; }
    DEVICE Rows values(unsigned stage) const {
        return {memory + Rows::bytes(ROWS + (2 * stage + 1) * COLS)};
    }
};

// What a lane knows of its two rows: the largest exponent, its own part of the sum of powers, and
// its part of the results.
template <unsigned COLS, unsigned DIM> struct Softmax {
    float largest[2], sums[2];
    Sums<DIM> results;

    DEVICE void start() {
        clear(results);
        for (unsigned half = 0; half < 2; ++half) {
            largest[half] = -INFINITY;
            sums[half] = 0.0f;
        }
    }

    // Makes weights of scores, those of keys beyond the last zero, and scales what was summed.
    DEVICE void weigh(Sums<COLS>& scores, unsigned first, const Heads& heads) {
        const unsigned col = first + 2 * (threadIdx.x % 4);
#pragma unroll
        for (unsigned half = 0; half < 2; ++half) {
            float most = largest[half];
#pragma unroll
            for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
                for (unsigned i = 0; i < 2; ++i) {
                    float& score = scores[n][2 * half + i];
                    const bool is_there = col + 8 * n + i < heads.n_tokens;
                    score = is_there ? score * heads.exponent_scale : -INFINITY;
                    most = fmaxf(most, score);
                }
            }
            most = row_max(most);
            const float factor = exp2_fast(largest[half] - most);
            largest[half] = most;
            sums[half] *= factor;
#pragma unroll
            for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
                for (unsigned i = 0; i < 2; ++i) {
                    float& score = scores[n][2 * half + i];
                    score = exp2_fast(score - most);
                    sums[half] += score;
                }
            }
#pragma unroll
            for (unsigned n = 0; n < DIM / 8; ++n) {
                results[n][2 * half] *= factor;
                results[n][2 * half + 1] *= factor;
            }
        }
    }
};

// `logarithms` get, for each row, what makes weights of exponents on the way back; null for nothing.
template <class T, unsigned DIM>
DEVICE void forward(const T* maps, T* out, float* logarithms, const Heads& heads) {
    constexpr unsigned COLS = KEYS<T>;
    DYNAMIC_SHARED(bytes);
    const Memory<T, DIM> memory = {bytes};
    const Head head = Head::of_block(heads);
    const size_t step = 3 * heads.width();
    const T *keys = maps + head.operand(heads, 1), *values = maps + head.operand(heads, 2);
    const auto fetch_tile = [&](unsigned tile) {
        fetch<COLS>(memory.keys(tile % 2), keys, step, tile * COLS, heads);
        fetch<COLS>(memory.values(tile % 2), values, step, tile * COLS, heads);
    };
    fetch<ROWS>(memory.queries(), maps + head.operand(heads, 0), step, head.first, heads);
    fetch_tile(0);
    copy_async_commit();
    Softmax<COLS, DIM> softmax;
    softmax.start();
    const unsigned n_tiles = ceil_div(heads.n_tokens, COLS);
    for (unsigned tile = 0; tile < n_tiles; ++tile) {
        if (tile + 1 < n_tiles) fetch_tile(tile + 1);
        copy_async_commit();
        copy_async_wait<1>();
        __syncthreads();
        Sums<COLS> scores;
        multiply_rows<COLS>(scores, memory.queries(), memory.keys(tile % 2));
        softmax.weigh(scores, tile * COLS, heads);
        add_rows<COLS>(softmax.results, scores, memory.values(tile % 2));
        __syncthreads();
    }
    float factors[2];
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const float sum = row_sum(softmax.sums[half]);
        const unsigned lane = threadIdx.x % WARP_SIZE;
        const unsigned row = head.first + threadIdx.x / WARP_SIZE * 16 + lane / 4 + 8 * half;
        factors[half] = 1.0f / sum;
        if (logarithms && lane % 4 == 0 && row < heads.n_tokens) {
            logarithms[head.rows(heads) + row] = softmax.largest[half] + log2f(sum);
        }
    }
    T* const to = out + head.result(heads);
    write_rows<T, DIM>(to, heads.width(), head.first, heads, softmax.results, factors);
}

#define ATTENTION(suffix, T, DIM)                                                                  \
    KERNEL(128, BLOCKS<T, DIM>)                                                                    \
    attention_##suffix##_##DIM(const T* maps, T* out, float* logarithms,                           \
                               const __grid_constant__ Heads heads) {                              \
        forward<T, DIM>(maps, out, logarithms, heads);                                             \
    }                                                                                              \
    EXPORT(attention_##suffix##_##DIM);
FOR_EACH_ATTENTION(ATTENTION)
