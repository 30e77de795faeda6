// The two passes of the contrastive loss that multiply, for Hopper: rows of up to 128 numbers, and
// temperatures with a common shift.
//
// contrast_powers_N_sm90a    Grid: pairs of blocks of tiles. Block: 384 threads, of which one copies
//                            and 256 multiply. Shared: the tiles (below), two numbers for each row
//                            of a block, 4 KiB. Products and sums of a block in f32.
// contrast_gradient_N_sm90a  Grid: tiles of 128 rows, 1, splits of the columns. Block as above.
//                            Shared: the tiles. Weights and unit rows in f16, products and sums in
//                            f32.
//
// N is the length of a row: 64 or 128. A tile is 128 rows, 16 KiB for each 64 numbers. The copying
// thread fills a ring of tiles; a barrier tells when one is full, another when it is free.
#include "hopper.cuh"
#include "pairs.cuh"
#include "weights.cuh"

constexpr unsigned HOPPER_THREADS = 3 * WARPGROUP, MULTIPLYING = 2 * WARPGROUP;
constexpr unsigned CHUNK_BYTES = TILE * CHUNK * 2;
constexpr unsigned RING = 3, MULTIPLYING_WARPS = MULTIPLYING / WARP_SIZE;

// A ring of tiles of so many chunks.
template <unsigned CHUNKS>
struct Ring {
    static constexpr unsigned TILE_BYTES = CHUNKS * CHUNK_BYTES;
    unsigned char* tiles;
    Barrier* full;
    Barrier* empty;
    unsigned length;
    unsigned index = 0;

    DEVICE void prepare() {
        for (unsigned i = 0; i < length; ++i) {
            init(full[i], 1);
            init(empty[i], MULTIPLYING_WARPS);
        }
    }
    // The copying thread: fills the next tile with the halves of 128 positions.
    DEVICE void fill(const Problem& problem, const uint16_t* halves, unsigned position) {
        const unsigned place = index % length;
        wait(empty[place], index / length + 1);
        ++index;
        expect_bytes(full[place], TILE_BYTES);
#pragma unroll
        for (unsigned chunk = 0; chunk < CHUNKS; ++chunk) {
            const size_t row = size_t(chunk) * problem.n_positions + position;
            copy_bulk(tiles + place * TILE_BYTES + chunk * CHUNK_BYTES, halves + row * CHUNK,
                      CHUNK_BYTES, full[place]);
        }
    }
    // The multiplying threads: the tile `ahead` of the next one, whole.
    DEVICE const unsigned char* peek(unsigned ahead) const {
        const unsigned at = index + ahead;
        wait(full[at % length], at / length);
        return tiles + at % length * TILE_BYTES;
    }
    // Frees so many tiles; no product reads them any more.
    DEVICE void release(unsigned n_tiles) {
        for (unsigned i = 0; i < n_tiles; ++i) {
            __syncwarp();
            if (threadIdx.x % WARP_SIZE == 0) arrive(empty[index % length]);
            ++index;
        }
    }
};

// Asks for the products of a warpgroup's 64 rows of one tile with the rows of another.
template <unsigned CHUNKS>
DEVICE void ask_similarities(Sums<TILE>& sums, const unsigned char* rows, const unsigned char* cols,
                             bool is_added) {
    products_fence();
#pragma unroll
    for (unsigned chunk = 0; chunk < CHUNKS; ++chunk) {
#pragma unroll
        for (unsigned k = 0; k < CHUNK / 16; ++k) {
            multiply_rows<TILE>(sums, rows + chunk * CHUNK_BYTES, cols + chunk * CHUNK_BYTES, k,
                                is_added || chunk > 0 || k > 0);
        }
    }
    products_commit();
}

// Whether both halves of two tiles take part.
DEVICE bool is_whole(const Problem& problem, const Segment& segment, unsigned row, unsigned col) {
    if (problem.precision != MIXED) return false;
    return meets_a_label(problem, segment, row, col)
        || (col + COLS < end_of(segment) && meets_a_label(problem, segment, row, col + COLS));
}

template <unsigned CHUNKS>
struct PowersMemory {
    static constexpr unsigned TILES = RING + 2, BARRIERS = 2 * TILES;
    static constexpr unsigned SUMS_AT = TILES * CHUNKS * CHUNK_BYTES + BARRIERS * 8;
};

