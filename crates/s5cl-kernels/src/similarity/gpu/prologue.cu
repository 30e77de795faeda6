// What the contrastive loss knows of its rows before any two of them meet: their order by label,
// unit rows in two halves of 16 bits, and the mean similarity of each to its positives.
//
// contrast_sort    Grid: segments. Block: 1024 threads. Shared: 34 KiB. Counts, no sums.
// contrast_rows    Grid: tiles of 128 positions. Block: 256 threads. No dynamic shared memory.
//                  Norms and sums of rows in f64.
// contrast_means   Grid and block as contrast_rows. Shared: 8 bytes for each number of a row.
//                  Sums in f64.
#include "contrast.cuh"

constexpr unsigned SORT_THREADS = 1024, SORT_WARPS = SORT_THREADS / WARP_SIZE, DIGITS = 256;
// torch's `eps` of `normalize`: a shorter row is divided by this instead of its norm.
constexpr double SMALLEST_NORM = 1e-12;

// Where the count of a warp's keys with a digit is: counts of one warp lie in different banks.
DEVICE unsigned count_at(unsigned digit, unsigned warp) { return digit * (SORT_WARPS + 1) + warp; }
constexpr unsigned N_COUNTS = DIGITS * (SORT_WARPS + 1);

// Keys with their rows.
struct Keys {
    uint32_t* keys;
    uint32_t* rows;
};

// One pass of a stable radix sort, by 8 bits of the keys. A warp has a part of the keys.
DEVICE void sort_by_digit(const Keys& from, const Keys& to, unsigned n, unsigned shift,
                          uint32_t* counts) {
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned part = ceil_div(ceil_div(n, SORT_WARPS), WARP_SIZE) * WARP_SIZE;
    const unsigned first = warp * part, last = min(first + part, n);
    for (unsigned i = threadIdx.x; i < N_COUNTS; i += SORT_THREADS) counts[i] = 0;
    __syncthreads();
    for (unsigned i = first + lane; i < last; i += WARP_SIZE) {
        atomicAdd(&counts[count_at((from.keys[i] >> shift) % DIGITS, warp)], 1u);
    }
    __syncthreads();
    // Where each warp's keys of each digit go: behind those of lower digits, and of earlier warps.
    uint32_t* const of_warps = counts + N_COUNTS;
    constexpr unsigned EACH = DIGITS * SORT_WARPS / SORT_THREADS;
    // So many warps' counts of one digit.
    uint32_t* const of_thread =
        counts + count_at(threadIdx.x * EACH / SORT_WARPS, threadIdx.x * EACH % SORT_WARPS);
    uint32_t own = 0;
#pragma unroll 1
    for (unsigned i = 0; i < EACH; ++i) own += of_thread[i];
    uint32_t before = own;
    for (unsigned by = 1; by < WARP_SIZE; by *= 2) {
        const uint32_t other = __shfl_up_sync(WHOLE_WARP, before, by);
        if (lane >= by) before += other;
    }
    if (lane == WARP_SIZE - 1) of_warps[warp] = before;
    __syncthreads();
    before -= own;
    for (unsigned i = 0; i < warp; ++i) before += of_warps[i];
    for (unsigned i = 0; i < EACH; ++i) {
        const uint32_t count = of_thread[i];
        of_thread[i] = before;
        before += count;
    }
    __syncthreads();
    for (unsigned start = first; start < last; start += WARP_SIZE) {
        const unsigned i = start + lane;
        const bool is_there = i < last;
        const uint32_t key = is_there ? from.keys[i] : 0;
        // Lanes without a key have a digit of their own.
        const uint32_t digit = is_there ? (key >> shift) % DIGITS : DIGITS;
        const unsigned alike = __match_any_sync(WHOLE_WARP, digit);
        const unsigned rank = __popc(alike & ((1u << lane) - 1));
        uint32_t* const count = &counts[count_at(is_there ? digit : 0, warp)];
        const uint32_t place = *count + rank;
        __syncwarp();
        if (is_there) {
            if (rank == 0) *count += __popc(alike);
            to.keys[place] = key;
            to.rows[place] = from.rows[i];
        }
        __syncwarp();
    }
    __syncthreads();
}

KERNEL(1024) contrast_sort(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    uint32_t* const counts = reinterpret_cast<uint32_t*>(shared);
    const Segment& segment = problem.segments[blockIdx.x];
    const unsigned n = segment.n_rows;
    State& state = problem.states[blockIdx.x];
    if (threadIdx.x == 0) {
        const double temperature =
            problem.temperatures ? double(problem.temperatures[blockIdx.x]) : segment.temperature;
        state.temperature = temperature > 0.0 ? temperature : __builtin_nan("");
        state.is_not_finite = 0;
        if (blockIdx.x == 0) *problem.ticket = 0;
    }
    // The rows of a segment are one after another in each of the four arrays.
    const auto array = [&](unsigned index) {
        return problem.sorting + size_t(index) * problem.n_positions + segment.first_position;
    };
    Keys from = {array(0), array(1)}, to = {array(2), array(3)};
    const uint32_t first_label = n > 0 ? problem.labels[segment.first_row] : 0;
    uint32_t differing = 0;
    for (unsigned i = threadIdx.x; i < n; i += SORT_THREADS) {
        const uint32_t label = problem.labels[segment.first_row + i];
        from.keys[i] = label;
        from.rows[i] = segment.first_row + i;
        differing |= label ^ first_label;
    }
    if (threadIdx.x == 0) counts[0] = 0;
    __syncthreads();
    atomicOr(&counts[0], differing);
    __syncthreads();
    differing = counts[0];
    __syncthreads();
    for (unsigned shift = 0; shift < 32; shift += 8) {
        // Most labels are small numbers: their upper digits are all the same.
        if ((differing >> shift) % DIGITS == 0) continue;
        sort_by_digit(from, to, n, shift, counts);
        const Keys sorted = to;
        to = from;
        from = sorted;
    }
    const unsigned n_positions = ceil_div(n, TILE) * TILE;
    for (unsigned i = threadIdx.x; i < n_positions; i += SORT_THREADS) {
        const unsigned position = segment.first_position + i;
        problem.order[position] = i < n ? from.rows[i] : ~0u;
        problem.sorted_labels[position] = i < n ? from.keys[i] : ~0u;
    }
}
EXPORT(contrast_sort);

