// The way back through self-attention, which computes the weights once more: for the gradients of
// queries, tiles of keys and values go past a tile of queries and of the results' gradients; for
// those of keys and values it is the other way round. So each gradient is summed by one block, in
// order (Dao, "FlashAttention-2", 2023).
//
//     weight = exp2(exponent - logarithm), of_score = weight (of_weight - delta) scale
//
// Grid: one block for 64 tokens of a head of an image. Block: 128 threads. Shared: two own tiles, and
// two stages of two other ones, 48 KiB with 64 numbers of 16 bits a head, up to 96 KiB; and two f32
// for each token of an other tile. Scores and sums in f32.
#include "tiles.cuh"

// Tokens of a tile that goes past: where a head is wide, its sums need the registers.
template <class T, unsigned DIM>
constexpr unsigned OTHERS = (DIM > 64 ? 64 : 128) / unsigned(sizeof(T));
// Blocks that a multiprocessor is to hold.
template <class T, unsigned DIM> constexpr unsigned BLOCKS = sizeof(T) == 4 ? 1 : DIM > 64 ? 2 : 3;

template <class T, unsigned DIM> struct Memory {
    using Rows = Tile<T, DIM>;
    static constexpr unsigned COLS = OTHERS<T, DIM>;
    unsigned char* memory;

    DEVICE Rows own(unsigned which) const { return {memory + Rows::bytes(which * ROWS)}; }
    DEVICE Rows other(unsigned which, unsigned stage) const {
        return {memory + Rows::bytes(2 * ROWS + (2 * stage + which) * COLS)};
    }
    // Logarithms and deltas of the other tokens.
    DEVICE float* numbers(unsigned which) const {
        return reinterpret_cast<float*>(memory + Rows::bytes(2 * ROWS + 4 * COLS)) + which * COLS;
    }
};

// The operands of all heads, and what there is for each query: the logarithm of the forward pass,
// and the sum of the result times its gradient.
template <class T> struct Operands {
    const T *maps, *gradient;
    const float *logarithms, *deltas;
};

// Takes the other tokens past a block's own, and hands the weights and the gradients of scores of
// each tile to `use(weights, of_scores, first other tile, second one)`. Own tokens are queries or,
// with `ARE_KEYS`, keys.
template <bool ARE_KEYS, class T, unsigned DIM, class Use>
DEVICE void go_past(const Operands<T>& of, const Head& head, const Heads& heads,
                    const float (&own_logarithms)[2], const float (&own_deltas)[2], Use use) {
    constexpr unsigned COLS = OTHERS<T, DIM>;
    DYNAMIC_SHARED(bytes);
    const Memory<T, DIM> memory = {bytes};
    const size_t step = 3 * heads.width();
    const T *query = of.maps + head.operand(heads, 0), *above = of.gradient + head.result(heads);
    const T *key = of.maps + head.operand(heads, 1), *value = of.maps + head.operand(heads, 2);
    const auto fetch_others = [&](unsigned tile) {
        const unsigned stage = tile % 2, first = tile * COLS;
        if (ARE_KEYS) {
            fetch<COLS>(memory.other(0, stage), query, step, first, heads);
            fetch<COLS>(memory.other(1, stage), above, heads.width(), first, heads);
        } else {
            fetch<COLS>(memory.other(0, stage), key, step, first, heads);
            fetch<COLS>(memory.other(1, stage), value, step, first, heads);
        }
    };
    if (ARE_KEYS) {
        fetch<ROWS>(memory.own(0), key, step, head.first, heads);
        fetch<ROWS>(memory.own(1), value, step, head.first, heads);
    } else {
        fetch<ROWS>(memory.own(0), query, step, head.first, heads);
        fetch<ROWS>(memory.own(1), above, heads.width(), head.first, heads);
    }
    fetch_others(0);
    copy_async_commit();
    const unsigned n_tiles = ceil_div(heads.n_tokens, COLS), lane = threadIdx.x % WARP_SIZE;
    for (unsigned tile = 0; tile < n_tiles; ++tile) {
        const unsigned first = tile * COLS, stage = tile % 2;
        if (tile + 1 < n_tiles) fetch_others(tile + 1);
        copy_async_commit();
        if (ARE_KEYS && threadIdx.x < COLS) {
            const bool is_there = first + threadIdx.x < heads.n_tokens;
            const size_t at = head.rows(heads) + first + threadIdx.x;
            memory.numbers(0)[threadIdx.x] = is_there ? of.logarithms[at] : 0.0f;
            memory.numbers(1)[threadIdx.x] = is_there ? of.deltas[at] : 0.0f;
        }
        copy_async_wait<1>();
        __syncthreads();
        Sums<COLS> weights, of_scores;
        multiply_rows<COLS>(weights, memory.own(0), memory.other(0, stage));
        multiply_rows<COLS>(of_scores, memory.own(1), memory.other(1, stage));
#pragma unroll
        for (unsigned n = 0; n < COLS / 8; ++n) {
#pragma unroll
            for (unsigned i = 0; i < 4; ++i) {
                const unsigned col = 8 * n + 2 * (lane % 4) + i % 2;
                const float logarithm = ARE_KEYS ? memory.numbers(0)[col] : own_logarithms[i / 2];
                const float delta = ARE_KEYS ? memory.numbers(1)[col] : own_deltas[i / 2];
                const bool is_there = first + col < heads.n_tokens;
                const float exponent = fmaf(weights[n][i], heads.exponent_scale, -logarithm);
                weights[n][i] = is_there ? exp2_fast(exponent) : 0.0f;
                of_scores[n][i] = weights[n][i] * (of_scores[n][i] - delta);
            }
        }
        use(weights, of_scores, memory.other(0, stage), memory.other(1, stage));
        __syncthreads();
    }
}