template <unsigned CHUNKS>
DEVICE void powers(const Problem& problem, unsigned char* shared) {
    using Memory = PowersMemory<CHUNKS>;
    constexpr unsigned TILE_BYTES = CHUNKS * CHUNK_BYTES;
    unsigned upper, lower;
    const unsigned index = pair_of(problem, blockIdx.x, upper, lower);
    const Segment& segment = problem.segments[index];
    const unsigned size = segment.block_tiles * TILE, end = end_of(segment);
    Barrier* const barriers = reinterpret_cast<Barrier*>(shared + Memory::TILES * TILE_BYTES);
    float* const of_warps = reinterpret_cast<float*>(shared + Memory::SUMS_AT);
    float* const of_rows = of_warps + MULTIPLYING_WARPS * TILE;
    float* const of_cols = of_rows + size;
    Ring<CHUNKS> rows{shared, barriers, barriers + RING, RING};
    Ring<CHUNKS> cols{shared + RING * TILE_BYTES, barriers + 2 * RING, barriers + 2 * RING + 2, 2};
    if (threadIdx.x == 0) {
        rows.prepare();
        cols.prepare();
        publish_barriers();
    }
    for (unsigned i = threadIdx.x; i < size; i += HOPPER_THREADS) of_rows[i] = of_cols[i] = 0.0f;
    __syncthreads();
    Pairs<TILE> pairs(segment, upper, lower);
    if (threadIdx.x < WARPGROUP) {
        give_registers<24>();
        for (; threadIdx.x == 0 && !pairs.is_done(); pairs.advance()) {
            if (pairs.is_first_row()) cols.fill(problem, problem.high, pairs.col);
            rows.fill(problem, problem.high, pairs.row);
            if (is_whole(problem, segment, pairs.row, pairs.col)) {
                rows.fill(problem, problem.low, pairs.row);
                rows.fill(problem, problem.low, pairs.col);
            }
        }
        // The registers that are left are too few for anything that all threads do.
        return;
    }
    take_registers<240>();
    const float scale = float(1.0 / problem.states[index].temperature) * LOG2_E;
    const unsigned thread = threadIdx.x - WARPGROUP, lane = thread % WARP_SIZE;
    const unsigned warp = thread / WARP_SIZE, own_bytes = thread / WARPGROUP * (CHUNK_BYTES / 2);
    float col_sums[TILE / 4] = {};
    for (; !pairs.is_done(); pairs.advance()) {
        const unsigned row = pairs.row, col = pairs.col;
        Sums<TILE> similarities;
        const unsigned char* const of_col = cols.peek(0);
        const unsigned char* const high = rows.peek(0);
        ask_similarities<CHUNKS>(similarities, high + own_bytes, of_col, false);
        const bool has_low = is_whole(problem, segment, row, col);
        if (has_low) {
            ask_similarities<CHUNKS>(similarities, rows.peek(1) + own_bytes, of_col, true);
            ask_similarities<CHUNKS>(similarities, high + own_bytes, rows.peek(2), true);
        }
        products_wait<0>();
        hold<TILE>(similarities);
        rows.release(has_low ? 3 : 1);
        const bool is_masked = row + TILE > col || col + TILE > end;
        const unsigned own_row = row + warp * 16 + lane / 4, own_col = col + 2 * (lane % 4);
        float row_sums[2] = {};
        add_powers(similarities, scale, is_masked, own_row, own_col, end, row_sums, col_sums);
        keep_row_sums(row_sums, of_rows + (own_row - pairs.first_row));
        if (!pairs.is_last_row()) continue;
        cols.release(1);
        keep_col_sums<TILE / 8>(col_sums, of_warps + warp * TILE);
        barrier_of(1, MULTIPLYING);
        if (thread < TILE) {
            float sum = 0.0f;
            for (unsigned i = 0; i < MULTIPLYING_WARPS; ++i) sum += of_warps[i * TILE + thread];
            of_cols[col - pairs.first_col + thread] = sum;
        }
        barrier_of(1, MULTIPLYING);
    }
    write_partial_sums(problem, of_rows, of_cols, upper, lower, pairs.first_row, pairs.first_col, size,
                       end, thread, MULTIPLYING);
}

KERNEL(384, 1) contrast_powers_64_sm90a(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    powers<1>(problem, shared);
}
EXPORT(contrast_powers_64_sm90a);