// A number of a unit row, as the tiles see it.
DEVICE float unit(const Problem& problem, unsigned position, unsigned d) {
    const size_t row = problem.order[position];
    return problem.rows[row * problem.dim + d] * problem.inverse_norms[position];
}

KERNEL(256) contrast_rows(const __grid_constant__ Problem problem) {
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned first = blockIdx.x * TILE, index = segment_of(problem, first);
    const unsigned end = min(first + TILE, end_of(problem.segments[index]));
    const unsigned dim = problem.dim;
    for (unsigned position = first + warp; position < first + TILE; position += THREADS / WARP_SIZE) {
        const bool is_there = position < end;
        const float* const row =
            is_there ? problem.rows + size_t(problem.order[position]) * dim : nullptr;
        double square = 0.0;
        for (unsigned d = lane; is_there && d < dim; d += WARP_SIZE) {
            square += double(row[d]) * double(row[d]);
        }
        const double norm = sqrt(warp_sum(square));
        const float inverse = is_there ? float(1.0 / fmax(norm, SMALLEST_NORM)) : 0.0f;
        if (lane == 0) {
            problem.inverse_norms[position] = inverse;
            if (!(norm < __builtin_huge_val())) atomicOr(&problem.states[index].is_not_finite, 1u);
        }
        const HalfPlaces places(problem, position);
        for (unsigned d = lane; d < problem.width; d += WARP_SIZE) {
            const float value = is_there && d < dim ? row[d] * inverse : 0.0f;
            const f16 high = from_float<f16>(value);
            const size_t at = places.of(d);
            problem.high[at] = high.bits;
            problem.low[at] = from_float<f16>(value - to_float(high)).bits;
        }
    }
    __syncthreads();
    double* const sums = problem.run_sums + size_t(blockIdx.x) * 2 * dim;
    for (unsigned d = threadIdx.x; d < dim; d += THREADS) {
        double sum = 0.0;
        bool is_first_run = true;
        for (unsigned position = first; position < end; ++position) {
            if (position > first
                && problem.sorted_labels[position] != problem.sorted_labels[position - 1]) {
                if (is_first_run) sums[d] = sum;
                is_first_run = false;
                sum = 0.0;
            }
            sum += double(unit(problem, position, d));
        }
        sums[(is_first_run ? 0 : dim) + d] = sum;
    }
}
EXPORT(contrast_rows);

// The first position in [low, high) whose label is not below `label`, of labels in order.
DEVICE unsigned lower_bound(const uint32_t* labels, unsigned low, unsigned high, uint32_t label) {
    while (low < high) {
        const unsigned middle = low + (high - low) / 2;
        if (labels[middle] < label) low = middle + 1; else high = middle;
    }
    return low;
}

// Number `d` of the sum of the unit rows of a label, at positions [begin, end).
DEVICE double class_sum(const Problem& problem, unsigned begin, unsigned end, unsigned d) {
    const unsigned first_tile = begin / TILE, last_tile = (end - 1) / TILE;
    double sum = 0.0;
    if (first_tile == last_tile) {
        for (unsigned position = begin; position < end; ++position) {
            sum += double(unit(problem, position, d));
        }
        return sum;
    }
    for (unsigned tile = first_tile; tile <= last_tile; ++tile) {
        const bool is_last_run = tile == first_tile && begin % TILE != 0;
        sum += problem.run_sums[(size_t(tile) * 2 + (is_last_run ? 1 : 0)) * problem.dim + d];
    }
    return sum;
}

KERNEL(256) contrast_means(const __grid_constant__ Problem problem) {
    DYNAMIC_SHARED(shared);
    double* const sum = reinterpret_cast<double*>(shared);
    const unsigned lane = threadIdx.x % WARP_SIZE, warp = threadIdx.x / WARP_SIZE;
    const unsigned first = blockIdx.x * TILE;
    const Segment& segment = problem.segments[segment_of(problem, first)];
    const unsigned end = min(first + TILE, end_of(segment)), dim = problem.dim;
    const uint32_t* const labels = problem.sorted_labels;
    for (unsigned run = first; run < end;) {
        const uint32_t label = labels[run];
        const unsigned begin = lower_bound(labels, segment.first_position, run + 1, label);
        const unsigned behind = label == ~0u
            ? end_of(segment) : lower_bound(labels, run, end_of(segment), label + 1);
        const unsigned n_others = behind - begin - 1, run_end = min(behind, end);
        for (unsigned d = threadIdx.x; d < dim; d += THREADS) {
            sum[d] = class_sum(problem, begin, behind, d);
        }
        __syncthreads();
        for (unsigned position = run + warp; position < run_end; position += THREADS / WARP_SIZE) {
            double product = 0.0;
            for (unsigned d = lane; d < dim; d += WARP_SIZE) {
                const double z = double(unit(problem, position, d));
                product += (sum[d] - z) * z;
            }
            product = warp_sum(product);
            if (lane == 0) {
                problem.means[position] = product / double(n_others > 0 ? n_others : 1);
                problem.n_positives[position] = n_others;
            }
        }
        __syncthreads();
        run = run_end;
    }
}
EXPORT(contrast_means);