// A lane's part of the sum of products of two rows, of which four lanes have a fourth each.
template <class T> DEVICE float own_part(const T* first, const T* second, const Heads& heads) {
    constexpr unsigned UNIT = 16 / sizeof(T);
    const unsigned lane = threadIdx.x % 4;
    float sum = 0.0f;
    if (heads.is_wide) {
#pragma unroll 2
        for (unsigned col = lane * UNIT; col < heads.dim; col += 4 * UNIT) {
            float a[UNIT], b[UNIT];
            load_floats(a, first + col);
            load_floats(b, second + col);
#pragma unroll
            for (unsigned i = 0; i < UNIT; ++i) sum = fmaf(a[i], b[i], sum);
        }
    } else {
        for (unsigned col = lane; col < heads.dim; col += 4) {
            sum = fmaf(to_float(first[col]), to_float(second[col]), sum);
        }
    }
    return sum;
}

// The gradient of queries. `deltas` are written, for the other pass.
template <class T, unsigned DIM>
DEVICE void gradient_of_queries(const Operands<T>& of, const T* result, float* deltas, T* out,
                                const Heads& heads) {
    const Head head = Head::of_block(heads);
    const unsigned lane = threadIdx.x % WARP_SIZE;
    float own_logarithms[2], own_deltas[2];
#pragma unroll
    for (unsigned half = 0; half < 2; ++half) {
        const unsigned row = head.first + threadIdx.x / WARP_SIZE * 16 + lane / 4 + 8 * half;
        const bool is_there = row < heads.n_tokens;
        const size_t start = head.result(heads) + size_t(row) * heads.width();
        const float sum = is_there ? own_part<T>(result + start, of.gradient + start, heads) : 0.0f;
        own_deltas[half] = row_sum(sum);
        own_logarithms[half] = is_there ? of.logarithms[head.rows(heads) + row] : 0.0f;
        if (is_there && lane % 4 == 0) deltas[head.rows(heads) + row] = own_deltas[half];
    }
    constexpr unsigned COLS = OTHERS<T, DIM>;
    Sums<DIM> sums;
    clear(sums);
    go_past<false, T, DIM>(
        of, head, heads, own_logarithms, own_deltas,
        [&](const Sums<COLS>&, const Sums<COLS>& of_scores, const Tile<T, DIM>& keys,
            const Tile<T, DIM>&) { add_rows<COLS>(sums, of_scores, keys); });
    const float factors[2] = {heads.scale, heads.scale};
    T* const to = out + head.operand(heads, 0);
    write_rows<T, DIM>(to, 3 * heads.width(), head.first, heads, sums, factors);
}

// The gradients of keys and values, behind that of the queries.
template <class T, unsigned DIM>
DEVICE void gradient_of_keys(const Operands<T>& of, T* out, const Heads& heads) {
    constexpr unsigned COLS = OTHERS<T, DIM>;
    const Head head = Head::of_block(heads);
    const float none[2] = {0.0f, 0.0f}, scales[2] = {heads.scale, heads.scale};
    const float ones[2] = {1.0f, 1.0f};
    Sums<DIM> of_keys, of_values;
    clear(of_keys);
    clear(of_values);
    go_past<true, T, DIM>(
        of, head, heads, none, none,
        [&](const Sums<COLS>& weights, const Sums<COLS>& of_scores, const Tile<T, DIM>& queries,
            const Tile<T, DIM>& above) {
            add_rows<COLS>(of_keys, of_scores, queries);
            add_rows<COLS>(of_values, weights, above);
        });
    const size_t step = 3 * heads.width();
    T *const to_keys = out + head.operand(heads, 1), *const to_values = out + head.operand(heads, 2);
    write_rows<T, DIM>(to_keys, step, head.first, heads, of_keys, scales);
    write_rows<T, DIM>(to_values, step, head.first, heads, of_values, ones);
}

#define ATTENTION_GRADIENT(suffix, T, DIM)                                                         \
    KERNEL(128, BLOCKS<T, DIM>)                                                                    \
    attention_query_gradient_##suffix##_##DIM(                                                     \
        const T* maps, const T* gradient, const T* result, const float* logarithms, float* deltas, \
        T* out, const __grid_constant__ Heads heads) {                                             \
        const Operands<T> of = {maps, gradient, logarithms, deltas};                               \
        gradient_of_queries<T, DIM>(of, result, deltas, out, heads);                               \
    }                                                                                              \
    EXPORT(attention_query_gradient_##suffix##_##DIM);                                             \
    KERNEL(128, BLOCKS<T, DIM>)                                                                    \
    attention_key_gradient_##suffix##_##DIM(                                                       \
        const T* maps, const T* gradient, const float* logarithms, const float* deltas, T* out,    \
        const __grid_constant__ Heads heads) {                                                     \
        const Operands<T> of = {maps, gradient, logarithms, deltas};                               \
        gradient_of_keys<T, DIM>(of, out, heads);                                                  \
    }                                                                                              \
    EXPORT(attention_key_gradient_##suffix##_##DIM);
FOR_EACH_ATTENTION(ATTENTION_GRADIENT)