KERNEL(384, 1) contrast_powers_128_sm90a(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    powers<2>(problem, shared);
}
EXPORT(contrast_powers_128_sm90a);

template <unsigned CHUNKS>
DEVICE void gradient(const Problem& problem, unsigned char* shared) {
    constexpr unsigned TILE_BYTES = CHUNKS * CHUNK_BYTES, WIDTH = CHUNKS * CHUNK;
    const unsigned row = blockIdx.x * TILE, index = segment_of(problem, row);
    const Segment& segment = problem.segments[index];
    const Columns columns(problem, segment, blockIdx.z);
    const unsigned end = end_of(segment);
    // The block's own rows, upper and lower half, and behind them the ring.
    Barrier* const barriers = reinterpret_cast<Barrier*>(shared + (2 + RING) * TILE_BYTES);
    Ring<CHUNKS> own{shared, barriers, barriers + 2, 2};
    Ring<CHUNKS> cols{shared + 2 * TILE_BYTES, barriers + 4, barriers + 4 + RING, RING};
    if (threadIdx.x == 0) {
        own.prepare();
        cols.prepare();
        publish_barriers();
    }
    __syncthreads();
    if (threadIdx.x < WARPGROUP) {
        give_registers<24>();
        if (threadIdx.x == 0) {
            own.fill(problem, problem.high, row);
            own.fill(problem, problem.low, row);
            for (unsigned col = columns.first; col < columns.end; col += TILE) {
                cols.fill(problem, problem.high, col);
                if (is_whole(problem, segment, row, col)) cols.fill(problem, problem.low, col);
            }
        }
        return;
    }
    take_registers<240>();
    const float scale = float(1.0 / problem.states[index].temperature) * LOG2_E;
    const unsigned thread = threadIdx.x - WARPGROUP, lane = thread % WARP_SIZE;
    const unsigned own_row = row + thread / WARP_SIZE * 16 + lane / 4;
    const unsigned own_bytes = thread / WARPGROUP * (CHUNK_BYTES / 2);
    const RowNumbers numbers = numbers_of(problem);
    const OwnRows own_numbers(numbers, own_row);
    const unsigned char* const high = own.peek(0) + own_bytes;
    const unsigned char* const low = own.peek(1) + own_bytes;
    Sums<WIDTH> sums = {};
    for (unsigned col = columns.first; col < columns.end; col += TILE) {
        Sums<TILE> values;
        const unsigned char* const of_col = cols.peek(0);
        ask_similarities<CHUNKS>(values, high, of_col, false);
        const bool has_low = is_whole(problem, segment, row, col);
        if (has_low) {
            ask_similarities<CHUNKS>(values, low, of_col, true);
            ask_similarities<CHUNKS>(values, high, cols.peek(1), true);
        }
        products_wait<0>();
        hold<TILE>(values);
        const bool has_positives = meets_a_label(problem, segment, row, col)
            || (col + COLS < end && meets_a_label(problem, segment, row, col + COLS));
        weigh<true>(values, numbers, own_numbers, own_row, col + 2 * (lane % 4), scale,
                    has_positives);
        uint32_t weights[TILE / 16][4];
        pack_weights(weights, values);
        hold(weights);
        hold<WIDTH>(sums);
        products_fence();
#pragma unroll
        for (unsigned k = 0; k < TILE / 16; ++k) {
            multiply_weights<WIDTH>(sums, weights[k], of_col, CHUNK_BYTES, k);
        }
        products_commit();
        products_wait<0>();
        hold<WIDTH>(sums);
        hold(weights);
        cols.release(has_low ? 2 : 1);
    }
#pragma unroll
    for (unsigned n = 0; n < WIDTH / 8; ++n) {
#pragma unroll
        for (unsigned i = 0; i < 2; ++i) {
            float* const row = unit_gradient_of(problem, blockIdx.z, own_row + 8 * i);
            float* const to = row + 8 * n + 2 * (lane % 4);
            *reinterpret_cast<float2*>(to) = make_float2(sums[n][2 * i], sums[n][2 * i + 1]);
        }
    }
}

KERNEL(384, 1) contrast_gradient_64_sm90a(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    gradient<1>(problem, shared);
}
EXPORT(contrast_gradient_64_sm90a);

KERNEL(384, 1) contrast_gradient_128_sm90a(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    gradient<2>(problem, shared);
}
EXPORT(contrast_gradient_128_sm90a);
